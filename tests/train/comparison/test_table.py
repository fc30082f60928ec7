"""The table of a comparison: means, intervals and what is within noise, by hand."""

import csv
import math

import numpy as np
import pytest

from kinetics_sounds.train.comparison import table
from kinetics_sounds.train.comparison.table import Row


def row(
    recipe: str, seed: int, top1: float, *, half: float = 0.0, untrained: float = 10.0, protocol: str = "linear"
) -> Row:
    scores = {"top1": top1, "top1_low": top1 - half, "top1_high": top1 + half, "top1_chance": 3.0, "top5": 2 * top1}
    return Row(recipe=recipe, seed=seed, protocol=protocol, scores=scores, untrained={"top1": untrained})


def test_the_interval_is_that_of_the_seeds_and_of_the_clips() -> None:
    """Seeds 50, 52, 54: deviation 2, and of two degrees of freedom Student's t is 4.303. Clips: 3 on either side."""
    (entry,) = table.entries([row("a", seed, 50 + 2 * seed, half=3) for seed in range(3)])["linear"]

    assert entry.mean == 52
    assert entry.half == pytest.approx(math.hypot(4.303 * 2 / math.sqrt(3), 3), rel=1e-3)
    assert entry.values == (50, 52, 54)


def test_one_seed_has_the_interval_of_its_clips() -> None:
    (entry,) = table.entries([row("a", 0, 50, half=3)])["linear"]

    assert entry.interval == (47, 53)


def test_an_interval_ends_where_scores_do() -> None:
    (entry,) = table.entries([row("a", seed, top1) for seed, top1 in enumerate((80, 99, 100))])["linear"]

    assert entry.interval[1] == 100


def test_three_equal_recipes_of_three_seeds_seldom_differ() -> None:
    """Drawn alike, by chance fewer than 5 % of 2,000 pairs are told apart."""
    generator = np.random.default_rng(0)
    apart = 0
    for _ in range(2000):
        rows = [row(name, seed, 50 + 2 * generator.standard_normal()) for name in "ab" for seed in range(3)]
        gap, half = table.difference(*table.entries(rows)["linear"])
        apart += abs(gap) > half

    assert apart < 100


def test_a_difference_within_both_intervals_is_noise_and_a_larger_one_is_not() -> None:
    """Halves of 2 each: 2 sqrt(2) = 2.83."""
    rows = [row("best", 0, 60, half=2), row("near", 0, 58, half=2), row("far", 0, 50, half=2)]
    told = table.markdown(rows)

    lines = {line.split("|")[1].strip(): line for line in told.splitlines() if line.startswith("|")}
    assert "| -2.0 ± 2.8: within noise |" in lines["near"]
    assert "| -10.0 ± 2.8 |" in lines["far"]
    assert "noise" not in lines["best"]
    assert [*lines][2:] == ["best", "near", "far"]


def test_recipes_are_compared_protocol_by_protocol() -> None:
    """Rows come recipe by recipe, as runs are made."""
    rows = [row(name, 0, value, protocol=kind) for name, value in (("a", 50), ("b", 60)) for kind in ("linear", "knn")]
    told = table.markdown(rows)

    assert told.count("### ") == 2
    for part in told.split("### ")[1:]:
        assert part.index("| b |") < part.index("| a |")
        assert "-10.0" in part


def test_the_csv_has_every_metric_of_every_run() -> None:
    rows = list(csv.DictReader(table.table_csv([row("a", 0, 50), row("=cmd()", 1, 60)]).splitlines()))

    assert len(rows) == 10
    assert rows[0] == {
        "recipe": "a",
        "seed": "0",
        "protocol": "linear",
        "metric": "top1",
        "value": "50",
        "untrained": "10.0",
    }
    assert rows[5]["recipe"] == "'=cmd()"


def test_what_failed_is_told() -> None:
    assert "Failed:\n- b, seed 1: it diverged" in table.markdown([row("a", 0, 50)], ["b, seed 1: it diverged"])


def test_the_plot_is_the_same_each_time() -> None:
    rows = [row("a", 0, 50, half=1), row("b", 0, 55, half=1)]
    first, again = table.plot_svg(rows), table.plot_svg(rows)

    assert first is not None
    assert first == again
    assert b"<svg" in first
