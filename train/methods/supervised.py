"""Supervised learning: a classifier on top of one or both encoders.

From scratch it is the baselines R and A of AVCL's Table IV, and R+A with `encoders: shared`, which has one R3D; from pretrained
weights it is fine-tuning (AVCL, section III.B: cross-entropy only, all weights are trained). Shape suffixes: B samples of this
rank, N of all ranks, D feature channels, C classes.
"""

from dataclasses import dataclass, field
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..distributed.gather import gather
from ..interface import Batch, Data, Method, Moment, Output
from ..models.backbones import feature_width
from ..models.heads import Amfm, AmfmSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Features and classifier."""

    modalities: Literal["both", "video", "audio"] = "both"
    """Features to classify: both concatenated, video only (R) or audio only (A)."""
    gate: bool = False
    """Gate the features with AMFM first, as in AVCL's fine-tuning."""
    amfm: AmfmSettings = field(default_factory=AmfmSettings)
    """The AMFM gate."""
    classifier: Literal["mlp", "linear"] = "mlp"
    """mlp: two layers with ReLU and dropout in between. linear: one layer."""
    hidden: int = 512
    """Width of the hidden layer."""
    dropout: float = 0.7
    """Dropout probability of the hidden layer (AVCL, section III.B)."""
    feature_dropout: float = 0.0
    """Dropout probability of the pooled features before the classifier (AVID: 0.5)."""
    head_epochs: int = 0
    """First epochs that train the classifier alone: encoders and gate are frozen, running statistics included."""

    def __post_init__(self) -> None:
        """Raise ValueError for an invalid classifier."""
        if self.hidden < 1 or not 0 <= self.dropout < 1 or not 0 <= self.feature_dropout < 1:
            raise ValueError("supervised: hidden must be at least 1, dropout and feature_dropout from 0 to below 1")
        if self.head_epochs < 0:
            raise ValueError(f"supervised: head_epochs {self.head_epochs} must be at least 0")
        if self.gate and self.modalities != "both":
            raise ValueError(f"supervised: a gate needs both modalities, not {self.modalities} alone")


def build(settings: Settings, *, video: nn.Module, audio: nn.Module, data: Data) -> "Supervised":
    """Build the method on two encoders; raises ValueError if the gate does not fit them or there is only one class."""
    return Supervised(settings, video=video, audio=audio, classes=data.classes)


class Supervised(Method):
    """Cross-entropy of a classifier on pooled features."""

    INIT = (*Method.INIT, "amfm.")

    def __init__(self, settings: Settings, *, video: nn.Module, audio: nn.Module, classes: int) -> None:
        super().__init__()
        width, audio_width = feature_width(video), feature_width(audio)
        if classes < 2:
            raise ValueError(f"nothing to classify: the shards have {classes} classes")
        if settings.gate and width != audio_width:
            raise ValueError(f"AMFM joins channel with channel: video has {width}, audio {audio_width}")
        self.settings = settings
        self.reads = ("video", "audio") if settings.modalities == "both" else (settings.modalities,)
        self.video = video
        self.audio = audio
        self.amfm = Amfm(width, settings.amfm) if settings.gate else None
        seen = {"both": width + audio_width, "video": width, "audio": audio_width}[settings.modalities]
        self.drop = nn.Dropout(settings.feature_dropout)
        self.classifier: nn.Module = nn.Linear(seen, classes)
        if settings.classifier == "mlp":
            self.classifier = nn.Sequential(
                nn.Linear(seen, settings.hidden),
                nn.ReLU(),
                nn.Dropout(settings.dropout),
                nn.Linear(settings.hidden, classes),
            )

    def forward(self, batch: Batch, moment: Moment) -> Output:
        """Cross-entropy of one view; logs the loss and the top-1 accuracy in percent."""
        joined_BD = self._joined(batch, frozen=self.training and moment.epoch < self.settings.head_epochs)
        logit_NC, label_N = gather(self.classifier(self.drop(joined_BD))), gather(batch.label)
        with torch.autocast(logit_NC.device.type, enabled=False):
            loss = F.cross_entropy(logit_NC.float() if logit_NC.dtype != torch.float64 else logit_NC, label_N)
        right_N = logit_NC.detach().argmax(dim=1) == label_N
        return Output(loss, {"loss": loss.detach(), "top1": 100 * right_N.float().mean()})

    def _joined(self, batch: Batch, *, frozen: bool) -> Tensor:
        """What is classified of a batch: (B, D); encoders and gate get no gradient and keep their statistics if `frozen`."""
        seen = self.settings.modalities
        parts = [part for part in (self.video, self.audio, self.amfm) if part is not None]
        with torch.set_grad_enabled(torch.is_grad_enabled() and not frozen):
            for part in parts:
                part.train(self.training and not frozen)
            video_BD = self.video(batch.video[:, 0]) if seen != "audio" and batch.video is not None else None
            audio_BD = self.audio(batch.audio[:, 0]) if seen != "video" and batch.audio is not None else None
            return self.join(video_BD, audio_BD)

    def logits(self, video_BD: Tensor | None, audio_BD: Tensor | None) -> Tensor:
        """Classify pooled features (B, D); the unused modality may be None: (B, C)."""
        logit_BC: Tensor = self.classifier(self.drop(self.join(video_BD, audio_BD)))
        return logit_BC

    def join(self, video_BD: Tensor | None, audio_BD: Tensor | None) -> Tensor:
        """Pooled features (B, D) as the classifier takes them, gated if there is a gate: (B, D)."""
        if self.amfm is not None and video_BD is not None and audio_BD is not None:
            video_BD, audio_BD = self.amfm(video_BD, audio_BD)
        sides = {"both": (video_BD, audio_BD), "video": (video_BD,), "audio": (audio_BD,)}[self.settings.modalities]
        return torch.cat([side for side in sides if side is not None], dim=1)
