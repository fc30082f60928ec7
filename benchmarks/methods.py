"""What every method learns in the demo's world: three seeds of each on equal numbers of samples, wins and losses as they come.

    python benchmarks/methods.py --out /tmp/methods [--rows byol,moco] [--clips 840] [--steps 200]

Makes the demo's world once, writes a recipe for each row (`avcl_tiny` with another method), and has `ks-train compare` train and
judge them beside their untrained encoders; the supervised baselines vote too. Then a run that learns from permuted labels, and
a probe that is fitted to them: both must be at chance. All scores go to `benchmarks/methods.csv`, where rows of other runs of
this script stay, and the page `benchmarks/methods.md` is written from it. Killed, it goes on where it was. About two minutes a
row and seed on two idle cores.
"""

import argparse
import csv
import json
import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import yaml

from kinetics_sounds.train.comparison import table
from kinetics_sounds.train.comparison.table import Row
from kinetics_sounds.train.config import recipes

SEEDS = "0,1,2"
CHANCE = 100 / 6
PERMUTED = "supervised_permuted_labels"
SUPERVISED: dict[str, dict[str, Any]] = {
    "supervised_r": {"supervised": {"modalities": "video"}},
    "supervised_a": {"supervised": {"modalities": "audio"}},
    "supervised_ra": {},
    "supervised_ra_shared": {
        "encoders": "shared",
        "clip_and_mel": {"audio_channels": 3, "mel_crop": 32, "mel_resize": 36},
    },
}
"""The baselines, as a method each has `supervised`."""
ALONE = {"supervised_r": "video", "supervised_a": "audio"}
"""What learns from one modality, and is judged by it."""
AVID: dict[str, Any] = {"dim": 32, "hidden": 128, "negatives": 256, "temperature": 0.1}
ROWS: dict[str, dict[str, Any]] = {
    "avcl": {},
    "simclr": {"simclr": {"dim": 32}},
    "moco": {"moco": {"dim": 32, "queue": 256, "momentum": 0.97, "temperature": 0.1}},
    "byol": {"byol": {"dim": 64, "hidden": 1024, "momentum": 0.97}},
    "simsiam": {"simsiam": {"dim": 512, "hidden": 128}},
    "barlow": {"barlow": {"dim": 512}},
    "iic": {"iic": {"negatives": 256, "temperature": 0.1}},
    **{f"avid_{mode}": {"avid": AVID | {"mode": mode}} for mode in ("cross", "self", "joint")},
    "iicl": {"iicl": {"dim": 256, "hidden": 128, "clusters": 6, "first_stage": 5}},
    "crisscross": {
        "crisscross": {"dim": 512, "hidden": 128},
        "clip_and_mel": {"views": 2},
        "optim": {"schedules": {"predictors.*": "fixed"}, "lr_multipliers": {"predictors.*": 10.0}},
    },
}
"""By recipe, what it sets besides the method of its name. Heads are a quarter of the papers' width, as the encoders are; momenta
suit 100 updates; a queue must be smaller than the split; IICL has a cluster a class. Nothing was tuned on the scores."""
CMA: dict[str, dict[str, Any]] = {
    f"cma_{criterion}": {
        "cma": AVID | {"negatives_within": 256, "positives": 8, "mine_every": 2, "criterion": criterion}
    }
    for criterion in ("min", "max", "video", "audio")
}
"""The second half of a run whose first half is avid_cross."""


