"""Which lists a build was made from, by the report beside its manifest, and what the documents say of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePath
from typing import Any

from kinetics_sounds import files, fingerprints, manifest
from kinetics_sounds.classes import FROM_PUBLISHED
from kinetics_sounds.errors import ManifestError
from kinetics_sounds.manifest import Manifest
from kinetics_sounds.quantities import first_of, plural

from .. import list_origin
from ..manifest_option import NAME
from .markdown import code, escape, plain

REPORT = "report.json"
MAX_BYTES = 1 << 28
"""Maximum size of the report in bytes; a clip takes less than 100."""
MOST_DIFFERENT = 3
"""Number of clips that differ from those of the lists that are named."""
_UNNAMED = "a published folder"
_OF_CFF = {"version": "version", "url": "url", "license-url": "license"}
"""Fields of a reference in CITATION.cff, and those of `list_origin.FIELDS` that they have."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MadeFrom:
    """The lists that a build was made from; empty if it was made from annotations, or if that is not known."""

    published: Sequence[Mapping[str, str]] = ()
    """What published folders whose lists these are say of themselves: `list_origin.FIELDS`, as far as known."""
    own: Sequence[Mapping[str, str]] = ()
    """The same of earlier versions of this set: not named themselves, only the lists that they were made from."""
    files: Sequence[str] = ()
    """Names of other lists' files, without folders."""
    not_requested: int = 0
    """Rows of the lists that had no clip at their publisher, so that they are not in the manifest."""
    lacking: int = 0
    """Requested clips of the lists that are rows here without a clip."""
    different: Sequence[str] = ()
    """Keys of the ok clips that differ from the publisher's in picture or sound."""
    compared: bool = True
    """Whether the clips were compared with those of the published folders, if there are any."""
    trouble: str = ""
    """Why the report does not tell the lists that the build was made from; empty if it does, or there seem to be none."""

    @property
    def text(self) -> str:
        """The lists in words: one line without escapes; empty if there are none."""
        told = [f"the lists of {_told(each)}" for each in self.published]
        told += dict.fromkeys(each["made_from"] for each in self.own if "made_from" in each)
        if self.files:
            told.append(f"the {'list' if len(self.files) == 1 else 'lists'} {first_of(self.files)}")
        return plain("; ".join(told))

    def of(self, name: str, creator: str) -> "MadeFrom":
        """The lists as told by the set of this name and creator, whose earlier versions are its own."""
        own = [each for each in self.published if (each.get("name"), each.get("creator")) == (name, plain(creator))]
        return replace(self, published=[each for each in self.published if each not in own], own=own)


def _told(said: Mapping[str, str]) -> str:
    """A published folder in words."""
    version = f" {said['version']}" if "version" in said else ""
    creator = f" by {said['creator']}" if "creator" in said else ""
    url = f" ({said['url']})" if "url" in said else ""
    license_ = f", under {said['license']}" if "license" in said else ""
    made_from = f" (made from {said['made_from']})" if "made_from" in said else ""
    return f"{said.get('name', _UNNAMED)}{version}{creator}{url}{license_}{made_from}"


def read(build: Path, made: Manifest) -> MadeFrom:
    """What the report of a build says of the lists, or why it does not."""
    listed = made.classes.note.startswith(FROM_PUBLISHED)
    try:
        report = files.read_json(build / REPORT, most_bytes=MAX_BYTES)
    except FileNotFoundError:
        return MadeFrom(trouble="is missing" if listed else "")
    except (OSError, ValueError) as error:
        return MadeFrom(trouble=f"cannot be read ({error})" if listed else "")
    if not isinstance(report, dict):
        return MadeFrom(trouble="is not a table" if listed else "")
    if trouble := _trouble(report, build, made):
        return MadeFrom(trouble=trouble if listed or "lists" in report else "")
    return _of_report(report, made) if "lists" in report else MadeFrom()


