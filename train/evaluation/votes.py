"""Classify several clips of each video, and combine them by a vote.

Shape suffixes: N videos, K clips a video, C classes, D feature channels, B videos of a batch.
"""

from typing import Literal, Protocol, cast

import torch
from torch import Tensor, nn

from kinetics_sounds import stream
from kinetics_sounds.errors import RunError, ShardError

from ..data.loader import Loading
from ..distributed.process_group import World
from ..probes import bounded, chance, topk_hits
from .encoders import Encoders
from .split_pass import over_split

How = Literal["logit", "prob"]
"""What is averaged over the clips: logit (logits: AVCL and the code it builds on) or prob (probabilities: AVID, CrissCross)."""


class Classifier(Protocol):
    """A method with a classifier on pooled features."""

    classifier: nn.Module

    def logits(self, video_BD: Tensor | None, audio_BD: Tensor | None) -> Tensor:
        """Logits (B, C); a modality that the settings do not use may be None."""
        ...


def classifier_of(encoders: Encoders) -> Classifier:
    """The run's method as a classifier; raises RunError if it has none."""
    method = encoders.whole_method()
    if not isinstance(getattr(method, "classifier", None), nn.Module) or not callable(getattr(method, "logits", None)):
        raise RunError(
            f"{encoders.checkpoint}: its method ({type(method).__name__}) has no classifier, so clips cannot vote; train "
            "one with ks-eval finetune, or use a probe"
        )
    return cast("Classifier", method)


@torch.inference_mode()
def clip_logits(
    encoders: Encoders,
    split: stream.Split,
    *,
    clips: int,
    batch: int,
    loading: Loading,
    world: World | None = None,
) -> tuple[Tensor, Tensor]:
    """Logits of evenly spaced clips of every video, each with its sound: float32 (N, K, C), and the labels (N,).

    With a `world`, each rank processes a slice, and all ranks return everything. Raises RunError for a run without a
    classifier, non-finite logits or an unreadable sample, ShardError if the split is empty.
    """
    classifier = classifier_of(encoders)
    if not len(split):
        raise ShardError(f"split {split.name!r} of the set of {split.dataset.classes} has no samples; see --on_split")

    def logits(arrays: dict[str, Tensor]) -> tuple[Tensor]:
        return (_of_batch(encoders, classifier, arrays, clips=clips).float(),)

    title = f"ks-eval votes of {split.name}"
    (logit_NKC,) = over_split(
        encoders, split, logits, clips=clips, batch=batch, loading=loading, world=world, title=title
    )
    if not logit_NKC.isfinite().all():
        raise RunError(
            f"{encoders.checkpoint}: its scores are not finite; lower --optim.lr or use --precision bf16 in training"
        )
    return logit_NKC, labels_of(split)


def _of_batch(encoders: Encoders, classifier: Classifier, batch: dict[str, Tensor], *, clips: int) -> Tensor:
    """Logits (B, K, C), one clip at a time to limit memory."""
    modalities = getattr(getattr(classifier, "settings", None), "modalities", "both")
    logits, audio_BD, of_each = [], None, "audio" in batch and batch["audio"].shape[1] > 1
    for clip in range(clips):
        views = {"video": batch["video"][:, clip : clip + 1]}
        if "audio" in batch:
            views["audio"] = batch["audio"][:, clip : clip + 1] if of_each else batch["audio"]
        sides = {name: each[:, 0] for name, each in encoders.view.augment(views, encoders.view_settings).items()}
        if (audio_BD is None or of_each) and modalities != "video":
            audio_BD = encoders.audio(sides["audio"])
        video_BD = encoders.video(sides["video"]) if modalities != "audio" else None
        logits.append(classifier.logits(video_BD, audio_BD))
    return torch.stack(logits, dim=1)


def labels_of(split: stream.Split) -> Tensor:
    """Class index of each video of a split: (N,)."""
    return torch.from_numpy(split.label_index_N.copy())


def vote(logit_NKC: Tensor, how: How) -> Tensor:
    """Mean over the clips' logits or probabilities: (N, C)."""
    return (logit_NKC if how == "logit" else logit_NKC.softmax(dim=2)).mean(dim=1)


def accuracies(score_NC: Tensor, label_N: Tensor, *, fit_M: Tensor) -> dict[str, float]:
    """Top-1 and top-5 accuracy in percent, with intervals, and chance levels after training on the labels `fit_M`."""
    right_NC = label_N[:, None] == torch.arange(score_NC.shape[1])
    hits = {k: topk_hits(score_NC, right_NC, k=k) for k in (1, 5)}
    return {**bounded("top1", hits[1]), **bounded("top5", hits[5]), **chance(label_N, fit_M)}


def clip_accuracies(logit_NKC: Tensor, label_N: Tensor) -> dict[str, float]:
    """Mean accuracies of single clips, as "clip_top1" and "clip_top5".

    Intervals are over videos, because clips of one video are not independent.
    """
    clips, classes = logit_NKC.shape[1:]
    right_NC = label_N[:, None] == torch.arange(classes)
    found: dict[str, float] = {}
    for k in (1, 5):
        hit_M = topk_hits(logit_NKC.flatten(0, 1), right_NC.repeat_interleave(clips, dim=0), k=k)
        found |= bounded(f"clip_top{k}", hit_M.view(-1, clips).mean(dim=1))
    return found
