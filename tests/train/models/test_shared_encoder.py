"""One encoder for both modalities (Table I, "one model"): one set of weights, batch-norm running statistics per modality."""

import logging
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from kinetics_sounds.errors import SettingsError
from kinetics_sounds.stream import open_split, sample
from kinetics_sounds.train import evaluate, load, pretrain
from kinetics_sounds.train.config import settings
from kinetics_sounds.train.distributed.sync_batch_norm import convert_sync_batchnorm
from kinetics_sounds.train.engine import build, checkpoint
from kinetics_sounds.train.engine.build import ModelBundle
from kinetics_sounds.train.interface import Batch, Data
from kinetics_sounds.train.models.activation_checkpointing import checkpoint_activations
from kinetics_sounds.train.models.backbones import tied_copy

from ..batches import MOMENT, as_batch

SHARED = ("--encoders=shared", "--clip_and_mel.audio_channels=3")
CONSTANT = ("--optim.schedule=constant", "--optim.warmup_steps=0")
"""A rate that does not know how many steps there will be."""
Argv = Callable[..., list[str]]


def built(*argv: str, samples: int = 12) -> ModelBundle:
    found: ModelBundle = build.build_model(
        settings.read_settings(["--config=avcl_tiny", "--r3d.width=2", *argv]), Data(2, samples)
    )
    return found


def pair() -> Batch:
    video, audio = torch.rand(2, 4, 3, 4, 16, 16, generator=torch.Generator().manual_seed(0))
    return as_batch({"video": video, "audio": audio})


def buffers(encoder: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in encoder.named_buffers()}


def assert_same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert torch.equal(found[name], value), name


def test_both_modalities_have_the_same_weights_and_begin_as_the_videos_own() -> None:
    one, two = built(*SHARED), built(SHARED[1])

    sides = one.method.video, one.method.audio
    assert all(here is there for here, there in zip(*(each.parameters() for each in sides), strict=True))
    assert not any(here is there for here, there in zip(*(each.buffers() for each in sides), strict=True))
    assert len(list(one.method.parameters())) == len(list(sides[0].parameters()))  # an optimiser sees each weight once
    assert not {*map(id, two.method.video.parameters())} & {*map(id, two.method.audio.parameters())}
    for side in sides:
        assert_same(side.state_dict(), two.method.video.state_dict())


def test_batch_norms_keep_the_statistics_of_each_modality() -> None:
    """By hand: two batches of means 0 and 5 and momentum 0.5 leave running means of 0 and 2.5, not one mixture."""
    norm = nn.BatchNorm3d(1, momentum=0.5)
    other = tied_copy(norm)

    norm(torch.tensor([-1.0, 1.0]).view(2, 1, 1, 1, 1))
    other(torch.tensor([4.0, 6.0]).view(2, 1, 1, 1, 1))

    first, second = buffers(norm), buffers(other)
    assert (first["running_mean"].item(), second["running_mean"].item()) == (0, 2.5)
    assert (first["running_var"].item(), second["running_var"].item()) == (
        1.5,
        1.5,
    )  # half of 1, half of the unbiased 2
    assert (first["num_batches_tracked"].item(), second["num_batches_tracked"].item()) == (1, 1)
    assert other.weight is norm.weight


@pytest.mark.parametrize("backbone", ["r3d", "c3d", "r2plus1d", "avid_r2plus1d", "conv2d", "resnet18"])
@pytest.mark.parametrize("how", ["plain", "synchronised", "recomputed"])
def test_in_evaluation_each_modality_is_encoded_as_by_a_separate_encoder_of_the_same_weights(
    backbone: str, how: str
) -> None:
    """After passes in training mode over video of mean 0 and audio of mean 5.

    8 frames, for C3D takes no fewer; the recipe's sound has one, so that it cannot be trained on.
    """
    options = (SHARED[1], f"--backbone={backbone}", f"--{backbone}.width=2")
    made, two = built(*options, SHARED[0], samples=0).method, built(*options, samples=0).method
    shared, alone = ({"video": each.video.train(), "audio": each.audio.train()} for each in (made, two))
    for name, each in alone.items():
        each.load_state_dict(shared[name].state_dict())
        if how == "synchronised":
            convert_sync_batchnorm(shared[name])
        if how == "recomputed":
            checkpoint_activations(shared[name])
    rng = torch.Generator().manual_seed(1)

    def passed(mean: float) -> Tensor:
        return mean + torch.randn(3, 3, 8, 16, 16, generator=rng)

    for _ in range(3):
        for name, mean in (("video", 0.0), ("audio", 5.0)):
            batch = passed(mean)
            assert torch.equal(shared[name](batch), alone[name](batch))

    for name, mean in (("video", 0.0), ("audio", 5.0)):
        batch = passed(mean)
        assert torch.equal(shared[name].eval()(batch), alone[name].eval()(batch))
        assert_same(buffers(shared[name]), buffers(alone[name]))


