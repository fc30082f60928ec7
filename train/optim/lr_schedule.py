"""How fast to learn, as a pure function of the step, or of the validations so far: nothing that a resume could lose."""

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
    final_share: float = 0.0,
    milestones: Sequence[float] = (),
    factor: float = 0.1,
) -> float:
    """Learning rate of update number `step`, counted from 0: a linear rise to `base`, then constant, cosine or multistep.

    The rise takes `warmup_steps` equal steps from base / (warmup_steps + 1), so no update is wasted on rate 0, and
    update `warmup_steps` is the first at `base`. The cosine reaches base * `final_share` at `steps` and stays there.
    Multistep multiplies by `factor` at each of the `milestones`, which are shares of `steps` (0.5: half-way).
    A plateau is constant here: `Plateau` says what it is cut by. `fixed` is constant without a warm-up. Raises ValueError for a
    negative step, more warm-up than steps or an unknown kind.
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
    return base * (final_share + (1 - final_share) * (1 + math.cos(math.pi * progress)) / 2)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plateau:
    """How often a rate was cut because a value that should rise had not for a while (TCGL: factor 0.1, patience 50)."""

    cuts: int = 0
    best: float | None = None
    waited: int = 0
    """Values in a row that were no better."""

    def after(self, value: float, *, patience: int) -> "Plateau":
        """The state after one more value: a cut, and patience anew, once more than `patience` in a row were no better."""
        if self.best is None or value > self.best:
            return Plateau(cuts=self.cuts, best=value)
        if self.waited >= patience:
            return Plateau(cuts=self.cuts + 1, best=self.best)
        return Plateau(cuts=self.cuts, best=self.best, waited=self.waited + 1)
