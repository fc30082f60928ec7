"""What views share: which sets suit them, which square of which frames they take, and frames as encoders want them.

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
"""Of all views of a sample: settings may come with a stranger's run, and claim any size."""
WORKER_AUGMENT = ("multi_scale_crop", "flip")
"""What of a `video_augment` is done before a clip leaves the worker, so that all have one size."""
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of red, green and blue from 0 to 1."""


def check_set(dataset: Dataset, parts: Sequence[str], *, side: int) -> None:
    """Raise ShardError where the stored frames' short side is less than `side` pixels, or a part is missing."""
    stored = dataset.frames.get("short_side")
    if type(stored) is not int:
        raise ShardError(
            f"dataset.json does not say the frames' short_side ({stored!r}); make the set again with ks-shard"
        )
    missing = [part for part in parts if part not in dataset.parts]
    with_sound = " --audio flac" if layout.AUDIO in missing else ""
    if stored < side:
        raise ShardError(
            f"the shards' frames have a short side of {stored}, the view needs {side}: ks-shard --short_side {side}{with_sound}"
        )
    if not {layout.FRAMES, layout.JPEGS}.intersection(dataset.parts):
        missing.append(layout.FRAMES)
    if missing:
        raise ShardError(
            f"the shards have no {', '.join(missing)}, which the view reads; make them again with ks-shard{with_sound}"
        )


def words(text: str) -> tuple[str, ...]:
    """The names of a comma-separated `video_augment`."""
    return tuple(word.strip() for word in text.split(",") if word.strip())


def device_augment(text: str) -> str:
    """What of it is not done in the worker."""
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
    """A training clip (T, side, side, C), the same square of every frame, by the words of a `video_augment`.

    Without multi_scale_crop it is a random crop of frames of the size that `resize` gives.
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
    """Clips of `frames` frames from these starts on, `step` apart, centre crops: uint8 (K, T, side, side, C).

    A frame that several clips have is decoded once.
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
    hear: Callable[[int, int], Tensor],
    decoder: str,
) -> dict[str, Tensor]:
    """Evenly spaced clips, centre crops of frames of this short side: `video` uint8 (K, T, side, side, C), and `audio` (K, ...).

    `hear` makes of the first sample and the count of a sound what stands in `audio`: of the `seconds` around each clip, or the
    nearest ones at the track's ends.
    """
    meta, step = sample.meta, sampling.step_of(sample.meta.fps, rate)
    starts = sampling.uniform_starts(meta.num_frames, frames, clips, step=step)

    def resize(frames_THWC: Tensor) -> Tensor:
        return crops.short_side_resized(frames_THWC, short_side)

    video = centre_squares(sample, starts, frames, step=step, side=side, resize=resize, decoder=decoder)
    nothing = np.random.default_rng(0)  # of one place the only one is drawn
    spans = [sampling.span(start, frames, fps=meta.fps, step=step) for start in starts]
    windows = [
        sampling.centred_window(*span, nothing, seconds=seconds, jitter=0, track=meta.audio_samples) for span in spans
    ]
    return {"video": video, "audio": torch.stack([hear(*window) for window in windows])}


def in_unit_range(video_BVTHWC: Tensor) -> Tensor:
    """Stored pixels as float32 in [0, 1]: (B, V, C, T, H, W)."""
    return video_BVTHWC.permute(0, 1, 5, 2, 3, 4).float() / 255


def imagenet_normalised(video_BVCTHW: Tensor) -> Tensor:
    """RGB in [0, 1] with ImageNet's mean 0 and deviation 1."""
    mean, std = (video_BVCTHW.new_tensor(each).view(3, 1, 1, 1) for each in (IMAGENET_MEAN, IMAGENET_STD))
    return (video_BVCTHW - mean) / std
