"""Momentum encoders: copies that follow an online network by an exponential moving average, and learn from no gradient."""

import copy
from typing import TypeVar

import torch
from torch import nn

Network = TypeVar("Network", bound=nn.Module)


def momentum_copy(online: Network) -> Network:
    """A copy that begins equal, whose parameters need no gradient. Make it before anything patches the online one."""
    follower = copy.deepcopy(online)
    for parameter in follower.parameters():
        parameter.requires_grad = False
    return follower


@torch.no_grad()
def momentum_update(online: nn.Module, follower: nn.Module, *, momentum: float) -> None:
    """Move each parameter of the follower: f = momentum * f + (1 - momentum) * o.

    Buffers stay its own: its batch norms have statistics of what it is given itself.
    """
    for new, old in zip(online.parameters(), follower.parameters(), strict=True):
        old.lerp_(new, 1 - momentum)
