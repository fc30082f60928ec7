"""ks-build: from a class list to clips on disk, with an outcome for every annotation."""

import contextlib
import errno
import json
import os
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from kinetics_sounds import __version__, annotations, classes, files, manifest, progress, sources
from kinetics_sounds.classes import ClassList
from kinetics_sounds.clip import SPLITS, Clip, Kind, Media, Outcome, Status, label_folder
from kinetics_sounds.errors import SettingsError
from kinetics_sounds.ledger import Entry, Ledger
from kinetics_sounds.manifest import Manifest
from kinetics_sounds.media import ffmpeg
from kinetics_sounds.settings import DONE, SOME_FAILED, STOPPED, Stop, choices, command, parse, stoppable

from .executors import local
from .stages.audit import audit, silent, still
from .stages.plan import plan
from .stages.trim import Trimmed, to_span

TASK_SECONDS = 1800.0
"""A clip's whole task is killed after this; its parts have shorter limits of their own."""
VIDEOS_PER_HOUR = 300
"""What YouTube lets one address have, for the estimate of a dry run."""
RETRIABLE = tuple(dict.fromkeys(each.value for each in (*Kind, *Status) if each.value != "ok"))
"""What `--retry` takes."""
CLIP_MEGABYTES = 1.5
"""Of a ten-second clip of 480 lines, for the estimate of a dry run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Build clips and their manifest from a class list. Run it again to go on where it stopped.

    Examples:
      ks-build --classes k100.txt
      ks-build --classes k32 --source local:/data/k400 --source youtube --workers 8
      ks-build --classes mine.txt --annotations val.csv --splits val --limit 20 --dry_run

    exit code: 0 every clip ok; 1 done, some clips have another status; 2 misuse; 3 stopped, run again.
    """

    classes: str
    """Class list: a text file with one Kinetics label a line, or a shipped name (k31, k32, k100, k400)."""
    annotations: tuple[str, ...] = ()
    """Kinetics CSVs, paths or URLs; default: the official Kinetics-400 lists of the splits asked for."""
    splits: str = "train,val,test"
    """Splits to build, separated by commas."""
    source: tuple[str, ...] = field(default=(), metadata={"repeat": True})
    """Where clips come from, tried in the order given; repeatable: local:DIR, youtube. Default: youtube."""
    out: Path | None = None
    """Folder of the build; default: data/NAME after the class list."""
    limit: int | None = None
    """At most this many clips a split, drawn by their keys."""
    per_class: int | None = None
    """At most this many clips a class and split, drawn by their keys."""
    workers: int = field(default_factory=lambda: os.cpu_count() or 1)
    """Processes; each uses one core."""
    min_coverage: float = 0.9
    """Share of the annotated span that picture and sound must each cover."""
    timeout: float = 300.0
    """Seconds that one ffmpeg run may take."""
    retry: str = "retry,stop"
    """What an earlier run left that is tried again: kinds (retry, stop, permanent) or statuses, separated by commas."""
    dry_run: bool = False
    """Only say what would be asked of which source, and what to expect."""
    json: bool = False
    """Print the report as JSON on standard output."""


@dataclass(frozen=True, slots=True)
class Task:
    """All that a worker needs for one clip."""

    clip: Clip
    places: tuple[tuple[str, str], ...]
    """Each source's `--source` text in the order given, and where in it the clip would be."""
    out: Path
    scratch: Path
    """An existing folder on the same file system as `out`."""
    min_coverage: float
    timeout_seconds: float


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of `ks-build`."""
    return command("ks-build", lambda: build(parse(Settings, argv, prog="ks-build").settings))


def build(settings: Settings) -> int:
    """Plan, process what is not done yet, and write manifest and report; returns the exit code."""
    _check(settings)
    class_list = classes.read(settings.classes)
    splits = choices(settings.splits, SPLITS, option="splits")
    out = settings.out or Path("data") / class_list.name
    say = sys.stderr if settings.json else sys.stdout
    note = f" ({class_list.note})" if class_list.note else ""
    print(f"classes: {class_list.name}, {len(class_list.labels)} labels{note}\nout: {out}", file=say)
    specs = settings.source or ("youtube",)
    asked = {spec: sources.load(spec) for spec in specs}
    lists = _lists(settings, splits, out)
    _check_classes(class_list, out)
    clips = plan(class_list, lists, splits=splits, limit=settings.limit, per_class=settings.per_class)
    print(f"annotations: {', '.join(map(str, lists))}: {len(clips)} clips\nsources: {', '.join(specs)}", file=say)
    if settings.dry_run:
        print(_forecast(clips, asked), file=say)
        return DONE
    for source in asked.values():
        if source.notice:
            print(source.notice, file=sys.stderr)
    began = time.monotonic()
    with (
        files.exclusive(out, command="ks-build"),
        Ledger(out / "ledger.sqlite") as ledger,
        stoppable(signal.SIGINT, signal.SIGTERM) as stop,
        files.scratch(out.absolute()) as scratch,
    ):
        known = ledger.latest()
        again = choices(settings.retry, RETRIABLE, option="retry")
        todo = [clip for clip in clips if not _settled(known.get(clip.key), out, again)]
        todo.sort(
            key=lambda clip: clip.key in known and known[clip.key].status.kind is Kind.STOP
        )  # it may be its own fault
        tasks = (_task(clip, asked, settings, out.absolute(), scratch) for clip in todo)
        blocked = _process(tasks, ledger, settings, stop, total=len(clips), done=len(clips) - len(todo))
        made = _manifest(class_list, clips, ledger.latest())
        manifest.write(out / "manifest.parquet", made)
        report = _report(made, seconds=time.monotonic() - began, processed=len(todo))
        files.write_bytes(out / "report.json", (json.dumps(report, indent=2) + "\n").encode())
    print(json.dumps(report) if settings.json else _summary(report, out, blocked))
    if stop or blocked:
        return STOPPED
    return DONE if all(outcome.status is Status.OK for outcome in made.outcomes) else SOME_FAILED


def _check(settings: Settings) -> None:
    for name in ("limit", "per_class", "workers", "timeout"):
        value = getattr(settings, name)
        if value is not None and value <= 0:
            raise SettingsError(f"--{name} {value}: must be more than 0")
    if not 0 <= settings.min_coverage <= 1:
        raise SettingsError(f"--min_coverage {settings.min_coverage}: is a share, from 0 to 1")


def _check_classes(class_list: ClassList, out: Path) -> None:
    """Refuse to put another class list's manifest over one that is there."""
    path = out / "manifest.parquet"
    if path.is_file() and (there := manifest.read(path).classes).labels != class_list.labels:
        raise SettingsError(
            f"{out}: holds a build of other classes ({there.name}, {len(there.labels)} labels); choose another --out"
        )


