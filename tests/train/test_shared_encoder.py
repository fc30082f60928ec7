"""One encoder for both modalities (Table I, "one model"): a single set of weights, learnt from both, kept and found again."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from kinetics_sounds.errors import SettingsError
from kinetics_sounds.train import checkpoint, pretrain, run
from kinetics_sounds.train.methods import Data
from kinetics_sounds.train.run import Built

SHARED = ("--encoders=shared", "--clip_and_mel.audio_channels=3")
CONSTANT = ("--optim.schedule=constant", "--optim.warmup_steps=0")
"""A rate that does not know how many steps there will be."""
Argv = Callable[..., list[str]]


def built(*argv: str) -> Built:
    found: Built = run.build(run.read(["--config=avcl_tiny", "--r3d.width=2", *argv]), Data(2, 12))
    return found


def pair() -> dict[str, Tensor]:
    video, audio = torch.rand(2, 4, 3, 4, 16, 16, generator=torch.Generator().manual_seed(0))
    return {"video": video, "audio": audio}


def test_both_modalities_have_the_same_encoder_and_begin_as_the_videos_own() -> None:
    one, two = built(*SHARED), built(SHARED[1])

    assert one.method.video is one.method.audio
    assert two.method.video is not two.method.audio
    alone, shared = (each.method.video.state_dict() for each in (two, one))
    assert all(torch.equal(alone[name], shared[name]) for name in alone)


def test_one_set_of_weights_learns_from_both_modalities() -> None:
    """Its gradient is the sum of what two equal encoders would get."""
    one, two = (built(*more, "--avcl.amfm_stage=pretrain").model.eval() for more in (SHARED, SHARED[1:]))
    two.load_state_dict(one.state_dict())

    for model in (one, two):
        model(pair()).loss.backward()

    for name, weight in one.get_submodule("video").named_parameters():
        parts = [two.get_parameter(f"{side}.{name}").grad for side in ("video", "audio")]
        assert parts[0] is not None
        assert parts[1] is not None
        torch.testing.assert_close(weight.grad, parts[0] + parts[1], rtol=1e-4, atol=1e-5)


def test_a_checkpoint_holds_both_names_and_gives_one_encoder_back(tmp_path: Path) -> None:
    one, other = built(*SHARED).model, built(*SHARED, "--seed=1").model
    optimizer = torch.optim.SGD(one.parameters(), lr=0.1, momentum=0.9)
    one(pair()).loss.backward()
    optimizer.step()
    path = checkpoint.save(tmp_path, 1, model=one, optimizer=optimizer, state={}, keep=1)
    later = torch.optim.SGD(other.parameters(), lr=0.1, momentum=0.9)

    checkpoint.load_model(path, other)
    checkpoint.load_optimizer(path, other, later)

    assert other.video is other.audio
    assert {name.split(".")[0] for name in other.state_dict()} == {"video", "audio"}
    assert all(torch.equal(value, one.state_dict()[name]) for name, value in other.state_dict().items())
    for now, then in zip(other.parameters(), one.parameters(), strict=True):
        assert torch.equal(later.state[now]["momentum_buffer"], optimizer.state[then]["momentum_buffer"])


def test_a_run_that_goes_on_ends_where_one_without_a_break_does(small: Argv, tmp_path: Path) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"

    for out, steps in ((whole, 4), (broken, 2), (broken, 4)):
        assert pretrain.main(small(out, *SHARED, *CONSTANT, f"--steps={steps}")) == 0

    ends = [(out / "checkpoints" / "step-00000004" / "model.safetensors").read_bytes() for out in (whole, broken)]
    assert ends[0] == ends[1]


def test_a_run_does_not_go_on_with_another_number_of_encoders(
    small: Argv, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert pretrain.main(small(tmp_path, *SHARED, "--steps=1")) == 0

    assert pretrain.main(small(tmp_path, SHARED[1], "--steps=2")) == 2

    assert "was trained with encoders shared, not separate" in capsys.readouterr().err


def test_sides_of_different_channels_cannot_share_an_encoder() -> None:
    with pytest.raises(SettingsError) as caught:
        built("--encoders=shared", "--clip_and_mel.audio_channels=1")

    assert str(caught.value) == (
        "--encoders shared: the one encoder takes 3 channels, and the audio has 1; give --clip_and_mel.audio_channels 3"
    )
