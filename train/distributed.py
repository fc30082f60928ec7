"""Ranks that learn together exactly what one process would learn alone.

    with start(device) as world:
        check_equal({"data": fingerprint})
        broadcast_module(model)
        feature_ND = gather(encoder(slice_BCTHW))   # of every rank
        loss(feature_ND).backward()                 # of the whole batch, on every rank
        average_gradients(model.parameters())

Why this is exact: on the way back `gather` gives a rank what the losses of *all* ranks ask of its rows, so the ranks'
gradients sum to that of the sum of the ranks' losses, and average to that of their mean. Each of these losses is the
one process's, and so is the average: for parameters before and behind `gather`, and however unequal the slices. A loss
that a rank computes from its own rows alone counts 1 / W in that mean, however many rows it has: gather first.

DistributedDataParallel averages too. It would hide the sending behind the backward pass (118 MB a step for AVCL's two
R3D), at the price of hooks, a search for unused parameters and other names in checkpoints.

Between processes go tensors and JSON, never a pickle. Every function here is called by all ranks, in the same order.
Shape suffixes: N rows of all ranks, B of this one, D feature channels, C channels, W ranks.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
import torch.distributed.nn.functional
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx, once_differentiable
from torch.nn.modules.batchnorm import _BatchNorm

from kinetics_sounds.errors import LostRanksError, RunError
from kinetics_sounds.redact import redact

# `torch.distributed.nn.functional` is imported above, though nothing here calls it, because the default arguments of its
# functions are the process group that there is at its first import, which torch's compiler does whenever it likes. A group
# held so outlives `destroy_process_group`, and its threads abort the process now and then as Python ends.

MEETING = "KINETICS_SOUNDS_MEETING"
"""Environment variable: the URL where ranks meet that `launch` started; torchrun's have env://."""
BUCKET_BYTES = 32 * 2**20
"""Gradients that are sent at once."""


