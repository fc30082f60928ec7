"""The table of a comparison: means, intervals and what is within noise, by hand."""

import csv
import math
from dataclasses import replace

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
    assert entry.half() == pytest.approx(math.hypot(4.303 * 2 / math.sqrt(3), 3), rel=1e-3)
    assert entry.values == (50, 52, 54)


def test_one_seed_has_the_interval_of_its_clips() -> None:
    (entry,) = table.entries([row("a", 0, 50, half=3)])["linear"]

    assert entry.interval == (47, 53)


def test_an_interval_ends_where_scores_do() -> None:
    (entry,) = table.entries([row("a", seed, top1) for seed, top1 in enumerate((80, 99, 100))])["linear"]

    assert entry.interval[1] == 100


@pytest.mark.parametrize(("recipes", "seeds", "most"), [(2, 3, 15), (8, 3, 15), (8, 5, 15), (8, 30, 25)])
def test_of_equal_recipes_hardly_any_is_told_from_the_best(recipes: int, seeds: int, most: int) -> None:
    """Drawn alike, in fewer than 5 % of 500 tables is any of the others not within noise, however many there are."""
    generator = np.random.default_rng(0)
    apart = 0
    for _ in range(500):
        drawn = generator.normal(50, 2, (recipes, seeds))
        rows = [row(f"r{number}", seed, drawn[number, seed]) for number in range(recipes) for seed in range(seeds)]
        group = table.entries(rows)["linear"]
        best = max(group, key=lambda entry: entry.mean)
        told = [table.verdict(best, each, best_of=recipes) for each in group]
        apart += sum(not each.endswith("within noise") for each in told) > 1  # the best itself is told nothing

    assert apart <= most


@pytest.mark.parametrize(
    ("best_of", "freedom", "expected"),
    [(2, 2, 4.303), (2, math.inf, 1.960), (3, 4, 5.040 / math.sqrt(2)), (10, 10, 5.599 / math.sqrt(2))],
)
def test_the_quantiles_are_those_of_printed_tables(best_of: int, freedom: float, expected: float) -> None:
    """Student's t for two; else the studentised range, of which tables have q(0.05; 3, 4) and q(0.05; 10, 10)."""
    assert table.quantile(best_of, freedom) == pytest.approx(expected, abs=1e-3)


def test_a_difference_within_both_intervals_is_noise_and_a_larger_one_is_not() -> None:
    """Clips: 2 on either side of each mean of seeds that agree; of three recipes q(0.05; 3, inf) = 3.314.

    Half: 2 sqrt(2) (3.314 / sqrt(2)) / 1.960 = 3.38.
    """
    means = {"best": 60, "near": 57, "far": 50}
    told = table.markdown([row(name, seed, top1, half=2) for name, top1 in means.items() for seed in range(2)])

    lines = {line.split("|")[1].strip(): line for line in told.splitlines() if line.startswith("|")}
    assert "| -3.0 ± 3.4: within noise |" in lines["near"]
    assert "| -10.0 ± 3.4 |" in lines["far"]
    assert "noise" not in lines["best"]
    assert [*lines][2:] == ["best", "near", "far"]
    assert "| 95% interval (seeds and clips) |" in lines["recipe"]


def test_a_recipe_stands_beside_its_untrained_encoders_with_the_interval_of_their_difference() -> None:
    """Seeds agree, so clips alone count: 3 on either side of trained and 4 of untrained make 5 of their difference."""
    before = {"top1": 50.0, "top1_low": 46.0, "top1_high": 54.0}
    rows = [
        replace(row(name, seed, top1, half=3), untrained=before)
        for name, top1 in (("learns", 60), ("hardly", 54), ("forgets", 40))
        for seed in range(2)
    ]
    lines = {line.split(" |")[0]: line for line in table.markdown(rows).splitlines()}

    assert " | 50.0 (46.0 to 54.0) | 10.0 ± 5.0 | " in lines["| learns"]
    assert " | 50.0 (46.0 to 54.0) | 4.0 ± 5.0: within noise | " in lines["| hardly"]
    assert " | 50.0 (46.0 to 54.0) | -10.0 ± 5.0 | " in lines["| forgets"]


def test_what_all_rows_share_is_said_once_and_what_differs_by_recipe() -> None:
    rows = [replace(row(name, seed, 50), facts={"split": "test", "steps": name}) for name in "ab" for seed in range(2)]
    rows[0] = replace(rows[0], facts={**rows[0].facts, "version": "1", "steps": "9"})
    told = table.markdown(rows).splitlines()

    assert "split: test; chance: 3.0%." in told
    assert "steps: 9 (a), a (a), b (b)." in told
    assert "version: 1 (a)." in told


