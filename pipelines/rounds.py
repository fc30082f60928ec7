"""One source after the other is asked for the clips that are still wanting; every answer goes to the ledger as it comes."""

import itertools
import shutil
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from kinetics_sounds import progress
from kinetics_sounds.clip import Clip, Kind, Outcome, Status
from kinetics_sounds.ledger import Ledger, PartEntry, storable
from kinetics_sounds.settings import Stop
from kinetics_sounds.sources import Archive, Part, Source

from .executors import AHEAD, SECONDS_BETWEEN_LOOKS, Cause, Failed, Pool
from .schedule import Rules, Schedule
from .tasks import ClipDone, ClipTask, PartDone, PartTask, versions

CLIP_SECONDS = 1800.0
"""A clip's whole task is killed after this; its parts have shorter limits of their own."""
PART_SECONDS = 6 * 3600.0
"""An archive's download is killed after this; a connection that stands still ends much sooner."""
BATCH = 1000
"""Outcomes that need no worker are recorded so many at a time."""

Task = ClipTask | PartTask
Done = ClipDone | PartDone


@dataclass(frozen=True, slots=True)
class Standing:
    """What is known of the clips that are asked for; it grows as answers come."""

    ok: set[str] = field(default_factory=set)
    """Keys whose clips are where they were put."""
    settled: defaultdict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    """By source, the keys that it is not asked for again."""
    absent: defaultdict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    """By source, the keys that it had no file of."""
    refused: set[str] = field(default_factory=set)
    """Keys at which a source refused everything the last time: it may be their own fault."""


@dataclass(frozen=True, slots=True)
class Tally:
    """What a run took."""

    seconds: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    """Of workers, by stage."""
    counts: Counter[str] = field(default_factory=Counter)
    """`clips` that came to an end, `tries`, `requests` and `bytes` downloaded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """All that the rounds of one run share."""

    out: Path
    scratch: Path
    ledger: Ledger
    pool: Pool[Task, Done]
    stop: Stop
    standing: Standing
    tally: Tally
    again: frozenset[str]
    """Kinds and statuses that are asked again."""
    rules: Rules
    min_coverage: float
    timeout_seconds: float
    numbers: Iterator[int] = field(default_factory=itertools.count)
    """Names of the tasks' folders."""

    def folder(self) -> Path:
        """A name for a folder that no other task has."""
        return self.scratch / f"{next(self.numbers):08d}"


def standing(ledger: Ledger, clips: Collection[Clip], again: Collection[str], out: Path) -> Standing:
    """What earlier runs left: a clip whose file is there stays, and a word that is not asked again holds."""
    known = Standing()
    asked = {clip.key for clip in clips}
    for entry in ledger.words():
        if entry.key not in asked:
            continue
        if entry.media is not None:
            path = out / entry.media.path
            if path.is_file() and path.stat().st_size == entry.media.bytes:
                known.ok.add(entry.key)
        elif entry.status not in again and entry.status.kind not in again:
            known.settled[entry.source].add(entry.key)
        elif entry.status is Status.NOT_IN_SOURCE:
            known.absent[entry.source].add(entry.key)
        elif entry.status.kind is Kind.STOP:
            known.refused.add(entry.key)
    return known


def wanting(known: Standing, spec: str, clips: Iterable[Clip]) -> list[Clip]:
    """The clips that a source is to be asked for: not there yet, and its word does not hold. Refused ones come last."""
    settled = known.settled[storable(spec)]
    left = [clip for clip in clips if clip.key not in known.ok and clip.key not in settled]
    return sorted(left, key=lambda clip: clip.key in known.refused)


def ask(run: Run, spec: str, source: Source, options: object, clips: Sequence[Clip]) -> Outcome | None:
    """Ask a source clip by clip; returns the outcome that ended the run, if one did."""

    def tasks() -> Iterator[Task]:
        absent: list[Outcome] = []
        for clip in clips:
            location = source.locate(clip)
            if location is None:
                absent.append(_absent(clip, spec, source.versions))
                if len(absent) == BATCH:
                    _record_absent(run, spec, absent, bar)
                    absent.clear()
            else:
                yield ClipTask(
                    clip=clip,
                    spec=spec,
                    options=options,
                    location=location,
                    out=run.out,
                    scratch=run.scratch,
                    folder=run.folder(),
                    min_coverage=run.min_coverage,
                    timeout_seconds=run.timeout_seconds,
                )
        _record_absent(run, spec, absent, bar)

    rules = replace(run.rules, videos_per_hour=source.videos_per_hour, requests_per_hour=source.requests_per_hour)
    limited = source.videos_per_hour is not None or source.requests_per_hour is not None
    with progress.bar(f"ks-build {spec}", len(clips)) as bar:
        schedule = Schedule(tasks(), rules)
        ahead = run.pool.workers * (1 if limited else AHEAD)

        def took(ended: list[tuple[Task, Done | Failed]]) -> Outcome | None:
            return _took_clips(run, schedule, [(task, _done(task, result)) for task, result in ended], bar)

        return _drive(run, schedule, took, ahead=ahead)


