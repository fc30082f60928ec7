"""Ways to learn, one file each: `Settings` and `build(settings, *, video, audio, data)`, which returns a `Method`."""

from collections.abc import Mapping
from typing import NamedTuple, Protocol

from torch import Tensor, nn


class Data(NamedTuple):
    """What a method may need to know of the training split."""

    classes: int
    samples: int


class Step(NamedTuple):
    """What a method says about one batch."""

    loss: Tensor
    """Scalar to minimise."""
    logs: dict[str, Tensor]
    """Detached scalars to plot, by name."""


class Method(Protocol):
    """An `nn.Module` that owns one encoder a modality and turns a batch into a loss."""

    video: nn.Module
    audio: nn.Module

    def forward(self, batch: Mapping[str, Tensor]) -> Step:
        """Take "video" and "audio", float (B, C, T, H, W) in [0, 1], and "label" and "number", int64 (B,), of this rank.

        The loss is that of all ranks' samples. In evaluation mode nothing of the method changes.
        """
        ...

    def __call__(self, batch: Mapping[str, Tensor]) -> Step:
        """Call `forward` through PyTorch's hooks."""
        ...
