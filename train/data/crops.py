"""Which part of a picture is seen: on whole clips, so that every frame is treated alike; in a worker.

Shapes: T time, H W pixels, C channels.
"""

import math

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

AREAS, ASPECTS = (0.08, 1.0), (3 / 4, 4 / 3)
"""Of a multi-scale crop: shares of the frame's area, and width over height."""


def resized(frames_THWC: Tensor, height: int, width: int) -> Tensor:
    """Every frame squashed to the same size, antialiased: (T, height, width, C) of the same type."""
    if tuple(frames_THWC.shape[1:3]) == (height, width):
        return frames_THWC
    size = (height, width)
    found = F.interpolate(frames_THWC.permute(0, 3, 1, 2), size=size, mode="bilinear", antialias=True)
    return found.permute(0, 2, 3, 1)


def short_side_resized(frames_THWC: Tensor, side: int) -> Tensor:
    """Every frame so large that its shorter side has `side` pixels; its aspect is kept, to a pixel."""
    height, width = frames_THWC.shape[1:3]
    shorter = min(height, width)
    return resized(frames_THWC, *(max(side, round(size * side / shorter)) for size in (height, width)))


def random_crop(images_THWC: Tensor, side: int, generator: np.random.Generator) -> Tensor:
    """The same square of every image; drawn once, so that a still clip stays still."""
    top, left = (int(generator.integers(size - side + 1)) for size in images_THWC.shape[1:3])
    return images_THWC[:, top : top + side, left : left + side].contiguous()


def centre_crop(images_THWC: Tensor, side: int) -> Tensor:
    """The square in the middle of every image."""
    top, left = ((size - side) // 2 for size in images_THWC.shape[1:3])
    return images_THWC[:, top : top + side, left : left + side].contiguous()


def multi_scale_crop(
    frames_THWC: Tensor, side: int, generator: np.random.Generator, *, least_area: float = AREAS[0]
) -> Tensor:
    """A random part of a random shape, the same of every frame, squashed to a square (CrissCross, "multi-scale crop").

    Its area is uniform from `least_area` to 1 of the frame's, and its aspect log-uniform in `ASPECTS`; one that does not fit is
    as large as does.
    """
    height, width = frames_THWC.shape[1:3]
    area = height * width * generator.uniform(least_area, AREAS[1])
    aspect = math.exp(generator.uniform(math.log(ASPECTS[0]), math.log(ASPECTS[1])))
    tall = min(height, max(1, round(math.sqrt(area / aspect))))
    wide = min(width, max(1, round(math.sqrt(area * aspect))))
    top, left = int(generator.integers(height - tall + 1)), int(generator.integers(width - wide + 1))
    return resized(frames_THWC[:, top : top + tall, left : left + wide], side, side).contiguous()


def random_flip(frames_THWC: Tensor, generator: np.random.Generator) -> Tensor:
    """Left and right exchanged in every frame, or in none, each half of the time."""
    return torch.flip(frames_THWC, dims=(2,)) if generator.random() < 0.5 else frames_THWC
