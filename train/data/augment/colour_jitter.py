"""Color jitter: brightness, contrast and saturation by up to 40 %, hue by up to 0.2 of the circle, in random order."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

MODALITY, PROBABILITY, DRAWS = "video", 1.0, 8
STRENGTH, HUE = 0.4, 0.2
STEPS = 4


def draw(generator: np.random.Generator) -> Sequence[float]:
    """Draw factors of brightness, contrast and saturation, the hue shift in turns, and the order."""
    factors = generator.uniform(1 - STRENGTH, 1 + STRENGTH, size=3)
    return [*factors, generator.uniform(-HUE, HUE), *map(float, generator.permutation(STEPS))]


def apply(inputs_RCTHW: Tensor, draws_RK: Tensor) -> Tensor:
    """Apply like Pillow's enhancers, but without rounding to 256 levels; contrast is about the mean luma of each frame."""
    steps: tuple[Callable[[Tensor, Tensor], Tensor], ...] = (_brightness, _contrast, _saturation, _hue)
    for place in range(STEPS):
        which_R = draws_RK[:, STEPS + place]
        changed = inputs_RCTHW
        for number, step in enumerate(steps):
            rows = torch.nonzero(which_R == number)[:, 0]
            if len(rows):
                amount = draws_RK[rows, number].view(-1, 1, 1, 1, 1).to(inputs_RCTHW.dtype)
                changed = changed.index_copy(0, rows, step(inputs_RCTHW[rows], amount))
        inputs_RCTHW = changed
    return inputs_RCTHW


def _brightness(inputs_RCTHW: Tensor, factor: Tensor) -> Tensor:
    return (inputs_RCTHW * factor).clamp(0, 1)


def _contrast(inputs_RCTHW: Tensor, factor: Tensor) -> Tensor:
    mean = _luma(inputs_RCTHW).mean(dim=(3, 4), keepdim=True)
    return (mean + factor * (inputs_RCTHW - mean)).clamp(0, 1)


def _saturation(inputs_RCTHW: Tensor, factor: Tensor) -> Tensor:
    grey = _luma(inputs_RCTHW)
    return (grey + factor * (inputs_RCTHW - grey)).clamp(0, 1)


def _hue(inputs_RCTHW: Tensor, turn: Tensor) -> Tensor:
    """Shift the hue by a fraction of the circle, keeping value and saturation."""
    value, _ = inputs_RCTHW.max(dim=1, keepdim=True)
    chroma = value - inputs_RCTHW.amin(dim=1, keepdim=True)
    red, green, blue = torch.split(inputs_RCTHW, 1, dim=1)
    safe = torch.where(chroma > 0, chroma, 1)
    hue = torch.where(
        value == red,
        (green - blue) / safe,
        torch.where(value == green, 2 + (blue - red) / safe, 4 + (red - green) / safe),
    )
    sixths = torch.remainder(hue + 6 * turn, 6)
    return torch.cat([value - chroma * _ramp(sixths, shift) for shift in (5, 3, 1)], dim=1)


def _ramp(sixths: Tensor, shift: int) -> Tensor:
    """Fraction of the chroma that red (5), green (3) or blue (1) lacks at a hue in sixths of the circle: 0 to 1."""
    place = torch.remainder(sixths + shift, 6)
    return torch.minimum(place, 4 - place).clamp(0, 1)


def _luma(inputs_RCTHW: Tensor) -> Tensor:
    red, green, blue = torch.split(inputs_RCTHW, 1, dim=1)
    return 0.299 * red + 0.587 * green + 0.114 * blue
