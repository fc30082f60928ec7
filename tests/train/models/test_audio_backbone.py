"""A network of its own for the audio: built, trained, gone on with, evaluated, fine-tuned and published as any other pair."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file
from torch import Tensor, nn

from kinetics_sounds.errors import SettingsError
from kinetics_sounds.train import evaluate, load, pretrain
from kinetics_sounds.train.config import run_folder, settings
from kinetics_sounds.train.engine import build
from kinetics_sounds.train.interface import Data, Method
from kinetics_sounds.train.models.backbones.avid_r2plus1d import AvidR2Plus1D
from kinetics_sounds.train.models.backbones.conv2d import Conv2D
from kinetics_sounds.train.models.backbones.r3d import R3D

MONO = ("--clip_and_mel.audio_layout=single", "--clip_and_mel.audio_channels=1")
PAPER = ("--method=avid", "--backbone=avid_r2plus1d", "--audio_backbone=conv2d", *MONO)
TWO = (
    *(*PAPER, "--avid.negatives=4", "--avid.hidden=8", "--avid.dim=8"),
    *("--avid_r2plus1d.depth=10", "--avid_r2plus1d.width=2", "--conv2d.width=2"),
)
"""Both of AVID's networks, with features of 16 channels."""
CONSTANT = ("--optim.schedule=constant", "--optim.warmup_steps=0")
"""A rate that does not know how many steps there will be."""
Argv = Callable[..., list[str]]


def method(*argv: str) -> Method:
    return build.build_model(settings.read_settings(["--config=avcl_tiny", "--r3d.width=2", *argv]), Data(2, 12)).method


def weights(run: Path, step: int) -> dict[str, Tensor]:
    return load_file(run / "checkpoints" / f"step-{step:08d}" / "model.safetensors")


def assert_same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert torch.equal(found[name], value), name


