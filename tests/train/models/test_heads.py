"""Truths about AVCL's gate. Suffixes: B samples, D channels."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kinetics_sounds.train.losses.cgra import cgra_loss
from kinetics_sounds.train.losses.selfcl import selfcl_loss
from kinetics_sounds.train.models.heads import Amfm, AmfmSettings


def constant_gate(settings: AmfmSettings, *, bias: float, dim: int = 6) -> Amfm:
    """Make a gate that ignores its input: W_e = 0, b_e = `bias`."""
    amfm = Amfm(dim, settings)
    for linear in amfm.excite.modules():
        if isinstance(linear, nn.Linear):
            nn.init.zeros_(linear.weight)
            nn.init.constant_(linear.bias, bias)
    return amfm


def pair(samples: int = 8, dim: int = 6) -> tuple[Tensor, Tensor]:
    video_BD, audio_BD = torch.rand(2, samples, dim, generator=torch.Generator().manual_seed(0))
    return video_BD, audio_BD


@pytest.mark.parametrize(("shared", "parameters"), [(True, 787_456), (False, 1_050_112)])
def test_parameter_count(shared: bool, parameters: int) -> None:
    amfm = Amfm(512, AmfmSettings(shared_excitation=shared))

    assert sum(parameter.numel() for parameter in amfm.parameters()) == parameters


def test_is_equations_one_to_four_written_out() -> None:
    torch.manual_seed(0)
    amfm = Amfm(6, AmfmSettings())
    video_BD, audio_BD = pair()
    weight = dict(amfm.named_parameters())
    joint_BD = torch.cat([video_BD, audio_BD], 1) @ weight["squeeze.0.weight"].T + weight["squeeze.0.bias"]
    gate_BD = (joint_BD @ weight["excite.0.0.weight"].T + weight["excite.0.0.bias"]).clamp_min(0)

    gated_video_BD, gated_audio_BD = amfm(video_BD, audio_BD)

    torch.testing.assert_close(gated_video_BD, gate_BD * video_BD)
    torch.testing.assert_close(gated_audio_BD, gate_BD * audio_BD)


@pytest.mark.parametrize("shared", [True, False])
def test_a_relu_gate_of_one_changes_nothing(shared: bool) -> None:
    features = pair()

    gated = constant_gate(AmfmSettings(shared_excitation=shared), bias=1)(*features)

    assert torch.equal(gated[0], features[0])
    assert torch.equal(gated[1], features[1])


def test_a_closed_relu_gate_kills_every_channel_and_the_losses_stay_finite() -> None:
    amfm = constant_gate(AmfmSettings(), bias=-1)

    gated = amfm(*pair())
    loss = cgra_loss(*gated) + selfcl_loss(*gated, temperature=0.5)
    loss.backward()

    assert gated[0].count_nonzero() == gated[1].count_nonzero() == 0
    assert loss.isfinite()
    assert all(parameter.grad is None or parameter.grad.isfinite().all() for parameter in amfm.parameters())


def test_an_undecided_sigmoid_gate_halves_both_and_no_loss_notices() -> None:
    features = pair()

    gated = constant_gate(AmfmSettings(gate="sigmoid"), bias=0)(*features)

    assert torch.equal(gated[0], features[0] / 2)
    assert torch.equal(gated[1], features[1] / 2)
    torch.testing.assert_close(cgra_loss(*gated), cgra_loss(*features))
    torch.testing.assert_close(selfcl_loss(*gated, temperature=0.5), selfcl_loss(*features, temperature=0.5))


def test_one_excitation_gates_both_alike_and_two_do_not() -> None:
    torch.manual_seed(0)
    ones_BD = torch.ones(4, 6)

    video_gate_BD, audio_gate_BD = Amfm(6, AmfmSettings(gate="sigmoid"))(ones_BD, ones_BD)
    own_video_BD, own_audio_BD = Amfm(6, AmfmSettings(gate="sigmoid", shared_excitation=False))(ones_BD, ones_BD)

    assert torch.equal(video_gate_BD, audio_gate_BD)
    assert not torch.allclose(own_video_BD, own_audio_BD)


def test_a_relu_between_the_layers_hides_a_negative_joint_vector() -> None:
    amfm = Amfm(6, AmfmSettings(gate="sigmoid", mid_activation="relu"))
    linear = amfm.squeeze[0]
    assert isinstance(linear, nn.Linear)
    nn.init.zeros_(linear.weight)
    nn.init.constant_(linear.bias, -1)
    excite = amfm.excite[0]
    assert isinstance(excite, nn.Sequential)
    bias_D = excite[0].bias
    assert isinstance(bias_D, Tensor)

    gate_BD, _ = amfm(torch.ones(2, 6), torch.ones(2, 6))

    torch.testing.assert_close(gate_BD, bias_D.sigmoid().expand(2, 6))


def test_the_leak_an_untrained_gate_pairs_features_that_have_nothing_to_do_with_each_other() -> None:
    """Gated retrieval is no evidence of learning: 256 independent pairs, chance 1/256."""

    def recall_at_1(video: Tensor, audio: Tensor) -> float:
        best_B = (F.normalize(video) @ F.normalize(audio).T).argmax(dim=1)
        return (best_B == torch.arange(len(best_B))).float().mean().item()

    torch.manual_seed(0)
    video_BD, audio_BD = torch.rand(2, 256, 512)
    with torch.no_grad():
        gated = Amfm(512, AmfmSettings())(video_BD, audio_BD)

    assert recall_at_1(video_BD, audio_BD) < 0.02
    assert recall_at_1(*gated) > 0.8
