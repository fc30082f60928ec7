"""Bucketed all-reduce of gradients."""

from collections.abc import Iterable, Iterator

import torch
import torch.distributed as dist
from torch import Tensor, nn

from . import collectives

BUCKET_BYTES = 32 * 2**20
"""Maximum bytes per all-reduce."""


def average_gradients(parameters: Iterable[nn.Parameter], *, bucket_bytes: int = BUCKET_BYTES) -> None:
    """Replace every gradient by its mean over ranks, `bucket_bytes` at a time.

    A parameter without a gradient on any rank keeps none, as in one process; one with a gradient on some ranks counts as zero
    on the others. Non-finite values on one rank spread to all. Raises LostRanksError if another rank is gone.
    """
    learning = [parameter for parameter in parameters if parameter.requires_grad]
    if collectives.ranks() == 1 or not learning:
        return
    used = torch.tensor([parameter.grad is not None for parameter in learning], dtype=torch.uint8)
    collectives.all_reduce(used, op=dist.ReduceOp.MAX)
    gradients = []
    for parameter, is_used in zip(learning, used.tolist(), strict=True):
        if is_used and parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
        if parameter.grad is not None:
            gradients.append(parameter.grad)
    for bucket in _buckets(gradients, bucket_bytes):
        flat = torch.cat([gradient.reshape(-1) for gradient in bucket])
        means = torch.split(
            collectives.all_reduce(flat).div_(collectives.ranks()), [gradient.numel() for gradient in bucket]
        )
        for gradient, mean in zip(bucket, means, strict=True):
            gradient.copy_(mean.view(gradient.shape))


def _buckets(tensors: Iterable[Tensor], most_bytes: int) -> Iterator[list[Tensor]]:
    """Group consecutive tensors of equal dtype, up to `most_bytes` per group unless one tensor alone is larger."""
    bucket: list[Tensor] = []
    for tensor in tensors:
        full = sum(each.nbytes for each in bucket) + tensor.nbytes > most_bytes
        if bucket and (full or tensor.dtype != bucket[0].dtype):
            yield bucket
            bucket = []
        bucket.append(tensor)
    if bucket:
        yield bucket
