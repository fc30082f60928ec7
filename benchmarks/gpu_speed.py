"""How fast one GPU learns: samples a second of the three backbones in bf16, and what part of the chip that is.

    python benchmarks/gpu_speed.py --shards data/k32/shards [--batches 16,32,64,128,256,512]
    [--backbones r3d,c3d,r2plus1d] [--seconds 20] [-- --workers 14 ...]

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
    parser.add_argument("--backbones", default=",".join(BACKBONES))
    parser.add_argument("--seconds", type=float, default=20.0, help="Of each of the three measurements of a row.")
    parser.add_argument("more", nargs="*", help="Options of ks-train for all rows, after --.")
    asked = parser.parse_args()
    if not torch.cuda.is_available():
        print("not measured: there is no GPU here")
        return
    name = torch.cuda.get_device_name()
    print(
        f"{datetime.now(UTC):%Y-%m-%d}, {name}, torch {torch.__version__}, bf16, channels last {' '.join(asked.more)}\n"
    )
    print(
        "| backbone | batch | loader | ceiling, samples/s | end to end | of the ceiling | waiting for data | peak GB | its MFU |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    for backbone in asked.backbones.split(","):
        for batch in map(int, asked.batches.split(",")):
            print(row(asked, backbone, batch), flush=True)


def row(asked: argparse.Namespace, backbone: str, batch: int) -> str:
    """One row of the table; what did not fit or failed says so."""
    with tempfile.TemporaryDirectory() as out:
        words = ["bench", "--config=avcl_k32", f"--shards={asked.shards}", f"--backbone={backbone}", f"--batch={batch}"]
        more = ["--precision=bf16", f"--seconds={asked.seconds}", f"--out={out}", *asked.more]
        argv = [sys.executable, "-m", "kinetics_sounds.train", *words, *more]
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            why = "out of memory" if "OutOfMemoryError" in done.stderr else done.stderr.strip().splitlines()[-1][:80]
            return f"| {backbone} | {batch} | {why} |  |  |  |  |  |  |"
        found = json.loads((Path(out) / "bench.json").read_text())
    loaded, ceiling, both = (found[f"{what}_samples_per_second"] for what in ("loader", "model", "both"))
    share = f"{found['model_mfu']:.0%}" if "model_mfu" in found else "unknown peak"
    return (
        f"| {backbone} | {batch} | {loaded:.0f} | {ceiling:.0f} | {both:.0f} | {both / ceiling:.0%} | "
        f"{found['data_wait_share']:.0%} | {found['peak_bytes'] / 1e9:.1f} | {share} |"
    )


if __name__ == "__main__":
    main()
