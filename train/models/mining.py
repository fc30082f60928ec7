"""Positive mining of CMA: samples with similar bank rows in both modalities (arXiv 2004.12943, section 4.1).

Shape suffixes: S samples of the split, A anchors among them, P positives, D channels of the embedding.
"""

from typing import Literal

import numpy as np
import torch
from torch import Tensor

from kinetics_sounds import progress

from ..distributed import collectives, gather

Criterion = Literal["min", "max", "video", "audio"]
"""Similarity of two samples: min: both modalities agree (CMA), max: either does, or one modality alone (Fig. 4)."""
CRITERIA: tuple[Criterion, ...] = ("min", "max", "video", "audio")
MOST_SCORES = 2**25
"""Maximum number of cosines in memory at a time, per modality; never all S x S."""


def mine(video_SD: Tensor, audio_SD: Tensor, *, criterion: Criterion, count: int) -> Tensor:
    """The `count` most similar other samples of each sample, in ascending order of their rows: int64 (S, P).

    The bank rows must be L2-normalized and equal on all ranks; each rank processes a slice of the samples, and the result does
    not depend on the number of ranks. Raises ValueError if there are not enough samples.
    """
    samples = len(video_SD)
    if not 0 < count < samples:
        raise ValueError(f"{count} positives per sample are not available among {samples} samples")
    blocks = torch.split(torch.arange(samples, device=video_SD.device), block_size(samples))
    own = blocks[collectives.local_slice(len(blocks))]
    found = []
    with progress.bar("mining positives", len(own), shown=collectives.is_main()) as bar:
        for anchor_A in own:
            found.append(nearest(video_SD, audio_SD, anchor_A, criterion=criterion, count=count))
            bar.advance()
    none = torch.zeros(0, count, dtype=torch.int64, device=video_SD.device)
    return gather.gather(torch.cat([none, *found]))


def block_size(samples: int) -> int:
    """Anchors processed together."""
    return max(1, MOST_SCORES // samples)


def nearest(video_SD: Tensor, audio_SD: Tensor, anchor_A: Tensor, *, criterion: Criterion, count: int) -> Tensor:
    """Most similar samples of these anchors: int64 (A, P)."""
    cosine_AS = _alike(video_SD, audio_SD, anchor_A, criterion)
    cosine_AS[torch.arange(len(anchor_A), device=anchor_A.device), anchor_A] = -torch.inf
    return cosine_AS.topk(count, dim=1).indices.sort(dim=1).values


def _alike(video_SD: Tensor, audio_SD: Tensor, anchor_A: Tensor, criterion: Criterion) -> Tensor:
    """Similarity of anchors to all samples (rho of Eq. 8): (A, S)."""
    if criterion == "video":
        return video_SD[anchor_A] @ video_SD.T
    if criterion == "audio":
        return audio_SD[anchor_A] @ audio_SD.T
    join = torch.minimum if criterion == "min" else torch.maximum
    return join(video_SD[anchor_A] @ video_SD.T, audio_SD[anchor_A] @ audio_SD.T)


def precision(positive_AP: Tensor, anchor_A: Tensor, labels_S: Tensor) -> Tensor:
    """Fraction of positives with the class of their anchor (Fig. 4c): a scalar, 0 if no anchor has a label.

    Anchors without a label (-1) are ignored; positives without one count as wrong.
    """
    label_A = labels_S[anchor_A]
    right_AP = labels_S[positive_AP] == label_A[:, None]
    return right_AP[label_A >= 0].double().mean().nan_to_num().float()


def evenly(samples: int, most: int) -> Tensor:
    """At most this many rows, evenly spaced: int64."""
    return torch.from_numpy(np.unique(np.linspace(0, samples - 1, min(samples, most)).round().astype(np.int64)))


def outside(draw_BK: Tensor, excluded_BP: Tensor) -> Tensor:
    """Map draws to rows that are not excluded: draws in [0, S - P) reach every other row exactly once.

    `excluded_BP` must be ascending and unique (the map r + #{k : p_k - k <= r} of the authors' code).
    """
    free_BP = excluded_BP - torch.arange(excluded_BP.shape[1], device=excluded_BP.device)
    return draw_BK + torch.searchsorted(free_BP, draw_BK, right=True)
