"""A linear classifier on frozen features of sounds, trained by Adam (CrissCross on DCASE).

Shape suffixes: M recordings to train on, N to evaluate, K renderings of a recording, R = M x K rows, D feature channels,
C classes.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..probes.svm import Trial


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Options of the linear classifier; the defaults are CrissCross's."""

    epochs: int = 200
    """Number of epochs over all renderings."""
    batch: int = 512
    """Renderings per step; an incomplete last batch is dropped."""
    lr: float = 7e-3
    """Learning rate of Adam, constant."""
    weight_decay: float = 1e-5
    """L2 penalty added to the gradient."""
    dropout: float = 0.1
    """Dropout probability of the features."""
    seed: int = 0
    """Seed of initial weights, order and dropout."""

    def __post_init__(self) -> None:
        """Raise ValueError for values out of range."""
        if self.epochs < 1 or self.batch < 1 or self.lr <= 0 or self.weight_decay < 0 or not 0 <= self.dropout < 1:
            raise ValueError(
                "head: epochs and batch must be at least 1, lr more than 0, weight_decay at least 0, dropout from 0 to below 1"
            )


def probabilities(trial: Trial, *, classes: int, settings: Settings) -> Tensor:
    """Fit on the renderings of `trial`, and average the probabilities over those of each evaluated recording: (N, C).

    Raises ValueError if they are not finite.
    """
    row_RD = trial.fit_MKD.flatten(0, 1).float()
    target_R = trial.target_M.repeat_interleave(trial.fit_MKD.shape[1])
    size = min(settings.batch, len(row_RD))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        head = nn.Linear(row_RD.shape[1], classes)
        optimizer = torch.optim.Adam(head.parameters(), lr=settings.lr, weight_decay=settings.weight_decay)
        for _ in range(settings.epochs):
            order_R = torch.randperm(len(row_RD))
            for first in range(0, len(row_RD) - size + 1, size):
                number_B = order_R[first : first + size]
                optimizer.zero_grad(set_to_none=True)
                logit_BC = head(F.dropout(row_RD[number_B], settings.dropout))
                torch.autograd.backward(F.cross_entropy(logit_BC, target_R[number_B]))
                optimizer.step()
    with torch.no_grad():
        found_NC: Tensor = head(trial.on_NKD.float()).softmax(dim=2).mean(dim=1)
    if not found_NC.isfinite().all():
        raise ValueError("the linear classifier has diverged; give a lower --head.lr")
    return found_NC
