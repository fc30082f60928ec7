"""Encoders, one file each: `Settings` and `build(settings)`, which returns an `nn.Module` that is a `Backbone`."""

import copy
from typing import Protocol, TypeVar, runtime_checkable

from torch import Tensor, nn

Encoder = TypeVar("Encoder", bound=nn.Module)


@runtime_checkable
class Backbone(Protocol):
    """Turns (B, C, T, H, W) into pooled features (B, dim)."""

    dim: int

    def __call__(self, video_BCTHW: Tensor, /) -> Tensor:
        """Encode a batch."""
        ...


@runtime_checkable
class Staged(Backbone, Protocol):
    """A backbone that also tells what its earlier stages see."""

    def stages(self, video_BCTHW: Tensor, /) -> dict[str, Tensor]:
        """In one pass, the means over time and space of "conv3", "conv4" and "conv5" (B, channels); a call returns the last."""
        ...


def pooled_stages(encoder: nn.Module, video_BCTHW: Tensor) -> dict[str, Tensor]:
    """What `Staged.stages` says, of an encoder whose stages are its children conv1 to conv5, one after another."""
    found: dict[str, Tensor] = {}
    maps_BCTHW = video_BCTHW
    for name in ("conv1", "conv2", "conv3", "conv4", "conv5"):
        maps_BCTHW = encoder.get_submodule(name)(maps_BCTHW)
        if name in ("conv3", "conv4", "conv5"):
            found[name] = maps_BCTHW.mean(dim=(2, 3, 4))
    return found


def tied_copy(encoder: Encoder) -> Encoder:
    """An encoder with the very same parameters (weight tying) and buffers of its own, which begin equal.

    So batch norms share their affine parameters, and each keeps the running statistics of what it is given itself: one
    set for inputs of two kinds would normalise both, in evaluation, by a mixture that neither ever had.
    """
    return copy.deepcopy(encoder, {id(each): each for each in encoder.parameters()})


def feature_width(encoder: nn.Module) -> int:
    """Channels of an encoder's pooled feature; raises ValueError when the encoder does not declare `dim`."""
    if not isinstance(encoder, Backbone):
        raise ValueError(f"{type(encoder).__name__} is no backbone: set its attribute dim to the width of its output")
    return encoder.dim
