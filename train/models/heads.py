"""Heads between encoders and losses. Shape suffixes: B samples of the batch, D feature channels."""

import itertools
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True, kw_only=True)  # no slots: jsonargparse reads the defaults of nested settings with vars()
class AmfmSettings:
    """Gating of AVCL's adaptive multi-modal fusion module (AMFM)."""

    gate: Literal["relu", "sigmoid"] = "relu"
    """Gate activation: relu (AVCL's text) or sigmoid (the code it builds on)."""
    shared_excitation: bool = True
    """One gate for both modalities (AVCL Eq. 3-4), or one for each (MMTM)."""
    mid_activation: Literal["none", "relu"] = "none"
    """Activation after the joint layer: none (AVCL Eq. 1-2) or relu (MMTM)."""


class Amfm(nn.Module):
    """Multiply both features by a gate computed from both of them, AVCL Eq. 1-4.

    Each gated feature therefore contains information of the other modality: even an untrained gate makes gated features of
    *independent* inputs match. Evaluate ungated features.
    """

    def __init__(self, dim: int, settings: AmfmSettings) -> None:
        super().__init__()
        mid = {"none": nn.Identity, "relu": nn.ReLU}[settings.mid_activation]
        gate = {"relu": nn.ReLU, "sigmoid": nn.Sigmoid}[settings.gate]
        gates = 1 if settings.shared_excitation else 2
        self.squeeze = nn.Sequential(nn.Linear(2 * dim, dim), mid())
        self.excite = nn.ModuleList(nn.Sequential(nn.Linear(dim, dim), gate()) for _ in range(gates))

    def forward(self, video_BD: Tensor, audio_BD: Tensor) -> tuple[Tensor, Tensor]:
        """Gate features of shape (B, D) each; returns video and audio, (B, D) each."""
        joint_BD = self.squeeze(torch.cat([video_BD, audio_BD], dim=1))
        gates = [excite(joint_BD) for excite in self.excite]
        return gates[0] * video_BD, gates[-1] * audio_BD


def unit_embedding(encoder: nn.Module, head: nn.Module, given_BCTHW: Tensor) -> Tensor:
    """Apply a projection head and L2-normalize: (B, D), at least float32."""
    embedding_BD: Tensor = head(encoder(given_BCTHW))
    return F.normalize(embedding_BD.to(torch.promote_types(embedding_BD.dtype, torch.float32)), dim=1)


def norm_mlp(*widths: int, hidden_bias: bool = False, last_bias: bool = False) -> nn.Sequential:
    """MLP with batch norm and ReLU between linear layers of these widths: heads of BYOL, SimSiam and Barlow Twins."""
    *hidden, (inputs, outputs) = itertools.pairwise(widths)
    layers: list[nn.Module] = []
    for before, after in hidden:
        layers += [nn.Linear(before, after, bias=hidden_bias), nn.BatchNorm1d(after), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(inputs, outputs, bias=last_bias))


def mlp(*widths: int) -> nn.Sequential:
    """MLP with ReLU between linear layers of these widths: a projection head."""
    layers: list[nn.Module] = []
    for inputs, outputs in itertools.pairwise(widths):
        layers += [nn.Linear(inputs, outputs), nn.ReLU()]
    return nn.Sequential(*layers[:-1])