def _lists(settings: Settings, splits: Sequence[str], out: Path) -> list[Path]:
    places = settings.annotations or [annotations.OFFICIAL.format(split=split) for split in splits]
    return [annotations.fetch(place, out / "annotations") for place in places]


def _settled(entry: Entry | None, out: Path, again: Sequence[str]) -> bool:
    """Whether an earlier run's word on a clip still holds."""
    if entry is None:
        return False
    if entry.media is not None:
        path = out / entry.media.path
        return path.is_file() and path.stat().st_size == entry.media.bytes
    return entry.status not in again and entry.status.kind not in again


def _task(clip: Clip, asked: Mapping[str, sources.Source], settings: Settings, out: Path, scratch: Path) -> Task:
    found = ((spec, source.locate(clip)) for spec, source in asked.items())
    places = tuple((spec, location) for spec, location in found if location is not None)
    return Task(clip, places, out, scratch, settings.min_coverage, settings.timeout)


def _process(
    tasks: Iterator[Task], ledger: Ledger, settings: Settings, stop: Stop, *, total: int, done: int
) -> Outcome | None:
    """Run the tasks and record every outcome; returns the one that stopped the world, if one did."""
    results = local.run(process, tasks, workers=settings.workers, timeout_seconds=TASK_SECONDS, stop=stop.__bool__)
    with contextlib.closing(results), progress.bar("ks-build", total, done=done) as bar:
        for task, result in results:
            if isinstance(result, local.Failed):
                status = Status.TIMEOUT if result.timed_out else Status.CRASHED
                result = Outcome(clip=task.clip, status=status, detail=result.detail, tool_versions=_versions())
            ledger.record(result)
            bar.advance(result.status)
            if result.status.kind is Kind.STOP:
                return result
    return None


def process(task: Task) -> Outcome:
    """One clip, from the first source that has it whole to its place on disk; runs in a worker.

    What one source gives and the audit refuses is asked of the next; where all refuse, the last one's word stands.
    """
    outcome = Outcome(clip=task.clip, status=Status.NOT_IN_SOURCE, detail="no source has it", tool_versions=_versions())
    for spec, location in task.places:
        outcome = _from_source(task, spec, location)
        if outcome.status.kind in (Kind.OK, Kind.STOP):
            break
    return outcome


def _from_source(task: Task, spec: str, location: str) -> Outcome:
    source = sources.load(spec)
    with tempfile.TemporaryDirectory(dir=task.scratch, ignore_cleanup_errors=True) as name:
        scratch = Path(name)
        media: Media | None = None
        try:
            fetched = source.fetch(task.clip, location, scratch)
            status, detail = fetched.status, fetched.detail
            if status is Status.OK:
                trimmed = to_span(task.clip, fetched, scratch, timeout_seconds=task.timeout_seconds)
                status, detail = trimmed.status, trimmed.detail
                if status is Status.OK and trimmed.measured is not None:
                    status, detail = audit(task.clip, trimmed.measured, min_coverage=task.min_coverage)
                if status is Status.OK:
                    media = _place(task, trimmed, scratch)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            status, detail, media = Status.DISK_FULL, str(error), None
    versions = _versions(source.versions)
    return Outcome(clip=task.clip, status=status, detail=detail, source=spec, media=media, tool_versions=versions)