@pytest.mark.parametrize(("clips", "left_out"), [("6 of test", True), ("8 of test", False)])
def test_chance_is_left_out_where_rows_of_the_same_clips_disagree(clips: str, left_out: bool) -> None:
    """As two versions count other classes; of other clips it is another."""
    one = replace(row("one", 0, 50), facts={"evaluated on": "6 of test"})
    other = replace(row("two", 0, 50), facts={"evaluated on": clips})
    told = table.markdown([one, replace(other, scores={**other.scores, "top1_chance": 4.0})]).splitlines()

    assert (f"{table.DISAGREE}." in told) == left_out
    assert ("chance: 3.0% (one), 4.0% (two)." in told) != left_out


def test_chance_of_clusters_is_each_runs_own() -> None:
    scores = {"nmi": 50.0, "nmi_chance": 3.0}
    rows = [Row(recipe="a", seed=0, protocol="cluster", scores=scores, untrained={})]
    rows.append(replace(rows[0], recipe="b", scores={"nmi": 50.0, "nmi_chance": 4.0}))

    assert "chance: 3.0% (a), 4.0% (b)." in table.markdown(rows).splitlines()


@pytest.mark.parametrize("seeds", [1, 2])
def test_intervals_over_seeds_are_explained_where_there_are_several(seeds: int) -> None:
    told = table.markdown([row("a", seed, 60, half=1) for seed in range(seeds)])

    assert (table.INTERVALS in told) == (seeds > 1)


def test_of_one_seed_nothing_is_judged() -> None:
    """How much seeds differ is not known, so the clips' interval alone would call noise a difference."""
    told = table.markdown([row("a", 0, 60, half=1), row("b", 0, 50, half=1)])

    assert "| 95% interval (clips only) |" in told
    assert (
        "| b | 50.0 | 49.0 to 51.0 | 50.0 | 10.0 | 40.0 (not tested: one seed) | -10.0 (not tested: one seed) |" in told
    )
    assert "±" not in told


def test_a_recipe_that_has_one_seed_left_is_not_judged_beside_others_that_are() -> None:
    """Half of c: sqrt(2) of the root of (5.89 x 0.1 / sqrt(3))^2 + (1.196 x 1)^2, with q(0.05; 3, 2) = 8.33, is 1.76."""
    rows = [*(row("a", seed, 60 + seed / 10, half=1) for seed in range(3)), row("b", 0, 50, half=1)]
    rows += [row("c", seed, 20 + seed / 10, half=1) for seed in range(3)]
    lines = {line.split(" |")[0]: line for line in table.markdown(rows).splitlines()}

    assert "49.0 to 51.0 (clips only)" in lines["| b"]
    assert lines["| b"].endswith("| -10.1 (not tested: one seed) |")
    assert "(seeds and clips)" in lines["| c"]
    assert lines["| c"].endswith("| -40.0 ± 1.8 |")


def test_a_metric_without_an_interval_over_clips_is_not_judged() -> None:
    """As a clustering's: of two seeds that agree it is not exact, and of one there is no interval at all."""
    scores = {"a": 60.0, "b": 50.0}
    rows = [
        Row(recipe=name, seed=seed, protocol="cluster", scores={"nmi": value}, untrained={})
        for name, value in scores.items()
        for seed in range(2)
    ]
    told = table.markdown(rows)
    assert "| 95% interval (seeds only) |" in told
    assert "| b | 50.0 | 50.0 to 50.0 | 50.0, 50.0 |  |  | -10.0 (not tested: no interval over clips) |" in told

    told = table.markdown([each for each in rows if each.seed == 0])
    assert "| b | 50.0 |  | 50.0 |  |  | -10.0 (not tested: one seed) |" in told


def test_a_recipe_that_learns_from_one_modality_is_judged_by_that() -> None:
    """The other encoder has learnt nothing: what both tell together is half noise."""
    scores = {"top1": 30.0, "top1_low": 29.0, "top1_high": 31.0}
    own = {"video_top1": 55.0, "video_top1_low": 53.0, "video_top1_high": 57.0, "audio_top1": 5.0}
    of_video = Row(
        recipe="r", seed=0, protocol="linear", scores={**scores, **own}, untrained={"video_top1": 8.0}, modality="video"
    )
    pairs = Row(
        recipe="r", seed=0, protocol="crossmodal", scores={"video_to_audio_r1": 1.0}, untrained={}, modality="video"
    )
    told = table.markdown([row("a", 0, 50, half=1), of_video, pairs])

    assert "### linear: top1 in %" in told
    assert "| r (video only) | 55.0 | 53.0 to 57.0 | 55.0 | 8.0 | 47.0 (not tested: one seed) |  |" in told
    assert "(video only): the recipe trains video only, and is evaluated by its video_top1." in told
    assert "### crossmodal" not in told
    assert "Left out:\n- r, crossmodal: it trains video only, for which crossmodal has no score" in told
    assert table.plot_svg([pairs]) is None


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
