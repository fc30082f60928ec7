"""The table of a comparison: means, intervals and what is within noise, by hand."""

import csv
import math

import pytest

from kinetics_sounds.train.comparison import table
from kinetics_sounds.train.comparison.table import Row


def row(recipe: str, seed: int, top1: float, *, half: float = 0.0, untrained: float = 10.0) -> Row:
    scores = {"top1": top1, "top1_low": top1 - half, "top1_high": top1 + half, "top1_chance": 3.0, "top5": 2 * top1}
    return Row(recipe=recipe, seed=seed, protocol="linear", scores=scores, untrained={"top1": untrained})


def test_the_error_is_that_of_the_seeds_and_of_the_clips() -> None:
    """Seeds 50, 52, 54: deviation 2, error 2 / sqrt(3). Clips: half of 95 % is 1.96, so an error of 1."""
    (entry,) = table.entries([row("a", seed, 50 + 2 * seed, half=1.96) for seed in range(3)])

    assert entry.mean == 52
    assert entry.error == pytest.approx(math.sqrt(4 / 3 + 1))
    assert entry.values == (50, 52, 54)


def test_one_seed_has_the_error_of_its_clips() -> None:
    (entry,) = table.entries([row("a", 0, 50, half=3.92)])

    assert entry.error == pytest.approx(2)


def test_a_difference_within_both_errors_is_noise_and_a_larger_one_is_not() -> None:
    """Errors of 1 each: half an interval of 1.96 sqrt(2) = 2.77."""
    rows = [row("best", 0, 60, half=1.96), row("near", 0, 58, half=1.96), row("far", 0, 50, half=1.96)]
    told = table.markdown(rows)

    lines = {line.split("|")[1].strip(): line for line in told.splitlines() if line.startswith("|")}
    assert "| -2.0 ± 2.8: within noise |" in lines["near"]
    assert "| -10.0 ± 2.8 |" in lines["far"]
    assert "noise" not in lines["best"]
    assert [*lines][2:] == ["best", "near", "far"]


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
