"""What each part of AVCL is worth on the demo's world: every row of its ablations, three seeds, wins and losses alike.

    python benchmarks/avcl_ablations.py --out /tmp/ablations [--clips 420] [--steps 80] [--epochs 8] [--seed N] [--row NAME]

Makes the demo's world once, pretrains each row from three seeds, and judges the encoders as they are (a linear probe and
cross-modal retrieval on ungated features), behind their gate where there is one (retrieval on gated features, which a gate
can solve by itself), and after fine-tuning on the labels. Beside them stand untrained encoders and supervised learning from
scratch with the same fine-tuning. Writes `benchmarks/avcl_ablations.md`. Killed, it goes on where it was.
"""

import argparse
import dataclasses
import json
import os
import platform
import statistics
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from kinetics_sounds.stream import open_split
from kinetics_sounds.train import load
from kinetics_sounds.train.data.loader import Loading
from kinetics_sounds.train.evaluation.encoders import Encoders
from kinetics_sounds.train.evaluation.features import extract
from kinetics_sounds.train.probes import Features, crossmodal, linear

SEEDS = (0, 1, 2)
ROWS: dict[str, tuple[str, ...]] = {
    "AVCL (avcl_tiny: AMFM in fine-tuning)": (),
    "no CGRA": ("--avcl.lambda_cor", "0"),
    "no SelfCL": ("--avcl.lambda_self", "0"),
    "AMFM in pretraining": ("--avcl.amfm_stage", "pretrain"),
    "AMFM off": ("--avcl.amfm_stage", "off"),
    "shared encoder": (
        *("--encoders", "shared", "--clip_and_mel.audio_channels", "3", "--clip_and_mel.mel_crop", "32"),
        *("--clip_and_mel.mel_resize", "36"),
    ),
    "one frame": ("--clip_and_mel.frames", "1", "--clip_and_mel.subtract_clip_mean", "false"),
}
"""Options of `ks-train` beside `--config avcl_tiny`."""
COLUMNS = ("linear top1", "video to audio R@10", "gated R@10", "fine-tuned top1")

Scores = dict[str, float | None]


def main() -> None:
    """Measure what is not there yet, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--clips", type=int, default=420, help="Of the world; 70% of them to train on.")
    parser.add_argument("--steps", type=int, default=80, help="Of pretraining, 64 samples each.")
    parser.add_argument("--epochs", type=int, default=8, help="Of fine-tuning.")
    parser.add_argument(
        "--seed", type=int, help="Measure only this one, and write no page: processes may share the work."
    )
    parser.add_argument("--row", choices=["untrained", *ROWS], help="Measure and print only this one; write no page.")
    asked = parser.parse_args()
    shards = world(asked.out, asked.clips)
    rows = {
        name: [row(asked, shards, number, name, seed) for seed in (SEEDS if asked.seed is None else [asked.seed])]
        for number, name in enumerate(["untrained", *ROWS])
        if asked.row in (None, name)
    }
    if asked.row is not None or asked.seed is not None:
        print("\n".join(lines(rows)))
        return
    page = Path(__file__).with_suffix(".md")
    page.write_text(told(rows, asked))
    print(page.read_text())


def world(out: Path, clips: int) -> Path:
    """The demo's shards."""
    if not (out / "world" / "scores.json").exists():
        run("kinetics_sounds.pipelines.demo", "--out", out / "world", "--clips", clips, "--steps", 1)
    return out / "world" / "build" / "shards"


def row(asked: argparse.Namespace, shards: Path, number: int, name: str, seed: int) -> Scores:
    """A row's scores from one seed."""
    folder: Path = asked.out / f"{number}-{seed}"
    if not (folder / "scores.json").exists():
        untrained = name == "untrained"
        steps = (
            "--steps",
            1 if untrained else asked.steps,
            "--seed",
            seed,
            "--shards",
            shards,
            "--out",
            folder / "run",
        )
        run("kinetics_sounds.train", "--config", "avcl_tiny", *steps, *ROWS.get(name, ()))
        scores = judged(load(folder / "run", None if untrained else "last"), shards)
        scores["fine-tuned top1"] = tuned(folder / "run", asked.epochs, seed, untrained=untrained)
        (folder / "scores.json").write_text(json.dumps(scores))
    found: Scores = json.loads((folder / "scores.json").read_text())
    return found


