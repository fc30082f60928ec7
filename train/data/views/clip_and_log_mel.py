"""CrissCross's input (arXiv 2111.05329) and IICL's: short clips, and log-mel spectrograms of the seconds of sound around them.

Shapes: B batch, V views, A sounds, C channels, T time, H W pixels, F mel bands.
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
from kinetics_sounds.media.log_mel import LogMel, log_mel
from kinetics_sounds.sampling import SAMPLE_RATE
from kinetics_sounds.shards import layout
from kinetics_sounds.shards.index import Dataset
from kinetics_sounds.stream import Meta, Sample, Split

from ...interface import Arrays, Inputs
from .. import clips as shared
from .. import crops, statistics
from ..augment import Augmentation, apply_all, draw_all, draws_width, find

VOLUME = "volume_jitter"
"""Of an `audio_augment` what is done to the waveform, in a worker."""
NORMALISED = ("cutout", "cutout_multiply")
"""Of a `video_augment` what is done to pixels that are normalised."""
LENGTHS = {"none": 1.0, "mild": 1.5, "medium": 2.0}
"""How long a stretch is whose beginning and end are the two views', in views; of the other ways each view has its own."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How a sample becomes clips and log-mel spectrograms; the defaults are CrissCross's, but for its two views."""

    views: int = 1
    """Random renderings of a sample, each a clip and a sound, for methods that compare them."""
    temporal: Literal["none", "mild", "medium", "extreme", "mixed"] = "none"
    """Where two views lie, pictures and sounds alike. none: both at the same time; mild: half a view apart; medium: one after the
    other; extreme: half a track apart; mixed: each by itself."""
    frames: int = 8
    """Images of a clip (IICL: 32)."""
    rate: float = 16.0
    """Images a second (IICL: 30): 8 of 16 last half a second."""
    crop: int = 112
    """Pixels of the square crop (IICL: 128)."""
    resize: int = 128
    """Pixels of a frame's short side before the centre is cropped in an evaluation, or any place without multi_scale_crop."""
    video_augment: str = "multi_scale_crop,flip,colour_jitter,grey,gaussian_blur,cutout"
    """Random changes of a training clip, as those of clip_and_mel; cutout comes after ImageNet's normalisation."""
    audio_augment: str = "volume_jitter,spec_mask,resize_crop"
    """Random changes of a training sound: volume_jitter of the waveform, then time_warp, spec_mask and resize_crop of the
    standardised log-mel spectrogram, whose mean is 0."""
    first: Literal["sound", "clip"] = "sound"
    """Which is drawn first in training: the sound, and its clip anywhere within it (CrissCross), or the clip, and a sound
    anywhere around it (IICL)."""
    window_seconds: float = 2.0
    """Length of the sound; a shorter track has silence after it."""
    sample_rate: int = 16_000
    """Hertz of the sound; mel bands reach from 0 to half of it."""
    n_fft: int = 1024
    """Samples of a transform (IICL: 512)."""
    frame_seconds: float = 0.064
    """Length of the Hann window (IICL: 0.025)."""
    hop_seconds: float = 0.01
    """From one column to the next (IICL: 0.02)."""
    bands: int = 80
    """Mel bands (IICL: 40)."""
    epsilon: float = 1.19e-7
    """Added to the power before its natural logarithm (IICL: 1e-6)."""
    end_column: bool = False
    """Keep the column that is centred on the window's end: 201 (CrissCross's code), else there are 200 (its paper)."""
    audio_channels: Literal[1, 3] = 1
    """Channels that the spectrogram is repeated to."""
    audio_mean: tuple[float, ...] = ()
    """Subtracted from the logarithms: one number for all bands, or one a band; default: the set's, by ks-shard stats."""
    audio_std: tuple[float, ...] = ()
    """What they are then divided by, in the same way (CrissCross: [-5.3688107] and [4.410007])."""
    decoder: str = "auto"
    """Which library decodes the frames; auto: the fastest that decodes right. The frames are the same."""

    def __post_init__(self) -> None:
        """Raise ValueError where there is nothing to see or hear, or more than memory is for."""
        if self.views < 1 or self.frames < 1 or not 1 <= self.crop <= self.resize:
            raise ValueError(
                f"views, frames and crop must be at least 1, and crop {self.crop} at most resize {self.resize}"
            )
        if not 0 < self.rate < math.inf:
            raise ValueError(f"rate {self.rate} must be more than 0")
        if self.temporal not in ("none", "mixed") and self.views != 2:
            raise ValueError(f"temporal {self.temporal} says where 2 views lie, and there are to be {self.views}")
        if self.views * self.frames * self.resize**2 > shared.MOST_PIXELS:
            raise ValueError(
                f"{self.views} x {self.frames} frames of {self.resize} x {self.resize} are more than {shared.MOST_PIXELS} pixels"
            )
        find(shared.device_augment(self.video_augment), modality="video")
        find(self.audio_augment, modality="audio")
        if VOLUME in shared.words(self.audio_augment)[1:]:
            raise ValueError(
                f"audio_augment {self.audio_augment}: {VOLUME} must come first, for it changes the waveform"
            )
        statistics.check(self.audio_mean, self.audio_std, bins=self.log_mel.bins)

    @property
    def log_mel(self) -> LogMel:
        """How a window becomes an image."""
        return LogMel(**{each.name: getattr(self, each.name) for each in dataclasses.fields(LogMel)})

    @property
    def columns(self) -> int:
        """Of the image."""
        return self.log_mel.columns - (not self.end_column)

    @property
    def augmentations(self) -> tuple[tuple[Augmentation, ...], tuple[Augmentation, ...], tuple[Augmentation, ...]]:
        """What is done on the device: of pixels in [0, 1], of normalised ones, and of the standardised sound."""
        words = shared.words(shared.device_augment(self.video_augment))
        before, after = (",".join(word for word in words if (word in NORMALISED) == late) for late in (False, True))
        sound = ",".join(word for word in shared.words(self.audio_augment) if word != VOLUME)
        return find(before, modality="video"), find(after, modality="video"), find(sound, modality="audio")


