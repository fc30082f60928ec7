"""ks-build: from a class list to clips on disk, with an outcome for every annotation."""

import contextlib
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from kinetics_sounds import annotations, classes, files, manifest, sources
from kinetics_sounds.address import Address
from kinetics_sounds.classes import ClassList
from kinetics_sounds.clip import SPLITS, Clip, Kind, Status
from kinetics_sounds.command import DONE, SOME_FAILED, STOPPED, Stop, command, stoppable
from kinetics_sounds.errors import SettingsError, SourceError
from kinetics_sounds.ledger import Ledger, PartEntry, name_of
from kinetics_sounds.settings import choices, parse
from kinetics_sounds.sources import OnDisk, Source, TarSource

from . import executors
from .fetching.archive_driver import ask_archive
from .fetching.build_state import BuildState, drop_changed, pending, standing
from .fetching.driver import Run, RunStats, StopReason, ask
from .fetching.plan import plan, shared_videos
from .fetching.summary import Account, forecast, forecast_text, summary
from .fetching.throttle import RetryPolicy
from .fetching.worker import work

RETRIABLE = tuple(dict.fromkeys(each.value for each in (*Kind, *Status) if each.value != "ok"))
"""What `--retry` takes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Build clips and their manifest from a class list. Run it again to go on where it stopped.

    Examples:
      ks-build --classes k100.txt
      ks-build --classes k32 --source local:/data/k400 --source cvdf --source youtube --workers 8
      ks-build --classes k32 --source youtube --youtube.cookies cookies.txt --youtube.proxy socks5://127.0.0.1:1080
      ks-build --classes k100 --source cvdf --executor slurm --slurm.partition cpu --workers 32
      ks-build --classes k32 --source local:/data/k400 --check_bytes
      ks-build --classes mine.txt --annotations val.csv --splits val --limit 20 --dry_run

    exit code: 0 every clip ok; 1 done, some clips have another status; 2 misuse; 3 stopped, run again;
    4 a bug, or a disk that fails.
    """

    classes: str
    """Class list: a text file with one Kinetics label a line, or a shipped name (k31, k32, k100, k400)."""
    annotations: tuple[Address, ...] = ()
    """Kinetics CSVs, paths or URLs; default: the official Kinetics-400 lists of the splits asked for."""
    splits: str = "train,val,test"
    """Splits to build, separated by commas."""
    source: tuple[Address, ...] = field(default=(), metadata={"repeat": True})
    """Where clips come from, tried in the order given; repeatable: local:DIR, cvdf, cvdf:URL, cvdf:DIR (a folder of the
    mirror's tar parts), youtube. Default: youtube."""
    out: Path | None = None
    """Folder of the build; default: data/NAME after the class list."""
    limit: int | None = None
    """At most this many clips a split, drawn by their keys."""
    per_class: int | None = None
    """At most this many clips a class and split, drawn by their keys."""
    executor: str = field(default="local", metadata={"package": executors.__name__})
    """Where workers run: processes here, a Ray cluster, or Slurm array jobs. --out must be seen by all of them."""
    workers: int = field(default_factory=lambda: os.cpu_count() or 1)
    """Processes; each uses one core."""
    min_coverage: float = 0.9
    """Share of the annotated span that picture and sound must each cover; clips that are there already stay."""
    timeout: float = 300.0
    """Seconds that one ffmpeg run may take."""
    retry: str = "retry,stop"
    """What an earlier run left that is tried again: kinds (retry, stop, permanent) or statuses, separated by commas."""
    attempts: int = 3
    """Tries of one clip within a run, where trying again may help."""
    retry_wait: float = 15.0
    """Seconds before the second try; it trebles for each next one, with jitter."""
    patience: float = 7200.0
    """Seconds that a source may refuse everything (bot check, rate limit, no network), probed now and then with one clip,
    before the build stops with exit code 3."""
    check_bytes: bool = False
    """Read every clip that is there and make anew those whose SHA-256 is not the one that was built, or whose source's own file
    (where that is linked) has changed; without this option sizes alone are compared."""
    dry_run: bool = False
    """Only say what would be asked of which source, and what to expect; opens some of a folder's files."""
    json: bool = False
    """Print the report, or the forecast of --dry_run, as JSON on standard output."""


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of `ks-build`."""

    def run() -> int:
        parsed = parse(Settings, argv, prog="ks-build", groups=sources.options() | executors.options())
        return build(parsed.settings, parsed.groups)

    return command("ks-build", run)


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What a build is to do."""

    classes: ClassList
    clips: tuple[Clip, ...]
    sources: Mapping[Address, Source | TarSource]
    """By their `--source` texts, in the order in which they are asked."""
    groups: Mapping[str, Any]
    """The own options of sources and executors, by their names."""
    again: frozenset[str]
    """Kinds and statuses of an earlier run that are asked again."""
    out: Path


