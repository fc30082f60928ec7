"""Helpers shared by the views: checks of shard sets, spatial crops and pixel normalization.

Shapes: B batch, V views, K clips, T time, H W pixels, C channels.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from kinetics_sounds import sampling
from kinetics_sounds.errors import ShardError
from kinetics_sounds.shards import layout
from kinetics_sounds.shards.index import Dataset
from kinetics_sounds.stream import Sample

from . import crops

MOST_PIXELS = 2**28
"""Maximum pixels of all views of a sample; settings may come from an untrusted run."""
WORKER_AUGMENT = ("multi_scale_crop", "flip")
"""Names in `video_augment` that are applied in the worker, so that all clips have one size."""
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Per RGB channel, for pixels in [0, 1]."""


def check_set(dataset: Dataset, parts: Sequence[str], *, side: int, modality: str = "both") -> None:
    """Raise ShardError if a set lacks the picture, the sound or one of `parts`, or has frames of less than `side` pixels.

    With `modality` "video" the sound is not needed.
    """
    needed = {"both": "picture and sound", "video": "the picture"}[modality]
    for what, its in (("picture", "video"), ("sound", "audio")):
        if dataset.modality not in ("both", its) and modality in ("both", its):
            raise ShardError(f"the shards of {dataset.classes} have no {what}, and the view needs {needed}")
    stored = dataset.frames.get("short_side")
    if type(stored) is not int:
        raise ShardError(
            f"dataset.json does not say the frames' short_side ({stored!r}); recreate the shards with ks-shard"
        )
    missing = [part for part in parts if part not in dataset.parts]
    if not {layout.FRAMES, layout.JPEGS}.intersection(dataset.parts):
        missing.append(layout.FRAMES)
    with_sound = " --audio flac" if layout.AUDIO in missing else ""
    if stored < side:
        raise ShardError(
            f"the shards' frames have a short side of {stored}, the view needs {side}: ks-shard --short_side {side}{with_sound}"
        )
    if missing:
        raise ShardError(
            f"the shards have no {', '.join(missing)}, which the view needs; recreate them with ks-shard{with_sound}"
        )


def words(text: str) -> tuple[str, ...]:
    """Names in a comma-separated `video_augment`."""
    return tuple(word.strip() for word in text.split(",") if word.strip())


def device_augment(text: str) -> str:
    """Names in `video_augment` that are applied on the device."""
    return ",".join(word for word in words(text) if word not in WORKER_AUGMENT)


def random_square(
    frames_THWC: Tensor,
    side: int,
    generator: np.random.Generator,
    *,
    changes: Sequence[str],
    resize: Callable[[Tensor], Tensor],
    least_area: float = crops.AREAS[0],
) -> Tensor:
    """Random training crop (T, side, side, C), the same square of every frame, as `video_augment` selects.

    Without multi_scale_crop it is a random crop of frames resized by `resize`.
    """
    if "multi_scale_crop" in changes:
        video_THWC = crops.multi_scale_crop(frames_THWC, side, generator, least_area=least_area)
    else:
        video_THWC = crops.random_crop(resize(frames_THWC), side, generator)
    return crops.random_flip(video_THWC, generator) if "flip" in changes else video_THWC


def centre_squares(
    sample: Sample,
    starts: Sequence[int],
    frames: int,
    *,
    step: float,
    side: int,
    resize: Callable[[Tensor], Tensor],
    decoder: str,
) -> Tensor:
    """Center crops of clips of `frames` frames with stride `step` at these starts: uint8 (K, T, side, side, C).

    Frames shared by several clips are decoded once.
    """
    length = sample.meta.num_frames
    numbers = [number for start in starts for number in sampling.frame_indices(start, frames, length=length, step=step)]
    distinct = sorted(set(numbers))
    frames_THWC = torch.from_numpy(sample.frames(distinct, decoder=decoder))
    video = crops.centre_crop(resize(frames_THWC), side)[np.searchsorted(distinct, numbers)]
    return video.reshape(len(starts), frames, *video.shape[1:])


def clips_with_sounds(
    sample: Sample,
    clips: int,
    *,
    frames: int,
    rate: float,
    side: int,
    short_side: int,
    seconds: float,
    hear: Callable[[int, int], Tensor] | None,
    decoder: str,
) -> dict[str, Tensor]:
    """Evenly spaced clips with the sound around each.

    `video` is uint8 (K, T, side, side, C): center crops of frames with this short side. `audio` is (K, ...): what `hear`
    returns for the first sample and the length of `seconds` of sound, centered on each clip and shifted to lie within the
    track. Without `hear` there is no audio.
    """
    meta, step = sample.meta, sampling.step_of(sample.meta.fps, rate)
    starts = sampling.uniform_starts(meta.num_frames, frames, clips, step=step)

    def resize(frames_THWC: Tensor) -> Tensor:
        return crops.short_side_resized(frames_THWC, short_side)

    video = centre_squares(sample, starts, frames, step=step, side=side, resize=resize, decoder=decoder)
    if hear is None:
        return {"video": video}
    nothing = np.random.default_rng(0)  # a single position is not random
    spans = [sampling.span(start, frames, fps=meta.fps, step=step) for start in starts]
    windows = [
        sampling.centred_window(*span, nothing, seconds=seconds, jitter=0, track=meta.audio_samples) for span in spans
    ]
    return {"video": video, "audio": torch.stack([hear(*window) for window in windows])}


def in_unit_range(video_BVTHWC: Tensor) -> Tensor:
    """Stored pixels as float32 in [0, 1]: (B, V, C, T, H, W)."""
    return video_BVTHWC.permute(0, 1, 5, 2, 3, 4).float() / 255


def imagenet_normalised(video_BVCTHW: Tensor) -> Tensor:
    """Normalize RGB in [0, 1] by the ImageNet mean and standard deviation."""
    mean, std = (video_BVCTHW.new_tensor(each).view(3, 1, 1, 1) for each in (IMAGENET_MEAN, IMAGENET_STD))
    return (video_BVCTHW - mean) / std
