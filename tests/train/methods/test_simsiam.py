"""SimSiam: its loss written out, where no gradient goes, its modes and its heads."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F

from kinetics_sounds.train.methods import simsiam

from .flat import DATA, NOW, Flat, batch, parameters, without_heads

SMALL = {"mode": "joint", "dim": 8, "hidden": 4}
TINY = {"mode": "cross"}


def method(**settings: Any) -> simsiam.SimSiam:
    torch.manual_seed(0)
    return simsiam.build(simsiam.Settings(**{"dim": 8, "hidden": 3, **settings}), video=Flat(), audio=Flat(), data=DATA)


def test_each_predicts_the_other_s_embedding() -> None:
    made, given = method(), batch()
    embedded = {name: made.heads[name](getattr(made, name)(getattr(given, name)[:, 0])) for name in ("video", "audio")}
    terms = [
        -F.cosine_similarity(made.predictors[one](embedded[one]), embedded[other], dim=1).mean() / 2
        for one, other in (("video", "audio"), ("audio", "video"))
    ]

    torch.testing.assert_close(made(given, NOW).loss, torch.stack(terms).sum())


def test_no_gradient_goes_through_what_is_predicted() -> None:
    """Without heads and predictors the video encoder learns from its own term alone."""
    made, given = without_heads(method()), batch()
    features = {name: getattr(made, name)(getattr(given, name)[:, 0]) for name in ("video", "audio")}
    own = -F.cosine_similarity(features["video"], features["audio"].detach(), dim=1).mean() / 2
    (expected,) = torch.autograd.grad(own, made.video.layer.weight)
    made(given, NOW).loss.backward()

    torch.testing.assert_close(made.video.layer.weight.grad, expected)


def test_joint_is_the_mean_of_the_losses_of_both_modes() -> None:
    given = batch(views=2)
    losses = {mode: method(mode=mode)(given, NOW).loss.item() for mode in ("intra", "joint")}
    assert given.audio is not None
    cross = method(mode="cross")(given._replace(audio=given.audio[:, 1:]), NOW).loss.item()

    assert losses["joint"] == pytest.approx((cross + losses["intra"]) / 2, rel=1e-5)


def test_heads_have_the_sizes_of_the_code() -> None:
    """The projector's count includes the frozen bias of 2,048 before its last batch norm."""
    made = simsiam.build(simsiam.Settings(), video=Flat(512), audio=Flat(512), data=DATA)

    assert parameters(made.heads["video"]) == 1_576_960
    assert parameters(made.predictors["audio"]) == 2_100_224
    assert [name for name, each in made.heads["video"].named_parameters() if not each.requires_grad] == ["6.bias"]


def test_settings_that_mean_nothing_are_refused() -> None:
    with pytest.raises(ValueError, match="simsiam: dim and hidden must be at least 1"):
        simsiam.Settings(hidden=0)
