"""Truths about clustering scores, on labellings whose answers can be found by hand."""

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kinetics_sounds.train.probes import Features, cluster

METRICS = pytest.importorskip("sklearn.metrics")

labellings = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=20).map(np.array)
"""Rows of a class and a cluster."""
names = st.permutations([-5, 0, 7, 10**12]).map(np.array)


def features(video: Any, label: Any, *, audio: Any = None) -> Features:
    video = torch.as_tensor(video, dtype=torch.float32)
    audio = video if audio is None else torch.as_tensor(audio, dtype=torch.float32)
    return Features(video, audio, torch.as_tensor(label), tuple(f"clip{row:03}" for row in range(len(video))))


def corners(spread: float, *, clips: int = 60, classes: int = 4) -> Features:
    """Each class around its own axis, in video; audio is noise."""
    rng = torch.Generator().manual_seed(0)
    label = torch.arange(clips) % classes
    video = torch.eye(classes)[label] + spread * torch.randn(clips, classes, generator=rng)
    return features(video, label, audio=torch.randn(clips, classes, generator=rng))


def judge(some: Features, **changes: Any) -> dict[str, float]:
    metrics: dict[str, float] = cluster.evaluate(some, None, cluster.Settings(**changes))
    return metrics


class TestScores:
    def test_six_clips_by_hand(self) -> None:
        """Clusters split class 0 two to one, and take class 1 whole with the odd one out."""
        label, found = np.array([0, 0, 0, 1, 1, 1]), np.array([5, 5, 2, 2, 2, 2])
        shared = (
            2 * math.log(2 / 6 / (1 / 2 * 1 / 3))
            + math.log(1 / 6 / (1 / 2 * 2 / 3))
            + 3 * math.log(3 / 6 / (1 / 2 * 2 / 3))
        ) / 6
        entropies = math.log(2), -(1 / 3 * math.log(1 / 3) + 2 / 3 * math.log(2 / 3))

        assert cluster.clustering_accuracy(label, found) == pytest.approx(5 / 6)
        assert cluster.nmi(label, found) == pytest.approx(shared / (sum(entropies) / 2))

    def test_clusters_that_say_nothing_of_the_class(self) -> None:
        assert cluster.nmi(np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1])) == pytest.approx(0)
        assert cluster.clustering_accuracy(np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1])) == 0.5

    def test_a_cluster_stands_for_one_class_and_a_class_for_one_cluster(self) -> None:
        assert cluster.clustering_accuracy(np.array([0, 0, 0, 1]), np.array([0, 0, 0, 0])) == 0.75
        assert cluster.clustering_accuracy(np.array([0, 0, 0, 0]), np.array([0, 1, 2, 2])) == 0.5

    @given(labellings)
    @settings(max_examples=40, deadline=None)
    def test_accuracy_is_the_best_of_all_pairings(self, rows: np.ndarray) -> None:
        best = max(np.mean(rows[:, 0] == np.array(pairing)[rows[:, 1]]) for pairing in itertools.permutations(range(4)))

        assert cluster.clustering_accuracy(rows[:, 0], rows[:, 1]) == pytest.approx(best)

    @given(labellings, names, names)
    @settings(max_examples=40, deadline=None)
    def test_what_classes_and_clusters_are_called_does_not_matter(
        self, rows: np.ndarray, classes: np.ndarray, clusters: np.ndarray
    ) -> None:
        label, found = rows.T
        for score in (cluster.nmi, cluster.clustering_accuracy):
            assert score(classes[label], clusters[found]) == pytest.approx(score(label, found))
            assert 0 <= score(label, found) <= 1 + 1e-12

    @given(labellings)
    @settings(max_examples=40, deadline=None)
    def test_nmi_is_the_v_measure(self, rows: np.ndarray) -> None:
        """Which scikit-learn defines another way: the harmonic mean of homogeneity and completeness."""
        assert cluster.nmi(*rows.T) == pytest.approx(METRICS.v_measure_score(*rows.T))