def main() -> None:
    """Measure what is asked for, and write the page from all that is known."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--clips", type=int, default=840, help="Of the world; 70% of them to train on.")
    parser.add_argument("--steps", type=int, default=100, help="Of 64 samples each.")
    parser.add_argument("--rows", default=",".join([*ROWS, *CMA, *SUPERVISED, PERMUTED]), help="Which to measure.")
    asked = parser.parse_args()
    wanted: list[str] = asked.rows.split(",")
    world = asked.out / "world"
    if not (world / "scores.json").exists():
        run("kinetics_sounds.pipelines.demo", "--out", world, "--clips", asked.clips, "--steps", 1)
    shards = world / "build" / "shards"
    more = ["--steps", asked.steps]
    known = Path(__file__).with_suffix(".csv")
    rows: list[Row] = []
    for of, protocols in ((ROWS, "linear,crossmodal"), (SUPERVISED, "linear,crossmodal,finetune")):
        if made := [recipe(asked.out, name, of[name]) for name in of if name in wanted]:
            out = asked.out / ("methods" if of is ROWS else "supervised")
            where = ["--shards", shards, "--out", out, "--seeds", SEEDS, "--protocols", protocols]
            run("kinetics_sounds.train", "compare", *made, *where, "--", *more)
            rows += read(out / "table.csv")
    if named := [name for name in CMA if name in wanted]:
        rows += second_halves(asked.out, shards, named, steps=asked.steps // 2, before=[*rows, *kept(known)])
    if PERMUTED in wanted:
        rows += permuted(asked.out, world / "build", more)
    rows += [row for row in kept(known) if row.recipe not in wanted]
    order = [*ROWS, *CMA, *SUPERVISED, PERMUTED]
    rows.sort(key=lambda row: order.index(row.recipe) if row.recipe in order else len(order))
    known.write_text(table.table_csv(rows))
    page = Path(__file__).with_suffix(".md")
    page.write_text(told(rows, asked))
    print(page.read_text())


def recipe(out: Path, name: str, changed: dict[str, Any]) -> Path:
    """A file with `avcl_tiny` and what a row sets."""
    method = "supervised" if name.startswith("supervised") else name.partition("_")[0]
    made = yaml.safe_load((recipes.RECIPES / "avcl_tiny.yaml").read_text()) | {"method": method}
    for key, value in changed.items():
        made[key] = {**made.get(key, {}), **value} if isinstance(value, dict) else value
    path = out / "recipes" / f"{name}.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(made, sort_keys=False))
    return path


def second_halves(out: Path, shards: Path, names: Sequence[str], *, steps: int, before: Sequence[Row]) -> list[Row]:
    """CMA from the first half of Cross-AVID, each of as many steps; beside the untrained encoders of the whole AVID run."""
    rows: list[Row] = []
    untrained = {(row.seed, row.protocol): row.untrained for row in before if row.recipe == "avid_cross"}
    for seed in map(int, SEEDS.split(",")):
        common = ["--shards", shards, "--seed", seed, "--steps", steps]
        first = out / "cma" / "first_half" / str(seed)
        run("kinetics_sounds.train", "--config", recipe(out, "avid_cross", ROWS["avid_cross"]), "--out", first, *common)
        for name in names:
            folder = out / "cma" / name / str(seed)
            made = recipe(out, name, CMA[name])
            run("kinetics_sounds.train", "--config", made, "--init_from", first, "--out", folder / "run", *common)
            if not (folder / "results" / "crossmodal" / "results.json").exists():
                where = ["--run", folder / "run", "--out", folder / "results"]
                run("kinetics_sounds.train.evaluate", "linear", "crossmodal", *where)
            for protocol in ("linear", "crossmodal"):
                scores = json.loads((folder / "results" / protocol / "results.json").read_bytes())["scores"]
                before_it = untrained.get((seed, protocol), {})
                rows.append(Row(recipe=name, seed=seed, protocol=protocol, scores=scores, untrained=before_it))
    return rows


def permuted(out: Path, build: Path, more: Sequence[object]) -> list[Row]:
    """Learn from labels that say nothing, and fit a probe of AVCL's encoders to them; judged by the right ones."""
    made = out / "permuted"
    if not (made / "dataset.json").exists():
        path = build / "manifest_permuted.parquet"
        clips = pd.read_parquet(build / "manifest.parquet")
        train, names = clips["split"] == "train", ["label", "label_index"]
        clips.loc[train, names] = np.random.default_rng(0).permutation(clips.loc[train, names].to_numpy())
        clips.to_parquet(path)
        run("kinetics_sounds.pipelines.shard", "--manifest", path, "--short_side", 36, "--out", made)
    where = ["--shards", made, "--out", out / "permuted_run", "--seeds", SEEDS, "--protocols", "finetune"]
    run("kinetics_sounds.train", "compare", recipe(out, PERMUTED, {}), *where, "--", *more)
    rows = read(out / "permuted_run" / "table.csv")
    for seed in map(int, SEEDS.split(",")):
        trained = out / "methods" / "avcl" / f"seed-{seed}" / "run"
        results = out / "permuted_probe" / str(seed)
        run("kinetics_sounds.train.evaluate", "linear", "--run", trained, "--shards", made, "--out", results)
        scores = json.loads(next(results.rglob("results.json")).read_bytes())["scores"]
        rows.append(Row(recipe=PERMUTED, seed=seed, protocol="linear", scores=scores, untrained={}))
    return rows


