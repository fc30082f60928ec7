"""What the trainer's settings are worth: samples a second of a cached batch, and peak memory, one setting at a time.

    python benchmarks/trainer_settings.py --shards demo/build/shards [--config avcl_tiny] [--batch 64] [--seconds 15]
    [-- --r3d.width 32 ...]

Each row is `ks-train bench` in a process of its own, the defaults before and after the others, since a machine does not keep its
speed. On a GPU the peak is the device's memory and bf16 is measured too; on a CPU it is the process's. Prints a table.
"""

import argparse
import json
import os
import platform
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import torch

ROWS: dict[str, tuple[str, ...]] = {
    "defaults": (),
    "`--channels_last false`": ("--channels_last=false",),
    "`--activation_checkpointing`": ("--activation_checkpointing",),
    "`--grad_accum_steps 4`": ("--grad_accum_steps=4",),
    "`--compile`": ("--compile",),
    "`--compile --activation_checkpointing`": ("--compile", "--activation_checkpointing"),
    "defaults again": (),
}
ON_GPU: dict[str, tuple[str, ...]] = {
    "`--precision bf16`": ("--precision=bf16",),
    "`--precision bf16 --compile`": ("--precision=bf16", "--compile"),
    "`--precision bf16 --compile --activation_checkpointing`": (
        "--precision=bf16",
        "--compile",
        "--activation_checkpointing",
    ),
}


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shards", type=Path, required=True)
    parser.add_argument("--config", default="avcl_tiny")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=15.0)
    parser.add_argument("more", nargs="*", help="Options of ks-train for all rows, after --.")
    asked = parser.parse_args()
    gpu = torch.cuda.is_available()
    where = torch.cuda.get_device_name() if gpu else f"{platform.machine()}, {os.cpu_count()} cores, no GPU"
    what = " ".join([f"`{asked.config}`, batch {asked.batch}", *asked.more])
    print(f"{datetime.now(UTC):%Y-%m-%d}, {where}, torch {torch.__version__}; {what}.\n")
    print(f"| | samples/s | peak GB of the {'device' if gpu else 'process'} |\n|---|---|---|")
    for name, options in (ROWS | ON_GPU if gpu else ROWS).items():
        print(row(name, [*asked.more, *options], asked), flush=True)


def row(name: str, options: list[str], asked: argparse.Namespace) -> str:
    """One row of the table; a setting that fails here says so."""
    with tempfile.TemporaryDirectory() as out:
        told = Path(out) / "told.txt"
        words = [f"--config={asked.config}", f"--shards={asked.shards}", f"--batch={asked.batch}", "--workers=0"]
        argv = [
            sys.executable,
            "-m",
            "kinetics_sounds.train",
            "bench",
            *words,
            f"--seconds={asked.seconds}",
            f"--out={out}",
        ]
        with told.open("wb") as file:
            streams = [(os.POSIX_SPAWN_DUP2, file.fileno(), number) for number in (1, 2)]
            process = os.posix_spawn(sys.executable, [*argv, *options], dict(os.environ), file_actions=streams)
            _, status, used = os.wait4(process, 0)
        if os.waitstatus_to_exitcode(status) != 0:
            return f"| {name} | {told.read_text().strip().splitlines()[-1][:100]} |  |"
        found = json.loads((Path(out) / "bench.json").read_text())
    peak = found["peak_bytes"] or used.ru_maxrss * 1024
    return f"| {name} | {found['model_samples_per_second']:.1f} | {peak / 1e9:.2f} |"


if __name__ == "__main__":
    main()
