"""Truths about the whole of AVCL, mostly with encoders that a reader can compute: means of the pixels."""

from collections.abc import Iterator, Sequence
from dataclasses import FrozenInstanceError
from typing import Any, Literal
from unittest import mock

import pytest
import torch
from jsonargparse import auto_cli
from torch import Tensor, nn

from kinetics_sounds.train.distributed import gather as distributed_gather
from kinetics_sounds.train.interface import Method, Output
from kinetics_sounds.train.losses.cgra import cgra_loss
from kinetics_sounds.train.losses.selfcl import selfcl_loss
from kinetics_sounds.train.methods import avcl
from kinetics_sounds.train.models.backbones import r3d
from kinetics_sounds.train.models.heads import AmfmSettings

from ..batches import MOMENT, as_batch

SMALL = {"cgra_layer": "conv5+pool", "amfm_stage": "off"}


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Small tensors gain nothing from threads, and threads that wait for a busy core take minutes."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


class Pixels(nn.Module):
    """The pixels themselves times a weight: a backbone of width `dim`."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim
        self.weight = nn.Parameter(torch.ones(dim))

    def forward(self, video: Tensor) -> Tensor:
        return video.flatten(1) * self.weight


class Layered(Pixels):
    """Pixels that tell their first quarter as conv3 and their first half as conv4."""

    layers = ("conv3", "conv4", "conv5")

    def maps(self, video: Tensor, layers: Sequence[str]) -> dict[str, Tensor]:
        pixels = self(video)
        found = {"conv3": pixels[:, : self.dim // 4], "conv4": pixels[:, : self.dim // 2], "conv5": pixels}
        return {name: found[name] for name in layers}

    def pool(self, maps: Tensor) -> Tensor:
        return maps


def batch(samples: int = 4, frames: int = 2, size: int = 2) -> dict[str, Tensor]:
    rng = torch.Generator().manual_seed(0)
    video, audio = torch.rand(2, samples, 3, frames, size, size, generator=rng)
    return {"video": video, "audio": audio}


def said(method: avcl.Avcl, arrays: dict[str, Tensor]) -> Output:
    output: Output = method(as_batch(arrays), MOMENT)
    return output


def model(settings: avcl.Settings, dim: int = 24) -> avcl.Avcl:
    torch.manual_seed(0)
    return avcl.build(settings, video=Pixels(dim), audio=Pixels(dim))


def test_the_paper_model_has_29_511_040_parameters() -> None:
    with torch.device("meta"):
        video, audio = r3d.build(r3d.Settings()), r3d.build(r3d.Settings())
        method: Method = avcl.build(avcl.Settings(), video=video, audio=audio)

    assert isinstance(method, nn.Module)
    assert sum(parameter.numel() for parameter in method.parameters()) == 29_511_040


def test_the_defaults_are_the_papers_and_cannot_be_changed_in_place() -> None:
    settings = avcl.Settings()

    assert (settings.lambda_cor, settings.lambda_self, settings.temperature) == (0.9, 0.1, 0.5)
    assert (settings.off_diagonal_weight, settings.amfm_stage) == (0.005, "pretrain")
    assert settings.amfm == AmfmSettings(gate="relu", shared_excitation=True, mid_activation="none")
    with pytest.raises(FrozenInstanceError):
        settings.temperature = 1


def test_a_command_line_reaches_the_gate() -> None:
    settings = auto_cli(avcl.Settings, args=["--temperature=0.1", "--amfm.gate=sigmoid"])

    assert settings == avcl.Settings(temperature=0.1, amfm=AmfmSettings(gate="sigmoid"))


@pytest.mark.parametrize("reduction", ["sum", "mean"])
@pytest.mark.parametrize("center", [True, False])
def test_loss_is_nine_tenths_cgra_and_one_tenth_selfcl_of_the_gated_features(
    reduction: Literal["sum", "mean"], center: bool
) -> None:
    method = model(avcl.Settings(reduction=reduction, center=center))
    data = batch()
    assert method.amfm is not None
    gated = method.amfm(data["video"].flatten(1), data["audio"].flatten(1))
    cgra = cgra_loss(*gated, center=center)
    selfcl = selfcl_loss(*gated, temperature=0.5, reduction=reduction)

    step = said(method, data)

    torch.testing.assert_close(step.loss, 0.9 * cgra + 0.1 * selfcl)
    torch.testing.assert_close(step.logs["cgra"], cgra.detach())
    torch.testing.assert_close(step.logs["selfcl"], selfcl.detach())
    assert step.logs["loss"] == step.loss


@pytest.mark.parametrize("stage", ["finetune", "off"])
def test_outside_pretraining_the_gate_does_not_exist_and_the_losses_see_bare_features(
    stage: Literal["finetune", "off"],
) -> None:
    method = model(avcl.Settings(amfm_stage=stage))
    data = batch()

    step = said(method, data)

    assert {name for name, _ in method.named_parameters()} == {"video.weight", "audio.weight"}
    torch.testing.assert_close(step.logs["cgra"], cgra_loss(data["video"].flatten(1), data["audio"].flatten(1)))


class TestCgraLayer:
    """Table II. Twenty-four channels behind the gate and at conv5, twelve at conv4, six at conv3."""

    @staticmethod
    def staged(layer: Any, **more: Any) -> avcl.Avcl:
        torch.manual_seed(0)
        return avcl.build(avcl.Settings(cgra_layer=layer, **more), video=Layered(24), audio=Layered(24))

    @pytest.mark.parametrize(("layer", "width"), [("conv3", 6), ("conv4", 12), ("conv5", 24)])
    def test_a_stage_is_correlated_before_the_gate_and_contrasted_behind_it(self, layer: str, width: int) -> None:
        method, data = self.staged(layer), batch()
        bare = data["video"].flatten(1), data["audio"].flatten(1)
        assert method.amfm is not None
        cgra = cgra_loss(bare[0][:, :width], bare[1][:, :width])
        selfcl = selfcl_loss(*method.amfm(*bare), temperature=0.5)

        step = said(method, data)

        torch.testing.assert_close(step.logs["cgra"], cgra)
        torch.testing.assert_close(step.loss, 0.9 * cgra + 0.1 * selfcl)

    def test_both_terms_are_added(self) -> None:
        data = batch()

        both, conv5, pool = (said(self.staged(layer), data).logs["cgra"] for layer in ("conv5+pool", "conv5", "pool"))

        assert conv5 != pool
        assert both == conv5 + pool

    def test_without_a_gate_conv5_is_the_final_feature(self) -> None:
        """GAP(conv5) differs from it only by the gate."""
        conv5, pool = (said(self.staged(layer, amfm_stage="off"), batch()).loss for layer in ("conv5", "pool"))

        assert conv5 == pool

    def test_off_is_the_same_as_no_weight(self) -> None:
        off, weightless = self.staged("off"), self.staged("pool", lambda_cor=0.0)

        steps = said(off, batch()), said(weightless, batch())
        gradients = [
            torch.autograd.grad(step.loss, list(method.parameters()))
            for step, method in zip(steps, (off, weightless), strict=True)
        ]

        assert steps[0].loss == steps[1].loss == 0.1 * steps[0].logs["selfcl"]
        assert all(torch.equal(one, other) for one, other in zip(*gradients, strict=True))

    def test_a_correlated_stage_asks_nothing_of_those_behind_it(self) -> None:
        video, audio = r3d.build(r3d.Settings(width=2)), r3d.build(r3d.Settings(width=2))
        settings = avcl.Settings(cgra_layer="conv3", lambda_cor=1.0, lambda_self=0.0)
        method = avcl.build(settings, video=video, audio=audio)

        said(method, batch(frames=4, size=16)).loss.backward()

        moved = [name for name, each in method.named_parameters() if each.grad is not None and each.grad.any()]
        learnt = {name.split(".")[1] for name in moved}
        assert learnt == {"conv1", "conv2", "conv3"}

    @pytest.mark.parametrize("layer", ["conv3", "conv4"])
    def test_an_encoder_that_tells_no_maps_is_refused(self, layer: Literal["conv3", "conv4"]) -> None:
        with pytest.raises(ValueError, match=f"Pixels provides no maps of its layers: cgra_layer {layer} needs them"):
            model(avcl.Settings(cgra_layer=layer))

    def test_nothing_at_all_is_refused(self) -> None:
        with pytest.raises(ValueError, match="there is no loss"):
            model(avcl.Settings(cgra_layer="off", lambda_self=0))

    @pytest.mark.parametrize(("layer", "columns"), [("pool", 48), ("conv5+pool", 48), ("conv3", 60)])
    def test_features_cross_the_ranks_once_side_by_side(
        self, layer: str, columns: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        gather = mock.Mock(side_effect=lambda local_BD: local_BD)
        monkeypatch.setattr(distributed_gather, "gather", gather)

        said(self.staged(layer), batch())

        assert [call.args[0].shape for call in gather.call_args_list] == [(4, columns)]


def test_settings_reach_both_losses() -> None:
    settings = avcl.Settings(amfm_stage="off", temperature=0.07, off_diagonal_weight=0.5, center=False)
    data = batch()
    features = data["video"].flatten(1), data["audio"].flatten(1)

    logs = said(model(settings), data).logs

    torch.testing.assert_close(logs["cgra"], cgra_loss(*features, off_diagonal_weight=0.5, center=False))
    torch.testing.assert_close(logs["selfcl"], selfcl_loss(*features, temperature=0.07))


@pytest.mark.parametrize(("lambda_cor", "lambda_self", "alone"), [(1.0, 0.0, "cgra"), (0.0, 1.0, "selfcl")])
def test_a_term_without_weight_is_logged_but_not_learnt_from(lambda_cor: float, lambda_self: float, alone: str) -> None:
    method = model(avcl.Settings(lambda_cor=lambda_cor, lambda_self=lambda_self, amfm_stage="off"))
    data = batch()
    weight = nn.Parameter(torch.ones(24))
    features = data["video"].flatten(1) * weight, data["audio"].flatten(1)
    losses = {"cgra": cgra_loss(*features), "selfcl": selfcl_loss(*features, temperature=0.5)}
    (expected,) = torch.autograd.grad(losses[alone], weight)

    step = said(method, data)
    (gradient,) = torch.autograd.grad(step.loss, [method.get_parameter("video.weight")])

    assert step.loss == step.logs[alone]
    assert all(step.logs[name] == losses[name] for name in losses)
    torch.testing.assert_close(gradient, expected)


def test_logs_are_detached_scalars() -> None:
    logs = said(model(avcl.Settings()), batch()).logs

    assert set(logs) == {"loss", "cgra", "selfcl", "dead_channels"}
    assert all(value.shape == () and not value.requires_grad for value in logs.values())


def test_dead_channels_are_counted_over_both_features_that_the_losses_see() -> None:
    data = batch()
    data["video"][:, 0] = 0  # one of three colours: 8 of 24 pixels

    assert said(model(avcl.Settings(amfm_stage="off")), data).logs["dead_channels"] == pytest.approx(8 / 48)
    method = model(avcl.Settings())
    assert method.amfm is not None
    for parameter in method.amfm.excite.parameters():
        nn.init.constant_(parameter, -1)
    nn.init.ones_(method.amfm.get_parameter("squeeze.0.weight"))

    assert said(method, data).logs["dead_channels"] == 1


def test_the_death_of_the_literal_gate_has_known_values() -> None:
    """Where the paper's gate ended after 90 steps on a synthetic world: both losses at their collapsed constants."""
    method = model(avcl.Settings(), dim=512)
    assert method.amfm is not None
    for parameter in method.amfm.parameters():
        nn.init.constant_(parameter, -1e-3)
    nn.init.constant_(method.amfm.get_parameter("excite.0.0.bias"), -10)
    dead = torch.rand(2, 16, 512, 1, 1, 1, generator=torch.Generator().manual_seed(0))

    step = said(method, {"video": dead[0], "audio": dead[1]})
    step.loss.backward()

    assert step.logs["dead_channels"] == 1
    assert step.logs["cgra"] == 512
    assert step.logs["selfcl"].item() == pytest.approx(109.887591, abs=1e-4)
    assert all(parameter.grad is None or not parameter.grad.any() for parameter in method.parameters())  # for ever


