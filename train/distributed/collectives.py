"""Collective operations on tensors. No-ops with one rank; raise LostRanksError if another rank is gone."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx

from kinetics_sounds.errors import LostRanksError
from kinetics_sounds.redact import redact

_alone = False


def ranks() -> int:
    """Number of ranks (world size): 1 outside `start` and inside `alone`."""
    return dist.get_world_size() if dist.is_initialized() and not _alone else 1


@contextmanager
def alone() -> Iterator[None]:
    """Disable communication: inside the block this process acts as the only rank."""
    global _alone
    before, _alone = _alone, True
    try:
        yield
    finally:
        _alone = before


def part(total: int, *, rank: int, size: int) -> slice:
    """Slice of `total` items for a rank; slices are in rank order and differ in size by at most one."""
    return slice(total * rank // size, total * (rank + 1) // size)


def local_slice(total: int) -> slice:
    """Slice of `total` items for this rank."""
    return part(total, rank=dist.get_rank() if ranks() > 1 else 0, size=ranks())


def is_main() -> bool:
    """Whether this is rank 0, or the only process."""
    return not dist.is_initialized() or dist.get_rank() == 0


def broadcast_buffers(module: nn.Module, *, but: tuple[str, ...] = ()) -> None:
    """Copy the buffers of rank 0 (batch-norm running statistics) to all ranks, in place.

    Buffers whose names begin with a prefix in `but` are skipped: they are equal already. Raises LostRanksError.
    """
    for name, tensor in module.named_buffers():
        if not name.startswith(but):
            broadcast(tensor)


def broadcast_from_main(values: list[float]) -> list[float]:
    """Return rank 0's numbers on every rank."""
    if ranks() == 1:
        return values
    told = torch.tensor(values, dtype=torch.float64)
    broadcast(told)
    found: list[float] = told.tolist()
    return found


def barrier() -> None:
    """Wait until all ranks have reached this point; raises LostRanksError if a rank is gone."""
    if ranks() > 1:
        all_reduce(torch.zeros(1))


def all_reduce_any(truth: bool) -> bool:  # noqa: FBT001 - a value, not a switch
    """Logical OR across ranks."""
    if ranks() == 1:
        return truth
    return bool(all_reduce(torch.tensor([truth], dtype=torch.uint8), op=dist.ReduceOp.MAX).item())


class FunctionContext(FunctionCtx):
    """Autograd context of the functions below."""

    first: int
    size: int
    saved_tensors: tuple[Tensor, ...]


def accumulation_dtype(values: Tensor) -> torch.dtype:
    """Dtype for sums of such values: at least float32."""
    return torch.promote_types(values.dtype, torch.float32)


@torch.no_grad()
def broadcast(tensor: Tensor) -> None:
    """Copy a tensor from rank 0, in place, in any memory format."""
    if ranks() == 1:
        return
    sent = tensor.detach().clone(memory_format=torch.contiguous_format)
    with _together():
        dist.broadcast(sent, src=0)
    tensor.copy_(sent)


def all_gather(local: Tensor) -> list[Tensor]:
    """Tensors of all ranks, which must have equal shapes."""
    if ranks() == 1:
        return [local]
    local = local.contiguous()
    parts = [torch.empty_like(local) for _ in range(ranks())]
    with _together():
        dist.all_gather(parts, local)
    return parts


def all_reduce(values: Tensor, *, op: dist.ReduceOp.RedOpType = dist.ReduceOp.SUM) -> Tensor:
    """Reduce a contiguous tensor across ranks, in place."""
    if ranks() == 1:
        return values
    with _together():
        dist.all_reduce(values, op=op)
    return values


@contextmanager
def _together() -> Iterator[None]:
    """Turn a failed exchange into a LostRanksError."""
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        raise LostRanksError(
            f"rank {dist.get_rank()} of {dist.get_world_size()}: lost the other ranks ({first_line(error)}); one of them ended "
            "or hangs: look for the first error in their outputs, then run again to resume"
        ) from error


def first_line(error: BaseException) -> str:
    """First line of an error message, without secrets."""
    return redact((str(error).splitlines() or [type(error).__name__])[0])
