"""Classes without a clip in a split that has clips of others, told by the commands that build and pack."""

from collections.abc import Iterable, Iterator, Sequence

from kinetics_sounds.clip import SPLITS
from kinetics_sounds.quantities import first_of, plural

NAMED = 5
"""Number of classes that a line names."""


def lines(labels: Sequence[str], ok: Iterable[tuple[str, str]]) -> Iterator[str]:
    """A line for each split that lacks some of the labels; `ok` has split and label of the ok clips."""
    there = set(ok)
    for split in SPLITS:
        absent = [label for label in labels if (split, label) not in there]
        if 0 < len(absent) < len(labels):
            count = f"{len(absent)} of {plural(len(labels), 'class', 'classes')}"
            yield f"{split}: no ok clip of {count}: {first_of(map(repr, absent), NAMED)}"
