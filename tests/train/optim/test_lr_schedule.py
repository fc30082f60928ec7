"""Truths about the learning rate that a reader can check in the head."""

from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kinetics_sounds.train.optim.lr_schedule import learning_rate

CONSTANT: dict[str, Any] = {"base": 1.0, "steps": 104, "warmup_steps": 4, "kind": "constant"}
COSINE: dict[str, Any] = {**CONSTANT, "kind": "cosine"}


@pytest.mark.parametrize("settings", [CONSTANT, COSINE])
def test_warm_up_rises_in_equal_steps_and_wastes_none_on_zero(settings: dict[str, Any]) -> None:
    rates = [learning_rate(step, **settings) for step in range(5)]

    assert rates == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])


@pytest.mark.parametrize("step", [4, 5, 54, 103, 104, 10_000])
def test_constant_stays(step: int) -> None:
    assert learning_rate(step, **CONSTANT) == 1


@pytest.mark.parametrize(("step", "share"), [(4, 1), (29, 0.853553), (54, 0.5), (79, 0.146447), (104, 0), (10_000, 0)])
def test_cosine_is_half_way_down_at_half_time(step: int, share: float) -> None:
    assert learning_rate(step, **COSINE) == pytest.approx(share, abs=1e-6)


@pytest.mark.parametrize(("step", "share"), [(4, 1), (54, 0.55), (104, 0.1), (200, 0.1)])
def test_cosine_ends_at_its_final_share(step: int, share: float) -> None:
    assert learning_rate(step, **COSINE, min_lr_ratio=0.1) == pytest.approx(share)


@pytest.mark.parametrize(("step", "share"), [(4, 1), (51, 1), (52, 0.5), (77, 0.5), (78, 0.25), (104, 0.25)])
def test_multistep_is_multiplied_by_its_factor_at_each_milestone(step: int, share: float) -> None:
    """Half of 104 steps is 52, three quarters are 78."""
    multistep: dict[str, Any] = {**CONSTANT, "kind": "multistep", "milestones": (0.75, 0.5), "factor": 0.5}

    assert learning_rate(step, **multistep) == share


def test_multistep_without_milestones_is_constant_and_rises_as_the_others_do() -> None:
    rates = [learning_rate(step, **{**CONSTANT, "kind": "multistep"}) for step in range(104)]

    assert rates == [learning_rate(step, **CONSTANT) for step in range(104)]


@pytest.mark.parametrize("step", [0, 1, 4, 104, 10_000])
def test_fixed_has_no_warm_up(step: int) -> None:
    assert learning_rate(step, **{**CONSTANT, "kind": "fixed"}) == 1


def test_without_warm_up_the_first_step_has_the_base_rate() -> None:
    assert learning_rate(0, base=1e-3, steps=10, warmup_steps=0, kind="cosine") == 1e-3


def test_warm_up_may_fill_the_whole_run() -> None:
    assert learning_rate(9, base=11, steps=10, warmup_steps=10, kind="cosine") == 10
    assert learning_rate(10, base=11, steps=10, warmup_steps=10, kind="cosine") == 11


@given(
    st.integers(0, 500),
    st.floats(1e-6, 10),
    st.integers(0, 100),
    st.integers(0, 300),
    st.sampled_from(["constant", "cosine"]),
    st.floats(0, 1),
)
def test_rate_lies_between_zero_and_base_and_scales_with_it(
    step: int, base: float, warmup: int, rest: int, kind: Literal["constant", "cosine"], final: float
) -> None:
    rate = learning_rate(step, base=base, steps=warmup + rest, warmup_steps=warmup, kind=kind, min_lr_ratio=final)
    unit = learning_rate(step, base=1, steps=warmup + rest, warmup_steps=warmup, kind=kind, min_lr_ratio=final)

    assert 0 <= rate <= base * (1 + 1e-12)
    assert rate == pytest.approx(base * unit)


@pytest.mark.parametrize(
    ("step", "changes", "message"),
    [
        (-1, {}, "step"),
        (0, {"warmup_steps": 105}, "warmup"),
        (0, {"warmup_steps": -1}, "warmup"),
        (0, {"kind": "step"}, "unknown schedule 'step'; there are constant, cosine, multistep, plateau"),
    ],
)
def test_nonsense_is_refused(step: int, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        learning_rate(step, **{**CONSTANT, **changes})
