"""AVCL: gate both features by their joint content, correlate their channels, contrast their samples.

Shape suffixes: B samples of the batch, C channels, T frames, H and W pixels, D feature channels.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn

from .. import objectives
from ..backbones import feature_width
from ..heads import Amfm, AmfmSettings
from . import Data, Step


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Weights and switches of AVCL; the defaults are the literal reading of the paper."""

    lambda_cor: float = 0.9
    """Weight of CGRA, no unit (Eq. 11; Table III's best). At 0 the term is logged but not learnt from."""
    lambda_self: float = 0.1
    """Weight of SelfCL, no unit (Eq. 11; Table III's best). At 0 the term is logged but not learnt from."""
    temperature: float = 0.5
    """Divisor of SelfCL's cosines, no unit. Not in the paper: the same authors' TCGL code has 0.5."""
    off_diagonal_weight: float = 0.005
    """Weight of a pair of different channels against one of equal channels in CGRA, no unit (lambda of Eq. 6)."""
    center: bool = True
    """Subtract the batch mean of each channel before CGRA. Not written in Eq. 5, but Barlow Twins does it."""
    reduction: Literal["sum", "mean"] = "sum"
    """SelfCL summed over the batch (Eq. 7) or divided by the batch size."""
    amfm_stage: Literal["pretrain", "finetune", "off"] = "pretrain"
    """When the gate exists. Only "pretrain" (the paper) puts it here; it can solve the pretext by itself."""
    amfm: AmfmSettings = field(default_factory=AmfmSettings)
    """The gate."""

    def __post_init__(self) -> None:
        """Raise ValueError for weights and temperatures that mean nothing."""
        if self.temperature <= 0:
            raise ValueError(f"avcl: temperature {self.temperature} must be more than 0")
        if min(self.lambda_cor, self.lambda_self, self.off_diagonal_weight) < 0:
            raise ValueError("avcl: lambda_cor, lambda_self and off_diagonal_weight must not be negative")


def build(settings: Settings, *, video: nn.Module, audio: nn.Module, data: Data | None = None) -> "Avcl":
    """Make the method around two encoders of equal feature width.

    Raises ValueError when an encoder declares no width, the widths differ, or both losses weigh nothing.
    """
    return Avcl(settings, video=video, audio=audio)


class Avcl(nn.Module):
    """Audio-visual contrastive learning (arXiv 2204.13386)."""

    def __init__(self, settings: Settings, *, video: nn.Module, audio: nn.Module) -> None:
        super().__init__()
        width, audio_width = feature_width(video), feature_width(audio)
        if width != audio_width:
            raise ValueError(f"AVCL compares channel with channel: video has {width}, audio {audio_width}")
        if not settings.lambda_cor and not settings.lambda_self:
            raise ValueError("lambda_cor and lambda_self are both 0, so there is nothing to learn from")
        self.settings = settings
        self.video = video
        self.audio = audio
        self.amfm = Amfm(width, settings.amfm) if settings.amfm_stage == "pretrain" else None

    def forward(self, batch: Mapping[str, Tensor]) -> Step:
        """Compare "video" and "audio" of a batch, each float (B, C, T, H, W) in [0, 1] and laid out for its encoder.

        Logs the loss, both terms without their weights, and the share of channels dead for the whole batch among
        the features that the losses see. Raises ValueError for fewer than two samples.
        """
        its = self.settings
        video_BD, audio_BD = self.video(batch["video"]), self.audio(batch["audio"])
        if self.amfm is not None:
            video_BD, audio_BD = self.amfm(video_BD, audio_BD)
        cgra = objectives.cgra(
            *_learnt_from(video_BD, audio_BD, weight=its.lambda_cor),
            off_diagonal_weight=its.off_diagonal_weight,
            center=its.center,
        )
        selfcl = objectives.selfcl(
            *_learnt_from(video_BD, audio_BD, weight=its.lambda_self),
            temperature=its.temperature,
            reduction=its.reduction,
        )
        loss = its.lambda_cor * cgra + its.lambda_self * selfcl
        logs = {
            "loss": loss.detach(),
            "cgra": cgra.detach(),
            "selfcl": selfcl.detach(),
            "dead_channels": objectives.dead_share(torch.cat([video_BD, audio_BD], dim=1)),
        }
        return Step(loss, logs)


def _learnt_from(video_BD: Tensor, audio_BD: Tensor, *, weight: float) -> tuple[Tensor, Tensor]:
    """Cut (B, D) features from the graph when the loss they go to weighs nothing."""
    return (video_BD, audio_BD) if weight else (video_BD.detach(), audio_BD.detach())
