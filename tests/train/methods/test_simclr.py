"""SimCLR: its loss against AVCL's and a library's, its modes and its heads."""

import math
from typing import Any

import pytest
import torch
from pytorch_metric_learning.losses import NTXentLoss, SelfSupervisedLoss
from torch import nn

from kinetics_sounds.train.losses.selfcl import selfcl_loss
from kinetics_sounds.train.methods import simclr

from .flat import DATA, NOW, Flat, batch, parameters, without_heads

SMALL = {"mode": "joint", "dim": 8}


def method(**settings: Any) -> simclr.SimClr:
    torch.manual_seed(0)
    return simclr.build(simclr.Settings(**settings), video=Flat(), audio=Flat(), data=DATA)


def test_without_heads_it_is_avcl_s_selfcl_over_2_n() -> None:
    made, given = without_heads(method(temperature=0.5)), batch()
    assert given.video is not None
    assert given.audio is not None
    features = made.video(given.video[:, 0]), made.audio(given.audio[:, 0])

    torch.testing.assert_close(made(given, NOW).loss, selfcl_loss(*features, temperature=0.5) / 8)


def test_it_is_what_a_library_says() -> None:
    made, given = method(temperature=0.2), batch()
    assert given.video is not None
    assert given.audio is not None
    embedded = (made.heads[name](getattr(made, name)(getattr(given, name)[:, 0])) for name in ("video", "audio"))

    torch.testing.assert_close(made(given, NOW).loss, SelfSupervisedLoss(NTXentLoss(0.2))(*embedded))


def test_a_collapsed_batch_of_n_costs_log_of_2_n_minus_1() -> None:
    made = method()
    for head in made.heads.values():
        nn.init.zeros_(head[-1].weight)
        nn.init.ones_(head[-1].bias)

    assert made(batch(), NOW).loss.item() == pytest.approx(math.log(7))


def test_joint_is_the_mean_of_the_losses_of_both_modes() -> None:
    given = batch(views=2)
    losses = {mode: method(mode=mode)(given, NOW).loss.item() for mode in ("intra", "joint")}
    assert given.audio is not None
    cross = method(mode="cross")(given._replace(audio=given.audio[:, 1:]), NOW).loss.item()

    assert losses["joint"] == pytest.approx((cross + losses["intra"]) / 2)


def test_within_modalities_the_terms_of_both_are_added() -> None:
    made, given = without_heads(method(mode="intra", temperature=0.5)), batch(views=2)
    terms = []
    for name in ("video", "audio"):
        views = (getattr(made, name)(getattr(given, name)[:, view]) for view in (0, 1))
        terms.append(selfcl_loss(*views, temperature=0.5) / 8)

    torch.testing.assert_close(made(given, NOW).loss, torch.stack(terms).sum())


def test_heads_have_the_sizes_of_the_paper() -> None:
    """512 to 512 to 128: 328,320 with biases. Of the official code 512, 512, 512, 128 with batch norms and no biases, and behind
    the last layer one that has a scale and no shift."""
    wide = simclr.build(simclr.Settings(), video=Flat(512), audio=Flat(512), data=DATA)
    official = simclr.build(simclr.Settings(layers=3, batch_norm=True), video=Flat(512), audio=Flat(512), data=DATA)

    assert parameters(wide.heads["video"]) == 328_320
    assert parameters(official.heads["audio"]) == 2 * (512 * 512 + 1024) + 512 * 128 + 128
    assert official.heads["audio"][-1].bias is None


def test_with_batch_norms_each_channel_of_the_embedding_has_mean_0_and_its_scale() -> None:
    made, given = method(batch_norm=True, dim=5), batch(rows=8)
    assert given.video is not None
    with torch.no_grad():
        made.heads["video"][-1].weight.fill_(3)
    embedded = made.heads["video"](made.video(given.video[:, 0]))

    torch.testing.assert_close(embedded.mean(dim=0), torch.zeros(5), atol=1e-5, rtol=0)
    torch.testing.assert_close(embedded.std(dim=0, correction=0), torch.full((5,), 3.0), rtol=1e-2, atol=0)


@pytest.mark.parametrize("wrong", [{"dim": 0}, {"layers": 0}, {"temperature": 0.0}])
def test_settings_that_mean_nothing_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="simclr: dim must be at least 1"):
        simclr.Settings(**wrong)
