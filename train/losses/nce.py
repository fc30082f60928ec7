"""Noise-contrastive estimation against rows of a memory bank (AVID, arXiv 2004.12943, Eq. 2 to 4).

Shape suffixes: B rows of this rank, K negatives, D feature channels.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def scores(feature_BD: Tensor, target_BD: Tensor, noise_BKD: Tensor, *, temperature: float) -> tuple[Tensor, Tensor]:
    """Cosines / temperature of unit vectors with their targets, (B,), and with their negatives, (B, K)."""
    with torch.autocast(feature_BD.device.type, enabled=False):
        feature_BD = feature_BD.to(torch.promote_types(feature_BD.dtype, torch.float32))
        own_B = (feature_BD * target_BD).sum(dim=1) / temperature
    return own_B, cosines(feature_BD, noise_BKD, temperature=temperature)


def cosines(feature_BD: Tensor, rows_BKD: Tensor, *, temperature: float) -> Tensor:
    """Cosines / temperature of unit vectors, each with its own K rows: (B, K), at least float32."""
    with torch.autocast(feature_BD.device.type, enabled=False):
        feature_BD = feature_BD.to(torch.promote_types(feature_BD.dtype, torch.float32))
        return torch.einsum("bd,bkd->bk", feature_BD, rows_BKD.to(feature_BD.dtype)) / temperature


def nce_loss(own_B: Tensor, noise_BK: Tensor, *, partition: Tensor) -> Tensor:
    """-log P(positive) - sum over the negatives of log(1 - P(negative)), with P(s) = e^s / (e^s + K Z): (B,).

    `partition` is Z, the mean of e^s over random rows. With several positives, (B, P), the first term is their mean. If all s
    are equal and Z = e^s, the loss is log(1 + K) + K log(1 + 1 / K).
    """
    offset = partition.log() + math.log(noise_BK.shape[1])
    own_B = F.softplus(offset - own_B)
    return (own_B.mean(dim=1) if own_B.ndim > 1 else own_B) + F.softplus(noise_BK - offset).sum(dim=1)
