"""Random resize crop of a mel-spectrogram (BYOL-A): a piece of it, with zeros around, is stretched to its size.

The spectrogram lies in the middle of a canvas of zeros that is half as long again; the piece is 0.6 to 1.5 times as high and as
long as the spectrogram, and no larger than the canvas. In BYOL-A's code, and in clip_and_log_mel, the spectrogram is
standardised, so that zero is its mean; in clip_and_mel it is in [0, 1], and zero is silence. BYOL-A's bicubic aligns the centres
of the corner pixels (`align_corners`), ours their edges.
"""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

MODALITY, PROBABILITY, DRAWS = "audio", 1.0, 4
CANVAS = (1.0, 1.5)
"""Of the spectrogram's bands and columns."""
SCALES = (0.6, 1.5)


def draw(generator: np.random.Generator) -> Sequence[float]:
    """How high and long the piece is, and where it lies: 0 is the first place, 1 the last."""
    return [generator.uniform(*SCALES), generator.uniform(*SCALES), generator.random(), generator.random()]


def apply(inputs_RHW: Tensor, draws_RK: Tensor) -> Tensor:
    """Bicubic, which goes a little beyond the least and greatest value."""
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