@pytest.fixture(scope="module")
def trained(small: Argv, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two steps; not to be changed."""
    out = tmp_path_factory.mktemp("two") / "run"
    assert pretrain.main(small(out, *TWO, *CONSTANT, "--steps=2")) == 0
    return out


def test_each_modality_has_its_own_network_of_the_papers_size() -> None:
    made = build.build_meta(settings.read_settings([*PAPER, "--avid_r2plus1d.depth=10"]), Data(2, 12))

    counts = [sum(each.numel() for each in side.parameters()) for side in (made.video, made.audio)]
    assert (type(made.video), type(made.audio)) == (AvidR2Plus1D, Conv2D)
    assert counts == [7_015_616, 4_725_696]


def test_without_it_and_with_the_videos_own_name_the_model_is_the_same() -> None:
    one, other = method(*MONO), method("--audio_backbone=r3d", *MONO)

    assert type(one.audio) is R3D
    assert_same(other.state_dict(), one.state_dict())
    assert one.get_parameter("audio.conv1.0.weight").shape[1] == 1  # the view's channels


def test_the_videos_weights_do_not_depend_on_the_audios_network() -> None:
    one, other = method(), method("--audio_backbone=conv2d", "--conv2d.width=2")

    assert_same(other.video.state_dict(), one.video.state_dict())


def test_one_set_of_weights_is_of_one_network() -> None:
    with pytest.raises(SettingsError) as caught:
        method("--encoders=shared", "--audio_backbone=conv2d")

    assert str(caught.value) == (
        "--encoders shared: the one encoder is a r3d, and not a conv2d for the audio; leave --audio_backbone out, or give "
        "--encoders separate"
    )
    shared = method("--encoders=shared", "--audio_backbone=r3d", "--clip_and_mel.audio_channels=3")
    assert next(shared.audio.parameters()) is next(shared.video.parameters())


def test_a_network_that_is_not_there_is_told_with_those_that_are() -> None:
    with pytest.raises(SettingsError, match=r"--audio_backbone: 'conv2' is none of .*did you mean 'conv2d'"):
        method("--audio_backbone=conv2")


def test_methods_that_join_channels_refuse_features_of_other_widths() -> None:
    with pytest.raises(SettingsError, match=r"--avcl: .*16.*32"):
        method("--audio_backbone=conv2d", "--conv2d.width=4")


def test_options_of_both_networks_are_the_runs_and_of_no_other(trained: Path) -> None:
    parsed = run_folder.reopen(trained)
    chosen = settings.chosen_settings(parsed)

    assert (chosen["audio_backbone"], chosen["conv2d.width"], chosen["avid_r2plus1d.depth"]) == ("conv2d", 2, 10)
    assert not [name for name in chosen if name.startswith(("r3d.", "resnet18."))]
    told = yaml.safe_load((trained / "config.yaml").read_text())
    assert told["audio_backbone"] == "conv2d"


def test_a_run_that_goes_on_ends_where_one_without_a_break_does(small: Argv, trained: Path, tmp_path: Path) -> None:
    for out, steps in ((tmp_path / "whole", 3), (tmp_path / "broken", 2), (tmp_path / "broken", 3)):
        assert pretrain.main(small(out, *TWO, *CONSTANT, f"--steps={steps}")) == 0

    whole, broken = (weights(tmp_path / name, 3) for name in ("whole", "broken"))
    assert_same(broken, whole)
    assert not torch.equal(whole["audio.conv1.0.weight"], weights(trained, 2)["audio.conv1.0.weight"])


@pytest.mark.parametrize(
    ("first", "then", "told"),
    [
        (("--audio_backbone=conv2d", "--conv2d.width=2"), (), "was trained with audio_backbone conv2d, not None"),
        ((), ("--audio_backbone=conv2d", "--conv2d.width=2"), "was trained with audio_backbone None, not conv2d"),
        (
            ("--audio_backbone=conv2d", "--conv2d.width=2", "--conv2d.pool=mean"),
            ("--audio_backbone=conv2d", "--conv2d.width=2"),
            "was trained with conv2d.pool mean, not max",
        ),
    ],
)
def test_a_run_does_not_go_on_with_another_network_for_the_audio(
    first: tuple[str, ...],
    then: tuple[str, ...],
    told: str,
    small: Argv,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert pretrain.main(small(tmp_path, *first, "--steps=1")) == 0

    assert pretrain.main(small(tmp_path, *then, "--steps=2")) == 2

    assert told in capsys.readouterr().err


def test_a_run_goes_on_whether_or_not_the_videos_network_is_named(small: Argv, tmp_path: Path) -> None:
    for steps, more in ((1, ()), (2, ("--audio_backbone=r3d",)), (3, ())):
        assert pretrain.main(small(tmp_path, *CONSTANT, f"--steps={steps}", *more)) == 0


def test_its_features_are_judged_by_probes_of_one_and_of_both_modalities(trained: Path, tmp_path: Path) -> None:
    argv = [f"--run={trained}", f"--out={tmp_path}", "--workers=0", "--device=cpu", "--clips=2"]
    assert evaluate.main(["linear", "crossmodal", "retrieval", "--retrieval.features=conv5", *argv]) == 0

    scores = {each.parent.name: json.loads(each.read_text())["scores"] for each in tmp_path.glob("*/results.json")}
    assert set(scores) == {"linear", "crossmodal", "retrieval"}
    assert scores["linear"]["top1_chance"] == 50
    assert scores["crossmodal"]["r1_chance"] == pytest.approx(100 / 6)
    encoders = load(trained)
    assert (type(encoders.video), type(encoders.audio)) == (AvidR2Plus1D, Conv2D)
    assert_same(encoders.audio.state_dict(), _of_audio(weights(trained, 2)))


def _of_audio(found: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix("audio."): value for name, value in found.items() if name.startswith("audio.")}


def test_features_of_other_widths_are_learnt_and_judged_where_they_are_not_compared(
    small: Argv, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    assert pretrain.main(small(run, *TWO, "--conv2d.width=4", "--steps=1")) == 0
    argv = [f"--run={run}", f"--out={tmp_path / 'results'}", "--workers=0", "--device=cpu", "--clips=1"]

    assert evaluate.main(["linear", "knn", *argv]) == 0
    capsys.readouterr()
    assert evaluate.main(["crossmodal", *argv]) == 2
    assert "cosines need equal widths: video 16, audio 32" in capsys.readouterr().err


def test_its_maps_are_drawn(trained: Path, tmp_path: Path) -> None:
    pytest.importorskip("captum")

    assert evaluate.main(["cam", f"--run={trained}", f"--out={tmp_path}", "--device=cpu", "--samples=1"]) == 0

    (drawn,) = json.loads((tmp_path / "results.json").read_text())["clips"]
    assert (tmp_path / drawn["file"]).is_file()


def test_it_is_fine_tuned_from_its_weights(trained: Path, tmp_path: Path) -> None:
    """At a rate of nothing they stay."""
    argv = [f"--run={trained}", f"--out={tmp_path}", "--workers=0", "--device=cpu", "--clips=1", "--epochs=1"]
    still = ("--batch=12", "--optim.lr=0", "--optim.weight_decay=0")
    assert evaluate.main(["finetune", *argv, *still]) == 0

    found, before = weights(tmp_path, 1), weights(trained, 2)
    learnt = [name for name in before if name.startswith(("video.", "audio.")) and name.endswith("weight")]
    assert {name.partition(".")[0] for name in learnt} == {"video", "audio"}
    assert all(torch.equal(found[name], before[name]) for name in learnt)
    assert json.loads((tmp_path / "results.json").read_text())["scores"]["top5"] == 100  # of two classes


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")  # torch.compile looks at it itself
@pytest.mark.parametrize("how", ["--compile", "--activation_checkpointing", "--channels_last=false"])
def test_compiled_or_computed_again_it_learns_the_same(
    how: str, small: Argv, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the compiler's own interpreter; to the bit, where memory is laid out the same."""
    compiled: list[nn.Module] = []
    compile_ = torch.compile

    def interpreted(function: Any, **more: Any) -> Any:
        compiled.append(function.__self__)
        return compile_(function, **{**more, "backend": "eager"})

    monkeypatch.setattr(torch, "compile", interpreted)
    assert pretrain.main(small(tmp_path, *TWO, *CONSTANT, "--steps=2", how)) == 0

    assert [type(each) for each in compiled] == ([AvidR2Plus1D, Conv2D] if how == "--compile" else [])
    found, expected = weights(tmp_path, 2), weights(trained, 2)
    if how != "--channels_last=false":
        assert_same(found, expected)
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-3, atol=1e-4, msg=name.__add__)
