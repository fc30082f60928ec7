"""Which version follows: MAJOR where records are removed or moved, MINOR where some are added, else PATCH (Croissant's rule).

A label that has another index is a MAJOR too: what a model learnt of the numbers means something else.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from kinetics_sounds.errors import SettingsError

from .contents import VERSION
from .tables import Row

FIRST = "1.0.0"


class Record(NamedTuple):
    """What of a row decides the version."""

    label: str
    split: str
    status: str
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """Clips of a set against those of the version before, counted by split."""

    added: Mapping[str, int] = field(default_factory=dict)
    removed: Mapping[str, int] = field(default_factory=dict)
    """By the split that they were of."""
    moved: Mapping[str, int] = field(default_factory=dict)
    """Of another label or split than before, by the split that they are of."""
    other_content: Mapping[str, int] = field(default_factory=dict)
    other_status: Mapping[str, int] = field(default_factory=dict)
    """Clips that are not there, for another reason than before."""
    remapped: tuple[str, ...] = ()
    """Labels whose index is another than before, or that have none any more: a model's outputs mean something else."""

    @property
    def least(self) -> int:
        """Which number of the version must rise: 0 for MAJOR, 1 for MINOR, 2 for PATCH."""
        return 0 if self.removed or self.moved or self.remapped else 1 if self.added else 2


def records(rows: Iterable[Row]) -> dict[str, Record]:
    """What decides the version, by key."""
    return {
        str(row["key"]): Record(str(row["label"]), str(row["split"]), str(row["status"]), str(row["sha256"] or ""))
        for row in rows
    }


def changes(before: Mapping[str, Record], after: Mapping[str, Record]) -> Changes:
    """What was added, removed, moved and remade; a clip is there where its status is ok, a row where it is annotated."""
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
        if was is not None and (was.label, was.split) != (now.label, now.split):
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
    """Labels whose index is not what it was, in the order of what it was."""
    return tuple(
        sorted((label for label in before if after.get(label) != before[label]), key=lambda label: before[label])
    )


def following(before: str, least: int) -> str:
    """The least version that may follow, where the number at `least` must rise."""
    numbers = _numbers(before)
    return ".".join(map(str, [*numbers[:least], numbers[least] + 1, *[0] * (2 - least)]))


def check(version: str, before: str, least: int) -> None:
    """Raise SettingsError where a version may not follow `before`."""
    if _numbers(version) < _numbers(following(before, least)):
        what = (
            "labels have another index, or records were removed or moved, which is a MAJOR",
            "records were added, which is a MINOR",
            "this is a PATCH",
        )
        raise SettingsError(
            f"--version {version}: may not follow {before}: {what[least]} version; give {following(before, least)} or a "
            "later one, or leave --version out"
        )


def parse(text: str) -> str:
    """A version as it is; raises SettingsError where it is none."""
    if not VERSION.fullmatch(text):
        raise SettingsError(f"--version {text}: is no version; give three numbers such as {FIRST}")
    return text


def _numbers(version: str) -> list[int]:
    return [int(number) for number in version.split(".")]
