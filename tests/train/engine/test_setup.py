"""A model made ready to learn, as the trainer and its bench both make it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from kinetics_sounds import stream
from kinetics_sounds.errors import SettingsError
from kinetics_sounds.train import pretrain
from kinetics_sounds.train.config import run_folder, settings
from kinetics_sounds.train.distributed.process_group import World
from kinetics_sounds.train.distributed.sync_batch_norm import SyncBatchNorm
from kinetics_sounds.train.engine.setup import TrainComponents, make_components, uses_sync_batchnorm

Argv = Callable[..., list[str]]
CPU = torch.device("cpu")


@pytest.fixture
def made(small: Argv, tmp_path: Path) -> Callable[..., TrainComponents]:
    """A small run's components, of one rank among `ranks`."""

    def make(*options: str, ranks: int = 1) -> TrainComponents:
        parsed = settings.read_settings(small(tmp_path, *options))
        split = stream.open_split(run_folder.find_shards(parsed.settings), "train")
        data = run_folder.data_of(split, parsed.settings)
        return make_components(parsed, split, data, World(0, ranks, CPU))

    return make


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")  # torch.compile looks at it itself
@pytest.mark.parametrize("layer", ["conv3", pytest.param("conv5", marks=pytest.mark.slow_campaign)])
def test_a_compiled_run_learns_what_the_same_run_learns(
    layer: str, small: Argv, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the compiler's own interpreter, to the bit. A validation has other batches; a loss on conv3 asks for its maps."""
    compiled: list[str] = []
    compile_ = torch.compile

    def interpreted(function: Callable[..., Any], **how: Any) -> Any:
        assert how == {"dynamic": False}  # one compilation for any shape fails in Inductor
        compiled.append(function.__name__)
        return compile_(function, backend="eager", **how)

    monkeypatch.setattr(torch, "compile", interpreted)
    saved = {}
    for name, options in (("plain", ()), ("compiled", ("--compile",))):
        more = (f"--avcl.cgra_layer={layer}", "--val_split=test", "--steps=3", *options)
        assert pretrain.main(small(tmp_path / name, *more)) == 0
        saved[name] = load_file(tmp_path / name / "checkpoints" / "step-00000003" / "model.safetensors")

    assert compiled == ["maps", "maps"]  # of both encoders
    assert saved["plain"].keys() == saved["compiled"].keys()
    for name, value in saved["plain"].items():
        torch.testing.assert_close(saved["compiled"][name], value, rtol=0, atol=0, msg=name.__add__)


@pytest.mark.parametrize(
    ("options", "ranks", "synchronised"),
    [
        (("--batch=12",), 1, True),
        (("--batch=12", "--sync_bn=off"), 1, False),
        (("--batch=32",), 2, False),
        (("--batch=31",), 2, True),
        (("--batch=32", "--grad_accum_steps=2"), 2, True),
        (("--batch=64", "--sync_bn=on"), 2, True),
    ],
)
def test_batch_norms_are_synchronised_where_a_device_has_fewer_than_16_samples(
    options: tuple[str, ...], ranks: int, synchronised: bool, made: Callable[..., TrainComponents]
) -> None:
    modules = list(made(*options, ranks=ranks).bundle.method.modules())

    assert any(isinstance(each, SyncBatchNorm) for each in modules) == synchronised


@pytest.mark.parametrize(
    ("ranks", "before", "synchronised"),
    [
        (2, 32, True),  # begun by one process, which has all samples
        (2, 16, False),  # begun by two that did not exchange them
        (4, 16, True),  # which four cannot have: as if it began
        (4, 8, False),
        (1, 16, False),
        (2, None, False),  # a run of 0.1.0, which does not say
    ],
)
def test_a_run_goes_on_with_batch_norms_over_as_many_samples_where_it_can(
    ranks: int, before: int | None, synchronised: bool
) -> None:
    """Of 32 samples a step, whose norms `auto` leaves apart on two ranks and not on four."""
    auto, off = (settings.TrainSettings(batch=32, sync_bn=how) for how in ("auto", "off"))

    assert uses_sync_batchnorm(auto, ranks=ranks, before=before) == synchronised
    assert not uses_sync_batchnorm(off, ranks=ranks, before=before)


def test_one_sample_a_device_is_refused_where_a_head_has_a_batch_norm(made: Callable[..., TrainComponents]) -> None:
    byol = ("--method=byol", "--byol.hidden=8", "--byol.dim=8")
    with pytest.raises(
        SettingsError, match=r"--batch 2: leaves a device one sample at a time, .* give --sync_bn on, or a"
    ):
        made(*byol, "--batch=2", "--sync_bn=off", ranks=2)
    with pytest.raises(SettingsError, match="two; give a larger --batch"):
        made(*byol, "--batch=2", "--grad_accum_steps=2")
    made(*byol, "--batch=2", ranks=2)
    made("--batch=2", "--sync_bn=off", ranks=2)  # AVCL has no head


def test_weights_are_a_function_of_the_seed(made: Callable[..., TrainComponents]) -> None:
    one, same, other = (made(f"--seed={seed}").bundle.method.state_dict() for seed in (1, 1, 2))

    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not torch.equal(one["video.conv1.0.weight"], other["video.conv1.0.weight"])


def test_a_gpu_is_asked_for_convolutions_that_repeat(
    made: Callable[..., TrainComponents], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", False)
    made()
    assert torch.backends.cudnn.deterministic
