"""What every method of AVCL's Table IV needs at full size: one real step on a CPU, and the memory of banks and queues.

    python benchmarks/methods_size.py            # writes benchmarks/methods_size.md; about 15 minutes on two cores, 12 GB

Each row of K100 is built as its recipe says, and takes one optimiser step on 16 random samples of the recipe's own shapes, in a
process of its own whose peak memory is told. The recipes in the methods' own settings are built and run forwards with their
whole batch on PyTorch's `meta` device, which has shapes and no numbers.
"""

import argparse
import contextlib
import json
import math
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
STEPS = ("avcl_k100", *(f"avcl_k100_table4_{name}" for name in METHODS), "avcl_k100_table4_baseline_ra")
OWN = ("simclr_k32", "moco_k32", "moco_k32_v2", "byol_k32", "simsiam_k32", "barlow_k32", "iic_k32")
CLIPS = {"k32": 16_100, "k100": 50_200}
"""Of the training splits (AVCL, section III.A)."""
CLASSES = {"k32": 34, "k100": 100}


def main() -> None:
    """Measure and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--one", help="a recipe, and whether it is stepped or shaped: for the processes that this starts"
    )
    asked = parser.parse_args().one
    if asked:
        kind, _, recipe = asked.partition(":")
        print(json.dumps(stepped(recipe) if kind == "step" else shaped(recipe)))
        return
    found = {name: _one(f"{kind}:{name}") for kind, names in (("step", STEPS), ("meta", OWN)) for name in names}
    page = Path(__file__).with_suffix(".md")
    page.write_text(told(found))
    print(page.read_text())


def _one(asked: str) -> dict[str, Any]:
    print(asked, file=sys.stderr, flush=True)
    done = subprocess.run([sys.executable, __file__, "--one", asked], check=True, capture_output=True, text=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def _data(recipe: str, parsed: Parsed[TrainSettings]) -> Data:
    classes = recipe.split("_")[1]
    per_epoch = CLIPS[classes] // parsed.settings.batch
    steps = parsed.settings.epochs * per_epoch
    return Data(CLASSES[classes], CLIPS[classes], steps, per_epoch, parsed.settings.batch)


def _sizes(model: Method) -> dict[str, float]:
    kept = tuple(model.REPLICATED)
    buffers = [each for name, each in model.named_buffers() if kept and name.startswith(kept)]
    return {
        "parameters": sum(each.numel() for each in model.parameters()),
        "kept_mb": sum(each.numel() * each.element_size() for each in buffers) / 1e6,
    }


def stepped(recipe: str) -> dict[str, Any]:
    """One step with real numbers."""
    parsed = read_settings([f"--config={recipe}"])
    data = _data(recipe, parsed)
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
        raise SystemExit(f"{recipe}: its step moved nothing, or its loss is {float(outcome.loss)}")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    return {**_sizes(built.method), "loss": float(outcome.loss), "seconds": seconds, "peak_gb": peak}


def shaped(recipe: str) -> dict[str, Any]:
    """A forward pass of the whole batch, shapes alone."""
    parsed = read_settings([f"--config={recipe}"])
    data = _data(recipe, parsed)
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
        raise SystemExit(f"{recipe}: its loss has the shape {tuple(output.loss.shape)}")
    return {**_sizes(built.method), "batch": batch}


def told(found: dict[str, dict[str, Any]]) -> str:
    """The page."""
    lines = [
        "# Methods at full size",
        "",
        (
            f"`python benchmarks/methods_size.py`, {datetime.now(UTC):%Y-%m-%d}, {platform.machine()}, "
            f"{torch.get_num_threads()} cores, torch {torch.__version__}. No GPU. The machine did other things too."
        ),
        "",
        "One real step of 16 samples (16 frames of 112 x 112, mel-spectrograms repeated to 16 frames), data of K100's size:",
        "",
        "| recipe | parameters, copies too | banks and queues, MB | first loss | seconds | peak memory, GB |",
        "|---|---|---|---|---|---|",
    ]
    for name in STEPS:
        each = found[name]
        lines.append(
            f"| {name} | {each['parameters']:,} | {each['kept_mb']:.0f} | {each['loss']:.4g} | {each['seconds']:.0f} | "
            f"{each['peak_gb']:.1f} |"
        )
    lines += [
        "",
        "A forward pass of the whole batch in the methods' own settings, on `meta` (shapes, no numbers), data of K32's size:",
        "",
        "| recipe | batch | parameters, copies too | banks and queues, MB |",
        "|---|---|---|---|",
    ]
    lines += [
        f"| {name} | {found[name]['batch']:,} | {found[name]['parameters']:,} | {found[name]['kept_mb']:.0f} |"
        for name in OWN
    ]
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    main()
