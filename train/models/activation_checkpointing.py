"""Activation checkpointing: recompute a block's activations in the backward pass to save memory.

Gradients are bit-identical. Batch norms update their running statistics once, in the first forward pass.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint


def checkpoint_activations(encoder: nn.Module, *, compiled: str | None = None) -> None:
    """Checkpoint the activations of every child of an encoder, in place; parameter names stay.

    `compiled` is a torch.compile backend with which each child is compiled separately, because torch.compile cannot trace
    through checkpointing.
    """
    for child in encoder.children():
        if any(True for _ in child.parameters()):
            _forget(child, torch.compile(child.forward, backend=compiled, dynamic=False) if compiled else child.forward)


def _forget(block: nn.Module, forward: Callable[[Tensor], Tensor]) -> None:

    def again(maps_BCTHW: Tensor) -> Tensor:
        if not block.training:
            straight: Tensor = forward(maps_BCTHW)
            return straight
        computed: Tensor = checkpoint(
            forward,
            maps_BCTHW,
            use_reentrant=False,
            context_fn=lambda: (nullcontext(), _with_statistics_kept(block)),
        )
        return computed

    block.forward = again


def _with_statistics_kept(block: nn.Module) -> AbstractContextManager[None]:
    """Context in which the block's running statistics do not change, for the second forward pass."""

    @contextmanager
    def kept() -> Iterator[None]:
        norms = [each for each in block.modules() if isinstance(each, _BatchNorm)]
        before = [(each.running_mean, each.running_var, each.num_batches_tracked) for each in norms]
        for each, statistics in zip(
            norms, before, strict=True
        ):  # copies: the second pass must save as many tensors as the first
            mean, variance, count = (value if value is None else value.clone() for value in statistics)
            each.running_mean, each.running_var, each.num_batches_tracked = mean, variance, count
        try:
            yield
        finally:
            for each, (mean, variance, count) in zip(norms, before, strict=True):
                each.running_mean, each.running_var, each.num_batches_tracked = mean, variance, count

    return kept()
