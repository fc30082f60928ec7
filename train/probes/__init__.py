"""Judges of frozen features, one file each: `Settings`, `FITS` and `evaluate(on, fit, settings)` in percent.

`FITS` says whether a probe learns from a split of its own; if so it is judged on `on` with what it learnt from `fit`.
Features are the encoders' pooled ones, before any gate: a gate mixes the modalities and makes pairs look learnt.

Shape suffixes: N clips of the judged split, M clips of the fitted split, D feature channels, C classes of the fitted
split, B rows of a chunk.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

ROWS = 128
"""Queries compared at a time, so that a split of 20 000 clips never needs all its pairs in memory."""


@dataclass(frozen=True, slots=True, eq=False)
class Features:
    """One split's features, a row a clip.

    Raises ValueError when the rows of the four disagree in number, a dtype is off or a number is not finite.
    """

    video_ND: Tensor
    """float32 (N, D)."""
    audio_ND: Tensor
    """float32 (N, D); its D may differ from the video's."""
    label_N: Tensor
    """int64 (N,)."""
    keys: tuple[str, ...]
    """Name of each clip."""

    def __post_init__(self) -> None:
        for name, rows_ND in (("video", self.video_ND), ("audio", self.audio_ND)):
            if rows_ND.ndim != 2 or rows_ND.dtype != torch.float32:
                raise ValueError(f"{name} must be float32 (N, D), got {rows_ND.dtype} {tuple(rows_ND.shape)}")
            if not rows_ND.isfinite().all():
                raise ValueError(f"{name} has features that are not finite: the encoder has diverged")
        if self.label_N.ndim != 1 or self.label_N.dtype != torch.int64:
            raise ValueError(f"labels must be int64 (N,), got {self.label_N.dtype} {tuple(self.label_N.shape)}")
        rows = {len(self.video_ND), len(self.audio_ND), len(self.label_N), len(self.keys)}
        if len(rows) != 1 or rows == {0}:
            raise ValueError(f"video, audio, labels and keys need the same number of rows, at least 1, got {rows}")

    def both(self, *, unit: bool = False) -> Tensor:
        """Video and audio channels side by side, each scaled to length 1 where `unit` says so: (N, D video + D audio)."""
        sides = (self.video_ND, self.audio_ND)
        return torch.cat([F.normalize(side_ND) for side_ND in sides] if unit else sides, dim=1)

    def sides(self, *, unit: bool = False) -> Iterator[tuple[str, Tensor]]:
        """What is judged, after the prefix of its metrics: `both` (no prefix), video alone and audio alone.

        One at a time, so that none is in memory for longer than it is judged.
        """
        yield "", self.both(unit=unit)
        yield "video_", F.normalize(self.video_ND) if unit else self.video_ND
        yield "audio_", F.normalize(self.audio_ND) if unit else self.audio_ND


class Scorer(Protocol):
    """Scores each row for each class after a look at the fitted split."""

    def __call__(self, on_ND: Tensor, fit_MD: Tensor, target_M: Tensor, /, *, classes: int) -> Tensor:
        """Take features (N, D) and (M, D) and class indices (M,) below `classes`; return (N, classes)."""
        ...


def classify(on: Features, fit: Features | None, scorer: Scorer, *, unit: bool = False) -> dict[str, float]:
    """Top-1 and top-5 accuracy in percent from both modalities, from video alone and from audio alone (see `sides`).

    Ties count as in `hit_share`; a clip whose class is not in `fit` is a miss. "top1_low" and "top1_high" bound each as
    `interval` does; "top1_chance" and "top5_chance" are what uniform guesses among the classes of `fit` reach. Raises
    ValueError without `fit` and for scores that are no numbers.
    """
    fit = fitted(fit)
    class_C, target_M = torch.unique(fit.label_N, return_inverse=True)
    right_NC = on.label_N[:, None] == class_C
    metrics: dict[str, float] = {}
    for (prefix, on_ND), (_, fit_MD) in zip(on.sides(unit=unit), fit.sides(unit=unit), strict=True):
        score_NC = scorer(on_ND, fit_MD, target_M, classes=len(class_C))
        for k in (1, 5):
            metrics |= bounded(f"{prefix}top{k}", topk_hits(score_NC, right_NC, k=k))
    for k in (1, 5):
        metrics[f"top{k}_chance"] = percent(right_NC.any(dim=1)) * min(k, len(class_C)) / len(class_C)
    return metrics


def fitted(fit: Features | None) -> Features:
    """The fitted split; raises ValueError where there is none."""
    if fit is None:
        raise ValueError("this probe learns from a split: pass the features to fit")
    return fit


def topk_hits(score_NC: Tensor, right_NC: Tensor, *, k: int) -> Tensor:
    """Whether each clip's right class, at most one in a row, is among its k best: scores and truths (N, C) to (N,).

    Ties count as in `hit_share`; a clip without a right class is a miss. Raises ValueError for a score that is NaN.
    """
    if score_NC.isnan().any():
        raise ValueError("scores are not numbers (NaN), so that nothing can be ranked: the fit has diverged")
    right_N1 = torch.where(right_NC, score_NC, torch.inf).amin(dim=1, keepdim=True)
    ahead_N, tied_N = (score_NC > right_N1).sum(dim=1), (score_NC == right_N1).sum(dim=1)
    return hit_share(ahead_N, tied_N, k=k)


def cosines(query_ND: Tensor, gallery_MD: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Row numbers (B,) of `ROWS` queries at a time, in order, and their cosines with the whole gallery (B, M).

    Rounded to six decimals, so that what differs by rounding noise only (a collapsed encoder) is a tie.
    """
    gallery_DM = F.normalize(gallery_MD).T
    for row_B in torch.split(torch.arange(len(query_ND), device=query_ND.device), ROWS):
        yield row_B, (F.normalize(query_ND[row_B]) @ gallery_DM).round(decimals=6)


def hit_share(ahead_N: Tensor, tied_N: Tensor, *, k: int) -> Tensor:
    """Share of the orders of tied items that put the wanted item among the first k: integers (N,) to (N,).

    `ahead_N` items are better and `tied_N`, the wanted one included, are as good; 0 of these is a miss. Where
    everything ties (a collapsed encoder) this is chance.
    """
    return ((k - ahead_N).double() / tied_N.clamp_min(1)).clamp(0, 1) * (tied_N > 0)


def percent(value_N: Tensor) -> float:
    """Mean of truths, or of values in [0, 1], of shape (N,) as a percentage."""
    return 100 * value_N.double().mean().item()


def bootstrap_ci(value_N: Tensor, *, resamples: int = 1000, seed: int = 0) -> tuple[float, float]:
    """95 % bootstrap interval (percentile) over clips of what `percent` gives: (low, high), in percent.

    `value_N` holds one truth, or value in [0, 1], a clip: (N,). The same for every order of the clips.
    """
    value_U, count_U = np.unique(value_N.double().numpy(force=True), return_counts=True)
    clips, rng = count_U.sum(), np.random.default_rng(seed)
    # How often each distinct value is drawn is multinomial, and there are often few: no need to draw clip by clip.
    mean_R = [100 * (rng.multinomial(clips, count_U / clips) @ value_U) / clips for _ in range(resamples)]
    low, high = np.percentile(mean_R, (2.5, 97.5))
    return float(low), float(high)


def bounded(name: str, value_N: Tensor) -> dict[str, float]:
    """The mean in percent of values in [0, 1] of shape (N,) as metric `name`, its `interval` as name_low and name_high."""
    low, high = bootstrap_ci(value_N)
    return {name: percent(value_N), f"{name}_low": low, f"{name}_high": high}
