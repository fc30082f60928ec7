"""Report on the rows of published lists, as JSON and as text."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import ROUND_FLOOR, Decimal
from typing import Any

from kinetics_sounds.clip import SPLITS, Kind, Outcome, Status
from kinetics_sounds.quantities import first_of, plural

from .list_plan import BAD, UNKNOWN, ListPlan

NAMED = 3
"""Number of rows of a kind that are printed; the report lists up to `list_plan.MOST_NAMED`."""
_KINDS = {
    "ambiguous": "rows that may be any of several annotated clips",
    "not_in_annotations": "rows that are not in the annotations, which they need",
    "unusable": "rows without a clip",
    "never_published": "rows of clips that the publisher did not have",
    "other_classes": "rows of other classes",
    "other_splits": "rows of splits that were not requested",
    "repeated": "duplicate rows of a clip",
    "several_labels": "clips with several labels (the first of the row that is in the class list is the class)",
    "other_split": "rows with another split in the annotations (the list's is used)",
    "other_label": "rows with another label in the annotations (the list's is used)",
}
"""Description of each kind of row."""


@dataclass(slots=True)
class Became:
    """Outcomes of the listed clips, counted while they pass through."""

    counts: defaultdict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    """By split: ok, vanished (permanent), not_had (retrying may help)."""
    lacking: dict[str, str] = field(default_factory=dict)
    """Keys and statuses of the clips that are not ok."""
    built: dict[str, tuple[str, str]] = field(default_factory=dict)
    """SHA-256 and path of the ok clips, by key."""

    def counted(self, outcomes: Iterable[Outcome]) -> Iterator[Outcome]:
        """Pass outcomes through and count them."""
        for outcome in outcomes:
            clip, key = outcome.clip, outcome.clip.key
            if outcome.media is not None:
                self.counts[clip.split]["ok"] += 1
                self.built[key] = outcome.media.sha256, outcome.media.path
            else:
                gone = outcome.status.kind is Kind.PERMANENT
                self.counts[clip.split]["vanished" if gone else "not_had"] += 1
                self.lacking[key] = outcome.status.value
            yield outcome


def report(plan: ListPlan, became: Became | None, *, built: str = "") -> dict[str, Any]:
    """Section `lists` of `report.json`, and of a forecast, which has no outcomes yet.

    `built` is the selection fingerprint of the existing clips.
    """
    asked = Counter(clip.split for clip in plan.clips)
    named = sum(counts["clips"] for counts in plan.tally.rows.values())
    splits = [split for split in (*SPLITS, UNKNOWN) if split in plan.tally.rows]
    document: dict[str, Any] = {
        "files": [
            {"file": str(each.path), "format": each.format, "split": each.split, "published": said}
            for each, said in zip(plan.lists, plan.origins, strict=True)
        ],
        "annotations": "read" if plan.annotated else "not needed",
        "splits": {split: _counts(plan, became, split, asked[split]) for split in splits},
        "classes_without_clips": [label for label in plan.classes.labels if label not in plan.labels],
        "beyond_limit": named - len(plan.clips),
        "named": dict(plan.tally.named),
        "unnamed": dict(plan.tally.unnamed),
        "selection": plan.selection,
    }
    if plan.short:
        least = Decimal(repr(min(plan.short.values()))).quantize(Decimal("0.01"), ROUND_FLOOR)  # so that it passes
        document["shorter_than_min_coverage"] = {"clips": len(plan.short), "least": float(least)}
    if plan.stated:
        document["selection_stated"] = plan.stated
    if became is not None:
        document["selection_built"] = built
        document["lacking"] = became.lacking
    return document


def _counts(plan: ListPlan, became: Became | None, split: str, asked: int) -> dict[str, int]:
    rows = plan.tally.rows[split]
    found = {"in_annotations": rows["in_annotations"]} if plan.annotated else {}
    done = {name: became.counts[split][name] for name in ("ok", "vanished", "not_had")} if became else {}
    some = {kind: rows[kind] for kind in _KINDS if rows[kind] and kind not in BAD}
    return {"rows": rows["rows"], **found, **{kind: rows[kind] for kind in BAD}, **some, "asked": asked, **done}


_BECAME = {"ok": "ok", "vanished": "gone or unusable", "not_had": "not found yet"}
"""What became of the requested clips, in words."""


def text(document: Mapping[str, Any]) -> str:
    """Section `lists` of a report or forecast as text."""
    lines = []
    for split, counts in document["splits"].items():
        told = [f"{plural(counts['rows'], 'row')} of the lists"]
        if "in_annotations" in counts:
            told.append(f"{counts['in_annotations']} in the annotations")
        told.append(f"{plural(counts['asked'], 'clip')} requested")
        told += [f"{counts[name]} {said}" for name, said in _BECAME.items() if name in counts]
        lines.append(f"{split}: {', '.join(told)}")
    totals: Counter[str] = sum((Counter(counts) for counts in document["splits"].values()), Counter())
    for kind, said in _KINDS.items():
        if not totals[kind]:
            continue
        lines.append(f"{said}: {totals[kind]}")
        if "selection_built" not in document:  # else they were told before the build
            lines += _first(document["named"].get(kind, ()), document["unnamed"].get(kind, 0))
    if "shorter_than_min_coverage" in document and ("selection_built" not in document or document["lacking"]):
        lines.append(_short(document))
    if document["beyond_limit"]:
        lines.append(f"clips left out by --limit or --per_class: {document['beyond_limit']}")
    if empty := document["classes_without_clips"]:
        lines.append(f"classes without a clip in the lists: {first_of(map(repr, empty), NAMED)}")
    stated = document.get("selection_stated")
    if stated and stated != document["selection"]:
        lines.append(
            "the selection is not the published one: the folder's rows do not match its fingerprints.json; they were "
            "changed, so get the folder again"
        )
    elif "selection_built" in document:
        lines.append(_selection(document))
    return "\n".join(lines)


def _short(document: Mapping[str, Any]) -> str:
    """Why published clips may be, or are, too short for this build, and what to add to its command."""
    count, least = document["shorter_than_min_coverage"].values()
    option = f"--min_coverage {least:g}"
    if "selection_built" in document:  # else nothing has been rejected yet
        option += f" --retry retry,stop,{Status.TOO_SHORT}"
    return (
        f"published clips whose picture covers less of their span than --min_coverage: {count} (the least {least:g}); to build "
        f"them too, add {option} (or a lower value, where the sound is shorter)"
    )


def _first(rows: Sequence[str], unnamed: int) -> list[str]:
    more = len(rows) + unnamed - NAMED
    where = f"; the report lists the first {len(rows)}" if unnamed else ", listed in the report"
    return [f"  {row}" for row in rows[:NAMED]] + ([f"  and {more} more{where}"] if more > 0 else [])


def _selection(document: Mapping[str, Any]) -> str:
    if document["selection_built"] == document["selection"]:
        bad = sum(counts[kind] for counts in document["splits"].values() for kind in BAD)
        but = f", except for the rows without a clip ({bad})" if bad else ""
        return f"the selection is that of the lists{but}"
    lacking = len(document["lacking"])
    why = [f"{lacking} of the requested clips {'is' if lacking == 1 else 'are'} missing"] if lacking else []
    why += ["--limit or --per_class left some out"] if document["beyond_limit"] else []
    return f"the selection is not that of the lists: {' and '.join(why)}"
