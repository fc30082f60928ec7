"""Next version number: MAJOR if records are removed or moved, MINOR if some are added, else PATCH (Croissant's rule).

A changed label index is MAJOR too: a trained model's outputs change their meaning.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from kinetics_sounds.clip import labels_text
from kinetics_sounds.errors import SettingsError

from .contents import VERSION
from .tables import LABELS, Row

FIRST = "1.0.0"


class Record(NamedTuple):
    """The fields of a row that determine the version."""

    labels: str
    split: str
    status: str
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """Number of changed clips since the previous version, by split."""

    added: Mapping[str, int] = field(default_factory=dict)
    removed: Mapping[str, int] = field(default_factory=dict)
    """By the former split."""
    moved: Mapping[str, int] = field(default_factory=dict)
    """Changed label or split, by the new split."""
    other_content: Mapping[str, int] = field(default_factory=dict)
    other_status: Mapping[str, int] = field(default_factory=dict)
    """Clips that still do not exist, for another reason."""
    remapped: tuple[str, ...] = ()
    """Labels whose index changed, or which were removed: a trained model's outputs change their meaning."""

    @property
    def least(self) -> int:
        """Part of the version to increment: 0 for MAJOR, 1 for MINOR, 2 for PATCH."""
        return 0 if self.removed or self.moved or self.remapped else 1 if self.added else 2


def records(rows: Iterable[Row]) -> dict[str, Record]:
    """Fields that determine the version, by key."""
    return {
        str(row["key"]): Record(_labels(row), str(row["split"]), str(row["status"]), str(row["sha256"] or ""))
        for row in rows
    }


def _labels(row: Row) -> str:
    """All labels of a row, equal for one label with and without the column of all."""
    return str(row.get(LABELS) or labels_text([str(row["label"])]))


def changes(before: Mapping[str, Record], after: Mapping[str, Record]) -> Changes:
    """Count added, removed, moved and rebuilt clips; a clip exists if its status is ok, a row if it is annotated."""
    counts = {name: Counter[str]() for name in ("added", "removed", "moved", "other_content", "other_status")}
    for key, now in after.items():
        was = before.get(key)
        if was is None or (was.status != "ok" and now.status == "ok"):
            counts["added"][now.split] += 1
        elif was.status == "ok" and now.status != "ok":
            counts["removed"][was.split] += 1
        elif was.status != now.status:
            counts["other_status"][now.split] += 1
        elif now.status == "ok" and was.sha256 != now.sha256:
            counts["other_content"][now.split] += 1
        if was is not None and (was.labels, was.split) != (now.labels, now.split):
            counts["moved"][now.split] += 1
    for key in before.keys() - after.keys():
        counts["removed"][before[key].split] += 1
    told = {name: dict(sorted(count.items())) for name, count in counts.items()}
    return Changes(
        added=told["added"],
        removed=told["removed"],
        moved=told["moved"],
        other_content=told["other_content"],
        other_status=told["other_status"],
    )


def remapped(before: Mapping[str, int], after: Mapping[str, int]) -> tuple[str, ...]:
    """Labels whose index changed, in the order of their old indices."""
    return tuple(
        sorted((label for label in before if after.get(label) != before[label]), key=lambda label: before[label])
    )


def following(before: str, least: int) -> str:
    """Lowest version that may follow if the part `least` must be incremented."""
    numbers = _numbers(before)
    return ".".join(map(str, [*numbers[:least], numbers[least] + 1, *[0] * (2 - least)]))


def check(version: str, before: str, least: int) -> None:
    """Raise SettingsError if a version may not follow `before`."""
    if _numbers(version) < _numbers(following(before, least)):
        what = (
            "label indices changed, or records were removed or moved, which needs a MAJOR",
            "records were added, which needs a MINOR",
            "this is a PATCH",
        )
        raise SettingsError(
            f"--version {version}: may not follow {before}: {what[least]} version; give {following(before, least)} or a "
            "later one, or leave --version out"
        )


def parse(text: str) -> str:
    """The version itself; raises SettingsError if it is invalid."""
    if not VERSION.fullmatch(text):
        raise SettingsError(f"--version {text}: is not a version; give three numbers such as {FIRST}")
    return text


def _numbers(version: str) -> list[int]:
    return [int(number) for number in version.split(".")]
