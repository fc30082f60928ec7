"""LARC, by hand and against plain optimisers."""

import pytest
import torch
from torch import nn

from kinetics_sounds.train.optim.optimizer import Optim, make_optimizer


def stepped(weight: list[float], gradient: list[float], **how: object) -> list[float]:
    """The weight after one step of SGD without momentum."""
    model = nn.Linear(len(weight), 1, bias=False)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([weight]))
    model.weight.grad = torch.tensor([gradient])
    make_optimizer(model, Optim(**{"momentum": 0.0, "lr": 1.0, "weight_decay": 0.0, **how})).step()
    return model.weight.detach()[0].tolist()


def test_a_long_gradient_moves_a_weight_by_the_trusted_share_of_its_length() -> None:
    """|(3, 4)| = 5, so the step is 0.005, whatever the gradient's length and the rate."""
    for lr, size in ((1.0, 1.0), (0.1, 100.0)):
        assert stepped([3.0, 4.0], [0.0, size], lr=lr, larc=1e-3) == pytest.approx([3, 4 - 0.005])


def test_each_group_is_adapted_by_its_own_rate() -> None:
    """Rates of 0.1, and of 1 by a factor: 0.1 * 0.02 is less than the 0.005 that are allowed, 1 * 0.02 is more."""
    model = nn.ModuleDict({name: nn.Linear(1, 1, bias=False) for name in ("slow", "fast")})
    for parameter in model.parameters():
        nn.init.constant_(parameter, 5.0)
        parameter.grad = torch.tensor([[0.02]])
    optim = Optim(momentum=0.0, lr=0.1, weight_decay=0.0, larc=1e-3, lr_multipliers={"fast.*": 10.0})
    make_optimizer(model, optim).step()

    moved = {name: 5 - parameter.item() for name, parameter in model.named_parameters()}
    assert moved == {"slow.weight": pytest.approx(0.002, rel=1e-3), "fast.weight": pytest.approx(0.005, rel=1e-3)}


def test_a_short_gradient_is_left() -> None:
    """0.001 * 0.1 is less than the 0.005 that are allowed."""
    assert stepped([3.0, 4.0], [0.0, 0.001], lr=0.1, larc=1e-3) == pytest.approx([3, 4 - 1e-4])


def test_weight_decay_goes_into_the_gradient() -> None:
    """(0, 5) + 1 * (3, 4) = (3, 9); allowed are 0.001 * 5 / (5 + 5) of it."""
    assert stepped([3.0, 4.0], [0.0, 5.0], weight_decay=1.0, larc=1e-3) == pytest.approx([3 - 3 * 5e-4, 4 - 9 * 5e-4])


def test_what_has_no_length_or_no_gradient_is_as_without_it() -> None:
    assert stepped([0.0, 0.0], [0.0, 5.0], larc=1e-3) == [0, -5]
    assert stepped([1.0, 1.0], [0.0, 0.0], larc=1e-3) == [1, 1]


def test_with_all_the_trust_it_is_the_optimiser_itself() -> None:
    for name in ("sgd", "adam"):
        models = [nn.Linear(3, 2) for _ in range(2)]
        models[1].load_state_dict(models[0].state_dict())
        for model, larc in zip(models, (0.0, 1e9), strict=True):
            optimizer = make_optimizer(model, Optim(name=name, lr=0.1, weight_decay=0.01, larc=larc))
            for step in range(3):
                optimizer.zero_grad()
                model(torch.randn(4, 3, generator=torch.Generator().manual_seed(step))).square().sum().backward()
                optimizer.step()
        torch.testing.assert_close(models[0].weight, models[1].weight)


def test_lars_adapts_already() -> None:
    with pytest.raises(ValueError, match="larc is for sgd, adam and adamw; lars adapts rates itself"):
        Optim(name="lars", larc=1e-3)
