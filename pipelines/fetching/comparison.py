"""Compare a build from a published list with what was published: same bytes, alike, or different, clip by clip."""

import contextlib
import itertools
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from kinetics_sounds import cores, files, lists, progress
from kinetics_sounds.errors import MediaError
from kinetics_sounds.lists import ClipList, published
from kinetics_sounds.media import ffmpeg, likeness

from .. import attempts, executors
from ..attempts import Refused
from ..executors import Cause, Failed
from . import verdicts
from .list_plan import ListPlan
from .list_report import Became
from .verdicts import Verdict

HASHES = ("picture_hash", "sound_hash")
"""Columns with the perceptual hashes of a published row."""
COLUMNS = ("key", "sha256", "duration_seconds", "num_frames", "audio_rms_db", *HASHES)
"""Columns of a published row used by the comparison."""
TASK_SECONDS = 600.0
"""Time limit of a clip's comparison in seconds."""
NAMED = 3
"""Number of clips of a kind that are printed."""


@dataclass(frozen=True, slots=True)
class Task:
    """A clip whose bytes differ from the published ones."""

    cells: tuple[str, ...]
    """Cells of the published row for `COLUMNS`, empty if missing."""
    path: Path
    """Local path of the clip."""
    sha256: str
    """SHA-256 of that file."""
    timeout_seconds: float
    """Time limit of one ffmpeg run."""

    @property
    def row(self) -> dict[str, str]:
        """The published row, by column."""
        return dict(zip(COLUMNS, self.cells, strict=True))

    @property
    def name(self) -> str:
        """Key under which its verdict is cached."""
        return verdicts.name_of(self.cells[1:], self.sha256)


@dataclass(frozen=True, slots=True)
class Undecided:
    """Why the comparison is impossible, at least for now."""

    reason: str


Evaluate = Callable[[Task], Verdict | Undecided | Refused]
"""Compares a clip's file with its published row. Runs in a worker, so it must be importable by name."""


def attempt(task: Task) -> Verdict | Undecided | Refused:
    """`evaluate`, with errors of the user's, the disk's or the machine's as results: any other exception counts as a bug."""
    return attempts.attempt(evaluate, task)


def evaluate(task: Task) -> Verdict | Undecided:
    """Compare by the hashes; undecided if the published ones are missing, or the clip cannot be decoded.

    Raises OSError if the clip cannot be read.
    """
    try:
        theirs = likeness.from_row(task.row)
    except ValueError as error:
        return Undecided(f"the published row: {error}")
    try:
        ours = likeness.describe(task.path, timeout_seconds=task.timeout_seconds)
    except MediaError as error:
        ffmpeg.read_through(task.path)
        return Undecided(str(error))
    found = likeness.compare(theirs, ours)
    return f"different: {', '.join(found.broken)}" if found.broken else found.verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class How:
    """Parameters of the comparison."""

    evaluate: Evaluate = attempt
    workers: int
    """Number of processes, at most one per core; always local, whatever the build's executor."""
    timeout_seconds: float
    """Time limit of one ffmpeg run."""


def compare(plan: ListPlan, became: Became, out: Path, *, how: How, stop: Callable[[], bool]) -> dict[str, Any] | None:
    """Section `compared` of `report.json`; None if no list is a published one, or once `stop()` is true.

    `out` is the build's folder, locked by this process. Raises StoppedError and FaultError if a disk, or this code, is at fault;
    earlier results are kept.
    """
    given = [each for each in plan.lists if each.format == "published"]
    if not given:
        return None
    counts: Counter[str] = Counter(dict.fromkeys(("same", "alike", "different", "unknown", "lacking"), 0))
    clips: dict[str, str] = {}
    keys = {clip.key for clip in plan.clips}
    with progress.bar("ks-build: comparing with the published clips", len(keys)) as bar:

        def put(key: str, found: str) -> None:
            bar.advance(kind := verdicts.kind_of(found))
            counts[kind] += 1
            if found != "same":
                clips[key] = found

        kept = verdicts.Kept(out)
        with contextlib.closing(_others(_rows(given, keys), became, out, how, put)) as tasks:
            try:
                _evaluate_all(_not_known(tasks, kept, put), out, how, kept, put, stop)
                if not stop():
                    kept.forget_others()
            finally:
                kept.save()
    return None if stop() else {"counts": dict(counts), "clips": dict(sorted(clips.items()))}


