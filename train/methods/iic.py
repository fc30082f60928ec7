"""IIC: instance discrimination with memory banks and temporally shuffled clips as negatives (arXiv 2008.02531).

Shape suffixes: B rows of this rank, K rows of a bank, C channels, T frames, H and W pixels, D feature channels.
"""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..distributed.gather import gather
from ..interface import Batch, Data, Inputs, Method, Moment, Output
from ..losses.nce import scores
from ..losses.queue import own_key_loss
from ..models.backbones import feature_width
from ..models.memory import MemoryBank

PAIRS = {
    "cross": (("video", "audio"), ("audio", "video")),
    "intra": (("video", "video"), ("audio", "audio")),
    "joint": (("video", "audio"), ("audio", "video"), ("video", "video"), ("audio", "audio")),
}
"""Pairs of feature modality and bank modality, by mode."""
CHUNKS = 4
"""Number of chunks of a clip, two of which `shuffle` swaps."""
LEAST_FRAMES = {"repeat": 2, "shuffle": CHUNKS, "none": 1}
"""Minimum frames of a clip; a shorter one would be its own negative."""
MOST_SCORES = 2**28
"""Maximum scores per step; each needs a bank row in memory while gradients are computed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Options of IIC. The defaults are those of its code, except for normalize_anchor."""

    mode: Literal["cross", "intra", "joint"] = "cross"
    """cross: features against the bank of the other modality. intra: of the same modality. joint: the mean of both."""
    negatives: int = 1024
    """Negatives per feature, drawn from the banks with replacement; may include the sample itself."""
    intra_negative: Literal["repeat", "shuffle", "none"] = "repeat"
    """Negative made from the clip itself, in a third bank. repeat: one frame repeated; shuffle: two of four chunks swapped;
    none: no third bank. It is video, so audio-audio pairs do not use it."""
    normalize_anchor: bool = True
    """L2-normalize features before comparing and storing them, as in CMC; IIC's code does not."""
    temperature: float = 0.07
    """Softmax temperature."""
    bank_momentum: float = 0.5
    """Momentum of the bank update: weight of the old row."""

    def __post_init__(self) -> None:
        """Raise ValueError for invalid values."""
        if self.negatives < 1 or self.temperature <= 0 or not 0 <= self.bank_momentum <= 1:
            raise ValueError("iic: negatives must be at least 1, temperature more than 0, bank_momentum from 0 to 1")


def build(settings: Settings, *, video: nn.Module, audio: nn.Module, data: Data) -> "Iic":
    """Build the method on two encoders; raises ValueError if their widths differ."""
    return Iic(settings, video=video, audio=audio, data=data)


