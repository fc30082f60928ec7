"""Masks of a mel-spectrogram (SpecAugment): two of up to 9 bands, two of up to 19 columns, filled with its mean."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

MODALITY, PROBABILITY, DRAWS = "audio", 1.0, 8
WIDEST = {1: 10, 2: 20}
"""By axis, bands and columns: masks are narrower than this."""
MASKS = 2
"""On each axis."""


def draw(generator: np.random.Generator) -> Sequence[float]:
    """Of each mask its width, and where it lies: 0 is the first place, 1 the last."""
    return [
        number
        for widest in WIDEST.values()
        for _ in range(MASKS)
        for number in (float(generator.integers(widest)), generator.random())
    ]


def apply(inputs_RHW: Tensor, draws_RK: Tensor) -> Tensor:
    """All masks at once."""
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
