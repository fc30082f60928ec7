"""How fast to learn, as a pure function of the step: a resumed run needs no scheduler state."""

import math
from typing import Literal


def learning_rate(
    step: int,
    *,
    base: float,
    steps: int,
    warmup_steps: int,
    kind: Literal["constant", "cosine"],
    final_share: float = 0.0,
) -> float:
    """Learning rate of update number `step`, counted from 0: a linear rise to `base`, then constant or cosine.

    The rise takes `warmup_steps` equal steps from base / (warmup_steps + 1), so no update is wasted on rate 0, and
    update `warmup_steps` is the first at `base`. The cosine reaches base * `final_share` at `steps` and stays there.
    Raises ValueError for a negative step, more warm-up than steps or an unknown kind.
    """
    if step < 0 or not 0 <= warmup_steps <= steps:
        raise ValueError(f"need step >= 0 and 0 <= warmup_steps <= steps, got {step=} {warmup_steps=} {steps=}")
    if kind not in ("constant", "cosine"):
        raise ValueError(f"unknown schedule {kind!r}; there are constant and cosine")
    if step < warmup_steps:
        return base * (step + 1) / (warmup_steps + 1)
    if kind == "constant":
        return base
    progress = min(1.0, (step - warmup_steps) / max(1, steps - warmup_steps))
    return base * (final_share + (1 - final_share) * (1 + math.cos(math.pi * progress)) / 2)
