"""AVID's audio network: nine 2-D convolutions on a spectrogram (arXiv 2004.12943), each with batch norm and ReLU.

Shape suffixes: B samples, C channels, T time steps, H and W rows and columns of the spectrogram. Time steps are encoded
separately and pooled together, so one is enough. With 1-channel 1 x 200 x 257 input and width 64 the stages give 64x1x100x129,
64x1x50x65, 128x1x25x33, 256x1x13x17 and 512x1x13x17: 4 725 696 parameters.
"""

from dataclasses import dataclass

from torch import nn

from . import Pooling, Trunk, conv_over_space


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Options of AVID's audio network. One time step is enough (--clip_and_mel.audio_layout single)."""

    width: int = 64
    """Channels after the first convolution; the pooled feature has 8 times as many (64 in the paper: 512)."""
    pool: Pooling = "max"
    """Global pooling: max (AVID) or mean."""
    channels: int = 3
    """Input channels. For the audio encoder, the view's audio_channels is used (AVID: 1)."""

    def __post_init__(self) -> None:
        """Raise ValueError for an invalid network."""
        if self.width < 1 or self.channels < 1:
            raise ValueError(f"conv2d: width {self.width} and channels {self.channels} must be at least 1")


def build(settings: Settings) -> "Conv2D":
    """Build an untrained encoder."""
    return Conv2D(settings)


class Conv2D(Trunk):
    """Plain 2-D network; its features are non-negative, because pooling follows a ReLU."""

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        width = settings.width
        self.dim, self.pooling = 8 * width, settings.pool
        self.conv1 = nn.Sequential(*_layer(settings.channels, width, side=7, stride=2))
        self.conv2 = _stage(width, width, stride=2)
        self.conv3 = _stage(width, 2 * width, stride=2)
        self.conv4 = _stage(2 * width, 4 * width, stride=2)
        self.conv5 = _stage(4 * width, 8 * width, stride=1)


def _stage(inputs: int, outputs: int, *, stride: int) -> nn.Sequential:
    return nn.Sequential(*_layer(inputs, outputs, stride=stride), *_layer(outputs, outputs))


def _layer(inputs: int, outputs: int, *, side: int = 3, stride: int = 1) -> tuple[nn.Module, ...]:
    return conv_over_space(inputs, outputs, side, stride=stride), nn.BatchNorm3d(outputs), nn.ReLU()
