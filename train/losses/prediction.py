"""Cosine between prediction and target, the objective of BYOL (arXiv 2006.07733) and SimSiam (arXiv 2011.10566).

Shape suffixes: B rows of this rank, D channels of the embedding.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def cosine(prediction_BD: Tensor, target_BD: Tensor) -> Tensor:
    """Cosine of each prediction with its target, without gradient to the target: (B,), at least float32.

    SimSiam's term is -cosine / 2 (its Eq. 1, of which there are two); BYOL's is 2 - 2 * cosine (its Eq. 2).
    """
    with torch.autocast(prediction_BD.device.type, enabled=False):
        wide = torch.promote_types(prediction_BD.dtype, torch.float32)
        return F.cosine_similarity(prediction_BD.to(wide), target_BD.detach().to(wide), dim=1)
