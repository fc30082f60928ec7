"""How weights move: closed forms that a reader can check in the head, and PyTorch's own as oracles."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from kinetics_sounds.train.engine import checkpoint
from kinetics_sounds.train.optim.lr_schedule import Plateau
from kinetics_sounds.train.optim.optimizer import Lars, Optim, make_optimizer, rates, set_rates


def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))


def lars(weight: torch.Tensor, gradient: torch.Tensor, **group: Any) -> torch.Tensor:
    """The weight after one step at rate 1, from no momentum."""
    parameter = nn.Parameter(weight.clone())
    parameter.grad = gradient.clone()
    Lars([{"params": [parameter], **group}], lr=1.0, momentum=0.9).step()
    return parameter.detach()


class TestLars:
    def test_a_layer_moves_by_a_thousandth_of_its_length_whatever_its_gradient(self) -> None:
        """|(3, 4)| = 5, and so the step is 0.005 in the gradient's direction."""
        weight = torch.tensor([[3.0, 4.0]])
        for size in (1e-3, 1.0, 1e6):
            assert lars(weight, torch.tensor([[0.0, size]])).tolist() == [[3.0, pytest.approx(4 - 0.005)]]

    def test_weights_decay_before_the_length_is_taken(self) -> None:
        """(0, 5) + 1 * (3, 4) = (3, 9), of length sqrt(90)."""
        moved = lars(torch.tensor([[3.0, 4.0]]), torch.tensor([[0.0, 5.0]]), weight_decay=1.0)
        share = 0.005 / math.sqrt(90)
        assert moved.tolist() == [[pytest.approx(3 - 3 * share), pytest.approx(4 - 9 * share)]]

    def test_where_a_length_is_zero_it_is_plain_sgd(self) -> None:
        assert lars(torch.zeros(1, 2), torch.tensor([[0.0, 5.0]])).tolist() == [[0.0, -5.0]]
        assert lars(torch.ones(1, 2), torch.zeros(1, 2)).tolist() == [[1.0, 1.0]]

    def test_a_group_that_does_not_adapt_is_pytorchs_sgd(self) -> None:
        ours, theirs = net(), net()
        adapted = Lars(
            [{"params": list(ours.parameters()), "adapts": False, "weight_decay": 0.1}], lr=0.1, momentum=0.9
        )
        oracle = torch.optim.SGD(theirs.parameters(), lr=0.1, momentum=0.9, weight_decay=0.1)
        for step in range(4):
            for model, optimizer in ((ours, adapted), (theirs, oracle)):
                optimizer.zero_grad()
                model(torch.randn(8, 3, generator=torch.Generator().manual_seed(step))).square().sum().backward()
                optimizer.step()
        for mine, its in zip(ours.parameters(), theirs.parameters(), strict=True):
            torch.testing.assert_close(mine, its)

    def test_a_closure_is_called_with_gradients_and_its_value_given_back(self) -> None:
        parameter = nn.Parameter(torch.tensor([[2.0]]))
        optimizer = Lars([{"params": [parameter]}], lr=1.0, momentum=0.0)

        def closure() -> float:
            loss = parameter.square().sum()
            loss.backward()  # type: ignore[no-untyped-call]
            return loss.item()

        assert optimizer.step(closure) == 4
        assert parameter.item() == pytest.approx(2 - 0.002)


def by_name(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, float]:
    """The learning rate of each parameter."""
    found = {id(each): group["lr"] for group in optimizer.param_groups for each in group["params"]}
    return {name: found[id(each)] for name, each in model.named_parameters()}


