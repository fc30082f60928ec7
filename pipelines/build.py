"""ks-build: build clips on disk from a class list or a published list, with an outcome for every annotation."""

import contextlib
import json
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TextIO

from kinetics_sounds import classes, files, lists, manifest, sources
from kinetics_sounds.address import Address
from kinetics_sounds.classes import ClassList
from kinetics_sounds.clip import SPLITS, Clip, Status
from kinetics_sounds.command import DONE, SOME_FAILED, STOPPED, Stop, command, stoppable
from kinetics_sounds.errors import KineticsSoundsError, SourceError
from kinetics_sounds.ledger import Ledger, PartEntry
from kinetics_sounds.ledger import name_of as source_name
from kinetics_sounds.lists import ClipList
from kinetics_sounds.progress import log as logger
from kinetics_sounds.quantities import plural
from kinetics_sounds.settings import choices, parse
from kinetics_sounds.sources import OnDisk, Source, TarSource

from . import executors
from .fetching import inputs, list_report, status, verdicts
from .fetching.archive_driver import ask_archive
from .fetching.build_settings import RETRIABLE, BuildSettings, check, check_groups
from .fetching.build_state import BuildState, check_bytes, check_ids, default_source, drop_changed, load_state, pending
from .fetching.comparison import How, compare
from .fetching.coverage import judged_otherwise
from .fetching.driver import Run, RunStats, StopReason, ask
from .fetching.forecast import forecast, forecast_text
from .fetching.list_classes import class_list_of, files_of, name_of
from .fetching.list_plan import ListPlan
from .fetching.list_report import Became
from .fetching.plan import overlapping, shared_videos
from .fetching.replaced import check_classes, check_clips, check_sources, left_out_lines
from .fetching.summary import Account, next_step, summary
from .fetching.throttle import RetryPolicy
from .fetching.worker import work


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of `ks-build`."""

    def run() -> int:
        parsed = parse(BuildSettings, argv, prog="ks-build", groups=sources.options() | executors.options())
        return build(parsed.settings, parsed.groups)

    return command("ks-build", run)


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """Input of a build."""

    classes: ClassList
    clips: tuple[Clip, ...]
    sources: Mapping[Address, Source | TarSource]
    """By their `--source` texts, in the order given."""
    groups: Mapping[str, Any]
    """Options of sources and executors, by name."""
    again: frozenset[str]
    """Kinds and statuses of earlier runs to retry."""
    out: Path
    lists: ListPlan | None = None
    """Plan of the published lists, if the clips come from lists."""
    rows: Mapping[str, int] = field(default_factory=dict)
    """Rows of the annotations, if the clips come from these, as in the report."""
    left_out: Mapping[str, int] = field(default_factory=dict)
    """Clips of the existing manifest that are not requested now, as in the report."""


def build(settings: BuildSettings, groups: Mapping[str, Any]) -> int:
    """Plan, fetch what is missing, and write manifest and report; returns the exit code.

    `groups` holds each source's and executor's own options, by its name.
    """
    if settings.status:
        return status.show(settings.out, as_json=settings.json)
    check(settings)
    job = _prepare(settings, groups)
    if settings.dry_run:
        expected = _forecast(job, settings)
        print(json.dumps(expected) if settings.json else forecast_text(expected))
        return SOME_FAILED if job.lists and not job.lists.sound else DONE
    began = time.monotonic()
    account, stats = Account(one_video=sources.name_one_video(job.sources.values())), RunStats()
    failed: KineticsSoundsError | None = None
    blocked: StopReason | None = None
    with (
        files.exclusive(job.out, command="ks-build"),
        Ledger(job.out / "ledger.sqlite") as ledger,
        stoppable(signal.SIGINT, signal.SIGTERM) as stop,
    ):
        files.clear(job.out, "manifest.parquet", "manifest.csv", "report.json", verdicts.FILE)
        files.clear(job.out / "annotations", "????????-*")
        ledger.record_run(len(job.clips), min_coverage=settings.min_coverage)
        known = load_state(ledger, job.clips, job.again, job.out)
        checked = not settings.check_bytes or check_bytes(ledger, known, job.clips, job.out, stop.__bool__)
        try:
            blocked = _ask_all(job, settings, ledger, known, stats, stop)
        except SourceError as error:  # told once what is done has its manifest
            failed = error
        outcomes = (ledger.outcome(clip, tuple(job.sources), kept=known.ok.get(clip.key)) for clip in job.clips)
        became = Became()
        counted = account.counted(became.counted(outcomes) if job.lists else outcomes)
        several = any(clip.other_labels for clip in job.clips)
        both = manifest.write(job.out / "manifest.parquet", job.classes, counted, several_labels=several)
        report = account.report(job.classes, stats, seconds=time.monotonic() - began, both=both)
        report["judged_otherwise"] = judged_otherwise(ledger, known, job.clips, settings.min_coverage)
        report |= {"left_out": job.left_out} | ({"annotations": job.rows} if job.rows else {})
        if job.lists:
            report["lists"] = list_report.report(job.lists, became, built=both["selection"])
        _write(report, job.out)
        if job.lists:
            try:
                _compare(job.lists, settings, became, job.out, report, stop)
            except KineticsSoundsError as error:
                failed = failed or error
            checked = checked and not stop
    print(json.dumps(report) if settings.json else summary(report, job.out))
    if failed is not None:
        raise failed
    if report["ok"] and not settings.json and not stop and not blocked:
        print(next_step(report, job.out))
    if blocked is not None and not account.complete:
        remedy = "free some space and run" if blocked.status is Status.DISK_FULL else "run"
        print(f"stopped: {blocked.status}: {blocked.detail}; {remedy} the same command later", file=sys.stderr)
    elif stop:
        print(f"stopped by {stop}: finished clips are kept; run the same command to resume", file=sys.stderr)
    complete = account.complete and checked and _as_listed(job, report)
    return DONE if complete else STOPPED if stop or blocked else SOME_FAILED


def _write(report: Mapping[str, Any], out: Path) -> None:
    files.write_bytes(out / "report.json", (json.dumps(report, indent=2) + "\n").encode())


def _compare(
    planned: ListPlan, settings: BuildSettings, became: Became, out: Path, report: dict[str, Any], stop: Stop
) -> None:
    """Compare the clips of published lists with what was published, and add the result to the report and its file."""
    how = How(workers=settings.workers, timeout_seconds=settings.timeout)
    if compared := compare(planned, became, out, how=how, stop=stop.__bool__):
        report["compared"] = compared
        _write(report, out)


def _as_listed(job: Job, report: Mapping[str, Any]) -> bool:
    """Whether nothing is known to differ from the lists; true without lists."""
    different = "compared" in report and report["compared"]["counts"]["different"]
    return not job.lists or (job.lists.sound and not different)


def _prepare(settings: BuildSettings, groups: Mapping[str, Any]) -> Job:
    """Read the inputs named by the settings, and print them; only downloaded lists are written."""
    log = sys.stderr if settings.json else sys.stdout
    splits = choices(settings.splits, SPLITS, option="splits")
    again = frozenset(choices(settings.retry, RETRIABLE, option="retry"))
    clip_lists = _lists(settings)
    class_list = classes.read(settings.classes) if settings.classes else class_list_of(clip_lists)
    out = settings.out or Path("data") / (name_of(clip_lists) if clip_lists or not class_list else class_list.name)
    if class_list:
        _print_classes(class_list, log)
        check_classes(class_list, out)
    print(f"out: {out}", file=log)
    chosen = map(sources.absolute, settings.source or (default_source(out),))
    asked = {spec: sources.load(spec, _own(groups, spec)) for spec in chosen}
    check_sources(asked, out)
    check_groups(groups, executor=settings.executor, sources={_name(spec) for spec in asked})
    planned, clips, rows = None, tuple[Clip, ...](), dict[str, int]()
    if clip_lists or not class_list:
        planned = inputs.from_lists(clip_lists, class_list, splits, settings, out, log)
        clips = planned.clips
        if not class_list:
            class_list = replace(planned.classes, name=out.name, note=f"the labels of the lists {out.name}, sorted.")
            files_read = ", ".join(each.path.name for each in clip_lists)
            _print_classes(replace(class_list, note=f"the labels of {files_read}, sorted"), log)
            check_classes(class_list, out)
    else:
        clips, rows = inputs.from_annotations(class_list, splits, settings, out, log)
    if not settings.source:
        check_ids(clips)
    if sources.name_one_video(asked.values()) and (warning := overlapping(clips)):
        logger.warning("%s", warning)
    left_out = check_clips(clips, out, listed=planned is not None)
    told = [*sources.naming_examples(asked, clips), *left_out_lines(left_out, out)]
    print(f"sources: {', '.join(map(source_name, asked))}", *told, sep="\n", file=log)
    own: dict[str, Any] = {"groups": groups, "again": again, "left_out": left_out, "rows": rows}
    return Job(classes=class_list, clips=clips, sources=asked, out=out, lists=planned, **own)


def _print_classes(class_list: ClassList, log: TextIO) -> None:
    note = f" ({class_list.note.rstrip('.')})" if class_list.note else ""
    print(f"class list: {class_list.name}, {plural(len(class_list.labels), 'label')}{note}", file=log)


def _lists(settings: BuildSettings) -> tuple[ClipList, ...]:
    """Files of the lists, each with its detected format."""
    name = "" if settings.clips_format == "auto" else settings.clips_format
    return tuple(lists.recognise(path, name=name) for place in settings.clips for path in files_of(place))


def _name(spec: Address) -> str:
    """Name at the start of a `--source` text."""
    return str(spec).partition(":")[0]


def _own(groups: Mapping[str, Any], spec: Address) -> object:
    """A source's own options."""
    return groups.get(_name(spec))


