"""How far a prediction points from its target."""

import pytest
import torch

from kinetics_sounds.train.losses.prediction import cosine

BASE = torch.tensor([[1.0, 2.0, 0.0]])


@pytest.mark.parametrize(("target", "expected"), [([2.0, 4.0, 0.0], 1), ([0.0, 0.0, 3.0], 0), ([-1.0, -2.0, 0.0], -1)])
def test_aligned_is_1_orthogonal_0_and_opposite_minus_1(target: list[float], expected: float) -> None:
    """So SimSiam's pair of terms is -1, 0 and 1, and BYOL's 0, 4 and 8."""
    torch.testing.assert_close(cosine(BASE, torch.tensor([target])), torch.tensor([float(expected)]))


def test_the_target_gets_no_gradient() -> None:
    prediction, target = (torch.randn(3, 4, requires_grad=True) for _ in range(2))
    cosine(prediction, target).sum().backward()

    assert prediction.grad is not None
    assert target.grad is None


def test_the_gradient_is_that_of_finite_differences() -> None:
    target = torch.randn(3, 4, dtype=torch.float64)
    prediction = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)

    assert torch.autograd.gradcheck(lambda given: cosine(given, target), (prediction,))


def test_half_precision_is_compared_in_single() -> None:
    assert cosine(BASE.bfloat16(), BASE.bfloat16()).dtype == torch.float32
