"""`local:DIR`: a folder of videos on disk, flat or in class folders.

Finds trimmed clips and whole videos by their names (`clip_names`), in any container of `SUFFIXES`, at any depth.
"""

import contextlib
import errno
import functools
import heapq
import os
import re
import stat
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from .. import clip_names, files
from ..clip import CONVERT, SPLITS, SUFFIXES, UNREAD, Clip, FetchResult, Status
from ..clip_names import ClipNames, Trimmed
from ..errors import SourceError
from ..folders import absolute_folder, is_of_build, readable_folder, walk
from ..progress import log
from ..quantities import first_of

NAMED = 3
"""Number of example files in the message if nothing was found."""

absolute = absolute_folder

_STEM = re.compile(r"[A-Za-z0-9_-]+")
_GONE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)
_NO_FILE = {stat.S_ISFIFO: "a named pipe", stat.S_ISSOCK: "a socket", stat.S_ISDIR: "a folder"}


@dataclass(frozen=True)
class Options:
    """Options of the local source."""

    names: str = ""
    """Pattern of the files' names, without extension, such as {id}_{start:06d} or {label}/{id}; fields: id, start, end (s),
    start_ms, end_ms, split, label. Default: ID_000027_000037, ID_27_37, ID_27000_37000 (ms), ID."""
    trimmed: Trimmed = "auto"
    """Whether files named without times (ID.mp4) hold only the annotated span: yes; no (whole videos); or auto: yes if a
    file is about as long as its span and ends before the span would."""


@dataclass(frozen=True, slots=True)
class _Seen:
    """Contents of a folder."""

    by_stem: Mapping[str, Sequence[str]]
    """Paths of videos whose names may be a clip's, best first, by name without extension."""
    unread: Mapping[str, str]
    """The first path of each such name with an extension of `UNREAD`."""
    count: int
    """Number of all files."""
    first: Sequence[str]
    """First files by path, relative to the folder."""


