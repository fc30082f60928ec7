"""Truths about the judges of features, on sets whose answers can be found by hand."""

import itertools
import math
import weakref
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from kinetics_sounds.train.probes import (
    Features,
    bootstrap_ci,
    bounded,
    crossmodal,
    hit_share,
    knn,
    linear,
    percent,
    svm,
    topk_hits,
)

sklearn_linear = pytest.importorskip("sklearn.linear_model")
sklearn_metrics = pytest.importorskip("sklearn.metrics")

seeds = st.integers(0, 2**31)
SVM_FACTS = {"c", "video_c", "audio_c", "selected_on_test"}
"""What svm reports beside accuracies."""


def features(video: Any, audio: Any = None, label: Any = None) -> Features:
    """Wrap lists or tensors; audio is the video and labels are all 0 unless given."""
    video = torch.as_tensor(video, dtype=torch.float32)
    audio = video if audio is None else torch.as_tensor(audio, dtype=torch.float32)
    label = torch.zeros(len(video), dtype=torch.int64) if label is None else torch.as_tensor(label)
    return Features(video, audio, label, tuple(f"clip{row}" for row in range(len(video))))


def blobs(seed: int, clips: int = 60, classes: int = 3, spread: float = 1.0) -> Features:
    """Noisy classes: a corner of the cube plus noise, in both modalities."""
    rng = torch.Generator().manual_seed(seed)
    label = torch.arange(clips) % classes
    video, audio = torch.eye(classes, 6)[label] + spread * torch.randn(2, clips, 6, generator=rng)
    return features(video, audio, label)


def shuffled(some: Features, seed: int) -> Features:
    row = torch.randperm(len(some.keys), generator=torch.Generator().manual_seed(seed))
    return Features(some.video_ND[row], some.audio_ND[row], some.label_N[row], tuple(some.keys[i] for i in row))


class TestFeatures:
    def test_both_puts_the_modalities_side_by_side(self) -> None:
        assert features([[1.0, 2]], [[3.0]]).both().tolist() == [[1, 2, 3]]

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"video_ND": torch.zeros(2, 3, 4)}, "video must be float32"),
            ({"audio_ND": torch.zeros(2, 3, dtype=torch.float64)}, "audio must be float32"),
            ({"audio_ND": torch.tensor([[1.0], [math.nan]])}, "audio has features that are not finite"),
            ({"label_N": torch.zeros(2)}, "labels must be int64"),
            ({"label_N": torch.zeros(3, dtype=torch.int64)}, "same number of rows"),
            ({"keys": ("a",)}, "same number of rows"),
        ],
    )
    def test_rows_that_do_not_fit_together_are_refused(self, change: dict[str, Any], message: str) -> None:
        good: dict[str, Any] = {
            "video_ND": torch.zeros(2, 3),
            "audio_ND": torch.zeros(2, 3),
            "label_N": torch.zeros(2, dtype=torch.int64),
            "keys": ("a", "b"),
        }

        with pytest.raises(ValueError, match=message):
            Features(**{**good, **change})

    def test_an_empty_split_is_refused(self) -> None:
        with pytest.raises(ValueError, match="at least 1"):
            features(torch.zeros(0, 3))


@pytest.mark.parametrize(
    ("ahead", "tied", "share"), [(0, 1, 1), (4, 1, 1), (5, 1, 0), (0, 10, 0.5), (4, 2, 0.5), (0, 0, 0)]
)
def test_hit_share_is_the_share_of_tie_orders_with_the_item_in_the_first_five(
    ahead: int, tied: int, share: float
) -> None:
    assert hit_share(torch.tensor([ahead]), torch.tensor([tied]), k=5).item() == share