def _of_report(report: Mapping[str, Any], made: Manifest) -> MadeFrom:
    """The lists of a valid report."""
    lists, clips = report["lists"], report.get("compared", {"clips": {}})["clips"]
    said = [list_origin.checked(each["published"]) for each in lists["files"] if each.get("published") is not None]
    others = [PurePath(each["file"]).name for each in lists["files"] if each.get("published") is None]
    return MadeFrom(
        published=[each for number, each in enumerate(said) if each not in said[:number]],
        files=list(dict.fromkeys(others)),
        not_requested=sum(counts.get("never_published", 0) for counts in lists["splits"].values()),
        lacking=sum(each.media is None and each.clip.key in lists.get("lacking", ()) for each in made.outcomes),
        different=sorted(key for key, _, _ in _ok(made) if clips.get(key, "").partition(":")[0] == "different"),
        compared="compared" in report or not said,
    )


def _trouble(report: Mapping[str, Any], build: Path, made: Manifest) -> str:
    """Why a report cannot be used; empty if it can."""
    if "lists" in report and not _is_valid(report):
        return "is damaged"
    if not _is_of(report, build, made):
        return "is of other clips than the manifest"
    files_read = report["lists"]["files"] if "lists" in report else ()
    old = any("published" not in each and each.get("format") == "published" for each in files_read)
    return "was written by an older version" if old else ""


def _is_valid(report: Mapping[str, Any]) -> bool:
    """Whether the sections `lists` and `compared` have what is read of them."""
    lists, compared = report["lists"], report.get("compared", {"clips": {}})
    if not isinstance(lists, dict) or not isinstance(compared, dict):
        return False
    files_read, splits, clips = lists.get("files"), lists.get("splits"), compared.get("clips")
    if not isinstance(lists.get("lacking", {}), dict):
        return False
    if not isinstance(files_read, list) or not isinstance(splits, dict) or not isinstance(clips, dict):
        return False
    return (
        all(isinstance(each, dict) and isinstance(each.get("file"), str) for each in files_read)
        and all(isinstance(each.get("published"), dict | None) for each in files_read)
        and all(isinstance(each, dict) and isinstance(each.get("never_published", 0), int) for each in splits.values())
        and all(isinstance(each, str) for each in clips.values())
    )


def _is_of(report: Mapping[str, Any], build: Path, made: Manifest) -> bool:
    """Whether a report is that of a manifest, or of the one that it was copied from with some rows left out."""
    selection, ok = report.get("selection"), _ok(made)
    if selection == fingerprints.selection(ok):
        return True
    try:
        whole = _ok(manifest.read(build / NAME))
    except (OSError, ManifestError):
        return False
    return selection == fingerprints.selection(whole) and ok <= whole


def _ok(made: Manifest) -> set[tuple[str, str, str]]:
    """Key, label and split of the ok clips."""
    return {(each.clip.key, each.clip.label, each.clip.split) for each in made.outcomes if each.media}


def card_lines(made_from: MadeFrom, *, hashed: bool) -> list[str]:
    """Section of the card; `hashed`: whether the set has hashes, so that its clips can be compared."""
    rows = f"The rows come from {escape(made_from.text)}."
    if count := made_from.not_requested:
        were = "was" if count == 1 else "were"
        rows += f" {plural(count, 'row')} without a clip at the publisher {were} not requested, and {were} not counted below."
    if count := made_from.lacking:
        rows += f" {plural(count, 'clip')} of the lists {'is' if count == 1 else 'are'} missing here: see the column `status`."
    lines = ["## Made from", "", rows]
    if made_from.different:
        named = first_of(map(code, made_from.different), MOST_DIFFERENT)
        lines += [
            "",
            f"{differing(made_from)}: {named}.{' `ks-publish diff` with their folder names them.' if hashed else ''}",
        ]
    return lines


def differing(made_from: MadeFrom) -> str:
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