@dataclass(frozen=True, slots=True)
class World:
    """A process's place among those that learn together."""

    rank: int
    size: int
    device: torch.device
    """Of this rank alone."""

    @property
    def leads(self) -> bool:
        """Whether this is the rank that writes files and speaks."""
        return self.rank == 0

    def say(self, text: str) -> None:
        """Print it once for all ranks."""
        if self.leads:
            print(text)

    def share(self, total: int) -> range:
        """The rank's part of `total` things: the parts in rank order are all of them, and differ in size by one at most."""
        return range(total * self.rank // self.size, total * (self.rank + 1) // self.size)


@contextmanager
def start(
    device: torch.device,
    *,
    environ: Mapping[str, str] = os.environ,
    init_method: str | None = None,
    timeout_seconds: float = 1800.0,
) -> Iterator[World]:
    """Join the ranks that torchrun started, and part from them at the end; alone where it started none or one.

    They meet at `init_method`, else where `MEETING` says, else as torchrun has it. A rank on CUDA takes the device of its
    local number. An exchange that takes longer than `timeout_seconds` fails.
    Raises RunError where the environment is no rank's, there is no such device, or the others cannot be met.
    """
    if environ.get("WORLD_SIZE", "1") == "1":
        yield World(0, 1, device)
        return
    rank, size, local = _place(environ)
    if device.type == "cuda":
        device = _own_device(local)
    # Gloo beside NCCL, for sizes and facts that live on the host.
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    try:
        dist.init_process_group(
            backend,
            init_method=init_method or environ.get(MEETING, "env://"),
            rank=rank,
            world_size=size,
            timeout=timedelta(seconds=timeout_seconds),
        )
    except (RuntimeError, ValueError) as error:
        raise RunError(
            f"rank {rank} of {size}: cannot meet the others by {backend} ({_first_line(error)}); see that all of them run, "
            "that each reaches MASTER_ADDR:MASTER_PORT, and set GLOO_SOCKET_IFNAME where a machine has several networks"
        ) from error
    try:
        yield World(rank, size, device)
    finally:
        dist.destroy_process_group()


def ranks() -> int:
    """How many processes learn together: 1 outside `start`."""
    return dist.get_world_size() if dist.is_initialized() else 1


def leads() -> bool:
    """Whether this is the only process, or rank 0: the one that speaks for all."""
    return not dist.is_initialized() or dist.get_rank() == 0


def gather(local_BD: Tensor) -> Tensor:
    """Concatenate the rows of all ranks in rank order: (B, ...) to (N, ...), B may differ from rank to rank.

    Its gradient is what the losses of all ranks ask of this rank's rows, summed in at least float32. Any dtype and
    device; the tensor itself where there is one rank. Raises LostRanksError where another rank is lost.
    """
    if ranks() == 1:
        return local_BD
    gathered_ND: Tensor = _Gather.apply(local_BD)  # type: ignore[no-untyped-call]
    return gathered_ND


def gather_objects(objects: Sequence[Any]) -> list[Any]:
    """Collect the JSON values of all ranks in rank order, each once; tuples come back as lists on one rank too."""
    lines = "".join(json.dumps(each) + "\n" for each in objects).encode()
    all_lines = gather(torch.from_numpy(np.frombuffer(lines, np.uint8).copy())).numpy().tobytes()
    return [json.loads(line) for line in all_lines.splitlines()]


def broadcast_buffers(module: nn.Module) -> None:
    """Give every rank the buffers of rank 0, in place: running statistics; raises LostRanksError where another rank is lost."""
    if ranks() > 1:
        for tensor in module.buffers():
            _from_first(tensor)


def of_first(values: list[float]) -> list[float]:
    """The numbers of rank 0 on every rank."""
    if ranks() == 1:
        return values
    told = torch.tensor(values, dtype=torch.float64)
    _from_first(told)
    found: list[float] = told.tolist()
    return found


def meet() -> None:
    """Return once every rank has come here; raises LostRanksError where another rank is lost."""
    if ranks() > 1:
        _reduce(torch.zeros(1))


def any_rank(truth: bool) -> bool:  # noqa: FBT001 - a value, not a switch
    """Whether it is so on any rank: the same answer for all."""
    if ranks() == 1:
        return truth
    return bool(_reduce(torch.tensor([truth], dtype=torch.uint8), op=dist.ReduceOp.MAX).item())


def average_gradients(parameters: Iterable[nn.Parameter], *, bucket_bytes: int = BUCKET_BYTES) -> None:
    """Replace every gradient by its mean over the ranks, `bucket_bytes` at a time.

    A parameter that no rank has used keeps no gradient, as in one process; one that some have used counts as zero on
    the others. What is not finite on one rank is so on all. Raises LostRanksError where another rank is lost.
    """
    learning = [parameter for parameter in parameters if parameter.requires_grad]
    if ranks() == 1 or not learning:
        return
    used = torch.tensor([parameter.grad is not None for parameter in learning], dtype=torch.uint8)
    _reduce(used, op=dist.ReduceOp.MAX)
    gradients = []
    for parameter, is_used in zip(learning, used.tolist(), strict=True):
        if is_used and parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
        if parameter.grad is not None:
            gradients.append(parameter.grad)
    for bucket in _buckets(gradients, bucket_bytes):
        flat = torch.cat([gradient.reshape(-1) for gradient in bucket])
        means = torch.split(_reduce(flat).div_(ranks()), [gradient.numel() for gradient in bucket])
        for gradient, mean in zip(bucket, means, strict=True):
            gradient.copy_(mean.view(gradient.shape))


@torch.no_grad()
def broadcast_module(module: nn.Module) -> None:
    """Give every rank the parameters and buffers of rank 0, in place; raises LostRanksError where another rank is lost."""
    if ranks() == 1:
        return
    for tensor in (*module.parameters(), *module.buffers()):
        _from_first(tensor)


def check_equal(facts: Mapping[str, str]) -> None:
    """Raise RunError on every rank unless all have the same facts: it names the fact, the ranks and what they have."""
    told: list[dict[str, str]] = gather_objects([dict(facts)])
    for name in dict.fromkeys(name for each in told for name in each):
        first = told[0].get(name)
        others = [rank for rank, each in enumerate(told) if each.get(name) != first]
        if others:
            raise RunError(
                f"rank {', '.join(map(str, others))} of {len(told)}: {name} is {redact(str(told[others[0]].get(name)))}, where "
                f"rank 0 has {redact(str(first))}; start every rank with the same command, code and data"
            )


def digest(module: nn.Module) -> str:
    """sha256 of the names, types, shapes and bytes of a module's parameters and buffers: a fact for `check_equal`."""
    sha256 = hashlib.sha256()
    for name, tensor in module.state_dict().items():
        sha256.update(f"{name} {tensor.dtype} {(*tensor.shape,)}\n".encode())
        sha256.update(tensor.detach().cpu().reshape(-1).view(torch.uint8).numpy())
    return sha256.hexdigest()


class SyncBatchNorm(_BatchNorm):
    """Batch normalisation over the samples of all ranks, on any device; in evaluation, or on one rank, the plain one.

    Statistics and running statistics are those of one process that sees all slices, however unequal; they are computed
    in at least float32. (`torch.nn.SyncBatchNorm` has no CPU kernel.)
    """

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002  # the name that PyTorch gave it
        """Normalise each channel of (B, C, ...); raises ValueError where a rank has no sample."""
        if not self.training or ranks() == 1:
            return super().forward(input)
        if not input.numel():
            raise ValueError(
                f"batch norm: a rank has no sample; give a batch of at least {ranks()}, one for every rank"
            )
        weight_C = torch.ones(self.num_features, device=input.device) if self.weight is None else self.weight
        bias_C = torch.zeros_like(weight_C) if self.bias is None else self.bias
        normalised: Tensor
        normalised, mean_C, variance_C, count_1 = _Normalise.apply(input, weight_C, bias_C, self.eps)  # type: ignore[no-untyped-call]
        if self.running_mean is not None and self.running_var is not None and self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
            rate = 1 / self.num_batches_tracked.item() if self.momentum is None else self.momentum
            self.running_mean.lerp_(mean_C.to(self.running_mean.dtype), rate)
            self.running_var.lerp_((variance_C * count_1 / (count_1 - 1)).to(self.running_var.dtype), rate)
        return normalised

    def _check_input_dim(self, input: Tensor) -> None:  # noqa: A002
        if input.ndim < 2:
            raise ValueError(f"batch norm: must be given (B, C, ...), got {(*input.shape,)}")


def synchronise(module: nn.Module) -> None:
    """Make every batch norm in a module a `SyncBatchNorm`, in place: parameters, names, hooks and sharing stay."""
    for each in module.modules():
        if isinstance(each, nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d):
            each.__class__ = SyncBatchNorm  # type: ignore[assignment]  # only what it does is different


class _Context(FunctionCtx):
    """What the two functions below remember on the way back."""

    first: int
    size: int
    saved_tensors: tuple[Tensor, ...]


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: _Context, local_BD: Tensor) -> Tensor:
        sizes = [int(size) for size in _all(torch.tensor([len(local_BD)]))]
        missing = max(sizes) - len(local_BD)
        padded = torch.cat([local_BD, local_BD.new_zeros(missing, *local_BD.shape[1:])]) if missing else local_BD
        ctx.first, ctx.size = sum(sizes[: dist.get_rank()]), len(local_BD)
        return torch.cat([part[:size] for part, size in zip(_all(padded), sizes, strict=True)])

    @staticmethod
    @once_differentiable
    def backward(ctx: _Context, gradient_ND: Tensor) -> Tensor:
        total_ND = gradient_ND.to(_wide(gradient_ND), copy=True, memory_format=torch.contiguous_format)
        return _reduce(total_ND)[ctx.first : ctx.first + ctx.size].to(gradient_ND.dtype)