@pytest.mark.parametrize(("probe", "fits"), [(linear, True), (knn, True), (svm, True), (crossmodal, False)])
def test_a_probe_says_whether_it_needs_a_fitted_split(probe: ModuleType, fits: bool) -> None:
    some = blobs(0)

    assert fits == probe.NEEDS_TRAIN_FEATURES
    if fits:
        with pytest.raises(ValueError, match="needs the features of a split to fit on"):
            probe.evaluate(some, None, probe.Settings())
    else:
        assert probe.evaluate(some, None, probe.Settings()) == probe.evaluate(some, blobs(1), probe.Settings())


class TestHits:
    SCORE = torch.tensor([[3.0, 2, 1], [1, 2, 3], [1, 1, 1], [3, 2, 1]])
    RIGHT = torch.tensor([[True, False, False], [True, False, False], [False, True, False], [False, False, False]])

    @pytest.mark.parametrize(("k", "found"), [(1, [1, 0, 1 / 3, 0]), (2, [1, 0, 2 / 3, 0]), (3, [1, 1, 1, 0])])
    def test_first_last_tied_and_without_a_class(self, k: int, found: list[float]) -> None:
        assert topk_hits(self.SCORE, self.RIGHT, k=k).tolist() == pytest.approx(found)

    @pytest.mark.parametrize("place", [0, 1])
    def test_a_score_that_is_no_number_is_neither_hit_nor_miss(self, place: int) -> None:
        score_NC = torch.tensor([[1.0, 2.0]])
        score_NC[0, place] = torch.nan

        with pytest.raises(ValueError, match=r"scores are NaN"):
            topk_hits(score_NC, torch.tensor([[True, False]]), k=1)

    def test_a_class_that_was_not_taught_may_score_minus_infinity(self) -> None:
        assert topk_hits(torch.tensor([[-torch.inf, 2.0]]), torch.tensor([[False, True]]), k=1).tolist() == [1]


