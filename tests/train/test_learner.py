"""A model made ready to learn, as the trainer and its bench both make it."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from kinetics_sounds import stream
from kinetics_sounds.train import run
from kinetics_sounds.train.distributed import SyncBatchNorm, World
from kinetics_sounds.train.learner import Learner, make_learner

Argv = Callable[..., list[str]]
CPU = torch.device("cpu")


@pytest.fixture
def made(small: Argv, tmp_path: Path) -> Callable[..., Learner]:
    """A small run's learner, of one rank among `ranks`."""

    def make(*options: str, ranks: int = 1) -> Learner:
        parsed = run.read(small(tmp_path, *options))
        split = stream.open_split(run.find_shards(parsed.settings), "train")
        return make_learner(parsed, split, World(0, ranks, CPU))

    return make


def test_what_is_compiled_is_every_stage(made: Callable[..., Learner], monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a loss on conv3, which asks for the stages rather than calls the encoder, is computed by compiled code too."""
    compiled: list[nn.Module] = []
    monkeypatch.setattr(nn.Module, "compile", lambda module: compiled.append(module))

    method = made("--compile", "--avcl.cgra_layer", "conv3").built.method

    stages = [stage for encoder in (method.video, method.audio) for stage in encoder.children()]
    assert len(stages) == 10
    assert {*map(id, compiled)} == {*map(id, stages)}


@pytest.mark.parametrize(
    ("options", "ranks", "synchronised"),
    [
        (("--batch=12",), 1, True),
        (("--batch=12", "--sync_bn=off"), 1, False),
        (("--batch=32",), 2, False),
        (("--batch=31",), 2, True),
        (("--batch=32", "--accumulate=2"), 2, True),
        (("--batch=64", "--sync_bn=on"), 2, True),
    ],
)
def test_batch_norms_are_synchronised_where_a_device_has_fewer_than_16_samples(
    options: tuple[str, ...], ranks: int, synchronised: bool, made: Callable[..., Learner]
) -> None:
    modules = list(made(*options, ranks=ranks).built.model.modules())

    assert any(isinstance(each, SyncBatchNorm) for each in modules) == synchronised


def test_weights_are_a_function_of_the_seed(made: Callable[..., Learner]) -> None:
    one, same, other = (made(f"--seed={seed}").built.model.state_dict() for seed in (1, 1, 2))

    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not torch.equal(one["video.conv1.0.weight"], other["video.conv1.0.weight"])
