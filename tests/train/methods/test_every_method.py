"""Every method by the trainer: it learns, goes on from a checkpoint, and its encoders load without what they do not need."""

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from safetensors import safe_open

from kinetics_sounds import plugins, train
from kinetics_sounds.train import methods, pretrain

OPTIONS: dict[str, Sequence[str]] = {
    "avcl": (),
    "supervised": (),
    "layerwise": ("--layerwise.features=64",),
    "moco": ("--moco.queue=4", "--moco.mode=joint", "--clip_and_mel.views=2"),
    "avid": ("--avid.negatives=4", "--avid.hidden=8", "--avid.dim=8"),
    "simclr": ("--simclr.mode=joint", "--clip_and_mel.views=2"),
    "byol": ("--byol.mode=intra", "--byol.hidden=8", "--byol.dim=8", "--clip_and_mel.views=2"),
    "simsiam": ("--simsiam.hidden=8", "--simsiam.dim=8"),
    "barlow": ("--barlow.dim=8",),
    "cma": ("--cma.negatives=4", "--cma.negatives_within=2", "--cma.hidden=8", "--cma.dim=8", "--cma.positives=3"),
    "iicl": ("--iicl.dim=8", "--iicl.hidden=8", "--iicl.clusters=4", "--iicl.first_stage=1"),
    "crisscross": ("--crisscross.dim=8", "--crisscross.hidden=8", "--clip_and_mel.views=2"),
    "iic": ("--iic.negatives=4", "--iic.intra_negative=shuffle"),
}
"""Small ones; a new method has a line here."""
BEGINS_WITH = {"cma": "avid"}
"""Of a method that goes on from another one's run, which."""


def test_each_method_is_here() -> None:
    assert sorted(OPTIONS) == sorted(plugins.names(methods.__name__))


@pytest.mark.parametrize("method", [name for name in OPTIONS if name != "avcl"])  # which all other tests train
def test_it_learns_and_goes_on_from_a_checkpoint_exactly(
    method: str, small: Callable[..., list[str]], tmp_path: Path
) -> None:
    """Banks, queues and copies too: without its last checkpoint a run ends with the same bytes."""
    run = tmp_path / "run"
    argv = small(run, f"--method={method}", "--r3d.width=2", "--save_every=3", *OPTIONS[method])
    if before := BEGINS_WITH.get(method):
        assert pretrain.main(small(tmp_path / before, f"--method={before}", "--r3d.width=2", *OPTIONS[before])) == 0
        argv.append(f"--init={tmp_path / before}")
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
