"""Report of a build: what it has, lacks and needed."""

import itertools
import shlex
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kinetics_sounds import manifest
from kinetics_sounds.classes import ClassList
from kinetics_sounds.clip import SPLITS, Clip, Kind, Media, Outcome, Status, label_folder
from kinetics_sounds.clip_names import ANOTHER_FILE, ONE_OF_SEVERAL, SPAN_ALONE
from kinetics_sounds.errors import ShardError
from kinetics_sounds.fingerprints import Both
from kinetics_sounds.folders import first_free
from kinetics_sounds.quantities import byte_size, first_of, plural
from kinetics_sounds.shards import index

from .. import absent_classes, several_splits
from . import comparison, coverage, list_report, replaced
from .driver import RunStats

LEAST_COVERED = 10
"""Number of classes listed in the summary."""
STAGES = {"fetch": "fetching", "cut": "trimming and checking", "place": "moving into the folder"}
"""What the workers' stages are called in the summary."""
NAMED = 5
"""Number of remarks that are listed."""
EXAMPLES = 3
"""Number of clips named for each reason why clips are missing."""


@dataclass(slots=True)
class Account:
    """Counts of outcomes, updated while they pass through."""

    one_video: bool = True
    """Whether an ID names one video."""
    statuses: Counter[str] = field(default_factory=Counter)
    kinds: Counter[str] = field(default_factory=Counter)
    sources: Counter[str] = field(default_factory=Counter)
    """Number of ok clips by source."""
    annotated: Counter[tuple[str, str]] = field(default_factory=Counter)
    """By split and label."""
    ok: Counter[tuple[str, str]] = field(default_factory=Counter)
    """By split and label."""
    clips: list[Clip] = field(default_factory=list)
    """The ok clips."""
    missing: defaultdict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    """Keys of the first other clips, by status."""
    in_former_class: list[str] = field(default_factory=list)
    """Paths of the ok clips that earlier runs made with another label."""
    bytes: int = 0
    flags: Counter[str] = field(default_factory=lambda: Counter(silent=0, still=0, dubbed=0))
    """Ok clips with properties that may matter for training: silent, still and others."""
    remarks: Counter[str] = field(default_factory=Counter)
    """Assumptions made for ok clips, where uncertain."""
    such_as: dict[str, str] = field(default_factory=dict)
    """The first clip of each remark."""

    def counted(self, outcomes: Iterable[Outcome]) -> Iterator[Outcome]:
        """Pass outcomes through and count them."""
        for outcome in outcomes:
            place = (outcome.clip.split, outcome.clip.label)
            self.statuses[outcome.status.value] += 1
            self.kinds[outcome.status.kind.value] += 1
            self.annotated[place] += 1
            if outcome.media is None:
                if len(some := self.missing[outcome.status.value]) < EXAMPLES:
                    some.append(outcome.clip.key)
            else:
                self.ok[place] += 1
                self.sources[outcome.source] += 1
                self.clips.append(outcome.clip)
                self.bytes += outcome.media.bytes
                if Path(outcome.media.path).parent.name != label_folder(outcome.clip.label):
                    self.in_former_class.append(outcome.media.path)
                dubbed = outcome.media.audio_track not in ("", "original")
                self.flags.update(silent=outcome.media.silent, still=outcome.media.still, dubbed=dubbed)
                for remark in outcome.detail.split("; ") if outcome.detail else ():
                    self.remarks[remark] += 1
                    self.such_as.setdefault(remark, _told(outcome.clip, outcome.media))
            yield outcome

    @property
    def complete(self) -> bool:
        """Whether every annotated clip exists."""
        return len(self.clips) == self.statuses.total()

    def report(self, classes: ClassList, stats: RunStats, *, seconds: float, both: Both) -> dict[str, Any]:
        """Contents of `report.json`; `both` are the fingerprints of its manifest."""
        stages = {
            stage: round(seconds, 1)
            for seconds, stage in sorted(((t, s) for s, t in stats.seconds.items()), reverse=True)
        }
        clips = len(stats.keys)
        return {
            "classes": classes.name,
            "note": classes.note,
            "annotated": self.statuses.total(),
            "ok": len(self.clips),
            "statuses": dict(self.statuses.most_common()),
            "missing_such_as": {
                status: self.missing[status] for status, _ in self.statuses.most_common() if status in self.missing
            },
            "kinds": dict(self.kinds.most_common()),
            "sources": dict(self.sources.most_common()),
            "coverage": {
                split: {
                    label: {"annotated": count, "ok": self.ok[split, label]}
                    for (place, label), count in self.annotated.items()
                    if place == split
                }
                for split in SPLITS
                if any(place == split for place, _ in self.annotated)
            },
            "fingerprint": manifest.fingerprint(clip.key for clip in self.clips),
            **both,
            "bytes": self.bytes,
            "in_several_splits": several_splits.in_several_splits(self.clips) if self.one_video else {},
            "in_former_class": self.in_former_class,
            "flags": dict(self.flags),
            "remarks": dict(self.remarks.most_common()),
            "remarks_such_as": self.such_as,
            "this_run": {
                "clips": clips,
                "tries": stats.counts["tries"],
                "seconds": round(seconds, 1),
                "clips_per_second": round(clips / seconds, 3) if seconds > 0 else 0.0,
                "requests": stats.counts["requests"],
                "bytes_downloaded": stats.counts["bytes"],
                "worker_seconds": stages,
                "slowest_stage": next(iter(stages), ""),
            },
        }


