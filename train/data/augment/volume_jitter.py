"""Volume jitter: scale the amplitude by up to 20 %, on a mel-spectrogram that maps 80 dB to [0, 1]."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

MODALITY, PROBABILITY, DRAWS = "audio", 1.0, 1
DECIBELS = 80
"""Dynamic range of stored mel-spectrograms."""


def draw(generator: np.random.Generator) -> Sequence[float]:
    """Draw the amplitude factor."""
    return [generator.uniform(0.8, 1.2)]


def apply(inputs_RHW: Tensor, draws_RK: Tensor) -> Tensor:
    """Add 20 log10(factor) dB, clamped to the range."""
    gain_R = 20 * torch.log10(draws_RK[:, 0].clamp_min(1e-3)).to(inputs_RHW.dtype) / DECIBELS
    return (inputs_RHW + gain_R[:, None, None]).clamp(0, 1)
