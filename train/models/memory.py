"""Memories of losses: a queue of the latest keys, and a bank with one row per training sample.

Both are buffers that all ranks compute alike (`interface.Method.REPLICATED`). Shape suffixes: N rows of a step, K rows of a
queue, S samples of the split, D channels.
"""

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Queue(nn.Module):
    """FIFO queue of the last `size` keys, L2-normalized; initialized randomly."""

    rows_KD: Tensor
    place: Tensor

    def __init__(self, size: int, dim: int) -> None:
        super().__init__()
        self.register_buffer("rows_KD", F.normalize(torch.randn(size, dim), dim=1))
        self.register_buffer("place", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def push(self, key_ND: Tensor) -> None:
        """Replace the oldest keys."""
        size = len(self.rows_KD)
        kept = key_ND[-size:]
        places = (self.place + len(key_ND) - len(kept) + torch.arange(len(kept), device=kept.device)) % size
        self.rows_KD[places] = kept.to(self.rows_KD.dtype)
        self.place.add_(len(key_ND)).remainder_(size)


class MemoryBank(nn.Module):
    """Exponential moving average of each training sample's feature, L2-normalized.

    Initialized randomly; `uniform` initializes each channel uniformly in ±sqrt(3 / dim), so rows have about length 1 until
    their first update, as in CMC's code.
    """

    rows_SD: Tensor

    def __init__(self, samples: int, dim: int, *, uniform: bool = False) -> None:
        super().__init__()
        rows_SD = (2 * torch.rand(samples, dim) - 1) * math.sqrt(3 / dim) if uniform else torch.randn(samples, dim)
        self.register_buffer("rows_SD", rows_SD if uniform else F.normalize(rows_SD, dim=1))

    @torch.no_grad()
    def update(self, row_N: Tensor, feature_ND: Tensor, *, momentum: float) -> None:
        """Update these rows: row = normalize(momentum * row + (1 - momentum) * feature).

        If a row occurs twice, its last feature counts.
        """
        rows, inverse_N = torch.unique(row_N, return_inverse=True)
        last = torch.zeros_like(rows).scatter_reduce(0, inverse_N, torch.arange(len(row_N), device=rows.device), "amax")
        features_ND = feature_ND[last].to(self.rows_SD.dtype)
        self.rows_SD[rows] = F.normalize(momentum * self.rows_SD[rows] + (1 - momentum) * features_ND, dim=1)


def mean_cosine(rows_SD: Tensor, rng: np.random.Generator, *, pairs: int = 10_000) -> Tensor:
    """Mean dot product of two different rows, over random pairs: a scalar; 1 if all rows are equal, about 0 if random."""
    samples = len(rows_SD)
    one = rng.integers(samples, size=pairs)
    other = (one + rng.integers(1, samples, size=pairs)) % samples
    return (rows_SD[torch.from_numpy(one)] * rows_SD[torch.from_numpy(other)]).sum(dim=1).mean()
