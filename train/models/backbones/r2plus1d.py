"""R(2+1)D with block sizes 1, 1, 1, 1: R3D with every 3-D convolution split into a spatial and a temporal one.

Shape suffixes: B samples, C channels, T frames, H and W pixels, D feature channels. The channels between the two are chosen to
match the parameters of the 3-D convolution. With 3-channel 16 x 112 x 112 input and width 64: 14 365 303 parameters, 42.7 GFLOP
a sample.
"""

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from . import PaddedConv3d, Trunk, middle_channels


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Options of R(2+1)D."""

    width: int = 64
    """Channels after the stem; the pooled feature has 8 times as many (64 in the paper: 512)."""
    channels: int = 3
    """Input channels: 3 for RGB or a repeated mel-spectrogram, 1 for a mel-spectrogram."""

    def __post_init__(self) -> None:
        """Raise ValueError for an invalid network."""
        if self.width < 1 or self.channels < 1:
            raise ValueError(f"r2plus1d: width {self.width} and channels {self.channels} must be at least 1")


def build(settings: Settings) -> "R2Plus1D":
    """Build an untrained encoder."""
    return R2Plus1D(settings)


class R2Plus1D(Trunk):
    """Residual (2+1)-D network; its features are non-negative, because pooling follows a ReLU."""

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        width = settings.width
        self.dim = 8 * width
        stem = _split(settings.channels, width, time=3, space=7, stride=(1, 2))
        self.conv1 = nn.Sequential(stem, nn.BatchNorm3d(width), nn.ReLU())
        self.conv2 = Block(width, width, stride=1)
        self.conv3 = Block(width, 2 * width, stride=2)
        self.conv4 = Block(2 * width, 4 * width, stride=2)
        self.conv5 = Block(4 * width, 8 * width, stride=2)


class Block(nn.Module):
    """Residual block of two split 3x3x3 convolutions; the shortcut is the identity unless the shape changes."""

    def __init__(self, inputs: int, outputs: int, *, stride: int) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            _split(inputs, outputs, time=3, space=3, stride=(stride, stride)),
            nn.BatchNorm3d(outputs),
            nn.ReLU(),
            _split(outputs, outputs, time=3, space=3, stride=(1, 1)),
            nn.BatchNorm3d(outputs),
        )
        self.shortcut = nn.Identity() if stride == 1 and inputs == outputs else _projection(inputs, outputs, stride)

    def forward(self, maps_BCTHW: Tensor) -> Tensor:
        """Map (B, inputs, T, H, W) to (B, outputs, T / stride, H / stride, W / stride), rounded up."""
        return F.relu(self.shortcut(maps_BCTHW) + self.residual(maps_BCTHW))


def _projection(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    split = _split(inputs, outputs, time=1, space=1, stride=(stride, stride))
    return nn.Sequential(split, nn.BatchNorm3d(outputs))


def _split(inputs: int, outputs: int, *, time: int, space: int, stride: tuple[int, int]) -> nn.Sequential:
    """Spatial convolution, batch norm, ReLU, temporal convolution; `stride` is (time, space)."""
    over_time, over_space = stride
    middle = middle_channels(inputs, outputs, time=time, space=space)
    return nn.Sequential(
        PaddedConv3d(
            inputs,
            middle,
            (1, space, space),
            stride=(1, over_space, over_space),
            padding=(0, space // 2, space // 2),
            bias=False,
        ),
        nn.BatchNorm3d(middle),
        nn.ReLU(),
        PaddedConv3d(middle, outputs, (time, 1, 1), stride=(over_time, 1, 1), padding=(time // 2, 0, 0), bias=False),
    )
