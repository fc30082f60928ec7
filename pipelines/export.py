"""ks-export: export clips or shards to the folder formats of other projects' loaders."""

import contextlib
import json
import signal
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kinetics_sounds import files, plugins, progress
from kinetics_sounds.command import (
    DONE,
    MISUSE,
    SOME_FAILED,
    STOPPED,
    Stop,
    answering,
    command,
    stoppable,
    tell_version,
)
from kinetics_sounds.errors import SettingsError
from kinetics_sounds.quantities import first_of, plural
from kinetics_sounds.settings import parse
from kinetics_sounds.shards.index import SkippedClip

from . import attempts, executors, layouts
from .attempts import RetryOnce
from .exporting import job as export_job
from .exporting import journal, placing, work
from .exporting.job import MOST_NAMED, Item, Job
from .exporting.journal import Known, Made
from .exporting.work import Answer, Task, Work
from .layouts import Exported


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of `ks-export`."""
    words = list(sys.argv[1:] if argv is None else argv)
    if tell_version("ks-export", words):
        return DONE

    def run() -> int:
        if not words or words[0].startswith("-"):
            with answering():
                print(f"usage: ks-export {{{','.join(layouts.names())}}} --out OUT [options]\n\n{_what_there_is()}")
            return DONE if words and words[0] in ("-h", "--help") else MISUSE
        name = words[0]
        parsed = parse(layouts.load(name).Settings, words[1:], prog=f"ks-export {name}", groups=executors.options())
        _check(parsed.settings, parsed.groups)
        return export(name, parsed.settings, parsed.groups)

    return command("ks-export", run)


def _what_there_is() -> str:
    """Usage text: one line per layout, and examples."""
    lines = ["Export a build's clips to the folder formats of other projects' loaders:"]
    for name, first in plugins.first_lines(layouts.__name__).items():
        line = first.removeprefix(f"ks-export {name}: ")
        lines.append(f"  {name:14} {line[:1].upper()}{line[1:]}")
    lines += [
        "",
        "Examples:",
        "  ks-export ogm --manifest data/k31/manifest.parquet --out /data/ks",
        "  ks-export mmaction2 --manifest data/k32/manifest.parquet --out /data/k32_mmaction2 --link",
        "  ks-export ogm --help",
    ]
    return "\n".join(lines)


def _check(settings: layouts.CommonSettings, groups: Mapping[str, Any]) -> None:
    for name in ("workers", "timeout"):
        if not 0 < getattr(settings, name) < float("inf"):
            raise SettingsError(f"--{name} {getattr(settings, name)}: must be more than 0")
    for name, chosen in groups.items():
        if name != settings.executor and chosen != type(chosen)():
            raise SettingsError(
                f"--{name}.*: options of an executor that is not used; add --executor {name}, or leave them out"
            )


def export(layout: str, settings: layouts.CommonSettings, groups: Mapping[str, Any]) -> int:
    """Export what is missing; returns the exit code. `groups` holds each executor's own options."""
    job = export_job.prepare(layout, settings)
    out = settings.out
    _print_job(job)
    export_job.check_folder(out, job.facts)
    with (
        files.exclusive(out, command="ks-export"),
        stoppable(signal.SIGINT, signal.SIGTERM) as stop,
        files.scratch(out.absolute()) as scratch,
    ):
        export_job.claim(out, job.facts)
        names = _list_names(job)
        for name in (export_job.NAME, journal.NAME, *names):
            files.remove_parts((out / name).parent, (out / name).name)
        _refuse_foreign(job, names)
        known = _whole(job, stop)
        export_job.check_clips(job, known)

        def start() -> executors.Pool[Task, Answer]:
            return executors.start(
                settings.executor,
                work.attempt,
                workers=settings.workers,
                folder=scratch,
                chosen=groups.get(settings.executor),
            )

        with contextlib.closing(RetryOnce(start, workers=settings.workers)) as pool:
            _lay_out(job, known, pool, scratch, stop)
        if stop:
            print(f"stopped by {stop} after the last whole clip; run the same command again to resume", file=sys.stderr)
            return STOPPED
        _write_lists(job, known)
    return _print_result(job, known)


def _print_job(job: Job) -> None:
    """Print what is exported, where to, and the class list's note."""
    log = sys.stderr if job.settings.json else sys.stdout
    print(f"{'shards' if job.settings.shards else 'manifest'}: {job.place}\nout: {job.settings.out}", file=log)
    if note := job.facts["note"]:
        print(f"class list: {job.facts['classes']} ({str(note).rstrip('.')})", file=log)
    for told in job.unfinished:
        print(f"{job.place}: {told}", file=sys.stderr)


