"""Gaussian blur with a kernel of 2 * floor(side / 20) + 1 pixels (11 at 112) and sigma from 0.1 to 2."""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

MODALITY, PROBABILITY, DRAWS = "video", 0.5, 1


def draw(generator: np.random.Generator) -> Sequence[float]:
    """Draw sigma in pixels."""
    return [generator.uniform(0.1, 2)]


def apply(inputs_RCTHW: Tensor, draws_RK: Tensor) -> Tensor:
    """Blur rows, then columns, with reflect padding.

    Computed as a sum of shifted images, because cuDNN computes float32 convolutions in TF32, off by a tenth of a gray level.
    """
    height, width = inputs_RCTHW.shape[3:]
    radius = min(height, width) // 20
    offset_W = torch.arange(-radius, radius + 1, device=inputs_RCTHW.device, dtype=inputs_RCTHW.dtype)
    sigma_R1 = draws_RK[:, :1].to(inputs_RCTHW.dtype).clamp_min(1e-3)  # 0 if not to be applied
    kernel_RW = torch.softmax(-(offset_W**2) / (2 * sigma_R1**2), dim=1)
    found = F.pad(inputs_RCTHW.flatten(1, 2), (radius,) * 4, mode="reflect")
    for axis, size in ((2, height), (3, width)):
        shifted = (found.narrow(axis, offset, size) for offset in range(2 * radius + 1))
        weighed = zip(shifted, kernel_RW.T[:, :, None, None, None], strict=True)
        first, weight_R111 = next(weighed)
        blurred = first * weight_R111
        for each, weight_R111 in weighed:
            blurred.addcmul_(each, weight_R111)
        found = blurred
    return found.view(inputs_RCTHW.shape)
