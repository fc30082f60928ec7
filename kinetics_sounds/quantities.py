"""Counts, sizes and long enumerations as people write them."""

from collections.abc import Iterable, Sequence


def plural(count: int, noun: str, several: str = "") -> str:
    """A count with its noun: `1 clip`, `2 clips`, `0 clips`; `several` is an irregular plural."""
    return f"{count} {noun}" if count == 1 else f"{count} {several or noun + 's'}"


def byte_size(count: float) -> str:
    """A number of bytes: `12 bytes`, `12.3 kB`, `12.3 MB`, `4.56 GB`."""
    if count < 1e3:
        return plural(round(count), "byte")
    if count < 1e5:
        return f"{count / 1e3:.1f} kB"
    return f"{count / 1e9:.2f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"


def first_of(names: Iterable[str], most: int = 5) -> str:
    """The first names: `a, b, c, d, e and 3 more`."""
    every = list(names)
    more = f" and {len(every) - most} more" if len(every) > most else ""
    return f"{', '.join(every[:most])}{more}"


MOST_LINES = 10
"""Default maximum number of faults of one kind that an error lists, each on a line of its own."""


def first_lines(lines: Sequence[str], most: int = MOST_LINES) -> str:
    """The first lines, and a line that says how many more there are."""
    return "\n".join([*lines[:most], *([f"and {len(lines) - most} more"] if len(lines) > most else [])])
