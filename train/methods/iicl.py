"""IICL: contrastive learning of samples and clusters across modalities, with co-attention (Wei et al., ICPR 2022).

Shape suffixes: B rows of this rank, N rows of all ranks, C clusters, D channels.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..distributed.gather import gather
from ..interface import Batch, Data, Encoder, Method, Moment, Output
from ..losses.infonce import cluster_loss, infonce_loss
from ..models.backbones import feature_width
from ..models.coattention import CoAttention
from ..models.heads import mlp

MODALITIES = ("video", "audio")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Heads, loss weights and stages. The defaults are the paper's, or those of docs/decisions/0019 where it gives none."""

    dim: int = 1024
    """Embedding dimension of the instance head."""
    hidden: int = 512
    """Width of the hidden layer of both heads."""
    clusters: int = 400
    """Number of clusters; for ks-eval cluster_head use the number of classes."""
    temperature: float = 0.5
    """Softmax temperature of the instance loss."""
    cluster_temperature: float = 0.5
    """Softmax temperature of the cluster loss."""
    instance_weight: float = 1.0
    """Weight of the instance loss; 0: clusters only (Table II)."""
    cluster_weight: float = 0.5
    """Weight of the cluster loss in the second stage (lambda); 0: instances only (Table II)."""
    first_stage: int = 300
    """Epochs with the instance loss only, before the cluster loss is added; fewer than the epochs of the run."""
    attention: bool = True
    """Train the heads on co-attention outputs; false: on pooled features."""
    project: bool = False
    """Learn query, key and value projections in the co-attention."""
    shared_heads: bool = True
    """Share both heads between modalities."""

    def __post_init__(self) -> None:
        """Raise ValueError for invalid heads, weights or stages."""
        if min(self.dim, self.hidden) < 1 or self.clusters < 2 or min(self.temperature, self.cluster_temperature) <= 0:
            raise ValueError("iicl: dim and hidden must be at least 1, clusters at least 2, temperatures more than 0")
        if min(self.instance_weight, self.cluster_weight, self.first_stage) < 0:
            raise ValueError("iicl: instance_weight, cluster_weight and first_stage must be at least 0")
        if not self.instance_weight and (not self.cluster_weight or self.first_stage):
            raise ValueError("iicl: without instance_weight there must be a cluster_weight, and --iicl.first_stage 0")


def build(settings: Settings, *, video: nn.Module, audio: nn.Module, data: Data) -> "Iicl":
    """Build the method on two encoders.

    Raises ValueError for encoders of different widths or without maps, and for a run that ends before its second stage.
    """
    before = settings.first_stage * data.steps_per_epoch
    if settings.cluster_weight and before and before >= data.steps > 0:
        raise ValueError(
            f"the run ends after {data.steps} steps, and the cluster loss joins after {before} (iicl.first_stage "
            f"{settings.first_stage} epochs of {data.steps_per_epoch}); lower --iicl.first_stage, train for longer, or set "
            "--iicl.cluster_weight 0 for an instance-only run"
        )
    return Iicl(settings, video=video, audio=audio)


