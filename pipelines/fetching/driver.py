"""Ask one source after the other for the pending clips; every result is recorded in the ledger at once.

Here a source is asked clip by clip; `archive_driver` handles archives.
"""

import itertools
import shutil
import time
import uuid
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from kinetics_sounds import progress
from kinetics_sounds.address import Address
from kinetics_sounds.clip import Clip, FetchResult, Outcome, Status, label_folder
from kinetics_sounds.command import Stop
from kinetics_sounds.ledger import Ledger, name_of
from kinetics_sounds.sources import OnDisk, Source, advice

from ..executors import AHEAD, SECONDS_BETWEEN_LOOKS, Cause, Failed, Pool
from .build_state import BuildState, candidates, found_before
from .task import ClipDone, ClipTask, PartDone, PartTask
from .throttle import RetryPolicy, Schedule
from .worker import versions

CLIP_SECONDS = 1800.0
"""A clip's whole task is killed after this many seconds; its steps have shorter limits."""
PART_SECONDS = 7 * 3600.0
"""A reading of an archive is killed after this many seconds, plus twice those that the reading before it took.

It ends sooner by itself: after `READ_SECONDS` of `archives.reader` and a last member, or on a connection that stalls.
"""
BATCH = 1000
"""Number of outcomes without a worker recorded at a time."""
Task = ClipTask | PartTask
Done = ClipDone | PartDone
Ended = list[tuple[Task, Done | Failed]]


@dataclass(frozen=True, slots=True)
class RunStats:
    """Time and traffic of a run."""

    seconds: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    """Worker time by stage, in seconds."""
    counts: Counter[str] = field(default_factory=Counter)
    """`tries`, `requests` and downloaded `bytes`."""
    keys: set[str] = field(default_factory=set)
    """Keys of the clips with a final result from a source."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """State shared by all source passes of a run."""

    out: Path
    scratch: Path
    ledger: Ledger
    pool: Pool[Task, Done]
    stop: Stop
    standing: BuildState
    stats: RunStats
    again: frozenset[str]
    """Kinds and statuses to retry."""
    rules: RetryPolicy
    min_coverage: float
    timeout_seconds: float
    on_disk: tuple[OnDisk, ...] = ()
    """Sources of local files, which belong to the user."""
    shared: frozenset[str] = frozenset()
    """IDs of videos with several requested clips."""
    numbers: Iterator[int] = field(default_factory=itertools.count)
    name: str = field(default_factory=lambda: uuid.uuid4().hex[:8])
    """Unique to this run: a worker of a killed run may still be active."""

    def folder(self) -> Path:
        """A unique folder for a task."""
        return self.scratch / f"{self.name}-{next(self.numbers):08d}"


@dataclass(frozen=True, slots=True)
class StopReason:
    """Why a run ended early."""

    status: Status
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SourcePass:
    """One source's pass in a run."""

    run: Run
    spec: Address
    """The source's `--source` text."""
    options: object
    """The source's own options."""
    tools: str
    """Names and versions of the tools that make its clips."""
    bar: progress.Bar

    def task(
        self,
        clip: Clip,
        *,
        locations: Sequence[str] = (),
        ambiguous: bool = False,
        fetched: FetchResult | None = None,
    ) -> ClipTask:
        """Task for a clip with candidate locations, or an already fetched file."""
        known = self.run.standing
        return ClipTask(
            clip=clip,
            spec=self.spec,
            options=self.options,
            locations=tuple(locations),
            ambiguous=ambiguous,
            fetched=fetched,
            out=self.run.out,
            scratch=self.run.scratch,
            folder=self.run.folder(),
            kept=(
                *(place for source in self.run.on_disk for place in candidates(known, source, clip)),
                *self._occupied(clip),
            ),
            only_clip=clip.youtube_id not in self.run.shared,
            min_coverage=self.run.min_coverage,
            timeout_seconds=self.run.timeout_seconds,
        )

    def _occupied(self, clip: Clip) -> Iterator[str]:
        """The user's own file at a clip's path, if an earlier run found one."""
        known = self.run.standing
        if clip.key in known.occupied and clip.key not in known.made:
            yield from map(str, (self.run.out / "clips" / label_folder(clip.label)).glob(f"{clip.key}.*"))

    def outcome(self, clip: Clip, status: Status, detail: str) -> Outcome:
        """Outcome reported by the source without a worker."""
        return Outcome(clip=clip, status=status, detail=detail, source=str(self.spec), tool_versions=self.tools)

    def absent(self, clip: Clip, near_miss: str = "") -> Outcome:
        """Outcome of a clip that the source does not have."""
        return self.outcome(clip, Status.NOT_IN_SOURCE, near_miss or "no file for this clip")

    def record_final(self, outcomes: Sequence[Outcome]) -> None:
        """Record final outcomes that needed no worker, unless the ledger has them already."""
        absent = self.run.standing.absent[name_of(self.spec)]
        self.run.ledger.record(
            each for each in outcomes if each.status is not Status.NOT_IN_SOURCE or each.clip.key not in absent
        )
        for outcome in outcomes:
            self.bar.advance(outcome.status)
            self.run.stats.keys.add(outcome.clip.key)


