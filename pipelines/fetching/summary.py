"""Report of a build: what it has, lacks and needed; and the forecast of a dry run."""

import itertools
import random
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kinetics_sounds import manifest
from kinetics_sounds.address import Address
from kinetics_sounds.classes import ClassList
from kinetics_sounds.clip import SPLITS, Clip, Outcome, Status
from kinetics_sounds.errors import SourceError
from kinetics_sounds.fingerprints import Both
from kinetics_sounds.ledger import PartEntry, name_of
from kinetics_sounds.sources import OnDisk, Source, TarPart, TarSource, advice

from . import comparison, list_report
from .build_state import BuildState, candidates, pending
from .driver import RunStats
from .part_contents import known_parts, unread
from .plan import shared_videos
from .trim import estimate, unless_shared

CLIP_BYTES = 1_500_000
"""Typical size of a ten-second clip of 480 lines in bytes."""
CLIP_SECONDS = 2.8
"""Typical time of one core to trim, measure and move a clip, in seconds (`benchmarks/build.md`: 168.2 for 60 clips)."""
VIDEO_BYTES = 15_000_000
"""Typical size of a video of a few minutes and up to 480 lines, in bytes."""
BYTES_PER_SECOND = 20e6
"""Assumed download rate of a mirror in bytes per second."""
LEAST_COVERED = 10
"""Number of classes listed in the summary."""
OPENED = 20
"""Number of files of a folder that a forecast opens."""
NAMED = 5
"""Number of unusable files, and of remarks, that are listed."""


@dataclass(slots=True)
class Account:
    """Counts of outcomes, updated while they pass through."""

    statuses: Counter[str] = field(default_factory=Counter)
    kinds: Counter[str] = field(default_factory=Counter)
    sources: Counter[str] = field(default_factory=Counter)
    """Number of ok clips by source."""
    annotated: Counter[tuple[str, str]] = field(default_factory=Counter)
    """By split and label."""
    ok: Counter[tuple[str, str]] = field(default_factory=Counter)
    """By split and label."""
    keys: list[str] = field(default_factory=list)
    """Keys of the ok clips."""
    bytes: int = 0
    flags: Counter[str] = field(default_factory=lambda: Counter(silent=0, still=0, dubbed=0))
    """Ok clips with properties that may matter for training: silent, still and others."""
    remarks: Counter[str] = field(default_factory=Counter)
    """Assumptions made for ok clips, where uncertain."""

    def counted(self, outcomes: Iterable[Outcome]) -> Iterator[Outcome]:
        """Pass outcomes through and count them."""
        for outcome in outcomes:
            place = (outcome.clip.split, outcome.clip.label)
            self.statuses[outcome.status.value] += 1
            self.kinds[outcome.status.kind.value] += 1
            self.annotated[place] += 1
            if outcome.media is not None:
                self.ok[place] += 1
                self.sources[outcome.source] += 1
                self.keys.append(outcome.clip.key)
                self.bytes += outcome.media.bytes
                dubbed = outcome.media.audio_track not in ("", "original")
                self.flags.update(silent=outcome.media.silent, still=outcome.media.still, dubbed=dubbed)
                self.remarks.update([outcome.detail] if outcome.detail else [])
            yield outcome

    @property
    def complete(self) -> bool:
        """Whether every annotated clip exists."""
        return len(self.keys) == self.statuses.total()

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
            "ok": len(self.keys),
            "statuses": dict(self.statuses.most_common()),
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
            "fingerprint": manifest.fingerprint(self.keys),
            **both,
            "bytes": self.bytes,
            "flags": dict(self.flags),
            "remarks": dict(self.remarks.most_common()),
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
    told = ", ".join(f"{name} {count}" for name, count in report["statuses"].items())
    lines = [f"{report['ok']} of {report['annotated']} annotated clips are ok ({told})"]
    kinds = ", ".join(f"{name} {count}" for name, count in report["kinds"].items())
    lines.append(f"by kind: {kinds}; from: {', '.join(f'{n} {c}' for n, c in report['sources'].items()) or 'nowhere'}")
    flags = report["flags"]
    dubbed = f", {flags['dubbed']} whose sound track is not known to be the original" if flags["dubbed"] else ""
    lines.append(f"flagged among the ok ones: {flags['silent']} silent, {flags['still']} with a still picture{dubbed}")
    lines += [f"{count} ok ones: {said}" for said, count in itertools.islice(report["remarks"].items(), NAMED)]
    least: list[tuple[float, str]] = []
    for split, classes in report["coverage"].items():
        ok, annotated = (sum(each[what] for each in classes.values()) for what in ("ok", "annotated"))
        full = sum(each["ok"] == each["annotated"] for each in classes.values())
        lines.append(
            f"{split}: {ok} of {annotated} ({ok / annotated:.1%}) in {len(classes)} classes, {full} of them complete"
        )
        for label, each in classes.items():
            if each["ok"] < each["annotated"]:
                share = each["ok"] / each["annotated"]
                least.append((share, f"{label} ({split}) {each['ok']}/{each['annotated']}"))
    if least:
        lines.append("least covered: " + ", ".join(text for _, text in sorted(least)[:LEAST_COVERED]))
    run = report["this_run"]
    if run["clips"]:
        stages = ", ".join(f"{stage} {seconds:g} s" for stage, seconds in run["worker_seconds"].items())
        size = f", {run['bytes_downloaded'] / 1e6:.1f} MB downloaded" if run["bytes_downloaded"] else ""
        lines.append(
            f"this run: {run['clips']} clips in {run['seconds']:g} s ({run['clips_per_second']:g} a second){size}; "
            f"workers' time: {stages or 'none'}"
        )
    lines += [list_report.text(report["lists"])] if "lists" in report else []
    lines += [comparison.text(report["compared"])] if "compared" in report else []
    lines.append(f"clips: {report['bytes'] / 1e9:.2f} GB\nmanifest: {out / 'manifest.parquet'} (and .csv)")
    lines.append(f"report: {out / 'report.json'}; to look at the clips: ks-view {out}")
    return "\n".join(lines)


