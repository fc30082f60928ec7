"""What every method needs at full size: one real step on a CPU, and the memory of banks and queues.

    python benchmarks/methods_size.py            # writes benchmarks/methods_size.md; about 15 minutes on two cores, 6 GB

Each row of AVCL's Table IV, CrissCross and both stages of IICL are built as their recipe says, and take one optimiser step on a
few random samples of the recipe's own shapes, in a process of its own whose peak memory is told. The recipes in the methods' own
settings are built and run forwards with their whole batch on PyTorch's `meta` device, which has shapes and no numbers.
"""

import argparse
import contextlib
import json
import math
import os
import platform
import resource
import subprocess
import sys
import time
import unittest.mock
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

from kinetics_sounds.settings import Parsed
from kinetics_sounds.train.config.settings import TrainSettings, read_settings
from kinetics_sounds.train.engine import build
from kinetics_sounds.train.engine.step import TrainStep
from kinetics_sounds.train.interface import Batch, Data, Method, Moment
from kinetics_sounds.train.optim.optimizer import make_optimizer

METHODS = ("simclr", "moco", "byol", "simsiam", "barlow", "iic")
TABLE4 = ("avcl_k100", *(f"avcl_k100_table4_{name}" for name in METHODS), "avcl_k100_table4_baseline_ra")
STAGES = {"iicl_k400, first stage": (), "iicl_k400, second stage": ("--iicl.first_stage=0",)}
STEPS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(TABLE4, ()),
    "crisscross_k400": ("--batch=8",),
    **{name: ("--batch=2", *more) for name, more in STAGES.items()},
}
"""What each row's recipe is given beside it."""
K32 = ("simclr_k32", "moco_k32", "moco_k32_v2", "byol_k32", "simsiam_k32", "barlow_k32", "iic_k32")
OWN = {**dict.fromkeys((*K32, "crisscross_k400", "crisscross_k32_table3_common_predictor"), ()), **STAGES}
CLIPS = {"k32": 16_100, "k100": 50_200, "k400": 232_067}
"""Of the training splits (AVCL, section III.A; Kinetics-400 as AVID's configs count it)."""
CLASSES = {"k32": 34, "k100": 100, "k400": 400}


def main() -> None:
    """Measure and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--one", help="a row, and whether it is stepped or shaped: for the processes that this starts")
    asked = parser.parse_args().one
    if asked:
        kind, _, row = asked.partition(":")
        print(json.dumps(stepped(row) if kind == "step" else shaped(row)))
        return
    found = {row: _one(row) for row in (*(f"step:{name}" for name in STEPS), *(f"meta:{name}" for name in OWN))}
    page = Path(__file__).with_suffix(".md")
    page.write_text(told(found))
    print(page.read_text())


def _one(asked: str) -> dict[str, Any]:
    print(asked, file=sys.stderr, flush=True)
    done = subprocess.run([sys.executable, __file__, "--one", asked], check=True, capture_output=True, text=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def data_of_recipe(row: str, more: tuple[str, ...]) -> tuple[Parsed[TrainSettings], Data]:
    """Its settings, and data of its set's size."""
    recipe = row.partition(",")[0]
    parsed, classes = read_settings([f"--config={recipe}", *more]), recipe.split("_")[1]
    settings = parsed.settings
    per_epoch = CLIPS[classes] * settings.clips_per_video // settings.batch
    steps = settings.epochs * per_epoch
    return parsed, Data(CLASSES[classes], CLIPS[classes], steps, per_epoch, parsed.settings.batch)


def _sizes(model: Method) -> dict[str, float]:
    kept = tuple(model.REPLICATED)
    buffers = [each for name, each in model.named_buffers() if kept and name.startswith(kept)]
    return {
        "parameters": sum(each.numel() for each in model.parameters()),
        "kept_mb": sum(each.numel() * each.element_size() for each in buffers) / 1e6,
    }