def ask_archive(run: Run, spec: str, source: Archive, options: object, clips: Sequence[Clip]) -> Outcome | None:
    """Stream the archives that may hold the clips, replacements first; returns the outcome that ended the run, if any."""
    wanted = {clip.key: clip for clip in clips}
    splits = sorted({clip.split for clip in clips})
    parts = source.parts(splits)
    broken: dict[Part, PartDone] = {}
    known = run.ledger.parts(storable(spec))
    for part in parts:
        entry = known.get(part.name)
        if entry is not None and entry.status is not Status.OK:
            broken[part] = PartDone(status=entry.status, detail=entry.detail)
    with progress.bar(f"ks-build {spec}", len(clips)) as bar:
        for replacement in (True, False):
            group = [part for part in parts if part.replacement is replacement]
            left = {key: clip for key, clip in wanted.items() if key not in run.standing.ok}
            unread = [part for part in group if _unread(part, known.get(part.name), left, run.again)]
            if unread and left:
                progress.log.info("%s: %d of %d parts to read for %d clips", spec, len(unread), len(group), len(left))
                ended = _read(run, spec, options, unread, left, broken, bar)
                if ended is not None or run.stop:
                    return ended
        _settle_rest(run, spec, source.versions, wanted, parts, broken, bar)
    return None


def _unread(part: Part, entry: PartEntry | None, left: Collection[str], again: Collection[str]) -> bool:
    """Whether a part may hold more than what is known of it, or is known to hold a clip that is wanting."""
    if entry is None or (entry.status is not Status.OK and (entry.status in again or entry.status.kind in again)):
        return True
    return not entry.keys.isdisjoint(left)


def _read(
    run: Run,
    spec: str,
    options: object,
    parts: Sequence[Part],
    left: dict[str, Clip],
    broken: dict[Part, PartDone],
    bar: progress.Bar,
) -> Outcome | None:
    """Stream these parts and carry the wanted clips in them to their places."""
    listed = run.scratch / f"wanted-{next(run.numbers)}.txt"
    listed.write_text("".join(f"{key}\n" for key in left), "ascii")
    fresh = (PartTask(part=part, spec=spec, options=options, wanted=listed, folder=run.folder()) for part in parts)
    schedule = Schedule[Task](fresh, run.rules)
    handed: set[str] = set()

    def took(ended: list[tuple[Task, Done | Failed]]) -> Outcome | None:
        blocked: Outcome | None = None
        clips: list[tuple[Task, ClipDone]] = []
        for task, result in ended:
            if isinstance(task, ClipTask):
                clips.append((task, _done(task, result)))
                continue
            done = _part_done(task, result)
            run.tally.seconds["fetch"] += done.seconds
            for key, fetched in done.clips:
                if key not in handed and key in left:
                    handed.add(key)
                    schedule.push(
                        ClipTask(
                            clip=left[key],
                            spec=spec,
                            options=options,
                            fetched=fetched,
                            out=run.out,
                            scratch=run.scratch,
                            folder=run.folder(),
                            min_coverage=run.min_coverage,
                            timeout_seconds=run.timeout_seconds,
                        )
                    )
                elif fetched.path is not None:
                    fetched.path.unlink(missing_ok=True)
            final = schedule.took(task, done.status, time.monotonic())
            if done.status.kind in (Kind.OK, Kind.PERMANENT):
                run.ledger.record_part(
                    storable(spec), task.part.name, PartEntry(status=done.status, detail=done.detail, keys=done.keys)
                )
            broken.pop(task.part, None)
            if done.status is not Status.OK:
                broken[task.part] = done
                if final or schedule.ended:
                    progress.log.warning("%s: %s", done.status, done.detail)
                if schedule.ended:
                    clip = next(iter(left.values()))
                    blocked = Outcome(clip=clip, status=done.status, detail=done.detail, source=spec)
        return _took_clips(run, schedule, clips, bar) or blocked

    return _drive(run, schedule, took, ahead=run.pool.workers)


def _settle_rest(
    run: Run,
    spec: str,
    version: str,
    wanted: dict[str, Clip],
    parts: Sequence[Part],
    broken: dict[Part, PartDone],
    bar: progress.Bar,
) -> None:
    """Say of the clips that no part gave that the source has none, or which broken part may have held them."""
    told = set[str]()
    for entry in run.ledger.parts(storable(spec)).values():
        told |= entry.keys
    worst = sorted(
        ((part, done) for part, done in broken.items() if part in parts),
        key=lambda each: each[1].status.kind is Kind.PERMANENT,
    )
    rest: list[Outcome] = []
    for key, clip in wanted.items():
        if key in run.standing.ok or key in told:
            continue
        done = next((done for part, done in worst if part.split in (None, clip.split)), None)
        if done is None:
            rest.append(_absent(clip, spec, version))
        else:
            tools = versions(version)
            rest.append(Outcome(clip=clip, status=done.status, detail=done.detail, source=spec, tool_versions=tools))
    _record_absent(run, spec, rest, bar)


