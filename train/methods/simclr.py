"""SimCLR across modalities, within them, or both: contrast with the other samples of the batch (arXiv 2002.05709).

Shape suffixes: B rows of this rank, N rows of all ranks, D channels of the embedding.
"""

from dataclasses import dataclass

import torch
from torch import nn

from ..interface import Batch, Data, Method, Moment, Output
from ..losses.selfcl import selfcl_loss
from ..models import pairs
from ..models.backbones import feature_width
from ..models.heads import mlp, norm_mlp
from ..models.pairs import Mode


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Projector and temperature. The defaults are those of SimCLR's paper (section 4 and appendix B)."""

    mode: Mode = "cross"
    """cross: compare the modalities. intra: compare two views of each modality. joint: the mean of both losses."""
    dim: int = 128
    """Embedding dimension."""
    layers: int = 2
    """Number of linear layers of the projector; hidden layers are as wide as the encoder's feature."""
    batch_norm: bool = False
    """Batch norm after each layer of the projector (without bias; the last one without shift, as in SimCLR's code)."""
    temperature: float = 0.1
    """Softmax temperature."""

    def __post_init__(self) -> None:
        """Raise ValueError for invalid values."""
        if self.dim < 1 or not 1 <= self.layers <= 8 or self.temperature <= 0:
            raise ValueError("simclr: dim must be at least 1, layers from 1 to 8, temperature more than 0")


def build(settings: Settings, *, video: nn.Module, audio: nn.Module, data: Data) -> "SimClr":
    """Build the method on two encoders."""
    return SimClr(settings, video=video, audio=audio)


class SimClr(Method):
    """One projector per modality, and NT-Xent over the 2 N embeddings of each pair."""

    INIT = (*Method.INIT, "heads.")

    def __init__(self, settings: Settings, *, video: nn.Module, audio: nn.Module) -> None:
        super().__init__()
        self.settings = settings
        self.views = pairs.views(settings.mode)
        self.video, self.audio = video, audio
        self.heads = nn.ModuleDict(
            {
                name: _projector(feature_width(encoder), settings)
                for name, encoder in (("video", video), ("audio", audio))
            }
        )

    def forward(self, batch: Batch, moment: Moment) -> Output:
        """Mean over the 2 N embeddings of -log softmax at the positive (Eq. 1), summed over the pairs."""
        its = self.settings
        found = pairs.gathered(pairs.embeddings(self, self.heads, batch, its.mode))
        terms = [
            selfcl_loss(found[one], found[other], temperature=its.temperature, reduction="mean") / 2
            for one, other in pairs.compared(its.mode)
        ]
        loss = pairs.weight(its.mode) * torch.stack(terms).sum()
        return Output(loss, {"loss": loss.detach()})


def _projector(width: int, settings: Settings) -> nn.Sequential:
    widths = (*[width] * settings.layers, settings.dim)
    if not settings.batch_norm:
        return mlp(*widths)
    last = nn.BatchNorm1d(settings.dim)
    last.register_parameter("bias", None)
    return nn.Sequential(*norm_mlp(*widths), last)
