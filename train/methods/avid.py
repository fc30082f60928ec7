"""AVID: tell a sample's features from other samples', which a memory bank keeps (arXiv 2004.12943, section 3).

Shape suffixes: B rows of this rank, N rows of all ranks, K negatives, D channels of the embedding.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from ..distributed.gather import gather
from ..interface import Batch, Data, Method, Moment, Output
from ..losses.nce import nce_loss, scores
from ..models.backbones import feature_width
from ..models.heads import mlp, unit_embedding
from ..models.memory import MemoryBank

PAIRS = {
    "cross": (("video", "audio"), ("audio", "video")),
    "self": (("video", "video"), ("audio", "audio")),
    "joint": (("video", "audio"), ("audio", "video"), ("video", "video"), ("audio", "audio")),
}
"""Of each mode, whose features are compared with whose bank; the first of them estimates the partition."""
MOST_SCORES = 2**28
"""Of a step: each has a row of the bank beside it while gradients are computed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What is compared with what; the defaults are those of the paper's Cross-AVID."""

    mode: Literal["cross", "self", "joint"] = "cross"
    """Features against the bank of the other modality, of the same one, or both."""
    dim: int = 128
    """Channels of the embedding."""
    hidden: int = 512
    """Channels of the two hidden layers of each head."""
    negatives: int = 1024
    """Rows of the bank, of other samples, that each feature is compared with."""
    temperature: float = 0.07
    """Divisor of the cosines."""
    bank_momentum: float = 0.5
    """How much of itself a row of the bank keeps when its sample is seen."""

    def __post_init__(self) -> None:
        """Raise ValueError for a bank that cannot be."""
        if min(self.dim, self.hidden, self.negatives) < 1 or self.temperature <= 0 or not 0 <= self.bank_momentum <= 1:
            raise ValueError(
                "avid: dim, hidden and negatives must be at least 1, temperature more than 0, bank_momentum from 0 to 1"
            )


def build(settings: Settings, *, video: nn.Module, audio: nn.Module, data: Data) -> "Avid":
    """Make the method around two encoders; raises ValueError for a split of one sample."""
    return Avid(settings, video=video, audio=audio, data=data)


class Avid(Method):
    """Instance discrimination with a memory bank a modality. A split that is not trained on has no rows in it."""

    validates = False
    INIT = (*Method.INIT, "heads.")
    REPLICATED = ("banks.",)
    partition: Tensor

    def __init__(self, settings: Settings, *, video: nn.Module, audio: nn.Module, data: Data) -> None:
        super().__init__()
        if data.samples == 1:
            raise ValueError("the split has one sample, and no other to tell it from")
        if data.batch * settings.negatives > MOST_SCORES:
            raise ValueError(
                f"{data.batch} samples a step with {settings.negatives} negatives each are more than {MOST_SCORES} scores; "
                "give a smaller --avid.negatives"
            )
        self.settings, self.data = settings, data
        self.video, self.audio = video, audio
        hidden = settings.hidden
        self.heads = nn.ModuleDict(
            {
                "video": mlp(feature_width(video), hidden, hidden, settings.dim),
                "audio": mlp(feature_width(audio), hidden, hidden, settings.dim),
            }
        )
        names = ("video", "audio") if data.samples else ()
        self.banks = nn.ModuleDict({name: MemoryBank(data.samples, settings.dim) for name in names})
        self.register_buffer("partition", torch.zeros(()))
        self._drawn: tuple[int, Tensor] | None = None

    def forward(self, batch: Batch, moment: Moment) -> Output:
        """The mean over the samples of the sum over the pairs (Eq. 5 to 7).

        The first micro-batch of a run estimates the partition (Z), the mean of e^s over its negatives, which then stays.
        Logs the loss and Z. Raises ValueError for rows of another split.
        """
        if batch.row is None or batch.video is None or batch.audio is None:
            raise ValueError("avid: needs video, audio and rows of the training split")
        given = {"video": batch.video[:, 0], "audio": batch.audio[:, 0]}
        feature = {name: unit_embedding(getattr(self, name), self.heads[name], each) for name, each in given.items()}
        noise_BK = self.negatives(batch, moment)
        compared = [
            scores(feature[one], rows[batch.row], rows[noise_BK], temperature=self.settings.temperature)
            for one, rows in ((one, self._bank(other).rows_SD) for one, other in PAIRS[self.settings.mode])
        ]
        if self.training and moment.step == moment.micro == 0 and not self.partition.item():
            self.partition.copy_(gather(compared[0][1].detach().exp().mean(dim=1)).mean())
        loss_B = torch.stack([nce_loss(*each, partition=self.partition) for each in compared]).sum(dim=0)
        loss = gather(loss_B).mean()
        kept = {**{name: each.detach() for name, each in feature.items()}, "row": batch.row}
        return Output(loss, {"loss": loss.detach(), "partition": self.partition.clone()}, kept)

    def after_update(self, kept: Mapping[str, Tensor], moment: Moment) -> None:
        """The rows of the samples that were seen follow their features."""
        for name in ("video", "audio"):
            self._bank(name).update(kept["row"], kept[name], momentum=self.settings.bank_momentum)

    def _bank(self, name: str) -> MemoryBank:
        bank = self.banks[name]
        if not isinstance(bank, MemoryBank):
            raise TypeError(f"{name}: is no bank")
        return bank

    def negatives(self, batch: Batch, moment: Moment) -> Tensor:
        """Rows of other samples, drawn uniformly with replacement for the step's whole batch: (B, K)."""
        if batch.row is None:
            raise ValueError("avid: needs rows of the training split")
        if self._drawn is None or self._drawn[0] != moment.step:  # once for all micro-batches of a step
            shape = (self.data.batch, self.settings.negatives)
            drawn: np.ndarray = moment.rng("negatives").integers(self.data.samples - 1, size=shape)
            self._drawn = moment.step, torch.from_numpy(drawn).to(batch.row.device)
        others_BK = self._drawn[1][batch.place]
        return others_BK + (others_BK >= batch.row[:, None])
