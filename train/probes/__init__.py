"""Probes of frozen features: `Settings`, `NEEDS_TRAIN_FEATURES` and `evaluate(on, fit, settings)` in percent.

With `NEEDS_TRAIN_FEATURES` a probe is fitted on the features `fit` and evaluated on `on`. Features are the encoders' pooled
outputs, before any gate: a gate mixes both modalities, which would inflate cross-modal scores.

Shape suffixes: N clips of the evaluated split, M clips of the fitted split, D feature channels, C classes of the fitted split,
B rows of a chunk.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

ROWS = 128
"""Queries compared at a time, to bound the memory of similarity matrices."""
Z95 = 1.959964
"""Quantile of the normal distribution for two-sided 95 %."""


@dataclass(frozen=True, slots=True, eq=False)
class Features:
    """Features of a split, one row per clip.

    Raises ValueError if the four fields differ in length, a dtype is wrong or a value is not finite.
    """

    video_ND: Tensor
    """float32 (N, D)."""
    audio_ND: Tensor
    """float32 (N, D); its D may differ from the video's, and is 0 for pictures alone."""
    label_N: Tensor
    """int64 (N,)."""
    keys: tuple[str, ...]
    """Key of each clip."""

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
        """Concatenated video and audio features, each L2-normalized if `unit`: (N, D video + D audio)."""
        sides = (self.video_ND, self.audio_ND)
        return torch.cat([F.normalize(side_ND) for side_ND in sides] if unit else sides, dim=1)

    def sides(self, *, unit: bool = False) -> Iterator[tuple[str, Tensor]]:
        """Yield the features to evaluate with the prefix of their metrics: both (no prefix), video and audio.

        One at a time, to save memory. Of pictures alone they are video's only.
        """
        if self.audio_ND.shape[1]:
            yield "", self.both(unit=unit)
        yield "video_", F.normalize(self.video_ND) if unit else self.video_ND
        if not self.audio_ND.shape[1]:
            return
        yield "audio_", F.normalize(self.audio_ND) if unit else self.audio_ND


class Scorer(Protocol):
    """Fits a classifier and scores clips for each class."""

    def __call__(self, on_ND: Tensor, fit_MD: Tensor, target_M: Tensor, /, *, classes: int) -> Tensor:
        """Scores (N, classes) of features (N, D), after fitting (M, D) with class indices (M,) below `classes`."""
        ...


def classify(on: Features, fit: Features | None, scorer: Scorer, *, unit: bool = False) -> dict[str, float]:
    """Top-1 and top-5 accuracy in percent of both modalities together, of video and of audio (see `Features.sides`).

    Ties count as in `hit_share`; a clip whose class is not in `fit` is a miss. "top1_low" and "top1_high" are bootstrap bounds;
    "top1_chance" and "top5_chance" are those of `chance`. Raises ValueError without `fit`, and for scores that are not finite.
    """
    fit = fitted(fit)
    class_C, target_M = torch.unique(fit.label_N, return_inverse=True)
    right_NC = on.label_N[:, None] == class_C
    metrics: dict[str, float] = {}
    for (prefix, on_ND), (_, fit_MD) in zip(on.sides(unit=unit), fit.sides(unit=unit), strict=True):
        score_NC = scorer(on_ND, fit_MD, target_M, classes=len(class_C))
        for k in (1, 5):
            metrics |= bounded(f"{prefix}top{k}", topk_hits(score_NC, right_NC, k=k))
    return metrics | chance(on.label_N, fit.label_N)


def chance(label_N: Tensor, fit_M: Tensor) -> dict[str, float]:
    """Accuracy of uniform guesses for clips with labels (N,), in percent: "top1_chance" and "top5_chance".

    Guessed are the classes among the labels (M,) that a classifier is fitted on: a clip of any other class is a miss.
    """
    class_C = torch.unique(fit_M)
    known = percent(torch.isin(label_N, class_C))
    return {f"top{k}_chance": known * min(k, len(class_C)) / len(class_C) for k in (1, 5)}


def fitted(fit: Features | None) -> Features:
    """The fitted split; raises ValueError if there is none."""
    if fit is None:
        raise ValueError("this probe needs the features of a split to fit on")
    return fit


def topk_hits(score_NC: Tensor, right_NC: Tensor, *, k: int) -> Tensor:
    """Whether each clip's true class is among its k highest scores: scores and one-hot truths (N, C) to (N,).

    Ties count as in `hit_share`; a clip without a true class is a miss. Raises ValueError for NaN.
    """
    if score_NC.isnan().any():
        raise ValueError("scores are NaN: the fit has diverged")
    right_N1 = torch.where(right_NC, score_NC, torch.inf).amin(dim=1, keepdim=True)
    ahead_N, tied_N = (score_NC > right_N1).sum(dim=1), (score_NC == right_N1).sum(dim=1)
    return hit_share(ahead_N, tied_N, k=k)


def cosines(query_ND: Tensor, gallery_MD: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield chunks of `ROWS` query indices (B,), in order, with their cosines to the whole gallery (B, M).

    Rounded to six decimals, so that values that differ only by rounding errors (collapsed encoders) are ties.
    """
    gallery_DM = F.normalize(gallery_MD).T
    for row_B in torch.split(torch.arange(len(query_ND), device=query_ND.device), ROWS):
        yield row_B, (F.normalize(query_ND[row_B]) @ gallery_DM).round(decimals=6)


def hit_share(ahead_N: Tensor, tied_N: Tensor, *, k: int) -> Tensor:
    """Probability that the target is among the first k when ties are ordered randomly: integers (N,) to (N,).

    `ahead_N` items score higher and `tied_N`, including the target, score the same; without any
    (`tied_N` 0) it is a miss. If everything ties (a collapsed encoder), this equals chance.
    """
    return ((k - ahead_N).double() / tied_N.clamp_min(1)).clamp(0, 1) * (tied_N > 0)


def percent(value_N: Tensor) -> float:
    """Mean of booleans or values in [0, 1] of shape (N,), in percent."""
    return 100 * value_N.double().mean().item()


def bootstrap_ci(value_N: Tensor, *, resamples: int = 1000, seed: int = 0) -> tuple[float, float]:
    """95 % bootstrap (percentile) confidence interval of the mean, in percent: (low, high).

    `value_N` holds one boolean, or value in [0, 1], per clip: (N,). The result does not depend on the order of clips. If all are
    0, or all are 1, every resample is the same and its interval would be a point; then Wilson's score interval (Wilson 1927) is
    given, such as 56.6 to 100 for five hits of five.
    """
    if len(value_N) and bool((value_N == value_N[0]).all()) and value_N[0] in (0, 1):
        share = 100 * len(value_N) / (len(value_N) + Z95**2)
        return (share, 100.0) if value_N[0] else (0.0, 100.0 - share)
    value_U, count_U = np.unique(value_N.double().numpy(force=True), return_counts=True)
    clips, rng = count_U.sum(), np.random.default_rng(seed)
    # Draw counts of distinct values (multinomial), because there are often few, instead of single clips.
    mean_R = [100 * (rng.multinomial(clips, count_U / clips) @ value_U) / clips for _ in range(resamples)]
    low, high = np.percentile(mean_R, (2.5, 97.5))
    return float(low), float(high)


def bounded(name: str, value_N: Tensor) -> dict[str, float]:
    """Mean in percent of values in [0, 1] of shape (N,) as metric `name`, with its bootstrap interval name_low and name_high."""
    low, high = bootstrap_ci(value_N)
    return {name: percent(value_N), f"{name}_low": low, f"{name}_high": high}
