"""Forecast of a comparison: steps, time according to the recipes' headers, and peak disk space of checkpoints."""

import math
import shlex
from pathlib import Path

from kinetics_sounds import plugins
from kinetics_sounds.errors import SettingsError
from kinetics_sounds.settings import Parsed
from kinetics_sounds.shards import reader
from kinetics_sounds.stream import Split

from .. import evaluate
from ..config import recipes, run_folder
from ..config.settings import TrainSettings
from ..data import dataset
from ..engine import build, resume
from ..interface import Data
from .plan import Plan, is_probe

MOMENTS = {"sgd": 1, "lars": 1, "adam": 2, "adamw": 2}
"""Tensors that an optimizer keeps per weight."""


def forecast(plan: Plan) -> str:
    """Describe what will run, the expected time, and the disk space of the checkpoints.

    Raises SettingsError or ShardError if a recipe cannot produce a row on this shard set.
    """
    count = len(plan.recipes) * len(plan.seeds)
    told = f"{_some(len(plan.recipes), 'recipe')} from {_some(len(plan.seeds), 'seed')} on {plan.shards}"
    lines = [f"{_some(count, 'run')}: {told}; each evaluated by {', '.join(plan.protocols)}, and untrained"]
    kept, largest = 0, 0
    for recipe, parsed in plan.recipes.items():
        split = dataset.open_split(parsed.settings, plan.shards, parsed.settings.train_split)
        data = run_folder.data_of(split, parsed.settings)
        if not data.steps_per_epoch:
            raise SettingsError(
                f"{recipe}: its batch of {parsed.settings.batch} is larger than the split, which has {len(split)} samples; give "
                "-- --batch N"
            )
        _check_trainable(plan, recipe, split, data)
        own, keep = checkpoint_bytes(parsed, data), parsed.settings.keep
        kept += own * (keep + (parsed.settings.val_split is not None)) * len(plan.seeds)
        largest = max(largest, own)
        steps, without = f"{data.steps} steps a run", ""
        for name, asked in trainings(plan, recipe).items():
            of_it = _data(plan, name, asked.settings)
            own = checkpoint_bytes(asked, of_it)
            kept += (
                2 * own * (asked.settings.keep + 1) * len(plan.seeds)
            )  # trained and untrained, a last and a best checkpoint each
            largest = max(largest, own)
            steps += f", then {2 * of_it.steps} of {name}, trained and untrained"
            without = " without these"
        lines.append(f"  {Path(recipe).stem}: {steps}; {_time(plan, recipe, without)}")
        if unasked := [name for name in plan.protocols if name not in plan.asked(recipe)]:
            told = f"it trains {plan.modality(recipe)} only, and the protocol evaluates the other modality"
            lines.append(f"  {Path(recipe).stem}: no {', '.join(unasked)}, for {told}")
    room = math.ceil((kept + largest) / 1e8) / 10  # one more checkpoint is written before another is dropped
    return "\n".join([*lines, f"disk: up to {room:.1f} GB of checkpoints in {plan.out}"])


def _check_trainable(plan: Plan, recipe: str, split: Split, data: Data) -> None:
    """Raise SettingsError for a recipe that needs --init_from, ShardError if the shard set does not suit its view."""
    parsed = plan.recipes[recipe]
    if needs := build.build_meta(parsed, data).NEEDS:
        told = ", ".join(name.removesuffix(".") for name in needs)
        raise SettingsError(
            f"{recipe}: --method {parsed.settings.method} needs the {told} of another run, which a comparison does not "
            "provide; leave it out, train it with ks-train --init_from RUN, and evaluate it with ks-eval"
        )
    for seed in plan.seeds:  # a resumed run has its statistics
        resume.complete_view(parsed, plan.shards, split, plan.folder(recipe, seed) / "run")


def checkpoint_bytes(parsed: Parsed[TrainSettings], data: Data) -> int:
    """Size of a checkpoint in bytes: model and optimizer state, without file headers."""
    model = build.build_meta(parsed, data)
    weights: int = sum(each.nbytes for each in model.parameters() if each.requires_grad)
    stored: int = sum(each.nbytes for each in model.state_dict().values())
    return stored + MOMENTS[parsed.settings.optim.name] * weights


def trainings(plan: Plan, recipe: str) -> dict[str, Parsed[TrainSettings]]:
    """Settings that each training protocol passes to ks-train for a recipe, by protocol."""
    before = run_folder.model_only(plan.recipes[recipe])
    modules = {
        name: plugins.load(evaluate.PROTOCOLS, name) for name in plan.asked(recipe).values() if not is_probe(name)
    }
    return {name: module.by_default(before) for name, module in modules.items() if hasattr(module, "by_default")}


def _data(plan: Plan, name: str, settings: TrainSettings) -> Data:
    """Data of a protocol's training; raises SettingsError if its split is missing or smaller than a batch."""
    facts = reader.read_dataset(plan.shards).every_split.get(settings.train_split)
    if facts is None or facts.samples < settings.batch:
        there = (
            "does not exist"
            if facts is None
            else f"has {facts.samples} samples, fewer than its batch of {settings.batch}"
        )
        raise SettingsError(
            f"--protocols {name}: trains on the split {settings.train_split!r}, which {there}; leave it out, and run ks-eval "
            f"{name} on each run with suitable options"
        )
    return run_folder.data_of(dataset.open_split(settings, plan.shards, settings.train_split), settings)


def _time(plan: Plan, recipe: str, without: str) -> str:
    """The time that a shipped recipe's header tells, or how to measure that of another recipe."""
    shipped = recipes.recipes().get(recipe)
    head = next((line[5:].strip() for line in shipped.head if line.startswith("time:")), "") if shipped else ""
    if head:
        return f"unchanged recipe{without}, {head}"
    words = ["ks-train", "bench", "--config", recipe, "--shards", str(plan.shards), *plan.options(recipe)]
    return f"time: not known; measure samples a second with {shlex.join(words)}"


def _some(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"
