"""The networks of AVID and CrissCross under their authors' names of layers, stated again from the papers and tables."""

import itertools
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def spatial(inputs: int, outputs: int, stride: int = 1) -> nn.Conv3d:
    return nn.Conv3d(inputs, outputs, (1, 3, 3), (1, stride, stride), (0, 1, 1), bias=False)


def temporal(channels: int, stride: int = 1) -> nn.Conv3d:
    return nn.Conv3d(channels, channels, (3, 1, 1), (stride, 1, 1), (1, 0, 0), bias=False)


class Residual(nn.Module):
    """A block of AVID's R(2+1)D."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.spt_conv1, self.tmp_conv1 = spatial(inputs, outputs, stride), temporal(outputs, stride)
        self.spt_conv2, self.tmp_conv2 = spatial(outputs, outputs), temporal(outputs)
        for name in ("spt_bn1", "tmp_bn1", "spt_bn2", "out_bn"):
            self.add_module(name, nn.BatchNorm3d(outputs))
        self.res_conv = nn.Conv3d(inputs, outputs, 1, stride, bias=False) if stride > 1 else None

    def forward(self, x: Tensor) -> Tensor:
        net: Any = self
        y = F.relu(net.spt_bn1(net.spt_conv1(x)))
        y = F.relu(net.tmp_bn1(net.tmp_conv1(y)))
        y = net.tmp_conv2(F.relu(net.spt_bn2(net.spt_conv2(y))))
        return F.relu(net.out_bn(y + (x if net.res_conv is None else net.res_conv(x))))


class Video(nn.Module):
    """R(2+1)D of 18 layers."""

    def __init__(self, width: int, *, largest: bool) -> None:
        super().__init__()
        self.largest = largest
        stem = nn.Conv3d(3, width, (3, 7, 7), (1, 2, 2), (1, 3, 3), bias=False)
        self.conv1 = nn.Sequential(
            stem, nn.BatchNorm3d(width), nn.ReLU(), nn.MaxPool3d((1, 3, 3), (1, 2, 2), (0, 1, 1))
        )
        for number, (before, after) in enumerate([(1, 1), (1, 2), (2, 4), (4, 8)], start=2):
            first = Residual(before * width, after * width, 1 if number == 2 else 2)
            self.add_module(f"conv{number}x", nn.Sequential(first, Residual(after * width, after * width, 1)))

    def forward(self, x: Tensor) -> Tensor:
        for each in self.children():
            x = each(x)
        pooled = F.adaptive_max_pool3d(x, 1) if self.largest else F.adaptive_avg_pool3d(x, 1)
        return pooled.flatten(1)


class Plain(nn.Module):
    """Two convolutions, with a shortcut in ResNet-18."""

    def __init__(self, inputs: int, outputs: int, stride: int, *, residual: bool) -> None:
        super().__init__()
        self.residual = residual
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        if residual and stride > 1:
            self.downsample = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        shortcut = self.downsample(x) if hasattr(self, "downsample") else x
        return F.relu(y + shortcut if self.residual else y)


class AvidAudio(nn.Module):
    """Nine plain 2-D convolutions."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Sequential(nn.Conv2d(1, width, 7, 2, 3, bias=False), nn.BatchNorm2d(width), nn.ReLU())
        for number, (before, after, stride) in enumerate([(1, 1, 2), (1, 2, 2), (2, 4, 2), (4, 8, 1)], start=1):
            self.add_module(f"block{number}", Plain(before * width, after * width, stride, residual=False))

    def forward(self, x: Tensor) -> Tensor:
        for each in self.children():
            x = each(x)
        return F.adaptive_max_pool2d(x, 1).flatten(1)


class CrissCrossAudio(nn.Module):
    """ResNet-18 of one channel, its pooling at the end of the stem."""

    def __init__(self, width: int) -> None:
        super().__init__()
        stem = nn.Conv2d(1, width, 7, 2, 3, bias=False)
        self.conv1 = nn.Sequential(stem, nn.BatchNorm2d(width), nn.ReLU(), nn.MaxPool2d(3, 2, 1))
        for number, (before, after) in enumerate([(1, 1), (1, 2), (2, 4), (4, 8)], start=1):
            first = Plain(before * width, after * width, 1 if number == 1 else 2, residual=True)
            self.add_module(
                f"block{number}", nn.Sequential(first, Plain(after * width, after * width, 1, residual=True))
            )

    def forward(self, x: Tensor) -> Tensor:
        for each in self.children():
            x = each(x)
        return F.adaptive_avg_pool2d(x, 1).flatten(1)


class Head(nn.Module):
    """AVID's head."""

    def __init__(self, *widths: int) -> None:
        super().__init__()
        first, second, third = (nn.Linear(*pair) for pair in itertools.pairwise(widths))
        self.projection = nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), third)

    def forward(self, x: Tensor) -> Tensor:
        embedding: Tensor = self.projection(x)
        return embedding


class Avid(nn.Module):
    """Both networks with their heads."""

    def __init__(self, width: int = 4, hidden: int = 6, dim: int = 5) -> None:
        super().__init__()
        self.video_model, self.audio_model = Video(width, largest=True), AvidAudio(width)
        self.video_proj, self.audio_proj = (Head(8 * width, hidden, hidden, dim) for _ in range(2))


class CrissCross(nn.Module):
    """Both networks with the first layer of what stands on them, and each a second time in an encoder."""

    def __init__(self, width: int = 4) -> None:
        super().__init__()
        self.video_backbone, self.audio_backbone = Video(width, largest=False), CrissCrossAudio(width)
        self.video_projector = nn.Sequential(nn.Linear(8 * width, 3))
        self.video_encoder = nn.Sequential(self.video_backbone, nn.Flatten(), self.video_projector)


def with_numbers(network: nn.Module, seed: int = 1) -> nn.Module:
    """The network with random parameters, running means and variances, in evaluation mode."""
    generator = torch.Generator().manual_seed(seed)
    for name, value in network.state_dict().items():
        if name.endswith("running_var"):
            value.copy_(torch.rand(value.shape, generator=generator) + 0.5)
        elif value.is_floating_point():
            value.copy_(torch.randn(value.shape, generator=generator) / max(1, value[0].numel()) ** 0.5 + 0.1)
        else:
            value.fill_(7)
    return network.eval()
