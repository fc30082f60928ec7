"""Cross-modal retrieval: whether a clip's audio retrieves its video, and its video its audio.

Every clip of a split queries with one modality; the gallery is the other modality of all N clips, itself included,
ordered by cosine; the results give N as "samples". Use it only on ungated features (see `probes`). Two questions, both
directions, in percent:

* instance: rank of the clip's own other modality. R@k is the fraction of queries with a rank of at most k, MRR the mean of
  1 / rank. Chance is k / N and H_N / N, with H_N = 1 + 1/2 + ... + 1/N.
* class: ranks of the clips with the query's label. mAP is the mean average precision over queries. Chance depends on the
  class sizes.

Ties are averaged: a group of equal cosines counts as the mean over all its orders. A collapsed encoder, for which all cosines
are equal, therefore scores exactly chance. Shape suffixes as in `probes`, with M = N.
"""

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from . import Features, bounded, cosines, hit_share, percent

NEEDS_TRAIN_FEATURES = False
NEEDS_BOTH = True
"""It compares picture and sound."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Features and metrics."""

    features: Literal["pooled", "embedding"] = "pooled"
    """pooled: encoder output. embedding: output of the projection head, as compared by the run's loss."""
    ks: tuple[int, ...] = (1, 5, 10)
    """Values of k for R@k; those above the number of clips are left out."""

    def __post_init__(self) -> None:
        """Raise ValueError for a k below 1."""
        if min(self.ks, default=1) < 1:
            raise ValueError(f"--crossmodal.ks {list(self.ks)}: a rank is at least 1")


def evaluate(on: Features, fit: Features | None, settings: Settings) -> dict[str, float]:
    """Retrieve within `on`; `fit` is not used.

    Keys are "video_to_audio_r1" (r5, r10, mrr, map), with bootstrap bounds "video_to_audio_r1_low" and
    "video_to_audio_r1_high", the same for "audio_to_video", and "r1_chance" etc. for both directions. Raises ValueError if the
    modalities' widths differ, or there is one modality.
    """
    if not on.audio_ND.shape[1]:
        raise ValueError("pictures alone have no sounds to retrieve; give shards with picture and sound")
    if on.video_ND.shape != on.audio_ND.shape:
        raise ValueError(f"cosines need equal widths: video {on.video_ND.shape[1]}, audio {on.audio_ND.shape[1]}")
    ks = [k for k in settings.ks if k <= len(on.keys)]
    there = _retrieve(on.video_ND, on.audio_ND, on.label_N, ks=ks)
    back = _retrieve(on.audio_ND, on.video_ND, on.label_N, ks=ks)
    return {
        **{f"video_to_audio_{name}": value for name, value in there.items()},
        **{f"audio_to_video_{name}": value for name, value in back.items()},
        **{f"{name}_chance": value for name, value in _chance(on.label_N, ks=ks).items()},
    }


@dataclass(frozen=True, slots=True)
class Neighbours:
    """What lies nearest to one clip in the other modality: rows of the split with their cosines, nearest first."""

    row: int
    """Of the clip that queries."""
    sounds: tuple[tuple[int, float], ...]
    """Nearest to its picture."""
    pictures: tuple[tuple[int, float], ...]
    """Nearest to its sound."""