class Source:
    """The files below one folder."""

    notice = ""
    versions = ""
    videos_per_hour: float | None = None
    requests_per_hour: float | None = None
    share: Mapping[str, float] = dict.fromkeys(SPLITS, 1.0)

    def __init__(self, argument: str, options: Options | None = None) -> None:
        """Raises SourceError unless `argument` is a readable folder."""
        if not argument:
            raise SourceError("--source local needs a folder: --source local:DIR")
        self.out: Path | None = None
        self.folder = readable_folder(argument, spec=f"local:{argument}")
        chosen = options or Options()
        self.naming = ClipNames(chosen.names, trimmed=chosen.trimmed, option="--local.names")
        self.patterns = self.naming.examples

    @functools.cached_property
    def _seen(self) -> _Seen:
        """All files, scanned once, in the driver only."""
        found: dict[str, list[str]] = {}
        unread: dict[str, str] = {}
        first: list[str] = []
        count = 0
        for folder, names in walk(self.folder, skip=self._is_of_other_build):
            count += len(names)
            paths = [os.path.join(folder, name) for name in names]  # noqa: PTH118 - half a million of them: no objects
            first = heapq.nsmallest(NAMED, [*first, *paths])
            for name, path in zip(names, paths, strict=True):
                if stem := self._stem(name, path):
                    found.setdefault(stem, []).append(path)
                elif name.lower().endswith(UNREAD):
                    video = Path(path).with_suffix(SUFFIXES[0])
                    unread.setdefault(self._stem(video.name, str(video)), path)
        for several in found.values():
            several.sort(key=_rank)
        return _Seen(found, unread, count, [self._origin(path) for path in first])

    @functools.cached_property
    def _in_lower_case(self) -> Mapping[str, str]:
        """The first video of each name, by the name in lower case."""
        return {name.lower(): paths[0] for name, paths in self._seen.by_stem.items()}

    def _is_of_other_build(self, place: str) -> bool:
        """Whether a folder has the clips of a build that is not the one that asks, which may hold files of the user."""
        build = Path(place).parent
        if not is_of_build(place) or (self.out is not None and self.out.is_dir() and self.out.samefile(build)):
            return False
        told = "has the clips of a build, which are not taken for originals; to use them, add --source"
        log.warning("%r: %s %r", place, told, f"local:{place}")  # quoted: a name may hold line ends and escapes
        return True

    def candidates(self, clip: Clip) -> Sequence[str]:
        """The clip's own files, then the whole videos."""
        return [path for name in self.naming.of(clip) for path in self._seen.by_stem.get(name, ())]

    def seen(self) -> tuple[int, Sequence[str]]:
        """Number of files, and the paths of the first three relative to the folder."""
        return self._seen.count, self._seen.first

    def near_miss(self, clip: Clip) -> str:
        """A file named by the clip's start alone, or in another case, or in a container that is not read, and the remedy.

        Empty if there is none.
        """
        for name, said in self.naming.near(clip).items():
            if paths := self._seen.by_stem.get(name):
                return f"{self._origin(paths[0])} {said}"
        for name in self.naming.of(clip):
            if name not in self._seen.by_stem and (path := self._in_lower_case.get(name.lower())):
                return (
                    f"{self._origin(path)} is {name} but for upper and lower case; rename the file, or change the row"
                )
        for name in self.naming.of(clip):
            if path := self._seen.unread.get(name):
                return f"{self._origin(path)} is in a container that is not read; {CONVERT}"
        return ""

    def ambiguous(self, clips: Iterable[Clip]) -> tuple[frozenset[str], str]:
        """Clips named without times whose name several files of different sizes have: their keys, and the names and the remedy.

        A file that is named with the times of a clip comes before these, and another container may hold the same recording.
        """
        keys: dict[str, list[str]] = {}
        for clip in clips:
            for name in self.naming.untimed(clip):
                if len(paths := self._seen.by_stem.get(name, ())) > 1 and self.candidates(clip)[0] == paths[0]:
                    keys.setdefault(name, []).append(clip.key)
        several = {name: _of_one_container(self._seen.by_stem[name]) for name in keys}
        found = {name: paths for name, paths in several.items() if len(_sizes(paths)) > 1}
        return frozenset(key for name in found for key in keys[name]), self._ambiguous_text(found)

    def _ambiguous_text(self, found: Mapping[str, Sequence[str]]) -> str:
        """Names that stand for several different files, and the remedy; empty if there are none."""
        if not found:
            return ""
        named = (f"{name} ({first_of(map(self._origin, paths), NAMED)})" for name, paths in found.items())
        stand = "name stands" if len(found) == 1 else "names stand"
        return (
            f"{len(found)} {stand} for several different files: {first_of(named, NAMED)}; the first is used, another only if it "
            "does not give the clip: rename the files, and their rows, so that each video has a name of its own"
        )

    def first(self) -> str | None:
        """Some video of the folder, the same in every run; None if there is none."""
        return min((path for paths in self._seen.by_stem.values() for path in paths), default=None)

    def fetch(self, clip: Clip, location: str, folder: Path) -> FetchResult:
        """Return the file in place; nothing is copied."""
        path, origin = Path(location), self._origin(location)
        try:
            mode = path.stat().st_mode
        except OSError as error:
            if error.errno not in _GONE:
                raise
            gone = "is a broken link" if path.is_symlink() else "was deleted after the folder was read"
            return FetchResult(status=Status.NOT_IN_SOURCE, detail=f"{origin} {gone}", origin=origin)
        if not stat.S_ISREG(mode):
            what = next((name for is_one, name in _NO_FILE.items() if is_one(mode)), "a device")
            detail = f"{origin} is {what}, not a file; replace it by the video itself"
            return FetchResult(status=Status.NOT_IN_SOURCE, detail=detail, origin=origin)
        trimmed = self.naming.of(clip).get(self._stem(path.name, location), self.naming.whole)
        return FetchResult(status=Status.OK, path=path, trimmed=trimmed, origin=origin)

    def _stem(self, name: str, path: str) -> str:
        """What names a video's file: the end of its path, without extensions; empty if it cannot be a clip's."""
        if self.naming.depth > 1:
            name = os.path.relpath(path, self.folder)
        found = clip_names.of_file(name)
        stem = clip_names.tail(found[0], self.naming.depth) if found else ""
        return stem if self.naming.pattern or _STEM.fullmatch(stem) else ""

    def _origin(self, path: str) -> str:
        """Path relative to the folder, for messages."""
        return files.as_text(os.path.relpath(path, self.folder))


def _of_one_container(paths: Sequence[str]) -> list[str]:
    """Those of the files, best first, that have the container of the first."""
    return [path for path in paths if _rank(path)[0] == _rank(paths[0])[0]]


def _sizes(paths: Iterable[str]) -> set[int]:
    """Sizes of files in bytes, without those that are gone or cannot be reached."""
    sizes: set[int] = set()
    for path in paths:
        with contextlib.suppress(OSError):
            sizes.add(Path(path).stat().st_size)
    return sizes


def _rank(path: str) -> tuple[int, str]:
    return SUFFIXES.index(os.path.splitext(path)[1].lower()), path  # noqa: PTH122