def run(module: str, *arguments: object) -> None:
    """One of the package's commands."""
    subprocess.run([sys.executable, "-m", module, *map(str, arguments)], check=True)


def kept(path: Path) -> list[Row]:
    """What other runs of this script found."""
    return read(path) if path.exists() else []


def read(path: Path) -> list[Row]:
    """The rows of a table.csv."""
    found: dict[tuple[str, int, str], tuple[dict[str, float], dict[str, float]]] = {}
    with path.open(newline="") as file:
        for line in csv.DictReader(file):
            of = found.setdefault((line["recipe"], int(line["seed"]), line["protocol"]), ({}, {}))
            for side, column in zip(of, ("value", "untrained"), strict=True):
                if line[column]:
                    side[line["metric"]] = float(line[column])
    return [
        Row(
            recipe=name,
            seed=seed,
            protocol=protocol,
            scores=scores,
            untrained=untrained,
            modality="both" if protocol == "finetune" else ALONE.get(name, "both"),
        )
        for (name, seed, protocol), (scores, untrained) in found.items()
    ]


def told(rows: Sequence[Row], asked: argparse.Namespace) -> str:
    """The page."""
    splits = json.loads((asked.out / "world/build/shards/dataset.json").read_text())["splits"]
    fair = [row for row in rows if row.recipe != PERMUTED]
    lost = {
        name: [row.scores["top1"] for row in rows if (row.recipe, row.protocol) == (PERMUTED, protocol)]
        for name, protocol in (
            ("the vote of a classifier", "finetune"),
            ("a linear probe of AVCL's encoders", "linear"),
        )
    }
    return "\n".join(
        [
            "# What every method learns in the demo's world",
            "",
            (
                f"Made by `benchmarks/methods.py`, last on {datetime.now(UTC):%Y-%m-%d}: {platform.machine()}, "
                f"{os.cpu_count()} cores, no GPU, Python {platform.python_version()}, torch {torch.__version__}. "
                f"{asked.clips} videos of six classes, "
                f"{splits['train']['samples']} to train on and {splits['test']['samples']} to be judged on. Every run saw "
                f"{asked.steps} batches of 64 samples, with the encoders, optimiser and crops of `avcl_tiny`, and compares one "
                "view of the video with one of the sound; CMA has half of its steps after half of Cross-AVID's; three seeds. "
                "All scores: `methods.csv`. `finetune` is here the "
                "vote of ten clips by the baselines' own classifiers."
            ),
            "",
            table.markdown(fair),
            (
                "Features are those before any projection head: AVCL and IIC compare these themselves, the others what their "
                "heads make of them, so that their features need not find each other across modalities."
            ),
            "",
            (
                "AVID and CMA compare with memory banks, whose rows begin at random and are updated once a visit: about eleven "
                "times in such a run, against hundreds in the papers. Self- and Joint-AVID end below the untrained encoders here."
            ),
            "",
            "### Labels that say nothing",
            "",
            f"The labels of the training clips were permuted, the others are right. Guessing reaches {CHANCE:.1f}% top-1:",
            "",
            *(f"- {name}: {', '.join(f'{each:.1f}' for each in values)}%" for name, values in lost.items()),
            "",
            (
                "Each by three seeds on one permutation. Clips of a class look alike and get one answer together, so such a "
                "score scatters far wider about chance than that of as many independent clips: none is well above it."
            ),
            "",
            (
                "A small world, few steps, settings of which none was tuned here: no claim about Kinetics, nor about which "
                "method is better where batches, data and time are larger. A run of the papers' settings at full size: none yet."
            ),
            "",
        ]
    )


if __name__ == "__main__":
    main()
