"""Features of a whole split, for the probes to judge; by one process, or shared among ranks.

Shape suffixes: B inputs, N samples of the split, C channels, T frames, H and W pixels, D feature channels.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kinetics_sounds import stream
from kinetics_sounds.errors import SettingsError, ShardError

from ..data.loader import Loading
from ..distributed.process_group import World
from ..interface import Encoder
from ..probes import Features
from .encoders import Encoders
from .split_pass import over_split

Kind = Literal["pooled", "unit", "conv5", "embedding"]
"""pooled: the encoders' output. unit: each clip's output scaled to length 1 before the mean over clips. conv5: maps of the
last stage, max-pooled over 2 x 2 pixels (9216 numbers of 512 x 2 x 7 x 7). embedding: the projection head's output."""


@torch.inference_mode()
def extract(
    encoders: Encoders,
    split: stream.Split,
    *,
    clips: int,
    batch: int,
    loading: Loading,
    kind: Kind = "pooled",
    world: World | None = None,
) -> Features:
    """Features of every sample once, in evaluation mode: video averaged over the clips, audio over the view's sounds of them.

    With a `world` each rank sees its own share, and all ranks get all the features. Raises ShardError where the split is
    empty or the set does not suit the view, RunError for a sample that cannot be read, or where another rank is lost.
    """
    if not len(split):
        raise ShardError(
            f"split {split.name!r} of the set of {split.dataset.classes} holds no sample; "
            "name another with --on_split or --fit_split"
        )

    def pooled(batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        inputs = encoders.view.augment(batch, encoders.view_settings)
        sides = {"video": (encoders.video, inputs["video"]), "audio": (encoders.audio, inputs["audio"])}
        made = []
        for modality, (encoder, side) in sides.items():
            feature_BD = encode(encoder, side.flatten(0, 1), kind=kind)
            if kind == "embedding":
                feature_BD = encoders.method.embed(modality, feature_BD)
            made.append(torch.stack(torch.split(feature_BD, side.shape[1])).mean(dim=1))
        video_BD, audio_BD = made
        return video_BD, audio_BD

    title = f"ks-eval features of {split.name}"
    video_ND, audio_ND = over_split(
        encoders, split, pooled, clips=clips, batch=batch, loading=loading, world=world, title=title
    )
    return Features(
        video_ND=video_ND,
        audio_ND=audio_ND,
        label_N=torch.from_numpy(split.label_index_N.copy()),
        keys=tuple(split.key(number) for number in range(len(split))),
    )


def encode(encoder: nn.Module, inputs_BCTHW: Tensor, *, kind: Kind) -> Tensor:
    """One feature an input: float32 (B, D)."""
    if kind == "conv5":
        maps = last_maps(encoder, inputs_BCTHW).float()
        high, wide = (min(2, side) for side in maps.shape[-2:])
        pool = F.max_pool3d if maps.ndim == 5 else F.max_pool2d
        return pool(maps, (1, high, wide)[-(maps.ndim - 2) :]).flatten(1)
    feature_BD: Tensor = encoder(inputs_BCTHW).float()
    return F.normalize(feature_BD, dim=1) if kind == "unit" else feature_BD


def last_maps(encoder: nn.Module, inputs_BCTHW: Tensor, *, layer: str = "conv5") -> Tensor:
    """The maps of an encoder's layer: (B, channels, ...); raises SettingsError that lists those there are."""
    there = encoder.layers if isinstance(encoder, Encoder) else ()
    if not isinstance(encoder, Encoder) or layer not in there:
        raise SettingsError(f"{type(encoder).__name__} has no layer {layer!r}; it has: {', '.join(there) or 'none'}")
    return encoder.maps(inputs_BCTHW, (layer,))[layer]


def stage(encoder: nn.Module, layer: str) -> nn.Module:
    """The part of an encoder that is called so; raises SettingsError that lists those there are."""
    parts = dict(encoder.named_children())
    if layer not in parts:
        raise SettingsError(f"{type(encoder).__name__} has no stage {layer!r}; it has: {', '.join(parts)}")
    return parts[layer]
