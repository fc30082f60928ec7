"""Every method by the trainer: it learns, goes on from a checkpoint, and its encoders load without what they do not need."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors import safe_open

from kinetics_sounds import train
from kinetics_sounds.train import pretrain

from .special import METHODS, options, special


@pytest.mark.parametrize("method", [name for name in METHODS if name != "avcl"])  # which all other tests train
def test_it_learns_and_goes_on_from_a_checkpoint_exactly(
    method: str, small: Callable[..., list[str]], tmp_path: Path
) -> None:
    """Banks, queues and copies too: without its last checkpoint a run ends with the same bytes."""
    run = tmp_path / "run"
    argv = small(run, "--save_every=3", *options(method))
    if before := special(method).begins_with:
        assert pretrain.main(small(tmp_path / before, *options(before))) == 0
        argv.append(f"--init_from={tmp_path / before}")
    assert pretrain.main(argv) == 0
    last = run / "checkpoints" / "step-00000006"
    made = {path.name: path.read_bytes() for path in last.glob("*.safetensors")}
    shutil.rmtree(last)
    assert pretrain.main(argv) == 0

    assert {path.name: path.read_bytes() for path in last.glob("*.safetensors")} == made
    assert [json.loads(line)["step"] for line in (run / "metrics.jsonl").read_text().splitlines()][-1] == 6
    with safe_open(last / "model.safetensors", "pt") as tensors:
        assert not [name for name in tensors.keys() if name.startswith(("banks.", "queues."))]  # noqa: SIM118
    assert train.load(run).video.dim == 16
