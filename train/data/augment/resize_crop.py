"""Random resize crop of a mel-spectrogram (BYOL-A): crop a padded spectrogram and resize it to its original size.

The spectrogram is centered on a canvas of zeros 1.5 times as long; the crop is 0.6 to 1.5 times as high and as long as the
spectrogram, at most the canvas. In BYOL-A's code, and in clip_and_log_mel, the spectrogram is standardized, so zero is its
mean; in clip_and_mel it is in [0, 1], and zero is silence. BYOL-A's bicubic interpolation aligns the centers of corner pixels
(`align_corners`), ours their edges.
"""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

MODALITY, PROBABILITY, DRAWS = "audio", 1.0, 4
CANVAS = (1.0, 1.5)
"""Size of the padded canvas relative to the spectrogram's bands and columns."""
SCALES = (0.6, 1.5)


def draw(generator: np.random.Generator) -> Sequence[float]:
    """Draw height, length and position of the crop (0: first, 1: last)."""
    return [generator.uniform(*SCALES), generator.uniform(*SCALES), generator.random(), generator.random()]


def apply(inputs_RHW: Tensor, draws_RK: Tensor) -> Tensor:
    """Resize bicubically, which may slightly exceed the range of the input."""
    size = inputs_RHW.shape[1:]
    high, long = (int(side * scale) for side, scale in zip(size, CANVAS, strict=True))
    top, left = (high - size[0]) // 2, (long - size[1]) // 2
    canvas = F.pad(inputs_RHW, (left, long - size[1] - left, top, high - size[0] - top))
    made = []
    for image, (height, width, row, column) in zip(canvas, draws_RK.tolist(), strict=True):
        rows, columns = (
            max(1, min(whole, int(side * scale)))
            for whole, side, scale in ((high, size[0], height), (long, size[1], width))
        )
        first, begin = (
            int(place * (whole - part + 1)) for place, whole, part in ((row, high, rows), (column, long, columns))
        )
        piece = image[None, None, first : first + rows, begin : begin + columns]
        made.append(F.interpolate(piece, size=size, mode="bicubic", align_corners=False)[0, 0])
    return torch.stack(made)
