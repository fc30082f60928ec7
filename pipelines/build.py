"""ks-build: from a class list to clips on disk, with an outcome for every annotation."""

import contextlib
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from kinetics_sounds import annotations, classes, files, manifest, sources
from kinetics_sounds.classes import ClassList
from kinetics_sounds.clip import SPLITS, Clip, Kind, Status
from kinetics_sounds.errors import SettingsError, SourceError
from kinetics_sounds.ledger import Ledger, PartEntry, storable
from kinetics_sounds.settings import DONE, SOME_FAILED, STOPPED, choices, command, parse, stoppable
from kinetics_sounds.sources import Archive, Source

from . import executors
from .account import Account, forecast, summary
from .archives import ask_archive
from .rounds import Blocked, Run, Standing, Tally, ask, standing, wanting
from .schedule import Rules
from .stages.plan import plan
from .tasks import work

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
    """Where clips come from, tried in the order given; repeatable: local:DIR, cvdf, cvdf:URL, cvdf:DIR (a folder of the
    mirror's tar parts), youtube. Default: youtube."""
    out: Path | None = None
    """Folder of the build; default: data/NAME after the class list."""
    limit: int | None = None
    """At most this many clips a split, drawn by their keys."""
    per_class: int | None = None
    """At most this many clips a class and split, drawn by their keys."""
    executor: Literal["local", "ray", "slurm"] = "local"
    """Where workers run: processes here, a Ray cluster, or Slurm array jobs. --out must be seen by all of them."""
    workers: int = field(default_factory=lambda: os.cpu_count() or 1)
    """Processes; each uses one core."""
    min_coverage: float = 0.9
    """Share of the annotated span that picture and sound must each cover."""
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
    dry_run: bool = False
    """Only say what would be asked of which source, and what to expect."""
    json: bool = False
    """Print the report as JSON on standard output."""


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of `ks-build`."""

    def run() -> int:
        parsed = parse(Settings, argv, prog="ks-build", groups=sources.options() | executors.options())
        return build(parsed.settings, parsed.groups)

    return command("ks-build", run)


def build(settings: Settings, groups: Mapping[str, Any]) -> int:
    """Plan, get what is not there yet, and write manifest and report; returns the exit code.

    `groups` holds the own options of sources and executors, by their names.
    """
    _check(settings)
    class_list = classes.read(settings.classes)
    splits = choices(settings.splits, SPLITS, option="splits")
    again = frozenset(choices(settings.retry, RETRIABLE, option="retry"))
    out = settings.out or Path("data") / class_list.name
    say = sys.stderr if settings.json else sys.stdout
    note = f" ({class_list.note})" if class_list.note else ""
    print(f"classes: {class_list.name}, {len(class_list.labels)} labels{note}\nout: {out}", file=say)
    specs = tuple(dict.fromkeys(settings.source or ("youtube",)))
    options = {spec: groups.get(spec.partition(":")[0]) for spec in specs}
    asked = {spec: sources.load(spec, options[spec]) for spec in specs}
    _check_classes(class_list, out)
    lists = settings.annotations or tuple(annotations.OFFICIAL.format(split=split) for split in splits)
    clips = _plan(class_list, lists, splits, settings, out)
    print(f"annotations: {', '.join(lists)}: {len(clips)} clips\nsources: {', '.join(specs)}", file=say)
    if settings.dry_run:
        print(_forecast(clips, asked, settings, out, again), file=say)
        return DONE
    began = time.monotonic()
    account, tally = Account(), Tally()
    with (
        files.exclusive(out, command="ks-build"),
        Ledger(out / "ledger.sqlite") as ledger,
        stoppable(signal.SIGINT, signal.SIGTERM) as stop,
        files.scratch(out.absolute()) as scratch,
        contextlib.ExitStack() as stack,
    ):
        known = standing(ledger, clips, again, out)
        blocked: Blocked | None = None
        failed: SourceError | None = None
        run: Run | None = None
        for spec, source in asked.items():
            todo = [] if stop or blocked else wanting(known, spec, clips)
            if not todo:
                continue
            if source.notice:
                print(source.notice, file=sys.stderr)
            if run is None:
                pool = executors.start(
                    settings.executor,
                    work,
                    workers=settings.workers,
                    folder=scratch,
                    chosen=groups.get(settings.executor),
                )
                stack.enter_context(contextlib.closing(pool))
                run = Run(
                    out=out.absolute(),
                    scratch=scratch,
                    ledger=ledger,
                    pool=pool,
                    stop=stop,
                    standing=known,
                    tally=tally,
                    again=again,
                    rules=Rules(
                        attempts=settings.attempts,
                        retry_seconds=settings.retry_wait,
                        patience_seconds=settings.patience,
                    ),
                    min_coverage=settings.min_coverage,
                    timeout_seconds=settings.timeout,
                )
            try:
                if isinstance(source, Archive):
                    blocked = ask_archive(run, spec, source, options[spec], todo)
                else:
                    blocked = ask(run, spec, source, options[spec], todo)
            except SourceError as error:  # told once what is done has its manifest
                failed = error
                break
        outcomes = (ledger.outcome(clip, specs, kept=known.ok.get(clip.key)) for clip in clips)
        manifest.write(out / "manifest.parquet", class_list, account.counted(outcomes))
        report = account.report(class_list, tally, seconds=time.monotonic() - began)
        files.write_bytes(out / "report.json", (json.dumps(report, indent=2) + "\n").encode())
    print(json.dumps(report) if settings.json else summary(report, out))
    if failed is not None:
        raise failed
    if blocked is not None:
        print(f"stopped: {blocked.status}: {blocked.detail}; run the same command later", file=sys.stderr)
    elif stop:
        print(f"stopped by {stop.by}: what was done is kept; run the same command to go on", file=sys.stderr)
    if stop or blocked:
        return STOPPED
    return DONE if account.complete else SOME_FAILED


def _check(settings: Settings) -> None:
    for name in ("limit", "per_class", "workers", "timeout", "attempts"):
        value = getattr(settings, name)
        if value is not None and value <= 0:
            raise SettingsError(f"--{name} {value}: must be more than 0")
    for name in ("retry_wait", "patience"):
        if not 0 <= getattr(settings, name) < float("inf"):
            raise SettingsError(f"--{name} {getattr(settings, name)}: must be 0 or more seconds")
    if not 0 <= settings.min_coverage <= 1:
        raise SettingsError(f"--min_coverage {settings.min_coverage}: is a share, from 0 to 1")


def _check_classes(class_list: ClassList, out: Path) -> None:
    """Refuse to put another class list's manifest over one that is there."""
    path = out / "manifest.parquet"
    if path.is_file() and (there := manifest.read_classes(path)).labels != class_list.labels:
        raise SettingsError(
            f"{out}: holds a build of other classes ({there.name}, {len(there.labels)} labels); choose another --out"
        )


def _plan(
    class_list: ClassList, lists: Sequence[str], splits: Sequence[str], settings: Settings, out: Path
) -> tuple[Clip, ...]:
    """The clips to build; lists that had to be downloaded are kept, unless nothing is to be written."""
    with tempfile.TemporaryDirectory() as passing:
        folder = Path(passing) if settings.dry_run else out / "annotations"
        paths = [annotations.fetch(place, folder) for place in lists]
        return plan(class_list, paths, splits=splits, limit=settings.limit, per_class=settings.per_class)


def _forecast(
    clips: Sequence[Clip], asked: Mapping[str, Source | Archive], settings: Settings, out: Path, again: frozenset[str]
) -> str:
    """What is still to be asked; writes nothing."""
    known, read = Standing(), dict[str, dict[str, PartEntry]]()
    if (out / "ledger.sqlite").is_file():
        with Ledger(out / "ledger.sqlite") as ledger:
            known = standing(ledger, clips, again, out)
            read = {spec: ledger.parts(storable(spec)) for spec in asked}
    return forecast(asked, clips, known, read, again=again, workers=settings.workers)


if __name__ == "__main__":
    sys.exit(main())
