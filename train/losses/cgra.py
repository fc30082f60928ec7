"""CGRA, AVCL's cross-correlation loss of channels (arXiv 2204.13386)."""

import torch
from torch import Tensor

from .. import losses


def cgra_loss(
    video_ND: Tensor,
    audio_ND: Tensor,
    *,
    off_diagonal_weight: float = 0.005,
    center: bool = True,
    eps: float = losses.LEAST_NORM,
) -> Tensor:
    """Correlate equal channels of the two modalities and decorrelate different ones.

    AVCL Eq. 5: the sum over channels of (1 - C_ii)^2 plus `off_diagonal_weight` times the sum of C_ij^2 over i != j, where C is
    `cross_correlation`. Shapes (N, D) and (N, D) to a scalar; equals the Barlow Twins loss when centered. Raises ValueError if
    the shapes differ or N < 2.
    """
    corr_DD = cross_correlation(video_ND, audio_ND, center=center, eps=eps)
    diagonal_D = corr_DD.diagonal()
    off_diagonal_DD = corr_DD - torch.diag(diagonal_D)
    return (1 - diagonal_D).square().sum() + off_diagonal_weight * off_diagonal_DD.square().sum()


def cross_correlation(
    video_ND: Tensor, audio_ND: Tensor, *, center: bool = True, eps: float = losses.LEAST_NORM
) -> Tensor:
    """Correlate every video channel with every audio channel over the batch, AVCL Eq. 6.

    Shapes (N, D) and (N, D) to (D, D), rows video, values in [-1, 1]. `center` subtracts each channel's batch mean first, which
    Eq. 6 does not state; without it, non-negative features cannot be anti-correlated. A channel whose norm is at most `eps`, or
    only rounding error after centering, is dead: its row or column is 0 and it gets no gradient. Raises ValueError if the
    shapes differ or N < 2.
    """
    video_ND, audio_ND = losses.checked(video_ND, audio_ND)
    with torch.autocast(video_ND.device.type, enabled=False):
        return unit_channels(video_ND, center=center, eps=eps).T @ unit_channels(audio_ND, center=center, eps=eps)


def unit_channels(features_ND: Tensor, *, center: bool, eps: float) -> Tensor:
    """L2-normalize each channel over the batch: (N, D) to (N, D)."""
    if not center:
        return losses.unit(features_ND, dim=0, least=eps)
    rounding = losses.ROUNDING_ULPS * torch.finfo(features_ND.dtype).eps
    least_1D = (rounding * torch.linalg.vector_norm(features_ND.detach(), dim=0, keepdim=True)).clamp_min(eps)
    return losses.unit(features_ND - features_ND.mean(dim=0), dim=0, least=least_1D)
