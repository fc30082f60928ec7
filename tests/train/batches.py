"""Batches as a method gets them, from arrays of one view a sample."""

from collections.abc import Mapping

import torch
from torch import Tensor

from kinetics_sounds.train.interface import Batch, Moment

MOMENT = Moment(seed=0, step=0, epoch=0)
"""The first step."""


def as_batch(arrays: Mapping[str, Tensor]) -> Batch:
    """Rows "video" and "audio" (B, C, T, H, W), where given, as one view each; "label" (B,), or none."""
    rows = len(next(iter(arrays.values())))
    views = {name: arrays[name][:, None] if name in arrays else None for name in ("video", "audio")}
    label = arrays.get("label", torch.full((rows,), -1))
    return Batch(video=views["video"], audio=views["audio"], label=label, place=torch.arange(rows), row=None)
