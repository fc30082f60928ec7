"""AVID's noise-contrastive estimation: closed forms, and the formula as the paper writes it."""

import math

import pytest
import torch
import torch.nn.functional as F

from kinetics_sounds.train.losses.nce import cosines, nce_loss, scores


def test_where_all_scores_are_equal_and_so_is_the_partition() -> None:
    """P = 1 / (1 + K) for each of them: log(1 + K) + K log(1 + 1 / K)."""
    count = 7
    loss_B = nce_loss(
        torch.full((2,), 3.0, dtype=torch.float64),
        torch.full((2, count), 3.0, dtype=torch.float64),
        partition=torch.tensor(math.exp(3.0), dtype=torch.float64),
    )

    expected = math.log(1 + count) + count * math.log(1 + 1 / count)
    torch.testing.assert_close(loss_B, torch.full((2,), expected, dtype=torch.float64))


def test_it_is_the_papers_formula() -> None:
    generator = torch.Generator().manual_seed(0)
    own_B = torch.randn(4, generator=generator, dtype=torch.float64)
    noise_BK = torch.randn(4, 6, generator=generator, dtype=torch.float64)
    partition = torch.tensor(2.2, dtype=torch.float64)

    def probability(score: torch.Tensor) -> torch.Tensor:
        return score.exp() / (score.exp() + 6 * partition)

    expected_B = -probability(own_B).log() - (1 - probability(noise_BK)).log().sum(dim=1)
    torch.testing.assert_close(nce_loss(own_B, noise_BK, partition=partition), expected_B)


def test_scores_are_cosines_over_the_temperature() -> None:
    feature_BD, target_BD = torch.eye(2), torch.tensor([[1.0, 0.0], [0.6, 0.8]])
    noise_BKD = torch.tensor([[[0.0, 1.0], [-1.0, 0.0]], [[0.0, 1.0], [1.0, 0.0]]])

    own_B, noise_BK = scores(feature_BD, target_BD, noise_BKD, temperature=0.5)

    torch.testing.assert_close(own_B, torch.tensor([2.0, 1.6]))
    torch.testing.assert_close(noise_BK, torch.tensor([[0.0, -2.0], [2.0, 0.0]]))


def test_the_mean_of_random_rows_is_what_theory_says() -> None:
    """For uniform unit vectors of 128 channels and temperature 0.07 E[e^s] is 0F1(; 64; 1 / (4 * 0.07^2)) = 2.20865."""
    generator = torch.Generator().manual_seed(0)
    rows = F.normalize(torch.randn(200_000, 128, generator=generator, dtype=torch.float64), dim=1)

    own_B, _ = scores(rows[:100_000], rows[100_000:], rows[:1, None].expand(100_000, 1, 128), temperature=0.07)

    assert abs(own_B.exp().mean().item() - 2.20865) < 0.03


@pytest.mark.parametrize(
    ("own", "noise", "expected"),
    [
        (0.0, 0.0, 8.1759326),
        (1.0, 0.0, 0.4549268),
        (1.0, 1.0, 6722.716),
        (0.07 * math.log(2.2045), 0.07 * math.log(2.2045), 7.93196),
    ],
)
def test_it_has_the_values_of_the_papers_constants(own: float, noise: float, expected: float) -> None:
    """K 1,024, temperature 0.07, Z 2.2045, by the cosines of the sample's own row and of all the others."""
    own_B = torch.tensor([own / 0.07], dtype=torch.float64)
    noise_BK = torch.full((1, 1024), noise / 0.07, dtype=torch.float64)
    loss_B = nce_loss(own_B, noise_BK, partition=torch.tensor(2.2045, dtype=torch.float64))

    assert loss_B.item() == pytest.approx(expected, rel=1e-6)


def test_of_several_positives_it_is_the_mean_of_as_many_losses() -> None:
    generator = torch.Generator().manual_seed(0)
    own_BP = torch.randn(4, 3, generator=generator, dtype=torch.float64)
    noise_BK = torch.randn(4, 6, generator=generator, dtype=torch.float64)
    partition = torch.tensor(2.2, dtype=torch.float64)
    each_PB = torch.stack([nce_loss(own_B, noise_BK, partition=partition) for own_B in own_BP.T])

    torch.testing.assert_close(nce_loss(own_BP, noise_BK, partition=partition), each_PB.mean(dim=0))


def test_half_precision_of_the_encoders_does_not_reach_the_scores() -> None:
    """At temperature 0.07 a cosine that is 2^-9 off is 0.03 off in its score."""
    generator = torch.Generator().manual_seed(0)
    feature_BD = F.normalize(torch.randn(4, 128, generator=generator), dim=1)
    rows_BKD = F.normalize(torch.randn(4, 7, 128, generator=generator), dim=2)
    with torch.autocast("cpu", torch.bfloat16):
        own_B, noise_BK = scores(feature_BD, rows_BKD[:, 0], rows_BKD[:, 1:], temperature=0.07)
        all_BK = cosines(feature_BD, rows_BKD, temperature=0.07)
    expected_BK = torch.einsum("bd,bkd->bk", feature_BD.double(), rows_BKD.double()) / 0.07

    torch.testing.assert_close(torch.cat([own_B[:, None], noise_BK], dim=1).double(), expected_BK, rtol=0, atol=1e-4)
    torch.testing.assert_close(all_BK.double(), expected_BK, rtol=0, atol=1e-4)


def test_its_gradient_is_that_of_the_formula() -> None:
    generator = torch.Generator().manual_seed(0)
    own_BP, noise_BK = (
        torch.randn(3, width, generator=generator, dtype=torch.float64, requires_grad=True) for width in (2, 5)
    )
    partition = torch.tensor(2.2, dtype=torch.float64)

    assert torch.autograd.gradcheck(lambda own, noise: nce_loss(own, noise, partition=partition), (own_BP, noise_BK))
