"""InfoNCE between modalities, over samples and over clusters (IICL, Wei et al., ICPR 2022, Eq. 3 to 6).

Shape suffixes: N samples of the batch, D channels, C clusters.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from .. import losses


def infonce_loss(video_ND: Tensor, audio_ND: Tensor, *, temperature: float) -> Tensor:
    """Symmetric InfoNCE: classify each sample's other modality among all samples, in nats: a scalar (Eq. 3, 4).

    The sum of two cross-entropies of cosines / `temperature`, with no negatives within a modality. 2 log N if all rows are
    equal; 2 log(1 + (N - 1) e^(-1 / temperature)) if pairs are equal and orthogonal to all others. Raises ValueError if shapes
    differ or N < 2.
    """
    video_ND, audio_ND = losses.checked(video_ND, audio_ND)
    with torch.autocast(video_ND.device.type, enabled=False):
        unit_video, unit_audio = (losses.unit(each, dim=1, least=losses.LEAST_NORM) for each in (video_ND, audio_ND))
        logit_NN = unit_video @ unit_audio.T / temperature
        own_N = torch.arange(len(logit_NN), device=logit_NN.device)
        return F.cross_entropy(logit_NN, own_N) + F.cross_entropy(logit_NN.T, own_N)


def cluster_loss(video_NC: Tensor, audio_NC: Tensor, *, temperature: float) -> tuple[Tensor, Tensor]:
    """InfoNCE over clusters, and the entropy of the cluster usage (Eq. 5, 6).

    Inputs are assignment probabilities. Returns the InfoNCE of their columns, and the entropy of the mean assignment summed
    over both modalities, from 0 (a single cluster) to 2 log C; minimize their difference. Raises like `infonce_loss`, also for
    C < 2.
    """
    video_NC, audio_NC = losses.checked(video_NC, audio_NC)
    contrast = infonce_loss(video_NC.T, audio_NC.T, temperature=temperature)
    share_2C = torch.stack([each.sum(dim=0) / each.sum() for each in (video_NC, audio_NC)])
    return contrast, torch.special.entr(share_2C).sum()
