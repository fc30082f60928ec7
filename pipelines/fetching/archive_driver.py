"""Process a source of archives: each that may hold a pending clip is read once, replacements first."""

import random
import shutil
import time
from collections import Counter, deque
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from kinetics_sounds import progress
from kinetics_sounds.address import Address
from kinetics_sounds.clip import Clip, FetchResult, Kind, Outcome, Status, Verdict
from kinetics_sounds.ledger import PartEntry, name_of
from kinetics_sounds.sources import TarPart, TarSource, UnreachableError

from ..executors import SECONDS_BETWEEN_LOOKS, Failed
from .driver import Done, Ended, Run, SourcePass, StopReason, Task, clip_done, drive, failure, record_clips
from .part_contents import hints, known_parts, near_misses, unread, wanted_of
from .task import ClipDone, ClipTask, PartDone, PartTask
from .throttle import CircuitBreaker, RetryPolicy, Schedule
from .worker import versions


def ask_archive(
    run: Run, spec: Address, source: TarSource, options: object, clips: Sequence[Clip]
) -> StopReason | None:
    """Stream the archives that may hold the clips; returns why that ended early, if it did.

    Raises SourceError if the archives cannot be listed and waiting will not help.
    """
    parts = _parts(run, spec, source, sorted({clip.split for clip in clips}))
    if isinstance(parts, StopReason) or run.stop:
        return parts if isinstance(parts, StopReason) else None
    with progress.bar(f"ks-build {name_of(spec)}", len(clips)) as bar:
        turn = SourcePass(run=run, spec=spec, options=options, tools=versions(source.versions), bar=bar)
        reading = _Reading(turn, source, clips, parts)
        for replacement in (True, False):
            blocked = reading.read([part for part in parts if part.replacement is replacement])
            if blocked is not None or run.stop:
                return blocked
        reading.record_final()
    return None


def _parts(run: Run, spec: Address, source: TarSource, splits: Sequence[str]) -> list[TarPart] | StopReason:
    """The archives, waiting while the source refuses; empty if the run is stopped meanwhile."""
    breaker = CircuitBreaker(run.rules.patience_seconds, random.Random())  # noqa: S311 - jitter, not a secret
    while not run.stop:
        try:
            return source.parts(splits)
        except UnreachableError as error:
            breaker.record_failure(time.monotonic())
            if breaker.gave_up:
                return StopReason(error.status, str(error))
            minutes = max(0.0, breaker.probe_at - time.monotonic()) / 60
            said = f"{name_of(spec)}: waiting for its list of archives ({error})"
            progress.log.warning("%s; the next attempt is in %.1f minutes", said, minutes)
        while not run.stop and (left := breaker.probe_at - time.monotonic()) > 0:
            time.sleep(min(left, SECONDS_BETWEEN_LOOKS))
    return []


class _Cuts(Schedule[Task]):
    """Schedule of the clips to trim; it follows how each task ended, whatever is recorded in the ledger."""

    def __init__(self, rules: RetryPolicy) -> None:
        super().__init__((), rules)
        self.ends: dict[Task, Status] = {}
        """Status of tasks that are recorded differently in the ledger."""
        self.over: deque[Task] = deque()
        """Tasks that will not be retried."""

    def on_result(self, task: Task, status: Status, now: float, **told: Any) -> bool:  # noqa: ANN401 - as it is handed on
        """Process a task's status, and queue the task if that was final."""
        final = super().on_result(task, self.ends.pop(task, status), now, **told)
        if final:
            self.over.append(task)
        return final


