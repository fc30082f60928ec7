"""Grayscale: replace red, green and blue by luma (ITU-R BT.601)."""

from collections.abc import Sequence

import numpy as np
from torch import Tensor

MODALITY, PROBABILITY, DRAWS = "video", 0.2, 0


def draw(generator: np.random.Generator) -> Sequence[float]:
    """Draw nothing."""
    return ()


def apply(inputs_RCTHW: Tensor, draws_RK: Tensor) -> Tensor:
    """Set all three channels to 0.299 R + 0.587 G + 0.114 B."""
    luma = 0.299 * inputs_RCTHW[:, :1] + 0.587 * inputs_RCTHW[:, 1:2] + 0.114 * inputs_RCTHW[:, 2:]
    return luma.expand_as(inputs_RCTHW)
