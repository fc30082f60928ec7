"""What AVID and CMA share: heads, a memory bank a modality, negatives, and the partition (arXiv 2004.12943, section 3).

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
"""Whose features are compared with whose bank; the first of them estimates the partition."""
MOST_BYTES = 2**36
"""Of the negatives of a step, all ranks together: each has a row of a bank beside it while gradients are computed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BankSettings:
    """Heads, banks and negatives; the defaults are those of AVID's paper and code."""

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
    scale: Literal["paper", "code"] = "paper"
    """Terms as the paper adds them; code: half of their weighted mean over the kinds of terms, as the authors' code has it."""

    def __post_init__(self) -> None:
        """Raise ValueError for a bank that cannot be."""
        if min(self.dim, self.hidden, self.negatives) < 1 or self.temperature <= 0 or not 0 <= self.bank_momentum <= 1:
            raise ValueError(
                "dim, hidden and negatives must be at least 1, temperature more than 0, bank_momentum from 0 to 1"
            )


class Banks(nn.Module):
    """A memory bank a modality, and Z."""

    partition: Tensor
    """Z, the mean of e^score over random rows: estimated once, by the first micro-batch of a run, of all ranks; 0 until then."""
    temperature: Tensor
    """Of its scores."""

    def __init__(self, samples: int, dim: int, *, temperature: float) -> None:
        super().__init__()
        self.video, self.audio = MemoryBank(samples, dim), MemoryBank(samples, dim)
        self.register_buffer("partition", torch.zeros(()))
        self.register_buffer("temperature", torch.tensor(temperature))


class InstanceDiscrimination(Method):
    """Tells samples apart by rows of memory banks. A split that is not trained on has no rows in them."""

    validates = False
    REPLICATED: tuple[str, ...] = ("banks.",)
    settings: BankSettings
    memory_cosine: Tensor
    """Mean dot product of two rows of the video's bank, and of the audio's, as the epoch began (section 4.3)."""

    def __init__(self, settings: BankSettings, *, video: nn.Module, audio: nn.Module, data: Data) -> None:
        super().__init__()
        if data.samples == 1:
            raise ValueError("the split has one sample, and no other to tell it from")
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
        """Unit vectors of both modalities, (B, D); raises ValueError for a batch without one, or of another split."""
        if batch.row is None or batch.video is None or batch.audio is None:
            raise ValueError("needs video, audio and rows of the training split")
        given = {"video": batch.video[:, 0], "audio": batch.audio[:, 0]}
        return {name: unit_embedding(getattr(self, name), self.heads[name], each) for name, each in given.items()}

    def memory(self) -> Banks:
        """The banks and Z; raises ValueError where the model was built for evaluation."""
        if self.banks is None:
            raise ValueError("was built for evaluation, and has no memory banks")
        return self.banks

    def rows(self, name: str) -> Tensor:
        """All of a modality's bank: (S, D)."""
        banks = self.memory()
        return banks.video.rows_SD if name == "video" else banks.audio.rows_SD

    def estimate_partition(self, noise_BK: Tensor, moment: Moment) -> None:
        """Take Z from the scores of negatives (B, K), where the run has none yet."""
        partition = self.memory().partition
        if self.training and moment.step == moment.micro == 0 and not partition.item():
            partition.copy_(gather(noise_BK.detach().exp().mean(dim=1)).mean())

    def drawn(self, batch: Batch, moment: Moment, *, below: int) -> Tensor:
        """Whole numbers from 0 to `below`, without it, drawn uniformly with replacement for the step's whole batch: (B, K)."""
        if self._drawn is None or self._drawn[0] != moment.step:  # once for all micro-batches of a step
            drawn: np.ndarray = moment.rng("negatives").integers(below, size=(self.data.batch, self.settings.negatives))
            self._drawn = moment.step, torch.from_numpy(drawn).to(batch.place.device)
        return self._drawn[1][batch.place]

    def kept(self, batch: Batch, feature: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """What moves the banks after the update."""
        if batch.row is None:
            raise ValueError("needs rows of the training split")
        return {**{name: each.detach() for name, each in feature.items()}, "row": batch.row}

    def logs(self, loss: Tensor) -> dict[str, Tensor]:
        """The loss, the partition, and how alike the rows of each bank are."""
        cosines = {f"memory_cosine_{name}": self.memory_cosine[place] for place, name in enumerate(MODALITIES)}
        return {"loss": loss.detach(), "partition": self.memory().partition.clone(), **cosines}

    def on_epoch(self, moment: Moment, labels: Tensor) -> None:
        """Measure how alike the rows of each bank are."""
        del labels
        rng = moment.rng("memory_cosine")
        self.memory_cosine.copy_(torch.stack([mean_cosine(self.rows(name), rng) for name in MODALITIES]))

    def after_update(self, kept: Mapping[str, Tensor], moment: Moment) -> None:
        """The rows of the samples that were seen follow their features."""
        banks = self.memory()
        banks.video.update(kept["row"], kept["video"], momentum=self.settings.bank_momentum)
        banks.audio.update(kept["row"], kept["audio"], momentum=self.settings.bank_momentum)
