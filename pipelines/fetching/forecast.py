"""Forecast of a dry run: what would be requested from each source, and what to expect."""

import itertools
import random
import shutil
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from kinetics_sounds.address import Address
from kinetics_sounds.clip import Clip, Status
from kinetics_sounds.errors import SourceError
from kinetics_sounds.ledger import PartEntry, name_of
from kinetics_sounds.quantities import byte_size, plural
from kinetics_sounds.sources import OnDisk, Source, TarPart, TarSource, advice, name_one_video

from .. import several_splits
from .build_state import BuildState, candidates, failed_before, found_before, pending
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
OPENED = 20
"""Number of files of a folder that a forecast opens."""
NAMED = 5
"""Number of unusable files that are listed."""


def forecast(
    asked: Mapping[Address, Source | TarSource],
    clips: Sequence[Clip],
    known: BuildState,
    read: Mapping[Address, Mapping[str, PartEntry]],
    *,
    again: Collection[str],
    workers: int,
    min_coverage: float,
    out: Path,
) -> dict[str, Any]:
    """Contents of `--dry_run --json`: what would be requested from each source in order, and the expected results.

    `read`: by source, the archives already read. Some local files are opened; nothing is written.
    """
    chances = {clip.key: 1.0 for clip in clips if clip.key not in known.ok}  # that a clip is still wanting
    shared = shared_videos(clips)
    documents, found_anywhere = list[dict[str, Any]](), set[str]()
    for spec, source in asked.items():
        found = [clip for clip in pending(known, spec, clips) if chances[clip.key] > 0]
        document: dict[str, Any] = {"source": name_of(spec), "failed": len(failed := failed_before(known, spec))}
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
                document |= _folder(source, known, spec, lacking, found, opened)
                shares = _shares(found, opened)
            if source.videos_per_hour:
                hours = count / source.videos_per_hour
                document |= {"videos_per_hour": source.videos_per_hour, "bytes": round(count * VIDEO_BYTES)}
        gain = _gain(source, found, shares, chances)
        hours = max(hours, gain * CLIP_SECONDS / workers / 3600)
        documents.append(document | {"expected": gain, "hours": hours})
        found_anywhere |= failed | {clip.key for clip in found}
    gains, hours = (sum(each[what] for each in documents) for what in ("expected", "hours"))
    nowhere = [key for key in chances if key not in found_anywhere]
    return {
        "annotated": len(clips),
        "ok": len(known.ok),
        "sources": documents,
        "nowhere": len(nowhere),
        "first_nowhere": nowhere[:NAMED],
        "in_several_splits": several_splits.in_several_splits(clips) if name_one_video(asked.values()) else {},
        "expected": len(known.ok) + gains,
        "hours": hours,
        "workers": workers,
        "bytes": round(gains * CLIP_BYTES),
        "free_bytes": _free_bytes(out),
    }


def _gain(
    source: Source | TarSource, found: Iterable[Clip], shares: Mapping[str, float], chances: dict[str, float]
) -> float:
    """Expected number of clips from a source, which lowers their chances to be still wanting."""
    gain = 0.0
    for clip in found:
        share = source.share[clip.split] * shares.get(clip.key, 1.0)
        gain += chances[clip.key] * share
        chances[clip.key] *= 1 - share
    return gain


def _free_bytes(folder: Path) -> int:
    """Free space where a folder is, or will be."""
    return shutil.disk_usage(next(each for each in (folder, *folder.absolute().parents) if each.is_dir())).free


def _opened(
    source: OnDisk, found: Sequence[Clip], known: BuildState, shared: Collection[str], min_coverage: float
) -> dict[str, tuple[Status, str]]:
    """Expected status and detail for a reproducible random sample of the clips."""
    drawn = random.Random(0).sample(sorted(found), min(OPENED, len(found)))  # noqa: S311 - no secret
    return {clip.key: _forecast_clip(source, clip, known, shared, min_coverage) for clip in sorted(drawn)}