@dataclass(frozen=True, slots=True)
class Place:
    """Where a view lies in its sample."""

    frames: tuple[int, ...]
    """Numbers of its stored frames."""
    first: int
    """First sample of its sound."""
    count: int
    """Samples of its sound, fewer where the track is shorter."""


def check(dataset: Dataset, settings: Settings) -> None:
    """Raise ShardError where the stored frames are smaller than an evaluation needs, or the sound is missing."""
    shared.check_set(dataset, inputs(settings).parts, side=settings.resize + settings.resize % 2)


def complete(settings: Settings, shards: Address, split: Split, before: Mapping[str, Any]) -> Settings:
    """With the mean and deviation of the training split, where it has none of its own; a run that goes on keeps those it has.

    Raises ShardError where the set has none that suit.
    """
    if settings.audio_mean:
        return settings
    mean, std = statistics.of_set(settings.log_mel, shards, split, before)
    return dataclasses.replace(settings, audio_mean=mean, audio_std=std)


def plain(settings: Settings) -> Settings:
    """The settings for a classifier of frozen features: random clips, crops of frames of the evaluation's size, and flips."""
    return dataclasses.replace(settings, views=1, temporal="none", video_augment="flip", audio_augment="")


def inputs(settings: Settings) -> Inputs:
    """What the encoders take, and which parts of a sample it is made of."""
    return Inputs(
        views=settings.views,
        video=(3, settings.frames, settings.crop, settings.crop),
        audio=(settings.audio_channels, 1, settings.bands, settings.columns),
        parts=(layout.AUDIO, layout.META),
        reads_mel=False,
    )


def arrays(settings: Settings, clips: int | None = None) -> Arrays:
    """Shape and type of what one sample's `train_view` and `val_view` give, or its `eval_views` of so many clips."""
    views = clips or settings.views
    found: Arrays = {
        "video": ((views, settings.frames, settings.crop, settings.crop, 3), torch.uint8),
        "audio": ((views, settings.bands, settings.columns), torch.float32),
    }
    if clips is None and any(settings.augmentations):
        found["draws"] = ((views, draws_width(_changes(settings))), torch.float32)
    return found


