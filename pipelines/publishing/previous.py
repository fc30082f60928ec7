"""The existing version in a published folder, which the next one follows."""

import shlex
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from kinetics_sounds import classes, files
from kinetics_sounds.classes import from_published
from kinetics_sounds.clip import SPLITS
from kinetics_sounds.errors import PublishError

from .. import list_origin
from . import contents, versions
from .contents import CHANGES, CLASSES, CROISSANT, SUMS, Published
from .facts import LICENSES
from .likeness import Hashes
from .markdown import plain
from .options import CREATOR
from .tables import Row

MOST_NAMED = 20
"""Maximum number of files listed in a message."""

RESTORE = (
    f"restore the published version (from the Hub or a copy; {SUMS} verifies it), or start afresh with another --out"
)
"""Remedy for irreplaceable files that are missing or edited."""

FRESH = {".git", ".gitattributes", ".cache"}
"""Contents of a checkout of an empty Hub repository."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Previous:
    """The existing version in the folder."""

    published: Published
    records: Mapping[str, versions.Record]
    labels: Mapping[str, int]
    """Index of each label."""
    hashes: Mapping[str, Hashes]
    """By SHA-256 of the clip."""
    sums: Mapping[str, str]
    whole: bool
    """Whether all of its files exist."""
    date: str
    creator: str
    url: str
    license: str
    """SPDX identifier."""
    made_from: str
    """Lists that it was made from, in words; empty if it names none."""
    history: str
    """Entries of CHANGES.md."""


def previous(out: Path) -> Previous | None:
    """Read the existing version of a folder; None if it is empty; raises PublishError if we must not overwrite it."""
    if not out.exists() or (out.is_dir() and {path.name for path in out.iterdir()} <= FRESH):
        return None
    if not out.is_dir():
        raise PublishError(f"{out}: is no folder; choose another --out")
    if not contents.is_published(out):
        raise PublishError(f"{out}: has files, but is not a published folder; choose another --out")
    published, sums = contents.read_fingerprints(out), contents.read_sums(out)
    missing = check_unchanged(out, sums)
    _refuse_lost(out, sums, missing)
    splits = [split for split in SPLITS if f"splits/{split}.csv" in sums]
    hashes: dict[str, Hashes] = {}
    labels: dict[str, int] = {}

    def noted(rows: Iterable[Row]) -> Iterator[Row]:
        for row in rows:
            labels[str(row["label"])] = int(row["label_index"] or 0)
            if row["picture_hash"] or row["sound_hash"]:
                hashes[str(row["sha256"])] = (str(row["picture_hash"] or ""), str(row["sound_hash"] or ""))
            yield row

    records = versions.records(noted(contents.rows_of(out, splits)))
    url = contents.text_of_croissant(out, "license")
    if CLASSES not in missing:
        labels |= {label: place for place, label in enumerate(classes.read(str(out / CLASSES)).labels)}
    return Previous(
        published=published,
        records=records,
        labels=labels,
        hashes=hashes,
        sums=sums,
        whole=not missing,
        date=contents.read_date(out),
        creator=contents.text_of_croissant(out, "creator", "name"),
        url=contents.text_of_croissant(out, "url"),
        license=next((spdx for spdx, each in LICENSES.items() if each.url == url), next(iter(LICENSES))),
        made_from=list_origin.of_folder(out).get("made_from", ""),
        history=_history(out),
    )


def refuse_anothers(out: Path, creator: str | None, note: str) -> None:
    """Raise PublishError if a published folder is somebody else's: by its creator, or since the build was made from its lists.

    `note` is that of the build's class list. Whoever gives --out means the folder.
    """
    if not contents.is_published(out) or not (out / CROISSANT).is_file():
        return
    was = contents.text_of_croissant(out, "creator", "name")
    told = ""
    if creator is not None and was not in (creator, CREATOR):
        told = f"was published by {plain(was)}, not {plain(creator)}"
    elif creator is None and note == from_published(out.name):
        told = "is the folder whose lists this build was made from"
    if told:
        raise PublishError(
            f"{out}: {told}; for a folder of your own add --out published/OTHER --name OTHER; to write the next version of that "
            f"one, add --out {shlex.quote(str(out))}"
        )


def _refuse_lost(out: Path, sums: Mapping[str, str], missing: Collection[str]) -> None:
    """Raise PublishError if irreplaceable content is missing."""
    if lost := sorted(filter(_is_irreplaceable, {*missing, *({CHANGES, CROISSANT} - sums.keys())})):
        raise PublishError(f"{out}: lacks {', '.join(lost[:MOST_NAMED])}, which the next version needs; {RESTORE}")


def _is_irreplaceable(name: str) -> bool:
    """Whether the next version needs a file: tables, history, date, creator."""
    return name in (CHANGES, CROISSANT) or name.startswith("splits/")


def _history(out: Path) -> str:
    path = out / CHANGES
    if path.stat().st_size > contents.MOST_BYTES:
        raise PublishError(f"{path}: is larger than {contents.MOST_BYTES >> 20} MiB; choose another --out")
    return path.read_text("utf-8", errors="replace").partition("\n\n")[2]


def check_unchanged(out: Path, sums: Mapping[str, str]) -> set[str]:
    """Missing files of SHA256SUMS; raises PublishError if one was changed."""
    differ = {
        name: path.exists() or path.is_symlink()
        for name, same in files.in_threads(lambda name: _is_same(out / name, sums[name]), sums)
        if not same
        for path in [out / name]
    }
    changed = [name for name, there in differ.items() if there]
    if changed:
        told = ", ".join(f"{name} was changed" for name in changed[:MOST_NAMED])
        move = "move the edited files elsewhere, or choose another --out"
        remedy = RESTORE if any(map(_is_irreplaceable, changed)) else move
        raise PublishError(f"{out}: was edited after ks-publish: {told}; {remedy}")
    return set(differ)


def _is_same(path: Path, sha256: str) -> bool:
    return path.is_file() and not path.is_symlink() and files.sha256(path) == sha256


def refuse_foreign(new: Path, out: Path, own: Collection[str]) -> None:
    """Raise PublishError if a foreign file (not in `own`) in `out` would be overwritten by one of `new`."""
    taken = [
        name for name in contents.names(new) if name not in own and ((out / name).exists() or (out / name).is_symlink())
    ]
    if taken:
        raise PublishError(
            f"{out}: {', '.join(taken[:MOST_NAMED])} was not written by ks-publish and would be overwritten by this version; "
            "move it elsewhere"
        )
