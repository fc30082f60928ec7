"""Whether two checkouts of this project make the same: clips, shards, orders, views, losses, gradients, weights, scores.

    python benchmarks/compare_checkouts.py OLD NEW [--folder DIR]

OLD and NEW are checkouts with a `.venv` of their own (`make install`). In each, with its own code and commands, a small world is
built and packed, runs are trained on it (AVCL with accumulation and validation, AVCL on two ranks, the supervised method, a run
that is stopped and goes on) and judged; then all that must be equal is compared: manifests by every column but times, shards and
their indices by SHA-256, each epoch's order and each sample's view by SHA-256, every line of metrics but speeds, every tensor of
every checkpoint (AdamW's first moments after the first step are a tenth of the gradients), and results. Prints a line each;
exit code 1 where anything differs. Takes about four minutes on two cores.
"""

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from safetensors.numpy import load_file

SPEEDS = {"samples_per_second", "data_wait_share", "queue_depth"}
"""Of a line of metrics, and all that is in milliseconds: what the machine decides."""
STEPS = 4
RUNS = {
    "accumulation": ("--accumulate=2", "--val_split=test", "--clip_norm=1"),
    "ranks": ("--devices=2",),
    "supervised": ("--method=supervised",),
    "shared": ("--encoders=shared", "--clip_and_mel.audio_channels=3", "--recompute"),
}
"""What is trained, besides a plain run that ks-demo trains."""
TRACE = """
import hashlib, json, sys
from pathlib import Path
from kinetics_sounds import stream
from kinetics_sounds.train import load
shards, run = map(Path, sys.argv[1:])
made, split, found = load(run), stream.open_split(shards, "train"), {}
for epoch in range(2):
    order = stream.order(split.count_S, seed=0, epoch=epoch, window=1)
    found[f"order of epoch {epoch}"] = order.tolist()
    for number in order.tolist():
        with stream.sample(split, number) as sample:
            arrays = made.view.train_view(sample, made.view_settings, stream.rng(0, epoch, sample.key))
        digest = hashlib.sha256(b"".join(array.numpy().tobytes() for _, array in sorted(arrays.items()))).hexdigest()
        found[f"view of sample {number} in epoch {epoch}"] = digest
print(json.dumps(found))
"""


def main() -> int:
    """Compare, and say what is equal."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path)
    parser.add_argument(
        "--folder", type=Path, help="Keep what is made here, which must be empty; default: a temporary one."
    )
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="checkouts-") as scratch:
        folder = asked.folder or Path(scratch)
        found = [facts(each.resolve(), folder / name) for name, each in (("old", asked.old), ("new", asked.new))]
    wrong = 0
    for kind, before in found[0].items():
        after = found[1][kind]
        differ = sorted(name for name in {*before, *after} if before.get(name) != after.get(name))
        wrong += bool(differ)
        told = f"{len(differ)} DIFFER: {', '.join(differ[:5])}" if differ else f"{len(before)} equal"
        print(f"{kind}: {told}", flush=True)
    return 1 if wrong else 0


def facts(checkout: Path, out: Path) -> dict[str, dict[str, Any]]:
    """Everything that is compared, by kind and name, made with a checkout's own code in `out`."""

    def run(name: str, *words: object) -> str:
        command = checkout / ".venv" / "bin" / name
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONSAFEPATH": "1"}
        done = subprocess.run(
            [str(command), *map(str, words)], cwd=out, env=environment, capture_output=True, text=True, check=False
        )
        if done.returncode not in (0, 1):
            sys.exit(
                f"{checkout}: {name} {' '.join(map(str, words))} ended with {done.returncode}:\n{done.stderr[-3000:]}"
            )
        return done.stdout

    out.mkdir(parents=True)
    run("ks-demo", "--quick", "--out=demo")
    shards = out / "demo" / "build" / "shards"
    plain = (
        "--config=avcl_tiny",
        f"--shards={shards}",
        "--batch=8",
        "--device=cpu",
        "--workers=1",
        "--save_every=1",
        "--keep=9",
    )
    for name, more in RUNS.items():
        run("ks-train", *plain, f"--steps={STEPS}", f"--out=runs/{name}", *more)
    run("ks-train", *plain, "--steps=2", "--out=runs/resumed", "--optim.schedule=constant")
    run("ks-train", *plain, f"--steps={STEPS}", "--out=runs/resumed", "--optim.schedule=constant", "--devices=2")
    run(
        "ks-eval",
        "knn",
        "linear",
        "crossmodal",
        "--run=runs/accumulation",
        "--clips=2",
        "--device=cpu",
        "--out=results",
    )
    runs = {path.parent.name: path.parent for path in sorted(out.rglob("run.json"))}
    traced = json.loads(run("python", "-c", TRACE, shards, out / "runs" / "accumulation"))
    return {
        "manifest": manifest(out / "demo" / "build" / "manifest.parquet"),
        "shards": {str(path.relative_to(shards)): sha256(path) for path in sorted(shards.rglob("*")) if path.is_file()},
        "orders and views": traced,
        "metrics": {f"{name} {at}": line for name, folder in runs.items() for at, line in enumerate(metrics(folder))},
        "checkpoints": {
            f"{name} {key}": each for name, folder in runs.items() for key, each in tensors(folder).items()
        },
        "scores": {
            str(path.relative_to(out)): json.loads(path.read_text())["scores"] for path in out.rglob("results.json")
        },
    }


def manifest(path: Path) -> dict[str, Any]:
    """Each row of a manifest, without times and the port of the demo's server."""
    table = pd.read_parquet(path)
    kept = table[[name for name in table.columns if "time" not in name]].replace(
        r"127\.0\.0\.1:\d+", "HOST", regex=True
    )
    return {
        str(key): line
        for key, line in zip(table["key"], kept.to_json(orient="records", lines=True).splitlines(), strict=True)
    }


def sha256(path: Path) -> str:
    """Of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def metrics(folder: Path) -> list[dict[str, float]]:
    """What a run's metrics say, without speeds."""
    lines = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    return [
        {name: value for name, value in line.items() if name not in SPEEDS and "_ms_" not in name} for line in lines
    ]


def tensors(folder: Path) -> dict[str, str]:
    """A digest of every tensor of every checkpoint of a run."""
    found: dict[str, str] = {}
    for path in sorted(folder.glob("checkpoints/*/*.safetensors")):
        for name, array in load_file(path).items():
            told = f"{array.dtype} {array.shape} ".encode() + np.ascontiguousarray(array).tobytes()
            found[f"{path.parent.name}/{path.stem}: {name}"] = hashlib.sha256(told).hexdigest()
    return found


if __name__ == "__main__":
    sys.exit(main())