class Iicl(Method):
    """Co-attention, an instance head and a cluster head. Evaluation uses the encoders only."""

    INIT = (*Method.INIT, "attention.", "instance.", "cluster.")

    def __init__(self, settings: Settings, *, video: nn.Module, audio: nn.Module) -> None:
        super().__init__()
        width, audio_width = feature_width(video), feature_width(audio)
        if width != audio_width and (settings.attention or settings.shared_heads):
            raise ValueError(
                f"the video's features have {width} channels and the audio's {audio_width}, which co-attention and shared heads "
                "cannot join; give encoders of the same width"
            )
        for encoder in (video, audio):
            if settings.attention and not isinstance(encoder, Encoder):
                raise ValueError(f"{type(encoder).__name__} provides no maps of its layers: co-attention needs them")
        self.settings = settings
        self.video, self.audio = video, audio
        self.attention = CoAttention(width, project=settings.project) if settings.attention else None
        names = ("both",) if settings.shared_heads else MODALITIES
        widths = {"both": width, "video": width, "audio": audio_width}
        self.instance, self.cluster = (
            nn.ModuleDict({name: mlp(widths[name], settings.hidden, outputs) for name in names})
            for outputs in (settings.dim, settings.clusters)
        )

    def forward(self, batch: Batch, moment: Moment) -> Output:
        """`instance_weight` times InfoNCE of samples; from epoch `first_stage` on also `cluster_weight` times that of clusters.

        The entropy of the cluster usage is subtracted from the cluster loss (Eq. 6, 7). Logs the loss and its terms; in the
        second stage also the entropy, and the fraction of clusters that are the most likely one of a sample in the batch.
        """
        its, sides = self.settings, dict(zip(MODALITIES, self._sides(batch), strict=True))
        logs: dict[str, Tensor] = {}
        loss = torch.zeros((), device=batch.place.device)
        if its.instance_weight:
            video_ND, audio_ND = self._all(self.instance, sides)
            logs["instance"] = infonce_loss(video_ND, audio_ND, temperature=its.temperature)
            loss = its.instance_weight * logs["instance"]
        if its.cluster_weight and moment.epoch >= its.first_stage:
            video_NC, audio_NC = map(_probabilities, self._all(self.cluster, sides))
            contrast, entropy = cluster_loss(video_NC, audio_NC, temperature=its.cluster_temperature)
            loss = loss + its.cluster_weight * (contrast - entropy)
            used_C = torch.zeros_like(video_NC[0]).index_fill(0, torch.cat([video_NC, audio_NC]).argmax(dim=1), 1)
            logs |= {"cluster": contrast, "entropy": entropy, "clusters_used": used_C.mean()}
        return Output(loss, {"loss": loss.detach(), **{name: each.detach() for name, each in logs.items()}})

    def embed(self, modality: str, feature_BD: Tensor) -> Tensor:
        """The instance head's embedding of pooled features, without co-attention: (B, dim)."""
        embedding_BD: Tensor = self._head(self.instance, modality)(feature_BD)
        return embedding_BD

    def assign(self, modality: str, feature_BD: Tensor) -> Tensor:
        """Cluster probabilities of one modality's pooled features, without co-attention: (B, C), rows sum to 1."""
        return _probabilities(self._head(self.cluster, modality)(feature_BD))

    def first_clusters(self, steps_per_epoch: int) -> int | None:
        """Step at which training of the cluster head starts; None if never."""
        return self.settings.first_stage * steps_per_epoch if self.settings.cluster_weight else None

    def _sides(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Inputs of the heads for both modalities of a batch: (B, D) each."""
        if batch.video is None or batch.audio is None:
            raise ValueError("needs video and audio; the view gives one of them alone")
        return self._seen(batch.video[:, 0], batch.audio[:, 0])

    def _seen(self, video: Tensor, audio: Tensor) -> tuple[Tensor, Tensor]:
        if self.attention is None:
            return self.video(video), self.audio(audio)
        found: tuple[Tensor, Tensor] = self.attention(_last(self.video, video), _last(self.audio, audio))
        return found

    def _head(self, heads: nn.ModuleDict, name: str) -> nn.Module:
        return heads["both" if self.settings.shared_heads else name]

    def _all(self, heads: nn.ModuleDict, sides: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Output of a head for the rows of all ranks: (N, outputs) for video and audio, gathered in one exchange."""
        made = [self._head(heads, name)(side) for name, side in sides.items()]
        video_ND, audio_ND = gather(torch.stack(made, dim=1)).unbind(dim=1)
        return video_ND, audio_ND


def _probabilities(logit_NC: Tensor) -> Tensor:
    return torch.softmax(logit_NC.to(torch.promote_types(logit_NC.dtype, torch.float32)), dim=1)


def _last(encoder: nn.Module, given_BCTHW: Tensor) -> Tensor:
    """Last maps of an encoder, unpooled: (B, D, ...)."""
    if not isinstance(encoder, Encoder):
        raise TypeError(f"{type(encoder).__name__} provides no maps")
    layer = encoder.layers[-1]
    return encoder.maps(given_BCTHW, (layer,))[layer]