def train_view(sample: Sample, settings: Settings, generator: np.random.Generator) -> dict[str, Tensor]:
    """Random views: `video` uint8 (V, T, H, W, 3), `audio` float32 (V, F, T), not standardised. A frame is decoded once."""
    where = placed(sample.meta, settings, generator)
    distinct = sorted({number for each in where for number in each.frames})
    frames_THWC = torch.from_numpy(sample.frames(distinct, decoder=settings.decoder))
    made = []
    for each in where:
        video_THWC = shared.random_square(
            frames_THWC[np.searchsorted(distinct, each.frames)],
            settings.crop,
            generator,
            changes=shared.words(settings.video_augment),
            resize=lambda frames: crops.short_side_resized(frames, settings.resize),
        )
        (volume,) = find(VOLUME, modality="audio")
        gain = volume.draw(generator)[0] if VOLUME in shared.words(settings.audio_augment) else 1.0
        found = {"video": video_THWC, "audio": _heard(sample, each.first, each.count, settings, gain=gain)}
        if chosen := _changes(settings):
            found["draws"] = draw_all(chosen, generator)
        made.append(found)
    return {name: torch.stack([each[name] for each in made]) for name in made[0]}


def placed(meta: Meta, settings: Settings, generator: np.random.Generator) -> tuple[Place, ...]:
    """Where a sample's training views lie (docs/decisions/0019).

    Of a sample that is too short for two views apart, they are its beginning and its end; a clip that is too short begins again.
    """
    if settings.temporal == "mixed":
        return tuple(_stretch(meta, settings, generator, parts=1)[0] for _ in range(settings.views))
    if settings.temporal == "extreme":
        return _halves(meta, settings, generator)
    return _stretch(meta, settings, generator, parts=settings.views)


def _stretch(meta: Meta, settings: Settings, generator: np.random.Generator, *, parts: int) -> tuple[Place, ...]:
    """Views of a stretch of frames, and of one of sound: the first is where they begin, all others are where they end.

    Frames lie within the sound, anywhere; where that is shorter, about its middle.
    """
    start, first, count = _drawn(meta, settings, generator, length=(length := LENGTHS.get(settings.temporal, 1.0)))
    frames, step, heard = settings.frames, sampling.step_of(meta.fps, settings.rate), _samples(meta, settings)
    shown = sampling.frame_indices(start, math.ceil(length * frames), length=meta.num_frames, step=step)
    if len(shown) * step > meta.num_frames:
        last = sampling.last_start(meta.num_frames, frames, step=step)
        shown += sampling.frame_indices(last, frames, length=meta.num_frames, step=step)
    begin, end = Place(tuple(shown[:frames]), first, heard), Place(tuple(shown[-frames:]), first + count - heard, heard)
    return begin, *[end] * (parts - 1)


