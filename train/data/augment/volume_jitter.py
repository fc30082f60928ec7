"""Volume jitter: the sound louder or softer by up to a fifth, on a mel-spectrogram whose 80 dB are 0 to 1."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

MODALITY, PROBABILITY, DRAWS = "audio", 1.0, 1
DECIBELS = 80
"""Of the range that is stored."""


def draw(generator: np.random.Generator) -> Sequence[float]:
    """The factor of the amplitude."""
    return [generator.uniform(0.8, 1.2)]


def apply(inputs_RHW: Tensor, draws_RK: Tensor) -> Tensor:
    """20 log10(factor) dB more, within the range."""
    gain_R = 20 * torch.log10(draws_RK[:, 0].clamp_min(1e-3)).to(inputs_RHW.dtype) / DECIBELS
    return (inputs_RHW + gain_R[:, None, None]).clamp(0, 1)
