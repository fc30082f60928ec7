"""Linear probe: multinomial logistic regression on frozen features.

Features are standardized; the solver is full-batch L-BFGS in float64 from zero, which is convex and deterministic. Shape
suffixes as in `probes`.
"""

from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from . import Features, classify

NEEDS_TRAIN_FEATURES = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Options of the logistic regression."""

    l2: float = 1e-3
    """L2 penalty: l2 / 2 times the squared weights is added to the mean cross-entropy in nats; biases are free. Equals
    scikit-learn's C = 1 / (l2 * clips)."""
    iterations: int = 200
    """Maximum L-BFGS iterations."""

    def __post_init__(self) -> None:
        """Raise ValueError for values out of range."""
        if not 0 <= self.l2 < float("inf"):
            raise ValueError(f"--linear.l2 {self.l2}: must be at least 0")
        if self.iterations < 1:
            raise ValueError(f"--linear.iterations {self.iterations}: must be at least 1")


def evaluate(on: Features, fit: Features | None, settings: Settings) -> dict[str, float]:
    """Fit on `fit`, evaluate on `on`: accuracies of `classify`. Raises ValueError without `fit`."""
    return classify(on, fit, partial(_scores, settings=settings))


@torch.inference_mode(mode=False)
def _scores(on_ND: Tensor, fit_MD: Tensor, target_M: Tensor, /, *, classes: int, settings: Settings) -> Tensor:
    """Logits (N, C) of the layer fitted to (M, D) features with class indices (M,)."""
    on_ND, fit_MD, target_M = on_ND.double(), fit_MD.double(), target_M.clone()
    std_D, mean_D = torch.std_mean(fit_MD, dim=0, correction=0)
    std_D = torch.where(std_D > 1e-8, std_D, 1)  # a constant channel in `fit` gets no weight
    fit_MD = (fit_MD - mean_D) / std_D
    weight_DC = fit_MD.new_zeros(fit_MD.shape[1], classes, requires_grad=True)
    bias_C = fit_MD.new_zeros(classes, requires_grad=True)
    solver = torch.optim.LBFGS([weight_DC, bias_C], max_iter=settings.iterations, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        solver.zero_grad()
        fault = F.cross_entropy(fit_MD @ weight_DC + bias_C, target_M)
        value = fault + settings.l2 / 2 * weight_DC.square().sum()
        value.backward()  # type: ignore[no-untyped-call]
        return value

    solver.step(loss)  # type: ignore[no-untyped-call]
    return ((on_ND - mean_D) / std_D @ weight_DC + bias_C).detach()
