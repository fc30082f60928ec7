"""What the ranks of `test_features` do; in a file of its own, for processes import it by name."""

import json
import os
from pathlib import Path

import torch
from safetensors.torch import save_file

from kinetics_sounds.stream import open_split
from kinetics_sounds.train import evaluate, load
from kinetics_sounds.train.data.loader import Loading
from kinetics_sounds.train.distributed import process_group
from kinetics_sounds.train.evaluation import features

PLAN = "plan.json"
"""The run, the folders of shards by name, and the port to meet at."""


def run(rank: int, size: int, folder: Path) -> None:
    """One of `size` ranks: features of each set, then a probe as torchrun would start it."""
    torch.set_num_threads(1)
    plan = json.loads((folder / PLAN).read_text())
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(size), "LOCAL_RANK": str(rank)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(plan["port"])}
    cpu = torch.device("cpu")
    with process_group.start(cpu, init_method=f"file://{folder / 'meet'}") as world:
        found = {
            name: features.extract(
                load(plan["run"]),
                open_split(shards, split),
                clips=2,
                batch=4,
                loading=Loading(workers=0, device=world.device),
                world=world,
            )
            for name, (shards, split) in plan["sets"].items()
        }
    save_file(
        {f"{name}/{side}": getattr(each, f"{side}_ND") for name, each in found.items() for side in ("video", "audio")},
        folder / f"{rank}.safetensors",
    )
    argv = [f"--run={plan['run']}", f"--out={folder / 'results'}", "--workers=0", "--device=cpu", "--clips=2"]
    raise SystemExit(evaluate.main(["knn", *argv]))
