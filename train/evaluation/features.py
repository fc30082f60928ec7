"""Features of a whole split for the probes, extracted by one process or several ranks.

Shape suffixes: B inputs, N samples of the split, C channels, T frames, H and W pixels, D feature channels.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kinetics_sounds import stream
from kinetics_sounds.errors import RunError, SettingsError, ShardError

from ..data.loader import Loading
from ..distributed.process_group import World
from ..interface import Encoder
from ..methods.layerwise import grid_features, grid_side
from ..probes import Features
from .encoders import Encoders
from .split_pass import over_split

Kind = Literal["pooled", "unit", "conv5", "map", "time", "grid", "embedding"]
"""pooled: encoder output. unit: encoder output L2-normalized per clip before averaging over clips. conv5: maps of the last
layer, max-pooled 2 x 2 (9216 values for 512 x 2 x 7 x 7). map: maps of the last layer as they are. time: maps of the last layer,
see `time_pooled`. grid: maps of the last layer, max-pooled to the largest square grid of at most 9216 values, as in ks-eval
layerwise. embedding: output of the projection head."""
GRID = 9216
"""Maximum values of the kind `grid`."""


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
    """Extract features of every sample once, in evaluation mode, averaged over the clips.

    Of pictures alone, audio features have no channels. With a `world`, each rank processes a slice, and all ranks return all
    features. Raises ShardError if the split is empty or the shard set does not suit the view, RunError for an unreadable sample,
    a lost rank, or embeddings without heads.
    """
    if kind == "embedding" and "heads" in encoders.lacks:
        raise RunError(f"{encoders.checkpoint}: has no projection heads, as none were published; use pooled features")
    if not len(split):
        raise ShardError(
            f"split {split.name!r} of the set of {split.dataset.classes} has no samples; "
            "choose another with --on_split or --fit_split"
        )

    def pooled(batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        inputs = encoders.view.augment(batch, encoders.view_settings)
        made = []
        for modality, encoder in (("video", encoders.video), ("audio", encoders.audio)):
            if modality not in inputs:
                made.append(torch.zeros(len(batch["label"]), 0))
                continue
            feature_BD = encode(encoder, inputs[modality].flatten(0, 1), kind=kind)
            if kind == "embedding":
                feature_BD = encoders.method.embed(modality, feature_BD)
            made.append(mean_over_clips(feature_BD, clips=inputs[modality].shape[1]))
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


def encode(
    encoder: nn.Module, inputs_BCTHW: Tensor, *, kind: Kind, time_first: bool = False, layer: str = "conv5"
) -> Tensor:
    """Features of a batch: float32 (B, D).

    `time_first`: time is the height of audio inputs, not the width. `layer` is the one whose maps are taken.
    """
    if kind in ("map", "time", "grid"):
        maps = last_maps(encoder, inputs_BCTHW, layer=layer).float()
        if kind == "grid":
            return grid_features(maps, grid_side(maps.shape[1], GRID))
        return maps.flatten(1) if kind == "map" else time_pooled(maps.transpose(-1, -2) if time_first else maps)
    if kind == "conv5":
        maps = last_maps(encoder, inputs_BCTHW, layer=layer).float()
        high, wide = (min(2, side) for side in maps.shape[-2:])
        pool = F.max_pool3d if maps.ndim == 5 else F.max_pool2d
        return pool(maps, (1, high, wide)[-(maps.ndim - 2) :]).flatten(1)
    feature_BD: Tensor = encoder(inputs_BCTHW).float()
    return F.normalize(feature_BD, dim=1) if kind == "unit" else feature_BD


def time_pooled(maps: Tensor) -> Tensor:
    """Maximum of three steps of time, the last axis, every two, then L2 norm 1 over time: maps (B, C, ..., F, T) to (B, D).

    As CrissCross has it: 512 x 3 x 7 maps give 4608 numbers.
    """
    pool = F.max_pool3d if maps.ndim == 5 else F.max_pool2d
    pooled = pool(maps, (*[1] * (maps.ndim - 3), min(3, maps.shape[-1])), stride=(*[1] * (maps.ndim - 3), 2))
    return F.normalize(pooled, dim=-1).flatten(1)


def mean_over_clips(each_ND: Tensor, *, clips: int) -> Tensor:
    """Mean over the clips of each sample, which follow one another: (B * clips, D) to (B, D)."""
    return torch.stack(torch.split(each_ND, clips)).mean(dim=1)


def last_maps(encoder: nn.Module, inputs_BCTHW: Tensor, *, layer: str = "conv5") -> Tensor:
    """Maps of a layer of an encoder: (B, channels, ...); raises SettingsError that lists the valid layers."""
    there = encoder.layers if isinstance(encoder, Encoder) else ()
    if not isinstance(encoder, Encoder) or layer not in there:
        raise SettingsError(f"{type(encoder).__name__} has no layer {layer!r}; it has: {', '.join(there) or 'none'}")
    return encoder.maps(inputs_BCTHW, (layer,))[layer]


def stage(encoder: nn.Module, layer: str) -> nn.Module:
    """Submodule of an encoder by layer name; raises SettingsError that lists the valid layers."""
    parts = dict(encoder.named_children())
    if layer not in parts:
        raise SettingsError(f"{type(encoder).__name__} has no stage {layer!r}; it has: {', '.join(parts)}")
    return parts[layer]
