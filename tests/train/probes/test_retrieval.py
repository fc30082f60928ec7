"""Truths about retrieval, on galleries whose order can be found by hand."""

import itertools
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from kinetics_sounds.train.probes import Features, bootstrap_ci, hit_share, retrieval

NEIGHBOURS = pytest.importorskip("sklearn.neighbors")


def features(video: Any, label: Any, *, name: str, audio: Any = None) -> Features:
    """Wrap lists or tensors; audio is the video unless given, keys are the name and the row."""
    video = torch.as_tensor(video, dtype=torch.float32)
    audio = video if audio is None else torch.as_tensor(audio, dtype=torch.float32)
    return Features(video, audio, torch.as_tensor(label), tuple(f"{name}{row}" for row in range(len(video))))


def noise(seed: int, *, clips: int, classes: int, name: str) -> Features:
    rng = torch.Generator().manual_seed(seed)
    video, audio = torch.randn(2, clips, 8, generator=rng)
    return features(video, torch.arange(clips) % classes, name=name, audio=audio)


def retrieve(on: Features, fit: Features, **changes: Any) -> dict[str, float]:
    metrics: dict[str, float] = retrieval.evaluate(on, fit, retrieval.Settings(**changes))
    return metrics


LINE = features([[1.0, 0], [1, 0.1], [1, 0.2], [1, 0.3]], [0, 1, 2, 1], name="gallery")
"""Seen from (1, 0), in this order."""


class TestByHand:
    def test_a_query_is_found_at_the_rank_of_the_first_clip_of_its_class(self) -> None:
        on = features([[1.0, 0]] * 3, [0, 1, 2], name="query")

        metrics = retrieve(on, LINE, ks=(1, 2, 3, 4))

        assert [metrics[f"video_r{k}"] for k in (1, 2, 3, 4)] == pytest.approx([100 / 3, 200 / 3, 100, 100])
        # a random order finds a class of one in 1/4, 2/4, 3/4; the class of two is missed in 2/4, then in 2/4 * 1/3
        assert metrics["r1_chance"] == pytest.approx(100 * (1 / 4 + 1 / 2 + 1 / 4) / 3)
        assert metrics["r2_chance"] == pytest.approx(100 * (1 / 2 + 5 / 6 + 1 / 2) / 3)
        assert metrics["r4_chance"] == 100

    def test_a_class_that_the_gallery_lacks_is_always_missed(self) -> None:
        metrics = retrieve(features([[1.0, 0], [1, 0]], [0, 9], name="query"), LINE, ks=(1, 4))

        assert metrics["r1"] == metrics["r4"] == metrics["r4_chance"] == 50
        assert metrics["r1_chance"] == pytest.approx(25 / 2)

    def test_a_clip_does_not_find_itself(self) -> None:
        """Only the two of class 1 have a mate: clip 3 finds clip 2 and then 1, and clip 1 finds 0, 2 and then 3."""
        metrics = retrieve(LINE, LINE, ks=(1, 2, 3, 4))

        assert [metrics[f"r{k}"] for k in (1, 2, 3, 4)] == [0, 25, 50, 50]
        # of each one's three others, one is right
        assert metrics["r1_chance"] == pytest.approx(50 / 3)
        assert metrics["r3_chance"] == 50

    def test_only_the_clip_with_the_same_key_is_left_out(self) -> None:
        on = Features(LINE.video_ND[:1], LINE.audio_ND[:1], LINE.label_N[:1], ("another",))

        assert retrieve(on, LINE, ks=(1,))["r1"] == 100

    def test_ranks_beyond_the_gallery_are_left_out(self) -> None:
        metrics = retrieve(features([[1.0, 0]], [0], name="query"), LINE)

        assert {name for name in metrics if name.endswith("_chance")} == {"r1_chance"}
        assert set(metrics) == {
            f"{side}r1{end}" for side in ("", "video_", "audio_") for end in ("", "_low", "_high")
        } | {"r1_chance"}

    def test_each_side_is_judged_apart(self) -> None:
        fit = features([[1.0, 0], [0, 1]], [0, 1], name="gallery", audio=[[0, 1.0], [1, 0]])
        on = features([[1.0, 0], [0, 1]], [0, 1], name="query")

        metrics = retrieve(on, fit, ks=(1,))

        assert (metrics["video_r1"], metrics["audio_r1"], metrics["r1"]) == (100, 0, 50)

    def test_bounds_are_those_of_the_clips(self) -> None:
        on = features([[1.0, 0]] * 3, [0, 1, 2], name="query")

        metrics = retrieve(on, LINE, ks=(1,))

        assert (metrics["r1_low"], metrics["r1_high"]) == bootstrap_ci(torch.tensor([1.0, 0, 0]))