def _drive(
    run: Run,
    schedule: Schedule[Task],
    took: Callable[[list[tuple[Task, Done | Failed]]], Outcome | None],
    *,
    ahead: int,
) -> Outcome | None:
    """Hand out what may be asked now and take what has ended, until nothing is left or nothing can be had."""
    paused_until = schedule.breaker.probe_at
    blocked: Outcome | None = None
    while not run.stop and not schedule.ended:
        while run.pool.busy < ahead and (task := schedule.next(time.monotonic())) is not None:
            run.pool.submit(task, timeout_seconds=CLIP_SECONDS if isinstance(task, ClipTask) else PART_SECONDS)
        if not run.pool.busy and schedule.empty:
            return None
        blocked = took(run.pool.finished(SECONDS_BETWEEN_LOOKS)) or blocked
        if schedule.breaker.probe_at != paused_until:
            paused_until = schedule.breaker.probe_at
            _tell_pause(schedule, blocked)
    while ended := run.pool.finished(0):  # what is done is not done again
        blocked = took(ended) or blocked
    return blocked if schedule.ended else None


def _tell_pause(schedule: Schedule[Task], blocked: Outcome | None) -> None:
    breaker = schedule.breaker
    if breaker.paused and not breaker.gave_up:
        minutes = max(0.0, breaker.probe_at - time.monotonic()) / 60
        told = f"{blocked.status}: {blocked.detail}" if blocked else "the network fails"
        progress.log.warning("paused, since it refuses (%s); one clip is tried in %.1f minutes", told, minutes)
    elif not breaker.paused:
        progress.log.warning("it answers again: going on")


def _took_clips(
    run: Run, schedule: Schedule[Task], ended: Sequence[tuple[Task, ClipDone]], bar: progress.Bar
) -> Outcome | None:
    """Record what became of clips; returns the last one that was refused, if any was."""
    run.ledger.record(done.outcome for _, done in ended)
    refused: Outcome | None = None
    for task, done in ended:
        outcome = done.outcome
        final = schedule.took(task, outcome.status, time.monotonic(), requests=done.requests)
        for stage, took in done.seconds.items():
            run.tally.seconds[stage] += took
        run.tally.counts.update(tries=1, clips=int(final), requests=done.requests, bytes=done.bytes)
        if outcome.media is not None:
            run.standing.ok.add(outcome.clip.key)
        if outcome.status.kind is Kind.STOP or outcome.status is Status.NETWORK:
            refused = outcome
        if final:
            bar.advance(outcome.status)
            if isinstance(task, ClipTask) and task.fetched is not None and task.fetched.path is not None:
                task.fetched.path.unlink(missing_ok=True)
    return refused


def _done(task: Task, result: Any) -> ClipDone:  # noqa: ANN401 - whatever came of it
    """A clip's result, or what its failure means for it."""
    if not isinstance(task, ClipTask):
        raise TypeError(f"{task} is no clip's")
    if isinstance(result, ClipDone):
        return result
    status, detail = _failure(task, result)
    outcome = Outcome(clip=task.clip, status=status, detail=detail, source=task.spec, tool_versions=versions())
    return ClipDone(outcome=outcome)


def _part_done(task: PartTask, result: Any) -> PartDone:  # noqa: ANN401 - whatever came of it
    if isinstance(result, PartDone):
        return result
    status, detail = _failure(task, result)
    return PartDone(status=status, detail=f"part {task.part.name}: {detail}")


def _failure(task: Task, failed: Failed) -> tuple[Status, str]:
    shutil.rmtree(task.folder, ignore_errors=True)
    if failed.cause is Cause.RAISED:
        progress.log.warning("a bug, please report it: %s", failed.detail)
    return (Status.TIMEOUT if failed.cause is Cause.TIMED_OUT else Status.CRASHED), failed.detail


def _absent(clip: Clip, spec: str, version: str) -> Outcome:
    return Outcome(
        clip=clip, status=Status.NOT_IN_SOURCE, detail="has no file of it", source=spec, tool_versions=versions(version)
    )


def _record_absent(run: Run, spec: str, outcomes: Sequence[Outcome], bar: progress.Bar) -> None:
    """Record what needed no worker, but for what the ledger says already."""
    absent = run.standing.absent[storable(spec)]
    news = [each for each in outcomes if each.status is not Status.NOT_IN_SOURCE or each.clip.key not in absent]
    run.ledger.record(news)
    for outcome in outcomes:
        bar.advance(outcome.status)
        run.tally.counts["clips"] += 1
