"""The manifest of a data set: each file that its lists name is decoded once, measured, and linked beside the manifest.

A ledger keeps what was measured, so that a stopped run goes on where it was.
"""

import contextlib
import dataclasses
import errno
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from kinetics_sounds import datasets, files, manifest, progress
from kinetics_sounds.classes import ClassList, nearly_same_text
from kinetics_sounds.clip import Clip, Media, Outcome, Status, label_folder
from kinetics_sounds.command import Stop
from kinetics_sounds.datasets import Listing
from kinetics_sounds.errors import ListError, SettingsError
from kinetics_sounds.folders import first_free
from kinetics_sounds.ledger import Entry, Ledger
from kinetics_sounds.media import encode
from kinetics_sounds.quantities import first_lines
from kinetics_sounds.shards import layout

from .. import attempts, executors
from ..attempts import TASK_SECONDS, Refused
from .dataset_report import Written
from .job import modality
from .measure_file import Task, spanned

MOST_LETTERS = 100
"""Maximum length of a file's name in a message that is about its length."""
RECORDED = 64
"""Number of outcomes recorded at a time."""
Pool = executors.Pool[Task, Outcome | Refused]


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A data set to be packed."""

    name: str
    folder: Path
    """The data set's own folder, which is only read."""
    path: Path
    """The manifest to write; links to the files are made beside it."""
    is_given: bool
    """Whether the user gave it; else it is the default of the data set."""
    modality: encode.Modality | None
    """What to store; None: what the papers use of the data set."""
    check_bytes: bool
    """Whether a file was measured before only if its SHA-256 is the same; else its size decides."""
    timeout_seconds: float

    @property
    def source(self) -> str:
        """Source of its files in ledger and manifest."""
        return f"{self.name}:{files.as_text(self.folder.absolute())}"

    @property
    def elsewhere(self) -> str:
        """The option for a manifest of its own."""
        place = Path("data", label_folder(self.folder.absolute().name))
        return f"--manifest {first_free(place, lambda each: each.absolute() != self.path.parent.absolute())}"


def write(
    asked: Asked,
    start: Callable[[Path], Pool],
    *,
    workers: int,
    stop: Stop,
    check: Callable[[manifest.Manifest], None] = lambda _: None,
) -> Written | None:
    """Write the manifest of a data set; None if it was stopped before.

    `start` starts a pool for `measure_file.attempt` with a folder for temporary files. `check` raises for a manifest that must
    not take the place of the one that is there, before any link or row is written. Raises ListError or SettingsError for wrong
    lists, a folder without the files, or a manifest of something else in its place.
    """
    reader = datasets.load(asked.name)
    wanted = asked.modality or reader.MODALITY
    before = _check(asked, wanted)
    listing = reader.read(asked.folder.absolute())
    datasets.check(listing)
    if not listing.has_lists and (told := nearly_same_text(Counter(row.label for row in listing.rows))):
        progress.log.warning("%s: %s", asked.folder, told)
    build = asked.path.parent.absolute()
    with files.exclusive(build, command="ks-shard"), files.scratch(build) as scratch:
        tasks = _tasks(asked, listing, wanted, scratch)
        if before is not None:
            _check_kept(asked, listing.labels, tasks, before)
        missing = {task.clip.key for task, there in files.in_threads(_is_there, tasks) if not there}
        if len(missing) == len(tasks):
            raise ListError(
                f"{asked.folder}: has none of the {len(tasks)} files in its lists, such as {datasets.named([str(tasks[0].file)])}"
            )
        with Ledger(build / "ledger.sqlite") as ledger:
            found = _measured(
                asked, [task for task in tasks if task.clip.key not in missing], ledger, start, workers, stop
            )
        if found is None:
            return None
        for task in tasks:
            if task.clip.key in missing:
                told = f"{asked.folder}: has no such file"
                found[task.clip.key] = Outcome(
                    clip=task.clip, status=Status.NOT_IN_SOURCE, detail=told, source=asked.source
                )
        place = {label: number for number, label in enumerate(listing.labels)}
        outcomes = sorted(
            found.values(),
            key=lambda each: (layout.SPLITS.index(each.clip.split), place[each.clip.label], each.clip.key),
        )
        classes = ClassList(asked.name, listing.labels)
        check(manifest.Manifest(classes, tuple(outcomes), listing.folds))
        there = (task for task in tasks if found[task.clip.key].media is not None)
        for _ in files.in_threads(lambda task: _link(task.file, build / task.path), there):
            pass
        manifest.write(asked.path, classes, outcomes, folds=listing.folds)
    return Written(listing, tuple(outcomes), wanted)