class TestDistances:
    FAR = features([[10.0, 0], [1, 1]], [0, 1], name="gallery")
    QUERY = features([[1.0, 0]], [0], name="query")

    def test_cosine_asks_for_the_direction_and_euclidean_for_the_place(self) -> None:
        assert retrieve(self.QUERY, self.FAR, ks=(1,), distance="cosine")["video_r1"] == 100
        assert retrieve(self.QUERY, self.FAR, ks=(1,), distance="euclidean")["video_r1"] == 0

    def test_they_agree_on_features_of_length_one(self) -> None:
        some = [noise(seed, clips=40, classes=4, name=name) for seed, name in ((0, "query"), (1, "gallery"))]
        on, fit = (Features(F.normalize(e.video_ND), F.normalize(e.audio_ND), e.label_N, e.keys) for e in some)

        assert retrieve(on, fit, distance="euclidean") == pytest.approx(retrieve(on, fit, distance="cosine"))

    def test_a_ten_thousandth_of_a_feature_is_still_told_from_none(self) -> None:
        fit = features([[1.0, 1e-4], [1, 1e-5]], [1, 0], name="gallery")

        assert retrieve(self.QUERY, fit, ks=(1,), distance="euclidean")["video_r1"] == 100

    def test_loudness_of_a_modality_does_not_matter_for_cosine(self) -> None:
        on, fit = (noise(seed, clips=30, classes=3, name=name) for seed, name in ((0, "query"), (1, "gallery")))
        loud = [Features(each.video_ND, 100 * each.audio_ND, each.label_N, each.keys) for each in (on, fit)]

        assert retrieve(*loud) == retrieve(on, fit)
        assert retrieve(*loud, distance="euclidean") != retrieve(on, fit, distance="euclidean")

    @pytest.mark.parametrize("scale", [1e-6, 1.0, 1e4])
    def test_one_scale_for_all_features_does_not_matter_for_euclidean(self, scale: float) -> None:
        on, fit = (noise(seed, clips=30, classes=3, name=name) for seed, name in ((0, "query"), (1, "gallery")))
        scaled = [Features(scale * e.video_ND, scale * e.audio_ND, e.label_N, e.keys) for e in (on, fit)]

        assert retrieve(*scaled, distance="euclidean") == retrieve(on, fit, distance="euclidean")

    @pytest.mark.parametrize("distance", ["cosine", "euclidean"])
    def test_agrees_with_scikit_learn_beyond_one_chunk(self, distance: Any) -> None:
        on, fit = noise(2, clips=300, classes=7, name="query"), noise(3, clips=60, classes=7, name="gallery")
        oracle = NEIGHBOURS.NearestNeighbors(n_neighbors=5, metric=distance).fit(fit.video_ND)
        found_N5 = fit.label_N[torch.from_numpy(oracle.kneighbors(on.video_ND, return_distance=False))]
        hit_N = (found_N5 == on.label_N[:, None]).any(dim=1)

        assert retrieve(on, fit, distance=distance)["video_r5"] == pytest.approx(100 * hit_N.double().mean().item())