class TestInterval:
    def test_clips_that_all_tie_alike_leave_no_doubt(self) -> None:
        assert bootstrap_ci(torch.full((7,), 0.25)) == pytest.approx((25, 25))

    def test_few_clips_that_are_all_hit_or_all_missed_leave_doubt(self) -> None:
        """Wilson's bound of n hits of n is n / (n + z^2), z^2 = 3.8415."""
        assert bootstrap_ci(torch.ones(5, dtype=torch.bool)) == pytest.approx((100 * 5 / 8.8415, 100), abs=1e-3)
        assert bootstrap_ci(torch.zeros(5)) == pytest.approx((0, 100 * 3.8415 / 8.8415), abs=1e-3)
        assert bootstrap_ci(torch.ones(1)) == pytest.approx((20.65, 100), abs=0.01)

    def test_a_hundred_truths_are_as_wide_as_their_binomial(self) -> None:
        """Of 100 clips with share 0.3, 2.5 % and 97.5 % of resamples lie below 21 and 39 hits."""
        low, high = bootstrap_ci(torch.arange(100) < 30, resamples=20_000)

        assert (low, high) == pytest.approx((21, 39), abs=1)

    def test_agrees_with_resampling_clip_by_clip(self) -> None:
        value_N = torch.rand(50, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        drawn = np.random.default_rng(1).choice(value_N.numpy(), size=(20_000, 50)).mean(axis=1)

        assert bootstrap_ci(value_N, resamples=20_000) == pytest.approx(
            100 * np.percentile(drawn, (2.5, 97.5)), abs=0.5
        )

    @given(st.lists(st.sampled_from([0.0, 1 / 3, 0.5, 1.0]), min_size=1, max_size=60), seeds)
    @settings(max_examples=40, deadline=None)
    def test_holds_the_mean_lies_within_the_values_and_knows_no_order(self, values: list[float], seed: int) -> None:
        value_N = torch.tensor(values, dtype=torch.float64)
        row_N = torch.randperm(len(values), generator=torch.Generator().manual_seed(seed))

        low, high = bootstrap_ci(value_N)

        assert 0 <= low <= percent(value_N) + 1e-9
        assert percent(value_N) - 1e-9 <= high <= 100
        if len(set(values)) > 1 or values[0] not in (0, 1):
            assert 100 * min(values) - 1e-9 <= low <= high <= 100 * max(values) + 1e-9
        assert bootstrap_ci(value_N[row_N]) == (low, high)

    def test_more_clips_are_surer(self) -> None:
        few, many = (bootstrap_ci(torch.arange(clips) % 2 == 0) for clips in (20, 2000))

        assert many[1] - many[0] < (few[1] - few[0]) / 5

    def test_the_seed_decides(self) -> None:
        half = torch.arange(1000) < 500

        assert bootstrap_ci(half) == bootstrap_ci(half, seed=0) != bootstrap_ci(half, seed=1)

    def test_bounded_names_the_mean_and_its_bounds(self) -> None:
        hit = torch.tensor([1.0, 0, 0, 1])

        assert bounded("top1", hit) == dict(
            zip(("top1", "top1_low", "top1_high"), (50, *bootstrap_ci(hit)), strict=True)
        )


class TestSides:
    def test_are_both_joined_and_each_alone(self) -> None:
        some = features([[3.0, 4]], [[0.0, 2]])

        assert {prefix: side.tolist() for prefix, side in some.sides()} == {
            "": [[3, 4, 0, 2]],
            "video_": [[3, 4]],
            "audio_": [[0, 2]],
        }

    def test_unit_scales_each_modality_to_length_one(self) -> None:
        some = features([[3.0, 4], [0, 0]], [[0.0, 2], [0, -5]])

        assert some.both(unit=True).tolist() == [pytest.approx([0.6, 0.8, 0, 1]), [0, 0, 0, -1]]
        assert {prefix: side.tolist() for prefix, side in some.sides(unit=True)} == {
            "": some.both(unit=True).tolist(),
            "video_": [pytest.approx([0.6, 0.8]), [0, 0]],
            "audio_": [[0, 1], [0, -1]],
        }

    def test_are_made_one_at_a_time(self) -> None:
        """Of both modalities' copy nothing is left while the video is judged."""
        sides = features(torch.ones(3, 2)).sides(unit=True)
        _, both_ND = next(sides)
        copy = weakref.ref(both_ND)
        del both_ND

        next(sides)

        assert copy() is None


@pytest.mark.parametrize("probe", [linear, knn, svm, crossmodal])
class TestEveryProbe:
    def test_gives_percentages_and_the_same_ones_again(self, probe: ModuleType) -> None:
        metrics = probe.evaluate(blobs(0), blobs(1), probe.Settings())

        assert all(isinstance(value, float) and 0 <= value <= 100 for value in metrics.values())
        assert metrics == probe.evaluate(blobs(0), blobs(1), probe.Settings())

    @given(seed=seeds)
    @settings(max_examples=5, deadline=None)
    def test_order_of_clips_does_not_matter(self, probe: ModuleType, seed: int) -> None:
        on, fit = blobs(0), blobs(1)

        metrics = probe.evaluate(shuffled(on, seed), shuffled(fit, seed + 1), probe.Settings())

        assert metrics == pytest.approx(probe.evaluate(on, fit, probe.Settings()))

    def test_works_within_inference_mode(self, probe: ModuleType) -> None:
        expected = probe.evaluate(blobs(0), blobs(1), probe.Settings())

        with torch.inference_mode():
            assert probe.evaluate(blobs(0), blobs(1), probe.Settings()) == expected

    def test_a_single_clip_is_enough(self, probe: ModuleType) -> None:
        one = features([[1.0, 2.0]])

        metrics = probe.evaluate(one, one, probe.Settings(**({"cs": (1.0,)} if probe is svm else {})))

        assert {value for name, value in metrics.items() if name not in SVM_FACTS and not name.endswith("_low")} == {
            100.0
        }


@pytest.mark.parametrize("probe", [linear, knn, svm])
class TestClassifiers:
    def test_report_both_modalities_and_each_alone(self, probe: ModuleType) -> None:
        names = set(probe.evaluate(blobs(0), blobs(1), probe.Settings()))

        assert names - SVM_FACTS == {
            f"{side}top{k}{end}" for side in ("", "video_", "audio_") for k in (1, 5) for end in ("", "_low", "_high")
        } | {"top1_chance", "top5_chance"}

    def test_bounds_lie_around_each_accuracy(self, probe: ModuleType) -> None:
        metrics = probe.evaluate(blobs(0), blobs(1), probe.Settings())

        for name in ("top1", "video_top1", "audio_top1"):
            assert metrics[f"{name}_low"] < metrics[name] < metrics[f"{name}_high"]

    def test_video_that_shows_the_class_and_audio_that_says_nothing(self, probe: ModuleType) -> None:
        video = torch.eye(10).repeat(2, 1)
        some = features(video, torch.ones(20, 4), torch.arange(20) % 10)

        metrics = probe.evaluate(some, some, probe.Settings())

        assert metrics["top1"] == metrics["video_top1"] == metrics["top5"] == 100
        assert metrics["audio_top1"] == pytest.approx(10)
        assert metrics["audio_top5"] == pytest.approx(50)
        assert (metrics["top1_chance"], metrics["top5_chance"]) == (10, 50)

    def test_a_class_absent_from_the_fitted_split_is_always_missed(self, probe: ModuleType) -> None:
        fit = features(torch.eye(4), label=[3, 5, 7, 9])
        on = features(torch.eye(4), label=[3, 5, 100, -1])

        options: dict[ModuleType, Any] = {knn: {"k": 1}, svm: {"cs": (1.0,)}}
        metrics = probe.evaluate(on, fit, probe.Settings(**options.get(probe, {})))

        assert metrics["top1"] == 50
        assert metrics["top5"] == 50
        assert metrics["top1_chance"] == 50 / 4

    def test_noise_is_near_chance(self, probe: ModuleType) -> None:
        rng = torch.Generator().manual_seed(0)
        label = torch.arange(300) % 3
        noise = [features(torch.randn(300, 8, generator=rng), torch.randn(300, 8, generator=rng), label) for _ in "ab"]

        assert probe.evaluate(*noise, probe.Settings())["top1"] == pytest.approx(100 / 3, abs=8)


class TestLinear:
    @pytest.mark.parametrize("l2", [1e-3, 1e-1])
    def test_agrees_with_scikit_learn(self, l2: float) -> None:
        on, fit = blobs(2, 300), blobs(3, 90)
        mean, std = fit.both().mean(0), fit.both().std(0, correction=0)
        oracle = sklearn_linear.LogisticRegression(C=1 / (l2 * 90), tol=1e-8, max_iter=1000)
        oracle.fit((fit.both() - mean) / std, fit.label_N)

        metrics = linear.evaluate(on, fit, linear.Settings(l2=l2))

        assert metrics["top1"] == pytest.approx(100 * oracle.score((on.both() - mean) / std, on.label_N))
        assert 50 < metrics["top1"] < 100

    @given(seeds)
    @settings(max_examples=5, deadline=None)
    def test_scale_and_shift_of_a_channel_do_not_matter(self, seed: int) -> None:
        rng = torch.Generator().manual_seed(seed)
        scale, shift = torch.rand(6, generator=rng) + 0.5, torch.randn(6, generator=rng)
        on, fit = blobs(0), blobs(1)

        moved = [features(some.video_ND * scale + shift, some.audio_ND, some.label_N) for some in (on, fit)]

        assert linear.evaluate(*moved, linear.Settings()) == pytest.approx(linear.evaluate(on, fit, linear.Settings()))

    def test_a_channel_that_is_constant_in_the_fitted_split_cannot_mislead(self) -> None:
        fit = features([[1.0, 0], [-1, 0]], label=[0, 1])
        on = features([[1.0, 1e6], [-1, -1e6]], label=[0, 1])

        assert linear.evaluate(on, fit, linear.Settings())["top1"] == 100

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"l2": -1.0}, r"--linear\.l2 -1\.0: must be at least 0"),
            ({"l2": math.nan}, r"--linear\.l2 nan"),
            ({"l2": math.inf}, r"--linear\.l2 inf"),
            ({"iterations": 0}, r"--linear\.iterations 0: must be at least 1"),
            ({"iterations": -3}, r"--linear\.iterations -3"),
        ],
    )
    def test_nonsense_is_refused(self, changes: dict[str, Any], message: str) -> None:
        with pytest.raises(ValueError, match=message):
            linear.Settings(**changes)


