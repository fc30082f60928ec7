"""Learning-rate schedules: pure functions of the step or of the validation history, so resume needs no extra state."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

Kind = Literal["constant", "cosine", "multistep", "plateau", "fixed"]


def learning_rate(
    step: int,
    *,
    base: float,
    steps: int,
    warmup_steps: int,
    kind: Kind,
    min_lr_ratio: float = 0.0,
    milestones: Sequence[float] = (),
    factor: float = 0.1,
) -> float:
    """Learning rate at `step`, counted from 0: linear warm-up to `base`, then constant, cosine or multistep.

    Warm-up takes `warmup_steps` equal increments from base / (warmup_steps + 1), so no step has learning rate 0, and step
    `warmup_steps` is the first at `base`. Cosine decays to base * `min_lr_ratio` at `steps` and stays there. Multistep
    multiplies by `factor` at each of the `milestones`, given as fractions of `steps` (0.5: half-way). Plateau is constant here;
    see `Plateau` for its reductions. Fixed is constant without warm-up. Raises ValueError for a negative step, more warm-up
    than steps or an unknown kind.
    """
    if step < 0 or not 0 <= warmup_steps <= steps:
        raise ValueError(f"need step >= 0 and 0 <= warmup_steps <= steps, got {step=} {warmup_steps=} {steps=}")
    if kind not in get_args(Kind):
        raise ValueError(f"unknown schedule {kind!r}; there are {', '.join(get_args(Kind))}")
    if step < warmup_steps and kind != "fixed":
        return base * (step + 1) / (warmup_steps + 1)
    if kind == "multistep":
        return base * factor ** sum(step >= share * steps for share in milestones)
    if kind != "cosine":
        return base
    progress = min(1.0, (step - warmup_steps) / max(1, steps - warmup_steps))
    return base * (min_lr_ratio + (1 - min_lr_ratio) * (1 + math.cos(math.pi * progress)) / 2)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plateau:
    """Counts how often the learning rate was reduced because a metric stopped improving (TCGL: factor 0.1, patience 50)."""

    cuts: int = 0
    best: float | None = None
    waited: int = 0
    """Values in a row without improvement."""

    def after(self, value: float, *, patience: int) -> "Plateau":
        """State after one more value (higher is better): reduce after more than `patience` values without improvement."""
        if self.best is None or value > self.best:
            return Plateau(cuts=self.cuts, best=value)
        if self.waited >= patience:
            return Plateau(cuts=self.cuts + 1, best=self.best)
        return Plateau(cuts=self.cuts, best=self.best, waited=self.waited + 1)
