"""Perceptual hashes of published rows: computed once per clip, compared, and searched for duplicates.

The hashes and the comparison are defined in `kinetics_sounds.media.likeness`.
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
"""Hashes of picture and audio."""

TASK_SECONDS = 600.0
"""Time limit for a clip's hashes in seconds."""
CACHE = "hashes.txt"
"""File with computed hashes that are not published yet, in the staging folder: a line per clip."""


@dataclass(frozen=True, slots=True)
class Task:
    """A clip to hash."""

    path: Path
    sha256: str
    timeout_seconds: float
    """Time limit of one ffmpeg run."""


def describe(task: Task) -> Hashes | str:
    """Hashes of a clip's file, or why there are none; runs in a worker, because a decoder may crash."""
    try:
        if files.sha256(task.path) != task.sha256:
            return "its file is not the one in the manifest"
        found = likeness.describe(task.path, timeout_seconds=task.timeout_seconds)
    except (MediaError, OSError) as error:
        return f"its file cannot be hashed: {error}"
    return found.picture_hash, found.sound_hash


def compute(
    wanted: Mapping[str, Path], *, workers: int, timeout_seconds: float, folder: Path, stop: Callable[[], bool]
) -> tuple[dict[str, Hashes], dict[str, str]]:
    """Compute hashes by SHA-256 of the clips, and the reasons for missing ones; results of a killed run in `folder` are reused.

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
        progress.bar("ks-publish hashes of distinct files", len(wanted), done=len(known)) as bar,
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
    """Hashes saved by a killed run; the last line may be truncated."""
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
    """Whether two ok rows of one key have the same bytes, are alike, different, or unknown."""
    if a["sha256"] and a["sha256"] == b["sha256"]:
        return "same"
    ours, theirs = _of_row(a), _of_row(b)
    if ours is None or theirs is None or not all((ours.picture_hash, theirs.picture_hash)):
        return "unknown"
    return likeness.compare(ours, theirs).verdict


def broken(a: Row, b: Row) -> tuple[str, ...]:
    """Parts in which two ok rows differ by more than re-encoding does: duration, loudness, picture, motion, sound."""
    ours, theirs = _of_row(a), _of_row(b)
    return () if ours is None or theirs is None else likeness.compare(ours, theirs).broken


def alike_pairs(rows: Sequence[Row]) -> Iterator[tuple[Row, Row]]:
    """Rows whose clips are alike, found without comparing all pairs; rows without hashes are not included."""
    known = [(row, found) for row in rows if (found := _of_row(row)) is not None]
    for first, second in likeness.pairs([found for _, found in known]):
        yield known[first][0], known[second][0]


def _of_row(row: Row) -> Likeness | None:
    """Description of a row's clip; None if values are missing or invalid."""
    try:
        return likeness.from_row(row)
    except ValueError:
        return None