class TestKnn:
    FIT = features([[1.0, 0], [0.8, 0.6], [0.8, 0.6]], label=[0, 1, 1])
    ON = features([[1.0, 0]], label=[0])

    def top1(self, **changes: Any) -> float:
        return float(knn.evaluate(self.ON, self.FIT, knn.Settings(**changes))["top1"])

    def test_the_nearest_alone_decides_for_k_1(self) -> None:
        assert self.top1(k=1, temperature=100) == 100

    def test_a_small_temperature_lets_the_nearest_decide_and_a_large_one_counts_heads(self) -> None:
        # votes 1 against 2 exp(-0.2 / temperature): equal at temperature 0.2 / ln 2 = 0.289
        assert self.top1(temperature=0.28) == 100
        assert self.top1(temperature=0.30) == 0

    def test_neighbours_tied_with_the_kth_all_vote(self) -> None:
        assert self.top1(k=2, temperature=100) == self.top1(k=3, temperature=100) == 0

    def test_k_is_capped_at_the_clips_there_are(self) -> None:
        assert self.top1(k=1000, temperature=100) == self.top1(k=3, temperature=100)

    def test_equal_votes_are_shared(self) -> None:
        fit = features([[1.0, 0], [0, 1]], label=[0, 1])

        assert knn.evaluate(features([[1.0, 1]], label=[0]), fit, knn.Settings())["top1"] == 50

    def test_loudness_of_a_modality_does_not_matter(self) -> None:
        on, fit = blobs(0), blobs(1)

        loud = [features(some.video_ND, 1000 * some.audio_ND, some.label_N) for some in (on, fit)]

        assert knn.evaluate(*loud, knn.Settings()) == knn.evaluate(on, fit, knn.Settings())

    def test_agrees_with_a_vote_written_out_beyond_one_chunk(self) -> None:
        on, fit = blobs(4, 300), blobs(5, 50)
        similarity = torch.cosine_similarity(on.video_ND[:, None], fit.video_ND[None], dim=2)
        right = 0
        for row, label in zip(similarity.tolist(), on.label_N.tolist(), strict=True):
            votes = [0.0] * 3
            for neighbour in sorted(range(50), key=lambda clip: -row[clip])[:7]:
                votes[neighbour % 3] += math.exp(row[neighbour] / 0.07)
            right += votes.index(max(votes)) == label

        assert knn.evaluate(on, fit, knn.Settings(k=7))["video_top1"] == pytest.approx(100 * right / 300)

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"k": 0}, r"--knn\.k 0: must be at least 1"),
            ({"temperature": 0.0}, r"--knn\.temperature 0\.0: must be more than 0"),
            ({"temperature": math.nan}, r"--knn\.temperature nan"),
        ],
    )
    def test_nonsense_is_refused(self, changes: dict[str, Any], message: str) -> None:
        with pytest.raises(ValueError, match=message):
            knn.Settings(**changes)

    def test_votes_that_are_no_numbers_are_refused(self) -> None:
        """Float32 takes so small a temperature for 0, and 0 / 0 is no number."""
        with pytest.raises(ValueError, match=r"scores are NaN"):
            self.top1(temperature=1e-60)


