"""CrissCross: prediction across modalities and time, synchronous and asynchronous (arXiv 2111.05329).

Shape suffixes: B rows of this rank, P pairs that are compared, D channels of the embedding.
"""

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..distributed.gather import gather
from ..interface import Batch, Data, Method, Moment, Output
from ..losses.prediction import cosine
from ..models.backbones import feature_width
from ..models.heads import norm_mlp
from ..models.pairs import Rendering, given

V1, V2 = Rendering("video", 0), Rendering("video", 1)
A1, A2 = Rendering("audio", 0), Rendering("audio", 1)
TERMS = {
    "v1v2": ((V1, V2),),
    "a1a2": ((A1, A2),),
    "intra": ((V1, V2), (A1, A2)),
    "sync": ((V1, A1), (V2, A2)),
    "async": ((V1, A2), (V2, A1)),
}
"""Pairs of views of each loss term."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Loss terms, projector and predictor. The defaults are the paper's."""

    terms: str = "intra,sync,async"
    """Comma-separated loss terms: v1v2 and a1a2 (intra: both), sync, async. The loss is the mean over all their pairs."""
    dim: int = 2048
    """Embedding dimension, and width of the projector's hidden layers."""
    hidden: int = 512
    """Width of the predictor's hidden layer."""
    projector_layers: Literal[2, 3] = 3
    """Number of linear layers of the projector (Table 3)."""
    predictor: Literal["separate", "common"] = "separate"
    """separate: one predictor per modality. common: one for both, on L2-normalized embeddings (Table 3)."""

    def __post_init__(self) -> None:
        """Raise ValueError for invalid terms or heads."""
        if min(self.dim, self.hidden) < 1 or self.projector_layers not in (2, 3):
            raise ValueError("crisscross: dim and hidden must be at least 1, projector_layers 2 or 3")
        names = self.names
        if unknown := [name for name in names if name not in TERMS]:
            raise ValueError(f"crisscross: terms: there is no {unknown[0]!r}; there are: {', '.join(TERMS)}")
        pairs = [pair for name in names for pair in TERMS[name]]
        if not pairs or len(set(pairs)) < len(pairs):
            raise ValueError(
                f"crisscross: terms {self.terms!r}: name at least one, and none twice (intra is v1v2 and a1a2)"
            )

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the terms."""
        return tuple(name.strip() for name in self.terms.split(",") if name.strip())


def build(settings: Settings, *, video: nn.Module, audio: nn.Module, data: Data) -> "CrissCross":
    """Build the method on two encoders."""
    return CrissCross(settings, video=video, audio=audio)


class CrissCross(Method):
    """One projector and one predictor per modality.

    The paper keeps the predictors' learning rate constant: use `--optim.schedules` for `predictors.*`.
    """

    INIT = (*Method.INIT, "heads.", "predictors.")
    views = 2

    def __init__(self, settings: Settings, *, video: nn.Module, audio: nn.Module) -> None:
        super().__init__()
        self.settings = settings
        self.video, self.audio = video, audio
        dim = settings.dim
        widths = {"video": feature_width(video), "audio": feature_width(audio)}
        self.heads = nn.ModuleDict(
            {name: _projector(width, *[dim] * settings.projector_layers) for name, width in widths.items()}
        )
        names = tuple(widths) if settings.predictor == "separate" else ("common",)
        self.predictors = nn.ModuleDict(
            {name: norm_mlp(dim, settings.hidden, dim, hidden_bias=True, last_bias=True) for name in names}
        )

    def forward(self, batch: Batch, moment: Moment) -> Output:
        """Mean over samples and pairs x, y of -cos(p_x, z_y) / 2 - cos(p_y, z_x) / 2 (Eq. 1 to 5).

        z is detached. Each view of each modality is encoded separately, so batch norms see one view at a time. Logs the loss
        and the mean of each term.
        """
        pairs = [(name, pair) for name in self.settings.names for pair in TERMS[name]]
        embedding = {
            each: self._embedding(batch, each) for each in dict.fromkeys(each for _, pair in pairs for each in pair)
        }
        prediction = {each: self._predictor(each)(value) for each, value in embedding.items()}
        losses_BP = torch.stack(
            [
                -(cosine(prediction[one], embedding[other]) + cosine(prediction[other], embedding[one])) / 2
                for _, (one, other) in pairs
            ],
            dim=1,
        )
        loss_P = gather(losses_BP).mean(dim=0)
        logs = {"loss": loss_P.mean().detach()}
        for name in self.settings.names:
            logs[name] = loss_P[[place for place, (term, _) in enumerate(pairs) if term == name]].mean().detach()
        return Output(loss_P.mean(), logs)

    def _embedding(self, batch: Batch, which: Rendering) -> Tensor:
        encoder: nn.Module = getattr(self, which.modality)
        embedding_BD: Tensor = self.heads[which.modality](encoder(given(batch, which)))
        return F.normalize(embedding_BD, dim=1) if self.settings.predictor == "common" else embedding_BD

    def _predictor(self, which: Rendering) -> nn.Module:
        return self.predictors["common" if self.settings.predictor == "common" else which.modality]


def _projector(*widths: int) -> nn.Sequential:
    """Linear layers, each with batch norm, all but the last with ReLU."""
    return nn.Sequential(*norm_mlp(*widths, hidden_bias=True, last_bias=True), nn.BatchNorm1d(widths[-1]))
