"""R(2+1)D with 18 layers (arXiv 1711.11248) as in torchvision: IICL's video network.

Every 3x3x3 convolution is split into a spatial and a temporal one, with batch norm and ReLU in between; both pairs of a block
have the middle channels that match the parameters of its first convolution. Shape suffixes: B samples, C channels, T frames, H
and W pixels. With 3-channel 32 x 128 x 128 input and width 64 the stages give 64x32x64x64, 64x32x64x64, 128x16x32x32,
256x8x16x16 and 512x4x8x8: 31 300 125 parameters.
"""

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from . import PaddedConv3d, Trunk, conv_over_space, he_initialised, middle_channels

STEM = 45 / 64
"""Middle channels of the stem as a fraction of its outputs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Options of R(2+1)D-18."""

    width: int = 64
    """Channels after the stem; the pooled feature has 8 times as many (64 in the paper: 512)."""
    channels: int = 3
    """Input channels: 3 for RGB or a repeated mel-spectrogram, 1 for a mel-spectrogram."""

    def __post_init__(self) -> None:
        """Raise ValueError for an invalid network."""
        if self.width < 1 or self.channels < 1:
            raise ValueError(f"r2plus1d_18: width {self.width} and channels {self.channels} must be at least 1")


def build(settings: Settings) -> "R2Plus1D18":
    """Make an untrained encoder, initialised as torchvision's."""
    return he_initialised(R2Plus1D18(settings))


class R2Plus1D18(Trunk):
    """Residual (2+1)-D network; its features are non-negative, because pooling follows a ReLU."""

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        width = settings.width
        self.dim = 8 * width
        middle = max(1, round(STEM * width))
        self.conv1 = nn.Sequential(
            conv_over_space(settings.channels, middle, 7, stride=2),
            nn.BatchNorm3d(middle),
            nn.ReLU(),
            _conv_over_time(middle, width, stride=1),
            nn.BatchNorm3d(width),
            nn.ReLU(),
        )
        self.conv2 = _stage(width, width, stride=1)
        self.conv3 = _stage(width, 2 * width, stride=2)
        self.conv4 = _stage(2 * width, 4 * width, stride=2)
        self.conv5 = _stage(4 * width, 8 * width, stride=2)


class Block(nn.Module):
    """Residual block of two convolution pairs; the shortcut is the identity unless the shape changes."""

    def __init__(self, inputs: int, outputs: int, *, stride: int) -> None:
        super().__init__()
        middle = middle_channels(inputs, outputs, time=3, space=3)
        self.residual = nn.Sequential(
            *_pair(inputs, middle, outputs, stride=stride),
            nn.ReLU(),
            *_pair(outputs, middle, outputs, stride=1),
        )
        same = stride == 1 and inputs == outputs
        self.shortcut = nn.Identity() if same else _projection(inputs, outputs, stride)

    def forward(self, maps_BCTHW: Tensor) -> Tensor:
        """Map (B, inputs, T, H, W) to (B, outputs, T / stride, H / stride, W / stride), rounded up."""
        return F.relu(self.shortcut(maps_BCTHW) + self.residual(maps_BCTHW))


def _stage(inputs: int, outputs: int, *, stride: int) -> nn.Sequential:
    return nn.Sequential(Block(inputs, outputs, stride=stride), Block(outputs, outputs, stride=1))


def _pair(inputs: int, middle: int, outputs: int, *, stride: int) -> tuple[nn.Module, ...]:
    """Spatial convolution, batch norm, ReLU, temporal convolution, batch norm."""
    return (
        conv_over_space(inputs, middle, 3, stride=stride),
        nn.BatchNorm3d(middle),
        nn.ReLU(),
        _conv_over_time(middle, outputs, stride=stride),
        nn.BatchNorm3d(outputs),
    )


def _conv_over_time(inputs: int, outputs: int, *, stride: int) -> nn.Conv3d:
    return PaddedConv3d(inputs, outputs, (3, 1, 1), stride=(stride, 1, 1), padding=(1, 0, 0), bias=False)


def _projection(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv3d(inputs, outputs, 1, stride=stride, bias=False), nn.BatchNorm3d(outputs))