class TestEverySplit:
    @pytest.mark.parametrize("distance", ["cosine", "euclidean"])
    def test_more_ranks_never_find_less_and_the_whole_gallery_finds_all(self, distance: Any) -> None:
        on, fit = noise(4, clips=50, classes=5, name="query"), noise(5, clips=25, classes=5, name="gallery")

        metrics = retrieve(on, fit, distance=distance, ks=tuple(range(1, 26)))

        for side in ("", "video_", "audio_"):
            recalls = [metrics[f"{side}r{k}"] for k in range(1, 26)]
            assert recalls == sorted(recalls)
            assert recalls[0] < recalls[-1] == 100

    @pytest.mark.parametrize("distance", ["cosine", "euclidean"])
    @pytest.mark.parametrize("feature", [0.0, 0.3, 1000.1])
    def test_a_collapsed_encoder_scores_chance(self, feature: float, distance: Any) -> None:
        on = features(torch.full((140, 37), feature), torch.arange(140) % 4, name="query")
        fit = features(torch.full((90, 37), feature), torch.arange(90) % 5, name="gallery")

        metrics = retrieve(on, fit, distance=distance)

        for k in (1, 5, 10, 20, 50):
            assert metrics[f"r{k}"] == pytest.approx(metrics[f"r{k}_chance"])
        assert metrics["r1"] == pytest.approx(100 / 5)

    def test_noise_is_near_chance(self) -> None:
        on, fit = noise(6, clips=400, classes=10, name="query"), noise(7, clips=400, classes=10, name="gallery")

        metrics = retrieve(on, fit)

        for k in (1, 5, 10, 20):
            assert metrics[f"r{k}"] == pytest.approx(metrics[f"r{k}_chance"], abs=8)

    def test_order_of_the_clips_does_not_matter(self) -> None:
        def turned(some: Features) -> Features:
            return Features(some.video_ND.flip(0), some.audio_ND.flip(0), some.label_N.flip(0), some.keys[::-1])

        some = noise(8, clips=30, classes=3, name="clip")  # its own gallery: keys go with their rows

        assert retrieve(turned(some), some) == pytest.approx(retrieve(some, some))

    def test_works_within_inference_mode_and_gives_the_same_again(self) -> None:
        on, fit = noise(0, clips=30, classes=3, name="query"), noise(1, clips=30, classes=3, name="gallery")
        with torch.inference_mode():
            within = retrieve(on, fit)

        assert within == retrieve(on, fit)

    def test_it_needs_a_fitted_split_and_ranks_of_at_least_one(self) -> None:
        assert retrieval.NEEDS_TRAIN_FEATURES
        with pytest.raises(ValueError, match="needs the features of a split to fit on"):
            retrieval.evaluate(LINE, None, retrieval.Settings())
        with pytest.raises(ValueError, match=r"--retrieval\.ks \[0, 1\]: .* a rank is at least 1"):
            retrieval.Settings(ks=(0, 1))
        with pytest.raises(ValueError, match="at least one rank is needed"):
            retrieval.Settings(ks=())


class TestFoundShare:
    @given(ahead=st.integers(0, 4), tied=st.integers(1, 5), k=st.integers(1, 8), data=st.data())
    @settings(max_examples=60, deadline=None)
    def test_is_the_share_of_all_orders_of_the_tied_items(
        self, ahead: int, tied: int, k: int, data: st.DataObject
    ) -> None:
        wanted = data.draw(st.integers(0, tied))
        orders = list(itertools.permutations([True] * wanted + [False] * (tied - wanted)))
        found = sum(any(order[: max(0, k - ahead)]) for order in orders)

        share = retrieval.found_share(torch.tensor([ahead]), torch.tensor([tied]), torch.tensor([wanted]), k=k)

        assert share.item() == pytest.approx(found / len(orders), abs=1e-12)

    @given(ahead=st.integers(0, 100), tied=st.integers(1, 20_000), k=st.integers(1, 50))
    @settings(max_examples=60, deadline=None)
    def test_with_one_wanted_item_it_is_the_hit_share(self, ahead: int, tied: int, k: int) -> None:
        ahead_N, tied_N = torch.tensor([ahead]), torch.tensor([tied])

        share = retrieval.found_share(ahead_N, tied_N, torch.tensor([1]), k=k)

        assert share.item() == pytest.approx(hit_share(ahead_N, tied_N, k=k).item(), abs=1e-9)
