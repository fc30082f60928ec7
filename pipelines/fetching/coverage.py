"""Clips that a run keeps or leaves as earlier runs with another `--min_coverage` judged them."""

import bisect
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from kinetics_sounds.clip import Clip, Status
from kinetics_sounds.ledger import Entry, Ledger
from kinetics_sounds.quantities import plural

from .build_state import BuildState


def judged_otherwise(ledger: Ledger, known: BuildState, clips: Iterable[Clip], min_coverage: float) -> dict[str, Any]:
    """Section of `report.json`: number of clips, by `--min_coverage`, that this run's value might judge otherwise.

    `accepted`: existing clips, accepted with a lower value; `rejected`: clips that were too short for a higher one.
    """
    coverages = ledger.coverages()
    others = any(value != min_coverage for _, value in coverages)
    asked = {clip.key for clip in clips} if others else set[str]()
    accepted: Counter[str] = Counter()
    rejected: dict[str, str] = {}
    for entry in ledger.latest() if others else ():
        run = bisect.bisect_left(coverages, entry.number, key=lambda each: each[0])  # runs that began before it
        if entry.key not in asked or run == 0:
            continue
        judged_by = coverages[run - 1][1]
        if _is_kept(entry, known) and judged_by < min_coverage:
            accepted[f"{judged_by:g}"] += 1
        elif entry.key not in known.ok and entry.status == Status.TOO_SHORT and judged_by > min_coverage:
            rejected[entry.key] = f"{judged_by:g}"
    return {"min_coverage": min_coverage, "accepted": dict(accepted), "rejected": dict(Counter(rejected.values()))}


def _is_kept(entry: Entry, known: BuildState) -> bool:
    return entry.media is not None and known.ok.get(entry.key) == entry.source


def lines(section: Mapping[str, Any], out: Path) -> Iterator[str]:
    """The section as text, with the way to have the clips judged again."""
    now = section["min_coverage"]
    for value, count in section["accepted"].items():
        yield (
            f"{plural(count, 'clip')} accepted by an earlier run with --min_coverage {value}, kept; to judge by {now:g}, build "
            f"into another --out with --source local:{out / 'clips'} first"
        )
    for value, count in section["rejected"].items():
        yield (
            f"{plural(count, 'clip')} rejected by an earlier run with --min_coverage {value}; to judge by {now:g}, add "
            f"--retry retry,stop,{Status.TOO_SHORT}"
        )