def neighbours(on: Features, *, queries: int = 24, count: int = 5) -> list[Neighbours]:
    """The `count` nearest of each of up to `queries` clips, evenly spaced in the split; its own other half may be among them.

    Raises ValueError when the modalities differ in width.
    """
    if on.video_ND.shape != on.audio_ND.shape:
        raise ValueError(f"cosines need equal widths: video {on.video_ND.shape[1]}, audio {on.audio_ND.shape[1]}")
    total = len(on.keys)
    rows = [total * place // min(total, queries) for place in range(min(total, queries))]
    there, back = (
        _nearest(query_ND[rows], gallery_ND, count=min(count, total))
        for query_ND, gallery_ND in ((on.video_ND, on.audio_ND), (on.audio_ND, on.video_ND))
    )
    return [Neighbours(*each) for each in zip(rows, there, back, strict=True)]


def _nearest(query_BD: Tensor, gallery_ND: Tensor, *, count: int) -> list[tuple[tuple[int, float], ...]]:
    """Of each query the rows of the gallery with the greatest cosines, and these."""
    cosine_BN = F.normalize(query_BD) @ F.normalize(gallery_ND).T
    cosine_BK, row_BK = cosine_BN.topk(count, dim=1)
    return [tuple(zip(*each, strict=True)) for each in zip(row_BK.tolist(), cosine_BK.tolist(), strict=True)]


def average_precision(score_BN: Tensor, relevant_BN: Tensor) -> Tensor:
    """Average precision of each row, averaged over all orders of ties: (B, N) scores and booleans to (B,).

    At position p (from 1) of a group of `size` tied items, `hits` of them relevant, after `earlier` relevant ones, an item is
    relevant with probability hits / size, and the expected number of relevant items up to it is then earlier + 1 + (p - 1)
    (hits - 1) / (size - 1). Each row needs a relevant item.
    """
    distance_BN, order_BN = score_BN.neg().sort(dim=1)
    place_N = torch.arange(score_BN.shape[1], device=score_BN.device)
    first_BN = torch.searchsorted(distance_BN, distance_BN)  # items before the tied group
    end_BN = torch.searchsorted(distance_BN, distance_BN, right=True)  # items up to its end
    size_BN = end_BN - first_BN
    found_BN1 = F.pad(relevant_BN.gather(1, order_BN).cumsum(dim=1), (1, 0))  # [:, i]: relevant among the first i
    earlier_BN = found_BN1.gather(1, first_BN)
    hits_BN = found_BN1.gather(1, end_BN) - earlier_BN
    mates_BN = (place_N - first_BN).double() * (hits_BN - 1) / (size_BN - 1).clamp_min(1)
    precision_BN = (earlier_BN + 1 + mates_BN) / (place_N + 1)
    return (precision_BN * hits_BN / size_BN).sum(dim=1) / found_BN1[:, -1]


def _retrieve(query_ND: Tensor, gallery_ND: Tensor, label_N: Tensor, *, ks: list[int]) -> dict[str, float]:
    """R@k, MRR and mAP, with bounds, of (N, D) queries; the target of each is the same row of the (N, D) gallery."""
    ahead, tied, precision = [], [], []
    for row_B, cosine_BN in cosines(query_ND, gallery_ND):
        own_B1 = cosine_BN.gather(1, row_B[:, None])
        ahead.append((cosine_BN > own_B1).sum(dim=1))
        tied.append((cosine_BN == own_B1).sum(dim=1))
        precision.append(average_precision(cosine_BN, label_N[row_B, None] == label_N))
    ahead_N, tied_N = torch.cat(ahead), torch.cat(tied)
    harmonic_N1 = _harmonic(len(label_N)).to(label_N.device)
    found = {f"r{k}": hit_share(ahead_N, tied_N, k=k) for k in ks}
    found |= {"mrr": (harmonic_N1[ahead_N + tied_N] - harmonic_N1[ahead_N]) / tied_N, "map": torch.cat(precision)}
    return {name: score for metric, value_N in found.items() for name, score in bounded(metric, value_N).items()}


def _chance(label_N: Tensor, *, ks: list[int]) -> dict[str, float]:
    """R@k, MRR and mAP in percent of a random ranking."""
    clips = len(label_N)
    first = _harmonic(clips)[-1].item() / clips
    _, class_N, size_C = torch.unique(label_N, return_inverse=True, return_counts=True)
    mates_N = (size_C[class_N] - 1).double() / max(1, clips - 1)
    return {
        **{f"r{k}": 100 * k / clips for k in ks},
        "mrr": 100 * first,
        "map": percent(first + mates_N * (1 - first)),
    }


def _harmonic(count: int) -> Tensor:
    """Harmonic numbers H_0 to H_count."""
    return F.pad((1 / torch.arange(1, count + 1, dtype=torch.float64)).cumsum(dim=0), (1, 0))
