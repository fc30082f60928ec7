"""R3D with block sizes 1, 1, 1, 1: nine 3-D convolutions, the network of VCOP and TCGL that AVCL calls R3D.

Shape suffixes: B samples, C channels, T frames, H and W pixels, D feature channels. With 3-channel 16 x 112 x 112 input and
width 64 the stages give 64x16x56x56, 64x16x56x56, 128x8x28x28, 256x4x14x14 and 512x2x7x7: 14 361 792 parameters, 39.8 GFLOP a
sample.
"""

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from . import PaddedConv3d, Trunk


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Options of R3D."""

    width: int = 64
    """Channels after the stem; the pooled feature has 8 times as many (64 in the paper: 512)."""
    channels: int = 3
    """Input channels: 3 for RGB or a repeated mel-spectrogram, 1 for a mel-spectrogram."""

    def __post_init__(self) -> None:
        """Raise ValueError for an invalid network."""
        if self.width < 1 or self.channels < 1:
            raise ValueError(f"r3d: width {self.width} and channels {self.channels} must be at least 1")


def build(settings: Settings) -> "R3D":
    """Build an untrained encoder."""
    return R3D(settings)


class R3D(Trunk):
    """Residual 3-D network; its features are non-negative, because pooling follows a ReLU."""

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        width = settings.width
        self.dim = 8 * width
        stem = PaddedConv3d(settings.channels, width, (3, 7, 7), stride=(1, 2, 2), padding=(1, 3, 3), bias=False)
        self.conv1 = nn.Sequential(stem, nn.BatchNorm3d(width), nn.ReLU())
        self.conv2 = Block(width, width, stride=1)
        self.conv3 = Block(width, 2 * width, stride=2)
        self.conv4 = Block(2 * width, 4 * width, stride=2)
        self.conv5 = Block(4 * width, 8 * width, stride=2)


class Block(nn.Module):
    """Residual block of two 3x3x3 convolutions; the shortcut is the identity unless the shape changes."""

    def __init__(self, inputs: int, outputs: int, *, stride: int) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            nn.Conv3d(inputs, outputs, 3, stride=stride, padding=1, bias=False),
            nn.BatchNorm3d(outputs),
            nn.ReLU(),
            nn.Conv3d(outputs, outputs, 3, padding=1, bias=False),
            nn.BatchNorm3d(outputs),
        )
        self.shortcut = nn.Identity() if stride == 1 and inputs == outputs else _projection(inputs, outputs, stride)

    def forward(self, maps_BCTHW: Tensor) -> Tensor:
        """Map (B, inputs, T, H, W) to (B, outputs, T / stride, H / stride, W / stride), rounded up."""
        return F.relu(self.shortcut(maps_BCTHW) + self.residual(maps_BCTHW))


def _projection(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv3d(inputs, outputs, 1, stride=stride, bias=False), nn.BatchNorm3d(outputs))