@pytest.mark.parametrize(
    ("stage", "gate", "share"), [("off", "relu", 0.3), ("pretrain", "sigmoid", 0.3), ("pretrain", "relu", 0.9)]
)
def test_thirty_steps_overfit_four_samples(
    stage: Literal["pretrain", "off"], gate: Literal["relu", "sigmoid"], share: float
) -> None:
    """The loss ends below `share` of where it began: about a tenth, but half with the literal gate, which half dies."""
    torch.manual_seed(0)
    video, audio = r3d.build(r3d.Settings(width=4)), r3d.build(r3d.Settings(width=4))
    method = avcl.build(avcl.Settings(amfm_stage=stage, amfm=AmfmSettings(gate=gate)), video=video, audio=audio)
    optimizer = torch.optim.SGD(method.parameters(), lr=1e-3, momentum=0.9)
    data = batch(frames=4, size=16)

    losses = []
    for _ in range(30):
        step = said(method, data)
        optimizer.zero_grad()
        step.loss.backward()
        optimizer.step()
        losses.append(step.loss.item())

    assert losses[-1] < share * losses[0]


def test_encoders_of_different_width_are_refused() -> None:
    with pytest.raises(ValueError, match="video has 24, audio 12"):
        avcl.build(avcl.Settings(), video=Pixels(24), audio=Pixels(12))


def test_two_losses_without_weight_are_refused() -> None:
    with pytest.raises(ValueError, match="there is no loss"):
        model(avcl.Settings(lambda_cor=0, lambda_self=0))


def test_a_single_sample_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 2 samples"):
        said(model(avcl.Settings()), batch(samples=1))
