"""AVCL: cross-modal gating, channel correlation and contrastive learning of samples (arXiv 2204.13386).

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
"""Inner encoder layers that CGRA can use."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Loss weights and variants of AVCL. The defaults follow the paper literally."""

    lambda_cor: float = 0.9
    """Weight of the CGRA loss (Eq. 11; best in Table III). 0: logged but not trained."""
    lambda_self: float = 0.1
    """Weight of the SelfCL loss (Eq. 11; best in Table III). 0: logged but not trained."""
    temperature: float = 0.5
    """Softmax temperature of SelfCL. Not in the paper; 0.5 in the TCGL code by the same authors."""
    off_diagonal_weight: float = 0.005
    """Weight of off-diagonal correlations in CGRA (lambda in Eq. 5)."""
    cgra_layer: Literal["conv3", "conv4", "conv5", "pool", "conv5+pool", "off"] = "pool"
    """Features that CGRA correlates (Table II): a layer's pooled maps before the gate, the gated features, both, or none."""
    center: bool = True
    """Subtract each channel's batch mean before CGRA. Not in Eq. 6, but done by Barlow Twins."""
    reduction: Literal["sum", "mean"] = "sum"
    """Reduction of SelfCL over the batch: sum (Eq. 7) or mean."""
    amfm_stage: Literal["pretrain", "finetune", "off"] = "pretrain"
    """Where the gate is used. Only "pretrain" (the paper) uses it here; the gate alone can solve the pretext task."""
    amfm: AmfmSettings = field(default_factory=AmfmSettings)
    """The AMFM gate."""

    def __post_init__(self) -> None:
        """Raise ValueError for invalid weights or temperature."""
        if self.temperature <= 0:
            raise ValueError(f"avcl: temperature {self.temperature} must be more than 0")
        if min(self.lambda_cor, self.lambda_self, self.off_diagonal_weight) < 0:
            raise ValueError("avcl: lambda_cor, lambda_self and off_diagonal_weight must not be negative")


def build(settings: Settings, *, video: nn.Module, audio: nn.Module, data: Data | None = None) -> "Avcl":
    """Build the method on two encoders of equal feature width.

    Raises ValueError if an encoder declares no width, the widths differ, both loss weights are 0, or an encoder does not have
    the layer that `cgra_layer` names.
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
                "lambda_cor and lambda_self are both 0, so there is no loss (cgra_layer off is lambda_cor 0)"
            )
        for encoder in (video, audio):
            if settings.cgra_layer in INNER and not isinstance(encoder, Encoder):
                raise ValueError(
                    f"{type(encoder).__name__} provides no maps of its layers: cgra_layer {settings.cgra_layer} needs them"
                )
        self.settings = settings
        self.video = video
        self.audio = audio
        self.amfm = Amfm(width, settings.amfm) if settings.amfm_stage == "pretrain" else None

    def forward(self, batch: Batch, moment: Moment) -> Output:
        """Loss of video and audio of a batch, one view of each.

        Losses are over the batches of all ranks. Logs the loss, both unweighted terms, and the fraction of dead channels among
        the features of SelfCL. Raises ValueError for fewer than two samples, LostRanksError if another rank is gone.
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
        """Pooled maps of all ranks by layer, for video and audio: (N, channels) each.

        They are gathered in one exchange.
        """
        layer = self.settings.cgra_layer
        video, audio = _pooled(self.video, batch.video, layer), _pooled(self.audio, batch.audio, layer)
        local = [*video.values(), *audio.values()]
        all_ND = gather.gather(torch.cat(local, dim=1))
        columns = torch.split(all_ND, [maps_BD.shape[1] for maps_BD in local], dim=1)
        return dict(zip(video, columns, strict=False)), dict(zip(audio, columns[len(video) :], strict=True))


def _pooled(encoder: nn.Module, given_BVCTHW: Tensor | None, layer: str) -> dict[str, Tensor]:
    """Pooled maps of the first view, by layer: (B, channels) each; raises ValueError if there is no view."""
    if given_BVCTHW is None:
        raise ValueError("avcl: needs video and audio; the view gives one of them alone")
    if layer in INNER and isinstance(encoder, Encoder):
        maps = encoder.maps(given_BVCTHW[:, 0], (layer, "conv5"))
        return {name: encoder.pool(each) for name, each in maps.items()}
    return {"conv5": encoder(given_BVCTHW[:, 0])}


def _weight(settings: Settings) -> float:
    """Weight of the CGRA loss."""
    return 0.0 if settings.cgra_layer == "off" else settings.lambda_cor


def _learnt_from(video_ND: Tensor, audio_ND: Tensor, *, weight: float) -> tuple[Tensor, Tensor]:
    """Detach (N, D) features if the weight of their loss is 0."""
    return (video_ND, audio_ND) if weight else (video_ND.detach(), audio_ND.detach())
