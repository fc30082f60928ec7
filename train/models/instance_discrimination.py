"""Common parts of AVID and CMA: heads, memory banks, negatives, and the NCE partition (arXiv 2004.12943, section 3).

Shape suffixes: B rows of this rank, K negatives, S samples of the split, D channels of the embedding.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from ..distributed.gather import gather
from ..interface import Batch, Data, Method, Moment
from .backbones import feature_width
from .heads import mlp, unit_embedding
from .memory import MemoryBank, mean_cosine

MODALITIES = ("video", "audio")
CROSS = (("video", "audio"), ("audio", "video"))
"""Pairs of feature modality and bank modality; the first pair estimates the partition."""
MOST_BYTES = 2**36
"""Maximum bytes of the negatives' bank rows in a step, over all ranks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BankSettings:
    """Heads, banks and negatives. The defaults are those of AVID's paper and code."""

    dim: int = 128
    """Embedding dimension."""
    hidden: int = 512
    """Width of the two hidden layers of each head."""
    negatives: int = 1024
    """Number of negatives per feature, drawn from the bank."""
    temperature: float = 0.07
    """Softmax temperature."""
    bank_momentum: float = 0.5
    """Momentum of the bank update: weight of the old row."""
    scale: Literal["paper", "code"] = "paper"
    """paper: sum of the loss terms. code: half of their weighted mean over the kinds of terms, as in the authors' code."""

    def __post_init__(self) -> None:
        """Raise ValueError for invalid sizes."""
        if min(self.dim, self.hidden, self.negatives) < 1 or self.temperature <= 0 or not 0 <= self.bank_momentum <= 1:
            raise ValueError(
                "dim, hidden and negatives must be at least 1, temperature more than 0, bank_momentum from 0 to 1"
            )


class Banks(nn.Module):
    """One memory bank per modality, and the partition Z."""

    partition: Tensor
    """Z, the mean of exp(score) over random rows: estimated once, by the first micro-batch of a run; 0 until then."""
    temperature: Tensor
    """Temperature of the scores that Z belongs to."""

    def __init__(self, samples: int, dim: int, *, temperature: float) -> None:
        super().__init__()
        self.video, self.audio = MemoryBank(samples, dim), MemoryBank(samples, dim)
        self.register_buffer("partition", torch.zeros(()))
        self.register_buffer("temperature", torch.tensor(temperature))


class InstanceDiscrimination(Method):
    """Instance discrimination with memory banks. Splits other than the training split have no rows."""

    validates = False
    REPLICATED: tuple[str, ...] = ("banks.",)
    settings: BankSettings
    memory_cosine: Tensor
    """Mean dot product of two rows of the video bank, and of the audio bank, at the start of the epoch (section 4.3)."""

    def __init__(self, settings: BankSettings, *, video: nn.Module, audio: nn.Module, data: Data) -> None:
        super().__init__()
        if data.samples == 1:
            raise ValueError("the split has a single sample, but instance discrimination needs several")
        if 4 * data.batch * settings.negatives * settings.dim > MOST_BYTES:
            raise ValueError(
                f"{data.batch} samples a step with {settings.negatives} negatives of {settings.dim} channels each are more than "
                f"{MOST_BYTES / 1e9:.0f} GB; give fewer negatives"
            )
        self.data, self.settings = data, settings
        self.video, self.audio = video, audio
        hidden = settings.hidden
        self.heads = nn.ModuleDict(
            {name: mlp(feature_width(getattr(self, name)), hidden, hidden, settings.dim) for name in MODALITIES}
        )
        self.banks = Banks(data.samples, settings.dim, temperature=settings.temperature) if data.samples else None
        self.register_buffer("memory_cosine", torch.zeros(2))
        self._drawn: tuple[int, Tensor] | None = None

    def embeddings(self, batch: Batch) -> dict[str, Tensor]:
        """L2-normalized embeddings of both modalities, (B, D); raises ValueError for a missing modality or another split."""
        if batch.row is None or batch.video is None or batch.audio is None:
            raise ValueError("needs video, audio and rows of the training split")
        given = {"video": batch.video[:, 0], "audio": batch.audio[:, 0]}
        return {name: unit_embedding(getattr(self, name), self.heads[name], each) for name, each in given.items()}

    def memory(self) -> Banks:
        """Banks and Z; raises ValueError if built for evaluation."""
        if self.banks is None:
            raise ValueError("was built for evaluation, without memory banks")
        return self.banks

    def rows(self, name: str) -> Tensor:
        """All rows of a modality's bank: (S, D)."""
        banks = self.memory()
        return banks.video.rows_SD if name == "video" else banks.audio.rows_SD

    def estimate_partition(self, noise_BK: Tensor, moment: Moment) -> None:
        """Estimate Z from the scores of negatives (B, K), unless it is known."""
        partition = self.memory().partition
        if self.training and moment.step == moment.micro == 0 and not partition.item():
            partition.copy_(gather(noise_BK.detach().exp().mean(dim=1)).mean())

    def drawn(self, batch: Batch, moment: Moment, *, below: int) -> Tensor:
        """Integers in [0, `below`), uniform with replacement, drawn for the whole global batch: (B, K)."""
        if self._drawn is None or self._drawn[0] != moment.step:  # once for all micro-batches of a step
            drawn: np.ndarray = moment.rng("negatives").integers(below, size=(self.data.batch, self.settings.negatives))
            self._drawn = moment.step, torch.from_numpy(drawn).to(batch.place.device)
        return self._drawn[1][batch.place]

    def kept(self, batch: Batch, feature: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Tensors that update the banks after the step."""
        if batch.row is None:
            raise ValueError("needs rows of the training split")
        return {**{name: each.detach() for name, each in feature.items()}, "row": batch.row}

    def logs(self, loss: Tensor) -> dict[str, Tensor]:
        """Loss, partition, and mean cosine of each bank's rows."""
        cosines = {f"memory_cosine_{name}": self.memory_cosine[place] for place, name in enumerate(MODALITIES)}
        return {"loss": loss.detach(), "partition": self.memory().partition.clone(), **cosines}

    def on_epoch(self, moment: Moment, labels: Tensor) -> None:
        """Measure the mean cosine of each bank's rows."""
        del labels
        rng = moment.rng("memory_cosine")
        self.memory_cosine.copy_(torch.stack([mean_cosine(self.rows(name), rng) for name in MODALITIES]))

    def after_update(self, kept: Mapping[str, Tensor], moment: Moment) -> None:
        """Move the bank rows of the batch's samples toward their features."""
        banks = self.memory()
        banks.video.update(kept["row"], kept["video"], momentum=self.settings.bank_momentum)
        banks.audio.update(kept["row"], kept["audio"], momentum=self.settings.bank_momentum)