def build(settings: Settings, groups: Mapping[str, Any]) -> int:
    """Plan, get what is not there yet, and write manifest and report; returns the exit code.

    `groups` holds the own options of sources and executors, by their names.
    """
    _check(settings)
    job = _prepare(settings, groups)
    if settings.dry_run:
        expected = _forecast(job, settings)
        print(json.dumps(expected) if settings.json else forecast_text(expected))
        return DONE
    began = time.monotonic()
    account, tally = Account(), RunStats()
    failed: SourceError | None = None
    blocked: StopReason | None = None
    with (
        files.exclusive(job.out, command="ks-build"),
        Ledger(job.out / "ledger.sqlite") as ledger,
        stoppable(signal.SIGINT, signal.SIGTERM) as stop,
    ):
        files.clear(job.out, "manifest.parquet", "manifest.csv", "report.json")
        files.clear(job.out / "annotations", "????????-*")
        known = standing(ledger, job.clips, job.again, job.out)
        checked = not settings.check_bytes or _check_bytes(job, ledger, known, stop)
        try:
            blocked = _ask_all(job, settings, ledger, known, tally, stop)
        except SourceError as error:  # told once what is done has its manifest
            failed = error
        outcomes = (ledger.outcome(clip, tuple(job.sources), kept=known.ok.get(clip.key)) for clip in job.clips)
        manifest.write(job.out / "manifest.parquet", job.classes, account.counted(outcomes))
        report = account.report(job.classes, tally, seconds=time.monotonic() - began)
        files.write_bytes(job.out / "report.json", (json.dumps(report, indent=2) + "\n").encode())
    print(json.dumps(report) if settings.json else summary(report, job.out))
    if failed is not None:
        raise failed
    if blocked is not None and not account.complete:
        remedy = "free some space and run" if blocked.status is Status.DISK_FULL else "run"
        print(f"stopped: {blocked.status}: {blocked.detail}; {remedy} the same command later", file=sys.stderr)
    elif stop:
        print(
            f"stopped by {stop.by.name if stop.by else 'a signal'}: what was done is kept; run the same command to go on",
            file=sys.stderr,
        )
    if account.complete and checked:
        return DONE
    return STOPPED if stop or blocked else SOME_FAILED


def _prepare(settings: Settings, groups: Mapping[str, Any]) -> Job:
    """Read what the settings name, and print what was chosen; nothing is written but lists that had to be downloaded."""
    say = sys.stderr if settings.json else sys.stdout
    class_list = classes.read(settings.classes)
    splits = choices(settings.splits, SPLITS, option="splits")
    again = frozenset(choices(settings.retry, RETRIABLE, option="retry"))
    out = settings.out or Path("data") / class_list.name
    note = f" ({class_list.note})" if class_list.note else ""
    print(f"classes: {class_list.name}, {len(class_list.labels)} labels{note}\nout: {out}", file=say)
    chosen = map(sources.absolute, settings.source or (Address("youtube"),))
    asked = {spec: sources.load(spec, _own(groups, spec)) for spec in chosen}
    _check_groups(groups, {settings.executor, *(_name(spec) for spec in asked)})
    _check_classes(class_list, out)
    lists = settings.annotations or tuple(Address(annotations.OFFICIAL.format(split=split)) for split in splits)
    clips = _plan(class_list, lists, splits, settings, out)
    told, specs = ", ".join(map(str, lists)), ", ".join(map(name_of, asked))
    print(f"annotations: {told}: {len(clips)} clips\nsources: {specs}", file=say)
    return Job(classes=class_list, clips=clips, sources=asked, groups=groups, again=again, out=out)


def _name(spec: Address) -> str:
    """What a `--source` text begins with."""
    return str(spec).partition(":")[0]


def _own(groups: Mapping[str, Any], spec: Address) -> object:
    """A source's own options."""
    return groups.get(_name(spec))


def _check_bytes(job: Job, ledger: Ledger, known: BuildState, stop: Stop) -> bool:
    """Have clips whose bytes changed made anew, by this run or, if it is killed, by any later one; whether all were read."""
    clips = {clip.key: clip for clip in job.clips}
    for entry, found in drop_changed(ledger, known, job.out, stop.__bool__):
        detail = f"{entry.media.path if entry.media else ''}: {found}; it is to be made anew"
        path = entry.media.path if entry.media else None
        same = [each for each in ledger.of(entry.key) if each.media is not None and each.media.path == path]
        outcomes = (each.outcome(clips[each.key]) for each in same)  # an older word of another source would hold else
        ledger.record(replace(each, status=Status.NOT_TRIED, detail=detail, media=None) for each in outcomes)
    return not stop