def harmonic(count: int) -> float:
    return sum(1 / rank for rank in range(1, count + 1))


class TestCrossmodal:
    def test_three_clips_by_hand(self) -> None:
        """Cosines, video in rows: clip 0 finds itself first, clip 1 second (after 0), clip 2 third."""
        audio = torch.eye(3)
        video = torch.tensor([[3.0, 2, 1], [3, 2, 1], [3, 2, 1]])

        metrics = crossmodal.evaluate(features(video, audio, [0, 1, 0]), None, crossmodal.Settings(ks=(1, 2, 3, 4)))

        assert metrics["video_to_audio_r1"] == pytest.approx(100 / 3)
        assert metrics["video_to_audio_r2"] == pytest.approx(200 / 3)
        assert metrics["video_to_audio_r3"] == 100
        assert metrics["video_to_audio_mrr"] == pytest.approx(100 * (1 + 1 / 2 + 1 / 3) / 3)
        # labels in the order found: 0, 1, 0; so precision 1 and 2/3 for clips 0 and 2, and 1/2 for clip 1
        assert metrics["video_to_audio_map"] == pytest.approx(100 * (5 / 6 + 1 / 2 + 5 / 6) / 3)
        assert not any("r4" in name for name in metrics)
        # each sound is as near to all three pictures
        assert metrics["r1_chance"] == pytest.approx(100 / 3)
        assert metrics["audio_to_video_r1"] == pytest.approx(metrics["r1_chance"])
        assert metrics["audio_to_video_mrr"] == pytest.approx(metrics["mrr_chance"])
        assert metrics["audio_to_video_map"] == pytest.approx(metrics["map_chance"])

    def test_identical_features_find_each_other(self) -> None:
        video = torch.randn(200, 16, generator=torch.Generator().manual_seed(0))

        metrics = crossmodal.evaluate(features(video, 3 * video, torch.arange(200)), None, crossmodal.Settings())

        assert all(value == 100 for name, value in metrics.items() if not name.endswith(("chance", "_low")))

    def test_independent_features_are_near_chance(self) -> None:
        video, audio = torch.randn(2, 300, 64, generator=torch.Generator().manual_seed(0))

        metrics = crossmodal.evaluate(features(video, audio, torch.arange(300) % 6), None, crossmodal.Settings())

        for direction in ("video_to_audio", "audio_to_video"):
            for name, tolerance in (("r1", 1), ("r5", 2), ("r10", 3), ("mrr", 1.5), ("map", 1.5)):
                assert metrics[f"{direction}_{name}"] == pytest.approx(metrics[f"{name}_chance"], abs=tolerance)

    @pytest.mark.parametrize("feature", [0.0, 0.3])
    def test_a_collapsed_encoder_scores_chance_and_not_100(self, feature: float) -> None:
        same = torch.full((150, 37), feature)

        metrics = crossmodal.evaluate(features(same, label=torch.arange(150) % 4), None, crossmodal.Settings())

        for name in ("r1", "r5", "r10", "mrr", "map"):
            assert metrics[f"video_to_audio_{name}"] == pytest.approx(metrics[f"{name}_chance"])
        assert metrics["r1_chance"] == pytest.approx(100 / 150)
        assert metrics["mrr_chance"] == pytest.approx(100 * harmonic(150) / 150)

    def test_swapping_the_modalities_swaps_the_directions(self) -> None:
        some = blobs(0)
        there = crossmodal.evaluate(some, None, crossmodal.Settings())
        back = crossmodal.evaluate(features(some.audio_ND, some.video_ND, some.label_N), None, crossmodal.Settings())

        for name in ("r1", "r5", "r10", "mrr", "map"):
            assert there[f"video_to_audio_{name}"] == back[f"audio_to_video_{name}"]

    def test_more_ranks_never_recall_less(self) -> None:
        metrics = crossmodal.evaluate(blobs(0), None, crossmodal.Settings(ks=tuple(range(1, 61))))
        recalls = [metrics[f"video_to_audio_r{k}"] for k in range(1, 61)]

        assert recalls == sorted(recalls)
        assert recalls[-1] == 100

    def test_agrees_with_scikit_learn_beyond_one_chunk(self) -> None:
        some = blobs(6, 300)
        cosine = torch.cosine_similarity(some.video_ND[:, None], some.audio_ND[None], dim=2)
        relevant = some.label_N[:, None] == some.label_N
        rank = (cosine >= cosine.diagonal()[:, None]).sum(1).double()

        metrics = crossmodal.evaluate(some, None, crossmodal.Settings())

        mean_ap = sum(sklearn_metrics.average_precision_score(*row) for row in zip(relevant, cosine, strict=True)) / 300
        assert metrics["video_to_audio_map"] == pytest.approx(100 * mean_ap, rel=1e-3)
        assert metrics["video_to_audio_mrr"] == pytest.approx(100 * (1 / rank).mean().item(), rel=1e-3)

    @given(
        st.lists(st.tuples(st.integers(0, 2), st.booleans()), min_size=1, max_size=6).filter(
            lambda items: any(relevant for _, relevant in items)
        )
    )
    @settings(max_examples=40, deadline=None)
    def test_average_precision_is_the_mean_over_all_orders_of_tied_items(self, items: list[tuple[int, bool]]) -> None:
        def precision(order: tuple[tuple[int, bool], ...]) -> float:
            hits = [place for place, (_, relevant) in enumerate(order, start=1) if relevant]
            return sum(found / place for found, place in enumerate(hits, start=1)) / len(hits)

        orders = [
            order
            for order in itertools.permutations(items)
            if all(left[0] >= right[0] for left, right in itertools.pairwise(order))
        ]
        score = torch.tensor([[float(value) for value, _ in items]])
        truth = torch.tensor([[relevant for _, relevant in items]])

        found: Tensor = crossmodal.average_precision(score, truth)

        assert found.item() == pytest.approx(sum(map(precision, orders)) / len(orders))

    def test_modalities_of_different_width_are_refused(self) -> None:
        with pytest.raises(ValueError, match="video 2, audio 3"):
            crossmodal.evaluate(features(torch.ones(4, 2), torch.ones(4, 3)), None, crossmodal.Settings())

    def test_a_rank_below_one_is_refused(self) -> None:
        with pytest.raises(ValueError, match=r"--crossmodal\.ks \[0, 1\]: a rank is at least 1"):
            crossmodal.Settings(ks=(0, 1))

    def test_bounds_are_those_of_the_queries(self) -> None:
        """The three clips by hand: found first, second and third."""
        video = torch.tensor([[3.0, 2, 1]] * 3)

        metrics = crossmodal.evaluate(features(video, torch.eye(3), [0, 1, 0]), None, crossmodal.Settings(ks=(1,)))

        for name, values in {"r1": [1, 0, 0], "mrr": [1, 1 / 2, 1 / 3], "map": [5 / 6, 1 / 2, 5 / 6]}.items():
            bounds = [metrics[f"video_to_audio_{name}_{end}"] for end in ("low", "high")]
            assert bounds == pytest.approx(bootstrap_ci(torch.tensor(values, dtype=torch.float64)))
        assert not any(name.startswith(("r1_chance_", "map_chance_")) for name in metrics)


def test_neighbours_are_the_nearest_of_the_other_modality_nearest_first() -> None:
    """Sound 1 points where picture 0 does, and sound 2 half way to it; sound 0 points away from all."""
    pictures = [[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]]
    sounds = [[0.0, -1.0], [2.0, 0.0], [1.0, 1.0]]

    first, _, last = crossmodal.neighbours(features(pictures, sounds), count=2)

    assert [row for row, _ in first.sounds] == [1, 2]
    assert [cosine for _, cosine in first.sounds] == pytest.approx([1.0, math.sqrt(0.5)])
    assert last.row == 2
    assert {row for row, _ in last.pictures} == {0, 1}
    assert [each.row for each in crossmodal.neighbours(features(pictures, sounds), queries=2)] == [0, 1]
    with pytest.raises(ValueError, match="video 2, audio 3"):
        crossmodal.neighbours(features(pictures, [[1.0, 0, 0]] * 3))
