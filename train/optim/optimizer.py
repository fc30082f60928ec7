"""How weights move: SGD, Adam, AdamW and LARS, with a rate of its own for whichever parameters need one."""

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
"""Of LARS: how far a layer may move against the length of its weights (You et al. 2017)."""


@dataclass(frozen=True, kw_only=True)
class Optim:
    """How weights move."""

    name: Literal["sgd", "adam", "adamw", "lars"] = "sgd"
    """SGD with momentum, Adam (decay added to the gradient), AdamW (decay apart), or LARS."""
    lr: float = 1e-3
    """Learning rate at its highest."""
    momentum: float = 0.9
    """Of SGD and LARS; of Adam and AdamW the first moment's (beta 1)."""
    beta2: float = 0.999
    """Of Adam and AdamW: the second moment's."""
    weight_decay: float = 5e-4
    """On every parameter, or see `decay_all`."""
    decay_all: bool = True
    """Whether biases and norms (parameters of one dimension) decay too, and LARS adapts their rates."""
    factors: dict[str, float] = field(default_factory=dict)
    """Multiples of `lr` for parameters whose name fits a pattern, {"*predictor*": 10}; of several the last one counts."""
    one_dimensional: float = 1.0
    """Multiple of `lr` for biases and norms (parameters of one dimension), but where a pattern of `factors` fits."""
    larc: float = 0.0
    """Trust of LARC before SGD, Adam or AdamW: the share of its length that a weight may move at a step (0.001); 0: no LARC."""
    schedule: Kind = "constant"
    """After the warm-up. plateau: `lr` is cut whenever the validation has not become better for a while; fixed: constant, and
    without a warm-up."""
    schedules: dict[str, Kind] = field(default_factory=dict)
    """Another schedule for parameters whose name fits a pattern, {"*predictor*": constant}; of several the last one counts."""
    milestones: tuple[float, ...] = ()
    """Of multistep: shares of the run after which the rate is multiplied with `cut`, [0.6, 0.8]."""
    warmup_steps: int = 0
    """Steps of linear warm-up."""
    final_share: float = 0.0
    """Of `lr`, that a cosine ends at."""
    cut: float = 0.1
    """Of plateau and multistep: what the rate is multiplied with."""
    patience: int = 50
    """Of plateau: validations without a better value that are borne."""
    least_lr: float = 1e-7
    """Of plateau: the rate is never cut below this."""

    def __post_init__(self) -> None:
        """Raise ValueError where a number is negative, or a share is more than all."""
        for name in ("lr", "momentum", "weight_decay", "warmup_steps", "final_share", "patience", "least_lr"):
            if getattr(self, name) < 0:
                raise ValueError(f"optim: {name} {getattr(self, name)} must be at least 0")
        if min([self.one_dimensional, *self.factors.values()]) < 0:
            raise ValueError("optim: factors and one_dimensional must be at least 0")
        if self.larc < 0:
            raise ValueError(f"optim: larc {self.larc} must be at least 0")
        if self.larc and self.name == "lars":
            raise ValueError("optim: larc is for sgd, adam and adamw; lars adapts rates itself")
        if any(not 0 < share < 1 for share in self.milestones):
            raise ValueError(f"optim: milestones {[*self.milestones]} must be shares of the run, between 0 and 1")
        if "multistep" in (self.schedule, *self.schedules.values()) and not self.milestones:
            raise ValueError("optim: schedule multistep needs milestones, shares of the run such as [0.6, 0.8]")
        if not 0 <= self.beta2 < 1 or not 0 < self.cut < 1 or self.final_share > 1:
            raise ValueError("optim: beta2 and final_share must be shares, and cut between 0 and 1")


def make_optimizer(model: nn.Module, optim: Optim) -> torch.optim.Optimizer:
    """The optimiser over all parameters that learn, in groups by their `factor` of the rate, their schedule and their decay.

    Raises ValueError for a pattern of `factors` or `schedules` that no parameter's name fits.
    """
    named = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    for option, patterns in (("factors", optim.factors), ("schedules", optim.schedules)):
        for pattern in patterns:
            if not fnmatch.filter(named, pattern):
                first = next(iter(named))
                raise ValueError(f"optim.{option}: no parameter's name fits {pattern!r}; the first is {first!r}")
    groups: dict[tuple[float, Kind, bool], list[nn.Parameter]] = {}
    for name, parameter in named.items():
        own = optim.one_dimensional if parameter.ndim == 1 else 1.0
        factor, schedule = _of(name, optim.factors, own), _of(name, optim.schedules, optim.schedule)
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
    """The learning rate of update number `step` by each schedule that is used; `plateau` says how often that one was cut."""
    found: dict[Kind, float] = {}
    for kind in {optim.schedule, *optim.schedules.values()}:
        rate = learning_rate(
            step,
            base=optim.lr,
            steps=steps,
            warmup_steps=min(optim.warmup_steps, steps),
            kind=kind,
            final_share=optim.final_share,
            milestones=optim.milestones,
            factor=optim.cut,
        )
        if kind == "plateau" and plateau.cuts:
            rate = max(rate * optim.cut**plateau.cuts, min(rate, optim.least_lr))
        found[kind] = rate
    return found


def set_rates(optimizer: torch.optim.Optimizer, rates: Mapping[Kind, float]) -> None:
    """Give every group the rate of its schedule, times its factor."""
    for group in optimizer.param_groups:
        group["lr"] = rates[group["schedule"]] * group["factor"]


def _of(name: str, patterns: Mapping[str, T], default: T) -> T:
    """What the last pattern says that a name fits."""
    return ([default] + [value for pattern, value in patterns.items() if fnmatch.fnmatchcase(name, pattern)])[-1]


class Lars(torch.optim.Optimizer):
    """SGD whose rate is, layer by layer, in proportion to the length of the weights over that of their change.

    u = g + decay * w;  u *= TRUST * |w| / |u|, where both are not 0;  m = momentum * m + u;  w -= lr * m, as in the code
    of Barlow Twins. A group that does not adapt goes without the second step.
    """

    def __init__(self, groups: Iterable[dict[str, Any]], *, lr: float, momentum: float) -> None:
        super().__init__(groups, {"lr": lr, "momentum": momentum, "weight_decay": 0.0, "adapts": True})

    @overload
    def step(self, closure: None = None) -> None: ...
    @overload
    def step(self, closure: Callable[[], float]) -> float: ...
    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Move every parameter that has a gradient."""
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
