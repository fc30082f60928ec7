"""AVID's input (arXiv 2004.12943, section 4.1): a short clip, and the log spectrogram of the seconds of sound around it.

Shapes: B batch, V views, A sounds, C channels, T time, H W pixels, F bins.
"""

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from kinetics_sounds import sampling
from kinetics_sounds.address import Address
from kinetics_sounds.media.spectrogram import Spectrogram, log_spectrogram
from kinetics_sounds.sampling import SAMPLE_RATE
from kinetics_sounds.shards import layout
from kinetics_sounds.shards.index import Dataset
from kinetics_sounds.stream import Sample, Split

from ...interface import Arrays, Inputs
from .. import clips as shared
from .. import crops, statistics
from ..augment import Augmentation, apply_all, draw_all, draws_width, find

OFFSET_SECONDS = 0.5
"""How far the sound is off the clip: see `Settings.offset`."""
EVAL_CROP = 0.875
"""Of the frame's short side, the square that is seen in an evaluation: 224 of 256 pixels."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How a sample becomes a clip and a log spectrogram; the defaults are those of AVID's main study."""

    views: int = 1
    """Random renderings of a sample, each a clip and a sound, for methods that compare them."""
    frames: int = 8
    """Images of a clip."""
    rate: float = 16.0
    """Images a second: 8 last half a second."""
    crop: int = 224
    """Pixels of the square crop; in an evaluation it is the centre of frames whose short side is 8/7 as long."""
    min_area: float = 0.08
    """Of a frame, the least that multi_scale_crop takes."""
    video_augment: str = "multi_scale_crop,flip,colour_jitter"
    """Random changes of a training clip, as those of clip_and_mel; without multi_scale_crop, a random crop of frames of the
    size that an evaluation has."""
    window_seconds: float = 2.0
    """Length of the sound; a shorter track has silence after it."""
    n_fft: int = 1024
    """Samples of a transform: a quarter as many bins, and one. The small study has 512."""
    hop_seconds: float = 0.01
    """From one column to the next. The small study has 0.02."""
    offset: Literal["paper", "code"] = "paper"
    """Where the sound lies in training. paper: its middle is at most 0.5 s off the clip's (deviation 0.29 s). code: the clip lies
    anywhere in the window widened by 0.5 s on either side (up to 1.25 s off, deviation 0.72 s)."""
    volume_jitter: float = 0.1
    """By how much of itself the sound is louder or softer in training, at most."""
    audio_channels: Literal[1, 3] = 1
    """Channels that the spectrogram is repeated to."""
    audio_mean: tuple[float, ...] = ()
    """Decibels that are subtracted: one number for all bins, or one a bin; default: the set's, by ks-shard stats."""
    audio_std: tuple[float, ...] = ()
    """Decibels that it is then divided by, in the same way."""
    decoder: str = "auto"
    """Which library decodes the frames; auto: the fastest that decodes right. The frames are the same."""

    def __post_init__(self) -> None:
        """Raise ValueError where there is nothing to see or hear, or more than memory is for."""
        if self.views < 1 or self.frames < 1 or self.crop < 1:
            raise ValueError("views, frames and crop must be at least 1")
        if not 0 < self.rate < math.inf:
            raise ValueError(f"rate {self.rate} must be more than 0")
        if not 0 < self.min_area <= 1 or not 0 <= self.volume_jitter < 1:
            raise ValueError(
                f"min_area {self.min_area} must be from 0 to 1, volume_jitter {self.volume_jitter} less than 1"
            )
        if self.views * self.frames * self.eval_side**2 > shared.MOST_PIXELS:
            raise ValueError(
                f"{self.views} x {self.frames} frames of {self.eval_side} x {self.eval_side} are more than "
                f"{shared.MOST_PIXELS} pixels"
            )
        find(shared.device_augment(self.video_augment), modality="video")
        statistics.check(self.audio_mean, self.audio_std, bins=self.spectrogram.bins)

    @property
    def spectrogram(self) -> Spectrogram:
        """How a window becomes an image."""
        return Spectrogram(window_seconds=self.window_seconds, n_fft=self.n_fft, hop_seconds=self.hop_seconds)

    @property
    def eval_side(self) -> int:
        """Pixels of a frame's short side before its centre is cropped."""
        return round(self.crop / EVAL_CROP)

    @property
    def augmentations(self) -> tuple[Augmentation, ...]:
        """What is done on the device."""
        return find(shared.device_augment(self.video_augment), modality="video")


def check(dataset: Dataset, settings: Settings) -> None:
    """Raise ShardError where the stored frames are smaller than an evaluation needs, or the sound is missing."""
    shared.check_set(dataset, inputs(settings).parts, side=settings.eval_side + settings.eval_side % 2)


def complete(settings: Settings, shards: Address, split: Split, before: Mapping[str, Any]) -> Settings:
    """With the mean and deviation of the training split, where it has none of its own; a run that goes on keeps those it has.

    Raises ShardError where the set has none that suit.
    """
    if settings.audio_mean:
        return settings
    mean, std = statistics.of_set(settings.spectrogram, shards, split, before)
    return dataclasses.replace(settings, audio_mean=mean, audio_std=std)


def plain(settings: Settings) -> Settings:
    """The settings for a classifier of frozen features: random clips, crops of frames of the evaluation's size, and flips."""
    return dataclasses.replace(settings, views=1, video_augment="flip", volume_jitter=0.0)


def inputs(settings: Settings) -> Inputs:
    """What the encoders take, and which parts of a sample it is made of."""
    return Inputs(
        views=settings.views,
        video=(3, settings.frames, settings.crop, settings.crop),
        audio=(settings.audio_channels, 1, settings.spectrogram.columns, settings.spectrogram.bins),
        parts=(layout.AUDIO, layout.META),
        audio_time_first=True,
        reads_mel=False,
    )


