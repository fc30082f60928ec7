"""Encoders and batches that are small enough to write a loss out by hand."""

from typing import TypeVar

import torch
from torch import Tensor, nn

from kinetics_sounds.train.interface import Batch, Data, Moment

Anything = TypeVar("Anything", bound=nn.Module)

DATA = Data(classes=2, samples=20, steps=10, batch=4)
NOW = Moment(seed=0, step=0, epoch=0)


class Flat(nn.Module):
    """One layer over all numbers of a sample in a row."""

    def __init__(self, dim: int = 6) -> None:
        super().__init__()
        self.dim = dim
        self.layer = nn.Linear(dim, dim)

    def forward(self, given: Tensor) -> Tensor:
        features: Tensor = self.layer(given.flatten(1))
        return features


def batch(views: int = 1, rows: int = 4, seed: int = 1) -> Batch:
    """Samples of six random numbers a view and modality."""
    generator = torch.Generator().manual_seed(seed)
    video, audio = (torch.randn(rows, views, 6, generator=generator) for _ in range(2))
    place = torch.arange(rows)
    return Batch(video=video, audio=audio, label=place, place=place, row=place)


def parameters(module: nn.Module) -> int:
    """How many numbers it learns, or keeps frozen."""
    return sum(each.numel() for each in module.parameters())


def without_heads(method: Anything) -> Anything:
    """The same method, whose heads and predictors hand on what they are given."""
    for name in ("heads", "predictors", "target_heads"):
        if hasattr(method, name):
            setattr(method, name, nn.ModuleDict({each: nn.Identity() for each in ("video", "audio")}))
    return method