def _whole(job: Job, stop: Stop) -> Known:
    """Clips already exported and unchanged."""
    out, settings = job.settings.out, job.settings
    known, layout = journal.read(out / journal.NAME), layouts.load(job.layout)
    names = set(layout.counts(settings))
    items = [item for item in job.items if item.entry.key in known]

    def difference(item: Item) -> str:
        made = known[item.entry.key]
        if isinstance(made, SkippedClip):
            return ""
        if set(made.counts) != names:
            return "is recorded otherwise"
        if set(made.places) != set(layout.places(item.entry, settings)):
            return "is recorded otherwise"
        each = (
            (place, placing.difference(out / place, made.places[place], check_bytes=settings.check_bytes))
            for place in made.places
        )
        return next((f"{place}: {what}" for place, what in each if what), "")

    kept: Known = {}
    with progress.bar("ks-export --check_bytes", len(items), shown=settings.check_bytes) as bar:
        for item, differs in files.in_threads(difference, items):
            bar.advance("changed" if differs else "whole")
            if differs:
                progress.log.warning("%s: %s; it will be rebuilt", item.entry.key, differs)
            else:
                kept[item.entry.key] = known[item.entry.key]
            if stop:
                break
    return kept


def _refuse_foreign(job: Job, names: set[str]) -> None:
    """Raise SettingsError for foreign files among the clips': a loader might read them."""
    layout = layouts.load(job.layout)
    places = {place for item in job.items for place in layout.places(item.entry, job.settings)}
    found = placing.foreign_files(job.settings.out, places | names)
    if found:
        raise SettingsError(
            f"{job.settings.out}: contains files of something else: {first_of(found, MOST_NAMED)}; "
            "move them away, or choose another --out"
        )


def _list_names(job: Job) -> set[str]:
    every = [Exported(entry=item.entry, counts=defaultdict(int)) for item in job.items]
    return set(layouts.load(job.layout).lists(every, job.labels, job.settings))


def _lay_out(job: Job, known: Known, pool: executors.Pool[Task, Answer], scratch: Path, stop: Stop) -> None:
    """Make the missing clips; each is recorded once its files have their final names."""
    settings, layout = job.settings, layouts.load(job.layout)
    told = Work(
        layout=job.layout,
        settings=settings,
        out=settings.out.absolute(),
        scratch=scratch,
        clips=job.clips,
        tools=str(layout.recipe(settings)),
    )
    missing = [item for item in job.items if item.entry.key not in known]
    if not missing:
        return
    tasks = (Task(entry=item.entry, media=item.media, number=item.number, work=told) for item in missing)
    done = len(job.items) - len(missing)
    writer = journal.Writer(settings.out / journal.NAME)
    with contextlib.closing(writer), progress.bar(f"ks-export {job.layout}", len(job.items), done=done) as bar:
        for task, result in executors.in_order(pool, tasks, timeout_seconds=attempts.TASK_SECONDS, stop=stop.__bool__):
            attempts.check(task.entry.key, result)
            if isinstance(result, Made | SkippedClip):
                writer.add(task.entry.key, result)
                known[task.entry.key] = result
                bar.advance("made" if isinstance(result, Made) else "left out")


def _write_lists(job: Job, known: Known) -> None:
    """Write the layout's lists and the sorted journal; unchanged files are not rewritten."""
    done = [
        Exported(entry=item.entry, counts=made.counts)
        for item in job.items
        if isinstance(made := known[item.entry.key], Made)
    ]
    out = job.settings.out
    for name, data in layouts.load(job.layout).lists(done, job.labels, job.settings).items():
        path = out / name
        if not path.is_file() or path.read_bytes() != data:
            files.write_bytes(path, data)
    journal.write(out / journal.NAME, ((item.entry.key, known[item.entry.key]) for item in job.items))


def _print_result(job: Job, known: Known) -> int:
    """Print what was exported and what was left out; returns the exit code."""
    counts: dict[str, dict[str, int]] = {}
    for item in job.items:
        made = known[item.entry.key]
        each = counts.setdefault(item.entry.clip.split, {"clips": 0, "left": 0})
        each["left" if isinstance(made, SkippedClip) else "clips"] += 1
        if isinstance(made, SkippedClip):
            print(f"left out of {item.entry.clip.split}: {made.key}: {made.status}: {made.detail}", file=sys.stderr)
    if job.settings.json:
        print(json.dumps({"layout": job.layout, "selection": job.facts["selection"], "splits": counts}))
    else:
        for split, each in counts.items():
            print(f"{split}: {plural(each['clips'], 'clip')}, {each['left']} left out")
    return SOME_FAILED if any(each["left"] for each in counts.values()) else DONE


if __name__ == "__main__":
    sys.exit(main())