def ask(run: Run, spec: Address, source: Source, options: object, clips: Sequence[Clip]) -> StopReason | None:
    """Ask a source clip by clip; returns why that ended early, if it did."""
    rules = replace(run.rules, videos_per_hour=source.videos_per_hour, requests_per_hour=source.requests_per_hour)
    limited = source.videos_per_hour is not None or source.requests_per_hour is not None
    with progress.bar(f"ks-build {name_of(spec)}", len(clips)) as bar:
        turn = SourcePass(run=run, spec=spec, options=options, tools=versions(source.versions), bar=bar)
        asked = Schedule[Task](_tasks(turn, source, clips), rules)

        def on_result(ended: Ended) -> StopReason | None:
            return record_clips(turn, asked, [clip_done(*each) for each in ended])

        return drive(run, [asked], on_result, ahead=run.pool.workers * (1 if limited else AHEAD))


def _tasks(turn: SourcePass, source: Source, clips: Sequence[Clip]) -> Iterator[Task]:
    """A task per clip that the source may have; the others are recorded along the way."""
    absent: list[Outcome] = []
    near_misses: list[str] = []
    known = turn.run.standing
    on_disk = source if isinstance(source, OnDisk) else None
    ambiguous, said = on_disk.ambiguous(clips) if on_disk else (frozenset[str](), "")
    if said:
        progress.log.warning("%s: %s", name_of(turn.spec), said)
    found = found_before(known, turn.spec)
    for clip in clips:
        if locations := candidates(known, source, clip):
            found += 1
            yield turn.task(clip, locations=locations, ambiguous=clip.key in ambiguous and len(locations) > 1)
            continue
        if near_miss := on_disk.near_miss(clip) if on_disk else "":
            near_misses.append(near_miss)
        absent.append(turn.absent(clip, near_miss))
        if len(absent) == BATCH:
            turn.record_final(absent)
            absent.clear()
    turn.record_final(absent)
    for line in _folder_advice(on_disk, near_misses, found=found) if on_disk else ():
        progress.log.warning("%s: %s", name_of(turn.spec), line)


def _folder_advice(source: OnDisk, near_misses: Sequence[str], *, found: int) -> list[str]:
    """Hints about missing clips of a folder."""
    files, first = (0, ()) if found else source.seen()
    return advice(near_misses, found=found, files=files, first=first, patterns=source.patterns)