def arrays(settings: Settings, clips: int | None = None) -> Arrays:
    """Shape and type of what one sample's `train_view` and `val_view` give, or its `eval_views` of so many clips."""
    views, numbers = clips or settings.views, settings.spectrogram
    found: Arrays = {
        "video": ((views, settings.frames, settings.crop, settings.crop, 3), torch.uint8),
        "audio": ((views, numbers.columns, numbers.bins), torch.float32),
    }
    if clips is None and settings.augmentations:
        found["draws"] = ((settings.views, draws_width(settings.augmentations)), torch.float32)
    return found


def train_view(sample: Sample, settings: Settings, generator: np.random.Generator) -> dict[str, Tensor]:
    """Random views: `video` uint8 (V, T, H, W, 3), `audio` float32 (V, T, F) in decibels."""
    made = [_random_view(sample, settings, generator) for _ in range(settings.views)]
    return {name: torch.stack([each[name] for each in made]) for name in made[0]}


def _random_view(sample: Sample, settings: Settings, generator: np.random.Generator) -> dict[str, Tensor]:
    """One of them."""
    length, step = sample.meta.num_frames, sampling.step_of(sample.meta.fps, settings.rate)
    start, first, count = placed(sample, settings, generator)
    numbers = sampling.frame_indices(start, settings.frames, length=length, step=step)
    video_THWC = shared.random_square(
        torch.from_numpy(sample.frames(numbers, decoder=settings.decoder)),
        settings.crop,
        generator,
        changes=shared.words(settings.video_augment),
        resize=lambda frames: crops.short_side_resized(frames, settings.eval_side),
        least_area=settings.min_area,
    )
    gain = generator.uniform(1 - settings.volume_jitter, 1 + settings.volume_jitter)
    found = {"video": video_THWC, "audio": _heard(sample, first, count, settings, gain=gain)}
    if chosen := settings.augmentations:
        found["draws"] = draw_all(chosen, generator)
    return found


def placed(sample: Sample, settings: Settings, generator: np.random.Generator) -> tuple[int, int, int]:
    """A training clip's first stored frame, and the first sample and the count of the sound beside it (docs/decisions/0017).

    A track that is shorter than the window is taken whole. At its ends "paper" has the nearest window within it.
    """
    meta, frames, seconds = sample.meta, settings.frames, settings.window_seconds
    fps, step, track = meta.fps, sampling.step_of(meta.fps, settings.rate), meta.audio_samples
    if settings.offset == "code":
        first, count = sampling.covering_window(0, track / SAMPLE_RATE, generator, seconds=seconds, track=track)
        begin = first / SAMPLE_RATE
        bounds = begin - OFFSET_SECONDS, begin + seconds + OFFSET_SECONDS
        start = sampling.start_within(*bounds, meta.num_frames, frames, generator, fps=fps, step=step)
        return start, first, count
    start = sampling.random_start(meta.num_frames, frames, generator, step=step)
    span = sampling.span(start, frames, fps=fps, step=step)
    window = sampling.centred_window(*span, generator, seconds=seconds, jitter=OFFSET_SECONDS, track=track)
    return start, *window


def val_view(sample: Sample, settings: Settings) -> dict[str, Tensor]:
    """As `train_view`, with nothing random: evenly spaced clips, centre crops, and the sound centred on each."""
    found = eval_views(sample, settings, settings.views)
    if chosen := settings.augmentations:
        found["draws"] = torch.zeros(settings.views, draws_width(chosen))
    return found


def eval_views(sample: Sample, settings: Settings, clips: int) -> dict[str, Tensor]:
    """Evenly spaced clips, centre crops: `video` uint8 (clips, T, H, W, 3), and `audio` (clips, T, F) centred on each.

    The first and the last clip that fit are among them; one clip is the middle. At the track's ends the nearest window is taken.
    """
    return shared.clips_with_sounds(
        sample,
        clips,
        frames=settings.frames,
        rate=settings.rate,
        side=settings.crop,
        short_side=settings.eval_side,
        seconds=settings.window_seconds,
        hear=lambda first, count: _heard(sample, first, count, settings),
        decoder=settings.decoder,
    )


def augment(arrays: Mapping[str, Tensor], settings: Settings) -> dict[str, Tensor]:
    """What the encoders take: `video` float32 (B, V, C, T, H, W) by ImageNet's statistics, `audio` (B, A, C, 1, T, F) by its own.

    Raises SettingsError where there is nothing to standardise the sound by.
    """
    video_BVCTHW = shared.in_unit_range(arrays["video"])
    if "draws" in arrays:
        changed = apply_all(settings.augmentations, video_BVCTHW.flatten(0, 1), arrays["draws"].flatten(0, 1))
        video_BVCTHW = changed.view(video_BVCTHW.shape)
    mean, std = settings.audio_mean, settings.audio_std
    audio_BATF = statistics.standardised(arrays["audio"], mean, std, view="clip_and_spectrogram")
    return {
        "video": shared.imagenet_normalised(video_BVCTHW),
        "audio": audio_BATF[:, :, None, None].expand(-1, -1, settings.audio_channels, 1, -1, -1),
    }


def _heard(sample: Sample, first: int, count: int, settings: Settings, *, gain: float = 1.0) -> Tensor:
    """The log spectrogram of a piece of the track, made louder: float32 (T, F)."""
    return torch.from_numpy(
        log_spectrogram(np.float32(gain) * sample.waveform(first=first, count=count), settings.spectrogram)
    )
