"""Cutout that multiplies one square by the clip's mean, as CrissCross's public code does, where its text fills it.

The square is that of `cutout`; the code's may reach over the edge, has an even side and takes the mean of the first frame.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from . import draw_square, square

MODALITY, PROBABILITY, DRAWS = "video", 1.0, 3


def draw(generator: np.random.Generator) -> Sequence[float]:
    """The square's side and place."""
    return draw_square(generator)


def apply(inputs_RCTHW: Tensor, draws_RK: Tensor) -> Tensor:
    """The same square of every frame."""
    mean_R = inputs_RCTHW.mean(dim=(1, 2, 3, 4), keepdim=True)
    return torch.where(square(inputs_RCTHW, draws_RK), mean_R * inputs_RCTHW, inputs_RCTHW)
