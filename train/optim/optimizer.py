"""Optimizers SGD, Adam, AdamW and LARS, with learning rates and schedules per parameter group."""

import fnmatch
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar, overload

import torch
from torch import nn

from . import larc
from .lr_schedule import Kind, Plateau, learning_rate

T = TypeVar("T")

TRUST = 1e-3
"""Trust coefficient of LARS (You et al. 2017)."""


@dataclass(frozen=True, kw_only=True)
class Optim:
    """Optimizer and learning-rate schedule."""

    name: Literal["sgd", "adam", "adamw", "lars"] = "sgd"
    """sgd (with momentum), adam (L2 penalty added to the gradient), adamw (decoupled weight decay), or lars."""
    lr: float = 1e-3
    """Peak learning rate."""
    momentum: float = 0.9
    """Momentum of SGD and LARS; beta1 of Adam and AdamW."""
    beta2: float = 0.999
    """beta2 of Adam and AdamW."""
    weight_decay: float = 5e-4
    """Weight decay of all parameters; see decay_all."""
    decay_all: bool = True
    """Apply weight decay (and the adaptive rate of LARS) to biases and norm parameters too."""
    lr_multipliers: dict[str, float] = field(default_factory=dict)
    """Learning-rate multipliers by parameter-name pattern, e.g. {"*predictor*": 10}; the last matching pattern wins."""
    one_dimensional: float = 1.0
    """Learning-rate multiplier of biases and norm parameters, unless a pattern of lr_multipliers matches."""
    larc: float = 0.0
    """Trust coefficient of LARC on top of sgd, adam or adamw, e.g. 0.001. 0: no LARC."""
    schedule: Kind = "constant"
    """Schedule after warm-up: constant, cosine, multistep, plateau (reduce when validation stops improving), or fixed (constant
    without warm-up)."""
    schedules: dict[str, Kind] = field(default_factory=dict)
    """Schedules by parameter-name pattern, e.g. {"*predictor*": constant}; the last matching pattern wins."""
    milestones: tuple[float, ...] = ()
    """multistep: fractions of the run at which the learning rate is multiplied by factor, e.g. [0.6, 0.8]."""
    warmup_steps: int = 0
    """Steps of linear warm-up."""
    min_lr_ratio: float = 0.0
    """cosine: final learning rate as a fraction of lr."""
    factor: float = 0.1
    """plateau and multistep: factor that the learning rate is multiplied by."""
    patience: int = 50
    """plateau: validations without improvement before the learning rate is reduced."""
    min_lr: float = 1e-7
    """plateau: lower bound of the learning rate."""

    def __post_init__(self) -> None:
        """Raise ValueError for values out of range."""
        for name in ("lr", "momentum", "weight_decay", "warmup_steps", "min_lr_ratio", "patience", "min_lr"):
            if getattr(self, name) < 0:
                raise ValueError(f"optim: {name} {getattr(self, name)} must be at least 0")
        if min([self.one_dimensional, *self.lr_multipliers.values()]) < 0:
            raise ValueError("optim: lr_multipliers and one_dimensional must be at least 0")
        if self.larc < 0:
            raise ValueError(f"optim: larc {self.larc} must be at least 0")
        if self.larc and self.name == "lars":
            raise ValueError("optim: larc is for sgd, adam and adamw; lars adapts rates itself")
        if any(not 0 < share < 1 for share in self.milestones):
            raise ValueError(f"optim: milestones {[*self.milestones]} must be fractions of the run, between 0 and 1")
        if "multistep" in (self.schedule, *self.schedules.values()) and not self.milestones:
            raise ValueError("optim: schedule multistep needs milestones, fractions of the run such as [0.6, 0.8]")
        if not 0 <= self.beta2 < 1 or not 0 < self.factor < 1 or self.min_lr_ratio > 1:
            raise ValueError("optim: beta2 must be in [0, 1), min_lr_ratio in [0, 1] and factor in (0, 1)")


