"""Space that a run's checkpoints will take, printed before its first step."""

import shutil
from pathlib import Path

from torch import nn

from kinetics_sounds.quantities import byte_size

from ..optim.optimizer import Optim

MOMENTS = {"sgd": 1, "lars": 1, "adam": 2, "adamw": 2}
"""Tensors as large as a parameter that an optimizer keeps of each."""


def checkpoint_bytes(method: nn.Module, optim: Optim) -> int:
    """Approximate size of one checkpoint: parameters, buffers and the optimizer's state."""
    stored: int = sum(tensor.nbytes for tensor in method.state_dict().values())
    learnt: int = sum(parameter.nbytes for parameter in method.parameters() if parameter.requires_grad)
    return stored + MOMENTS[optim.name] * learnt


def format_forecast(method: nn.Module, optim: Optim, *, steps: int, steps_per_epoch: int, keep: int, out: Path) -> str:
    """Steps of the run, the size of the `keep` checkpoints that it keeps, and the free space of the disk of `out`."""
    size = checkpoint_bytes(method, optim)
    free = shutil.disk_usage(out).free
    # A new one is written before an old one is deleted.
    short = "; they may not fit" if size * (keep + 1) > free else ""
    warming = (
        f"; all of them warm-up (--optim.warmup_steps {optim.warmup_steps})" if optim.warmup_steps >= steps else ""
    )
    return (
        f"steps: {steps}, {steps_per_epoch} per epoch{warming}\n"
        f"disk: {keep} checkpoints of about {byte_size(size)} each, {byte_size(free)} free{short}"
    )