def summary(report: Mapping[str, Any], out: Path) -> str:
    """The report as text."""
    lines = [*_outcomes(report), *_flags(report)]
    least: list[tuple[float, str]] = []
    for split, classes in report["coverage"].items():
        ok, annotated = (sum(each[what] for each in classes.values()) for what in ("ok", "annotated"))
        full = sum(each["ok"] == each["annotated"] for each in classes.values())
        lines.append(
            f"{split}: {ok} of {plural(annotated, 'clip')} ok ({ok / annotated:.1%}), "
            f"{full} of {plural(len(classes), 'class', 'classes')} complete"
        )
        for label, each in classes.items():
            if each["ok"] < each["annotated"]:
                share = each["ok"] / each["annotated"]
                least.append((share, f"{label} ({split}) {each['ok']}/{each['annotated']}"))
    if least:
        lines.append("least covered: " + ", ".join(text for _, text in sorted(least)[:LEAST_COVERED]))
    lines += _absent_classes(report["coverage"])
    run = report["this_run"]
    if run["clips"]:
        stages = ", ".join(
            f"{STAGES.get(stage, stage)} {seconds:g} s" for stage, seconds in run["worker_seconds"].items()
        )
        size = f", {byte_size(run['bytes_downloaded'])} downloaded" if run["bytes_downloaded"] else ""
        lines.append(
            f"this run: {plural(run['clips'], 'clip')} in {run['seconds']:g} s ({run['clips_per_second']:g} a second){size}; "
            f"workers' time: {stages or 'none'}"
        )
    lines += coverage.lines(report["judged_otherwise"], out) if "judged_otherwise" in report else []
    lines += [several_splits.text(found)] if (found := report["in_several_splits"]) else []
    lines += _in_former_class(report["in_former_class"])
    lines += replaced.left_out_lines(report.get("left_out", {}), out)
    lines += [list_report.text(report["lists"])] if "lists" in report else []
    lines += [comparison.text(report["compared"])] if "compared" in report else []
    lines.append(f"size: {byte_size(report['bytes'])} of clips\nmanifest: {out / 'manifest.parquet'} (and .csv)")
    lines.append(f"report: {out / 'report.json'}; to look at the clips: ks-view {out}")
    return "\n".join(lines)


def next_step(report: Mapping[str, Any], out: Path) -> str:
    """The command that packs the build; into another folder, with the reason, if its shards are of an earlier manifest."""
    command = f"next: ks-shard --manifest {shlex.quote(str(out / 'manifest.parquet'))}"
    shards = out / "shards"
    try:
        packed = index.read_dataset(shards)
    except ShardError:  # there is none yet, or a damaged one: ks-shard tells
        return command
    left_out = any(split.left for split in packed.splits.values())
    if not packed.content or left_out or (packed.selection, packed.content) == (report["selection"], report["content"]):
        return command
    reason = f"{shards}: has shards of the manifest before; delete them, or keep them and pack into another folder"
    return f"{reason}\n{command} --out {shlex.quote(str(first_free(shards, lambda each: not each.exists())))}"


