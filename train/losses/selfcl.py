"""SelfCL, AVCL's contrastive loss of samples (arXiv 2204.13386)."""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from .. import losses


def selfcl_loss(
    video_ND: Tensor, audio_ND: Tensor, *, temperature: float, reduction: Literal["sum", "mean"] = "sum"
) -> Tensor:
    """Classify each sample's other modality among all other features of the batch, in nats; AVCL Eq. 7-10.

    Each of the 2N features is compared by cosine / `temperature` with the 2N - 1 others: its positive, N - 1 negatives of the
    other modality and N - 1 of its own. Shapes (N, D) and (N, D) to a scalar. "sum" is the literal L_v + L_a, equal to 2N times
    SimCLR's NT-Xent; "mean" divides it by N. Raises ValueError if the shapes differ, N < 2 or the temperature is not positive.
    """
    if temperature <= 0:
        raise ValueError(f"temperature must be positive, got {temperature}")
    video_ND, audio_ND = losses.checked(video_ND, audio_ND)
    samples = len(video_ND)
    with torch.autocast(video_ND.device.type, enabled=False):
        unit_MD = losses.unit(torch.cat([video_ND, audio_ND]), dim=1, least=losses.LEAST_NORM)  # M = 2N
        logit_MM = unit_MD @ unit_MD.T / temperature
        itself_MM = torch.eye(2 * samples, dtype=torch.bool, device=logit_MM.device)
        positive_M = torch.arange(2 * samples, device=logit_MM.device).roll(samples)
        total = F.cross_entropy(logit_MM.masked_fill(itself_MM, -torch.inf), positive_M, reduction="sum")
    return total if reduction == "sum" else total / samples