class _Normalise(torch.autograd.Function):
    """Batch norm of all ranks' rows; gradients follow the convention of `gather`."""

    @staticmethod
    def forward(
        ctx: _Context, values: Tensor, weight_C: Tensor, bias_C: Tensor, eps: float
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        mean_C, variance_C, count_1 = _moments(values)
        ctx.save_for_backward(values, weight_C, mean_C, torch.rsqrt(variance_C + eps), count_1)
        ctx.mark_non_differentiable(mean_C, variance_C, count_1)
        affine = weight_C.to(mean_C.dtype), bias_C.to(mean_C.dtype)
        normalised = F.batch_norm(values, mean_C, variance_C, *affine, training=False, eps=eps)
        return normalised, mean_C, variance_C, count_1

    @staticmethod
    @once_differentiable
    def backward(ctx: _Context, gradient: Tensor, *_: object) -> tuple[Tensor, Tensor, Tensor, None]:
        values, weight_C, mean_C, inverse_C, count_1 = ctx.saved_tensors
        wide = gradient.to(mean_C.dtype)
        unit = (values - _across(mean_C, values)) * _across(inverse_C, values)
        bias_C, slope_C = wide.sum(_rest(values)), (wide * unit).sum(_rest(values))
        all_bias_C, all_slope_C = (_reduce(torch.cat([bias_C, slope_C])) / count_1).chunk(2)
        centred = wide - _across(all_bias_C, values) - unit * _across(all_slope_C, values)
        asked = centred * _across(inverse_C * weight_C, values)
        return asked.to(values.dtype), slope_C.to(weight_C.dtype), bias_C.to(weight_C.dtype), None


def _moments(local: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mean and biased variance of each channel over all ranks, (C,) each, and how many values they are of, (1,)."""
    wide = local.detach().to(_wide(local))
    variance_C, mean_C = torch.var_mean(wide, _rest(local), correction=0)
    count_1 = wide.new_full((1,), local.numel() // local.shape[1])
    told_WK = torch.stack(_all(torch.cat([mean_C, variance_C, count_1])))  # K = 2C + 1
    mean_WC, variance_WC, count_W1 = torch.split(told_WK, [len(mean_C), len(mean_C), 1], dim=1)
    share_W1 = count_W1 / count_W1.sum()
    mean_C = (share_W1 * mean_WC).sum(dim=0)
    variance_C = (share_W1 * (variance_WC + (mean_WC - mean_C).square())).sum(dim=0)
    return mean_C, variance_C, count_W1.sum(dim=0)


def _rest(values: Tensor) -> list[int]:
    """Every axis but the channels'."""
    return [axis for axis in range(values.ndim) if axis != 1]


def _across(channels_C: Tensor, like: Tensor) -> Tensor:
    return channels_C.view(1, -1, *[1] * (like.ndim - 2))


def _wide(values: Tensor) -> torch.dtype:
    return torch.promote_types(values.dtype, torch.float32)


def _buckets(tensors: Iterable[Tensor], most_bytes: int) -> Iterator[list[Tensor]]:
    """Neighbours of one type, together no more than `most_bytes` unless one alone is."""
    bucket: list[Tensor] = []
    for tensor in tensors:
        full = sum(each.nbytes for each in bucket) + tensor.nbytes > most_bytes
        if bucket and (full or tensor.dtype != bucket[0].dtype):
            yield bucket
            bucket = []
        bucket.append(tensor)
    if bucket:
        yield bucket


@torch.no_grad()
def _from_first(tensor: Tensor) -> None:
    """Fill a tensor of any memory format with that of rank 0."""
    sent = tensor.detach().clone(memory_format=torch.contiguous_format)
    with _together():
        dist.broadcast(sent, src=0)
    tensor.copy_(sent)


def _all(local: Tensor) -> list[Tensor]:
    """The tensor of every rank, all of one shape."""
    local = local.contiguous()
    parts = [torch.empty_like(local) for _ in range(ranks())]
    with _together():
        dist.all_gather(parts, local)
    return parts


def _reduce(values: Tensor, *, op: dist.ReduceOp.RedOpType = dist.ReduceOp.SUM) -> Tensor:
    """Combine a contiguous tensor over the ranks, in place."""
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
            f"rank {dist.get_rank()} of {dist.get_world_size()}: lost the other ranks ({_first_line(error)}); one of them ended "
            "or hangs: look for the first error in their outputs, then run again to go on"
        ) from error


def _first_line(error: BaseException) -> str:
    return redact((str(error).splitlines() or [type(error).__name__])[0])


def _place(environ: Mapping[str, str]) -> tuple[int, int, int]:
    """Rank, number of ranks and rank on this machine, as torchrun tells them."""
    told = {name: environ.get(name) for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK")}
    try:
        rank, size, local = (int(value or "") for value in told.values())
    except ValueError:
        rank, size, local = -1, 0, 0
    if not 0 <= rank < size or not 0 <= local <= rank:
        raise RunError(
            f"environment: {' '.join(f'{name}={value}' for name, value in told.items() if value is not None)} is no rank's "
            "place; start the ranks with torchrun, or unset WORLD_SIZE to run alone"
        )
    return rank, size, local


def _own_device(local: int) -> torch.device:
    """The CUDA device of a rank on this machine, made the current one."""
    devices = torch.cuda.device_count()
    if local >= devices:
        raise RunError(
            f"LOCAL_RANK {local}: this machine shows {devices} CUDA devices; start as many ranks a machine "
            "(torchrun --nproc_per_node), or give --device cpu"
        )
    torch.cuda.set_device(local)
    return torch.device("cuda", local)
