"""C3D: eight 3-D convolutions, each with bias and batch norm, and four max-pooling layers.

Shape suffixes: B samples, C channels, T frames, H and W pixels, D feature channels. With 3-channel 16 x 112 x 112 input and
width 64 the stages give 64x16x112x112, 128x16x56x56, 256x8x28x28, 512x4x14x14 and 512x2x7x7: 27 661 440 parameters, 77.0 GFLOP
a sample. It needs at least 8 frames of 16 x 16 pixels, because pooling layers halve the time three times, and space four times.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from . import PaddedConv3d, Trunk

LEAST_FRAMES, LEAST_SIDE = 8, 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Options of C3D."""

    width: int = 64
    """Channels after the first convolution; the pooled feature has 8 times as many (64 in the paper: 512)."""
    channels: int = 3
    """Input channels: 3 for RGB or a repeated mel-spectrogram, 1 for a mel-spectrogram."""

    def __post_init__(self) -> None:
        """Raise ValueError for an invalid network."""
        if self.width < 1 or self.channels < 1:
            raise ValueError(f"c3d: width {self.width} and channels {self.channels} must be at least 1")


def build(settings: Settings) -> "C3D":
    """Build an untrained encoder."""
    return C3D(settings)


class C3D(Trunk):
    """Plain 3-D network; its features are non-negative, because pooling follows a ReLU."""

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        width = settings.width
        self.dim = 8 * width
        self.conv1 = _stage(settings.channels, width)
        self.conv2 = nn.Sequential(nn.MaxPool3d((1, 2, 2)), *_stage(width, 2 * width))
        self.conv3 = nn.Sequential(nn.MaxPool3d(2), *_stage(2 * width, 4 * width, 4 * width))
        self.conv4 = nn.Sequential(nn.MaxPool3d(2), *_stage(4 * width, 8 * width, 8 * width))
        self.conv5 = nn.Sequential(nn.MaxPool3d(2), *_stage(8 * width, 8 * width, 8 * width))

    def maps(self, inputs_BCTHW: Tensor, layers: Sequence[str]) -> dict[str, Tensor]:
        """Maps of these layers, like `Trunk`; raises ValueError for fewer than 8 frames of 16 x 16 pixels."""
        time, *sides = inputs_BCTHW.shape[2:]
        if time < LEAST_FRAMES or min(sides) < LEAST_SIDE:
            raise ValueError(
                f"c3d needs {LEAST_FRAMES} frames of {LEAST_SIDE} x {LEAST_SIDE} pixels, got {time} of "
                f"{' x '.join(map(str, sides))}: use r3d"
            )
        return super().maps(inputs_BCTHW, layers)


def _stage(*widths: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for inputs, outputs in itertools.pairwise(widths):
        layers += [PaddedConv3d(inputs, outputs, 3, padding=1), nn.BatchNorm3d(outputs), nn.ReLU()]
    return nn.Sequential(*layers)
