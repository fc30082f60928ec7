"""Encoders, one module each: `Settings` and `build(settings)`, which returns an `interface.Encoder`."""

import copy
from collections.abc import Sequence
from typing import Literal, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...interface import Encoder

Network = TypeVar("Network", bound=nn.Module)
Pooling = Literal["max", "mean"]
CHANNELS = 8
"""cuDNN's tensor-core convolutions in bfloat16 take input channels by this many."""


class Trunk(nn.Module):
    """A sequential encoder whose layers are its children conv1 to conv5."""

    dim: int
    layers: tuple[str, ...] = ("conv1", "conv2", "conv3", "conv4", "conv5")
    pooling: Pooling = "mean"

    def forward(self, inputs_BCTHW: Tensor) -> Tensor:
        """Encode (B, C, T, H, W) as the pooled maps of the last layer: (B, D)."""
        last = self.layers[-1]
        return self.pool(self.maps(inputs_BCTHW, (last,))[last])

    def maps(self, inputs_BCTHW: Tensor, layers: Sequence[str]) -> dict[str, Tensor]:
        """Maps of these layers in one pass, by name: (B, channels, T, H, W) each; raises KeyError for an unknown layer."""
        wanted, found = set(layers), dict[str, Tensor]()
        maps_BCTHW = inputs_BCTHW
        for name in self.layers:
            maps_BCTHW = self.get_submodule(name)(maps_BCTHW)
            if name in wanted:
                found[name] = maps_BCTHW
            if len(found) == len(wanted):
                break
        return {name: found[name] for name in layers}

    def pool(self, maps_BCTHW: Tensor) -> Tensor:
        """Mean, or maximum with `pooling` max, over time and space: (B, channels)."""
        return maps_BCTHW.amax(dim=(2, 3, 4)) if self.pooling == "max" else maps_BCTHW.mean(dim=(2, 3, 4))


class PaddedConv3d(nn.Conv3d):
    """3-D convolution whose input channels are padded with zeros to a multiple of 8 in bfloat16 on a GPU.

    cuDNN 9 convolves other numbers of channels without tensor cores: R3D's stem, of three, took a quarter of a whole step
    (benchmarks/gpu.md). Weights and results are those of nn.Conv3d.
    """

    def forward(self, inputs_BCTHW: Tensor) -> Tensor:
        """Convolve (B, C, T, H, W)."""
        device, odd = inputs_BCTHW.device.type, self.in_channels % CHANNELS
        if (
            odd
            and device == "cuda"
            and torch.is_autocast_enabled(device)
            and torch.get_autocast_dtype(device) is torch.bfloat16
        ):
            return self.padded(inputs_BCTHW)
        outputs_BCTHW: Tensor = super().forward(inputs_BCTHW)
        return outputs_BCTHW

    def padded(self, inputs_BCTHW: Tensor) -> Tensor:
        """Convolve with padded channels of inputs and weights, on any device."""
        channels = 0, 0, 0, 0, 0, 0, 0, -self.in_channels % CHANNELS
        outputs_BCTHW: Tensor = self._conv_forward(
            F.pad(inputs_BCTHW, channels), F.pad(self.weight, channels), self.bias
        )
        return outputs_BCTHW


def conv_over_space(inputs: int, outputs: int, side: int, *, stride: int = 1) -> nn.Conv3d:
    """Spatial convolution of each time step, side x side, without bias: (B, inputs, T, H, W) to (B, outputs, T, H, W).

    H and W are divided by the stride, rounded up.
    """
    return PaddedConv3d(
        inputs,
        outputs,
        (1, side, side),
        stride=(1, stride, stride),
        padding=(0, side // 2, side // 2),
        bias=False,
    )


def he_initialised(network: Network) -> Network:
    """Initialize a network's convolutions in place as torchvision's residual networks, and return it."""
    for module in network.modules():
        if isinstance(module, nn.Conv3d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return network


def middle_channels(inputs: int, outputs: int, *, time: int, space: int) -> int:
    """Channels between a (1, d, d) and a (t, 1, 1) convolution that match the parameters of a (t, d, d) one.

    The floor of t d^2 I O / (d^2 I + t O), at least 1, for I inputs, O outputs, t `time` and d `space`.
    """
    weights = time * space * space * inputs * outputs
    return max(1, weights // (space * space * inputs + time * outputs))


def tied_copy(encoder: Network) -> Network:
    """Copy an encoder with tied parameters and buffers of its own, initially equal.

    Batch norms share their affine parameters, but each keeps running statistics of its own inputs: in evaluation, joint
    statistics would normalize both modalities by a mixture of the two.
    """
    return copy.deepcopy(encoder, {id(each): each for each in encoder.parameters()})


def feature_width(encoder: nn.Module) -> int:
    """Channels of an encoder's pooled feature; raises ValueError if the encoder does not declare `dim`."""
    width = getattr(encoder, "dim", None)
    if type(width) is not int:
        raise ValueError(
            f"{type(encoder).__name__} is not a backbone: set its attribute dim to the width of its output"
        )
    return width


def layer_widths(encoder: nn.Module, layers: Sequence[str]) -> dict[str, int]:
    """Channels of the maps of these layers, computed from shapes alone; raises ValueError that lists the valid layers."""
    there = encoder.layers if isinstance(encoder, Encoder) else ()
    missing = [layer for layer in layers if layer not in there]
    if missing or not isinstance(encoder, Encoder):
        told = f"no layer {', '.join(missing)}; it has: {', '.join(there) or 'none'}"
        raise ValueError(f"{type(encoder).__name__} has {told}")
    outline = copy.deepcopy(encoder).to("meta").eval()
    first = next(each for each in outline.modules() if isinstance(each, nn.Conv2d | nn.Conv3d))
    frames = 1 if isinstance(first, nn.Conv2d) else 16
    maps = outline.maps(torch.empty(1, first.in_channels, frames, 112, 112, device="meta"), layers)
    return {layer: maps[layer].shape[1] for layer in layers}
