"""BYOL: its loss against SimSiam's, its slow copies, its modes and its heads."""

from typing import Any

import pytest
import torch

from kinetics_sounds.train.interface import Moment
from kinetics_sounds.train.methods import byol, simsiam

from .flat import DATA, NOW, Flat, batch, parameters, without_heads

SMALL = {"mode": "joint", "dim": 8, "hidden": 8, "momentum": 0.9}
TINY = {"mode": "intra"}


def method(**settings: Any) -> byol.Byol:
    torch.manual_seed(0)
    return byol.build(byol.Settings(**{"dim": 4, "hidden": 5, **settings}), video=Flat(), audio=Flat(), data=DATA)


@pytest.mark.parametrize("mode", ["cross", "intra"])
def test_it_is_4_and_4_times_simsiam_s_a_pair_while_copies_are_equal(mode: Any) -> None:
    """For the same predictions and embeddings; with two pairs 4 stands there twice."""
    given = batch(views=2)
    made = without_heads(method(mode=mode))
    other = simsiam.build(simsiam.Settings(mode=mode), video=made.video, audio=made.audio, data=DATA)

    pairs = {"cross": 1, "intra": 2}[mode]
    torch.testing.assert_close(made(given, NOW).loss, 4 * pairs + 4 * without_heads(other)(given, NOW).loss)


def test_copies_get_no_gradient_and_all_else_does() -> None:
    made = method()
    made(batch(), NOW).loss.backward()

    learning = {name for name, each in made.named_parameters() if each.grad is not None}
    assert learning == {name for name, _ in made.named_parameters() if not name.startswith("target_")}


def test_the_copies_keep_ever_more_of_themselves() -> None:
    """From 0.99 over 0.995 at half of the run to 1 at its end."""
    found = [byol.momentum_at(step, steps=100, base=0.99) for step in (0, 50, 100)]

    assert found == pytest.approx([0.99, 0.995, 1])


def test_after_an_update_the_copies_follow() -> None:
    """Half-way through a run a copy that begins with keeping half keeps three quarters."""
    made = method(momentum=0.5)
    with torch.no_grad():
        made.video.layer.weight += 1
        made.heads["audio"][0].weight += 1
    made.after_update({}, Moment(seed=0, step=5, epoch=0))

    for own, copy in (
        (made.video.layer, made.target_encoders["video"].layer),
        (made.heads["audio"][0], made.target_heads["audio"][0]),
    ):
        torch.testing.assert_close(own.weight - copy.weight, torch.full_like(own.weight, 0.75))


def test_a_forward_pass_moves_no_copy() -> None:
    made = method()
    before = {name: value.clone() for name, value in made.target_encoders.state_dict().items()}
    made(batch(), NOW)

    assert all(torch.equal(before[name], value) for name, value in made.target_encoders.state_dict().items())


def test_weights_that_are_taken_over_are_the_copies_beginning_too() -> None:
    made = method()
    with torch.no_grad():
        for parameter in (*made.video.parameters(), *made.heads.parameters()):
            parameter.normal_()
    made.adopt({}, {})

    assert torch.equal(made.video.layer.weight, made.target_encoders["video"].layer.weight)
    assert torch.equal(made.heads["video"][0].weight, made.target_heads["video"][0].weight)


def test_copies_count_as_encoders() -> None:
    made = method()

    assert made.encoders() == [made.video, made.audio, *made.target_encoders.values()]


def test_heads_have_the_sizes_of_the_code() -> None:
    made = byol.build(byol.Settings(), video=Flat(512), audio=Flat(512), data=DATA)

    assert parameters(made.heads["video"]) == 3_158_016
    assert parameters(made.predictors["audio"]) == 2_109_440


def test_joint_is_the_mean_of_the_losses_of_both_modes() -> None:
    given = batch(views=2)
    losses = {mode: method(mode=mode)(given, NOW).loss.item() for mode in ("intra", "joint")}
    assert given.audio is not None
    cross = method(mode="cross")(given._replace(audio=given.audio[:, 1:]), NOW).loss.item()

    assert losses["joint"] == pytest.approx((cross + losses["intra"]) / 2, rel=1e-5)


@pytest.mark.parametrize("wrong", [{"dim": 0}, {"hidden": 0}, {"momentum": 1.5}])
def test_settings_that_mean_nothing_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="byol: dim and hidden must be at least 1"):
        byol.Settings(**wrong)
