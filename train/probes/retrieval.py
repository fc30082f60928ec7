"""Retrieval: whether a clip's nearest neighbours in the fitted split show its class, with nothing learnt.

Every clip of the judged split queries the fitted split. R@k is the share of queries with at least one clip of their
class among the k nearest; a query whose class is not in the fitted split is a miss. A clip never finds itself: where
both splits hold its key, that clip is left out of its own gallery.

Ties are averaged: equally near clips count as the mean over all their orders, so that a collapsed encoder scores
exactly chance. Shape suffixes as in `probes`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from . import ROWS, Features, bounded, cosines, fitted, percent

FITS = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What near means, and what is reported."""

    features: Literal["pooled", "unit", "conv5"] = "pooled"
    """What is compared, averaged over a video's clips: the encoders' output; each clip's output scaled to length 1 before the
    mean (SeLaVi and GDT, with --retrieval.distance euclidean); or the last stage's maps, the greatest of every 2 x 2 pixels
    (9216 numbers of an R3D: VCOP, TCGL, IIC)."""
    distance: Literal["cosine", "euclidean"] = "cosine"
    """cosine, each modality scaled to length 1 before they are joined; or euclidean, between features as they are."""
    ks: tuple[int, ...] = (1, 5, 10, 20, 50)
    """Ranks of R@k; those beyond the number of clips of the fitted split are left out."""

    def __post_init__(self) -> None:
        """Raise ValueError for no rank, or one below 1."""
        if min(self.ks, default=0) < 1:
            raise ValueError(f"--retrieval.ks {list(self.ks)}: at least one rank is needed, and a rank is at least 1")


def evaluate(on: Features, fit: Features | None, settings: Settings) -> dict[str, float]:
    """Look for the clips of `on` in `fit`: R@k in percent as "r1", "video_r1", "audio_r1" and so on.

    "r1_low" and "r1_high" bound each as `probes.bootstrap_ci` does; "r1_chance" and so on are what a random order of the
    gallery reaches. Raises ValueError without `fit`.
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
    """As `cosines`, but minus the Euclidean distances (B, M), the longest feature being 1 long."""
    longest = max(_longest(query_ND), _longest(gallery_MD), 1e-12)
    gallery_MD = gallery_MD.double() / longest  # in float32, equal features would lie 1e-3 apart
    for row_B in torch.split(torch.arange(len(query_ND), device=query_ND.device), ROWS):
        query_BD = query_ND[row_B].double() / longest
        apart_BM = torch.cdist(query_BD, gallery_MD, compute_mode="use_mm_for_euclid_dist")
        yield row_B, apart_BM.neg().round(decimals=6)


def found_share(ahead_N: Tensor, tied_N: Tensor, wanted_N: Tensor, *, k: int) -> Tensor:
    """Share of the orders of tied items that put at least one wanted item among the first k: integers (N,) to (N,).

    `ahead_N` items are better, `tied_N` are as good as the best wanted one, `wanted_N` of these are wanted; with one
    wanted this is `hit_share`. Drawing d = k - ahead of the tied, all are unwanted in C(tied - wanted, d) of the
    C(tied, d) cases.
    """
    drawn_N = (k - ahead_N).clamp_min(0).minimum(tied_N)

    def ways(items_N: Tensor) -> Tensor:  # logarithm of C(items, drawn) drawn!: -inf where there are too few items
        return torch.lgamma((items_N + 1).double()) - torch.lgamma((items_N - drawn_N + 1).double())

    return (-torch.expm1(ways(tied_N - wanted_N) - ways(tied_N))).clamp(0, 1)


def _longest(feature_ND: Tensor) -> float:
    """Length of the longest of features (N, D)."""
    return float(torch.linalg.vector_norm(feature_ND, dim=1, dtype=torch.float64).max())


def _best(
    compared: Iterator[tuple[Tensor, Tensor]], label_N: Tensor, label_M: Tensor, *, self_N: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """For each query: clips nearer than the nearest of its class, clips as near, and how many of these are of its class.

    `self_N` is the query's own row in the gallery, -1 where it has none. Three times (N,); the last is 0 without a clip
    of the class.
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
