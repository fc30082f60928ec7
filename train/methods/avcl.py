"""AVCL: gate both features by their joint content, correlate their channels, contrast their samples.

Shape suffixes: B samples of this rank, N of all ranks, C channels, T frames, H and W pixels, D feature channels.
"""

from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn

from .. import losses
from ..distributed import gather
from ..interface import Batch, Data, Encoder, Method, Moment, Output
from ..losses.cgra import cgra_loss
from ..losses.selfcl import selfcl_loss
from ..models.backbones import feature_width
from ..models.heads import Amfm, AmfmSettings

INNER = ("conv3", "conv4")
"""Layers of CGRA that lie within the encoders."""


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
    """Weight of a pair of different channels against one of equal channels in CGRA, no unit (lambda of Eq. 5)."""
    cgra_layer: Literal["conv3", "conv4", "conv5", "pool", "conv5+pool", "off"] = "pool"
    """What CGRA correlates (Table II): a stage's pooled maps before the gate, the gated features, both, or nothing."""
    center: bool = True
    """Subtract the batch mean of each channel before CGRA. Not written in Eq. 6, but Barlow Twins does it."""
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

    Raises ValueError when an encoder declares no width, the widths differ, both losses weigh nothing, or an encoder does
    not tell the stage that `cgra_layer` names.
    """
    return Avcl(settings, video=video, audio=audio)


class Avcl(Method):
    """Audio-visual contrastive learning (arXiv 2204.13386)."""

    INIT = (*Method.INIT, "amfm.")

    def __init__(self, settings: Settings, *, video: nn.Module, audio: nn.Module) -> None:
        super().__init__()
        width, audio_width = feature_width(video), feature_width(audio)
        if width != audio_width:
            raise ValueError(f"AVCL compares channel with channel: video has {width}, audio {audio_width}")
        if not _weight(settings) and not settings.lambda_self:
            raise ValueError(
                "lambda_cor and lambda_self are both 0, so there is nothing to learn from (cgra_layer off is lambda_cor 0)"
            )
        for encoder in (video, audio):
            if settings.cgra_layer in INNER and not isinstance(encoder, Encoder):
                raise ValueError(
                    f"{type(encoder).__name__} tells no maps of its layers: cgra_layer {settings.cgra_layer} needs them"
                )
        self.settings = settings
        self.video = video
        self.audio = audio
        self.amfm = Amfm(width, settings.amfm) if settings.amfm_stage == "pretrain" else None

    def forward(self, batch: Batch, moment: Moment) -> Output:
        """Compare video and audio of a batch, one view of each.

        The losses are of the batches of all ranks together. Logs the loss, both terms without their weights, and the
        share of channels dead for the whole batch among the features that SelfCL sees. Raises ValueError for fewer
        than two samples, RunError where another rank is lost.
        """
        its = self.settings
        video, audio = self._features(batch)
        gated = video["conv5"], audio["conv5"]
        if self.amfm is not None:
            gated = self.amfm(*gated)
        pairs = [(video[layer], audio[layer]) for layer in its.cgra_layer.split("+") if layer in video]
        if its.cgra_layer in ("pool", "conv5+pool", "off"):
            pairs.append(gated)
        cgra = torch.stack(
            [
                cgra_loss(
                    *_learnt_from(*pair, weight=_weight(its)),
                    off_diagonal_weight=its.off_diagonal_weight,
                    center=its.center,
                )
                for pair in pairs
            ]
        ).sum()
        selfcl = selfcl_loss(
            *_learnt_from(*gated, weight=its.lambda_self), temperature=its.temperature, reduction=its.reduction
        )
        loss = _weight(its) * cgra + its.lambda_self * selfcl
        logs = {
            "loss": loss.detach(),
            "cgra": cgra.detach(),
            "selfcl": selfcl.detach(),
            "dead_channels": losses.dead_share(torch.cat(gated, dim=1)),
        }
        return Output(loss, logs)

    def _features(self, batch: Batch) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Pooled maps of all ranks that the losses use, by stage, for video and audio: (N, channels) each.

        They cross the ranks side by side, in one exchange.
        """
        layer = self.settings.cgra_layer
        video, audio = _pooled(self.video, batch.video, layer), _pooled(self.audio, batch.audio, layer)
        local = [*video.values(), *audio.values()]
        all_ND = gather.gather(torch.cat(local, dim=1))
        columns = torch.split(all_ND, [maps_BD.shape[1] for maps_BD in local], dim=1)
        return dict(zip(video, columns, strict=False)), dict(zip(audio, columns[len(video) :], strict=True))


def _pooled(encoder: nn.Module, given_BVCTHW: Tensor | None, layer: str) -> dict[str, Tensor]:
    """The pooled maps of the first view that the losses use, by stage: (B, channels) each; raises ValueError without a view."""
    if given_BVCTHW is None:
        raise ValueError("avcl: needs video and audio; the view gives one of them alone")
    if layer in INNER and isinstance(encoder, Encoder):
        maps = encoder.maps(given_BVCTHW[:, 0], (layer, "conv5"))
        return {name: encoder.pool(each) for name, each in maps.items()}
    return {"conv5": encoder(given_BVCTHW[:, 0])}


def _weight(settings: Settings) -> float:
    """What CGRA weighs."""
    return 0.0 if settings.cgra_layer == "off" else settings.lambda_cor


def _learnt_from(video_ND: Tensor, audio_ND: Tensor, *, weight: float) -> tuple[Tensor, Tensor]:
    """Cut (N, D) features from the graph when the loss they go to weighs nothing."""
    return (video_ND, audio_ND) if weight else (video_ND.detach(), audio_ND.detach())
