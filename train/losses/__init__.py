"""Losses and collapse metrics: pure functions of features.

Shape suffixes: N samples of the batch, D feature channels. Everything is computed in at least float32 with autocast off, and
channels or samples of length zero contribute zero loss and gradient, so that a collapsed batch stays finite.
"""

import torch
from torch import Tensor

LEAST_NORM = 1e-8
"""Norms up to this are treated as zero."""
ROUNDING_ULPS = 8
"""A channel whose centered norm is below this many rounding errors of its raw norm is constant."""


def dead_share(features_ND: Tensor) -> Tensor:
    """Fraction of the D channels that are exactly zero for the whole batch: shape (N, D) to a scalar in [0, 1]."""
    return (features_ND == 0).all(dim=0).float().mean()


def checked(video_ND: Tensor, audio_ND: Tensor) -> tuple[Tensor, Tensor]:
    """Check that two features form a batch of pairs; return both in a common dtype of at least float32."""
    if video_ND.shape != audio_ND.shape or video_ND.ndim != 2:
        raise ValueError(f"video and audio must share one shape (N, D), got {(*video_ND.shape,)}, {(*audio_ND.shape,)}")
    if len(video_ND) < 2:
        raise ValueError(f"a batch needs at least 2 samples to compare, got {len(video_ND)}")
    dtype = torch.promote_types(torch.promote_types(video_ND.dtype, audio_ND.dtype), torch.float32)
    return video_ND.to(dtype), audio_ND.to(dtype)


def unit(features_ND: Tensor, *, dim: int, least: float | Tensor) -> Tensor:
    """L2-normalize along `dim`; vectors of norm up to `least` become 0 without gradient."""
    norm = torch.linalg.vector_norm(features_ND, dim=dim, keepdim=True)
    alive = ~(norm <= least)  # NaN stays NaN, and is noticed
    return torch.where(alive, features_ND, 0) / torch.where(alive, norm, 1)
