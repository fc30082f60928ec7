"""AVID+CMA: Cross-AVID with positives that agree in both modalities, within each modality (arXiv 2004.12943, section 4).

Shape suffixes: B rows of this rank, K negatives, P positives, S samples of the split, D channels of the embedding.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from kinetics_sounds.errors import RunError

from ..distributed.gather import gather
from ..interface import Batch, Data, Method, Moment, Output
from ..losses.nce import cosines, nce_loss
from ..models import mining
from ..models.instance_discrimination import CROSS, MODALITIES, BankSettings, InstanceDiscrimination
from ..models.mining import CRITERIA, Criterion

MOST_ANCHORS = 10_000
"""Maximum number of anchors for the `precision_…` metrics."""
SAME = ("fingerprint", "data_recipe")
"""Facts in run.json that determine the samples and their order, and so the row of each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings(BankSettings):
    """Mining and weight of positives. The defaults are the paper's."""

    criterion: Criterion = "min"
    """Similarity of positives: min: both modalities (CMA), max: either modality, or one modality alone (Fig. 4)."""
    positives: int = 32
    """Positives per sample, besides its own other modality."""
    mine_every: int = 50
    """Epochs between mining positives."""
    weight: float = 1.0
    """Weight of the positives' loss relative to Cross-AVID (lambda)."""
    negatives_within: int = 1024
    """Number of negatives in the positives' loss: the first of `negatives`, at most all (64 in the authors' configs)."""
    exclude_self: bool = False
    """Never draw the sample itself as a negative; the authors' code may."""

    def __post_init__(self) -> None:
        """Raise ValueError for invalid values."""
        super(Settings, self).__post_init__()
        if (
            min(self.positives, self.mine_every) < 1
            or not 1 <= self.negatives_within <= self.negatives
            or self.weight < 0
        ):
            raise ValueError(
                "cma: positives and mine_every must be at least 1, negatives_within from 1 to negatives, weight at least 0"
            )


def build(settings: Settings, *, video: nn.Module, audio: nn.Module, data: Data) -> "Cma":
    """Build the method on two encoders; raises ValueError for a split with too few samples."""
    return Cma(settings, video=video, audio=audio, data=data)


