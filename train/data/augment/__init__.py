"""Augmentations, one module each: parameters are drawn in the worker, and applied on the device.

A module has `MODALITY`, `PROBABILITY`, `DRAWS`, `draw(generator)` and `apply(inputs, draws_RK)`; its file name is its name in a
view's options. Parameters follow CrissCross (arXiv 2111.05329, and its code). All frames of a clip are changed alike.

Shape suffixes: R renderings (views of all samples), K random numbers, C channels, T time, H and W pixels; for mel-spectrograms
H is bands and W is time.
"""

import functools
from collections.abc import Sequence
from typing import Protocol, cast

import numpy as np
import torch
from torch import Tensor

from kinetics_sounds import plugins

from .. import clips
from ..clips import WORKER_AUGMENT


class Augmentation(Protocol):
    """Interface of a module of this package."""

    MODALITY: str
    """video: float (R, C, T, H, W) in [0, 1]. audio: a mel-spectrogram, float (R, H, W), in [0, 1] or standardized; 0 is
    silence, or the mean."""
    PROBABILITY: float
    """Probability of applying it."""
    DRAWS: int
    """Number of random values per rendering."""

    def draw(self, generator: np.random.Generator) -> Sequence[float]:
        """Draw the random values of one rendering."""
        ...

    def apply(self, inputs: Tensor, draws_RK: Tensor) -> Tensor:
        """Apply to all renderings, each with its own random values."""
        ...


@functools.cache
def find(text: str, *, modality: str) -> tuple[Augmentation, ...]:
    """Parse a comma-separated list of augmentations; raise ValueError for a name that the modality does not have."""
    there = {name: cast("Augmentation", plugins.load(__name__, name)) for name in plugins.names(__name__)}
    own = [name for name, each in there.items() if modality == each.MODALITY]
    valid = sorted([*own, *(WORKER_AUGMENT if modality == "video" else ())])
    words = clips.words(text)
    for word in words:
        if word not in there:
            raise ValueError(
                f"unknown {modality} augmentation {word!r}; available: {', '.join(valid)}{plugins.nearest(word, valid)}"
            )
        if word not in own:
            raise ValueError(
                f"{word} is an augmentation of {there[word].MODALITY}, not of {modality}; available: {', '.join(valid)}"
            )
    return tuple(there[word] for word in words)


def draws_width(chosen: Sequence[Augmentation]) -> int:
    """Random values K per rendering: for each augmentation, whether to apply it, and its own values."""
    return sum(1 + each.DRAWS for each in chosen)


def draw_all(chosen: Sequence[Augmentation], generator: np.random.Generator) -> Tensor:
    """Draw all random values of one rendering: float32 (K,). Zeros mean no change."""
    numbers: list[float] = []
    for each in chosen:
        numbers += [float(generator.random() < each.PROBABILITY), *each.draw(generator)]
    return torch.tensor(numbers, dtype=torch.float32)


def apply_all(
    chosen: Sequence[Augmentation], inputs: Tensor, draws_RK: Tensor, *, within: tuple[float, float] | None = None
) -> Tensor:
    """Apply the augmentations in order to renderings (R, ...), each where drawn; clamp results to `within`."""
    first = 0
    for each in chosen:
        done_R, own_RK = draws_RK[:, first] > 0, draws_RK[:, first + 1 : first + 1 + each.DRAWS]
        changed = each.apply(inputs, own_RK)
        if within is not None:
            changed = changed.clamp(*within)
        inputs = torch.where(done_R.view(-1, *[1] * (inputs.ndim - 1)), changed, inputs)
        first += 1 + each.DRAWS
    return inputs


def square(inputs_RCTHW: Tensor, draws_RK: Tensor) -> Tensor:
    """Mask of a square, from its drawn side in pixels and position in [0, 1]: bool (R, 1, 1, H, W)."""
    covers = []
    for axis, place_R in ((3, draws_RK[:, 1]), (4, draws_RK[:, 2])):
        size = inputs_RCTHW.shape[axis]
        side_R = draws_RK[:, 0].clamp(max=size)
        first_R1 = torch.floor(place_R * (size - side_R + 1)).clamp(max=size - 1)[:, None]
        pixel_S = torch.arange(size, device=inputs_RCTHW.device)
        covers.append((pixel_S >= first_R1) & (pixel_S < first_R1 + side_R[:, None]))
    return (covers[0][:, :, None] & covers[1][:, None, :])[:, None, None]


def draw_square(generator: np.random.Generator) -> Sequence[float]:
    """Draw the square of CrissCross's cutout: side of 1 to 20 pixels, and position (0: first, 1: last)."""
    return [float(generator.integers(1, 21)), generator.random(), generator.random()]
