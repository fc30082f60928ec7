"""k-nearest-neighbor classification of frozen features.

Each of the k nearest clips of the fitted split votes for its class with weight exp(cosine / temperature). Video and audio are
L2-normalized before concatenation. All clips exactly as near as the k-th vote, so the order of clips does not matter. Shape
suffixes as in `probes`.
"""

from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from . import Features, classify, cosines

NEEDS_TRAIN_FEATURES = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Voting of neighbors."""

    k: int = 20
    """Number of neighbors, at most the number of clips of the fitted split."""
    temperature: float = 0.07
    """Temperature of the vote weights exp(cosine / temperature): small values favor the nearest neighbor."""

    def __post_init__(self) -> None:
        """Raise ValueError for values out of range."""
        if self.k < 1:
            raise ValueError(f"--knn.k {self.k}: must be at least 1")
        if not 0 < self.temperature < float("inf"):
            raise ValueError(f"--knn.temperature {self.temperature}: must be more than 0")


def evaluate(on: Features, fit: Features | None, settings: Settings) -> dict[str, float]:
    """Classify `on` by its neighbors in `fit`: accuracies of `classify`. Raises ValueError without `fit`."""
    return classify(on, fit, partial(_votes, settings=settings), unit=True)


def _votes(on_ND: Tensor, fit_MD: Tensor, target_M: Tensor, /, *, classes: int, settings: Settings) -> Tensor:
    """Votes (N, C) for (N, D) clips by (M, D) neighbors with class indices (M,)."""
    class_MC = F.one_hot(target_M, classes).float()
    votes = []
    for _, cosine_BM in cosines(on_ND, fit_MD):
        nearest_Bk = cosine_BM.topk(min(settings.k, len(fit_MD))).values
        weight_BM = ((cosine_BM - nearest_Bk[:, :1]) / settings.temperature).exp()
        votes.append(torch.where(cosine_BM >= nearest_Bk[:, -1:], weight_BM, 0) @ class_MC)
    return torch.cat(votes)
