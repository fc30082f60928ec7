"""Resizing, crops and flips of whole clips, equal for all frames; applied in the worker.

Shapes: T time, H W pixels, C channels.
"""

import math

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

AREAS, ASPECTS = (0.08, 1.0), (3 / 4, 4 / 3)
"""Multi-scale crop: range of the crop's fraction of the frame's area, and of its aspect ratio (width / height)."""


def resized(frames_THWC: Tensor, height: int, width: int) -> Tensor:
    """Resize every frame, antialiased, ignoring the aspect ratio: (T, height, width, C) of the same dtype."""
    if tuple(frames_THWC.shape[1:3]) == (height, width):
        return frames_THWC
    size = (height, width)
    found = F.interpolate(frames_THWC.permute(0, 3, 1, 2), size=size, mode="bilinear", antialias=True)
    return found.permute(0, 2, 3, 1)


def short_side_resized(frames_THWC: Tensor, side: int) -> Tensor:
    """Resize every frame so that its shorter side has `side` pixels, keeping the aspect ratio."""
    height, width = frames_THWC.shape[1:3]
    shorter = min(height, width)
    return resized(frames_THWC, *(max(side, round(size * side / shorter)) for size in (height, width)))


def random_crop(images_THWC: Tensor, side: int, generator: np.random.Generator) -> Tensor:
    """Random square crop, equal for all frames."""
    top, left = (int(generator.integers(size - side + 1)) for size in images_THWC.shape[1:3])
    return images_THWC[:, top : top + side, left : left + side].contiguous()


def centre_crop(images_THWC: Tensor, side: int) -> Tensor:
    """Square center crop."""
    top, left = ((size - side) // 2 for size in images_THWC.shape[1:3])
    return images_THWC[:, top : top + side, left : left + side].contiguous()


def multi_scale_crop(
    frames_THWC: Tensor, side: int, generator: np.random.Generator, *, least_area: float = AREAS[0]
) -> Tensor:
    """Random crop of random area and aspect ratio, equal for all frames, resized to a square (CrissCross).

    The area is uniform from `least_area` to 1 of the frame's, the aspect ratio log-uniform in `ASPECTS`; a crop that does not
    fit is clipped to the frame.
    """
    height, width = frames_THWC.shape[1:3]
    area = height * width * generator.uniform(least_area, AREAS[1])
    aspect = math.exp(generator.uniform(math.log(ASPECTS[0]), math.log(ASPECTS[1])))
    tall = min(height, max(1, round(math.sqrt(area / aspect))))
    wide = min(width, max(1, round(math.sqrt(area * aspect))))
    top, left = int(generator.integers(height - tall + 1)), int(generator.integers(width - wide + 1))
    return resized(frames_THWC[:, top : top + tall, left : left + wide], side, side).contiguous()


def random_flip(frames_THWC: Tensor, generator: np.random.Generator) -> Tensor:
    """Flip all frames horizontally with probability 0.5."""
    return torch.flip(frames_THWC, dims=(2,)) if generator.random() < 0.5 else frames_THWC