class Iic(Method):
    """Softmax over memory-bank rows, without projection heads. Splits other than the training split have no rows."""

    validates = False
    REPLICATED = ("banks.",)

    def __init__(self, settings: Settings, *, video: nn.Module, audio: nn.Module, data: Data) -> None:
        super().__init__()
        if data.batch * 2 * (settings.negatives + 1) > MOST_SCORES:
            raise ValueError(
                f"{data.batch} samples a step with {settings.negatives} negatives each are more than {MOST_SCORES} scores; "
                "give a smaller --iic.negatives"
            )
        if feature_width(video) != feature_width(audio):
            raise ValueError("its encoders have no heads, so their features must have one width")
        self.settings, self.data = settings, data
        self.video, self.audio = video, audio
        names = ["video", "audio", *(["intra"] if settings.intra_negative != "none" else [])]
        self.banks = nn.ModuleDict(
            {name: MemoryBank(data.samples, feature_width(video), uniform=True) for name in names if data.samples}
        )

    def check(self, inputs: Inputs) -> None:
        """Raise ValueError for clips too short for intra negatives."""
        if inputs.video is not None:
            self._check_frames(inputs.video[1])

    def forward(self, batch: Batch, moment: Moment) -> Output:
        """Cross-entropy of a sample's own row among rows of one bank and of the third bank, summed over the pairs.

        The logits of a feature are those of its own row, of `negatives` drawn rows, and, if one of the pair is video, of the
        same rows of the third bank. Raises ValueError for rows of another split.
        """
        its = self.settings
        if batch.row is None or batch.video is None or batch.audio is None:
            raise ValueError("iic: needs video, audio and rows of the training split")
        drawn_BK = self.drawn(batch, moment)
        wide = torch.promote_types(batch.video.dtype, torch.float32)
        feature = {
            "video": self.video(batch.video[:, 0]).to(wide),
            "audio": self.audio(batch.audio[:, 0]).to(wide),
        }
        anchor = {name: self._anchor(each) for name, each in feature.items()}
        losses_BP = []
        for one, other in PAIRS[its.mode]:
            rows_BKD = self._bank(other).rows_SD[drawn_BK]
            if "intra" in self.banks and "video" in (one, other):
                rows_BKD = torch.cat([rows_BKD, self._bank("intra").rows_SD[drawn_BK]], dim=1)
            own_B, noise_BK = scores(anchor[one], rows_BKD[:, 0], rows_BKD[:, 1:], temperature=its.temperature)
            losses_BP.append(own_key_loss(torch.cat([own_B[:, None], noise_BK], dim=1)))
        loss = gather(torch.stack(losses_BP, dim=1)).sum(dim=1).mean() * (0.5 if its.mode == "joint" else 1)
        kept = {**{name: each.detach() for name, each in anchor.items()}, "row": batch.row}
        if "intra" in self.banks:
            with torch.no_grad():
                destroyed_BD = self.video(self.destroyed(batch.video[:, 0], batch.place, moment))
            kept["intra"] = self._anchor(destroyed_BD.to(wide))
        return Output(loss, {"loss": loss.detach()}, kept)

    def after_update(self, kept: Mapping[str, Tensor], moment: Moment) -> None:
        """Move the bank rows of the batch's samples toward their features."""
        for name in self.banks:
            self._bank(name).update(kept["row"], kept[name], momentum=self.settings.bank_momentum)

    def drawn(self, batch: Batch, moment: Moment) -> Tensor:
        """Rows that each feature is compared with: its own first, then uniformly drawn ones: (B, 1 + K)."""
        if batch.row is None:
            raise ValueError("iic: needs rows of the training split")
        shape = (self.data.batch, self.settings.negatives)
        drawn = torch.from_numpy(moment.rng("negatives").integers(self.data.samples, size=shape))
        return torch.cat([batch.row[:, None], drawn.to(batch.row.device)[batch.place]], dim=1)

    def destroyed(self, clip_BCTHW: Tensor, place_B: Tensor, moment: Moment) -> Tensor:
        """Intra negatives: clips with one frame repeated, or two of four chunks swapped.

        Raises ValueError for clips that are too short.
        """
        frames = clip_BCTHW.shape[2]
        self._check_frames(frames)
        rng = moment.rng("intra_negative")
        if self.settings.intra_negative == "repeat":
            choice = rng.integers(frames, size=self.data.batch)
            order = np.repeat(choice[:, None], frames, axis=1)
        else:
            swaps = list(itertools.combinations(range(CHUNKS), 2))
            order = np.array(swapped_orders(frames, swaps))[rng.integers(len(swaps), size=self.data.batch)]
        index_BT = torch.from_numpy(order).to(place_B.device)[place_B]
        return clip_BCTHW.gather(2, index_BT[:, None, :, None, None].expand_as(clip_BCTHW))

    def _check_frames(self, frames: int) -> None:
        how = self.settings.intra_negative
        if frames < LEAST_FRAMES[how]:
            raise ValueError(
                f"intra_negative {how} needs clips of {LEAST_FRAMES[how]} frames, and these have {frames}; give more frames, or "
                "--iic.intra_negative none"
            )

    def _anchor(self, feature_BD: Tensor) -> Tensor:
        """Features as compared with the banks and stored in them."""
        return F.normalize(feature_BD, dim=1) if self.settings.normalize_anchor else feature_BD

    def _bank(self, name: str) -> MemoryBank:
        bank = self.banks[name]
        if not isinstance(bank, MemoryBank):
            raise TypeError(f"{name}: is no bank")
        return bank


def swapped_orders(frames: int, swaps: list[tuple[int, int]]) -> list[list[int]]:
    """Frame orders of a clip with each pair of its four chunks swapped."""
    chunks = [list(map(int, chunk)) for chunk in np.array_split(np.arange(frames), CHUNKS)]
    orders = []
    for one, other in swaps:
        places = list(range(CHUNKS))
        places[one], places[other] = other, one
        orders.append([frame for place in places for frame in chunks[place]])
    return orders
