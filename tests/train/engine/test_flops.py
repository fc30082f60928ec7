"""Operations of a step counted from shapes, and what share of a device's peak they are."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from kinetics_sounds.errors import RunError
from kinetics_sounds.train import pretrain
from kinetics_sounds.train.config.settings import read_settings
from kinetics_sounds.train.distributed import collectives, devices
from kinetics_sounds.train.engine import build, flops
from kinetics_sounds.train.engine.build import ModelBundle
from kinetics_sounds.train.interface import Data, Output

Argv = Callable[..., list[str]]
DATA = Data(classes=3, samples=64, steps=10, steps_per_epoch=10, batch=4)


def built(small: Argv, *options: str) -> ModelBundle:
    return build.build_model(read_settings(small(Path("none"), *options)), DATA)


@contextmanager
def multiplications(model: nn.Module) -> Iterator[dict[nn.Module, int]]:
    """Of each convolution and linear layer that is asked, by its definition."""
    found: dict[nn.Module, int] = {}

    def count(layer: nn.Module, given: tuple[torch.Tensor], made: torch.Tensor) -> None:
        weight = layer.get_parameter("weight")
        found[layer] = found.get(layer, 0) + made.numel() * weight[0].numel()

    layers = [each for each in model.modules() if isinstance(each, nn.Conv3d | nn.Linear)]
    hooks = [each.register_forward_hook(count) for each in layers]
    yield found
    for hook in hooks:
        hook.remove()


def test_a_method_that_returns_no_output_is_named(small: Argv, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = built(small)
    monkeypatch.setattr(bundle.method, "forward", lambda batch, moment: torch.zeros(()))

    with pytest.raises(RunError, match=r"^Avcl.forward: must return Output\(loss, logs\) of interface.py, not Tensor$"):
        flops.step_flops(bundle, DATA, rows=4)


def test_a_pass_forwards_and_back_is_three_of_every_layer_but_the_first(small: Argv) -> None:
    """Two operations a multiplication: forwards, to the weights, and to the inputs, which the clip has no need of."""
    model = built(small, "--method=supervised", "--supervised.modalities=video")
    shape = model.view.inputs(model.view_settings).video
    with multiplications(model.method) as found:
        model.method.logits(model.method.video(torch.zeros(4, *shape)), None)
    first = next(each for each in model.method.video.modules() if isinstance(each, nn.Conv3d))

    assert flops.step_flops(model, DATA, rows=4) == 6 * sum(found.values()) - 2 * found[first]


def test_a_momentum_encoder_is_one_pass_more(small: Argv) -> None:
    model = built(small, "--method=moco", "--moco.queue=8")
    inputs = model.view.inputs(model.view_settings)
    with multiplications(model.method) as found:
        for side, shape in (("video", inputs.video), ("audio", inputs.audio)):
            getattr(model.method, side)(torch.zeros(4, *shape))
    firsts = [
        next(each for each in getattr(model.method, side).modules() if isinstance(each, nn.Conv3d))
        for side in ("video", "audio")
    ]
    encoders = 6 * sum(found.values()) - 2 * sum(found[first] for first in firsts)
    slow = 2 * sum(found.values())

    assert 1 <= flops.step_flops(model, DATA, rows=4) / (encoders + slow) < 1.02  # heads and the queue are the rest


def test_counting_changes_nothing_and_asks_no_other_rank(small: Argv, monkeypatch: pytest.MonkeyPatch) -> None:
    model = built(small, "--method=avid", "--avid.negatives=8")
    before = {name: value.clone() for name, value in model.method.state_dict().items()}
    monkeypatch.setattr(collectives.dist, "is_initialized", lambda: True)
    monkeypatch.setattr(collectives.dist, "get_world_size", lambda: pytest.fail("another rank is asked"))
    drawn = torch.get_rng_state()

    assert flops.step_flops(model, DATA, rows=4) > 0
    assert torch.equal(torch.get_rng_state(), drawn)
    assert all(torch.equal(value, before[name]) for name, value in model.method.state_dict().items())
    assert all(each.grad is None for each in model.method.parameters())


@pytest.mark.parametrize(
    "more", [(), pytest.param(("--devices=2",), marks=pytest.mark.slow_campaign), ("--grad_accum_steps=2",)]
)
def test_mfu_stands_beside_the_speed_and_what_is_learnt_is_the_same(
    more: tuple[str, ...], small: Argv, tmp_path: Path
) -> None:
    saved = {}
    for name, options in (("told", ("--peak_tflops=0.5",)), ("not", ())):
        assert pretrain.main(small(tmp_path / name, "--steps=2", "--device=cpu", *options, *more)) == 0
        saved[name] = load_file(tmp_path / name / "checkpoints" / "step-00000002" / "model.safetensors")
    lines = {
        name: [json.loads(line) for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()]
        for name in saved
    }
    assert all(torch.equal(value, saved["not"][name]) for name, value in saved["told"].items())
    assert "mfu" not in lines["not"][0]
    parsed = read_settings(small(Path("none")))
    rows = parsed.settings.batch // (2 if "--grad_accum_steps=2" in more else 1)
    each = flops.step_flops(built(small), DATA, rows=rows) / rows
    peak = 0.5e12 * (2 if "--devices=2" in more else 1)
    for line in lines["told"]:
        assert line["mfu"] == pytest.approx(line["samples_per_second"] * each / peak)


def test_a_method_that_must_see_numbers_has_no_mfu_and_learns_all_the_same(
    small: Argv, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from kinetics_sounds.train.methods.avcl import Avcl

    forward = Avcl.forward

    def looks(self: Avcl, *given: object) -> Output:
        output = forward(self, *given)
        output.loss.item()
        return output

    monkeypatch.setattr(Avcl, "forward", looks)
    assert pretrain.main(small(tmp_path, "--steps=1", "--peak_tflops=1")) == 0
    assert "mfu: not logged, because FLOPs cannot be counted from shapes alone" in caplog.text
    assert "mfu" not in (tmp_path / "metrics.jsonl").read_text()


@pytest.mark.parametrize(
    ("name", "precision", "peak"),
    [
        ("NVIDIA H200", "bf16", 989.4),
        ("NVIDIA H100 80GB HBM3", "float32", 494.7),
        ("NVIDIA H100 PCIe", "bf16", 756.0),
        ("NVIDIA A100-SXM4-80GB", "fp16", 312.0),
        ("NVIDIA A10G", "bf16", None),
        ("NVIDIA L40S", "bf16", 362.0),
        ("Tesla T4", "fp16", 65.0),
        ("Tesla T4", "bf16", None),
        ("Tesla V100-SXM2-16GB", "bf16", None),
        ("Tesla V100-SXM2-16GB", "float32", 15.7),
        ("NVIDIA H100 NVL", "bf16", 835.5),
        ("NVIDIA H100 NVL", "float32", 417.5),
        ("NVIDIA H200 NVL", "bf16", 835.5),
        ("NVIDIA A100-SXM4-40GB MIG 3g.20gb", "bf16", None),
        ("NVIDIA H100 80GB HBM3 MIG 1g.10gb", "bf16", None),
        ("NVIDIA GeForce RTX 4090", "bf16", None),
    ],
)
def test_a_gpu_is_known_by_the_words_of_its_name(name: str, precision: str, peak: float | None) -> None:
    assert devices.peak_tflops(name, precision) == peak
