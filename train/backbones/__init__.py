"""Encoders, one file each: `Settings` and `build(settings)`, which returns an `nn.Module` that is a `Backbone`."""

from typing import Protocol, runtime_checkable

from torch import Tensor, nn


@runtime_checkable
class Backbone(Protocol):
    """Turns (B, C, T, H, W) into pooled features (B, dim)."""

    dim: int

    def __call__(self, video_BCTHW: Tensor, /) -> Tensor:
        """Encode a batch."""
        ...


def feature_width(encoder: nn.Module) -> int:
    """Channels of an encoder's pooled feature; raises ValueError when the encoder does not declare `dim`."""
    if not isinstance(encoder, Backbone):
        raise ValueError(f"{type(encoder).__name__} is no backbone: set its attribute dim to the width of its output")
    return encoder.dim
