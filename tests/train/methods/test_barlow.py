"""Barlow Twins: its loss against AVCL's CGRA and against batch norms, its modes and its heads."""

from typing import Any

import pytest
import torch
from torch import nn

from kinetics_sounds.train.losses.cgra import cgra_loss
from kinetics_sounds.train.methods import barlow

from .flat import DATA, NOW, Flat, batch, parameters, without_heads

SMALL = {"mode": "joint", "dim": 8}
TINY = {"mode": "cross"}


def method(**settings: Any) -> barlow.BarlowTwins:
    torch.manual_seed(0)
    return barlow.build(barlow.Settings(**{"dim": 5, **settings}), video=Flat(), audio=Flat(), data=DATA)


def test_without_heads_it_is_avcl_s_cgra_centred() -> None:
    made, given = without_heads(method(off_diagonal_weight=0.005)), batch()
    assert given.video is not None
    assert given.audio is not None

    torch.testing.assert_close(
        made(given, NOW).loss, cgra_loss(made.video(given.video[:, 0]), made.audio(given.audio[:, 0]), center=True)
    )


def test_it_is_what_the_paper_s_code_does_with_batch_norms() -> None:
    """C = BN(z)^T BN(z') / N, with norms that have no affine, and hardly an epsilon."""
    made, given = method(off_diagonal_weight=0.1).double(), batch(rows=9)
    norm = nn.BatchNorm1d(5, affine=False, eps=1e-15).double()
    inputs = {name: getattr(given, name)[:, 0].double() for name in ("video", "audio")}
    video, audio = (norm(made.heads[name](getattr(made, name)(each))) for name, each in inputs.items())
    corr = video.T @ audio / 9
    on = (1 - corr.diagonal()).square().sum()
    off = corr.square().sum() - corr.diagonal().square().sum()

    doubled = given._replace(video=inputs["video"][:, None], audio=inputs["audio"][:, None])
    torch.testing.assert_close(made(doubled, NOW).loss, on + 0.1 * off)


def test_joint_is_the_mean_of_the_losses_of_both_modes() -> None:
    given = batch(views=2)
    losses = {mode: method(mode=mode)(given, NOW).loss.item() for mode in ("intra", "joint")}
    assert given.audio is not None
    cross = method(mode="cross")(given._replace(audio=given.audio[:, 1:]), NOW).loss.item()

    assert losses["joint"] == pytest.approx((cross + losses["intra"]) / 2, rel=1e-5)


def test_the_projector_has_three_layers_of_2048() -> None:
    made = barlow.build(barlow.Settings(), video=Flat(512), audio=Flat(512), data=DATA)

    assert parameters(made.heads["video"]) == 9_445_376


@pytest.mark.parametrize("wrong", [{"dim": 0}, {"off_diagonal_weight": -1.0}])
def test_settings_that_mean_nothing_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="barlow: dim must be at least 1"):
        barlow.Settings(**wrong)
