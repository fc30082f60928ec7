"""All-gather with gradients, for losses that compare samples of all ranks."""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd.function import once_differentiable

from . import collectives
from .collectives import FunctionContext


def gather(local_BD: Tensor) -> Tensor:
    """Concatenate the rows of all ranks in rank order: (B, ...) to (N, ...); B may differ between ranks.

    The gradient of this rank's rows sums over the losses of all ranks, in at least float32. Works for any dtype and device, and
    returns the tensor itself with one rank. Raises LostRanksError if another rank is gone.
    """
    if collectives.ranks() == 1:
        return local_BD
    gathered_ND: Tensor = _Gather.apply(local_BD)  # type: ignore[no-untyped-call]
    return gathered_ND


def gather_objects(objects: Sequence[Any]) -> list[Any]:
    """Collect the JSON values of all ranks in rank order. Tuples become lists, also with one rank."""
    lines = "".join(json.dumps(each) + "\n" for each in objects).encode()
    all_lines = gather(torch.from_numpy(np.frombuffer(lines, np.uint8).copy())).numpy().tobytes()
    return [json.loads(line) for line in all_lines.splitlines()]


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: FunctionContext, local_BD: Tensor) -> Tensor:
        sizes = [int(size) for size in collectives.all_gather(torch.tensor([len(local_BD)]))]
        missing = max(sizes) - len(local_BD)
        padded = torch.cat([local_BD, local_BD.new_zeros(missing, *local_BD.shape[1:])]) if missing else local_BD
        ctx.first, ctx.size = sum(sizes[: dist.get_rank()]), len(local_BD)
        return torch.cat([part[:size] for part, size in zip(collectives.all_gather(padded), sizes, strict=True)])

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionContext, gradient_ND: Tensor) -> Tensor:
        total_ND = gradient_ND.to(
            collectives.accumulation_dtype(gradient_ND), copy=True, memory_format=torch.contiguous_format
        )
        return collectives.all_reduce(total_ND)[ctx.first : ctx.first + ctx.size].to(gradient_ND.dtype)
