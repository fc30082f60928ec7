"""AVID's noise-contrastive estimation: closed forms, and the formula as the paper writes it."""

import math

import torch
import torch.nn.functional as F

from kinetics_sounds.train.losses.nce import nce_loss, scores


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
