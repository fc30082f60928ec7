"""Masking of a mel-spectrogram (SpecAugment): two masks of up to 9 bands and two of up to 19 columns, set to the mean."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

MODALITY, PROBABILITY, DRAWS = "audio", 1.0, 8
WIDEST = {1: 10, 2: 20}
"""Exclusive maximum width of masks of bands and of columns."""
MASKS = 2
"""Masks per axis."""


def draw(generator: np.random.Generator) -> Sequence[float]:
    """Draw width and position (0: first, 1: last) of each mask."""
    return [
        number
        for widest in WIDEST.values()
        for _ in range(MASKS)
        for number in (float(generator.integers(widest)), generator.random())
    ]


def apply(inputs_RHW: Tensor, draws_RK: Tensor) -> Tensor:
    """Apply all masks at once."""
    covered = torch.zeros_like(inputs_RHW, dtype=torch.bool)
    for number in range(len(WIDEST) * MASKS):
        axis = [*WIDEST][number // MASKS]
        size = inputs_RHW.shape[axis]
        width_R, place_R = draws_RK[:, 2 * number].clamp(max=size), draws_RK[:, 2 * number + 1]
        first_R1 = torch.floor(place_R * (size - width_R + 1)).clamp(max=size)[:, None]
        line_S = torch.arange(size, device=inputs_RHW.device)
        covers_RS = (line_S >= first_R1) & (line_S < first_R1 + width_R[:, None])
        covered = covered | (covers_RS[:, :, None] if axis == 1 else covers_RS[:, None, :])
    return torch.where(covered, inputs_RHW.mean(dim=(1, 2), keepdim=True), inputs_RHW)
