"""MoCo across modalities, within them, or both: contrast with a queue of momentum-encoder keys (arXiv 1911.05722).

Shape suffixes: B rows of this rank, K keys, P pairs of modalities that are compared, D channels of the embedding.
"""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ..distributed.gather import gather
from ..interface import Batch, Data, Method, Moment, Output
from ..losses.queue import own_key_loss, queue_logits
from ..models.backbones import feature_width
from ..models.heads import mlp, unit_embedding
from ..models.memory import Queue
from ..models.momentum import momentum_copy, momentum_update

MODALITIES = ("video", "audio")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Queue, momentum and heads. The defaults are those of MoCo's paper."""

    mode: Literal["cross", "intra", "joint"] = "cross"
    """cross: keys of the other modality. intra: keys of another view of the same modality. joint: the mean of both losses."""
    head: Literal["linear", "mlp"] = "linear"
    """Projection head: linear (v1), or mlp with one hidden layer (v2)."""
    dim: int = 128
    """Embedding dimension."""
    queue: int = 65_536
    """Number of keys in the queue. If it is large relative to the split, a sample often meets its own earlier keys."""
    momentum: float = 0.999
    """Momentum of the key encoders."""
    temperature: float = 0.07
    """Softmax temperature."""

    def __post_init__(self) -> None:
        """Raise ValueError for invalid values."""
        if self.dim < 1 or self.queue < 1 or not 0 <= self.momentum <= 1 or self.temperature <= 0:
            raise ValueError("moco: dim and queue must be at least 1, momentum from 0 to 1, temperature more than 0")


def build(settings: Settings, *, video: nn.Module, audio: nn.Module, data: Data) -> "Moco":
    """Build the method on two encoders; raises ValueError unless the queue is shorter than the split."""
    return Moco(settings, video=video, audio=audio, data=data)


class Moco(Method):
    """One query encoder and its momentum copy per modality, and a queue for each compared pair."""

    INIT = (*Method.INIT, "heads.")
    REPLICATED = ("queues.",)

    def __init__(self, settings: Settings, *, video: nn.Module, audio: nn.Module, data: Data) -> None:
        super().__init__()
        if data.samples and settings.queue >= data.samples:
            raise ValueError(
                f"its queue of {settings.queue} keys must be smaller than the split, which has {data.samples} samples; give "
                f"--moco.queue {max(1, data.samples // 4)}"
            )
        self.settings = settings
        self.views = 1 if settings.mode == "cross" else 2
        self.video, self.audio = video, audio
        widths = {name: feature_width(encoder) for name, encoder in zip(MODALITIES, (video, audio), strict=True)}
        inner = {name: [width] if settings.head == "mlp" else [] for name, width in widths.items()}
        self.heads = nn.ModuleDict({name: mlp(width, *inner[name], settings.dim) for name, width in widths.items()})
        self.key_encoders = nn.ModuleDict({name: momentum_copy(getattr(self, name)) for name in MODALITIES})
        self.key_heads = nn.ModuleDict({name: momentum_copy(head) for name, head in self.heads.items()})
        self.pairs = [
            (query, key)
            for query, key in itertools.product(MODALITIES, MODALITIES)
            if settings.mode == "joint" or (query == key) is (settings.mode == "intra")
        ]
        self.queues = nn.ModuleDict(
            {f"{query}_{key}": Queue(settings.queue, settings.dim) for query, key in self.pairs if data.samples}
        )

    def adopt(self, facts: Mapping[str, Any], own: Mapping[str, Any]) -> None:
        """Copy the loaded weights to the key encoders."""
        for name in MODALITIES:
            self.key_encoders[name].load_state_dict(getattr(self, name).state_dict())
            self.key_heads[name].load_state_dict(self.heads[name].state_dict())

    def encoders(self) -> list[nn.Module]:
        """Query and key encoders."""
        return [*super().encoders(), *self.key_encoders.values()]

    def forward(self, batch: Batch, moment: Moment) -> Output:
        """Loss of first-view queries against last-view keys (the same view if there is only one).

        Logs the loss, and how often a query is nearest to its own key, in percent.
        """
        inputs = {"video": batch.video, "audio": batch.audio}
        query = {name: self._embedded(getattr(self, name), self.heads[name], inputs[name], 0) for name in MODALITIES}
        with torch.no_grad():
            key = {
                name: self._embedded(self.key_encoders[name], self.key_heads[name], inputs[name], -1)
                for name in MODALITIES
            }
        logits = [
            queue_logits(query[one], key[other], self._queue(one, other).rows_KD, temperature=self.settings.temperature)
            for one, other in self.pairs
        ]
        loss_BP = torch.stack([own_key_loss(logit_BK) for logit_BK in logits], dim=1)
        found_BP = torch.stack([logit_BK[:, 0] > logit_BK[:, 1:].amax(dim=1) for logit_BK in logits], dim=1)
        loss = gather(loss_BP).sum(dim=1).mean() * (0.5 if self.settings.mode == "joint" else 1)
        top1 = 100 * gather(found_BP.to(loss.dtype)).mean()
        return Output(loss, {"loss": loss.detach(), "key_top1": top1}, key)

    def after_update(self, kept: Mapping[str, Tensor], moment: Moment) -> None:
        """Update the key encoders, and push the keys of this step to the queues."""
        for name in MODALITIES:
            momentum_update(getattr(self, name), self.key_encoders[name], momentum=self.settings.momentum)
            momentum_update(self.heads[name], self.key_heads[name], momentum=self.settings.momentum)
        for one, other in self.pairs:
            self._queue(one, other).push(kept[other])

    def _queue(self, query: str, key: str) -> Queue:
        queue = self.queues[f"{query}_{key}"]
        if not isinstance(queue, Queue):
            raise TypeError(f"{query}_{key}: is no queue")
        return queue

    def _embedded(self, encoder: nn.Module, head: nn.Module, given_BVCTHW: Tensor | None, view: int) -> Tensor:
        """L2-normalized embeddings of one view: (B, D)."""
        if given_BVCTHW is None:
            raise ValueError("moco: needs video and audio; the view gives one of them alone")
        return unit_embedding(encoder, head, given_BVCTHW[:, view])
