"""Time warp of a mel-spectrogram (SpecAugment): move one column by up to 19, and stretch both sides.

CrissCross does not use it in pretraining; its code moves a column by -19 to +20 and interpolates bicubically, ours linearly.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

MODALITY, PROBABILITY, DRAWS = "audio", 1.0, 2
WINDOW = 20
"""Minimum distance in columns of the moved column from both ends; it moves by less."""


def draw(generator: np.random.Generator) -> Sequence[float]:
    """Draw the column (0 to 1 between both ends), and its shift in windows."""
    return [generator.random(), generator.uniform(-1, 1)]


def apply(inputs_RHW: Tensor, draws_RK: Tensor) -> Tensor:
    """Interpolate linearly between columns; first and last column stay. Spectrograms of two windows or less are unchanged."""
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