class _Reading:
    """Progress through the archives: parts read, their clips, and what remains to be recorded.

    A damaged clip is recorded as permanent only when every part that may hold another copy was read: until then a run that ends
    early leaves it to the next one.
    """

    def __init__(self, turn: SourcePass, source: TarSource, clips: Sequence[Clip], parts: Sequence[TarPart]) -> None:
        self.turn, self.source, self.run = turn, source, turn.run
        self.wanted = {clip.key: clip for clip in clips}
        self.known = known_parts(source, clips, self.run.ledger.parts(turn.spec))
        self.incomplete: dict[TarPart, tuple[Status, str]] = {}  # parts that may hold more than they gave, and why
        for part in parts:
            entry = self.known.get(part.name)
            if entry is None:
                self._expect(part)
            elif entry.status is not Status.OK:
                self.incomplete[part] = (entry.status, entry.detail)
        self.outcomes = self._earlier_outcomes()  # the latest of each clip that is not ok
        self.damaged: dict[str, Outcome] = {}  # what to say of a clip whose copies so far are no good
        self._restore()
        self.counted: set[str] = set()  # keys that the bar has counted
        self.copies: dict[
            str, deque[FetchResult]
        ] = {}  # of the clips that are being cut: those that wait behind the first
        self.filled: set[Path] = set()  # folders with clips that are to be cut

    def _expect(self, part: TarPart) -> None:
        self.incomplete[part] = (Status.NOT_TRIED, f"part {part.name} was not read yet")

    def _earlier_outcomes(self) -> dict[str, Outcome]:
        """Outcomes of earlier runs."""
        name = name_of(self.turn.spec)
        return {
            entry.key: entry.outcome(self.wanted[entry.key])
            for entry in self.run.ledger.latest()
            if entry.source == name and entry.media is None and entry.key in self.wanted
        }

    def _restore(self) -> None:
        """Restore the clips found damaged by earlier runs, so that their parts are not read again.

        Clips with copies in several parts are excluded: only one copy may have been tried.
        """
        for key, outcome in self.outcomes.items():
            found = outcome.provisional
            if found is None or found.status.is_named(self.run.again):
                continue
            if sum(key in entry.keys for entry in self.known.values()) < 2:
                self.damaged[key] = replace(outcome, status=found.status, detail=found.detail, provisional=None)

    def read(self, parts: Sequence[TarPart]) -> StopReason | None:
        """Stream those of the parts that may hold a pending clip, and process the requested clips."""
        left = [key for key in self.wanted if key not in self.run.standing.ok]
        chosen = unread(parts, self.known, left, self.run.again, self.damaged)
        if not chosen:
            return None
        for part in chosen:
            self._expect(part)
        spec, options = self.turn.spec, self.turn.options
        progress.log.info("%s: %d of %d parts to read for %d clips", name_of(spec), len(chosen), len(parts), len(left))
        listed = self.run.folder().with_suffix(".txt")
        wanted_of(self.source, (self.wanted[key] for key in left)).write(listed)
        tasks = (
            PartTask(part=part, spec=spec, options=options, wanted=listed, folder=self.run.folder()) for part in chosen
        )
        asked, here = Schedule[Task](tasks, self.run.rules), _Cuts(self.run.rules)

        def on_result(ended: Ended) -> StopReason | None:
            blocked: StopReason | None = None
            clips: list[tuple[ClipTask, ClipDone]] = []
            for task, result in ended:
                if isinstance(task, PartTask):
                    done = self._part_done(task, result)
                    self._schedule_trims(done, here)
                    blocked = self._record_part(task, done, asked) or blocked
                else:
                    clips.append(clip_done(task, result))
            return self._record_clips(clips, here) or blocked

        return drive(self.run, [here, asked], on_result, ahead=self.run.pool.workers)

    def _part_done(self, task: PartTask, result: Done | Failed) -> PartDone:
        """Result of a part, or the meaning of its failure."""
        if isinstance(result, PartDone):
            return result
        if isinstance(result, ClipDone):
            raise TypeError(f"{task}: is not a clip's")
        for folder in task.folder.glob("*"):
            if folder not in self.filled:  # by an earlier try
                shutil.rmtree(folder, ignore_errors=True)
        return PartDone(status=failure(result), detail=f"part {task.part.name}: {result.detail}")

    def _schedule_trims(self, done: PartDone, here: _Cuts) -> None:
        """Schedule the clips of a part for trimming; further copies of a clip in progress wait for its result."""
        for key, fetched in done.clips:
            if key not in self.wanted or key in self.run.standing.ok:
                _delete(fetched)
                continue
            if fetched.path is not None:
                self.filled.add(fetched.path.parent)
            if key in self.copies:
                self.copies[key].append(fetched)
            else:
                self._cut(key, fetched, deque(), here)

    def _cut(self, key: str, fetched: FetchResult, others: deque[FetchResult], here: _Cuts) -> None:
        self.copies[key] = others
        here.add(self.turn.task(self.wanted[key], fetched=fetched))

    def _record_part(self, task: PartTask, done: PartDone, asked: Schedule[Task]) -> StopReason | None:
        """Record what is known of a part; returns the reason if it was refused."""
        self.run.stats.seconds["fetch"] += done.seconds
        self.run.stats.counts["bytes"] += done.bytes
        if done.position:
            self._continue(task, done, asked)
            return None
        final = asked.on_result(task, Status.CORRUPT if done.lasts else done.status, time.monotonic())
        self.incomplete.pop(task.part, None)
        if done.status is not Status.OK:
            self.incomplete[task.part] = (done.status, done.detail)
            progress.log.warning("%s: %s%s", done.status, done.detail, "" if final else "; trying again")
        if done.status.kind in (Kind.OK, Kind.PERMANENT):
            entry = PartEntry(status=done.status, detail=done.detail, names=done.names)
            self.run.ledger.record_part(self.turn.spec, task.part.name, entry)
        return StopReason(done.status, done.detail) if done.status.is_blocking else None

    def _continue(self, task: PartTask, done: PartDone, asked: Schedule[Task]) -> None:
        """Schedule another reading of a part, from where this one ended; its clips so far are processed first."""
        asked.on_result(task, Status.OK, time.monotonic())
        self.incomplete[task.part] = (done.status, done.detail)
        part = replace(task.part, start=done.position)
        asked.add(replace(task, part=part, folder=self.run.folder(), seconds=done.seconds))
        progress.log.info("part %s: read to byte %d of the tar, which goes on", part.name, done.position)

    def _record_clips(self, ended: Iterable[tuple[ClipTask, ClipDone]], here: _Cuts) -> StopReason | None:
        """Record the results of copies, and schedule the next copy of each clip whose copy was unusable."""
        sure: list[tuple[ClipTask, ClipDone]] = []
        doubtful: list[tuple[ClipTask, ClipDone]] = []
        for task, done in ended:
            found = outcome = done.outcome
            self.damaged.pop(task.clip.key, None)
            if found.status.kind is Kind.PERMANENT:
                self.damaged[task.clip.key] = found
                outcome = self._provisional(found)
                here.ends[task] = found.status
            self.outcomes[task.clip.key] = outcome
            (sure if outcome is found else doubtful).append((task, replace(done, outcome=outcome)))
        record_clips(self.turn, here, doubtful)  # their refusals are those of parts, which are counted already
        blocked = record_clips(self.turn, here, sure)
        while here.over:
            self._next_copy(here.over.popleft(), here)
        return blocked

    def _next_copy(self, task: Task, here: _Cuts) -> None:
        """After a final result: schedule the clip's next copy if this one was unusable, else discard the others."""
        if not isinstance(task, ClipTask):
            raise TypeError(f"{task}: is not a clip's")
        key = task.clip.key
        self.counted.add(key)
        others = self.copies.pop(key)
        if key not in self.run.standing.ok and others:
            self._cut(key, others.popleft(), others, here)
            return
        for fetched in others:
            _delete(fetched)

    def _possible_part(self, clip: Clip) -> tuple[Status, str] | None:
        """Why a part may hold the clip although it was not found; parts that can still be read come first."""
        reasons = [reason for part, reason in self.incomplete.items() if part.split in (None, clip.split)]
        return min(reasons, key=lambda why: (why[0].kind is Kind.PERMANENT, why[0] is Status.NOT_TRIED), default=None)

    def _provisional(self, outcome: Outcome) -> Outcome:
        """Outcome of a damaged clip for now: provisional, if an unread part may hold another copy."""
        suspect = self._possible_part(outcome.clip)
        if suspect is None or suspect[0].kind is Kind.PERMANENT:
            return outcome
        status, why = suspect
        copy = "a sound copy may lie in an archive that was not read to its end"
        return replace(
            outcome,
            status=status if status.kind is Kind.RETRY else Status.NOT_TRIED,
            detail=f"{outcome.status}: {outcome.detail}; {copy}: {why}",
            provisional=Verdict(status=outcome.status, detail=outcome.detail),
        )

    def _missing_outcome(self, clip: Clip, near_miss: str) -> Outcome:
        """Outcome of a clip found in no part: not in the source, or which part may hold it."""
        suspect = self._possible_part(clip)
        if suspect is None:
            return self.turn.absent(clip, near_miss)
        status, detail = suspect
        if status.kind is Kind.PERMANENT:  # of the part and not of the clip
            return self.turn.outcome(clip, Status.NOT_IN_SOURCE, f"not found in the readable parts; {detail}")
        return self.turn.outcome(clip, status, detail)

    def record_final(self) -> None:
        """Record the final outcome of all clips that have none yet, and log hints about missing ones."""
        changed: list[Outcome] = []
        left = [
            key
            for key in self.wanted
            if key not in self.run.standing.ok and (key not in self.counted or key in self.damaged)
        ]
        near = self._near_misses([self.wanted[key] for key in left if key not in self.damaged])
        for key in left:
            clip = self.wanted[key]
            known = key in self.damaged
            outcome = self._provisional(self.damaged[key]) if known else self._missing_outcome(clip, near.get(key, ""))
            before = self.outcomes.get(key)
            if before is None or (before.status, before.detail) != (outcome.status, outcome.detail):
                changed.append(outcome)
            if key not in self.counted:
                self.turn.bar.advance(outcome.status)
                self.run.stats.keys.add(key)
        self.run.ledger.record(changed)

    def _near_misses(self, missing: Sequence[Clip]) -> dict[str, str]:
        """Files that seem to be those of missing clips; logs hints about them."""
        if not missing:
            return {}
        entries = self.run.ledger.parts(self.turn.spec)
        near = near_misses(self.source, missing, entries)
        name = name_of(self.turn.spec)
        found = Counter(self.run.standing.ok.values())[name] + len(self.counted) + len(self.damaged)
        for line in hints(self.source, list(near.values()), entries, found=found) if entries else ():
            progress.log.warning("%s: %s", name, line)
        return near


def _delete(fetched: FetchResult) -> None:
    if fetched.path is not None:
        fetched.path.unlink(missing_ok=True)
