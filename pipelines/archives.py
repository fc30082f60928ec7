"""A source's turn where its clips lie in archives: each that may hold a wanting clip is read once, replacements first."""

import shutil
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from kinetics_sounds import progress
from kinetics_sounds.clip import SPLITS, Clip, Kind, Outcome, Status
from kinetics_sounds.ledger import PartEntry, name_of
from kinetics_sounds.sources import Archive, Part

from .executors import Failed
from .rounds import Blocked, Done, Ended, Run, Task, Turn, clip_done, drive, failure, took_clips
from .schedule import Schedule
from .tasks import ClipDone, ClipTask, PartDone, PartTask, versions

_UNMENDED = "the archive of replacements could not be read, and it may hold a sound copy: once it can, build again with"


def ask_archive(run: Run, spec: str, source: Archive, options: object, clips: Sequence[Clip]) -> Blocked | None:
    """Stream the archives that may hold the clips; returns why that ended early, if it did.

    Raises SourceError where the archives cannot be told.
    """
    parts = source.parts(sorted({clip.split for clip in clips}))
    with progress.bar(f"ks-build {name_of(spec)}", len(clips)) as bar:
        turn = Turn(run=run, spec=spec, options=options, tools=versions(source.versions), bar=bar)
        reading = _Reading(turn, clips, parts)
        for replacement in (True, False):
            blocked = reading.read([part for part in parts if part.replacement is replacement])
            if blocked is not None or run.stop:
                return blocked
        reading.settle_rest()
    return None


def unread(
    parts: Sequence[Part], known: Mapping[str, PartEntry], left: Collection[str], again: Collection[str]
) -> list[Part]:
    """The parts that may hold more than what is known of them, or are known to hold a key that is wanting."""

    def asked(part: Part) -> bool:
        entry = known.get(part.name)
        if entry is None or (entry.status is not Status.OK and (entry.status in again or entry.status.kind in again)):
            return True
        return not entry.keys.isdisjoint(left)

    return [part for part in parts if asked(part)] if left else []


class _Reading:
    """Which parts are read, what they gave, and what is left to be said of each clip."""

    def __init__(self, turn: Turn, clips: Sequence[Clip], parts: Sequence[Part]) -> None:
        self.turn, self.run = turn, turn.run
        self.wanted = {clip.key: clip for clip in clips}
        self.known = self.run.ledger.parts(turn.spec)
        self.broken: dict[Part, tuple[Status, str]] = {}
        for part in parts:
            entry = self.known.get(part.name)
            if entry is not None and entry.status is not Status.OK:
                self.broken[part] = (entry.status, entry.detail)
        self.said: dict[str, Outcome] = {}  # of the clips that are not ok
        self.filled: set[Path] = set()  # folders with clips that are to be cut

    def read(self, parts: Sequence[Part]) -> Blocked | None:
        """Stream those of the parts that may hold a wanting clip, and carry the wanted clips to their places."""
        left = {key: clip for key, clip in self.wanted.items() if key not in self.run.standing.ok}
        chosen = unread(parts, self.known, left, self.run.again)
        if not chosen:
            return None
        spec, options = self.turn.spec, self.turn.options
        progress.log.info("%s: %d of %d parts to read for %d clips", name_of(spec), len(chosen), len(parts), len(left))
        listed = self.run.folder().with_suffix(".txt")
        listed.write_text("".join(f"{key}\n" for key in left), "ascii")
        tasks = (
            PartTask(part=part, spec=spec, options=options, wanted=listed, folder=self.run.folder()) for part in chosen
        )
        asked, here = Schedule[Task](tasks, self.run.rules), Schedule[Task]((), self.run.rules)

        def took(ended: Ended) -> Blocked | None:
            blocked: Blocked | None = None
            clips: list[tuple[ClipTask, ClipDone]] = []
            for task, result in ended:
                if isinstance(task, PartTask):
                    done = self._part_done(task, result)
                    self._hand_on(done, left, here)
                    blocked = self._took_part(task, done, asked) or blocked
                else:
                    clips.append(clip_done(task, result))
            return self._took_clips(clips, here) or blocked

        return drive(self.run, [here, asked], took, ahead=self.run.pool.workers)

    def _part_done(self, task: PartTask, result: Done | Failed) -> PartDone:
        """A part's result, or what its failure means for it."""
        if isinstance(result, PartDone):
            return result
        if isinstance(result, ClipDone):
            raise TypeError(f"{task}: is no clip's")
        for folder in task.folder.glob("*"):
            if folder not in self.filled:  # by an earlier try
                shutil.rmtree(folder, ignore_errors=True)
        return PartDone(status=failure(result), detail=f"part {task.part.name}: {result.detail}")

    def _hand_on(self, done: PartDone, left: dict[str, Clip], here: Schedule[Task]) -> None:
        """Have the clips cut that a part gave; `left` loses them, since another part may hold the same."""
        for key, fetched in done.clips:
            clip = left.pop(key, None)
            if clip is not None:
                here.add(self.turn.task(clip, fetched=fetched))
                if fetched.path is not None:
                    self.filled.add(fetched.path.parent)
            elif fetched.path is not None:
                fetched.path.unlink(missing_ok=True)

    def _took_part(self, task: PartTask, done: PartDone, asked: Schedule[Task]) -> Blocked | None:
        """Keep what is known of a part now; returns its refusal, if it was one."""
        self.run.tally.seconds["fetch"] += done.seconds
        final = asked.took(task, done.status, time.monotonic())
        self.broken.pop(task.part, None)
        if done.status is not Status.OK:
            self.broken[task.part] = (done.status, done.detail)
            if final:
                progress.log.warning("%s: %s", done.status, done.detail)
        if done.status.kind in (Kind.OK, Kind.PERMANENT):
            entry = PartEntry(status=done.status, detail=done.detail, keys=done.keys)
            self.run.ledger.record_part(self.turn.spec, task.part.name, entry)
        refused = done.status.kind is Kind.STOP or done.status is Status.NETWORK
        return Blocked(done.status, done.detail) if refused else None

    def _took_clips(self, ended: Sequence[tuple[ClipTask, ClipDone]], here: Schedule[Task]) -> Blocked | None:
        self.said.update((task.clip.key, done.outcome) for task, done in ended)
        return took_clips(self.turn, here, ended)

    def settle_rest(self) -> None:
        """Say of the clips that no part gave that there are none, or which broken part may hold them."""
        worst = sorted(self.broken.items(), key=lambda each: each[1][0].kind is Kind.PERMANENT)
        suspects = {
            split: next((word for part, word in worst if part.split in (None, split)), None) for split in SPLITS
        }
        rest: list[Outcome] = []
        for key, clip in self.wanted.items():
            if key not in self.said and key not in self.run.standing.ok:
                word = suspects[clip.split]
                rest.append(self.turn.said(clip, *word) if word else self.turn.absent(clip))
        self.turn.settle(rest)
        if any(part.replacement and status.kind is not Kind.PERMANENT for part, (status, _) in worst):
            self.run.ledger.record(
                replace(said, detail=f"{said.detail}; {_UNMENDED} --retry {said.status}")
                for said in self.said.values()
                if said.status.kind is Kind.PERMANENT
            )
