"""What a comparison will take: steps, what the recipes' heads say of time, and the most disk that its checkpoints need."""

import math
from dataclasses import replace
from pathlib import Path

from torch import nn

from kinetics_sounds.errors import SettingsError
from kinetics_sounds.settings import Parsed
from kinetics_sounds.shards import reader

from ..config import recipes, run_folder
from ..config.settings import TrainSettings
from ..data import dataset
from ..engine import build
from ..evaluation.protocols import finetune
from ..interface import Data
from ..optim.optimizer import Optim
from .plan import Plan

MOMENTS = {"sgd": 1, "lars": 1, "adam": 2, "adamw": 2}
"""Numbers that an optimiser keeps of each weight."""
TUNED = 2
"""Checkpoints that a fine-tuning keeps: the last and the best."""


def forecast(plan: Plan) -> str:
    """What is to be run, how long heads say that it takes, and how much disk the checkpoints need."""
    count = len(plan.recipes) * len(plan.seeds)
    told = f"{len(plan.recipes)} recipes from {len(plan.seeds)} seeds on {plan.shards}"
    lines = [f"{count} runs: {told}; each judged by {', '.join(plan.protocols)}, and untrained"]
    kept, largest = 0, 0
    for recipe in plan.recipes:
        parsed = plan.parsed(recipe)
        split = dataset.open_split(parsed.settings, plan.shards, parsed.settings.train_split)
        data = run_folder.data_of(split, parsed.settings)
        if not data.steps_per_epoch:
            raise SettingsError(
                f"{recipe}: its batch of {parsed.settings.batch} is larger than the split, which has {len(split)} samples; give "
                "-- --batch N"
            )
        own, each = checkpoint_bytes(build.outline(parsed, data), parsed.settings.optim), parsed.settings.keep
        kept += own * (each + (parsed.settings.val_split is not None)) * len(plan.seeds)
        steps, without = f"{data.steps} steps a run", ""
        if "finetune" in plan.asked(recipe).values():
            tuned = checkpoint_bytes(classifier(parsed, data), finetune.DEFAULTS.optim)
            kept += 2 * TUNED * tuned * len(plan.seeds)
            own = max(own, tuned)
            steps += f", then {2 * tuning_steps(plan)} of fine-tuning, trained and untrained"
            without = " without fine-tuning"
        shipped = recipes.recipes().get(recipe)
        head = next((line[5:].strip() for line in shipped.head if line.startswith("time:")), "") if shipped else ""
        largest = max(largest, own)
        lines.append(f"  {Path(recipe).stem}: {steps}{f'; of the recipe as it is{without}, {head}' if head else ''}")
    room = math.ceil((kept + largest) / 1e8) / 10  # one more checkpoint is written before another is dropped
    return "\n".join([*lines, f"disk: up to {room:.1f} GB of checkpoints in {plan.out}"])


def checkpoint_bytes(model: nn.Module, optim: Optim) -> int:
    """The size of a checkpoint: everything of the model, and the optimiser's numbers of each weight; headers left out."""
    weights = sum(each.nbytes for each in model.parameters() if each.requires_grad)
    stored: int = sum(each.nbytes for each in model.state_dict().values())
    return stored + MOMENTS[optim.name] * weights


def classifier(parsed: Parsed[TrainSettings], data: Data) -> nn.Module:
    """The model that a recipe's runs are fine-tuned as, without its numbers."""
    own = replace(parsed, settings=replace(parsed.settings, method="supervised"))
    return build.outline(replace(own, groups=finetune.model_groups(finetune.DEFAULTS, parsed)), data)


def tuning_steps(plan: Plan) -> int:
    """Steps of one fine-tuning; raises SettingsError where its split is missing, or smaller than its batch."""
    asked = finetune.DEFAULTS
    facts = reader.read_dataset(plan.shards).splits.get(asked.fit_split)
    if facts is None or facts.samples < asked.batch:
        there = (
            "is not there" if facts is None else f"has {facts.samples} samples, fewer than its batch of {asked.batch}"
        )
        raise SettingsError(
            f"--protocols finetune: learns from the split {asked.fit_split!r}, which {there}; leave it out, and ask ks-eval "
            "finetune of each run with what fits"
        )
    return asked.epochs * (facts.samples // asked.batch)
