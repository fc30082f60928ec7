"""BYOL across modalities, within them, or both: predict the target networks' embeddings (arXiv 2006.07733).

Shape suffixes: B rows of this rank, P pairs that are compared, D channels of the embedding.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..distributed.gather import gather
from ..interface import Batch, Data, Method, Moment, Output
from ..losses.prediction import cosine
from ..models import pairs
from ..models.backbones import feature_width
from ..models.heads import norm_mlp
from ..models.momentum import momentum_copy, momentum_update
from ..models.pairs import Mode

MODALITIES = ("video", "audio")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Options of BYOL. The defaults are those of its code for 300 epochs."""

    mode: Mode = "cross"
    """cross: compare the modalities. intra: compare two views of each modality. joint: the mean of both losses."""
    dim: int = 256
    """Embedding dimension."""
    hidden: int = 4096
    """Width of the hidden layer of projector and predictor."""
    momentum: float = 0.99
    """Initial momentum of the target networks; rises to 1 along half a cosine (0.996 for 1,000 epochs)."""

    def __post_init__(self) -> None:
        """Raise ValueError for invalid heads or momentum."""
        if min(self.dim, self.hidden) < 1 or not 0 <= self.momentum <= 1:
            raise ValueError("byol: dim and hidden must be at least 1, momentum from 0 to 1")


def build(settings: Settings, *, video: nn.Module, audio: nn.Module, data: Data) -> "Byol":
    """Build the method on two encoders."""
    return Byol(settings, video=video, audio=audio, steps=data.steps)


def momentum_at(step: int, *, steps: int, base: float) -> float:
    """Momentum at update `step` of `steps`: 1 - (1 - base) (cos(pi step / steps) + 1) / 2 (section 3.1)."""
    return 1 - (1 - base) * (math.cos(math.pi * step / steps) + 1) / 2


class Byol(Method):
    """One projector and one predictor per modality, with target networks: momentum copies of encoders and projectors."""

    INIT = (*Method.INIT, "heads.", "predictors.")
    follows_steps = True

    def __init__(self, settings: Settings, *, video: nn.Module, audio: nn.Module, steps: int) -> None:
        super().__init__()
        self.settings, self.steps = settings, steps
        self.views = pairs.views(settings.mode)
        self.video, self.audio = video, audio
        dim, hidden = settings.dim, settings.hidden
        widths = {"video": feature_width(video), "audio": feature_width(audio)}
        self.heads = nn.ModuleDict(
            {name: norm_mlp(each, hidden, dim, hidden_bias=True) for name, each in widths.items()}
        )
        self.predictors = nn.ModuleDict({name: norm_mlp(dim, hidden, dim, hidden_bias=True) for name in widths})
        self.target_encoders = nn.ModuleDict({name: momentum_copy(getattr(self, name)) for name in MODALITIES})
        self.target_heads = nn.ModuleDict({name: momentum_copy(head) for name, head in self.heads.items()})

    def adopt(self, facts: Mapping[str, Any], own: Mapping[str, Any]) -> None:
        """Copy the loaded weights to the target networks."""
        for name in MODALITIES:
            self.target_encoders[name].load_state_dict(getattr(self, name).state_dict())
            self.target_heads[name].load_state_dict(self.heads[name].state_dict())

    def encoders(self) -> list[nn.Module]:
        """Online and target encoders."""
        return [*super().encoders(), *self.target_encoders.values()]

    def forward(self, batch: Batch, moment: Moment) -> Output:
        """Mean over the samples of 2 - 2 cos between each prediction and the target embedding of the other view (Eq. 2, 3)."""
        its = self.settings
        predicted: dict[pairs.Rendering, Tensor] = {}
        target: dict[pairs.Rendering, Tensor] = {}
        for each in pairs.renderings(its.mode):
            encoder, name, inputs = getattr(self, each.modality), each.modality, pairs.given(batch, each)
            predicted[each] = self.predictors[name](self.heads[name](encoder(inputs)))
            with torch.no_grad():
                target[each] = self.target_heads[name](self.target_encoders[name](inputs))
        terms_BP = [
            4 - 2 * (cosine(predicted[one], target[other]) + cosine(predicted[other], target[one]))
            for one, other in pairs.compared(its.mode)
        ]
        loss = pairs.weight(its.mode) * gather(torch.stack(terms_BP, dim=1)).sum(dim=1).mean()
        return Output(loss, {"loss": loss.detach()})

    def after_update(self, kept: Mapping[str, Tensor], moment: Moment) -> None:
        """Update the target networks."""
        momentum = momentum_at(moment.step, steps=max(self.steps, 1), base=self.settings.momentum)
        for name in MODALITIES:
            momentum_update(getattr(self, name), self.target_encoders[name], momentum=momentum)
            momentum_update(self.heads[name], self.target_heads[name], momentum=momentum)
