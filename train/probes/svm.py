"""Linear SVM: one-vs-rest classifiers on frozen features (squared hinge loss, features not scaled).

C is selected from a list: by cross-validation within the fitted split, or, as in the papers, by the score on the evaluated
clips, which is optimistic and reported as selected_on_test. Shape suffixes as in `probes`, with K renderings of a clip: each is
a training row, and their decision values are averaged for evaluation.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from . import Features, classify, fitted, topk_hits

NEEDS_TRAIN_FEATURES = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Options of the SVM."""

    cs: tuple[float, ...] = (1e-5, 5e-5, 1e-4, 5e-4, 1e-3, 5e-3, 1e-2, 1.0)
    """Candidate values of C (inverse regularization strength)."""
    select: Literal["fit", "test"] = "fit"
    """Select C on: fit: cross-validation within the fitted split. test: the evaluated clips (as in the papers)."""
    folds: int = 3
    """Number of cross-validation folds."""
    iterations: int = 1000
    """Maximum solver iterations."""

    def __post_init__(self) -> None:
        """Raise ValueError for values out of range."""
        if not self.cs or not all(0 < c < float("inf") for c in self.cs):
            raise ValueError(f"--svm.cs {list(self.cs)}: at least one is needed, and each must be more than 0")
        if self.folds < 2:
            raise ValueError(f"--svm.folds {self.folds}: must be at least 2")
        if self.iterations < 1:
            raise ValueError(f"--svm.iterations {self.iterations}: must be at least 1")


class Trial(NamedTuple):
    """Training and evaluation data of one fit."""

    fit_MKD: Tensor
    target_M: Tensor
    """Class index of each fitted clip."""
    on_NKD: Tensor
    right_N: Tensor
    """Class index of each evaluated clip, -1 for a class that is not fitted."""


def evaluate(on: Features, fit: Features | None, settings: Settings) -> dict[str, float]:
    """Fit on `fit`, evaluate on `on`: accuracies of `classify`, and the selected C as "c", "video_c" and "audio_c".

    "selected_on_test" is 1 if C was selected on the evaluated clips, else 0. Raises ValueError without `fit` and like
    `select_C`.
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
    strengths = {f"{prefix}c": c for prefix, c in zip((prefix for prefix, _ in on.sides()), chosen, strict=True)}
    return {**metrics, **strengths, "selected_on_test": float(settings.select == "test")}


def folds(label_M: Tensor, keys: Sequence[str], *, folds: int) -> Tensor:
    """Stratified fold index of each clip, assigned within each class in the order of keys: (M,) to (M,)."""
    part_M = torch.empty_like(label_M)
    order_M = torch.tensor(sorted(range(len(keys)), key=keys.__getitem__))
    for label in torch.unique(label_M):
        row_m = order_M[label_M[order_M] == label]
        part_M[row_m] = torch.arange(len(row_m)) % folds
    return part_M


def held_out(fit_MKD: Tensor, target_M: Tensor, part_M: Tensor) -> Iterator[Trial]:
    """Yield one trial per fold: fit on the other folds, evaluate on this one. Folds without others are skipped."""
    for part in torch.unique(part_M):
        out_M = part_M == part
        if not out_M.all():
            yield Trial(fit_MKD[~out_M], target_M[~out_M], fit_MKD[out_M], target_M[out_M])


def select_C(
    trial: Trial, part_M: Tensor, *, classes: int, settings: Settings, tried: Callable[[], None] = lambda: None
) -> float:
    """Value of `settings.cs` with the best top-1 accuracy; the smallest if tied.

    Evaluated by cross-validation over the folds (M,) of the fitted clips, unless `settings.select` is "test"; `tried` is called
    after each value, if there are several. Raises ValueError if all fitted clips are in one fold.
    """
    if len(settings.cs) == 1:
        return settings.cs[0]

    def trials() -> Iterator[Trial]:  # each is a copy of the features, so one at a time
        if settings.select == "test":
            yield trial
        else:
            yield from held_out(trial.fit_MKD, trial.target_M, part_M)

    if settings.select == "fit" and len(torch.unique(part_M)) < 2:
        raise ValueError(
            "cannot cross-validate C, because no class has two training clips: "
            "give one C with --svm.cs, or select it on the evaluated clips with --svm.select test"
        )

    def score(c: float) -> float:
        hits = sum(
            float(correct(each, classes=classes, c=c, iterations=settings.iterations).sum()) for each in trials()
        )
        tried()
        return hits

    return max(sorted(settings.cs), key=score)


def correct(trial: Trial, *, classes: int, c: float, iterations: int) -> Tensor:
    """Whether each clip is classified correctly, with ties as in `hit_share`: (N,)."""
    score_NC = decisions(trial, classes=classes, c=c, iterations=iterations)
    return topk_hits(score_NC, trial.right_N[:, None] == torch.arange(classes), k=1)


def decisions(trial: Trial, *, classes: int, c: float, iterations: int) -> Tensor:
    """Mean decision values over the renderings of each clip: float64 (N, classes), -inf for classes without training clips."""
    from sklearn.svm import LinearSVC

    renderings = trial.fit_MKD.shape[1]
    taught_C = torch.unique(trial.target_M)
    score_NC = torch.full((len(trial.on_NKD), classes), -torch.inf, dtype=torch.float64)
    if len(taught_C) == 1:  # a single class
        score_NC[:, taught_C] = 0
        return score_NC
    # Primal problem: deterministic, and it converges where the dual one does not.
    machine = LinearSVC(C=c, dual=False, max_iter=iterations)
    row_RD, target_R = trial.fit_MKD.flatten(0, 1), trial.target_M.repeat_interleave(renderings)
    machine.fit(row_RD.double().numpy(force=True), target_R.numpy(force=True))
    value = torch.from_numpy(machine.decision_function(trial.on_NKD.flatten(0, 1).double().numpy(force=True)))
    value_RC = torch.stack([-value, value], dim=1) if value.ndim == 1 else value
    score_NC[:, taught_C] = value_RC.reshape(*trial.on_NKD.shape[:2], -1).mean(dim=1)
    return score_NC