def _check(asked: Asked, wanted: encode.Modality) -> manifest.Manifest | None:
    """The manifest that is there; raises SettingsError for one of another data set or modality, or a folder that is missing."""
    if not asked.folder.is_dir():
        raise SettingsError(f"--folder {asked.folder}: is not a folder; give that of {asked.name} as it ships")
    if asked.path.suffix.lower() == ".csv":
        other = asked.path.with_suffix(".parquet")
        raise SettingsError(f"--manifest {asked.path}: a CSV copy is written beside the manifest; give {other}")
    if asked.path.is_file():
        there = manifest.read(asked.path)
        if there.folds is None or there.classes.name != asked.name:
            what = "a build" if there.folds is None else there.classes.name
            raise SettingsError(f"{asked.path}: is the manifest of {what}; give another: {asked.elsewhere}")
        _check_folder(asked, there)
        stored = modality(there)
        if stored != wanted and any(each.media for each in there.outcomes):
            raise SettingsError(
                f"{asked.path}: is the manifest of {asked.name} with --modality {stored}, not {wanted}; give another: "
                f"--manifest data/{asked.name}_{wanted}"
            )
        return there
    return None


def _check_folder(asked: Asked, before: manifest.Manifest) -> None:
    """Raise SettingsError if no manifest is given, and the one that is there is of another folder."""
    if asked.is_given:
        return
    ours = files.as_text(os.path.realpath(asked.folder))
    for theirs in {each.source.removeprefix(f"{asked.name}:") for each in before.outcomes}:
        if os.path.realpath(theirs) != ours:
            raise SettingsError(
                f"{asked.path}: is the manifest of the folder {theirs}, not of {asked.folder.absolute()}; give another: "
                f"{asked.elsewhere}; or, if that folder was moved: --manifest {asked.path.parent}"
            )


def _check_kept(asked: Asked, labels: tuple[str, ...], tasks: Sequence[Task], before: manifest.Manifest) -> None:
    """Raise SettingsError if the manifest that is there is of another folder, with clips or classes that this one lacks.

    Its shards may lie anywhere, and would lose their manifest. A data set that was only moved is the same: its files have the
    same sizes. None is read here, which would take hours for Kinetics.
    """
    others = sorted({each.source for each in before.outcomes} - {asked.source})
    if not others:
        return
    theirs = {task.clip.key: task for task in tasks}

    def is_lost(clip: Clip, media: Media) -> bool:
        task = theirs.get(clip.key)
        if task is None or dataclasses.replace(task.clip, time_end=clip.time_end) != clip:
            return True
        return bool(files.difference(task.file, size=media.bytes))

    what = ""
    if before.classes.labels != labels:
        what = f"other classes ({len(before.classes.labels)}, from {others[0]}) than {asked.folder} has ({len(labels)})"
    else:
        there = [(each.clip, each.media) for each in before.outcomes if each.media is not None]
        lost = (clip.key for (clip, _), differs in files.in_threads(lambda row: is_lost(*row), there) if differs)
        if (key := next(lost, None)) is not None:
            what = f"another folder ({others[0]}), whose {key} is not in {asked.folder}, or has another size, label or fold there"
    if what:
        raise SettingsError(f"{asked.path}: is the manifest of {what}; give another: {asked.elsewhere}")


def _is_there(task: Task) -> bool:
    try:
        return task.file.is_file()
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise
        told = f"{files.as_text(task.file.name)[:MOST_LETTERS]!r}…"
        raise ListError(
            f"the lists name the file {told}, which is longer than the disk allows; fix the list"
        ) from error