class TestProbe:
    def test_classes_that_lie_apart_are_found_where_they_lie_apart(self) -> None:
        metrics = judge(corners(0.05))

        assert metrics["video_nmi"] == metrics["video_acc"] == pytest.approx(100)
        assert metrics["video_nmi_chance"] < 20
        assert metrics["video_acc_chance"] < 50
        assert metrics["audio_acc"] < 60
        assert metrics["audio_acc"] - metrics["audio_acc_chance"] < 15
        assert metrics["audio_nmi"] - metrics["audio_nmi_chance"] < 10

    def test_names_of_the_scores(self) -> None:
        assert set(judge(corners(1.0))) == {
            f"{side}{name}{end}"
            for side in ("", "video_", "audio_")
            for name in ("nmi", "acc")
            for end in ("", "_chance")
        }

    def test_a_collapsed_encoder_scores_chance(self) -> None:
        """All clips in one cluster: no information, and as accurate as the largest class."""
        metrics = judge(features(torch.full((10, 3), 0.3), [0] * 6 + [1] * 4))

        assert metrics["nmi"] == metrics["nmi_chance"] == 0
        assert metrics["acc"] == pytest.approx(60)
        assert metrics["acc_chance"] == pytest.approx(60)

    def test_chance_is_not_zero_and_shrinks_with_the_number_of_clips(self) -> None:
        few, many = (judge(corners(1.0, clips=clips)) for clips in (20, 400))

        assert few["nmi_chance"] > many["nmi_chance"] > 0
        assert few["acc_chance"] > many["acc_chance"] > 25

    def test_number_of_clusters_is_that_of_the_classes_unless_given(self) -> None:
        some = corners(0.05)

        assert judge(some, clusters=4) == judge(some)
        assert judge(some, clusters=2)["video_acc"] == pytest.approx(50)
        assert judge(some, clusters=1000)["video_acc"] < 20

    def test_loudness_of_a_modality_does_not_matter(self) -> None:
        some = corners(0.5)
        loud = Features(some.video_ND, 1024 * some.audio_ND, some.label_N, some.keys)

        assert judge(loud) == pytest.approx(judge(some))

    @pytest.mark.parametrize("seed", [0, 1])
    def test_order_of_clips_does_not_matter_and_the_same_comes_again(self, seed: int) -> None:
        some = corners(1.5)
        row = torch.randperm(60, generator=torch.Generator().manual_seed(seed))
        turned = Features(some.video_ND[row], some.audio_ND[row], some.label_N[row], tuple(some.keys[i] for i in row))

        assert judge(turned) == judge(some)

    def test_permuted_labels_keep_the_scores(self) -> None:
        some = corners(0.8)
        renamed = Features(some.video_ND, some.audio_ND, torch.tensor([30, 10, 0, 20])[some.label_N], some.keys)

        assert judge(renamed) == pytest.approx(judge(some))

    def test_restarts_find_tighter_clusters_than_one_unlucky_start(self) -> None:
        video_ND = corners(1.5).video_ND

        def looseness(restarts: int) -> float:
            options = cluster.Settings(restarts=restarts, seed=11)
            found_N = cluster.k_means(video_ND, clusters=4, settings=options)
            groups = [video_ND[torch.from_numpy(found_N == each)] for each in range(4)]
            return float(sum((group - group.mean(dim=0)).square().sum().item() for group in groups))

        assert looseness(10) < looseness(1)

    def test_the_seed_decides_the_start(self) -> None:
        video_ND = corners(1.5).video_ND
        found = [
            cluster.k_means(video_ND, clusters=4, settings=cluster.Settings(restarts=1, seed=seed)) for seed in (0, 11)
        ]

        assert cluster.nmi(*found) < 0.9

    def test_works_within_inference_mode_and_for_a_single_clip(self) -> None:
        one = features([[1.0, 2]], [7])
        with torch.inference_mode():
            assert set(judge(one).values()) == {100}

    def test_it_needs_no_fitted_split_and_at_least_one_cluster_and_restart(self) -> None:
        assert not cluster.NEEDS_TRAIN_FEATURES
        for name in ("clusters", "restarts"):
            with pytest.raises(ValueError, match=f"--cluster.{name} 0: must be at least 1"):
                cluster.Settings(**{name: 0})

    @pytest.mark.parametrize("seed", [-1, 2**32])
    def test_a_seed_that_numpy_does_not_take_is_refused(self, seed: int) -> None:
        with pytest.raises(ValueError, match=f"--cluster.seed {seed}: must be from 0"):
            cluster.Settings(seed=seed)
