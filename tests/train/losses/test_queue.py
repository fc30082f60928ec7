"""MoCo's loss: closed forms, and another's code."""

import math

import pytest
import torch
import torch.nn.functional as F
from info_nce import info_nce

from kinetics_sounds.train.losses.queue import own_key_loss, queue_logits


def queue_loss(
    query_BD: torch.Tensor, key_BD: torch.Tensor, queue_KD: torch.Tensor, *, temperature: float
) -> torch.Tensor:
    loss_B: torch.Tensor = own_key_loss(queue_logits(query_BD, key_BD, queue_KD, temperature=temperature))
    return loss_B


def unit(*shape: int, seed: int) -> torch.Tensor:
    return F.normalize(torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64), dim=-1)


@pytest.mark.parametrize(("size", "value"), [(4096, 8.318010), (16_384, 9.704122), (65_536, 11.090370)])
def test_where_all_are_equal_it_is_the_logarithm_of_all_that_could_be_the_key(size: int, value: float) -> None:
    same = torch.ones(1, 1, dtype=torch.float64)

    loss_B = queue_loss(same, same, same.expand(size, 1), temperature=0.07)

    assert loss_B.item() == pytest.approx(math.log(size + 1))
    assert loss_B.item() == pytest.approx(value, abs=1e-6)


@pytest.mark.parametrize(("size", "value"), [(4096, 0.00255622), (16_384, 0.0101859), (65_536, 0.0401355)])
def test_a_query_that_is_its_key_and_orthogonal_to_the_queue(size: int, value: float) -> None:
    first, second = torch.eye(2, dtype=torch.float64)

    loss_B = queue_loss(first[None], first[None], second.expand(size, 2), temperature=0.07)

    assert loss_B.item() == pytest.approx(math.log1p(size * math.exp(-1 / 0.07)))
    assert loss_B.item() == pytest.approx(value, rel=1e-5)


def test_it_is_info_nce_with_unpaired_negatives() -> None:
    query_BD, key_BD, queue_KD = unit(5, 8, seed=0), unit(5, 8, seed=1), unit(32, 8, seed=2)

    expected = info_nce(query_BD, key_BD, queue_KD, temperature=0.07, negative_mode="unpaired")

    torch.testing.assert_close(queue_loss(query_BD, key_BD, queue_KD, temperature=0.07).mean(), expected)


def test_half_precision_is_computed_in_float32() -> None:
    query_BD, key_BD, queue_KD = (
        unit(*shape, seed=seed).bfloat16() for seed, shape in enumerate([(3, 8), (3, 8), (9, 8)])
    )
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss_B = queue_loss(query_BD, key_BD, queue_KD, temperature=0.07)

    assert loss_B.dtype == torch.float32
    torch.testing.assert_close(loss_B, queue_loss(query_BD.float(), key_BD.float(), queue_KD.float(), temperature=0.07))