def _shares(found: Sequence[Clip], opened: Mapping[str, tuple[Status, str]]) -> dict[str, float]:
    """Chance of each clip: of those that were opened it is known, the others have these clips' mean."""
    good = {key: float(status is Status.OK) for key, (status, _) in opened.items()}
    mean = sum(good.values()) / max(1, len(good))
    return {clip.key: good.get(clip.key, mean) for clip in found}


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
    source: OnDisk,
    known: BuildState,
    spec: Address,
    lacking: Sequence[Clip],
    found: Sequence[Clip],
    opened: Mapping[str, tuple[Status, str]],
) -> dict[str, Any]:
    """Information on local files, of which `found` are pending clips."""
    files, first = source.seen()
    bad = {key: f"{status}: {detail}" for key, (status, detail) in opened.items() if status is not Status.OK}
    near_misses = [near_miss for clip in lacking if (near_miss := source.near_miss(clip))]
    count = len(found) + found_before(known, spec)
    hints = advice(near_misses, found=count, files=files, first=first, patterns=source.patterns)
    return {
        "files": files,
        "first_files": list(first),
        "advice": [*filter(None, [source.ambiguous(found)[1]]), *hints],
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
        "unknown_contents": bool(chosen) and set(source.share.values()) == {1.0},
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
    lines = [f"{plural(document['ok'], 'clip')} built already"] if document["ok"] else []
    for each in document["sources"]:
        lines += _source_lines(each)
    if document["nowhere"]:
        lines.append(f"{plural(document['nowhere'], 'clip')} not available from any source")
        lines.append(f"  such as {', '.join(document['first_nowhere'])}")
    if document["in_several_splits"]:
        lines.append(several_splits.text(document["in_several_splits"]))
    most = f"expect {document['expected']:.0f} of {plural(document['annotated'], 'clip')} at most"
    more = f"{byte_size(document['bytes'])} more on disk (less where a source's own files are linked)"
    if document["bytes"] > document["free_bytes"]:
        more += f"; {byte_size(document['free_bytes'])} are free there: they may not fit"
    took = f", {_hours(document['hours'])} on {plural(document['workers'], 'worker')}, {more}"
    lines.append(most + (took if document["hours"] else ""))
    return "\n".join(lines)


def _source_lines(each: Mapping[str, Any]) -> Iterator[str]:
    clips = plural(round(each["clips"]), "clip")
    if "trouble" in each:
        yield f"would stream {each['source']} for {clips}: its parts cannot be listed now ({each['trouble']})"
    elif "parts" in each:
        parts = f"{each['parts_to_read']} of {plural(each['parts'], 'part')}"
        unknown = f"{each['parts_of_unknown_size']} of unknown size" if each["parts_of_unknown_size"] else ""
        size = f"about {byte_size(each['bytes'])}" if each["bytes"] or not unknown else ""
        told = " and ".join(filter(None, (size, unknown)))
        yield f"would stream {each['source']} for {clips}: {parts}, {told}, none of which is stored"
    else:
        yield f"would request from {each['source']}: {clips}"
    if "videos_per_hour" in each:
        yield f"  at {each['videos_per_hour']:g} videos per hour, about {byte_size(each['bytes'])} to download"
    for line in each.get("advice", ()):
        yield f"  {line}"
    if each.get("opened"):
        yield f"  opened {each['opened']} of them, {each['good']} readable and long enough by their headers"
        for key, said in itertools.islice(each["bad"].items(), NAMED):
            yield f"    {key}: {said}"
        if len(each["bad"]) > NAMED:
            yield f"    and {len(each['bad']) - NAMED} more"
        for remark, count in each["remarks"].items():
            yield f"    {count} of them {remark}"
    if each["failed"]:
        yield f"  {plural(each['failed'], 'clip')} without success before, not tried again (to try: --retry retry,stop,permanent)"
    took = f" at most, in {_hours(each['hours'])}" if each["hours"] else ""
    held = "; which of them the archives hold is known once they are read" if each.get("unknown_contents") else ""
    yield f"  expect {plural(round(each['expected']), 'clip')}{took}{held}"


def _hours(hours: float) -> str:
    if hours < 1:
        minutes = max(1, round(hours * 60))
        return f"about {minutes} minute{'s' * (minutes > 1)}"
    return f"about {hours:.1f} hours" if hours < 48 else f"about {hours / 24:.1f} days"