class TestGroups:
    def test_all_parameters_are_there_once_with_the_same_rate_and_decay(self) -> None:
        (group,) = make_optimizer(net(), Optim(lr=0.1, weight_decay=0.01)).param_groups
        assert (len(group["params"]), group["lr"], group["weight_decay"]) == (6, 0.1, 0.01)

    def test_biases_and_norms_are_spared_the_decay_where_it_is_asked_for(self) -> None:
        found = make_optimizer(net(), Optim(weight_decay=0.01, decay_all=False)).param_groups
        assert {each["weight_decay"]: sorted(p.ndim for p in each["params"]) for each in found} == {
            0.01: [2, 2],
            0.0: [1, 1, 1, 1],
        }

    def test_the_last_pattern_that_fits_names_the_factor(self) -> None:
        model = net()
        optimizer = make_optimizer(model, Optim(lr=0.1, lr_multipliers={"2.*": 10.0, "*.bias": 0.5}))
        set_rates(optimizer, {"constant": 0.01})
        assert {name: round(rate, 9) for name, rate in by_name(model, optimizer).items()} == {
            "0.weight": 0.01,
            "0.bias": 0.005,
            "1.weight": 0.01,
            "1.bias": 0.005,
            "2.weight": 0.1,
            "2.bias": 0.005,
        }

    def test_biases_and_norms_have_a_rate_of_their_own_but_where_a_pattern_fits(self) -> None:
        model = net()
        found = by_name(model, make_optimizer(model, Optim(lr=0.1, one_dimensional=0.5, lr_multipliers={"2.*": 10.0})))

        assert {name: round(rate, 9) for name, rate in found.items()} == {
            "0.weight": 0.1,
            "0.bias": 0.05,
            "1.weight": 0.05,
            "1.bias": 0.05,
            "2.weight": 1.0,
            "2.bias": 1.0,
        }

    def test_a_pattern_that_fits_nothing_is_told(self) -> None:
        with pytest.raises(ValueError, match=r"no parameter name matches 'predictor\.\*'; the first is '0.weight'"):
            make_optimizer(net(), Optim(lr_multipliers={"predictor.*": 10.0}))

    def test_a_pattern_of_schedules_that_fits_nothing_is_told(self) -> None:
        with pytest.raises(ValueError, match=r"optim\.schedules: no parameter name matches 'predictor\.\*'"):
            make_optimizer(net(), Optim(schedules={"predictor.*": "constant"}))

    def test_the_last_pattern_that_fits_names_the_schedule_and_factors_and_decay_stay_what_they_are(self) -> None:
        """A predictor (2.*) at ten times the rate, which stays, while the rest follows a cosine: at its end 0."""
        model = net()
        how = Optim(
            lr=0.1,
            schedule="cosine",
            schedules={"*": "multistep", "0.*": "cosine", "2.*": "constant", "1.*": "cosine"},
            lr_multipliers={"2.*": 10.0},
            milestones=(0.5,),
            weight_decay=0.01,
            decay_all=False,
        )
        optimizer = make_optimizer(model, how)
        schedules = {id(each): group["schedule"] for group in optimizer.param_groups for each in group["params"]}
        assert {name: schedules[id(each)] for name, each in model.named_parameters()} == {
            **dict.fromkeys(["0.weight", "0.bias", "1.weight", "1.bias"], "cosine"),
            **dict.fromkeys(["2.weight", "2.bias"], "constant"),
        }
        assert {
            id(each) for group in optimizer.param_groups if not group["weight_decay"] for each in group["params"]
        } == {id(each) for each in model.parameters() if each.ndim == 1}

        for step, cosine in ((0, 0.1), (5, 0.05), (10, 0.0)):
            set_rates(optimizer, rates(how, step, steps=10, plateau=Plateau()))
            found = by_name(model, optimizer)
            assert [found[name] for name in found if name[0] != "2"] == pytest.approx([cosine] * 4)
            assert found["2.weight"] == found["2.bias"] == 1.0

    def test_what_does_not_learn_is_left_out(self) -> None:
        model = net()
        model[0].requires_grad_(False)
        (group,) = make_optimizer(model, Optim()).param_groups
        assert len(group["params"]) == 4

    @pytest.mark.parametrize(
        ("name", "kind"),
        [("sgd", torch.optim.SGD), ("adam", torch.optim.Adam), ("adamw", torch.optim.AdamW), ("lars", Lars)],
    )
    def test_each_name_is_its_optimiser(self, name: Any, kind: type) -> None:
        assert type(make_optimizer(net(), Optim(name=name))) is kind

    @pytest.mark.parametrize("name", ["sgd", "adam", "adamw", "lars"])
    def test_a_saved_state_comes_back_to_the_parameters_it_was_of(self, name: Any, tmp_path: Path) -> None:
        """Groups number the parameters in another order than the model does."""
        how = Optim(name=name, lr=0.1, decay_all=False, lr_multipliers={"0.bias": 2.0})
        models = [net(), net()]
        first, second = (make_optimizer(model, how) for model in models)

        def step(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
            optimizer.zero_grad()
            model(torch.randn(8, 3, generator=torch.Generator().manual_seed(0))).square().sum().backward()
            optimizer.step()

        step(models[0], first)
        path = checkpoint.save(tmp_path, 1, model=models[0], optimizer=first, state={}, keep=1)
        checkpoint.load_model(path, models[1])
        checkpoint.load_optimizer(path, models[1], second)
        for model, optimizer in zip(models, (first, second), strict=True):
            step(model, optimizer)

        for left, right in zip(*(model.parameters() for model in models), strict=True):
            assert torch.equal(left, right)


@pytest.mark.parametrize(
    "wrong",
    [
        {"lr": -1.0},
        {"lr_multipliers": {"*": -1.0}},
        {"one_dimensional": -1.0},
        {"beta2": 1.0},
        {"factor": 1.0},
        {"min_lr_ratio": 2.0},
        {"patience": -1},
        {"milestones": (0.5, 1.0)},
        {"milestones": (0.0,)},
    ],
)
def test_numbers_that_mean_nothing_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="optim: "):
        Optim(**wrong)


