"""AVID's R(2+1)D with 10, 18 or 34 layers (arXiv 2004.12943): a 3-D stem, then pairs of spatial and temporal convolutions.

Each pair has as many middle channels as outputs; they do not match the parameters of a 3-D convolution, as those of r2plus1d
do. CrissCross pretrains it with 18 layers and mean pooling. Shape suffixes: B samples, C channels, T frames, H and W pixels.
With 3-channel 8 x 224 x 224 input and width 64 the stages give 64x8x56x56, 64x8x56x56, 128x4x28x28, 256x2x14x14 and 512x1x7x7.
Parameters of depth 10, 18 and 34: 7 015 616, 15 379 136, 28 861 632.
"""

from dataclasses import dataclass
from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from . import PaddedConv3d, Pooling, Trunk, conv_over_space

BLOCKS = {10: (1, 1, 1, 1), 18: (2, 2, 2, 2), 34: (3, 4, 6, 3)}
"""Blocks of conv2 to conv5, by depth."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Options of AVID's R(2+1)D."""

    depth: Literal[10, 18, 34] = 18
    """Number of layers: 10 for AVID's small study (its paper says 9), 18 for its results."""
    width: int = 64
    """Channels after the stem; the pooled feature has 8 times as many (64 in the paper: 512)."""
    pool: Pooling = "max"
    """Global pooling: max (AVID) or mean (CrissCross)."""
    channels: int = 3
    """Input channels: 3 for RGB or a repeated mel-spectrogram, 1 for a mel-spectrogram."""

    def __post_init__(self) -> None:
        """Raise ValueError for an invalid network."""
        if self.depth not in BLOCKS:
            raise ValueError(f"avid_r2plus1d: depth {self.depth} must be 10, 18 or 34")
        if self.width < 1 or self.channels < 1:
            raise ValueError(f"avid_r2plus1d: width {self.width} and channels {self.channels} must be at least 1")


def build(settings: Settings) -> "AvidR2Plus1D":
    """Build an untrained encoder."""
    return AvidR2Plus1D(settings)


class AvidR2Plus1D(Trunk):
    """Residual (2+1)-D network; its features are non-negative, because pooling follows a ReLU."""

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        width, blocks = settings.width, BLOCKS[settings.depth]
        self.dim, self.pooling = 8 * width, settings.pool
        self.conv1 = nn.Sequential(
            PaddedConv3d(settings.channels, width, (3, 7, 7), stride=(1, 2, 2), padding=(1, 3, 3), bias=False),
            nn.BatchNorm3d(width),
            nn.ReLU(),
            nn.MaxPool3d((1, 3, 3), stride=(1, 2, 2), padding=(0, 1, 1)),
        )
        self.conv2 = _stage(width, width, blocks[0], stride=1)
        self.conv3 = _stage(width, 2 * width, blocks[1], stride=2)
        self.conv4 = _stage(2 * width, 4 * width, blocks[2], stride=2)
        self.conv5 = _stage(4 * width, 8 * width, blocks[3], stride=2)


class Block(nn.Module):
    """Residual block of two convolution pairs; the last batch norm and ReLU come after the sum."""

    def __init__(self, inputs: int, outputs: int, *, stride: int) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            conv_over_space(inputs, outputs, 3, stride=stride),
            nn.BatchNorm3d(outputs),
            nn.ReLU(),
            _conv_over_time(outputs, stride=stride),
            nn.BatchNorm3d(outputs),
            nn.ReLU(),
            conv_over_space(outputs, outputs, 3),
            nn.BatchNorm3d(outputs),
            nn.ReLU(),
            _conv_over_time(outputs, stride=1),
        )
        same = stride == 1 and inputs == outputs
        self.shortcut = nn.Identity() if same else nn.Conv3d(inputs, outputs, 1, stride=stride, bias=False)
        self.norm = nn.BatchNorm3d(outputs)

    def forward(self, maps_BCTHW: Tensor) -> Tensor:
        """Map (B, inputs, T, H, W) to (B, outputs, T / stride, H / stride, W / stride), rounded up."""
        return F.relu(self.norm(self.shortcut(maps_BCTHW) + self.residual(maps_BCTHW)))


def _stage(inputs: int, outputs: int, blocks: int, *, stride: int) -> nn.Sequential:
    rest = (Block(outputs, outputs, stride=1) for _ in range(blocks - 1))
    return nn.Sequential(Block(inputs, outputs, stride=stride), *rest)


def _conv_over_time(channels: int, *, stride: int) -> nn.Conv3d:
    return nn.Conv3d(channels, channels, (3, 1, 1), stride=(stride, 1, 1), padding=(1, 0, 0), bias=False)
