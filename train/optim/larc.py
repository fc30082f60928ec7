"""LARC: limit each parameter's learning rate by the ratio of weight norm to gradient norm (You et al. 2017, clipped)."""

from typing import Any

import torch

ROUNDING = 1e-8


def wrap(optimizer: torch.optim.Optimizer, *, trust: float) -> None:
    """Rescale the gradients of an optimizer by LARC before every step, with weight decay included.

    g <- (g + decay * w) * min(trust * |w| / (|g| + decay * |w| + 1e-8) / lr, 1) for each parameter w; g + decay * w where |w| or
    |g| is 0 (where NVIDIA's LARC leaves the gradient without decay). `decay` is the group's `weight_decay`, which is 0 from then
    on.
    """
    for group in optimizer.param_groups:
        group["decay"], group["weight_decay"] = group["weight_decay"], 0.0

    @torch.no_grad()
    def adapt(_optimizer: torch.optim.Optimizer, _args: tuple[Any, ...], _more: dict[str, Any]) -> None:
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    _adapt(parameter, parameter.grad, lr=group["lr"], decay=group["decay"], trust=trust)

    optimizer.register_step_pre_hook(adapt)


def _adapt(weight: torch.Tensor, gradient: torch.Tensor, *, lr: float, decay: float, trust: float) -> None:
    length, steepness = torch.linalg.vector_norm(weight), torch.linalg.vector_norm(gradient)
    allowed = trust * length / (steepness + decay * length + ROUNDING)
    share = (allowed / lr).clamp(max=1) if lr else torch.ones_like(allowed)
    moves = (length > 0) & (steepness > 0)
    gradient.add_(weight, alpha=decay).mul_(torch.where(moves, share, 1.0))
