"""How fast one GPU learns: samples a second of the three backbones in bf16, and what part of the chip that is.

    python benchmarks/gpu_speed.py --shards data/k32/shards [--batches 16,32,64,128,256,512]

For each backbone and batch it runs `ks-train bench` of the paper's recipe: the model alone on one cached batch (the ceiling), and
both, from shards; end to end should be within 5% of the ceiling. Without a GPU it says "not measured", and nothing else.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import torch

BACKBONES = ("r3d", "c3d", "r2plus1d")


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shards", type=Path, required=True)
    parser.add_argument("--batches", default="16,32,64,128,256,512")
    asked = parser.parse_args()
    if not torch.cuda.is_available():
        print("not measured: there is no GPU here")
        return
    name = torch.cuda.get_device_name()
    print(f"{datetime.now(UTC):%Y-%m-%d}, {name}, torch {torch.__version__}, bf16, channels last\n")
    print(
        "| backbone | batch | ceiling, samples/s | end to end | of the ceiling | waiting for data | peak GB | its MFU |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for backbone in BACKBONES:
        for batch in map(int, asked.batches.split(",")):
            print(row(asked.shards, backbone, batch), flush=True)


def row(shards: Path, backbone: str, batch: int) -> str:
    """One row of the table; what did not fit or failed says so."""
    with tempfile.TemporaryDirectory() as out:
        words = ["bench", "--config=avcl_k32", f"--shards={shards}", f"--backbone={backbone}", f"--batch={batch}"]
        argv = [sys.executable, "-m", "kinetics_sounds.train", *words, "--precision=bf16", f"--out={out}"]
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            why = "out of memory" if "OutOfMemoryError" in done.stderr else done.stderr.strip().splitlines()[-1][:80]
            return f"| {backbone} | {batch} | {why} |  |  |  |  |  |"
        found = json.loads((Path(out) / "bench.json").read_text())
    ceiling, both = found["model_samples_per_second"], found["both_samples_per_second"]
    share = f"{found['model_mfu']:.0%}" if "model_mfu" in found else "unknown peak"
    return (
        f"| {backbone} | {batch} | {ceiling:.0f} | {both:.0f} | {both / ceiling:.0%} | {found['data_wait_share']:.0%} | "
        f"{found['peak_bytes'] / 1e9:.1f} | {share} |"
    )


if __name__ == "__main__":
    main()