def _tasks(asked: Asked, listing: Listing, modality: encode.Modality, scratch: Path) -> list[Task]:
    """A task for each file of the lists, there or not."""
    tasks, wrong = list[Task](), list[str]()
    for row, key in zip(listing.rows, datasets.keys(listing.rows), strict=True):
        try:
            clip = Clip("", 0, 1, row.label, row.split, name=key, group=row.group, folds=row.folds)
        except ValueError as error:
            wrong.append(f"{asked.folder}: {datasets.named([row.path])}: {error}")
            continue
        suffix = Path(row.path).suffix.lower()
        tasks.append(
            Task(
                clip=clip,
                file=asked.folder.absolute() / row.path,
                path=f"clips/{label_folder(row.label)}/{key}{suffix}",
                modality=modality,
                timeout_seconds=asked.timeout_seconds,
                scratch=scratch,
            )
        )
    if wrong:
        raise ListError(first_lines(wrong))
    return tasks


def _measured(
    asked: Asked, tasks: Sequence[Task], ledger: Ledger, start: Callable[[Path], Pool], workers: int, stop: Stop
) -> dict[str, Outcome] | None:
    """Outcome of each file by key, from the ledger or measured now; None if it was stopped before all are."""
    known = {entry.key: entry for entry in ledger.latest() if entry.source == asked.source}
    outcomes: dict[str, Outcome] = {}
    for task, entry in files.in_threads(lambda task: _still_so(task, known, check_bytes=asked.check_bytes), tasks):
        if stop:
            return None
        if entry is not None and entry.media is not None:
            outcomes[task.clip.key] = entry.outcome(spanned(task.clip, entry.media))
    todo = [task for task in tasks if task.clip.key not in outcomes]
    if not todo:
        return outcomes
    fresh: list[Outcome] = []
    with (
        contextlib.closing(attempts.RetryOnce(lambda: start(todo[0].scratch), workers=workers)) as pool,
        progress.bar(f"ks-shard {asked.name}", len(tasks), done=len(outcomes)) as bar,
    ):
        for outcome in _results(pool, todo, stop):
            bar.advance(outcome.status)
            fresh.append(dataclasses.replace(outcome, source=asked.source))
            if len(fresh) % RECORDED == 0:
                ledger.record(fresh[-RECORDED:])
        ledger.record(fresh[len(fresh) - len(fresh) % RECORDED :])
    return None if stop else outcomes | {outcome.clip.key: outcome for outcome in fresh}


def _still_so(task: Task, known: dict[str, Entry], *, check_bytes: bool) -> Entry | None:
    """What was measured of a file by an earlier run, if it is still the same file and the same was asked for."""
    entry = known.get(task.clip.key)
    media = entry.media if entry else None
    if media is None or media.path != task.path:
        return None
    parts = {"video": (True, False), "audio": (False, True), "both": (True, True)}[task.modality]
    if (media.num_frames > 0, media.audio_rate > 0) != parts:
        return None
    return None if files.difference(task.file, size=media.bytes, digest=media.sha256 if check_bytes else "") else entry


def _results(pool: Pool, tasks: Sequence[Task], stop: Stop) -> Iterator[Outcome]:
    """Outcome of each task in order; what killed its worker twice is `crashed`.

    Raises StoppedError if the disk is full, and FaultError for a bug.
    """
    for task, result in executors.in_order(pool, tasks, timeout_seconds=TASK_SECONDS, stop=stop.__bool__):
        if isinstance(result, executors.Failed) and result.cause is not executors.Cause.RAISED:
            yield Outcome(clip=task.clip, status=Status.CRASHED, detail=result.detail)
            continue
        attempts.check(task.clip.key, result)
        if isinstance(result, Outcome):
            yield result


def _link(file: Path, place: Path) -> None:
    """Link a file to its place, replacing a link to another; raises SettingsError if a file of the user's lies there."""
    target = file.resolve()
    if place.is_symlink() and place.readlink() == target:
        return
    if place.exists() and not place.is_symlink():
        raise SettingsError(
            f"{place}: is a file of your own, where a link would go; move it away, or give a --manifest in another folder"
        )
    place.parent.mkdir(parents=True, exist_ok=True)
    part = place.with_name(f".{place.name}.{os.getpid()}.part")
    part.symlink_to(target)
    part.replace(place)
