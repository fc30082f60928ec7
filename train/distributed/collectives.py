"""Collective operations on tensors, each a no-op for one rank; a lost rank is a LostRanksError."""

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
    """How many processes learn together: 1 outside `start`, and within `alone`."""
    return dist.get_world_size() if dist.is_initialized() and not _alone else 1


@contextmanager
def alone() -> Iterator[None]:
    """Nothing within is told to other ranks, or waits for them."""
    global _alone
    before, _alone = _alone, True
    try:
        yield
    finally:
        _alone = before


def part(total: int, *, rank: int, size: int) -> slice:
    """A rank's part of `total` things: the parts in rank order are all of them, and differ in size by one at most."""
    return slice(total * rank // size, total * (rank + 1) // size)


def local_slice(total: int) -> slice:
    """The part of the rank that asks."""
    return part(total, rank=dist.get_rank() if ranks() > 1 else 0, size=ranks())


def is_main() -> bool:
    """Whether this is the only process, or rank 0: the one that speaks for all."""
    return not dist.is_initialized() or dist.get_rank() == 0


def broadcast_buffers(module: nn.Module, *, but: tuple[str, ...] = ()) -> None:
    """Give every rank the buffers of rank 0, in place: running statistics; raises LostRanksError where another rank is lost.

    Those whose names begin with one of `but` are equal already.
    """
    for name, tensor in module.named_buffers():
        if not name.startswith(but):
            broadcast(tensor)


def broadcast_from_main(values: list[float]) -> list[float]:
    """The numbers of rank 0 on every rank."""
    if ranks() == 1:
        return values
    told = torch.tensor(values, dtype=torch.float64)
    broadcast(told)
    found: list[float] = told.tolist()
    return found


def barrier() -> None:
    """Return once every rank has come here; raises LostRanksError where another rank is lost."""
    if ranks() > 1:
        all_reduce(torch.zeros(1))


def all_reduce_any(truth: bool) -> bool:  # noqa: FBT001 - a value, not a switch
    """Whether it is so on any rank: the same answer for all."""
    if ranks() == 1:
        return truth
    return bool(all_reduce(torch.tensor([truth], dtype=torch.uint8), op=dist.ReduceOp.MAX).item())


class FunctionContext(FunctionCtx):
    """What the two functions below remember on the way back."""

    first: int
    size: int
    saved_tensors: tuple[Tensor, ...]


def accumulation_dtype(values: Tensor) -> torch.dtype:
    """What sums of such values are taken in: at least float32."""
    return torch.promote_types(values.dtype, torch.float32)


@torch.no_grad()
def broadcast(tensor: Tensor) -> None:
    """Fill a tensor of any memory format with that of rank 0."""
    if ranks() == 1:
        return
    sent = tensor.detach().clone(memory_format=torch.contiguous_format)
    with _together():
        dist.broadcast(sent, src=0)
    tensor.copy_(sent)


def all_gather(local: Tensor) -> list[Tensor]:
    """The tensor of every rank, all of one shape."""
    if ranks() == 1:
        return [local]
    local = local.contiguous()
    parts = [torch.empty_like(local) for _ in range(ranks())]
    with _together():
        dist.all_gather(parts, local)
    return parts


def all_reduce(values: Tensor, *, op: dist.ReduceOp.RedOpType = dist.ReduceOp.SUM) -> Tensor:
    """Combine a contiguous tensor over the ranks, in place."""
    if ranks() == 1:
        return values
    with _together():
        dist.all_reduce(values, op=op)
    return values


@contextmanager
def _together() -> Iterator[None]:
    """Say what it means that an exchange fails."""
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        raise LostRanksError(
            f"rank {dist.get_rank()} of {dist.get_world_size()}: lost the other ranks ({first_line(error)}); one of them ended "
            "or hangs: look for the first error in their outputs, then run again to go on"
        ) from error


def first_line(error: BaseException) -> str:
    """Of its message, without secrets."""
    return redact((str(error).splitlines() or [type(error).__name__])[0])
