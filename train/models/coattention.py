"""Co-attention over positions: each modality's values, weighted by queries of the other modality (IICL, section III.B).

Shape suffixes: B samples, P positions of the video maps, Q positions of the audio maps, D channels.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class CoAttention(nn.Module):
    """Single-head attention over the last maps of both encoders; without `project` it has no parameters (Eq. 1)."""

    def __init__(self, dim: int, *, project: bool) -> None:
        super().__init__()
        names = ("video", "audio") if project else ()
        self.queries, self.keys, self.values = (
            nn.ModuleDict({name: nn.Linear(dim, dim, bias=False) for name in names}) for _ in range(3)
        )

    def forward(self, video: Tensor, audio: Tensor) -> tuple[Tensor, Tensor]:
        """Mean over query positions of cross-attention between the maps (B, D, ...) of both encoders: (B, D) each.

        The video's output has queries of the audio's positions, keys and values of its own; the audio's the other way round. So
        each lies in the convex hull of its own positions, and a map of one position is returned unchanged. In float32: the
        products of unbounded features overflow float16.
        """
        tokens = {"video": video.flatten(2).transpose(1, 2), "audio": audio.flatten(2).transpose(1, 2)}
        with torch.autocast(video.device.type, enabled=False):
            return self._attended(tokens, of="video", by="audio"), self._attended(tokens, of="audio", by="video")

    def _attended(self, tokens: dict[str, Tensor], *, of: str, by: str) -> Tensor:
        least = torch.promote_types(tokens[of].dtype, torch.float32)
        own, other = tokens[of].to(least), tokens[by].to(least)
        query = self.queries[of](other) if self.queries else other
        key = self.keys[of](own) if self.keys else own
        value = self.values[of](own) if self.values else own
        return F.scaled_dot_product_attention(query, key, value).mean(dim=1)
