"""InfoNCE between the modalities, over samples and over clusters (IICL, Wei et al., ICPR 2022, Eq. 3 to 6).

Shape suffixes: N samples of the batch, D channels, C clusters.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from .. import losses


def infonce_loss(video_ND: Tensor, audio_ND: Tensor, *, temperature: float) -> Tensor:
    """Let each row pick its other modality among all rows of that modality, both ways, in nats: a scalar (Eq. 3, 4).

    The sum of two cross-entropies on cosines / `temperature`; nothing is compared within a modality. 2 log N where all rows are
    alike; 2 log(1 + (N - 1) e^(-1 / temperature)) where pairs are alike and orthogonal to all others. Raises ValueError where
    shapes differ or N < 2.
    """
    video_ND, audio_ND = losses.checked(video_ND, audio_ND)
    with torch.autocast(video_ND.device.type, enabled=False):
        unit_video, unit_audio = (losses.unit(each, dim=1, least=losses.LEAST_NORM) for each in (video_ND, audio_ND))
        logit_NN = unit_video @ unit_audio.T / temperature
        own_N = torch.arange(len(logit_NN), device=logit_NN.device)
        return F.cross_entropy(logit_NN, own_N) + F.cross_entropy(logit_NN.T, own_N)


def cluster_loss(video_NC: Tensor, audio_NC: Tensor, *, temperature: float) -> tuple[Tensor, Tensor]:
    """The same over clusters, of the samples' probabilities to be in each; and how evenly clusters are used (Eq. 5, 6).

    Returns the InfoNCE of the columns, and the entropy of the mean assignment of both modalities, from 0 (all in one cluster)
    to 2 log C; their difference is to be minimised. Raises as `infonce_loss`, C < 2 included.
    """
    video_NC, audio_NC = losses.checked(video_NC, audio_NC)
    contrast = infonce_loss(video_NC.T, audio_NC.T, temperature=temperature)
    share_2C = torch.stack([each.sum(dim=0) / each.sum() for each in (video_NC, audio_NC)])
    return contrast, torch.special.entr(share_2C).sum()