def _outcomes(report: Mapping[str, Any]) -> Iterator[str]:
    """How many clips there are, why the others are missing, and whether another run may find them."""
    annotated, missing = report["annotated"], report["annotated"] - report["ok"]
    why = ", ".join(f"{count} {status}" for status, count in report["statuses"].items() if status != Status.OK)
    yield f"{report['ok']} of {plural(annotated, 'annotated clip')} ok" + (f"; missing: {why}" if missing else "")
    if missing:
        lost = report["kinds"].get(Kind.PERMANENT, 0)
        told = [f"{missing - lost} will be retried by the next run"] if missing > lost else []
        anyway = "a further --source may have them; to try these again: --retry permanent"
        told += [f"{lost} will not be requested again from these sources ({anyway})"] if lost else []
        yield f"of the missing clips, {', '.join(told)}"
        for status, keys in report["missing_such_as"].items():
            more = report["statuses"][status] - len(keys)
            yield f"{status}: {', '.join(keys)}{f' and {more} more' if more else ''}"
    if report["sources"]:
        yield f"sources: {', '.join(f'{count} from {source}' for source, count in report['sources'].items())}"


def _absent_classes(splits: Mapping[str, Mapping[str, Mapping[str, int]]]) -> Iterator[str]:
    labels = sorted({label for classes in splits.values() for label in classes})
    ok = ((split, label) for split, classes in splits.items() for label, each in classes.items() if each["ok"])
    return absent_classes.lines(labels, ok)


def _flags(report: Mapping[str, Any]) -> Iterator[str]:
    """What may matter for training among the ok clips, and what was assumed of them."""
    flags = report["flags"]
    dubbed = f", {flags['dubbed']} with a sound track not known to be the original" if flags["dubbed"] else ""
    yield f"of the ok clips, {flags['silent']} silent, {flags['still']} with a still picture{dubbed}"
    for said, count in itertools.islice(_remarks(report["remarks"]).items(), NAMED):
        yield _span_alone(report, count) if said == SPAN_ALONE else f"of the ok clips, {count} {said}"


def _remarks(counts: Mapping[str, int]) -> Mapping[str, int]:
    """Numbers of clips by remark: first the remarks that a user can act on; clips taken from another file have one count."""
    first = {said: counts[said] for said in (SPAN_ALONE, ONE_OF_SEVERAL) if said in counts}
    others = {said: count for said, count in counts.items() if said.startswith(ANOTHER_FILE)}
    another = {f"{ANOTHER_FILE} not usable": sum(others.values())} if others else {}
    return first | another | {said: count for said, count in counts.items() if said not in others}


def _in_former_class(paths: Sequence[str]) -> Iterator[str]:
    """Which clips got another label since they were made."""
    if paths:
        lie = "clip lies" if len(paths) == 1 else "clips lie"
        yield (
            f"{len(paths)} {lie} in the folder of a former label ({first_of(paths, EXAMPLES)}): the manifest has the label that "
            "counts; to have a clip in its folder, delete it and run the same command again"
        )


def _told(clip: Clip, media: Media) -> str:
    """A clip as the example of a remark."""
    return f"{clip.youtube_id}: {media.duration_seconds:.1f} s, span {clip.time_start} to {clip.time_end} s"


def _span_alone(report: Mapping[str, Any], count: int) -> str:
    """What it means that files were taken for the span itself, and the options that prevent it."""
    named = {source.partition(":")[0] for source in report["sources"]} & {"local", "archives"}
    options = " ".join(f"--{name}.trimmed no" for name in sorted(named))
    such = report["remarks_such_as"][SPAN_ALONE]
    if count == 1:
        return (
            f"1 file ends before the end of its span ({such}), so it was taken for the span itself; if it is a whole video, the "
            f"times are wrong: mend them, and build with {options} into another --out"
        )
    return (
        f"{count} files end before the end of their span ({such}), so each was taken for the span itself; if they are whole "
        f"videos, the times are wrong: mend them, and build with {options} into another --out"
    )
