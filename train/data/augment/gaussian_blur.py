"""Gaussian blur: a kernel of 2 * floor(side / 20) + 1 pixels (11 at 112), sigma from 0.1 to 2."""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

MODALITY, PROBABILITY, DRAWS = "video", 0.5, 1


def draw(generator: np.random.Generator) -> Sequence[float]:
    """Sigma in pixels."""
    return [generator.uniform(0.1, 2)]


def apply(inputs_RCTHW: Tensor, draws_RK: Tensor) -> Tensor:
    """Rows, then columns; beyond an edge the picture is mirrored about its last pixel."""
    renderings, channels, frames, height, width = inputs_RCTHW.shape
    radius = min(height, width) // 20
    offset_W = torch.arange(-radius, radius + 1, device=inputs_RCTHW.device, dtype=inputs_RCTHW.dtype)
    sigma_R1 = draws_RK[:, :1].to(inputs_RCTHW.dtype).clamp_min(1e-3)  # 0 where it is not to be done
    kernel_RW = torch.softmax(-(offset_W**2) / (2 * sigma_R1**2), dim=1)
    planes = inputs_RCTHW.flatten(1, 2).transpose(0, 1)  # (C T, R, H, W): a kernel a rendering
    padded = F.pad(planes, (radius,) * 4, mode="reflect")
    padded = F.conv2d(padded, kernel_RW[:, None, :, None], groups=renderings)
    padded = F.conv2d(padded, kernel_RW[:, None, None, :], groups=renderings)
    return padded.transpose(0, 1).reshape(renderings, channels, frames, height, width)
