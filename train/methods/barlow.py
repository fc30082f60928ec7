"""Barlow Twins across modalities, within them, or both: redundancy reduction between channels (arXiv 2103.03230).

Shape suffixes: B rows of this rank, N rows of all ranks, D channels of the embedding.
"""

from dataclasses import dataclass

import torch
from torch import nn

from ..interface import Batch, Data, Method, Moment, Output
from ..losses.cgra import cgra_loss
from ..models import pairs
from ..models.backbones import feature_width
from ..models.heads import norm_mlp
from ..models.pairs import Mode


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Options of Barlow Twins."""

    mode: Mode = "cross"
    """cross: compare the modalities. intra: compare two views of each modality. joint: the mean of both losses."""
    dim: int = 2048
    """Width of the projector's three layers; the paper's 8,192 would be 138 million weights per modality."""
    off_diagonal_weight: float = 0.0051
    """Weight of off-diagonal correlations (lambda)."""

    def __post_init__(self) -> None:
        """Raise ValueError for an invalid projector."""
        if self.dim < 1 or self.off_diagonal_weight < 0:
            raise ValueError("barlow: dim must be at least 1, off_diagonal_weight at least 0")


def build(settings: Settings, *, video: nn.Module, audio: nn.Module, data: Data) -> "BarlowTwins":
    """Build the method on two encoders."""
    return BarlowTwins(settings, video=video, audio=audio)


class BarlowTwins(Method):
    """One projector per modality, and the cross-correlation of each pair of embeddings over the batch."""

    INIT = (*Method.INIT, "heads.")

    def __init__(self, settings: Settings, *, video: nn.Module, audio: nn.Module) -> None:
        super().__init__()
        self.settings = settings
        self.views = pairs.views(settings.mode)
        self.video, self.audio = video, audio
        self.heads = nn.ModuleDict(
            {
                name: norm_mlp(feature_width(encoder), *[settings.dim] * 3)
                for name, encoder in (("video", video), ("audio", audio))
            }
        )

    def forward(self, batch: Batch, moment: Moment) -> Output:
        """Sum of (1 - C_ii)^2 and lambda C_ij^2 over the pairs; C correlates standardized channels (Eq. 1, 2)."""
        its = self.settings
        found = pairs.gathered(pairs.embeddings(self, self.heads, batch, its.mode))
        terms = [
            cgra_loss(found[one], found[other], off_diagonal_weight=its.off_diagonal_weight)
            for one, other in pairs.compared(its.mode)
        ]
        loss = pairs.weight(its.mode) * torch.stack(terms).sum()
        return Output(loss, {"loss": loss.detach()})
