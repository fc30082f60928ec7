"""Hashes of picture and sound for published rows: computed once a clip's bytes, compared, and searched for duplicates.

What the hashes are and when two clips are alike is `kinetics_sounds.media.likeness`'s to say.
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from kinetics_sounds import files, progress
from kinetics_sounds.errors import MediaError
from kinetics_sounds.media import likeness
from kinetics_sounds.media.likeness import Likeness

from .. import executors
from ..executors import Failed
from .tables import Row

Verdict = Literal["same", "alike", "different", "unknown"]
Hashes = tuple[str, str]
"""Of picture and sound."""

TASK_SECONDS = 600.0
"""A clip is left without hashes after this."""
CACHE = "hashes.txt"
"""What was computed and is not published yet, in the folder that is being made: a line a clip."""


@dataclass(frozen=True, slots=True)
class Task:
    """A clip to be described."""

    path: Path
    sha256: str
    timeout_seconds: float
    """Of each run of ffmpeg."""


def describe(task: Task) -> Hashes | str:
    """The hashes of a clip's file, or why there are none; runs in a worker, for a decoder may crash."""
    try:
        if files.sha256(task.path) != task.sha256:
            return "its file is not the one that the manifest tells of"
        found = likeness.describe(task.path, timeout_seconds=task.timeout_seconds)
    except (MediaError, OSError) as error:
        return f"its file cannot be described: {error}"
    return found.picture_hash, found.sound_hash


def compute(
    wanted: Mapping[str, Path], *, workers: int, timeout_seconds: float, folder: Path, stop: Callable[[], bool]
) -> tuple[dict[str, Hashes], dict[str, str]]:
    """Hashes by the SHA-256 of a clip's bytes, and why others have none; what a killed run computed in `folder` is taken.

    Ends early once `stop()` is true.
    """
    known = {sha256: both for sha256, both in _cached(folder / CACHE) if sha256 in wanted}
    tasks = [Task(path, sha256, timeout_seconds) for sha256, path in wanted.items() if sha256 not in known]
    failed: dict[str, str] = {}
    if not tasks:
        return known, failed
    pool = executors.start("local", describe, workers=min(workers, len(tasks)), folder=folder)
    with (
        contextlib.closing(pool),
        (folder / CACHE).open("a", encoding="ascii") as cache,
        progress.bar("ks-publish hashes", len(wanted), done=len(known)) as bar,
    ):
        for task, result in executors.in_order(pool, iter(tasks), timeout_seconds=TASK_SECONDS, stop=stop):
            if isinstance(result, tuple):
                known[task.sha256] = result
                cache.write(f"{task.sha256} {' '.join(each or '-' for each in result)}\n")
                cache.flush()
            else:
                failed[task.sha256] = result.detail if isinstance(result, Failed) else result
            bar.advance("described" if isinstance(result, tuple) else "failed")
    return known, failed


def _cached(path: Path) -> Iterator[tuple[str, Hashes]]:
    """What a killed run left; its last line may be torn."""
    if not path.is_file():
        return
    for line in path.read_text("ascii", errors="replace").splitlines():
        words = line.split(" ")
        with contextlib.suppress(ValueError):
            sha256, picture, sound = (word.removeprefix("-") for word in words)
            likeness.parse(picture, "p")
            likeness.parse(sound, "s")
            yield sha256, (picture, sound)


def compare(a: Row, b: Row) -> Verdict:
    """Whether two ok rows of one key are the same bytes, alike, different, or not to be told."""
    if a["sha256"] and a["sha256"] == b["sha256"]:
        return "same"
    ours, theirs = _of_row(a), _of_row(b)
    if ours is None or theirs is None or not all((ours.picture_hash, theirs.picture_hash)):
        return "unknown"
    return likeness.compare(ours, theirs).verdict


def broken(a: Row, b: Row) -> tuple[str, ...]:
    """What of two ok rows differs by more than a new encoding does: duration, loudness, picture, motion, sound."""
    ours, theirs = _of_row(a), _of_row(b)
    return () if ours is None or theirs is None else likeness.compare(ours, theirs).broken


def alike_pairs(rows: Sequence[Row]) -> Iterator[tuple[Row, Row]]:
    """Rows whose clips are alike, found without comparing all; rows without hashes are in no pair."""
    known = [(row, found) for row in rows if (found := _of_row(row)) is not None]
    for first, second in likeness.pairs([found for _, found in known]):
        yield known[first][0], known[second][0]


def _of_row(row: Row) -> Likeness | None:
    """What a row says of its clip's likeness; None where it says too little, or what no clip can be."""
    try:
        return likeness.from_row(row)
    except ValueError:
        return None