def test_one_set_of_weights_learns_from_both_modalities() -> None:
    """Its gradient is the sum of what two equal encoders would get."""
    one, two = (built(*more, "--avcl.amfm_stage=pretrain").method.eval() for more in (SHARED, SHARED[1:]))
    two.load_state_dict(one.state_dict())

    for model in (one, two):
        model(pair(), MOMENT).loss.backward()

    for name, weight in one.get_submodule("video").named_parameters():
        parts = [two.get_parameter(f"{side}.{name}").grad for side in ("video", "audio")]
        assert parts[0] is not None
        assert parts[1] is not None
        torch.testing.assert_close(weight.grad, parts[0] + parts[1], rtol=1e-4, atol=1e-5)


def test_a_checkpoint_holds_both_names_and_gives_the_one_set_of_weights_and_both_of_statistics_back(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    one, other = built(*SHARED).method, built(*SHARED, "--seed=1").method
    optimizer = torch.optim.SGD(one.parameters(), lr=0.1, momentum=0.9)
    one(pair(), MOMENT).loss.backward()
    optimizer.step()
    path = checkpoint.save(tmp_path, 1, model=one, optimizer=optimizer, state={}, keep=1)
    later = torch.optim.SGD(other.parameters(), lr=0.1, momentum=0.9)

    checkpoint.load_model(path, other)
    checkpoint.load_optimizer(path, other, later)

    assert {name.split(".")[0] for name in other.state_dict()} == {"video", "audio"}
    assert_same(other.state_dict(), one.state_dict())
    assert other.get_parameter("audio.conv1.0.weight") is other.get_parameter("video.conv1.0.weight")
    assert not torch.equal(
        other.get_buffer("audio.conv1.1.running_mean"), other.get_buffer("video.conv1.1.running_mean")
    )
    assert not caplog.records
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


@pytest.fixture(scope="module")
def trained(small: Argv, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two steps; not to be changed."""
    out = tmp_path_factory.mktemp("shared") / "run"
    assert pretrain.main(small(out, *SHARED, "--steps=2")) == 0
    return out


@pytest.fixture
def old(trained: Path, tmp_path: Path) -> Path:
    """The run as 0.1.0 left it: both modalities with one set of running statistics."""
    path = tmp_path / "old" / "checkpoints" / "step-00000002"
    path.mkdir(parents=True)
    for name in ("run.json", "config.yaml"):
        (tmp_path / "old" / name).write_bytes((trained / name).read_bytes())
    for file in (trained / "checkpoints" / path.name).iterdir():
        (path / file.name).write_bytes(file.read_bytes())
    found = load_file(path / "model.safetensors")
    one = {name: found[name.replace("audio.", "video.", 1)].clone() for name in found}
    assert any(not torch.equal(one[name], found[name]) for name in found)
    save_file(one, path / "model.safetensors")
    return tmp_path / "old"


MIXED = "was trained with one set of batch-norm statistics for both modalities"


def test_a_runs_features_are_those_of_two_encoders_with_its_weights_and_statistics(trained: Path, shards: Path) -> None:
    """Loaded as a run is, and into two separate encoders from the file, name by name."""
    encoders = load(trained)
    two = built(SHARED[1], "--clip_and_mel.frames=8").method.eval()
    two.load_state_dict(load_file(trained / "checkpoints" / "step-00000002" / "model.safetensors"))

    with sample(open_split(shards, "test"), 0) as clip:
        inputs = encoders.preprocess(clip)

    assert next(encoders.audio.parameters()) is next(encoders.video.parameters())
    for side in ("video", "audio"):
        with torch.no_grad():
            assert torch.equal(getattr(encoders, side)(inputs[side]), two.get_submodule(side)(inputs[side]))


def test_fine_tuning_begins_with_weights_and_both_statistics(trained: Path, tmp_path: Path) -> None:
    """And goes on with one set of weights."""
    out = tmp_path / "tuned"
    options = [f"--run={trained}", f"--out={out}", "--workers=0", "--device=cpu", "--clips=1", "--epochs=1"]
    assert evaluate.main(["finetune", *options, "--batch=12", "--optim.lr=0.1"]) == 0

    found = load_file(out / "checkpoints" / "step-00000001" / "model.safetensors")
    before = load_file(trained / "checkpoints" / "step-00000002" / "model.safetensors")
    names = [name for name in before if name.startswith("video.")]
    weights = [name for name in names if name.endswith(("weight", "bias"))]
    assert weights
    for name in names:
        there = name.replace("video.", "audio.", 1)
        assert torch.equal(found[name], found[there]) == (name in weights or name.endswith("num_batches_tracked")), name
        assert found[name].shape == before[name].shape
    assert found["video.conv1.1.num_batches_tracked"] == before["video.conv1.1.num_batches_tracked"] + 1 == 3
    assert not torch.equal(found["video.conv1.0.weight"], before["video.conv1.0.weight"])


def test_an_old_run_opens_with_its_one_set_of_statistics_and_it_is_told(
    old: Path, trained: Path, caplog: pytest.LogCaptureFixture
) -> None:
    encoders = load(old)

    assert_same(buffers(encoders.audio), buffers(encoders.video))
    [record] = caplog.records
    assert record.getMessage() == (
        f"{old / 'checkpoints' / 'step-00000002'}: {MIXED} (kinetics-sounds 0.1.0), so evaluation uses a mixture; "
        "a few hundred more steps of ks-train separate them"
    )
    caplog.clear()
    load(trained)
    assert not caplog.records


def test_an_old_run_goes_on_and_its_statistics_come_apart(
    old: Path, small: Argv, caplog: pytest.LogCaptureFixture
) -> None:
    assert pretrain.main(small(old, *SHARED, "--steps=3")) == 0

    assert sum(MIXED in record.getMessage() for record in caplog.records) == 1
    found = load_file(old / "checkpoints" / "step-00000003" / "model.safetensors")
    assert not torch.equal(found["video.conv1.1.running_mean"], found["audio.conv1.1.running_mean"])


def test_an_old_run_is_told_of_where_another_begins_with_its_weights(
    old: Path, small: Argv, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert pretrain.main(small(tmp_path / "out", SHARED[1], f"--init_from={old}", "--steps=1")) == 0

    assert [record.levelno for record in caplog.records if MIXED in record.getMessage()] == [logging.WARNING]


def test_two_encoders_are_not_taken_for_one(small: Argv, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The weights that were read last would have won in silence."""
    two = tmp_path / "two"
    assert pretrain.main(small(two, SHARED[1], "--steps=1")) == 0

    assert pretrain.main(small(tmp_path / "one", *SHARED, f"--init_from={two}", "--steps=1")) == 2

    path = two / "checkpoints" / "step-00000001"
    assert (
        f"{path}: has an encoder for each modality (video.conv1.0.weight is not audio.conv1.0.weight), where this run has "
        "one for both; give --encoders separate, or a run of --encoders shared"
    ) in capsys.readouterr().err


def test_one_encoders_weights_may_begin_two(trained: Path, small: Argv, tmp_path: Path) -> None:
    out = tmp_path / "out"
    still = ("--optim.lr=0", "--optim.weight_decay=0", "--steps=1")
    assert pretrain.main(small(out, SHARED[1], f"--init_from={trained}", *still)) == 0

    found = load_file(out / "checkpoints" / "step-00000001" / "model.safetensors")
    before = load_file(trained / "checkpoints" / "step-00000002" / "model.safetensors")
    assert all(torch.equal(found[name], before[name]) for name in before if name.endswith("weight"))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")  # torch.compile looks at it itself
def test_compiled_it_learns_what_it_learns_without(
    small: Argv, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Weights and both sets of statistics, by the compiler's own interpreter, to the bit."""
    compile_ = torch.compile
    monkeypatch.setattr(torch, "compile", lambda function, **how: compile_(function, **{**how, "backend": "eager"}))
    saved = []
    for name, options in (("plain", ()), ("compiled", ("--compile",))):
        assert pretrain.main(small(tmp_path / name, *SHARED, "--steps=2", *options)) == 0
        saved.append(load_file(tmp_path / name / "checkpoints" / "step-00000002" / "model.safetensors"))

    assert_same(*saved)
