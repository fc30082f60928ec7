"""Whether a run used the clips that are shown: a build may have changed after its shards were used."""

import functools
import os
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import NamedTuple

from kinetics_sounds import fingerprints
from kinetics_sounds.clip import SPLITS
from kinetics_sounds.errors import KineticsSoundsError
from kinetics_sounds.shards import reader

from .runs import Run, UsedSplit
from .sets import OK, SHARDS, Set


class _Selection(NamedTuple):
    clips: int
    fingerprint: str


def differing(found: Sequence[Set], ran: Sequence[Run]) -> list[str]:
    """A line for each split of a shown dataset that is another one now than a run was evaluated or trained on.

    Many runs use the same splits: each is read once.
    """
    selection, left, lines = functools.cache(_selection), functools.cache(_left), []
    for run in ran:
        name = f"{run.name}: " if len(ran) > 1 else ""
        for what, used in _uses(run):
            for its in (each for each in found if _lies_in(each, used.shards)):
                now = selection(its, used.split, frozenset())
                if now.fingerprint != used.selection and its.kind != SHARDS:
                    now = selection(its, used.split, left(used.shards, used.split))
                if now.fingerprint != used.selection:
                    lines.append(f"{name}{what} another selection than {its.name}: {_change(used, now)}")
    return list(dict.fromkeys(lines))


def _uses(run: Run) -> list[tuple[str, UsedSplit]]:
    """The splits that a run was evaluated and trained on, in words; without those of folds."""
    uses = [("scores are of", each) for each in run.evaluated]
    if run.trained is not None:
        uses.append(("the run was trained on", run.trained))
    return [(what, used) for what, used in uses if used.split in SPLITS]


def _change(used: UsedSplit, now: _Selection) -> str:
    told = "as many now, with other keys or labels" if now.clips == used.clips else f"now {now.clips}"
    return f"{used.clips} {used.split} clips, {told}"


def _selection(its: Set, split: str, left: Collection[str]) -> _Selection:
    """The ok clips of a split, without those that ks-shard left out."""
    clips = {
        (row.key, row.label, row.split)
        for row in its.rows
        if row.split == split and (row.status == OK or row.sample >= 0) and row.key not in left
    }
    return _Selection(len(clips), fingerprints.selection(clips))


def _lies_in(its: Set, shards: str) -> bool:
    """Whether it is the shard set, its build, or another shard set of that, by their names: any may be a link."""
    if its.folder is None or "://" in shards:
        return shards == its.name
    folder, place = (Path(os.path.abspath(each)) for each in (its.folder, shards))  # noqa: PTH100 - resolve follows links
    if its.kind == SHARDS and (folder.parent / "manifest.parquet").is_file():
        folder = folder.parent
    return place.is_relative_to(folder)


def _left(shards: str, split: str) -> frozenset[str]:
    """Clips that ks-shard left out of the split, if the shards are still there."""
    try:
        return frozenset(clip.key for read in reader.indexes(Path(shards), split) for clip in read.left)
    except (KineticsSoundsError, OSError, ValueError):
        return frozenset()
