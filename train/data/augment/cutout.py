"""Cutout: fill one square of 1 to 20 pixels a side with the clip's mean."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from . import draw_square, square

MODALITY, PROBABILITY, DRAWS = "video", 1.0, 3


def draw(generator: np.random.Generator) -> Sequence[float]:
    """Draw side and position of the square."""
    return draw_square(generator)


def apply(inputs_RCTHW: Tensor, draws_RK: Tensor) -> Tensor:
    """Apply the same square to every frame."""
    mean_R = inputs_RCTHW.mean(dim=(1, 2, 3, 4), keepdim=True)
    return torch.where(square(inputs_RCTHW, draws_RK), mean_R, inputs_RCTHW)
