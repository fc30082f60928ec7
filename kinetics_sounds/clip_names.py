"""Names of clips' files in folders and archives: a name is formatted from the clip and compared, never parsed."""

import os
import re
import string
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Literal

from .clip import SUFFIXES, Clip, label_folder
from .errors import SettingsError

PATTERNS = ("ID_000027_000037.mp4", "ID_27_37.mp4", "ID_27000_37000.mp4 (milliseconds)", "ID.mp4")
"""File names recognised by default; a second extension (`ID.mp4.mkv`) is ignored."""
FIELDS = ("id", "start", "end", "start_ms", "end_ms", "split", "label")
"""Fields of a pattern. Times are seconds, or milliseconds; the label is in the form of `label_folder`, with blanks or `_`."""
MAX_DEPTH = 4
"""Maximum number of path components of a name."""
MAX_CHARS = 300
"""Maximum length of a name, which leaves room for the longest ID and label."""
_MAX_LITERAL = 60
"""Maximum number of characters of a pattern outside its fields."""
_TIMES = ("start", "end", "start_ms", "end_ms")
_FORMAT = re.compile(r"(?:0?[1-9])?(?:d|\.[1-3]f)?")
"""Format of a time: `06d`, or `.3f` for fractions of a second."""
_EXAMPLE = Clip("---g-f_I2yQ", 1, 11, "people marching", "train")

Trimmed = Literal["auto", "yes", "no"]
SPAN_ALONE = "named like a whole video but as long as the span: used as the span (see --local.trimmed)"
"""Detail of a clip whose file is named without times, and was taken for the span itself."""
ONE_OF_SEVERAL = "taken from one of several different files of the name"
"""Detail of a clip whose name without times is that of several files of different sizes."""
ANOTHER_FILE = "taken from another file of the name, since the first is"
"""Begin of the detail of a clip of which the first file of its name is not usable; the status of that follows."""


class ClipNames:
    """The names that a clip's file may have: paths without extension, which are compared with the end of a file's path."""

    def __init__(self, pattern: str = "", *, trimmed: Trimmed = "auto", option: str) -> None:
        """`pattern`: `{id}_{start:06d}` and the like, with `FIELDS`; empty for `PATTERNS`.

        `trimmed`: whether files named without times hold only the clip's span. `option`: what errors call the pattern. Raises
        SettingsError for a pattern that cannot name clips.
        """
        self.pattern, self.option = pattern, option
        self.whole = {"auto": None, "yes": True, "no": False}[trimmed]
        fields = _fields(pattern, option) if pattern else ()
        self.timed = bool(set(_TIMES).intersection(fields))
        self.one_video = not {"label", "split"}.intersection(fields)
        """Whether an ID names one video, whatever the clip's label and split."""
        self.depth = pattern.count("/") + 1
        """Number of path components of a name."""
        self.examples: Sequence[str] = (f"{self._formatted(_EXAMPLE)}.mp4 ({pattern})",) if pattern else PATTERNS
        """Recognised file names, as examples."""

    def of(self, clip: Clip) -> dict[str, bool | None]:
        """Names of a clip's file, best first, each with whether such a file is trimmed (as `FetchResult.trimmed`).

        Empty if its times cannot be written in the format of the pattern.
        """
        if self.pattern:
            labels = (clip.label, clip.label.replace(" ", "_"))
            names = (self._formatted(replace(clip, label=label)) for label in labels)
            return {name: True if self.timed else self.whole for name in names if name}
        return dict.fromkeys(_span_names(clip), True) | {clip.youtube_id: self.whole}

    def untimed(self, clip: Clip) -> list[str]:
        """Those names of a clip's file that hold none of its times."""
        if self.pattern:
            return [] if self.timed else list(self.of(clip))
        return [clip.youtube_id]

    def near(self, clip: Clip) -> dict[str, str]:
        """Names with the clip's start alone, which are not recognised by default, each with the reason and the remedy."""
        found: dict[str, str] = {}
        for pattern in ("{id}_{start:06d}", "{id}_{start}", "{id}_{start_ms}") if not self.pattern else ():
            if name := _format(pattern, clip):
                said = f"has no end time in its name; if it is the clip's span, give {self.option} '{pattern}'"
                found.setdefault(name, said)
        return found

    def check(self, clips: Iterable[Clip]) -> str:
        """How the pattern names the first clip; empty without a pattern.

        Raises SettingsError if it gives the trimmed files of two clips one name.
        """
        keys: defaultdict[str, list[str]] = defaultdict(list)
        for clip in clips if self.pattern else ():
            for name, trimmed in self.of(clip).items():
                keys[name].append(clip.key)
                if trimmed and len(keys[name]) > 1:
                    raise SettingsError(
                        f"{self.option} '{self.pattern}': both {' and '.join(keys[name])} would be {name}; add a field that "
                        "tells them apart (such as {end}), or leave one of them out of the list"
                    )
        for name, (key, *_) in keys.items():
            return f"{self.option}: '{self.pattern}', such as {name}.mp4 for {key}"
        return f"{self.option}: '{self.pattern}', which names none of the clips" if self.pattern else ""

    def _formatted(self, clip: Clip) -> str | None:
        return _format(self.pattern, clip)


