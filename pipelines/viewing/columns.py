"""Columns of a page's table, packed for a browser: typed arrays, deflated, in base64.

A packed column is JSON with `kind`, `name`, `title` and `data`. Kinds:

* words: `values`, and the index of each row's value (uint8 or uint16, little-endian);
* flags: `values`, and for each row a uint16 whose bit b is set if the row has `values[b]`;
* number: float32, NaN for missing values, with `unit`, `digits`, and `bins` of its histogram;
* text: UTF-8, one line per row.
"""

import base64
import math
import zlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

MOST_BINS = 12
"""Maximum number of bins of a histogram: each is a button, large enough for touch screens."""
MOST_FLAGS = 16
CLOSE = 1e-6
"""Tolerance at a bin's edge, as a fraction of its width: a value slightly below an edge, due to float32, counts as on it."""

Packed = Mapping[str, Any]
"""A packed column as JSON."""


@dataclass(frozen=True, slots=True)
class Bins:
    """Bins of equal width: bin b covers values from `low + b * step` up to the start of the next one."""

    low: float
    step: float
    count: int
    below: bool
    """Whether the first bin also includes lower values."""
    above: bool
    """Whether the last bin also includes higher values."""


def bins(values_N: np.ndarray, *, digits: int, least: float = -math.inf) -> Bins | None:
    """Up to `MOST_BINS` bins with round edges, covering all but the outermost half percent at each end; None without numbers.

    No bin is narrower than one unit of the last of `digits` decimals, and only the first includes values below `least`. NaN is
    ignored.
    """
    values = values_N[np.isfinite(values_N)].astype(np.float64)
    if not values.size:
        return None
    usual = values[values >= least] if (values >= least).any() else values
    low, high = (float(each) for each in np.percentile(usual, [0.5, 99.5], method="nearest"))
    if low == high:
        low, high = float(usual.min()), float(usual.max())
    step = _round_step(max((high - low) / MOST_BINS, 10.0**-digits))
    while _place(high, step) - _place(low, step) >= MOST_BINS:
        step = _round_step(step * 1.5)
    first, last = _place(low, step), _place(high, step)
    end = (last + 1 - CLOSE) * step
    return Bins(
        low=first * step,
        step=step,
        count=last - first + 1,
        below=bool((values < (first - CLOSE) * step).any()),
        above=bool((values >= end).any()),
    )


def counted(values_N: np.ndarray, its: Bins) -> np.ndarray:
    """Number of values per bin, with the same rule as in the page: int64, shape (its.count,)."""
    values = values_N[np.isfinite(values_N)].astype(np.float64)
    places = np.clip(np.floor((values - its.low) / its.step + CLOSE), 0, its.count - 1).astype(np.int64)
    return np.bincount(places, minlength=its.count)


def _place(value: float, step: float) -> int:
    return math.floor(value / step + CLOSE)


def _round_step(least: float) -> float:
    """The smallest of 1, 2 or 5 times a power of ten that is not below `least`."""
    power = 10.0 ** math.floor(math.log10(least))
    return next(power * digit for digit in (1, 2, 5, 10) if power * digit >= least * (1 - CLOSE))


def words(name: str, title: str, values: Sequence[str], *, order: Iterable[str] | None = None) -> Packed:
    """A column of few distinct texts: those of `order` first, then the others by descending frequency."""
    counts = Counter(values)
    listed = [value for value in dict.fromkeys(order or ()) if value in counts]
    first = set(listed)
    listed += [value for value, _ in counts.most_common() if value not in first]
    index = {value: number for number, value in enumerate(listed)}
    width = np.min_scalar_type(max(len(listed) - 1, 0))  # of 1, 2 or 4 bytes
    data = np.fromiter((index[value] for value in values), dtype=width, count=len(values))
    return {
        "kind": "words",
        "name": name,
        "title": title,
        "values": listed,
        "width": data.itemsize,
        "data": _packed(data),
    }


def flags(name: str, title: str, values: Sequence[frozenset[str]], *, order: Sequence[str]) -> Packed:
    """A column of subsets of `order`; names that no row has are left out."""
    there = set[str]().union(*values)
    listed = [flag for flag in order if flag in there]
    if len(listed) > MOST_FLAGS or not there.issubset(order):
        raise ValueError(f"{name}: {sorted(there.difference(order))} are no flags of it, or there are too many")
    bit = {flag: 1 << number for number, flag in enumerate(listed)}
    data = np.fromiter((sum(bit[flag] for flag in row) for row in values), dtype=np.uint16, count=len(values))
    return {"kind": "flags", "name": name, "title": title, "values": listed, "data": _packed(data)}


def number(
    name: str, title: str, values: Sequence[float | None], *, unit: str, digits: int, least: float = -math.inf
) -> Packed:
    """A column of numbers, rounded to `digits` decimals; values below `least` share a bin."""
    data = np.array([math.nan if value is None else value for value in values], dtype=np.float64)
    data = np.round(data, digits).astype(np.float32)
    its = bins(data, digits=digits, least=least)
    return {
        "kind": "number",
        "name": name,
        "title": title,
        "unit": unit,
        "digits": digits,
        "bins": asdict(its) if its else None,
        "data": _packed(data),
    }


def text(name: str, title: str, values: Sequence[str]) -> Packed:
    """A column of texts, each on one line."""
    lines = "\n".join(" ".join(value.split()) for value in values)
    return {"kind": "text", "name": name, "title": title, "data": _deflated(lines.encode(errors="replace"))}


def _packed(data: np.ndarray) -> str:
    return _deflated(data.astype(data.dtype.newbyteorder("<"), copy=False).tobytes())


def _deflated(data: bytes) -> str:
    return base64.b64encode(zlib.compress(data)).decode("ascii")