def drive(
    run: Run, schedules: Sequence[Schedule[Task]], on_result: Callable[[Ended], StopReason | None], *, ahead: int
) -> StopReason | None:
    """Submit tasks and collect results, until nothing is left or nothing can be fetched.

    Earlier schedules take precedence. `on_result` processes a result and returns the reason if the source refused.
    """
    paused_until = {id(schedule): schedule.breaker.probe_at for schedule in schedules}
    blocked: StopReason | None = None
    while not run.stop and not any(schedule.ended for schedule in schedules):
        while run.pool.busy < ahead and (task := _next(schedules)) is not None:
            seconds = CLIP_SECONDS if isinstance(task, ClipTask) else PART_SECONDS + 2 * task.seconds
            run.pool.submit(task, timeout_seconds=seconds)
        if not run.pool.busy and all(schedule.empty for schedule in schedules):
            return None
        blocked = on_result(run.pool.finished(SECONDS_BETWEEN_LOOKS)) or blocked
        for schedule in schedules:
            if schedule.breaker.probe_at != paused_until[id(schedule)]:
                paused_until[id(schedule)] = schedule.breaker.probe_at
                _log_pause(schedule, blocked)
    while ended := run.pool.finished(0):  # what is done is not done again
        blocked = on_result(ended) or blocked
    return blocked if any(schedule.ended for schedule in schedules) else None


def _next(schedules: Iterable[Schedule[Task]]) -> Task | None:
    now = time.monotonic()
    return next((task for schedule in schedules if (task := schedule.next(now)) is not None), None)


def _log_pause(schedule: Schedule[Task], blocked: StopReason | None) -> None:
    breaker = schedule.breaker
    if not breaker.paused:
        progress.log.warning("the source responds again: resuming")
    elif not breaker.gave_up and blocked is not None:
        minutes = max(0.0, breaker.probe_at - time.monotonic()) / 60
        said = f"{blocked.status}: {blocked.detail}"
        progress.log.warning("paused, the source refuses requests (%s); next attempt in %.1f minutes", said, minutes)


def record_clips(
    turn: SourcePass, schedule: Schedule[Task], ended: Sequence[tuple[ClipTask, ClipDone]]
) -> StopReason | None:
    """Record the results of clips, and delete files from archives; returns the last refusal, if any."""
    run = turn.run
    run.ledger.record(done.outcome for _, done in ended)
    blocked: StopReason | None = None
    for task, done in ended:
        outcome = done.outcome
        now = time.monotonic()
        final = schedule.on_result(task, outcome.status, now, requests=done.requests, reached=done.reached)
        for stage, seconds in done.seconds.items():
            run.stats.seconds[stage] += seconds
        run.stats.counts.update(tries=1, requests=done.requests, bytes=done.bytes)
        if outcome.media is not None:
            run.standing.ok[outcome.clip.key] = name_of(outcome.source)
        if outcome.status.is_blocking and not (outcome.status.is_outage and done.reached):
            blocked = StopReason(outcome.status, outcome.detail)
        if final:
            run.stats.keys.add(outcome.clip.key)
            turn.bar.advance(outcome.status)
            if task.fetched is not None and task.fetched.path is not None:
                task.fetched.path.unlink(missing_ok=True)
    return blocked


def clip_done(task: Task, result: Done | Failed) -> tuple[ClipTask, ClipDone]:
    """A clip's task with its result, or with the meaning of its failure."""
    if not isinstance(task, ClipTask) or isinstance(result, PartDone):
        raise TypeError(f"{task}: is not a clip's")
    if isinstance(result, ClipDone):
        return task, result
    shutil.rmtree(task.folder, ignore_errors=True)
    outcome = Outcome(
        clip=task.clip, status=failure(result), detail=result.detail, source=str(task.spec), tool_versions=versions()
    )
    return task, ClipDone(outcome=outcome)


def failure(failed: Failed) -> Status:
    """Status for a failed task."""
    if failed.cause is Cause.RAISED:
        progress.log.warning("a bug, please report it: %s", failed.trace or failed.detail)
    return Status.TIMEOUT if failed.cause is Cause.TIMED_OUT else Status.CRASHED