def _place(task: Task, trimmed: Trimmed, scratch: Path) -> Media:
    """Give the clip's file its name: a link to a source's own file, else the cut file moved."""
    path, measured, found = trimmed.path, trimmed.measured, trimmed.found
    if path is None or measured is None or found is None or found.audio is None:
        raise ValueError(f"{task.clip.key}: an ok clip without a file")
    place = task.out / "clips" / label_folder(task.clip.label) / f"{task.clip.key}{path.suffix.lower()}"
    place.parent.mkdir(parents=True, exist_ok=True)
    size, digest = path.stat().st_size, files.sha256(path)
    if trimmed.linked:
        link = scratch / place.name
        link.symlink_to(path.absolute())
        link.replace(place)
        files.sync_folder(place.parent)
    else:
        files.publish(path, place)
    return Media(
        path=place.relative_to(task.out).as_posix(),
        bytes=size,
        sha256=digest,
        duration_seconds=round(measured.video.last_seconds - measured.video.first_seconds, 6),
        fps=round(measured.fps, 6),
        width=measured.width,
        height=measured.height,
        num_frames=measured.video.count,
        audio_rate=found.audio.rate,
        audio_channels=found.audio.channels,
        audio_rms_db=round(measured.audio_rms_db, 3),
        audio_offset_seconds=round(measured.audio_offset_seconds, 6) + 0.0,  # never -0.0
        silent=silent(measured),
        still=still(measured),
        other_streams=trimmed.other_streams,
        rotation=measured.rotation,
        decode_errors=measured.decode_errors,
    )


def _versions(*others: str) -> str:
    return "; ".join(filter(None, (f"kinetics-sounds {__version__}", f"ffmpeg {ffmpeg.version()}", *others)))


def _manifest(class_list: ClassList, clips: Sequence[Clip], known: Mapping[str, Entry]) -> Manifest:
    outcomes = (
        known[clip.key].outcome(clip) if clip.key in known else Outcome(clip=clip, status=Status.NOT_TRIED)
        for clip in clips
    )
    return Manifest(class_list, tuple(outcomes))


def _report(made: Manifest, *, seconds: float, processed: int) -> dict[str, object]:
    """Coverage against the annotations, outcomes by status and kind, bytes and speed."""
    statuses = Counter(outcome.status for outcome in made.outcomes)
    kinds = Counter(outcome.status.kind for outcome in made.outcomes)
    asked = Counter((outcome.clip.split, outcome.clip.label) for outcome in made.outcomes)
    usable = [outcome for outcome in made.outcomes if outcome.media is not None]
    got = Counter((outcome.clip.split, outcome.clip.label) for outcome in usable)
    return {
        "classes": made.classes.name,
        "note": made.classes.note,
        "annotated": len(made.outcomes),
        "ok": len(usable),
        "statuses": {status.value: count for status, count in statuses.most_common()},
        "kinds": {kind.value: count for kind, count in kinds.most_common()},
        "coverage": {
            split: {
                label: {"annotated": count, "ok": got[split, label]}
                for (place, label), count in asked.items()
                if place == split
            }
            for split in SPLITS
            if any(place == split for place, _ in asked)
        },
        "fingerprint": manifest.fingerprint(outcome.clip.key for outcome in usable),
        "bytes": sum(outcome.media.bytes for outcome in usable if outcome.media),
        "this_run": {"clips": processed, "seconds": round(seconds, 1)},
    }


def _summary(report: Mapping[str, object], out: Path, blocked: Outcome | None) -> str:
    statuses = report["statuses"]
    told = ", ".join(f"{name} {count}" for name, count in statuses.items()) if isinstance(statuses, dict) else ""
    lines = [
        f"{report['ok']} of {report['annotated']} annotated clips are ok ({told})",
        f"manifest: {out / 'manifest.parquet'} (and .csv)\nreport: {out / 'report.json'}",
    ]
    if blocked is not None:
        lines.insert(
            0, f"stopped: {blocked.status} at {blocked.clip.key}: {blocked.detail}; run the same command later"
        )
    return "\n".join(lines)


def _forecast(clips: Sequence[Clip], asked: Mapping[str, sources.Source]) -> str:
    first = Counter(next((spec for spec, source in asked.items() if source.locate(clip)), "") for clip in clips)
    lines = [f"would ask {spec or 'no source (it has no file)'}: {count} clips" for spec, count in first.items()]
    remote = sum(count for spec, count in first.items() if spec.startswith("youtube"))
    local_count = sum(count for spec, count in first.items() if spec) - remote
    lines.append(
        f"expect at most {local_count + remote} clips, {(local_count + remote) * CLIP_MEGABYTES / 1000:.1f} GB at "
        f"{CLIP_MEGABYTES} MB each where they must be cut"
    )
    if remote:
        lines.append(
            f"YouTube: some 11% of the ids were gone by 2020, more are now; about {remote / VIDEOS_PER_HOUR:.1f} hours at "
            f"{VIDEOS_PER_HOUR} videos an hour"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
