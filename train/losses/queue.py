"""Contrastive loss with a queue of keys (MoCo, arXiv 1911.05722, Eq. 1).

Shape suffixes: B rows of this rank, K keys of the queue, D feature channels.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def queue_logits(query_BD: Tensor, key_BD: Tensor, queue_KD: Tensor, *, temperature: float) -> Tensor:
    """Cosines / temperature of each query with its positive key (first) and the queue: (B, 1 + K), at least float32.

    Inputs are unit vectors.
    """
    with torch.autocast(query_BD.device.type, enabled=False):
        wide = torch.promote_types(query_BD.dtype, torch.float32)
        query_BD, key_BD, queue_KD = query_BD.to(wide), key_BD.to(wide), queue_KD.to(wide)
        own_B1 = (query_BD * key_BD).sum(dim=1, keepdim=True)
        return torch.cat([own_B1, query_BD @ queue_KD.T], dim=1) / temperature


def own_key_loss(logit_BK: Tensor) -> Tensor:
    """Cross-entropy of the first logit of each row: (B,).

    log(K + 1) if all K + 1 logits are equal; log(1 + K exp(-1 / temperature)) if a query equals its key and is orthogonal to
    the queue.
    """
    target_B = torch.zeros(len(logit_BK), dtype=torch.int64, device=logit_BK.device)
    return F.cross_entropy(logit_BK, target_B, reduction="none")
