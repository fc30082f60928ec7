"""Which lists a build was made from, by the report beside its manifest, and what the documents say of them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

from kinetics_sounds import files, fingerprints, manifest
from kinetics_sounds.clip import Outcome
from kinetics_sounds.errors import ManifestError
from kinetics_sounds.manifest import Manifest
from kinetics_sounds.quantities import first_of, plural

from .. import list_origin
from ..manifest_option import NAME
from .markdown import escape, plain

REPORT = "report.json"
MAX_BYTES = 1 << 28
"""Maximum size of the report in bytes; a clip takes less than 100."""
_UNNAMED = "a published folder"
_OF_CFF = {"version": "version", "url": "url", "license-url": "license"}
"""Fields of a reference in CITATION.cff, and those of `list_origin.FIELDS` that they have."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MadeFrom:
    """The lists that a build was made from; empty if it was made from annotations, or if that is not known."""

    published: Sequence[Mapping[str, str]] = ()
    """What published folders whose lists these are say of themselves: `list_origin.FIELDS`, as far as known."""
    files: Sequence[str] = ()
    """Names of other lists' files, without folders."""
    not_requested: int = 0
    """Rows of the lists that had no clip at their publisher, so that they are not in the manifest."""
    different: Sequence[str] = ()
    """Keys of the ok clips that differ from the publisher's in picture or sound."""

    @property
    def text(self) -> str:
        """The lists in words: one line without escapes; empty if there are none."""
        told = [f"the lists of {_told(each)}" for each in self.published]
        if self.files:
            told.append(f"the {'list' if len(self.files) == 1 else 'lists'} {first_of(self.files)}")
        return plain("; ".join(told))


def _told(said: Mapping[str, str]) -> str:
    """A published folder in words."""
    version = f" {said['version']}" if "version" in said else ""
    creator = f" by {said['creator']}" if "creator" in said else ""
    url = f" ({said['url']})" if "url" in said else ""
    license_ = f", under {said['license']}" if "license" in said else ""
    return f"{said.get('name', _UNNAMED)}{version}{creator}{url}{license_}"


def read(build: Path, made: Manifest) -> MadeFrom:
    """What the report of a build says of the lists; empty if it has no lists, is of another manifest, damaged, or older."""
    try:
        report: Any = files.read_json(build / REPORT, most_bytes=MAX_BYTES)
        if not isinstance(report, dict) or "lists" not in report or not _is_of(report, build, made):
            return MadeFrom()
        lists, clips = report["lists"], report.get("compared", {}).get("clips", {})
        published = [list_origin.checked(each["published"]) for each in lists["files"] if each["published"]]
        return MadeFrom(
            published=[each for number, each in enumerate(published) if each not in published[:number]],
            files=list(dict.fromkeys(PurePath(each["file"]).name for each in lists["files"] if not each["published"])),
            not_requested=sum(counts.get("never_published", 0) for counts in lists["splits"].values()),
            different=sorted(key for key in _ok_keys(made) if clips.get(key, "").partition(":")[0] == "different"),
        )
    except (OSError, ManifestError, AttributeError, KeyError, TypeError, ValueError):
        return MadeFrom()


def _is_of(report: Mapping[str, Any], build: Path, made: Manifest) -> bool:
    """Whether a report is that of a manifest, or of the one that it was copied from with some rows left out."""
    if report["selection"] == _selection(made.outcomes):
        return True
    whole = manifest.read(build / NAME)
    return report["selection"] == _selection(whole.outcomes) and _ok_keys(made) <= _ok_keys(whole)


def _selection(outcomes: Iterable[Outcome]) -> str:
    return fingerprints.selection((each.clip.key, each.clip.label, each.clip.split) for each in outcomes if each.media)


def _ok_keys(made: Manifest) -> set[str]:
    return {each.clip.key for each in made.outcomes if each.media}


def card_lines(made_from: MadeFrom) -> list[str]:
    """Section of the card."""
    rows = f"The rows are those of {escape(made_from.text)}."
    if count := made_from.not_requested:
        were = "was" if count == 1 else "were"
        rows += f" {plural(count, 'row')} without a clip at the publisher {were} not requested, and {were} not counted below."
    lines = ["## Made from", "", rows]
    if made_from.different:
        lines += ["", f"{different(made_from)}. `ks-publish diff` with their folder names them."]
    return lines


def different(made_from: MadeFrom) -> str:
    """How many clips differ from those of the lists, and what that means."""
    count = len(made_from.different)
    return (
        f"{count} of the clips {'differs' if count == 1 else 'differ'} in picture or sound from the publisher's clip of the same "
        "key: results on the two sets may differ"
    )


def references(made_from: MadeFrom) -> list[dict[str, Any]]:
    """The published folders as references of CITATION.cff."""
    return [
        {
            "type": "data",
            "title": plain(each.get("name", _UNNAMED)),
            "authors": [{"name": plain(each.get("creator", "anonymous"))}],
            **{name: plain(each[key]) for name, key in _OF_CFF.items() if key in each},
        }
        for each in made_from.published
    ]
