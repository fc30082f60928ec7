"""Linear SVM: how well one-against-the-rest machines tell the classes apart (squared hinge, features not scaled).

The strength C is chosen from a list: by cross-validation within the fitted split, or, as the papers do it, by the score on
the very clips that are judged, which is optimistic and marked so. Shape suffixes as in `probes`, with K renderings of a
clip: each is a row to learn from, and their decision values are averaged to judge it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from . import Features, classify, fitted, topk_hits

FITS = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How the machines are fitted."""

    cs: tuple[float, ...] = (1e-5, 5e-5, 1e-4, 5e-4, 1e-3, 5e-3, 1e-2, 1.0)
    """Strengths C to choose from: weight of the errors against that of the margin."""
    select: Literal["fit", "test"] = "fit"
    """What chooses C: cross-validation within the fitted split, or the judged clips themselves (as the papers do it)."""
    folds: int = 3
    """Parts of the cross-validation."""
    iterations: int = 1000
    """Steps of the solver at most."""

    def __post_init__(self) -> None:
        """Raise ValueError for no strength or one that is not positive and finite, fewer than two folds and no step."""
        if not self.cs or not all(0 < c < float("inf") for c in self.cs):
            raise ValueError(f"--svm.cs {list(self.cs)}: at least one is needed, and each must be more than 0")
        if self.folds < 2:
            raise ValueError(f"--svm.folds {self.folds}: must be at least 2")
        if self.iterations < 1:
            raise ValueError(f"--svm.iterations {self.iterations}: must be at least 1")


class Trial(NamedTuple):
    """One judgement: what is learnt from and what is judged."""

    fit_MKD: Tensor
    target_M: Tensor
    """Class index of each fitted clip."""
    on_NKD: Tensor
    right_N: Tensor
    """Class index of each judged clip, -1 for a class that there is none of."""


def evaluate(on: Features, fit: Features | None, settings: Settings) -> dict[str, float]:
    """Fit on `fit`, judge on `on`: the accuracies of `classify`, and the C of each as "c", "video_c" and "audio_c".

    "selected_on_test" is 1 where the judged clips chose C, else 0. Raises ValueError without `fit` and as `strength`.
    """
    fit = fitted(fit)
    part_M = folds(fit.label_N, fit.keys, folds=settings.folds)
    chosen: list[float] = []

    def scorer(on_ND: Tensor, fit_MD: Tensor, target_M: Tensor, /, *, classes: int) -> Tensor:
        class_C = torch.unique(fit.label_N)
        right_NC = on.label_N[:, None] == class_C
        right_N = torch.where(right_NC.any(dim=1), right_NC.long().argmax(dim=1), -1)
        trial = Trial(fit_MD[:, None], target_M, on_ND[:, None], right_N)
        chosen.append(select_C(trial, part_M, classes=classes, settings=settings))
        return decisions(trial, classes=classes, c=chosen[-1], iterations=settings.iterations)

    metrics = classify(on, fit, scorer)
    strengths = {f"{prefix}c": c for prefix, c in zip(("", "video_", "audio_"), chosen, strict=True)}
    return {**metrics, **strengths, "selected_on_test": float(settings.select == "test")}


def folds(label_M: Tensor, keys: Sequence[str], *, folds: int) -> Tensor:
    """Part below `folds` of each clip: the clips of each class are dealt out in the order of their keys. (M,) to (M,)."""
    part_M = torch.empty_like(label_M)
    order_M = torch.tensor(sorted(range(len(keys)), key=keys.__getitem__))
    for label in torch.unique(label_M):
        row_m = order_M[label_M[order_M] == label]
        part_M[row_m] = torch.arange(len(row_m)) % folds
    return part_M


def held_out(fit_MKD: Tensor, target_M: Tensor, part_M: Tensor) -> Iterator[Trial]:
    """Each part judged by what the others teach; a part that is all there is teaches nothing and is left out."""
    for part in torch.unique(part_M):
        out_M = part_M == part
        if not out_M.all():
            yield Trial(fit_MKD[~out_M], target_M[~out_M], fit_MKD[out_M], target_M[out_M])


def select_C(trial: Trial, part_M: Tensor, *, classes: int, settings: Settings) -> float:
    """The C of `settings.cs` with the best top-1 accuracy; the smallest of equals.

    Judged on each part (M,) of the fitted clips in turn, the judged clips unseen, unless `settings.select` is "test".
    Raises ValueError where all fitted clips are of one part, so that none can be held out.
    """
    if len(settings.cs) == 1:
        return settings.cs[0]
    trials = [trial] if settings.select == "test" else list(held_out(trial.fit_MKD, trial.target_M, part_M))
    if not trials:
        raise ValueError(
            "no clip can be held out to choose C, as no class has two to learn from: "
            "give one C with --svm.cs, or let the judged clips choose it with --svm.select test"
        )

    def score(c: float) -> float:
        return sum(float(correct(each, classes=classes, c=c, iterations=settings.iterations).sum()) for each in trials)

    return max(sorted(settings.cs), key=score)


def correct(trial: Trial, *, classes: int, c: float, iterations: int) -> Tensor:
    """Whether each judged clip is told right, ties as in `hit_share`: (N,)."""
    score_NC = decisions(trial, classes=classes, c=c, iterations=iterations)
    return topk_hits(score_NC, trial.right_N[:, None] == torch.arange(classes), k=1)


def decisions(trial: Trial, *, classes: int, c: float, iterations: int) -> Tensor:
    """Mean decision values over the renderings of each judged clip: float64 (N, classes), -inf for a class not taught."""
    from sklearn.svm import LinearSVC

    renderings = trial.fit_MKD.shape[1]
    taught_C = torch.unique(trial.target_M)
    score_NC = torch.full((len(trial.on_NKD), classes), -torch.inf, dtype=torch.float64)
    if len(taught_C) == 1:  # nothing to tell apart
        score_NC[:, taught_C] = 0
        return score_NC
    # The primal problem: no random order of the rows, and it converges where the dual one does not.
    machine = LinearSVC(C=c, dual=False, max_iter=iterations)
    row_RD, target_R = trial.fit_MKD.flatten(0, 1), trial.target_M.repeat_interleave(renderings)
    machine.fit(row_RD.double().numpy(force=True), target_R.numpy(force=True))
    value = torch.from_numpy(machine.decision_function(trial.on_NKD.flatten(0, 1).double().numpy(force=True)))
    value_RC = torch.stack([-value, value], dim=1) if value.ndim == 1 else value
    score_NC[:, taught_C] = value_RC.reshape(*trial.on_NKD.shape[:2], -1).mean(dim=1)
    return score_NC