def _ask_all(
    job: Job, settings: Settings, ledger: Ledger, known: BuildState, tally: RunStats, stop: Stop
) -> StopReason | None:
    """Ask one source after the other for what is wanting; returns the first that refused, if any did.

    What one refuses now another may have; only a full disk ends it all. Workers are started for the first source that has
    anything to be asked. Raises SourceError where a source cannot be used.
    """
    with contextlib.ExitStack() as stack:
        run: Run | None = None
        first: StopReason | None = None
        for spec, source in job.sources.items():
            todo = pending(known, spec, job.clips)
            if stop or not todo:
                continue
            if source.notice:
                print(source.notice, file=sys.stderr)
            run = run or _start(job, settings, ledger, known, tally, stop, stack)
            options = _own(job.groups, spec)
            if isinstance(source, TarSource):
                blocked = ask_archive(run, spec, source, options, todo)
            else:
                blocked = ask(run, spec, source, options, todo)
            if blocked is not None and blocked.status is Status.DISK_FULL:
                return blocked
            first = first or blocked
    return first


def _start(
    job: Job,
    settings: Settings,
    ledger: Ledger,
    known: BuildState,
    tally: RunStats,
    stop: Stop,
    stack: contextlib.ExitStack,
) -> Run:
    """Workers and their scratch folder, both of which go when the stack is left."""
    out = job.out.absolute()
    scratch = stack.enter_context(files.scratch(out))
    own = job.groups.get(settings.executor)
    pool = executors.start(settings.executor, work, workers=settings.workers, folder=scratch, chosen=own)
    stack.enter_context(contextlib.closing(pool))
    return Run(
        out=out,
        scratch=scratch,
        ledger=ledger,
        pool=pool,
        stop=stop,
        standing=known,
        tally=tally,
        again=job.again,
        rules=RetryPolicy(
            attempts=settings.attempts, retry_seconds=settings.retry_wait, patience_seconds=settings.patience
        ),
        min_coverage=settings.min_coverage,
        timeout_seconds=settings.timeout,
        on_disk=tuple(source for source in job.sources.values() if isinstance(source, OnDisk)),
        shared=shared_videos(job.clips),
    )


def _check(settings: Settings) -> None:
    for name in ("limit", "per_class", "workers", "timeout", "attempts"):
        value = getattr(settings, name)
        if value is not None and not 0 < value < float("inf"):
            raise SettingsError(f"--{name} {value}: must be more than 0")
    for name in ("retry_wait", "patience"):
        if not 0 <= getattr(settings, name) < float("inf"):
            raise SettingsError(f"--{name} {getattr(settings, name)}: must be 0 or more seconds")
    if not 0 <= settings.min_coverage <= 1:
        raise SettingsError(f"--min_coverage {settings.min_coverage}: is a share, from 0 to 1")


def _check_groups(groups: Mapping[str, Any], used: Collection[str]) -> None:
    """Refuse options of a source or executor that is not asked: whoever gave them believes that it is."""
    for name, chosen in groups.items():
        if name not in used and chosen != type(chosen)():
            kind = "executor" if name in executors.options() else "source"
            a_kind = f"an {kind}" if kind == "executor" else f"a {kind}"
            raise SettingsError(
                f"--{name}.*: options of {a_kind} that is not asked; add --{kind} {name}, or leave them out"
            )


def _check_classes(class_list: ClassList, out: Path) -> None:
    """Refuse to put another class list's manifest over one that is there."""
    path = out / "manifest.parquet"
    if not path.is_file():
        return
    there = manifest.read_classes(path)
    derived = there.note.startswith(
        manifest.DERIVED
    )  # a filtered copy in the manifest's place: some labels may be gone
    if not set(there.labels) <= set(class_list.labels) if derived else there.labels != class_list.labels:
        raise SettingsError(
            f"{out}: holds a build of other classes ({there.name}, {len(there.labels)} labels); choose another --out"
        )


def _plan(
    class_list: ClassList, lists: Sequence[Address], splits: Sequence[str], settings: Settings, out: Path
) -> tuple[Clip, ...]:
    """The clips to build; lists that had to be downloaded are kept, unless nothing is to be written."""
    with contextlib.ExitStack() as stack:
        folder = out / "annotations"
        if settings.dry_run:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True)))
        paths = [annotations.fetch(place.real, folder) for place in lists]
        return plan(class_list, paths, splits=splits, limit=settings.limit, per_class=settings.per_class)


def _forecast(job: Job, settings: Settings) -> dict[str, Any]:
    """What is still to be asked; writes nothing."""
    known, read = BuildState(), dict[Address, dict[str, PartEntry]]()
    if (job.out / "ledger.sqlite").is_file():
        with Ledger(job.out / "ledger.sqlite", only_read=True) as ledger:
            known = standing(ledger, job.clips, job.again, job.out)
            if settings.check_bytes:
                list(drop_changed(ledger, known, job.out, lambda: False))
            read = {spec: ledger.parts(spec) for spec in job.sources}
    return forecast(
        job.sources,
        job.clips,
        known,
        read,
        again=job.again,
        workers=settings.workers,
        min_coverage=settings.min_coverage,
    )


if __name__ == "__main__":
    sys.exit(main())
