"""What the demo's world teaches: three seeds of the recipe, without its mean subtraction, and the paper's literal settings.

    python benchmarks/demo.py --out /tmp/demo-benchmark

Runs `ks-demo` once a seed (world, build, shards, training, scores), then trains the other settings on the same shards with
as many samples, and writes `benchmarks/demo.md`. About 40 minutes on two cores.
"""

import argparse
import json
import platform
import statistics
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

SEEDS = (0, 1, 2)
PROBES = {"linear": ("top1", "video_top1", "audio_top1"), "knn": ("top1",), "crossmodal": ("video_to_audio_r10",)}
LITERAL = [
    *("--config", "avcl_tiny", "--batch", "16", "--steps", "800", "--clip_and_mel.subtract_clip_mean", "false"),
    *("--optim.name", "sgd", "--optim.lr", "1e-3", "--optim.schedule", "constant", "--optim.warmup_steps", "0"),
    *("--avcl.lambda_cor", "0.9", "--avcl.lambda_self", "0.1", "--avcl.temperature", "0.5"),
    *("--avcl.amfm_stage", "pretrain"),
]
RUNS = {
    "avcl_tiny": None,
    "avcl_tiny, pictures as they are": ["--config", "avcl_tiny", "--clip_and_mel.subtract_clip_mean", "false"],
    "the paper's literal settings": LITERAL,
}
"""What is trained beside the demo's own run, as options of `ks-train`."""


def main() -> None:
    """Measure and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    out: Path = parser.parse_args().out
    rows: list[tuple[str, int, dict[str, float], dict[str, float]]] = []
    seconds = []
    for seed in SEEDS:
        demo = out / f"seed-{seed}"
        began = time.monotonic()
        if not (demo / "scores.json").exists():
            run("kinetics_sounds.pipelines.demo", "--out", demo, "--seed", seed)
            seconds.append(time.monotonic() - began)
        for number, (name, options) in enumerate(RUNS.items()):
            folder = demo / f"run-{number}" if options else demo / "run"
            if options:
                shards = demo / "build/shards"
                run("kinetics_sounds.train", *options, "--shards", shards, "--out", folder, "--seed", seed)
            rows.append((name, seed, scores(folder, untrained=True), scores(folder, untrained=False)))
    page = Path(__file__).with_suffix(".md")
    page.write_text(told(rows, seconds))
    print(page.read_text())


def run(module: str, *arguments: object) -> None:
    """One of the package's commands."""
    subprocess.run([sys.executable, "-m", module, *map(str, arguments)], check=True)


def scores(folder: Path, *, untrained: bool) -> dict[str, float]:
    """The probes' main metrics of a run."""
    found: dict[str, float] = {}
    for probe, metrics in PROBES.items():
        out = folder / "benchmark" / f"{probe}{'_untrained' if untrained else ''}"
        if not (out / "results.json").exists():
            more = ["--untrained"] if untrained else []
            run(
                "kinetics_sounds.train.evaluate",
                probe,
                "--run",
                folder,
                "--clips",
                3,
                "--batch",
                32,
                "--out",
                out,
                *more,
            )
        results = json.loads((out / "results.json").read_bytes())["scores"]
        found |= {f"{probe} {metric}": results[metric] for metric in metrics}
    return found


def told(rows: list[tuple[str, int, dict[str, float], dict[str, float]]], seconds: list[float]) -> str:
    """The page."""
    columns = list(rows[0][2])
    lines = [
        "# What the demo's world teaches",
        "",
        (
            f"Made by `benchmarks/demo.py` on {datetime.now(UTC):%Y-%m-%d}: {platform.machine()}, 2 cores, no GPU, "
            f"Python {platform.python_version()}. 840 videos, 588 clips to train on, 252 held out; features before any gate; "
            "percent, untrained → trained. Every setting saw the same number of samples (200 steps of 64, or 800 of 16)."
        ),
        "",
        "| settings | seed | " + " | ".join(columns) + " |",
        "|---|---|" + "---|" * len(columns),
    ]
    for name, seed, before, after in sorted(rows, key=lambda row: list(RUNS).index(row[0])):
        cells = (f"{before[column]:.1f} → {after[column]:.1f}" for column in columns)
        lines.append(f"| {name} | {seed} | " + " | ".join(cells) + " |")
    lines.append("")
    for name in RUNS:
        gains = [after["linear top1"] - before["linear top1"] for each, _, before, after in rows if each == name]
        lines.append(
            f"- {name}: linear top-1 gains {statistics.mean(gains):+.1f} points ({min(gains):+.1f} to {max(gains):+.1f})"
        )
    if seconds:
        times = ", ".join(f"{each / 60:.1f}" for each in seconds)
        lines += ["", f"`ks-demo` from nothing to the report took {times} minutes (the machine was not idle)."]
    lines += [
        "",
        (
            "Untrained encoders are not at chance (16.7): a random network sees motion energy and spectra, and more of it "
            "where each pixel's mean over the clip is subtracted. A world of six classes says nothing about real actions."
        ),
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
