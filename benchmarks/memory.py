"""What AVID's memory banks and CMA's mining cost at the papers' sizes.

    python benchmarks/memory.py [--device cuda]      # writes benchmarks/memory.md; about 15 minutes on two cores, 8 GB

Banks of AudioSet's 1,784,108 rows (two of 128 channels) are built, updated with a batch, saved and loaded as the trainer does.
Positives of CMA are mined for banks of growing size up to Kinetics' 232,067 rows, in a process of its own each, whose peak
memory is told.
"""

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kinetics_sounds.train.engine import checkpoint
from kinetics_sounds.train.interface import Batch, Data, Moment
from kinetics_sounds.train.methods import cma
from kinetics_sounds.train.models import mining

T = TypeVar("T")

AUDIOSET, KINETICS = 1_784_108, 232_067
"""Rows of the training splits in the authors' configs."""
MINED = (10_000, 30_000, 100_000, KINETICS)
BATCH, POSITIVES = 160, 32


class Fixed(nn.Module):
    """An encoder that costs nothing."""

    dim = 512

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(1, self.dim)

    def forward(self, given: Tensor) -> Tensor:
        """(B, ...) to (B, dim)."""
        features: Tensor = self.layer(given.flatten(1)[:, :1])
        return features


def main() -> None:
    """Measure and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--one", help="banks, or rows to mine: for the processes that this starts")
    asked = parser.parse_args()
    if asked.one:
        print(json.dumps(banks(asked.device) if asked.one == "banks" else mined(int(asked.one), asked.device)))
        return
    found = {each: _one(each, asked.device) for each in ("banks", *map(str, MINED))}
    page = Path(__file__).with_suffix(".md")
    page.write_text(told(found, asked.device))
    print(page.read_text())


def _one(asked: str, device: str) -> dict[str, float]:
    print(asked, file=sys.stderr, flush=True)
    words = [sys.executable, __file__, "--one", asked, "--device", device]
    done = subprocess.run(words, check=True, capture_output=True, text=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def timed(do: Callable[[], T]) -> tuple[float, T]:
    """Seconds, and what it gave."""
    began = time.perf_counter()
    result = do()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - began, result


def peak_gb() -> float:
    """Of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def banks(device: str) -> dict[str, float]:
    """Build, learn, update, save and load."""
    data = Data(classes=527, samples=AUDIOSET, steps=10, batch=BATCH)

    def build() -> cma.Cma:
        made = cma.build(cma.Settings(positives=POSITIVES), video=Fixed(), audio=Fixed(), data=data).to(device)
        made.memory().partition.fill_(2.2)
        return made

    found: dict[str, float] = {}
    found["build"], method = timed(build)
    place = torch.arange(BATCH, device=device)
    given = torch.rand(BATCH, 1, 1, device=device)
    rows = torch.arange(BATCH, device=device) * 7919
    batch = Batch(video=given, audio=given, label=place, place=place, row=rows)
    moment = Moment(seed=0, step=1, epoch=0)
    method(batch, moment)  # memory is taken
    found["forward"], output = timed(lambda: method(batch, moment._replace(step=2)))
    found["backward"], _ = timed(output.loss.backward)
    found["update"], _ = timed(lambda: method.after_update(output.kept, moment))
    found["working_gb"] = peak_gb()
    optimizer = torch.optim.Adam(method.parameters())
    with tempfile.TemporaryDirectory() as folder:
        place_of = Path(folder)
        found["save"], path = timed(
            lambda: checkpoint.save(place_of, 1, model=method, optimizer=optimizer, state={}, keep=1)
        )
        found["bytes"] = sum(file.stat().st_size for file in path.iterdir())
        found["replicated_bytes"] = (path / "replicated.safetensors").stat().st_size
        found["load"], _ = timed(lambda: checkpoint.load_model(path, method))
    return {**found, "peak_gb": peak_gb()}


def mined(samples: int, device: str) -> dict[str, float]:
    """Positives of all rows of random banks."""
    torch.manual_seed(0)
    video, audio = (F.normalize(torch.randn(samples, 128, device=device), dim=1) for _ in range(2))
    mining.mine(video[:2000], audio[:2000], criterion="min", count=POSITIVES)
    before = peak_gb()
    seconds, _ = timed(lambda: mining.mine(video, audio, criterion="min", count=POSITIVES))
    return {"seconds": seconds, "more_gb": peak_gb() - before}


def told(found: dict[str, dict[str, float]], device: str) -> str:
    """The page."""
    its = found["banks"]
    name = torch.cuda.get_device_name() if device == "cuda" else f"{platform.machine()}, {os.cpu_count()} cores"
    lines = [
        "# Memory banks and mining at the papers' sizes",
        "",
        f"`python benchmarks/memory.py`, {datetime.now(UTC):%Y-%m-%d}, {name}, torch {torch.__version__}.",
        "",
        (
            f"Two banks of {AUDIOSET:,} rows of 128 channels, and {POSITIVES} positives a row (AudioSet, batch {BATCH}, 1,024 "
            "negatives), as `cma` has them:"
        ),
        "",
        "| | seconds |",
        "|---|---|",
        *(f"| {step} | {its[step]:.2f} |" for step in ("build", "forward", "backward", "update", "save", "load")),
        "",
        (
            f"A checkpoint has {its['bytes'] / 1e9:.2f} GB, {its['replicated_bytes'] / 1e9:.2f} GB of them banks and positives "
            f"in a file of their own. Peak memory of the process: {its['working_gb']:.1f} GB while it learns, "
            f"{its['peak_gb']:.1f} GB with saving and loading."
        ),
        "",
        (
            f"Mining {POSITIVES} positives of every row by `min` of both modalities, never more than {mining.MOST_SCORES:,} "
            "cosines at a time:"
        ),
        "",
        "| rows | seconds | nanoseconds a pair | memory beside the banks, GB |",
        "|---|---|---|---|",
    ]
    for samples in MINED:
        one = found[str(samples)]
        lines.append(
            f"| {samples:,} | {one['seconds']:.1f} | {one['seconds'] / samples**2 * 1e9:.2f} | {one['more_gb']:.2f} |"
        )
    lines += ["", "It grows with the square of the rows; ranks share the rows among them.", ""]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
