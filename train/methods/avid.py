"""AVID: instance discrimination with memory banks across modalities (arXiv 2004.12943, section 3.1).

Shape suffixes: B rows of this rank, K negatives, D channels of the embedding.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from ..distributed.gather import gather
from ..interface import Batch, Data, Method, Moment, Output
from ..losses.nce import nce_loss, scores
from ..models.instance_discrimination import CROSS, MODALITIES, BankSettings, InstanceDiscrimination

SELF = tuple((name, name) for name in MODALITIES)
PAIRS = {"cross": CROSS, "self": SELF, "joint": (*CROSS, *SELF)}
"""Pairs of feature modality and bank modality, by mode; the first pair estimates the partition."""
CODE_SCALE = {"cross": 1 / 2, "self": 1 / 2, "joint": 1 / 4}
"""Factor of the authors' code relative to the paper's sum."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings(BankSettings):
    """Options of AVID. The defaults are the paper's Cross-AVID."""

    mode: Literal["cross", "self", "joint"] = "cross"
    """cross: features against the bank of the other modality. self: of the same modality. joint: both."""


def build(settings: Settings, *, video: nn.Module, audio: nn.Module, data: Data) -> "Avid":
    """Build the method on two encoders; raises ValueError for a split of one sample."""
    return Avid(settings, video=video, audio=audio, data=data)


class Avid(InstanceDiscrimination):
    """Instance discrimination across modalities, within them, or both."""

    INIT = (*Method.INIT, "heads.")
    settings: Settings

    def forward(self, batch: Batch, moment: Moment) -> Output:
        """NCE loss summed over the pairs, averaged over the samples (Eq. 5 to 7).

        The first micro-batch of a run estimates the partition Z, the mean of e^s over its negatives, which is constant
        afterwards. Logs the loss, Z, and the mean dot product of each bank's rows at the start of the epoch. Raises ValueError
        for rows of another split.
        """
        its, feature = self.settings, self.embeddings(batch)
        noise_BK = self.negatives(batch, moment)
        compared = [
            scores(feature[one], rows_SD[batch.row], rows_SD[noise_BK], temperature=its.temperature)
            for one, rows_SD in ((one, self.rows(other)) for one, other in PAIRS[its.mode])
        ]
        self.estimate_partition(compared[0][1], moment)
        loss_B = torch.stack([nce_loss(*each, partition=self.memory().partition) for each in compared]).sum(dim=0)
        loss = gather(loss_B).mean() * (CODE_SCALE[its.mode] if its.scale == "code" else 1)
        return Output(loss, self.logs(loss), self.kept(batch, feature))

    def negatives(self, batch: Batch, moment: Moment) -> Tensor:
        """Rows of other samples, uniform with replacement, drawn for the whole global batch: (B, K)."""
        if batch.row is None:
            raise ValueError("needs rows of the training split")
        others_BK = self.drawn(batch, moment, below=self.data.samples - 1)
        return others_BK + (others_BK >= batch.row[:, None])
