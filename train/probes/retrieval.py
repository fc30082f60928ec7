"""Retrieval: whether a clip's nearest neighbors in the fitted split share its class.

Each clip of the evaluated split queries the fitted split. R@k is the fraction of queries with at least one clip of their class
among the k nearest; a query whose class is not in the fitted split is a miss. If both splits contain a clip's key, that clip is
left out of its own gallery.

Ties are averaged over all their orders, so a collapsed encoder scores exactly chance. Shape suffixes as in `probes`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from . import ROWS, Features, bounded, cosines, fitted, percent

NEEDS_TRAIN_FEATURES = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Features, distance and metrics."""

    features: Literal["pooled", "unit", "conv5"] = "pooled"
    """Features to compare, averaged over a video's clips. pooled: encoder output. unit: encoder output L2-normalized per clip
    (SeLaVi, GDT; use --retrieval.distance euclidean). conv5: maps of the last layer, max-pooled 2 x 2 (9216 values for R3D:
    VCOP, TCGL, IIC)."""
    distance: Literal["cosine", "euclidean"] = "cosine"
    """cosine: each modality L2-normalized before concatenation. euclidean: between features as they are."""
    ks: tuple[int, ...] = (1, 5, 10, 20, 50)
    """Values of k for R@k; those above the number of clips of the fitted split are left out."""

    def __post_init__(self) -> None:
        """Raise ValueError for no k, or one below 1."""
        if min(self.ks, default=0) < 1:
            raise ValueError(f"--retrieval.ks {list(self.ks)}: at least one rank is needed, and a rank is at least 1")


def evaluate(on: Features, fit: Features | None, settings: Settings) -> dict[str, float]:
    """Retrieve clips of `fit` for the queries `on`: R@k in percent as "r1", "video_r1", "audio_r1" etc.

    "r1_low" and "r1_high" are bootstrap bounds; "r1_chance" etc. are the values of a random ranking. Raises ValueError without
    `fit`.
    """
    fit = fitted(fit)
    ks = [k for k in settings.ks if k <= len(fit.keys)]
    row = {key: number for number, key in enumerate(fit.keys)}
    self_N = torch.tensor([row.get(key, -1) for key in on.keys])
    unit = settings.distance == "cosine"
    compare = cosines if unit else opposites
    metrics: dict[str, float] = {}
    for (prefix, on_ND), (_, fit_MD) in zip(on.sides(unit=unit), fit.sides(unit=unit), strict=True):
        ahead_N, tied_N, wanted_N = _best(compare(on_ND, fit_MD), on.label_N, fit.label_N, self_N=self_N)
        for k in ks:
            metrics |= bounded(f"{prefix}r{k}", found_share(ahead_N, tied_N, wanted_N, k=k))
    alike = torch.zeros(len(on.keys), 1), torch.zeros(len(fit.keys), 1)
    ahead_N, tied_N, wanted_N = _best(cosines(*alike), on.label_N, fit.label_N, self_N=self_N)
    return metrics | {f"r{k}_chance": percent(found_share(ahead_N, tied_N, wanted_N, k=k)) for k in ks}


def opposites(query_ND: Tensor, gallery_MD: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Like `cosines`, with negative Euclidean distances (B, M), scaled so that the longest feature has length 1."""
    longest = max(_longest(query_ND), _longest(gallery_MD), 1e-12)
    gallery_MD = gallery_MD.double() / longest  # in float32, equal features would be 1e-3 apart
    for row_B in torch.split(torch.arange(len(query_ND), device=query_ND.device), ROWS):
        query_BD = query_ND[row_B].double() / longest
        apart_BM = torch.cdist(query_BD, gallery_MD, compute_mode="use_mm_for_euclid_dist")
        yield row_B, apart_BM.neg().round(decimals=6)


def found_share(ahead_N: Tensor, tied_N: Tensor, wanted_N: Tensor, *, k: int) -> Tensor:
    """Probability that a relevant item is among the first k when ties are ordered randomly: integers (N,) to (N,).

    `ahead_N` items score higher than the best relevant one, `tied_N` the same, `wanted_N` of these are relevant; with one
    relevant item this is `hit_share`. Of d = k - ahead items drawn from the tied, none is relevant in C(tied - wanted, d) of
    C(tied, d) cases.
    """
    drawn_N = (k - ahead_N).clamp_min(0).minimum(tied_N)

    def ways(items_N: Tensor) -> Tensor:  # logarithm of C(items, drawn) drawn!: -inf if there are too few items
        return torch.lgamma((items_N + 1).double()) - torch.lgamma((items_N - drawn_N + 1).double())

    return (-torch.expm1(ways(tied_N - wanted_N) - ways(tied_N))).clamp(0, 1)


def _longest(feature_ND: Tensor) -> float:
    """Norm of the longest of features (N, D)."""
    return float(torch.linalg.vector_norm(feature_ND, dim=1, dtype=torch.float64).max())


def _best(
    compared: Iterator[tuple[Tensor, Tensor]], label_N: Tensor, label_M: Tensor, *, self_N: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """For each query: clips nearer than the nearest of its class, clips equally near, and how many of these are of its class.

    `self_N` is the query's own row in the gallery, or -1. Returns three (N,) tensors; the last is 0 without a clip of the
    class.
    """
    rows_M = torch.arange(len(label_M))
    found = []
    for row_B, near_BM in compared:
        self_BM = self_N[row_B, None] == rows_M
        right_BM = (label_N[row_B, None] == label_M) & ~self_BM
        near_BM = near_BM.masked_fill(self_BM, -torch.inf)
        best_B1 = near_BM.masked_fill(~right_BM, -torch.inf).amax(dim=1, keepdim=True)
        tied_BM = near_BM == best_B1
        found.append(torch.stack([(near_BM > best_B1).sum(1), tied_BM.sum(1), (tied_BM & right_BM).sum(1)]))
    ahead_N, tied_N, wanted_N = torch.cat(found, dim=1)
    return ahead_N, tied_N, wanted_N