def judged(encoders: Encoders, shards: Path) -> Scores:
    """Of frozen encoders, before their gate and behind it."""
    loading = Loading(workers=0)
    test, train = (
        extract(encoders, open_split(shards, split), clips=2, batch=32, loading=loading) for split in ("test", "train")
    )
    gate: Any = getattr(encoders.method, "amfm", None)
    return {
        "linear top1": linear.evaluate(test, train, linear.Settings())["top1"],
        "video to audio R@10": crossmodal.evaluate(test, None, crossmodal.Settings())["video_to_audio_r10"],
        "gated R@10": None if gate is None else gated(test, gate),
    }


@torch.no_grad()
def gated(test: Features, gate: Any) -> float:  # noqa: ANN401 - an Amfm
    """Retrieval behind the gate, each pair gated by its own joint content."""
    video_ND, audio_ND = gate(test.video_ND, test.audio_ND)
    behind = dataclasses.replace(test, video_ND=video_ND, audio_ND=audio_ND)
    found: float = crossmodal.evaluate(behind, None, crossmodal.Settings())["video_to_audio_r10"]
    return found


def tuned(folder: Path, epochs: int, seed: int, *, untrained: bool) -> float:
    """Accuracy after fine-tuning, or from scratch."""
    out = folder / "tuned"
    how = (
        "--epochs",
        epochs,
        "--batch",
        32,
        "--optim.name",
        "adamw",
        "--optim.lr",
        "1e-3",
        "--clips",
        2,
        "--workers",
        0,
    )
    more = ("--supervised.dropout", "0.2", "--seed", seed, *(["--untrained"] if untrained else []))
    run("kinetics_sounds.train.evaluate", "finetune", "--run", folder, "--out", out, *how, *more)
    return float(json.loads((out / "results.json").read_text())["scores"]["top1"])


def run(module: str, *arguments: object) -> None:
    """One of the package's commands."""
    subprocess.run([sys.executable, "-m", module, *map(str, arguments)], check=True)


def told(rows: dict[str, list[Scores]], asked: argparse.Namespace) -> str:
    """The page."""
    test = json.loads((asked.out / "world/build/shards/dataset.json").read_text())["splits"]["test"]["samples"]
    page = [
        "# What each part of AVCL is worth on the demo's world",
        "",
        (
            f"Made by `benchmarks/avcl_ablations.py` on {datetime.now(UTC):%Y-%m-%d}: {platform.machine()}, "
            f"{os.cpu_count()} cores, no GPU, Python {platform.python_version()}, torch {torch.__version__}. A world of "
            f"{asked.clips} videos in six classes, {test} of them held out; `avcl_tiny` with {asked.steps} steps of 64 samples, "
            f"then {asked.epochs} epochs of fine-tuning. Percent: the mean of three seeds, and [least, greatest]. One seed's "
            f"95% interval over the held-out clips is about ±{196 * (0.25 / test) ** 0.5:.0f} points at 50%."
        ),
        "",
        "| | " + " | ".join(COLUMNS) + " |",
        "|---|" + "---|" * len(COLUMNS),
        *lines(rows),
        "",
        (
            "Ungated scores say what the encoders have learnt. Gated ones are not comparable with them: the gate of a pair sees "
            "both of its sides, and even an untrained one lets them find each other (docs/decisions/0005). AVCL and AMFM off are "
            "pretrained alike: the gate joins one of them in fine-tuning. Fine-tuning is short: its "
            "ranges overlap more than the means tell. A small world, few steps: none of this is a claim about Kinetics."
        ),
        "",
    ]
    return "\n".join(page)


def lines(rows: dict[str, list[Scores]]) -> list[str]:
    """The table's."""
    label = {"untrained": "untrained; fine-tuned: supervised from scratch"}
    return [
        f"| {label.get(name, name)} | "
        + " | ".join(cell([each[column] for each in scores]) for column in COLUMNS)
        + " |"
        for name, scores in rows.items()
    ]


def cell(values: list[float | None]) -> str:
    """Mean and range."""
    known = [value for value in values if value is not None]
    return f"{statistics.mean(known):.1f} [{min(known):.1f}, {max(known):.1f}]" if known else ""


if __name__ == "__main__":
    main()