def make_optimizer(model: nn.Module, optim: Optim) -> torch.optim.Optimizer:
    """Create the optimizer, with a parameter group for each learning-rate multiplier, schedule and weight decay.

    Raises ValueError for a pattern of `lr_multipliers` or `schedules` that matches no parameter.
    """
    named = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    for option, patterns in (("lr_multipliers", optim.lr_multipliers), ("schedules", optim.schedules)):
        for pattern in patterns:
            if not fnmatch.filter(named, pattern):
                first = next(iter(named))
                raise ValueError(f"optim.{option}: no parameter name matches {pattern!r}; the first is {first!r}")
    groups: dict[tuple[float, Kind, bool], list[nn.Parameter]] = {}
    for name, parameter in named.items():
        own = optim.one_dimensional if parameter.ndim == 1 else 1.0
        factor, schedule = _of(name, optim.lr_multipliers, own), _of(name, optim.schedules, optim.schedule)
        place = (factor, schedule, optim.decay_all or parameter.ndim > 1)
        groups.setdefault(place, []).append(parameter)
    found = [
        {
            "params": parameters,
            "lr": optim.lr * factor,
            "factor": factor,
            "schedule": schedule,
            "weight_decay": optim.weight_decay if decays else 0.0,
        }
        | ({"adapts": decays} if optim.name == "lars" else {})
        for (factor, schedule, decays), parameters in groups.items()
    ]
    optimizer = _optimizer(found, optim)
    if optim.larc:
        larc.wrap(optimizer, trust=optim.larc)
    return optimizer


def _optimizer(groups: list[dict[str, Any]], optim: Optim) -> torch.optim.Optimizer:
    if optim.name == "sgd":
        return torch.optim.SGD(groups, lr=optim.lr, momentum=optim.momentum)
    if optim.name == "lars":
        return Lars(groups, lr=optim.lr, momentum=optim.momentum)
    kind = torch.optim.Adam if optim.name == "adam" else torch.optim.AdamW
    return kind(groups, lr=optim.lr, betas=(optim.momentum, optim.beta2))


def rates(optim: Optim, step: int, *, steps: int, plateau: Plateau) -> dict[Kind, float]:
    """Learning rate at `step` of each schedule in use; `plateau` holds the number of reductions."""
    found: dict[Kind, float] = {}
    for kind in {optim.schedule, *optim.schedules.values()}:
        rate = learning_rate(
            step,
            base=optim.lr,
            steps=steps,
            warmup_steps=min(optim.warmup_steps, steps),
            kind=kind,
            min_lr_ratio=optim.min_lr_ratio,
            milestones=optim.milestones,
            factor=optim.factor,
        )
        if kind == "plateau" and plateau.cuts:
            rate = max(rate * optim.factor**plateau.cuts, min(rate, optim.min_lr))
        found[kind] = rate
    return found


def set_rates(optimizer: torch.optim.Optimizer, rates: Mapping[Kind, float]) -> None:
    """Set the learning rate of every group: the rate of its schedule times its multiplier."""
    for group in optimizer.param_groups:
        group["lr"] = rates[group["schedule"]] * group["factor"]


def _of(name: str, patterns: Mapping[str, T], default: T) -> T:
    """Value of the last pattern that matches a name."""
    return ([default] + [value for pattern, value in patterns.items() if fnmatch.fnmatchcase(name, pattern)])[-1]


class Lars(torch.optim.Optimizer):
    """SGD with layer-wise adaptive rates: each update is scaled by the ratio of weight norm to update norm.

    u = g + decay * w;  u *= TRUST * |w| / |u|, unless one is 0;  m = momentum * m + u;  w -= lr * m, as in the code of Barlow
    Twins. Groups with `adapts=False` skip the second step.
    """

    def __init__(self, groups: Iterable[dict[str, Any]], *, lr: float, momentum: float) -> None:
        super().__init__(groups, {"lr": lr, "momentum": momentum, "weight_decay": 0.0, "adapts": True})

    @overload
    def step(self, closure: None = None) -> None: ...
    @overload
    def step(self, closure: Callable[[], float]) -> float: ...
    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Update every parameter that has a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                change = parameter.grad.add(parameter, alpha=group["weight_decay"])
                if group["adapts"]:
                    length, moved = torch.linalg.vector_norm(parameter), torch.linalg.vector_norm(change)
                    change *= torch.where((length > 0) & (moved > 0), TRUST * length / moved, 1.0)
                state = self.state[parameter]
                if "momentum_buffer" not in state:
                    state["momentum_buffer"] = torch.zeros_like(parameter)
                state["momentum_buffer"].mul_(group["momentum"]).add_(change)
                parameter.sub_(state["momentum_buffer"], alpha=group["lr"])
        return loss