def forecast(
    asked: Mapping[Address, Source | TarSource],
    clips: Sequence[Clip],
    known: BuildState,
    read: Mapping[Address, Mapping[str, PartEntry]],
    *,
    again: Collection[str],
    workers: int,
    min_coverage: float,
) -> dict[str, Any]:
    """Contents of `--dry_run --json`: what would be requested from each source in order, and the expected results.

    `read`: by source, the archives already read. Some local files are opened; nothing is written.
    """
    chances = {clip.key: 1.0 for clip in clips if clip.key not in known.ok}  # that a clip is still wanting
    shared = shared_videos(clips)
    documents: list[dict[str, Any]] = []
    found_anywhere = set[str]()
    for spec, source in asked.items():
        found = [clip for clip in pending(known, spec, clips) if chances[clip.key] > 0]
        document: dict[str, Any] = {"source": name_of(spec)}
        shares: Mapping[str, float] = {}
        hours = 0.0
        if isinstance(source, TarSource):
            document["clips"] = sum(chances[clip.key] for clip in found)
            document |= _streaming(source, found, read.get(spec, {}), again)
            hours = document.get("bytes", 0) / BYTES_PER_SECOND / 3600
        else:
            lacking = [clip for clip in found if not candidates(known, source, clip)]
            found = [clip for clip in found if candidates(known, source, clip)]
            count = document["clips"] = sum(chances[clip.key] for clip in found)
            if isinstance(source, OnDisk):
                opened = _opened(source, found, known, shared, min_coverage)
                document |= _folder(source, lacking, found, opened)
                good = sum(status is Status.OK for status, _ in opened.values())
                shares = {clip.key: good / len(opened) for clip in found}  # those that were opened are known, though
                shares |= {key: float(status is Status.OK) for key, (status, _) in opened.items()}
            if source.videos_per_hour:
                hours = count / source.videos_per_hour
                document |= {"videos_per_hour": source.videos_per_hour, "bytes": round(count * VIDEO_BYTES)}
        gain = 0.0
        for clip in found:
            share = source.share[clip.split] * shares.get(clip.key, 1.0)
            gain += chances[clip.key] * share
            chances[clip.key] *= 1 - share
        hours = max(hours, gain * CLIP_SECONDS / workers / 3600)
        documents.append(document | {"expected": gain, "hours": hours})
        found_anywhere.update(clip.key for clip in found)
    gains, hours = (sum(each[what] for each in documents) for what in ("expected", "hours"))
    return {
        "annotated": len(clips),
        "ok": len(known.ok),
        "sources": documents,
        "nowhere": len(chances) - len(found_anywhere),
        "expected": len(known.ok) + gains,
        "hours": hours,
        "workers": workers,
        "bytes": round(gains * CLIP_BYTES),
    }


def _opened(
    source: OnDisk, found: Sequence[Clip], known: BuildState, shared: Collection[str], min_coverage: float
) -> dict[str, tuple[Status, str]]:
    """Expected status and detail for a reproducible random sample of the clips."""
    drawn = random.Random(0).sample(sorted(found), min(OPENED, len(found)))  # noqa: S311 - no secret
    return {clip.key: _forecast_clip(source, clip, known, shared, min_coverage) for clip in sorted(drawn)}


