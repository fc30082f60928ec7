"""Co-attention over positions: each modality's values are weighted by the other one's queries (IICL, section III.B).

Shape suffixes: B samples, P positions of the video maps, Q positions of the audio maps, D channels.
"""

import math

import torch
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
        """Mean attention output of each modality for the queries of the other: maps (B, D, ...) to (B, D) each.

        Each output is a convex combination of its own positions.
        """
        tokens = {"video": video.flatten(2).transpose(1, 2), "audio": audio.flatten(2).transpose(1, 2)}
        return self._attended(tokens, of="video", by="audio"), self._attended(tokens, of="audio", by="video")

    def _attended(self, tokens: dict[str, Tensor], *, of: str, by: str) -> Tensor:
        asked, held = tokens[by], tokens[of]
        query = self.queries[of](asked) if self.queries else asked
        key = self.keys[of](held) if self.keys else held
        value = self.values[of](held) if self.values else held
        weight_BQP = torch.softmax(query @ key.transpose(1, 2) / math.sqrt(query.shape[2]), dim=2)
        return (weight_BQP @ value).mean(dim=1)