def _halves(meta: Meta, settings: Settings, generator: np.random.Generator) -> tuple[Place, ...]:
    """A view of the first half of frames and track, and the same place in the second."""
    half = dataclasses.replace(meta, num_frames=max(meta.num_frames // 2, 1), audio_samples=meta.audio_samples // 2)
    start, first, _ = _drawn(half, settings, generator, length=1.0)
    frames, step, heard = settings.frames, sampling.step_of(meta.fps, settings.rate), _samples(meta, settings)
    last = sampling.last_start(meta.num_frames, frames, step=step)
    starts = start, min(start + meta.num_frames // 2, last)
    firsts = first, min(first + half.audio_samples, meta.audio_samples - heard)
    shown = (sampling.frame_indices(begin, frames, length=meta.num_frames, step=step) for begin in starts)
    return tuple(Place(tuple(numbers), sound, heard) for numbers, sound in zip(shown, firsts, strict=True))


def _drawn(meta: Meta, settings: Settings, generator: np.random.Generator, *, length: float) -> tuple[int, int, int]:
    """The first frame of a stretch of `length` clips, and first sample and count of one of as many windows."""
    fps, track, step = meta.fps, meta.audio_samples, sampling.step_of(meta.fps, settings.rate)
    frames, seconds = math.ceil(length * settings.frames), length * settings.window_seconds
    if settings.first == "sound":
        first, count = sampling.covering_window(0, track / SAMPLE_RATE, generator, seconds=seconds, track=track)
        begin = first / SAMPLE_RATE
        return (
            sampling.start_within(begin, begin + seconds, meta.num_frames, frames, generator, fps=fps, step=step),
            first,
            count,
        )
    start = sampling.random_start(meta.num_frames, frames, generator, step=step)
    span = sampling.span(start, frames, fps=fps, step=step)
    return start, *sampling.covering_window(*span, generator, seconds=seconds, track=track)


def _samples(meta: Meta, settings: Settings) -> int:
    """Of a view's sound."""
    return min(settings.log_mel.samples, meta.audio_samples)


def val_view(sample: Sample, settings: Settings) -> dict[str, Tensor]:
    """As `train_view`, with nothing random: evenly spaced clips, centre crops, and the sound centred on each."""
    found = eval_views(sample, settings, settings.views)
    if chosen := _changes(settings):
        found["draws"] = torch.zeros(settings.views, draws_width(chosen))
    return found


def eval_views(sample: Sample, settings: Settings, clips: int) -> dict[str, Tensor]:
    """Evenly spaced clips, centre crops: `video` uint8 (clips, T, H, W, 3), and `audio` (clips, F, T) centred on each.

    The first and the last clip that fit are among them; one clip is the middle. At the track's ends the nearest window is taken.
    """
    return shared.clips_with_sounds(
        sample,
        clips,
        frames=settings.frames,
        rate=settings.rate,
        side=settings.crop,
        short_side=settings.resize,
        seconds=settings.window_seconds,
        hear=lambda first, count: _heard(sample, first, count, settings),
        decoder=settings.decoder,
    )


def augment(arrays: Mapping[str, Tensor], settings: Settings) -> dict[str, Tensor]:
    """What the encoders take: `video` float32 (B, V, C, T, H, W) by ImageNet's statistics, `audio` (B, A, C, 1, F, T) by its own.

    Raises SettingsError where there is nothing to standardise the sound by.
    """
    mean, std = settings.audio_mean, settings.audio_std
    video_BVCTHW, audio_BAFT = shared.in_unit_range(arrays["video"]), arrays["audio"]
    audio_BAFT = statistics.standardised(audio_BAFT, mean, std, view="clip_and_log_mel", bins_last=False)
    if "draws" not in arrays:
        video_BVCTHW = shared.imagenet_normalised(video_BVCTHW)
    else:
        before, after, sound = settings.augmentations
        widths = [draws_width(each) for each in (before, after, sound)]
        draws = torch.split(arrays["draws"].flatten(0, 1), widths, dim=1)
        changed = apply_all(before, video_BVCTHW.flatten(0, 1), draws[0]).view(video_BVCTHW.shape)
        normalised = shared.imagenet_normalised(changed)
        video_BVCTHW = apply_all(after, normalised.flatten(0, 1), draws[1]).view(video_BVCTHW.shape)
        audio_BAFT = apply_all(sound, audio_BAFT.flatten(0, 1), draws[2]).view(audio_BAFT.shape)
    return {
        "video": video_BVCTHW,
        "audio": audio_BAFT[:, :, None, None].expand(-1, -1, settings.audio_channels, 1, -1, -1),
    }


def _changes(settings: Settings) -> tuple[Augmentation, ...]:
    """All that is done on the device, in its order."""
    before, after, sound = settings.augmentations
    return *before, *after, *sound


def _heard(sample: Sample, first: int, count: int, settings: Settings, *, gain: float = 1.0) -> Tensor:
    """The log-mel spectrogram of a piece of the track, made louder: float32 (F, T)."""
    waveform = np.float32(gain) * sample.waveform(first=first, count=count)
    return torch.from_numpy(log_mel(waveform, settings.log_mel)[:, : settings.columns].copy())
