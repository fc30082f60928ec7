"""InfoNCE of samples and of clusters: closed forms of methods 4.5, and an independent oracle."""

import math

import pytest
import torch
from info_nce import InfoNCE
from torch import Tensor

from kinetics_sounds.train.losses.infonce import cluster_loss, infonce_loss


def one_hot(samples: int, clusters: int) -> Tensor:
    """As many samples in each cluster."""
    return torch.eye(clusters, dtype=torch.float64)[torch.arange(samples) % clusters]


@pytest.mark.parametrize(("samples", "one_way"), [(16, 1.108572), (256, 3.569828)])
def test_pairs_that_are_alike_and_orthogonal_to_all_others(samples: int, one_way: float) -> None:
    rows = torch.eye(samples, dtype=torch.float64)

    assert infonce_loss(rows, 3 * rows, temperature=0.5).item() == pytest.approx(2 * one_way, abs=1e-5)
    assert one_way == pytest.approx(math.log(1 + (samples - 1) * math.exp(-2)), abs=1e-6)


def test_collapsed_it_is_twice_log_n() -> None:
    rows = torch.ones(256, 4, dtype=torch.float64)

    assert infonce_loss(rows, rows, temperature=0.5).item() == pytest.approx(2 * 5.545177, abs=1e-5)


def test_it_is_what_info_nce_says_both_ways() -> None:
    generator = torch.Generator().manual_seed(0)
    video, audio = (torch.randn(9, 5, generator=generator, dtype=torch.float64) for _ in range(2))
    oracle = InfoNCE(temperature=0.5)

    torch.testing.assert_close(infonce_loss(video, audio, temperature=0.5), oracle(video, audio) + oracle(audio, video))


@pytest.mark.parametrize(
    ("clusters", "one_way", "whole"),
    [(10, 0.796614, -3.011943), (100, 2.667103, -3.876135), (400, 4.007311, -3.968307)],
)
def test_balanced_clusters_that_agree(clusters: int, one_way: float, whole: float) -> None:
    contrast, entropy = cluster_loss(one_hot(800, clusters), one_hot(800, clusters), temperature=0.5)

    assert contrast.item() == pytest.approx(2 * one_way, abs=1e-5)
    assert entropy.item() == pytest.approx(2 * math.log(clusters))
    assert (contrast - entropy).item() == pytest.approx(whole, abs=1e-5)


def test_uniform_rows_are_worth_nothing_and_one_cluster_has_no_entropy() -> None:
    uniform = torch.full((8, 5), 0.2, dtype=torch.float64)
    contrast, entropy = cluster_loss(uniform, uniform, temperature=0.5)
    assert (contrast - entropy).item() == pytest.approx(0, abs=1e-12)

    alone = torch.eye(5, dtype=torch.float64)[torch.zeros(8, dtype=torch.int64)]
    contrast, entropy = cluster_loss(alone, alone, temperature=0.5)
    assert entropy.item() == 0
    assert contrast.isfinite()


def test_each_modality_has_its_own_entropy() -> None:
    """Balanced in one, and all in one cluster in the other: log C, whichever is which."""
    balanced, alone = one_hot(8, 4), one_hot(8, 1) @ torch.eye(4, dtype=torch.float64)[:1]

    for video, audio in ((balanced, alone), (alone, balanced)):
        assert cluster_loss(video, audio, temperature=0.5)[1].item() == pytest.approx(math.log(4))


def test_clusters_are_the_columns() -> None:
    """The same contrast, of the transposed matrices."""
    generator = torch.Generator().manual_seed(0)
    video, audio = (torch.randn(9, 5, generator=generator, dtype=torch.float64).softmax(dim=1) for _ in range(2))

    torch.testing.assert_close(
        cluster_loss(video, audio, temperature=0.5)[0], infonce_loss(video.T, audio.T, temperature=0.5)
    )


def test_gradients_are_those_of_the_formula() -> None:
    generator = torch.Generator().manual_seed(0)
    pair = [torch.randn(4, 3, generator=generator, dtype=torch.float64).requires_grad_() for _ in range(2)]

    assert torch.autograd.gradcheck(lambda *given: infonce_loss(*given, temperature=0.5), pair)
    assert torch.autograd.gradcheck(
        lambda *given: cluster_loss(*(each.softmax(dim=1) for each in given), temperature=0.5), pair
    )


def test_a_batch_has_two_samples_at_least() -> None:
    with pytest.raises(ValueError, match="at least 2 samples"):
        infonce_loss(torch.ones(1, 4), torch.ones(1, 4), temperature=0.5)
