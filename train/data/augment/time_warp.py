"""Time warp of a mel-spectrogram (SpecAugment): one column moves by up to 19, and what lies about it is stretched.

Off in CrissCross's pretraining, whose code moves a column by -19 to +20 and interpolates bicubically; ours is linear.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

MODALITY, PROBABILITY, DRAWS = "audio", 1.0, 2
WINDOW = 20
"""Columns: how far the moved one keeps from either end, and further than it moves."""


def draw(generator: np.random.Generator) -> Sequence[float]:
    """Which column between the two ends, 0 to 1, and how far it moves, in windows."""
    return [generator.random(), generator.uniform(-1, 1)]


def apply(inputs_RHW: Tensor, draws_RK: Tensor) -> Tensor:
    """Linear between columns; the first and the last stay where they are. A spectrogram of two windows or less stays as it is."""
    last = inputs_RHW.shape[2] - 1
    if last <= 2 * WINDOW:
        return inputs_RHW
    draws_RK = draws_RK.to(inputs_RHW.dtype)
    was_R1 = WINDOW + draws_RK[:, :1] * (last - 2 * WINDOW)
    now_R1 = was_R1 + draws_RK[:, 1:] * (WINDOW - 1)
    column_W = torch.arange(last + 1, device=inputs_RHW.device, dtype=inputs_RHW.dtype)
    before_RW = column_W * was_R1 / now_R1
    after_RW = was_R1 + (column_W - now_R1) * (last - was_R1) / (last - now_R1)
    source_RW = torch.where(column_W < now_R1, before_RW, after_RW).clamp(0, last)
    left_RW = source_RW.floor().long().clamp(max=last - 1)
    share = (source_RW - left_RW)[:, None]
    index = left_RW[:, None].expand(-1, inputs_RHW.shape[1], -1)
    return inputs_RHW.gather(2, index) * (1 - share) + inputs_RHW.gather(2, index + 1) * share