def _ask_all(
    job: Job, settings: BuildSettings, ledger: Ledger, known: BuildState, stats: RunStats, stop: Stop
) -> StopReason | None:
    """Ask the sources one after the other for the pending clips; returns the reason of the first that refused, if any.

    Another source may have what one refuses now; only a full disk ends the build. Workers are started for the first source with
    pending clips. Raises SourceError if a source cannot be used.
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
            run = run or _start(job, settings, ledger, known, stats, stop, stack)
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
    settings: BuildSettings,
    ledger: Ledger,
    known: BuildState,
    stats: RunStats,
    stop: Stop,
    stack: contextlib.ExitStack,
) -> Run:
    """Start workers, with a scratch folder; both end with the stack."""
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
        stats=stats,
        again=job.again,
        rules=RetryPolicy(
            attempts=settings.attempts, retry_seconds=settings.retry_wait, patience_seconds=settings.patience
        ),
        min_coverage=settings.min_coverage,
        timeout_seconds=settings.timeout,
        on_disk=tuple(source for source in job.sources.values() if isinstance(source, OnDisk)),
        shared=shared_videos(job.clips),
    )


def _forecast(job: Job, settings: BuildSettings) -> dict[str, Any]:
    """What remains to be requested; writes nothing."""
    known, read = BuildState(), dict[Address, dict[str, PartEntry]]()
    if (job.out / "ledger.sqlite").is_file():
        with Ledger(job.out / "ledger.sqlite", only_read=True) as ledger:
            known = load_state(ledger, job.clips, job.again, job.out)
            if settings.check_bytes:
                list(drop_changed(ledger, known, job.out, lambda: False))
            read = {spec: ledger.parts(spec) for spec in job.sources}
    how: dict[str, Any] = {"again": job.again, "workers": settings.workers, "min_coverage": settings.min_coverage}
    expected = forecast(job.sources, job.clips, known, read, out=job.out, **how)
    return expected | ({"lists": list_report.report(job.lists, None)} if job.lists else {"annotations": job.rows})


if __name__ == "__main__":
    sys.exit(main())
