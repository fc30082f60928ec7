"""Whether runs on a GPU repeat, resume and agree with a CPU: losses of short trainings of one recipe, compared step by step.

    python benchmarks/gpu_run.py --shards demo/build/shards [--config avcl_tiny] [--steps 100] [--out DIR]

All runs go side by side; each is `ks-train`, one of them killed after half of its steps and started again. Then `ks-eval linear
knn` judges the first run and its untrained encoders on the device. Without a GPU it says "not measured", and nothing else;
`--device cpu` runs it all the same.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

import torch

FIRST = "float32"
RUNS: dict[str, tuple[str, ...]] = {
    FIRST: (),
    "float32 again": (),
    "float32, killed at half and resumed": (),
    "bf16": ("--precision=bf16",),
    "bf16 again": ("--precision=bf16",),
    "float32 on the CPU": ("--device=cpu",),
}
EARLY = 10
"""Steps over which weights have had no time to drift apart."""


def main() -> None:
    """Train, compare and print tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shards", type=Path, required=True)
    parser.add_argument("--config", default="avcl_tiny")
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--out", type=Path, help="keeps the runs; default: a folder that is deleted")
    asked = parser.parse_args()
    if asked.device == "cuda" and not torch.cuda.is_available():
        print("not measured: there is no GPU here")
        return
    where = torch.cuda.get_device_name() if asked.device == "cuda" else asked.device
    print(f"{datetime.now(UTC):%Y-%m-%d}, {where}, torch {torch.__version__}; {asked.config}, {asked.steps} steps\n")
    with tempfile.TemporaryDirectory() as name:
        compare(asked, asked.out or Path(name))


def compare(asked: argparse.Namespace, folder: Path) -> None:
    """Both tables."""
    runs = {name: each for name, each in RUNS.items() if asked.device == "cuda" or "bf16" not in name}
    places = {name: folder / str(number) for number, name in enumerate(runs)}
    began = {name: start(asked, places[name], *more) for name, more in runs.items()}
    for name, process in began.items():
        if "killed" in name:
            checkpoint = places[name] / "checkpoints" / f"step-{asked.steps // 2:08d}" / "state.json"
            while process.poll() is None and not checkpoint.exists():
                time.sleep(0.01)
            process.kill()
            process.wait()
            began[name] = start(asked, places[name], *runs[name])
    print(
        "| run | loss, first | last | away from the first run by step 10 | in all steps | samples/s, runs side by side |"
    )
    print("|---|---|---|---|---|---|")
    reference: list[float] = []
    for name, process in began.items():
        if process.wait():
            print(f"| {name} | failed: {(places[name] / 'told.txt').read_text().strip().splitlines()[-1][:150]} |")
            continue
        lines = [json.loads(line) for line in (places[name] / "metrics.jsonl").read_text().splitlines()]
        losses = [line["loss"] for line in lines if "loss" in line]
        reference = reference or losses
        away = [abs(one - other) / abs(other) for one, other in zip(losses, reference, strict=True)]
        speed = sorted(line["samples_per_second"] for line in lines if "loss" in line)[len(losses) // 2]
        print(
            f"| {name} | {losses[0]:.6g} | {losses[-1]:.6g} | {max(away[:EARLY]):.1e} | {max(away):.1e} | {speed:.0f} |",
            flush=True,
        )
    print("\n| encoders | linear top-1 | kNN top-1 | seconds |\n|---|---|---|---|")
    for name, more in (("untrained", ("--untrained",)), ("trained", ())):
        print(scores(asked, places[FIRST], name, *more), flush=True)


def start(asked: argparse.Namespace, out: Path, *more: str) -> subprocess.Popen[bytes]:
    """Start ks-train."""
    out.mkdir(parents=True, exist_ok=True)
    words = [f"--config={asked.config}", f"--shards={asked.shards}", f"--out={out}", f"--steps={asked.steps}"]
    every = ["--log_every=1", f"--save_every={asked.steps // 2}", "--workers=2", f"--device={asked.device}"]
    with (out / "told.txt").open("ab") as told:
        argv = [sys.executable, "-m", "kinetics_sounds.train", *words, *every, *more]
        return subprocess.Popen(argv, stdout=told, stderr=told)


def scores(asked: argparse.Namespace, run: Path, name: str, *more: str) -> str:
    """A row: what the encoders of a run score."""
    argv = [sys.executable, "-m", "kinetics_sounds.train.evaluate", "linear", "knn", f"--run={run}"]
    began = time.perf_counter()
    done = subprocess.run(
        [*argv, "--clips=2", "--batch=32", f"--device={asked.device}", *more],
        capture_output=True,
        text=True,
        check=False,
    )
    seconds = time.perf_counter() - began
    if done.returncode != 0:
        return f"| {name} | failed: {done.stderr.strip().splitlines()[-1][:150]} |"
    found = [
        json.loads((run / "eval" / f"{probe}{'_untrained' if more else ''}" / "results.json").read_text())["scores"][
            "top1"
        ]
        for probe in ("linear", "knn")
    ]
    return f"| {name} | {found[0]:.1f} | {found[1]:.1f} | {seconds:.0f} |"


if __name__ == "__main__":
    main()