class Cma(InstanceDiscrimination):
    """Cross-AVID, plus instance discrimination within each modality with positives mined from the memory banks.

    Initialized from the networks, banks and partition of an AVID run on the same samples in the same order.
    """

    INIT = (*Method.INIT, "heads.", "banks.")
    NEEDS = ("heads.", "banks.")
    AFTER = "avid"
    REPLICATED: tuple[str, ...] = ("banks.", "positives")
    settings: Settings
    positives: Tensor | None
    precision: Tensor

    def __init__(self, settings: Settings, *, video: nn.Module, audio: nn.Module, data: Data) -> None:
        super().__init__(settings, video=video, audio=audio, data=data)
        if data.samples and settings.positives + 2 > data.samples:
            raise ValueError(
                f"{settings.positives} positives and a negative per sample need more than {data.samples} samples; give fewer "
                "--cma.positives"
            )
        self.register_buffer("precision", torch.zeros(len(CRITERIA)))
        mined = torch.zeros(data.samples, settings.positives, dtype=torch.int32) if data.samples else None
        self.register_buffer("positives", mined)

    def adopt(self, facts: Mapping[str, Any], own: Mapping[str, Any]) -> None:
        """Raise RunError for a run on other samples, in another order, or with another temperature."""
        if not facts:
            raise RunError(
                "--init_from: is not inside a run folder; give that folder, whose run.json identifies the samples of its memory"
            )
        if not math.isclose(before := float(self.memory().temperature), self.settings.temperature, rel_tol=1e-6):
            raise RunError(
                f"--init_from: its partition belongs to temperature {before:g}; give --cma.temperature {before:g}"
            )
        for name in SAME:
            if facts.get(name) != own.get(name):
                raise RunError(
                    f"--init_from: its memory banks belong to other samples, or to shards packed differently ({name} "
                    f"{facts.get(name)}, not {own.get(name)}); train --method avid on these shards first"
                )

    def on_epoch(self, moment: Moment, labels: Tensor) -> None:
        """Mine positives every `mine_every` epochs; raises RunError unless initialized from an AVID run."""
        if not self.memory().partition.item():
            raise RunError("--method cma: needs the memory banks of an AVID run; give one with --init_from")
        super().on_epoch(moment, labels)
        if moment.epoch % self.settings.mine_every or self.positives is None:
            return
        video_SD, audio_SD = (self.rows(name) for name in MODALITIES)
        count = self.settings.positives
        self.positives.copy_(mining.mine(video_SD, audio_SD, criterion=self.settings.criterion, count=count))
        anchor_A, labels = mining.evenly(len(video_SD), MOST_ANCHORS).to(video_SD.device), labels.to(video_SD.device)
        for place, criterion in enumerate(CRITERIA):
            if criterion == self.settings.criterion:
                found = [self.positives[anchor_A].long()]
            else:
                found = [
                    mining.nearest(video_SD, audio_SD, part_A, criterion=criterion, count=count)
                    for part_A in torch.split(anchor_A, mining.block_size(len(video_SD)))
                ]
            self.precision[place] = mining.precision(torch.cat(found), anchor_A, labels)

    def forward(self, batch: Batch, moment: Moment) -> Output:
        """Cross-AVID's loss plus `weight` times the mean loss of the positives within each modality (Eq. 10, 11).

        Logs the loss, both terms, Z, the mean dot product of each bank's rows, and for each criterion the fraction of positives
        that have the class of their sample. Raises ValueError for rows of another split.
        """
        its, feature = self.settings, self.embeddings(batch)
        if batch.row is None or self.positives is None:
            raise ValueError("needs rows of the training split")
        positive_BP, noise_BK = self.positives[batch.row].long(), self.negatives(batch, moment)
        cross = [self._nce(feature[one], other, batch.row[:, None], noise_BK) for one, other in CROSS]
        within_BK = noise_BK[:, : its.negatives_within]
        within = [self._nce(feature[name], name, positive_BP, within_BK) for name in MODALITIES]
        terms_B2 = torch.stack([torch.stack(each).sum(dim=0) for each in (cross, within)], dim=1)
        cross_loss, within_loss = gather(terms_B2).mean(dim=0)
        loss = cross_loss + its.weight * within_loss
        if its.scale == "code":
            loss = loss / (2 * (1 + its.weight))
        precision = {f"precision_{name}": self.precision[place] for place, name in enumerate(CRITERIA)}
        terms = {"cross": cross_loss.detach(), "within": within_loss.detach()}
        return Output(loss, {**self.logs(loss), **terms, **precision}, self.kept(batch, feature))

    def _nce(self, feature_BD: Tensor, bank: str, own_BP: Tensor, noise_BK: Tensor) -> Tensor:
        """NCE loss of features with positive and negative bank rows: (B,)."""
        rows_SD, temperature = self.rows(bank), self.settings.temperature
        scores = [cosines(feature_BD, rows_SD[each], temperature=temperature) for each in (own_BP, noise_BK)]
        return nce_loss(*scores, partition=self.memory().partition)

    def negatives(self, batch: Batch, moment: Moment) -> Tensor:
        """Rows that are not positives, uniform with replacement, drawn for the whole global batch: (B, K)."""
        if batch.row is None or self.positives is None:
            raise ValueError("needs rows of the training split")
        excluded_BP = self.positives[batch.row].long()
        if self.settings.exclude_self:
            excluded_BP = torch.cat([excluded_BP, batch.row[:, None]], dim=1).sort(dim=1).values
        draw_BK = self.drawn(batch, moment, below=self.data.samples - excluded_BP.shape[1])
        return mining.outside(draw_BK, excluded_BP)
