"""Counts and sizes as people write them."""

import pytest

from kinetics_sounds.quantities import byte_size, first_lines, first_of, plural


@pytest.mark.parametrize(
    ("count", "told"), [(0, "0 classes"), (1, "1 class"), (2, "2 classes"), (21, "21 classes"), (-1, "-1 classes")]
)
def test_only_one_is_singular(count: int, told: str) -> None:
    assert plural(count, "class", "classes") == told


def test_most_nouns_take_an_s() -> None:
    assert [plural(count, "clip") for count in (0, 1, 2)] == ["0 clips", "1 clip", "2 clips"]


@pytest.mark.parametrize(
    ("count", "told"),
    [
        (0, "0 bytes"),
        (1, "1 byte"),
        (12, "12 bytes"),
        (1_000, "1.0 kB"),
        (6_543, "6.5 kB"),
        (100_000, "0.1 MB"),
        (1_500_000, "1.5 MB"),
        (999_000_000, "999.0 MB"),
        (4_560_000_000, "4.56 GB"),
    ],
)
def test_a_size_has_its_unit(count: int, told: str) -> None:
    assert byte_size(count) == told


def test_of_many_the_first_are_named_and_the_rest_counted() -> None:
    assert first_of("abc", 3) == "a, b, c"
    assert first_of("abcde", 3) == "a, b, c and 2 more"
    assert first_lines("abc", 3) == "a\nb\nc"
    assert first_lines("abcde", 3) == "a\nb\nc\nand 2 more"