def _rows(given: Sequence[ClipList], keys: set[str]) -> Iterator[Mapping[str, str]]:
    """Published rows of the requested clips, without duplicates."""
    for row in itertools.chain.from_iterable(published.facts(lists.lines(each.path)) for each in given):
        if row["key"] in keys:
            keys.remove(row["key"])
            yield row


def _others(
    rows: Iterator[Mapping[str, str]], became: Became, out: Path, how: How, put: Callable[[str, str], None]
) -> Generator[Task]:
    """Clips whose bytes differ; all others are passed to `put` with their kind."""
    for row in rows:
        digest, path = became.built.get(row["key"], ("", ""))
        if not digest:
            put(row["key"], "lacking")
        elif row.get("sha256") == digest:
            put(row["key"], "same")
        elif not any(row.get(name) for name in HASHES):
            put(row["key"], "unknown")
        else:
            cells = tuple(row.get(name, "") for name in COLUMNS)
            yield Task(cells, (out / path).absolute(), digest, how.timeout_seconds)


def _not_known(tasks: Iterator[Task], kept: verdicts.Kept, put: Callable[[str, str], None]) -> Iterator[Task]:
    """Clips without a cached verdict; all others are passed to `put`."""
    for task in tasks:
        found = kept.get(task.name)
        if found is None:
            yield task
        else:
            put(task.row["key"], found)


def _evaluate_all(
    tasks: Iterator[Task],
    out: Path,
    how: How,
    kept: verdicts.Kept,
    put: Callable[[str, str], None],
    stop: Callable[[], bool],
) -> None:
    """Evaluate clips in workers, started for the first one; a crash or timeout gives the verdict unknown.

    Raises as `attempts.check`, and MediaError if there is no ffmpeg.
    """
    first = next(tasks, None)
    if first is None:
        return
    ffmpeg.version()
    workers = min(how.workers, cores.usable())
    with (
        files.scratch(out) as folder,
        contextlib.closing(executors.start("local", how.evaluate, workers=workers, folder=folder)) as pool,
    ):
        everything = itertools.chain([first], tasks)
        for task, found in executors.in_order(pool, everything, timeout_seconds=TASK_SECONDS, stop=stop):
            verdict = _verdict_of(task, found)
            if isinstance(verdict, Undecided):
                progress.log.warning("%s: cannot be compared: %s", task.path, verdict.reason)
                put(task.row["key"], "unknown")
            else:
                kept.put(task.name, verdict)
                put(task.row["key"], verdict)


def _verdict_of(task: Task, found: object) -> Verdict | Undecided:
    """Verdict from a worker's result; raises as `attempts.check`."""
    if isinstance(found, Failed) and found.cause is not Cause.RAISED:
        return Undecided(found.detail)
    attempts.check(task.row["key"], found)
    return cast("Verdict | Undecided", found)


def text(document: Mapping[str, Any]) -> str:
    """Section `compared` of a report as text."""
    counts = document["counts"]
    told = ", ".join(f"{count} {kind}" for kind, count in counts.items() if count or kind in ("same", "different"))
    lines = [f"clips beside the published ones: {told}"]
    for kind in ("different", "unknown"):
        found = [(verdict, key) for key, verdict in document["clips"].items() if verdicts.kind_of(verdict) == kind]
        lines += [f"  {verdict}: {key}" for verdict, key in found[:NAMED]]
        lines += [f"  and {len(found) - NAMED} more that are {kind}"] if len(found) > NAMED else []
    return "\n".join(lines)
