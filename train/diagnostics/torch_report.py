"""Report of the torch installation as JSON: `python -m kinetics_sounds.train.diagnostics.torch_report`.

ks-doctor runs it in a separate process.

On some CPUs and torch versions, 3-D convolutions are wrong in bfloat16; check yours before a long run.
"""

import json
import math
import sys
from dataclasses import asdict, dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

SHAPES = ((2, 256, 2, 7, 7), (2, 64, 4, 14, 14))
"""Inputs (B, C, T, H, W) of R3D's last stage and of a middle one; the first one gave infinite gradients on a CPU."""
FORMATS = (torch.contiguous_format, torch.channels_last_3d)
DTYPES = (torch.float32, torch.bfloat16)


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """A CUDA device."""

    name: str
    memory_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """Accuracy of 3-D convolutions on one device in one dtype, compared with float64 on the CPU."""

    device: str
    dtype: str
    forward: float
    """Maximum relative difference; infinite if a value is not finite."""
    gradient: float
    """The same for the gradients of input and weights, whichever is worse."""
    error: str = ""
    """Reason why it could not be computed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Versions, devices and accuracy of convolutions."""

    version: str
    cuda: str | None
    """CUDA version that torch was built for."""
    threads: int
    devices: tuple[Device, ...]
    agreements: tuple[Agreement, ...]


def examine() -> Report:
    """Collect the report."""
    present = range(torch.cuda.device_count() if torch.cuda.is_available() else 0)
    found = [torch.cuda.get_device_properties(number) for number in present]
    places = [torch.device("cpu"), *(torch.device("cuda", number) for number in present)]
    return Report(
        version=torch.__version__,
        cuda=torch.version.cuda,
        threads=torch.get_num_threads(),
        devices=tuple(Device(name=each.name, memory_bytes=each.total_memory) for each in found),
        agreements=tuple(agreement(place, dtype) for place in places for dtype in DTYPES),
    )


def agreement(device: torch.device, dtype: torch.dtype) -> Agreement:
    """Compare all shapes and memory formats; a failing device gives an Agreement with an error."""
    forward = gradient = 0.0
    name = str(dtype).removeprefix("torch.")
    try:
        for seed, shape in enumerate(SHAPES):
            true = convolve(shape, seed, torch.device("cpu"), torch.float64, FORMATS[0])
            for memory_format in FORMATS:
                shown = convolve(shape, seed, device, dtype, memory_format)
                away = [difference(one, other) for one, other in zip(shown, true, strict=True)]
                forward, gradient = max(forward, away[0]), max(gradient, *away[1:])
    except (RuntimeError, AssertionError) as error:  # torch raises either if unsupported
        lines = str(error).splitlines() or [type(error).__name__]
        return Agreement(device=str(device), dtype=name, forward=math.inf, gradient=math.inf, error=lines[0])
    return Agreement(device=str(device), dtype=name, forward=forward, gradient=gradient)


def convolve(
    shape: tuple[int, ...], seed: int, device: torch.device, dtype: torch.dtype, memory_format: torch.memory_format
) -> tuple[Tensor, Tensor, Tensor]:
    """Output, input gradient and weight gradient of a 3 x 3 x 3 convolution that preserves the shape (B, C, T, H, W).

    Equal seeds give equal inputs, up to the rounding of `dtype`.
    """
    random = torch.Generator().manual_seed(seed)
    channels = shape[1]
    x_BCTHW, above_BCTHW = (torch.randn(shape, generator=random) for _ in range(2))
    kernel = torch.randn(channels, channels, 3, 3, 3, generator=random) / math.sqrt(27 * channels)

    def placed(tensor: Tensor) -> Tensor:
        return tensor.to(device=device, dtype=dtype, copy=True).contiguous(memory_format=memory_format)

    x_BCTHW, kernel = placed(x_BCTHW).requires_grad_(), placed(kernel).requires_grad_()
    y_BCTHW = F.conv3d(x_BCTHW, kernel, padding=1)
    input_gradient, kernel_gradient = torch.autograd.grad(y_BCTHW, (x_BCTHW, kernel), placed(above_BCTHW))
    return y_BCTHW.detach(), input_gradient, kernel_gradient


def difference(shown: Tensor, true: Tensor) -> float:
    """Maximum absolute difference over the maximum true value, for tensors of one shape; infinite if `shown` is not finite."""
    here = shown.to(device="cpu", dtype=torch.float64)
    away = float((here - true).abs().max() / true.abs().max())
    return away if math.isfinite(away) else math.inf


if __name__ == "__main__":
    sys.stdout.write(json.dumps(asdict(examine())) + "\n")