def _forecast_clip(
    source: OnDisk, clip: Clip, known: BuildState, shared: Collection[str], min_coverage: float
) -> tuple[Status, str]:
    """Expected result of the first candidate that seems usable, else of the first."""
    said: list[tuple[Status, str]] = []
    for place in candidates(known, source, clip):
        try:
            fetched = unless_shared(source.fetch(clip, place, Path()), only_clip=clip.youtube_id not in shared)
            said.append(estimate(clip, fetched, min_coverage=min_coverage))
        except OSError as error:
            said.append((Status.UNREADABLE, error.strerror or str(error)))
        if said[-1][0] is Status.OK:
            return said[-1]
    return said[0]


def _folder(
    source: OnDisk, lacking: Sequence[Clip], found: Sequence[Clip], opened: Mapping[str, tuple[Status, str]]
) -> dict[str, Any]:
    """Information on local files."""
    files, first = source.seen()
    bad = {key: f"{status}: {detail}" for key, (status, detail) in opened.items() if status is not Status.OK}
    near_misses = [near_miss for clip in lacking if (near_miss := source.near_miss(clip))]
    return {
        "files": files,
        "first_files": list(first),
        "advice": advice(near_misses, found=len(found), files=files, first=first, patterns=source.patterns),
        "opened": len(opened),
        "good": len(opened) - len(bad),
        "bad": bad,
        "remarks": dict(Counter(detail for status, detail in opened.values() if status is Status.OK and detail)),
    }


def _streaming(
    source: TarSource, clips: Sequence[Clip], read: Mapping[str, PartEntry], again: Collection[str]
) -> dict[str, Any]:
    """Amount of data to stream for some clips."""
    try:
        parts = source.parts(sorted({clip.split for clip in clips})) if clips else []
    except SourceError as error:
        return {"trouble": str(error)}
    chosen = unread(parts, known_parts(source, clips, read), {clip.key for clip in clips}, again)
    sizes = [_part_bytes(source, part) for part in chosen]
    known = [size for size in sizes if size is not None]
    return {
        "parts": len(parts),
        "parts_to_read": len(chosen),
        "bytes": sum(known),
        "parts_of_unknown_size": len(sizes) - len(known),
    }


def _part_bytes(source: TarSource, part: TarPart) -> int | None:
    """Size of a part in bytes, or a typical one; None if unknown."""
    place = Path(part.place)
    if part.size is None and "://" not in part.place and place.is_file():
        return place.stat().st_size
    return source.part_bytes if part.size is None else part.size


def forecast_text(document: Mapping[str, Any]) -> str:
    """The forecast as text."""
    lines = [f"{document['ok']} clips exist already"] if document["ok"] else []
    for each in document["sources"]:
        lines += _source_lines(each)
    if document["nowhere"]:
        lines.append(f"{document['nowhere']} clips are not available from any source")
    lines.append(
        f"expect {document['expected']:.0f} of {document['annotated']} clips at most, {_hours(document['hours'])} on "
        f"{document['workers']} workers, {document['bytes'] / 1e9:.1f} GB more on disk (less where a source's own files "
        "are linked)"
    )
    return "\n".join(lines)


def _source_lines(each: Mapping[str, Any]) -> Iterator[str]:
    clips = f"{each['clips']:.0f} clips"
    if "trouble" in each:
        yield f"would stream {each['source']} for {clips}: its parts cannot be listed now ({each['trouble']})"
    elif "parts" in each:
        size = f"{each['bytes'] / 1e9:.0f} GB" if each["bytes"] >= 1e9 else f"{each['bytes'] / 1e6:.0f} MB"
        size = f"about {size}" if each["bytes"] or not each["parts_of_unknown_size"] else ""
        unknown = f"{each['parts_of_unknown_size']} of unknown size" if each["parts_of_unknown_size"] else ""
        told = " and ".join(filter(None, (size, unknown)))
        parts = f"{each['parts_to_read']} of {each['parts']} parts, {told}, none of which is stored"
        yield f"would stream {each['source']} for {clips}: {parts}"
    else:
        yield f"would request from {each['source']}: {clips}"
    if "videos_per_hour" in each:
        size = f"{each['bytes'] / 1e9:.1f} GB"
        yield f"  at {each['videos_per_hour']:g} videos per hour, about {size} to download"
    for line in each.get("advice", ()):
        yield f"  {line}"
    if each.get("opened"):
        yield f"  opened {each['opened']} of them: {each['good']} are readable and long enough"
        for key, said in itertools.islice(each["bad"].items(), NAMED):
            yield f"    {key}: {said}"
        if len(each["bad"]) > NAMED:
            yield f"    and {len(each['bad']) - NAMED} more"
        for remark, count in each["remarks"].items():
            yield f"    {count} of them {remark}"
    yield f"  expect {each['expected']:.0f} clips at most, in {_hours(each['hours'])}"


def _hours(hours: float) -> str:
    if hours < 1:
        minutes = max(1, round(hours * 60))
        return f"about {minutes} minute{'s' * (minutes > 1)}"
    return f"about {hours:.1f} hours" if hours < 48 else f"about {hours / 24:.1f} days"
