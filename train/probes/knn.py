"""Nearest neighbours: whether clips of a class already lie together, with nothing learnt.

Each of the k nearest clips of the fitted split votes for its class with weight exp(cosine / temperature). Video and
audio are scaled to length 1 before they are joined, so that both count the same. Clips exactly as near as the k-th
all vote, so that the order of the clips does not matter. Shape suffixes as in `probes`.
"""

from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from . import Features, classify, cosines

FITS = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How neighbours vote."""

    k: int = 20
    """Neighbours; at most all clips of the fitted split."""
    temperature: float = 0.07
    """Divisor of the cosines: small lets the nearest decide, large counts heads."""

    def __post_init__(self) -> None:
        """Raise ValueError for no neighbour, and a temperature that is not positive and finite."""
        if self.k < 1:
            raise ValueError(f"--knn.k {self.k}: must be at least 1")
        if not 0 < self.temperature < float("inf"):
            raise ValueError(f"--knn.temperature {self.temperature}: must be more than 0")


def evaluate(on: Features, fit: Features | None, settings: Settings) -> dict[str, float]:
    """Vote with `fit`, judge on `on`: the accuracies of `classify`. Raises ValueError without `fit`."""
    return classify(on, fit, partial(_votes, settings=settings), unit=True)


def _votes(on_ND: Tensor, fit_MD: Tensor, target_M: Tensor, /, *, classes: int, settings: Settings) -> Tensor:
    """Votes (N, C) of (M, D) neighbours, whose class indices are (M,), for (N, D) clips."""
    class_MC = F.one_hot(target_M, classes).float()
    votes = []
    for _, cosine_BM in cosines(on_ND, fit_MD):
        nearest_Bk = cosine_BM.topk(min(settings.k, len(fit_MD))).values
        weight_BM = ((cosine_BM - nearest_Bk[:, :1]) / settings.temperature).exp()
        votes.append(torch.where(cosine_BM >= nearest_Bk[:, -1:], weight_BM, 0) @ class_MC)
    return torch.cat(votes)
