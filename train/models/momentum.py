"""Momentum encoders: exponential moving averages of online networks, without gradients."""

import copy
from typing import TypeVar

import torch
from torch import nn

Network = TypeVar("Network", bound=nn.Module)


def momentum_copy(online: Network) -> Network:
    """Copy a network, without gradients. Copy before compiling or patching the online network."""
    follower = copy.deepcopy(online)
    for parameter in follower.parameters():
        parameter.requires_grad = False
    return follower


@torch.no_grad()
def momentum_update(online: nn.Module, follower: nn.Module, *, momentum: float) -> None:
    """Move each parameter of the follower: f = momentum * f + (1 - momentum) * o.

    Buffers are not changed: batch norms of the follower keep statistics of their own inputs.
    """
    for new, old in zip(online.parameters(), follower.parameters(), strict=True):
        old.lerp_(new, 1 - momentum)
