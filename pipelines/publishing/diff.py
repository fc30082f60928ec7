"""ks-publish diff: compare two datasets, given as published folders, builds' folders, manifests or lists."""

import itertools
import json
import shlex
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kinetics_sounds import files
from kinetics_sounds.command import DONE, SOME_FAILED
from kinetics_sounds.errors import SettingsError
from kinetics_sounds.quantities import plural
from kinetics_sounds.settings import parse

from . import common, likeness, sets
from .likeness import Verdict
from .markdown import plain
from .origin import IN_DIR
from .sets import ClipSet
from .tables import Row

SHOWN = 5
"""Number of clips of each kind that are printed without --json."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DiffSettings:
    """Compare two datasets: published folders, folders of builds, manifests (Parquet or CSV), or lists of papers.

    Only ok clips count.

    Fields that a list does not have are not compared; invalid rows are reported. Class indices of a list refer to the class list
    of the other dataset: if the list was made with another one, many labels differ.

    Examples:
      ks-publish diff published/k32 data/k32
      ks-publish diff published/k32 paper_test.csv --out common
      ks-publish diff ours theirs --json

    exit code: 0 the same clips, labels, splits and bytes (as far as known in both); 1 they differ, or a row is invalid;
    2 usage error; 3 stopped; 4 a bug, or a failing disk.
    """

    out: Path | None = None
    """New folder for the common split: clips in both datasets with the same label and split, not known to differ in picture or
    sound, readable by ks-build --clips. Of two lists it consists of lists, without statuses and checksums."""
    json: bool = False
    """Print all differences as JSON on standard output."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """Differences between two datasets, a and b."""

    only_in_a: tuple[Row, ...]
    only_in_b: tuple[Row, ...]
    label: tuple[tuple[Row, Row], ...]
    """Clips in both, with different labels."""
    split: tuple[tuple[Row, Row], ...]
    """Clips in both, in different splits."""
    content: tuple[tuple[Row, Row, Verdict], ...]
    """Clips in both with different bytes: alike, different, or unknown."""
    common: frozenset[str]
    """Keys of the clips in both, with the same label and split as far as known in both, but for those of `different`."""
    different: frozenset[str]
    """Keys of such clips that are known to differ in picture or sound."""
    same_content: int = field(default=0)
    """Number of clips with the same bytes in both, as far as known."""
    unread_in_a: tuple[str, ...] = ()
    """Invalid rows of a list."""
    unread_in_b: tuple[str, ...] = ()

    @property
    def same(self) -> bool:
        """Whether no difference is known, and all rows are valid."""
        kinds = (self.only_in_a, self.only_in_b, self.label, self.split, self.content)
        return not any((*kinds, self.unread_in_a, self.unread_in_b))


def main(argv: Sequence[str]) -> int:
    """`ks-publish diff A B`; returns the exit code."""
    places = list(itertools.takewhile(lambda word: not word.startswith("-"), argv))
    settings = parse(DiffSettings, argv[len(places) :], prog="ks-publish diff A B").settings
    if len(places) != 2:
        raise SettingsError(f"compare two datasets: ks-publish diff A B; each {sets.KINDS}")
    a, b = sets.read_both(*(files.user_path(place) for place in places))
    found = difference(a, b)
    if settings.out is not None and found.common:
        common.write(settings.out, a, b, found.common, different=len(found.different))
    if settings.json:
        print(json.dumps(document(a, b, found)))
    else:
        print(format_difference(a, b, found))
        if settings.out is not None and found.common:
            listed = not (a.is_full or b.is_full)
            note = ", both are lists: bytes are unknown" if listed else ""
            print(f"common split: {settings.out} ({plural(len(found.common), 'clip')}{note})")
            folder = shlex.quote(plain(files.as_text(settings.out)))
            print(f"rebuild it with: {common.rebuild(folder, listed=listed)}    # {IN_DIR}")
    if settings.out is not None and not found.common:
        print(f"no common clips; nothing written to {plain(files.as_text(settings.out))}", file=sys.stderr)
    return DONE if found.same else SOME_FAILED


def difference(a: ClipSet, b: ClipSet) -> Difference:
    """Compare two datasets clip by clip."""
    both = [(row, b.rows[key]) for key, row in a.rows.items() if key in b.rows]
    differ = [(ours, theirs) for ours, theirs in both if _contradict(ours, theirs, "sha256")]
    content = tuple((ours, theirs, likeness.compare(ours, theirs)) for ours, theirs in differ)
    agreed = frozenset(
        str(ours["key"])
        for ours, theirs in both
        if not (_contradict(ours, theirs, "label") or _contradict(ours, theirs, "split"))
    )
    different = agreed & {str(ours["key"]) for ours, _, verdict in content if verdict == "different"}
    return Difference(
        only_in_a=tuple(row for key, row in a.rows.items() if key not in b.rows),
        only_in_b=tuple(row for key, row in b.rows.items() if key not in a.rows),
        label=tuple(pair for pair in both if _contradict(*pair, "label")),
        split=tuple(pair for pair in both if _contradict(*pair, "split")),
        content=content,
        common=agreed - different,
        different=different,
        unread_in_a=a.unread,
        unread_in_b=b.unread,
        same_content=sum(ours["sha256"] is not None and ours["sha256"] == theirs["sha256"] for ours, theirs in both),
    )


def _contradict(ours: Row, theirs: Row, column: str) -> bool:
    """Whether both have a value in a column, and the values differ."""
    return None not in (ours[column], theirs[column]) and ours[column] != theirs[column]


def document(a: ClipSet, b: ClipSet, found: Difference) -> dict[str, Any]:
    """Output of `--json`."""
    return {
        "a": _head(a),
        "b": _head(b),
        "same": found.same,
        "common": len(found.common),
        "left_out_of_common": len(found.different),
        "same_content": found.same_content if a.knows_bytes and b.knows_bytes else None,
        "only_in_a": [_clip(row) | _missing(row, b) for row in found.only_in_a],
        "only_in_b": [_clip(row) | _missing(row, a) for row in found.only_in_b],
        "label": [{"key": ours["key"], "a": ours["label"], "b": theirs["label"]} for ours, theirs in found.label],
        "split": [{"key": ours["key"], "a": ours["split"], "b": theirs["split"]} for ours, theirs in found.split],
        "content": [
            _clip(ours) | {"likeness": verdict, "broken": list(likeness.broken(ours, theirs))}
            for ours, theirs, verdict in found.content
        ],
        "unread_in_a": list(found.unread_in_a),
        "unread_in_b": list(found.unread_in_b),
        "by_class": _by_class(found),
    }


def _head(each: ClipSet) -> dict[str, Any]:
    return {"name": each.name, "kind": each.kind, "clips": len(each.rows), **each.fingerprints}


def _clip(row: Row) -> dict[str, Any]:
    return {name: row[name] for name in ("key", "label", "split")}


def _missing(row: Row, other: ClipSet) -> dict[str, str]:
    """Status of the clip in the other dataset, if recorded there."""
    status = other.lost.get(str(row["key"]))
    return {"status_there": status} if status else {}


def _by_class(found: Difference) -> dict[str, dict[str, dict[str, int]]]:
    """By split and label (those of a, else of b): number of clips with each kind of difference."""
    counts: Counter[tuple[str, str, str]] = Counter()
    kinds: Mapping[str, Sequence[Row]] = {
        "only_in_a": found.only_in_a,
        "only_in_b": found.only_in_b,
        "label": [ours for ours, _ in found.label],
        "split": [ours for ours, _ in found.split],
        "content": [ours for ours, _, _ in found.content],
    }
    for kind, rows in kinds.items():
        counts.update((str(row["split"]), str(row["label"]), kind) for row in rows)
    table: dict[str, dict[str, dict[str, int]]] = {}
    for (split, label, kind), count in sorted(counts.items()):
        table.setdefault(split, {}).setdefault(label, {})[kind] = count
    return table


def format_difference(a: ClipSet, b: ClipSet, found: Difference) -> str:
    """The differences as text: counts, and some clips of each kind."""
    return "\n".join(map(plain, _lines(a, b, found)))


def _by(parts: Sequence[str]) -> str:
    return f" ({', '.join(parts)})" if parts else ""


def _lines(a: ClipSet, b: ClipSet, found: Difference) -> Iterator[str]:
    for letter, each in (("a", a), ("b", b)):
        yield f"{letter}: {each.name} ({each.kind}): {plural(len(each.rows), 'clip')}"
    same = found.same_content if a.knows_bytes and b.knows_bytes else "not known (a list has no checksums)"
    but = f" (without {len(found.different)} known to differ in picture or sound)" if found.different else ""
    yield f"in both, with the same label and split: {len(found.common)}{but}; with the same bytes: {same}"
    verdicts = Counter(verdict for _, _, verdict in found.content)
    kinds: Mapping[str, Sequence[str]] = {
        "only in a": [_line(row, _missing(row, b)) for row in found.only_in_a],
        "only in b": [_line(row, _missing(row, a)) for row in found.only_in_b],
        "another label": [f"{x['key']}: {x['label']!r}, {y['label']!r}" for x, y in found.label],
        "another split": [f"{x['key']}: {x['split']}, {y['split']}" for x, y in found.split],
        "other bytes": [
            f"{x['key']}: {verdict}{_by(likeness.broken(x, y)) if verdict == 'different' else ''}"
            for x, y, verdict in found.content
        ],
        "rows of a that cannot be read": found.unread_in_a,
        "rows of b that cannot be read": found.unread_in_b,
    }
    if verdicts["unknown"] and "manifest" in (a.kind, b.kind):
        yield "a manifest has no hashes to compare changed bytes: publish it (ks-publish), and compare that folder"
    for kind, lines in kinds.items():
        if lines:
            more = (
                f" ({', '.join(f'{count} {verdict}' for verdict, count in verdicts.items())})"
                if kind == "other bytes"
                else ""
            )
            yield f"{kind}: {len(lines)}{more}"
            yield from (f"  {line}" for line in lines[:SHOWN])
            if len(lines) > SHOWN:
                yield f"  and {len(lines) - SHOWN} more; use --json"
    if found.same:
        yield "no difference"


def _line(row: Row, missing: Mapping[str, str]) -> str:
    there = f"; there: {missing['status_there']}" if missing else ""
    return f"{row['key']}: {row['label']!r}, {row['split']}{there}"
