"""A build from a published list beside what was published: the same bytes, alike, or different, clip by clip."""

import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from kinetics_sounds import files, lists, progress
from kinetics_sounds.lists import ClipList, published

from .list_plan import ListPlan
from .list_report import Became

Verdict = Literal["same", "alike", "different", "unknown"]
"""Same: the very bytes. Alike, different: by what is seen and heard. Unknown: the published row does not tell enough."""
Judge = Callable[[Mapping[str, str], Path], Verdict]
"""Compares a row of a published split, by column, with the clip's file here, whose bytes are others."""
NAMED = 3
"""Clips of a kind that are printed."""


def compare(
    plan: ListPlan, became: Became, out: Path, *, judge: Judge | None, stop: Callable[[], bool]
) -> dict[str, Any] | None:
    """The part `compared` of `report.json`; None where no list is a published one, or once `stop()` is true.

    Without a judge clips of other bytes are unknown. A judge works in several threads.
    """
    given = [each for each in plan.lists if each.format == "published"]
    if not given:
        return None
    asked = {clip.key for clip in plan.clips}
    counts: Counter[str] = Counter(dict.fromkeys(("same", "alike", "different", "unknown", "lacking"), 0))
    clips: dict[str, str] = {}

    def verdict(row: Mapping[str, str]) -> str:
        if row["key"] not in became.built:
            return "lacking"
        digest, path = became.built[row["key"]]
        if row.get("sha256") == digest:
            return "same"
        return judge(row, out / path) if judge else "unknown"

    with progress.bar("comparing with what was published", len(asked)) as bar:
        for row, found in files.in_threads(verdict, _rows(given, asked)):
            bar.advance(found)
            counts[found] += 1
            if found != "same":
                clips[row["key"]] = found
            if stop():
                return None
    return {"counts": dict(counts), "clips": clips}


def _rows(given: list[ClipList], asked: set[str]) -> Iterator[Mapping[str, str]]:
    """The published rows of the clips asked for, each once."""
    left = set(asked)
    for row in itertools.chain.from_iterable(published.facts(lists.lines(each.path)) for each in given):
        if row["key"] in left:
            left.remove(row["key"])
            yield row


def text(document: Mapping[str, Any]) -> str:
    """The part `compared` of a report for people."""
    counts = document["counts"]
    told = ", ".join(f"{count} {kind}" for kind, count in counts.items() if count or kind in ("same", "different"))
    lines = [f"bytes of the clips beside the published ones: {told}"]
    for kind in ("different", "unknown"):
        keys = [key for key, found in document["clips"].items() if found == kind]
        lines += [f"  {kind}: {key}" for key in keys[:NAMED]]
        lines += [f"  and {len(keys) - NAMED} more that are {kind}"] * (len(keys) > NAMED)
    return "\n".join(lines)