def stepped(row: str) -> dict[str, Any]:
    """One step with real numbers."""
    parsed, data = data_of_recipe(row, STEPS[row])
    built = build.build_model(parsed, data)
    inputs = built.view.inputs(built.view_settings)
    shapes = {"video": inputs.video, "audio": inputs.audio}
    arrays = {name: torch.rand(data.batch, inputs.views, *shape) for name, shape in shapes.items() if shape}
    arrays |= {"label": torch.arange(data.batch) % data.classes, "index": torch.arange(data.batch)}
    arrays["place"] = torch.arange(data.batch)
    view: Any = SimpleNamespace(augment=lambda made, _: {name: made[name] for name in shapes})
    bundle = build.ModelBundle(built.method.train(), view, None)
    update = TrainStep(bundle, make_optimizer(built.method, parsed.settings.optim), device=torch.device("cpu"))
    before = next(built.method.video.parameters()).detach().clone()
    began = time.perf_counter()
    outcome = update(arrays, Moment(seed=0, step=0, epoch=0))
    seconds = time.perf_counter() - began
    if not math.isfinite(float(outcome.loss)) or torch.equal(before, next(built.method.video.parameters())):
        raise SystemExit(f"{row}: its step moved nothing, or its loss is {float(outcome.loss)}")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    found = {"batch": data.batch, "loss": float(outcome.loss), "seconds": seconds, "peak_gb": peak}
    return _sizes(built.method) | found


def shaped(row: str) -> dict[str, Any]:
    """A forward pass of the whole batch, shapes alone."""
    parsed, data = data_of_recipe(row, OWN[row])
    without = unittest.mock.patch.object(torch, "autocast", return_value=contextlib.nullcontext())  # meta knows none
    with torch.device("meta"), without:
        built = build.build_model(parsed, data)
        inputs = built.view.inputs(built.view_settings)
        batch = data.batch
        place = torch.arange(batch)
        video, audio = (
            torch.rand(batch, inputs.views, *shape) if shape else None for shape in (inputs.video, inputs.audio)
        )
        made = Batch(video=video, audio=audio, label=place, place=place, row=place)
        output = built.method(made, Moment(seed=0, step=1, epoch=0))
    if output.loss.shape != ():
        raise SystemExit(f"{row}: its loss has the shape {tuple(output.loss.shape)}")
    return {**_sizes(built.method), "batch": batch}


def told(found: dict[str, dict[str, Any]]) -> str:
    """The page, of what each row was found to need."""
    lines = [
        "# Methods at full size",
        "",
        (
            f"`python benchmarks/methods_size.py`, {datetime.now(UTC):%Y-%m-%d}, {platform.machine()}, "
            f"{torch.get_num_threads()} of {os.cpu_count()} cores, "
            f"torch {torch.__version__}. No GPU. The machine did other things too."
        ),
        "",
        (
            "One real step: AVCL's rows on 16 frames of 112 x 112 and mel-spectrograms repeated to 16 frames, CrissCross on two "
            "views of 8 frames of 112 x 112, IICL on 32 frames of 128 x 128; data of their sets' sizes:"
        ),
        "",
        "| recipe | samples | parameters, copies too | banks and queues, MB | first loss | seconds | peak memory, GB |",
        "|---|---|---|---|---|---|---|",
    ]
    for name in STEPS:
        each = found[f"step:{name}"]
        lines.append(
            f"| {name} | {each['batch']} | {each['parameters']:,} | {each['kept_mb']:.0f} | {each['loss']:.4g} | "
            f"{each['seconds']:.0f} | {each['peak_gb']:.1f} |"
        )
    lines += [
        "",
        "A forward pass of the whole batch in the methods' own settings, on `meta` (shapes, no numbers), data of the set's size:",
        "",
        "| recipe | batch | parameters, copies too | banks and queues, MB |",
        "|---|---|---|---|",
    ]
    for name in OWN:
        each = found[f"meta:{name}"]
        lines.append(f"| {name} | {each['batch']:,} | {each['parameters']:,} | {each['kept_mb']:.0f} |")
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    main()
