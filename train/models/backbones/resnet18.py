"""ResNet-18 without its classifier (arXiv 1512.03385): audio network of CrissCross, and of IICL here.

Shape suffixes: B samples, C channels, T time steps, H and W rows and columns of a spectrogram. Time steps are encoded
separately and pooled together, so one is enough. With 1-channel 1 x 224 x 224 input and width 64 the stages give 64x1x112x112,
64x1x56x56, 128x1x28x28, 256x1x14x14 and 512x1x7x7: 11 170 240 parameters.
"""

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from . import Trunk, conv_over_space, he_initialised


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Options of ResNet-18. One time step is enough (--clip_and_mel.audio_layout single)."""

    width: int = 64
    """Channels after the stem; the pooled feature has 8 times as many (64 in the paper: 512)."""
    channels: int = 3
    """Input channels. For the audio encoder, the view's audio_channels is used (CrissCross: 1)."""

    def __post_init__(self) -> None:
        """Raise ValueError for an invalid network."""
        if self.width < 1 or self.channels < 1:
            raise ValueError(f"resnet18: width {self.width} and channels {self.channels} must be at least 1")


def build(settings: Settings) -> "ResNet18":
    """Make an untrained encoder, initialised as torchvision's."""
    return he_initialised(ResNet18(settings))


class ResNet18(Trunk):
    """Residual 2-D network; its features are non-negative, because pooling follows a ReLU."""

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        width = settings.width
        self.dim = 8 * width
        stem = conv_over_space(settings.channels, width, 7, stride=2)
        self.conv1 = nn.Sequential(stem, nn.BatchNorm3d(width), nn.ReLU())
        halved = nn.MaxPool3d((1, 3, 3), stride=(1, 2, 2), padding=(0, 1, 1))
        self.conv2 = nn.Sequential(halved, *_stage(width, width, stride=1))
        self.conv3 = _stage(width, 2 * width, stride=2)
        self.conv4 = _stage(2 * width, 4 * width, stride=2)
        self.conv5 = _stage(4 * width, 8 * width, stride=2)


class Block(nn.Module):
    """Residual block of two 3x3 convolutions; the shortcut is the identity unless the shape changes."""

    def __init__(self, inputs: int, outputs: int, *, stride: int) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            conv_over_space(inputs, outputs, 3, stride=stride),
            nn.BatchNorm3d(outputs),
            nn.ReLU(),
            conv_over_space(outputs, outputs, 3),
            nn.BatchNorm3d(outputs),
        )
        same = stride == 1 and inputs == outputs
        self.shortcut = nn.Identity() if same else _projection(inputs, outputs, stride)

    def forward(self, maps_BCTHW: Tensor) -> Tensor:
        """Map (B, inputs, T, H, W) to (B, outputs, T, H / stride, W / stride), rounded up."""
        return F.relu(self.shortcut(maps_BCTHW) + self.residual(maps_BCTHW))


def _stage(inputs: int, outputs: int, *, stride: int) -> nn.Sequential:
    return nn.Sequential(Block(inputs, outputs, stride=stride), Block(outputs, outputs, stride=1))


def _projection(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    return nn.Sequential(conv_over_space(inputs, outputs, 1, stride=stride), nn.BatchNorm3d(outputs))
