"""What a build has, lacks and took; and, before it begins, what it would ask of whom."""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kinetics_sounds import manifest
from kinetics_sounds.classes import ClassList
from kinetics_sounds.clip import SPLITS, Clip, Outcome
from kinetics_sounds.errors import SourceError
from kinetics_sounds.ledger import PartEntry, name_of
from kinetics_sounds.sources import Archive, Source

from .archives import unread
from .rounds import Standing, Tally, wanting

CLIP_BYTES = 1_500_000
"""Of a ten-second clip of 480 lines, cut anew."""
CLIP_SECONDS = 1.5
"""Of one core, for a clip to be cut, measured and placed."""
VIDEO_BYTES = 15_000_000
"""Of a video of a few minutes, of up to 480 lines."""
BYTES_PER_SECOND = 20e6
"""That a mirror is taken to give."""
LEAST_COVERED = 10
"""Classes that the summary names."""


@dataclass(slots=True)
class Account:
    """Counts of outcomes, taken as they pass by."""

    statuses: Counter[str] = field(default_factory=Counter)
    kinds: Counter[str] = field(default_factory=Counter)
    sources: Counter[str] = field(default_factory=Counter)
    """Where the ok clips came from."""
    annotated: Counter[tuple[str, str]] = field(default_factory=Counter)
    """By split and label."""
    ok: Counter[tuple[str, str]] = field(default_factory=Counter)
    """By split and label."""
    keys: list[str] = field(default_factory=list)
    """Of the ok clips."""
    bytes: int = 0
    flags: Counter[str] = field(default_factory=lambda: Counter(silent=0, still=0, dubbed=0))
    """Of the ok clips, those that whoever trains may want to leave out."""

    def counted(self, outcomes: Iterable[Outcome]) -> Iterator[Outcome]:
        """The same outcomes, each counted."""
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
            yield outcome

    @property
    def complete(self) -> bool:
        """Every annotated clip is there."""
        return len(self.keys) == self.statuses.total()

    def report(self, classes: ClassList, tally: Tally, *, seconds: float) -> dict[str, Any]:
        """The document `report.json`."""
        stages = {
            stage: round(took, 1) for took, stage in sorted(((t, s) for s, t in tally.seconds.items()), reverse=True)
        }
        clips = len(tally.keys)
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
            "bytes": self.bytes,
            "flags": dict(self.flags),
            "this_run": {
                "clips": clips,
                "tries": tally.counts["tries"],
                "seconds": round(seconds, 1),
                "clips_per_second": round(clips / seconds, 3) if seconds > 0 else 0.0,
                "requests": tally.counts["requests"],
                "bytes_downloaded": tally.counts["bytes"],
                "worker_seconds": stages,
                "slowest_stage": next(iter(stages), ""),
            },
        }


def summary(report: Mapping[str, Any], out: Path) -> str:
    """The report for people."""
    told = ", ".join(f"{name} {count}" for name, count in report["statuses"].items())
    lines = [f"{report['ok']} of {report['annotated']} annotated clips are ok ({told})"]
    kinds = ", ".join(f"{name} {count}" for name, count in report["kinds"].items())
    lines.append(f"by kind: {kinds}; from: {', '.join(f'{n} {c}' for n, c in report['sources'].items()) or 'nowhere'}")
    flags = report["flags"]
    dubbed = f", {flags['dubbed']} with a sound that is not told to be the original" if flags["dubbed"] else ""
    lines.append(f"flagged among the ok ones: {flags['silent']} silent, {flags['still']} with a still picture{dubbed}")
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
        stages = ", ".join(f"{stage} {took:g} s" for stage, took in run["worker_seconds"].items())
        size = f", {run['bytes_downloaded'] / 1e6:.1f} MB downloaded" if run["bytes_downloaded"] else ""
        lines.append(
            f"this run: {run['clips']} clips in {run['seconds']:g} s ({run['clips_per_second']:g} a second){size}; "
            f"workers' time: {stages or 'none'}"
        )
    lines.append(f"clips: {report['bytes'] / 1e9:.2f} GB\nmanifest: {out / 'manifest.parquet'} (and .csv)")
    lines.append(f"report: {out / 'report.json'}")
    return "\n".join(lines)


def forecast(
    asked: Mapping[str, Source | Archive],
    clips: Sequence[Clip],
    known: Standing,
    read: Mapping[str, Mapping[str, PartEntry]],
    *,
    again: Collection[str],
    workers: int,
) -> str:
    """What would be asked of which source in which order, and what may come of it.

    `read`: by source, the archives that were read before.
    """
    lines = [f"{len(known.ok)} clips are there already"] if known.ok else []
    left = {clip.key: 1.0 for clip in clips if clip.key not in known.ok}  # the chance that a clip is still wanting
    total_hours, total_gain, found_anywhere = 0.0, 0.0, set[str]()
    for spec, source in asked.items():
        found = [clip for clip in wanting(known, spec, clips) if left[clip.key] > 0]
        if isinstance(source, Archive):
            said, hours = _streaming(source, found, read.get(spec, {}), again)
            count = sum(left[clip.key] for clip in found)
            lines.append(f"would stream {name_of(spec)} for {count:.0f} clips: {said}")
        else:
            found = [clip for clip in found if source.locate(clip) is not None]
            count = sum(left[clip.key] for clip in found)
            lines.append(f"would ask {name_of(spec)}: {count:.0f} clips")
            hours = 0.0
            if source.videos_per_hour:
                hours = count / source.videos_per_hour
                size = count * VIDEO_BYTES / 1e9
                lines.append(
                    f"  at {source.videos_per_hour:g} videos an hour from one address, some {size:.1f} GB to download"
                )
        gain = 0.0
        for clip in found:
            share = source.share[clip.split]
            gain += left[clip.key] * share
            left[clip.key] *= 1 - share
        hours = max(hours, gain * CLIP_SECONDS / workers / 3600)
        lines.append(f"  expect {gain:.0f} clips at most, in {_hours(hours)}")
        found_anywhere.update(clip.key for clip in found)
        total_hours += hours
        total_gain += gain
    if nowhere := len(left) - len(found_anywhere):
        lines.append(f"no source has a file of {nowhere} clips, or each has said for good why not")
    lines.append(
        f"expect {len(known.ok) + total_gain:.0f} of {len(clips)} clips at most, {_hours(total_hours)} on {workers} workers, "
        f"{total_gain * CLIP_BYTES / 1e9:.1f} GB more on disk (less where a source's own files are linked)"
    )
    return "\n".join(lines)


def _streaming(
    source: Archive, clips: Sequence[Clip], read: Mapping[str, PartEntry], again: Collection[str]
) -> tuple[str, float]:
    """How much is to be streamed for some clips, in words, and in hours."""
    try:
        parts = source.parts(sorted({clip.split for clip in clips})) if clips else []
    except SourceError as error:
        return f"its parts cannot be told now ({error})", 0.0
    chosen = unread(parts, read, {clip.key for clip in clips}, again)
    places = [Path(part.place) for part in chosen]
    size = sum(place.stat().st_size if place.is_file() else source.part_bytes for place in places)
    told = f"{size / 1e9:.0f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"
    said = f"{len(chosen)} of {len(parts)} parts, about {told}, none of which is stored"
    return said, size / BYTES_PER_SECOND / 3600


def _hours(hours: float) -> str:
    if hours < 1:
        minutes = max(1, round(hours * 60))
        return f"about {minutes} minute{'s' * (minutes > 1)}"
    return f"about {hours:.1f} hours" if hours < 48 else f"about {hours / 24:.1f} days"