def test_a_rate_is_cut_once_patience_is_over() -> None:
    """Patience 2: the third value in a row that is no better."""
    states = [Plateau()]
    for value in (1.0, 2.0, 2.0, 1.0, 2.0, 3.0):
        states.append(states[-1].after(value, patience=2))
    assert [(each.cuts, each.waited) for each in states] == [(0, 0), (0, 0), (0, 0), (0, 1), (0, 2), (1, 0), (1, 0)]


class TestRates:
    def test_there_is_one_of_each_schedule_that_is_used(self) -> None:
        how = Optim(lr=0.1, schedule="cosine", schedules={"a": "constant", "b": "constant"})
        assert rates(how, 10, steps=10, plateau=Plateau()) == {"cosine": 0.0, "constant": 0.1}

    def test_multistep_without_milestones_is_refused(self) -> None:
        for how in ({"schedule": "multistep"}, {"schedules": {"a": "multistep"}}):
            with pytest.raises(ValueError, match="schedule multistep needs milestones"):
                Optim(**how)

    def test_multistep_is_multiplied_with_the_cut_at_its_milestones(self) -> None:
        how = Optim(lr=1.0, schedule="multistep", milestones=(0.5, 0.75), factor=0.5)
        found = [rates(how, step, steps=8, plateau=Plateau())["multistep"] for step in range(8)]
        assert found == [1, 1, 1, 1, 0.5, 0.5, 0.25, 0.25]

    def test_a_plateau_cuts_its_own_schedule_alone(self) -> None:
        """Twice by ten; the others stay what they would be."""
        how = Optim(
            lr=0.1, schedule="constant", schedules={"a": "plateau", "b": "cosine", "c": "multistep"}, milestones=(0.5,)
        )
        found = rates(how, 5, steps=10, plateau=Plateau(cuts=2))
        assert found == pytest.approx({"constant": 0.1, "plateau": 0.001, "cosine": 0.05, "multistep": 0.01})

    def test_a_plateau_ends_at_its_least_rate_but_a_warm_up_below_it_is_left(self) -> None:
        how = Optim(lr=0.1, schedule="plateau", min_lr=0.05, warmup_steps=9)
        assert rates(how, 9, steps=10, plateau=Plateau(cuts=2)) == {"plateau": 0.05}
        assert rates(how, 0, steps=10, plateau=Plateau(cuts=2)) == {"plateau": pytest.approx(0.01)}

    def test_a_warm_up_is_no_longer_than_the_run(self) -> None:
        assert rates(Optim(lr=0.4, warmup_steps=99), 2, steps=3, plateau=Plateau()) == {"constant": pytest.approx(0.3)}


@given(values=st.lists(st.integers(0, 5), max_size=40), patience=st.integers(0, 4))
def test_plateaus_are_pytorchs(values: list[int], patience: int) -> None:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    oracle = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimizer, mode="max", factor=0.5, patience=patience, threshold=0.0, threshold_mode="abs", eps=0.0
    )
    state = Plateau()
    for value in values:
        oracle.step(float(value))
        state = state.after(float(value), patience=patience)
        assert optimizer.param_groups[0]["lr"] == 0.5**state.cuts
