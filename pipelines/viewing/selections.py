"""Whether a run used the clips that are shown: a build may have changed after its shards were used."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from kinetics_sounds import fingerprints
from kinetics_sounds.clip import SPLITS
from kinetics_sounds.errors import KineticsSoundsError
from kinetics_sounds.shards import reader

from .runs import Run, UsedSplit
from .sets import OK, SHARDS, Set


def differing(found: Sequence[Set], run: Run) -> list[str]:
    """A line for each split that a run's scores are of, or its training was on, where what is shown has another."""
    lines = [line for each in run.evaluated for line in _changed(found, each, "scores are of")]
    if run.trained is not None:
        lines += _changed(found, run.trained, "the run was trained on")
    return list(dict.fromkeys(lines))


def _changed(found: Sequence[Set], used: UsedSplit, what: str) -> Iterator[str]:
    """A line for each shown dataset whose split is another one now, though the shards lie there."""
    for its in found:
        if used.split in SPLITS and _lies_in(its, used.shards) and not _has(its, used):
            now = len(_clips(its, used))
            other = ", with other keys or labels" if now == used.clips else ""
            yield f"{what} another selection than {its.name}: {used.clips} {used.split} clips, now {now}{other}"


def _has(its: Set, used: UsedSplit) -> bool:
    return fingerprints.selection(_clips(its, used)) == used.selection


def _clips(its: Set, used: UsedSplit) -> set[tuple[str, str, str]]:
    """Key, label and split of the ok clips of the split; where those are others, without clips that ks-shard left out."""
    now = {
        (row.key, row.label, row.split)
        for row in its.rows
        if row.split == used.split and (row.status == OK or row.sample >= 0)
    }
    if its.kind == SHARDS or fingerprints.selection(now) == used.selection:
        return now
    left = _left(used)
    return {row for row in now if row[0] not in left}


def _lies_in(its: Set, shards: str) -> bool:
    """Whether it is the shard set, its build, or another shard set of that, by their names: any may be a link."""
    if its.folder is None or "://" in shards:
        return shards == its.name
    folder, place = (Path(os.path.abspath(each)) for each in (its.folder, shards))  # noqa: PTH100 - resolve follows links
    if its.kind == SHARDS and (folder.parent / "manifest.parquet").is_file():
        folder = folder.parent
    return place.is_relative_to(folder)


def _left(used: UsedSplit) -> set[str]:
    """Clips that ks-shard left out of the split, if the shards are still there."""
    try:
        return {clip.key for read in reader.indexes(Path(used.shards), used.split) for clip in read.left}
    except (KineticsSoundsError, OSError, ValueError):
        return set()
