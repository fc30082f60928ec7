"""Losses of AVCL and what to watch beside them: pure functions of two feature tensors.

Shape suffixes: N samples of the batch, D feature channels. Everything is computed in at least float32 with
autocast off, and a channel or a sample without any length counts as zero and receives no gradient, so that a
collapsed batch stays finite.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

LEAST_NORM = 1e-8
"""Lengths up to this are zero."""
ROUNDING_ULPS = 8
"""A centred channel shorter than this many rounding errors of its raw self was constant before centring."""


def cgra(
    video_ND: Tensor,
    audio_ND: Tensor,
    *,
    off_diagonal_weight: float = 0.005,
    center: bool = True,
    eps: float = LEAST_NORM,
) -> Tensor:
    """Pull each channel of the two modalities together and push different channels apart.

    AVCL Eq. 5: the sum over channels of (1 - C_ii)^2 plus `off_diagonal_weight` times the sum of C_ij^2 over i != j,
    where C is `cross_correlation`. Shapes (N, D) and (N, D) to a scalar; the same loss as Barlow Twins when centred.
    Raises ValueError when the shapes differ or N < 2.
    """
    corr_DD = cross_correlation(video_ND, audio_ND, center=center, eps=eps)
    diagonal_D = corr_DD.diagonal()
    off_diagonal_DD = corr_DD - torch.diag(diagonal_D)
    return (1 - diagonal_D).square().sum() + off_diagonal_weight * off_diagonal_DD.square().sum()


def cross_correlation(video_ND: Tensor, audio_ND: Tensor, *, center: bool = True, eps: float = LEAST_NORM) -> Tensor:
    """Correlate every video channel with every audio channel over the batch, AVCL Eq. 6.

    Shapes (N, D) and (N, D) to (D, D), rows video, values in [-1, 1]. `center` subtracts each channel's batch mean
    first, which Eq. 6 does not write; without it non-negative features cannot anti-correlate. A channel whose norm
    is at most `eps`, or only rounding error after centring, is dead: its row or column is 0 and it gets no gradient.
    Raises ValueError when the shapes differ or N < 2.
    """
    video_ND, audio_ND = _checked(video_ND, audio_ND)
    with torch.autocast(video_ND.device.type, enabled=False):
        return _unit_channels(video_ND, center=center, eps=eps).T @ _unit_channels(audio_ND, center=center, eps=eps)


def selfcl(
    video_ND: Tensor, audio_ND: Tensor, *, temperature: float, reduction: Literal["sum", "mean"] = "sum"
) -> Tensor:
    """Let every sample pick its other modality among all other features of the batch, in nats; AVCL Eq. 7-10.

    Each of the 2N features is compared by cosine / `temperature` with the 2N - 1 others: its positive, N - 1
    negatives across and N - 1 within its modality. Shapes (N, D) and (N, D) to a scalar. "sum" is the literal
    L_v + L_a, equal to 2N times SimCLR's NT-Xent; "mean" divides it by N.
    Raises ValueError when the shapes differ, N < 2 or the temperature is not positive.
    """
    if temperature <= 0:
        raise ValueError(f"temperature must be positive, got {temperature}")
    video_ND, audio_ND = _checked(video_ND, audio_ND)
    samples = len(video_ND)
    with torch.autocast(video_ND.device.type, enabled=False):
        unit_MD = _unit(torch.cat([video_ND, audio_ND]), dim=1, least=LEAST_NORM)  # M = 2N
        logit_MM = unit_MD @ unit_MD.T / temperature
        itself_MM = torch.eye(2 * samples, dtype=torch.bool, device=logit_MM.device)
        positive_M = torch.arange(2 * samples, device=logit_MM.device).roll(samples)
        total = F.cross_entropy(logit_MM.masked_fill(itself_MM, -torch.inf), positive_M, reduction="sum")
    return total if reduction == "sum" else total / samples


def dead_share(features_ND: Tensor) -> Tensor:
    """Share of the D channels that are exactly zero for the whole batch: shape (N, D) to a scalar in [0, 1]."""
    return (features_ND == 0).all(dim=0).float().mean()


def _checked(video_ND: Tensor, audio_ND: Tensor) -> tuple[Tensor, Tensor]:
    """Return both features, known to be a batch of pairs, in one dtype of at least float32."""
    if video_ND.shape != audio_ND.shape or video_ND.ndim != 2:
        raise ValueError(f"video and audio must share one shape (N, D), got {(*video_ND.shape,)}, {(*audio_ND.shape,)}")
    if len(video_ND) < 2:
        raise ValueError(f"a batch needs at least 2 samples to compare, got {len(video_ND)}")
    dtype = torch.promote_types(torch.promote_types(video_ND.dtype, audio_ND.dtype), torch.float32)
    return video_ND.to(dtype), audio_ND.to(dtype)


def _unit_channels(features_ND: Tensor, *, center: bool, eps: float) -> Tensor:
    """Scale each channel to length 1 over the batch: (N, D) to (N, D)."""
    if not center:
        return _unit(features_ND, dim=0, least=eps)
    rounding = ROUNDING_ULPS * torch.finfo(features_ND.dtype).eps
    least_1D = (rounding * torch.linalg.vector_norm(features_ND.detach(), dim=0, keepdim=True)).clamp_min(eps)
    return _unit(features_ND - features_ND.mean(dim=0), dim=0, least=least_1D)


def _unit(features_ND: Tensor, *, dim: int, least: float | Tensor) -> Tensor:
    """Scale to length 1 along `dim`; what is no longer than `least` becomes 0 without gradient."""
    norm = torch.linalg.vector_norm(features_ND, dim=dim, keepdim=True)
    alive = ~(norm <= least)  # what is not a number stays so, and is seen
    return torch.where(alive, features_ND, 0) / torch.where(alive, norm, 1)
