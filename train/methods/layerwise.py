"""Linear classifiers on several layers of a frozen encoder, trained in a single pass (AVID, Tables 1a, 1b and 2).

The encoder is in evaluation mode, without gradients. The features of a layer are its maps max-pooled over time and over the
cells of a square grid: with channels 64, 128, 256 and 512, grids of side 12, 8, 6 and 4, thus 9216, 8192, 9216 and 8192
features, which a batch norm and one linear layer classify. Features are not stored, so the split may be of any size. Shape
suffixes: B samples of this rank, N of all ranks, L layers, D features of a layer, C classes.
"""

import math
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..distributed.gather import gather
from ..interface import Batch, Data, Method, Moment, Output
from ..models.backbones import layer_widths

MOST_FEATURES = 1 << 16
"""Maximum features per layer; settings may come from an untrusted run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Layers to classify, and their features."""

    modality: Literal["video", "audio"] = "video"
    """Encoder to evaluate."""
    layers: str = "conv2,conv3,conv4,conv5"
    """Comma-separated layers of the encoder."""
    features: int = 9216
    """Maximum features per layer: channels times cells of the largest square grid."""

    def __post_init__(self) -> None:
        """Raise ValueError for invalid layers or features."""
        names = self.layer_names
        if not names or len(set(names)) < len(names):
            raise ValueError(f"layerwise: layers {self.layers!r} must be names, each once, separated by commas")
        if not 1 <= self.features <= MOST_FEATURES:
            raise ValueError(f"layerwise: features {self.features} must be from 1 to {MOST_FEATURES}")

    @property
    def layer_names(self) -> tuple[str, ...]:
        """Names of the layers."""
        return tuple(word.strip() for word in self.layers.split(",") if word.strip())


def build(settings: Settings, *, video: nn.Module, audio: nn.Module, data: Data) -> "Layerwise":
    """Build the method on two encoders; raises ValueError for layers that the encoder does not have, or a single class."""
    return Layerwise(settings, video=video, audio=audio, classes=data.classes)


class Layerwise(Method):
    """Cross-entropy of one linear classifier per layer, with independent gradients."""

    def __init__(self, settings: Settings, *, video: nn.Module, audio: nn.Module, classes: int) -> None:
        super().__init__()
        if classes < 2:
            raise ValueError(f"nothing to classify: the shards have {classes} classes")
        self.settings = settings
        self.reads = (settings.modality,)
        self.video = video.requires_grad_(requires_grad=False)
        self.audio = audio.requires_grad_(requires_grad=False)
        widths = layer_widths(getattr(self, settings.modality), settings.layer_names)
        self.sides = {layer: grid_side(width, settings.features) for layer, width in widths.items()}
        self.widths = {layer: width * self.sides[layer] ** 2 for layer, width in widths.items()}
        self.heads = nn.ModuleDict({layer: _head(width, classes) for layer, width in self.widths.items()})
        self.train()

    def train(self, mode: bool = True) -> "Layerwise":  # noqa: FBT001, FBT002 - as PyTorch has it
        """Set the training mode, but keep the encoders in evaluation mode."""
        super().train(mode)
        self.video.eval()
        self.audio.eval()
        return self

    def forward(self, batch: Batch, moment: Moment) -> Output:
        """Sum of the cross-entropies of all layers; each classifier trains as if alone.

        Logs the loss, and each layer's cross-entropy and top-1 in percent. Raises ValueError for a batch without the modality.
        """
        given = batch.video if self.settings.modality == "video" else batch.audio
        if given is None:
            raise ValueError(f"layerwise: the view gives no {self.settings.modality}")
        logit_NLC, label_N = gather(self.layer_logits(given[:, 0])), gather(batch.label)
        with torch.autocast(logit_NLC.device.type, enabled=False):
            loss_L = torch.stack([F.cross_entropy(logit_NC, label_N) for logit_NC in logit_NLC.unbind(dim=1)])
        top1_L = 100 * (logit_NLC.detach().argmax(dim=2) == label_N[:, None]).float().mean(dim=0)
        loss = loss_L.sum()
        logs = {"loss": loss.detach()}
        for layer, its_loss, top1 in zip(self.settings.layer_names, loss_L.detach(), top1_L, strict=True):
            logs |= {f"{layer}_loss": its_loss, f"{layer}_top1": top1}
        return Output(loss, logs)

    def layer_logits(self, inputs_BCTHW: Tensor) -> Tensor:
        """Logits of each layer's classifier, in order: float32 (B, L, C) at any encoder precision."""
        logits = []
        for layer, feature_BD in self.features(inputs_BCTHW).items():
            with torch.autocast(feature_BD.device.type, enabled=False):
                logits.append(self.heads[layer](feature_BD))
        return torch.stack(logits, dim=1)

    @torch.no_grad()
    def features(self, inputs_BCTHW: Tensor) -> dict[str, Tensor]:
        """Features of each layer: (B, D), at least float32."""
        encoder = getattr(self, self.settings.modality)
        maps = encoder.maps(inputs_BCTHW, self.settings.layer_names)
        return {layer: grid_features(maps[layer], side) for layer, side in self.sides.items()}


def grid_side(channels: int, features: int) -> int:
    """Side of the largest square grid whose cells times channels do not exceed `features`.

    Raises ValueError if a single cell exceeds it.
    """
    if channels > features:
        raise ValueError(f"{channels} channels make more than {features} features")
    return math.isqrt(features // channels)


def grid_features(maps: Tensor, side: int) -> Tensor:
    """Max-pool maps over time and over each cell of a grid: (B, channels x side x side), at least float32.

    Maps are (B, channels, T, H, W) or (B, channels, H, W).
    """
    flat_BCHW = maps.amax(dim=2) if maps.ndim == 5 else maps
    feature_BD = F.adaptive_max_pool2d(flat_BCHW, side).flatten(1)
    return feature_BD if feature_BD.dtype == torch.float64 else feature_BD.float()


def _head(features: int, classes: int) -> nn.Sequential:
    return nn.Sequential(nn.BatchNorm1d(features), nn.Linear(features, classes))
