"""Pairs of views that a method compares: across modalities, within each modality, or both.

Shape suffixes: B rows of this rank, N rows of all ranks, V views of a sample, C channels, T time, H and W pixels, D channels.
"""

from collections.abc import Mapping
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from ..distributed.gather import gather
from ..interface import Batch, Method

Mode = Literal["cross", "intra", "joint"]
"""cross: a video view with an audio view. intra: two views of each modality. joint: the mean of both losses."""


class Rendering(NamedTuple):
    """One view of one modality."""

    modality: Literal["video", "audio"]
    view: int


def views(mode: Mode) -> int:
    """Views per sample that a mode needs."""
    return 1 if mode == "cross" else 2


def compared(mode: Mode) -> tuple[tuple[Rendering, Rendering], ...]:
    """Positive pairs of a mode; the losses of several pairs are added."""
    cross = (Rendering("video", 0), Rendering("audio", views(mode) - 1))
    intra = tuple((Rendering(modality, 0), Rendering(modality, 1)) for modality in ("video", "audio"))
    return {"cross": (cross,), "intra": intra, "joint": (cross, *intra)}[mode]


def weight(mode: Mode) -> float:
    """Weight of the summed pair losses: joint is the mean of cross and intra."""
    return 0.5 if mode == "joint" else 1.0


def renderings(mode: Mode) -> tuple[Rendering, ...]:
    """Distinct views of a mode."""
    return tuple(dict.fromkeys(each for pair in compared(mode) for each in pair))


def given(batch: Batch, rendering: Rendering) -> Tensor:
    """Encoder input (B, C, T, H, W) of a batch; raises ValueError if the batch lacks the modality."""
    inputs_BVCTHW = batch.video if rendering.modality == "video" else batch.audio
    if inputs_BVCTHW is None:
        raise ValueError(f"needs video and audio; the view gives no {rendering.modality}")
    return inputs_BVCTHW[:, rendering.view]


def embeddings(method: Method, heads: nn.ModuleDict, batch: Batch, mode: Mode) -> dict[Rendering, Tensor]:
    """Embeddings of each view that a mode compares: (B, D) each."""
    found: dict[Rendering, Tensor] = {}
    for each in renderings(mode):
        encoder: nn.Module = getattr(method, each.modality)
        found[each] = heads[each.modality](encoder(given(batch, each)))
    return found


def gathered(local: Mapping[Rendering, Tensor]) -> dict[Rendering, Tensor]:
    """Gather each (B, D) from all ranks in one exchange: (N, D) each."""
    all_ND = gather(torch.cat(list(local.values()), dim=1))
    columns = torch.split(all_ND, [each.shape[1] for each in local.values()], dim=1)
    return dict(zip(local, columns, strict=True))
