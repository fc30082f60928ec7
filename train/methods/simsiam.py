"""SimSiam across modalities, within them, or both: predict the other view's detached embedding (arXiv 2011.10566).

Shape suffixes: B rows of this rank, P pairs that are compared, D channels of the embedding.
"""

from dataclasses import dataclass

import torch
from torch import nn

from ..distributed.gather import gather
from ..interface import Batch, Data, Method, Moment, Output
from ..losses.prediction import cosine
from ..models import pairs
from ..models.backbones import feature_width
from ..models.heads import norm_mlp
from ..models.pairs import Mode


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Projector and predictor. The defaults are those of SimSiam's code."""

    mode: Mode = "cross"
    """cross: compare the modalities. intra: compare two views of each modality. joint: the mean of both losses."""
    dim: int = 2048
    """Embedding dimension; the projector's hidden layers are as wide as the encoder's feature."""
    hidden: int = 512
    """Width of the predictor's hidden layer."""

    def __post_init__(self) -> None:
        """Raise ValueError for invalid values."""
        if min(self.dim, self.hidden) < 1:
            raise ValueError("simsiam: dim and hidden must be at least 1")


def build(settings: Settings, *, video: nn.Module, audio: nn.Module, data: Data) -> "SimSiam":
    """Build the method on two encoders."""
    return SimSiam(settings, video=video, audio=audio)


class SimSiam(Method):
    """One projector and one predictor per modality.

    `--optim.schedules` can keep the learning rate of `predictors.*` constant.
    """

    INIT = (*Method.INIT, "heads.", "predictors.")

    def __init__(self, settings: Settings, *, video: nn.Module, audio: nn.Module) -> None:
        super().__init__()
        self.settings = settings
        self.views = pairs.views(settings.mode)
        self.video, self.audio = video, audio
        widths = {"video": feature_width(video), "audio": feature_width(audio)}
        self.heads = nn.ModuleDict({name: _projector(width, settings.dim) for name, width in widths.items()})
        self.predictors = nn.ModuleDict(
            {name: norm_mlp(settings.dim, settings.hidden, settings.dim, last_bias=True) for name in widths}
        )

    def forward(self, batch: Batch, moment: Moment) -> Output:
        """Mean over samples and pairs of -cos / 2 between each prediction and the other view's embedding (Eq. 2)."""
        its = self.settings
        target = pairs.embeddings(self, self.heads, batch, its.mode)
        predicted = {each: self.predictors[each.modality](embedding) for each, embedding in target.items()}
        terms_BP = [
            -(cosine(predicted[one], target[other]) + cosine(predicted[other], target[one])) / 2
            for one, other in pairs.compared(its.mode)
        ]
        loss = pairs.weight(its.mode) * gather(torch.stack(terms_BP, dim=1)).sum(dim=1).mean()
        return Output(loss, {"loss": loss.detach()})


def _projector(width: int, dim: int) -> nn.Sequential:
    """Three linear layers, the last with batch norm without affine; the bias before it has no effect and is frozen."""
    layers = norm_mlp(width, width, width, dim, last_bias=True)
    last = layers[-1]
    last.bias.requires_grad = False
    return nn.Sequential(*layers, nn.BatchNorm1d(dim, affine=False))
