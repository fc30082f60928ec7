"""Whether the scores of a run are of the clips that are shown: a build may have changed after its shards were evaluated."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from kinetics_sounds import fingerprints
from kinetics_sounds.clip import SPLITS
from kinetics_sounds.errors import KineticsSoundsError
from kinetics_sounds.shards import reader

from .runs import Evaluated, Run
from .sets import OK, SHARDS, Set


def differing(found: Sequence[Set], run: Run) -> list[str]:
    """A line for each shown dataset and split of which the run's scores are not, though the evaluated shards lie there."""
    return list(dict.fromkeys(line for its in found for each in run.evaluated for line in _differing(its, each)))


def _differing(its: Set, evaluated: Evaluated) -> Iterator[str]:
    if evaluated.split not in SPLITS or not _lies_in(its, evaluated.shards):
        return
    now = {
        (row.key, row.label, row.split)
        for row in its.rows
        if row.split == evaluated.split and (row.status == OK or row.sample >= 0)
    }
    if fingerprints.selection(now) == evaluated.selection:
        return
    left = set() if its.kind == SHARDS else _left(evaluated)
    now = {row for row in now if row[0] not in left}
    if fingerprints.selection(now) == evaluated.selection:
        return
    what = f"{evaluated.clips} {evaluated.split} clips, now {len(now)}"
    other = ", with other keys or labels" if len(now) == evaluated.clips else ""
    yield f"scores are of another selection than {its.name}: {what}{other}"


def _lies_in(its: Set, shards: str) -> bool:
    """Whether it is the shard set, its build, or another shard set of that, by their names: any may be a link."""
    if its.folder is None or "://" in shards:
        return shards == its.name
    folder, place = (Path(os.path.abspath(each)) for each in (its.folder, shards))  # noqa: PTH100 - resolve follows links
    if its.kind == SHARDS and (folder.parent / "manifest.parquet").is_file():
        folder = folder.parent
    return place.is_relative_to(folder)


def _left(evaluated: Evaluated) -> set[str]:
    """Clips that ks-shard left out of the split, if the shards are still there."""
    try:
        return {clip.key for read in reader.indexes(Path(evaluated.shards), evaluated.split) for clip in read.left}
    except (KineticsSoundsError, OSError, ValueError):
        return set()
