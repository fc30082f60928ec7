"""Columns say in few bytes what the rows said, and histograms have round edges."""

import math

import numpy as np
import pytest

from kinetics_sounds.pipelines.viewing import columns
from kinetics_sounds.pipelines.viewing.columns import Bins

from .made import values


def bins(*numbers: float, digits: int = 2, least: float = -math.inf) -> Bins | None:
    return columns.bins(np.array(numbers, dtype=np.float32), digits=digits, least=least)


def test_words_are_in_the_order_asked_for_and_then_the_most_frequent_first() -> None:
    column = columns.words("status", "outcome", ["b", "c", "ok", "c", "d"], order=["ok", "absent"])

    assert column["values"] == ["ok", "c", "b", "d"]
    assert values(dict(column)) == ["b", "c", "ok", "c", "d"]
    assert column["width"] == 1


@pytest.mark.parametrize(("count", "width"), [(256, 1), (257, 2), (65_536, 2), (65_537, 4)])
def test_words_take_as_many_bytes_as_count_them(count: int, width: int) -> None:
    told = [f"word {n}" for n in range(count)]
    column = columns.words("file", "file", told)

    assert column["width"] == width
    assert values(dict(column)) == told


def test_flags_that_no_row_has_are_left_out_and_strange_ones_refused() -> None:
    rows = [frozenset({"silent", "leak"}), frozenset[str](), frozenset({"leak"})]
    column = columns.flags("flags", "flags", rows, order=("silent", "still", "leak"))

    assert column["values"] == ["silent", "leak"]
    assert values(dict(column)) == [{"silent", "leak"}, set(), {"leak"}]
    with pytest.raises(ValueError, match="'odd'"):
        columns.flags("flags", "flags", [frozenset({"odd"})], order=("silent",))


def test_numbers_are_rounded_and_a_missing_one_is_none() -> None:
    column = columns.number("fps", "rate", [29.9701, None, 25.0], unit="frames/s", digits=2)

    read = values(dict(column))
    assert read[0] == pytest.approx(29.97, abs=1e-5)
    assert math.isnan(read[1])
    assert read[2] == 25


def test_texts_keep_to_one_line_each() -> None:
    column = columns.text("detail", "message", ["two\nlines", "", "half a letter \ud800"])

    assert values(dict(column)) == ["two lines", "", "half a letter ?"]


@pytest.mark.parametrize(
    ("numbers", "digits", "expected"),
    [
        ((0, 1, 2, 3), 0, Bins(0, 1, 4, below=False, above=False)),
        ((10.0,), 2, Bins(10.0, 0.01, 1, below=False, above=False)),
        ((0, 100), 0, Bins(0, 10, 11, below=False, above=False)),
        ((-0.5, 0.5), 3, Bins(-0.5, 0.1, 11, below=False, above=False)),
        ((3, 240), 0, Bins(0, 50, 5, below=False, above=False)),  # of 20 there would be 13
    ],
)
def test_bins_have_round_edges(numbers: tuple[float, ...], digits: int, expected: Bins) -> None:
    found = bins(*numbers, digits=digits)

    assert found is not None
    assert (found.low, found.step) == pytest.approx((expected.low, expected.step))
    assert (found.count, found.below, found.above) == (expected.count, expected.below, expected.above)


def test_far_values_share_the_outer_bins() -> None:
    usual = [float(n % 10) for n in range(1000)]
    found = bins(*usual, -500.0, 900.0, digits=0)

    assert found == Bins(0, 1, 10, below=True, above=True)
    assert columns.counted(np.array([*usual, -500.0, 900.0, np.nan]), found).tolist() == [101, *[100] * 8, 101]


def test_values_below_the_least_are_counted_in_the_first_bin() -> None:
    found = bins(-200, -30, -20, -10, digits=1, least=-80)

    assert found is not None
    assert found.low == -30
    assert found.below
    assert columns.counted(np.array([-200.0, -30, -20, -10]), found)[0] == 2


def test_a_value_just_below_an_edge_by_float32_counts_as_on_it() -> None:
    found = Bins(0, 0.1, 10, below=False, above=False)

    assert columns.counted(np.array([0.7, 0.3], dtype=np.float32), found).tolist() == [0, 0, 0, 1, 0, 0, 0, 1, 0, 0]


def test_there_are_no_bins_without_numbers() -> None:
    assert bins(math.nan, math.inf) is None