def of_file(path: str) -> tuple[str, str] | None:
    """Name of a video's path and its extension in lower case; None if it is not a video, or its name is not printable.

    The name is the path without its one or two extensions, cut to its last components (at most `MAX_DEPTH`, and `MAX_CHARS`
    characters, all of them printable), in Unicode's form NFC, whatever the form of the path.
    """
    *folders, last = unicodedata.normalize("NFC", path).rpartition("/")
    stem, suffix = os.path.splitext(last)  # noqa: PTH122
    if suffix.lower() not in SUFFIXES:
        return None
    inner, second = os.path.splitext(stem)  # noqa: PTH122
    name = inner if second.lower() in SUFFIXES else stem
    if not name or len(name) > MAX_CHARS or not name.isprintable():
        return None
    parents = [each for each in folders[0].split("/") if each not in ("", ".")] if folders[0] else []
    for parent in reversed(parents[1 - MAX_DEPTH :]):
        if len(parent) + 1 + len(name) > MAX_CHARS or not parent.isprintable():
            break
        name = f"{parent}/{name}"
    return name, suffix.lower()


def tail(name: str, depth: int) -> str:
    """Last components of a name."""
    return name.rpartition("/")[2] if depth == 1 else "/".join(name.split("/")[-depth:])


def _span_names(clip: Clip) -> tuple[str, ...]:
    """Names of files with only the span: the mirror's convention, in seconds, and in milliseconds."""
    name, start, end = clip.youtube_id, clip.time_start, clip.time_end
    return clip.key, f"{name}_{start}_{end}", f"{name}_{1000 * start}_{1000 * end}"


def _values(clip: Clip) -> Mapping[str, str | float]:
    return {
        "id": clip.youtube_id,
        "start": clip.time_start,
        "end": clip.time_end,
        "start_ms": round(1000 * clip.time_start),
        "end_ms": round(1000 * clip.time_end),
        "split": clip.split,
        "label": label_folder(unicodedata.normalize("NFC", clip.label)),
    }


def _format(pattern: str, clip: Clip) -> str | None:
    """Name of a clip by a checked pattern; None if a time is not in whole seconds, but the pattern wants it to be."""
    try:
        return pattern.format_map(_values(clip))
    except ValueError:
        return None


def _fields(pattern: str, option: str) -> tuple[str, ...]:
    """Fields of a pattern; raises SettingsError unless it can name clips."""
    fields: list[str] = []
    literal, fault = "", ""
    try:
        for text, field, wanted, conversion in string.Formatter().parse(pattern):
            literal += text
            if field is None:
                continue
            fields.append(field)
            if field not in FIELDS:
                fault = fault or f"has no field {{{field}}}"
            elif field in fields[:-1]:
                fault = fault or f"has {{{field}}} twice"
            elif conversion or not (_FORMAT.fullmatch(wanted or "") if field in _TIMES else not wanted):
                fault = fault or f"has no format {wanted or conversion!r} for {{{field}}} (times have 06d or .3f)"
    except ValueError as error:
        fault = str(error)
    name = "" if fault else _format(pattern, _EXAMPLE) or ""
    parts = name.split("/")
    if not fault and "id" not in fields:
        fault = "lacks {id}, so it cannot tell videos apart"
    elif not fault and ({"", ".", ".."}.intersection(parts) or "\\" in name or not name.isprintable()):
        fault = "must be a relative path without '..', '.', backslashes and control characters"
    elif not fault and (len(parts) > MAX_DEPTH or len(literal) > _MAX_LITERAL):
        fault = f"is longer than {MAX_DEPTH} path components, or {_MAX_LITERAL} characters outside its fields"
    elif not fault and name.lower().endswith(SUFFIXES):
        fault = "must leave out the extension"
    if fault:
        would = f"it would call a first clip {name!r}; " if name else ""
        sample = "'{id}_{start:06d}' calls it " + repr(_format("{id}_{start:06d}", _EXAMPLE))
        raise SettingsError(f"{option} {pattern!r}: {fault}; {would}{sample}; fields: {', '.join(FIELDS)}")
    return tuple(fields)
