"""Inputs of CrissCross (arXiv 2111.05329) and IICL: short clips, and log-mel spectrograms of the sound around them.

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
"""Name in `audio_augment` that is applied to the waveform, in the worker."""
NORMALISED = ("cutout", "cutout_multiply")
"""Names in `video_augment` that are applied to normalized pixels."""
LENGTHS = {"none": 1.0, "mild": 1.5, "medium": 2.0}
"""Length of the stretch, in views, whose start and end are the two views; for other values views are drawn separately."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Clips and log-mel spectrograms. The defaults are CrissCross's, except for its two views."""

    views: int = 1
    """Random views per sample, each a clip and its sound, for methods that compare views."""
    modality: Literal["both", "video"] = "both"
    """video: no sound, for sets of pictures alone."""
    temporal: Literal["none", "mild", "medium", "extreme", "mixed"] = "none"
    """Temporal distance of two views (video and audio alike). none: same time; mild: half a view apart; medium: adjacent;
    extreme: half a track apart; mixed: independent."""
    frames: int = 8
    """Frames per clip (IICL: 32)."""
    rate: float = 16.0
    """Frames per second (IICL: 30). The default 8 frames at 16 fps are half a second."""
    crop: int = 112
    """Side of the square crop in pixels (IICL: 128)."""
    resize: int = 128
    """Short side of a frame in pixels before a center crop (evaluation), or a random crop without multi_scale_crop."""
    video_augment: str = "multi_scale_crop,flip,colour_jitter,grey,gaussian_blur,cutout"
    """Comma-separated video augmentations, as in clip_and_mel; cutout is applied after ImageNet normalization."""
    audio_augment: str = "volume_jitter,spec_mask,resize_crop"
    """Comma-separated audio augmentations: volume_jitter (of the waveform), then time_warp, spec_mask and resize_crop (of the
    standardized log-mel spectrogram)."""
    first: Literal["sound", "clip"] = "sound"
    """Drawn first in training. sound: the sound, then a clip within it (CrissCross). clip: the clip, then a sound around it
    (IICL)."""
    window_seconds: float = 2.0
    """Length of the sound in seconds; shorter tracks are padded with silence at the end."""
    sample_rate: int = 16_000
    """Sample rate in hertz; mel bands range from 0 to half of it."""
    n_fft: int = 1024
    """FFT size in samples (IICL: 512)."""
    frame_seconds: float = 0.064
    """Length of the Hann window in seconds (IICL: 0.025)."""
    hop_seconds: float = 0.01
    """Hop length in seconds (IICL: 0.02)."""
    bands: int = 80
    """Number of mel bands (IICL: 40)."""
    epsilon: float = 1.19e-7
    """Added to the power before the natural logarithm (IICL: 1e-6)."""
    end_column: bool = False
    """Keep the last column, centered on the window's end: 201 columns (CrissCross's code) instead of 200 (its paper)."""
    audio_channels: Literal[1, 3] = 1
    """Channels to repeat the spectrogram to."""
    audio_mean: tuple[float, ...] = ()
    """Mean of the log-mel values to subtract: one for all bands, or one per band. Default: computed by ks-shard stats."""
    audio_std: tuple[float, ...] = ()
    """Standard deviation of the log-mel values to divide by, likewise (CrissCross: mean [-5.3688107], std [4.410007])."""
    decoder: str = "auto"
    """Video decoder; auto: the fastest one that works. All give equal frames."""

    def __post_init__(self) -> None:
        """Raise ValueError for invalid or too large inputs."""
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
        """Parameters of the log-mel spectrogram."""
        return LogMel(**{each.name: getattr(self, each.name) for each in dataclasses.fields(LogMel)})

    @property
    def columns(self) -> int:
        """Columns of the spectrogram."""
        return self.log_mel.columns - (not self.end_column)

    @property
    def augmentations(self) -> tuple[tuple[Augmentation, ...], tuple[Augmentation, ...], tuple[Augmentation, ...]]:
        """Augmentations on the device: of pixels in [0, 1], of normalized pixels, and of the standardized spectrogram."""
        words = shared.words(shared.device_augment(self.video_augment))
        before, after = (",".join(word for word in words if (word in NORMALISED) == late) for late in (False, True))
        sound = ",".join(word for word in shared.words(self.audio_augment) if word != VOLUME)
        return find(before, modality="video"), find(after, modality="video"), find(sound, modality="audio")


@dataclass(frozen=True, slots=True)
class Place:
    """Position of a view in its sample."""

    frames: tuple[int, ...]
    """Indices of its stored frames."""
    first: int
    """First audio sample."""
    count: int
    """Number of audio samples; fewer if the track is shorter."""


def check(dataset: Dataset, settings: Settings) -> None:
    """Raise ShardError if the stored frames are smaller than evaluation needs, or the sound is missing."""
    shared.check_set(
        dataset, inputs(settings).parts, side=settings.resize + settings.resize % 2, modality=settings.modality
    )


def complete(settings: Settings, shards: Address, split: Split, before: Mapping[str, Any]) -> Settings:
    """Fill in mean and standard deviation of the training split unless given; a resumed run keeps its own.

    Raises ShardError if the shard set has no suitable statistics.
    """
    if settings.audio_mean or settings.modality == "video":
        return settings
    mean, std = statistics.of_set(settings.log_mel, shards, split, before)
    return dataclasses.replace(settings, audio_mean=mean, audio_std=std)


def single(settings: Settings) -> Settings:
    """Settings with one view per sample."""
    return dataclasses.replace(settings, views=1, temporal="none")


def plain(settings: Settings) -> Settings:
    """Settings for probes of frozen features: random clips, random crops and flips only."""
    return dataclasses.replace(single(settings), video_augment="flip", audio_augment="")


def inputs(settings: Settings) -> Inputs:
    """Input shapes, and the stored parts needed."""
    alone = settings.modality == "video"
    return Inputs(
        views=settings.views,
        video=(3, settings.frames, settings.crop, settings.crop),
        audio=None if alone else (settings.audio_channels, 1, settings.bands, settings.columns),
        parts=(layout.META,) if alone else (layout.AUDIO, layout.META),
        reads_mel=False,
    )


def arrays(settings: Settings, clips: int | None = None) -> Arrays:
    """Shapes and dtypes of `train_view` and `val_view` of a sample, or of its `eval_views` with this number of clips."""
    views = clips or settings.views
    found: Arrays = {"video": ((views, settings.frames, settings.crop, settings.crop, 3), torch.uint8)}
    if settings.modality == "both":
        found["audio"] = ((views, settings.bands, settings.columns), torch.float32)
    if clips is None and any(settings.augmentations):
        found["draws"] = ((views, draws_width(_changes(settings))), torch.float32)
    return found


def train_view(sample: Sample, settings: Settings, generator: np.random.Generator) -> dict[str, Tensor]:
    """Random views: `video` uint8 (V, T, H, W, 3), `audio` float32 (V, F, T), not standardized.

    Frames shared by several views are decoded once.
    """
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
        found = {"video": video_THWC}
        if settings.modality == "both":
            found["audio"] = _heard(sample, each.first, each.count, settings, gain=gain)
        if chosen := _changes(settings):
            found["draws"] = draw_all(chosen, generator)
        made.append(found)
    return {name: torch.stack([each[name] for each in made]) for name in made[0]}


def placed(meta: Meta, settings: Settings, generator: np.random.Generator) -> tuple[Place, ...]:
    """Draw the positions of a sample's training views (docs/decisions/0019).

    If a sample is too short for two views apart, they are its start and its end; a clip longer than the sample repeats it.
    """
    if settings.temporal == "mixed":
        return tuple(_stretch(meta, settings, generator, parts=1)[0] for _ in range(settings.views))
    if settings.temporal == "extreme":
        return _halves(meta, settings, generator)
    return _stretch(meta, settings, generator, parts=settings.views)


def _stretch(meta: Meta, settings: Settings, generator: np.random.Generator, *, parts: int) -> tuple[Place, ...]:
    """Views of a stretch of frames and one of sound: the first at their start, all others at their end.

    The frames are anywhere within the sound; if the sound is shorter, it is centered on them.
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
    """A view in the first half of the sample, and one at the same position in the second half."""
    half = dataclasses.replace(meta, num_frames=max(meta.num_frames // 2, 1), audio_samples=meta.audio_samples // 2)
    start, first, _ = _drawn(half, settings, generator, length=1.0)
    frames, step, heard = settings.frames, sampling.step_of(meta.fps, settings.rate), _samples(meta, settings)
    last = sampling.last_start(meta.num_frames, frames, step=step)
    starts = start, min(start + meta.num_frames // 2, last)
    firsts = first, min(first + half.audio_samples, meta.audio_samples - heard)
    shown = (sampling.frame_indices(begin, frames, length=meta.num_frames, step=step) for begin in starts)
    return tuple(Place(tuple(numbers), sound, heard) for numbers, sound in zip(shown, firsts, strict=True))


def _drawn(meta: Meta, settings: Settings, generator: np.random.Generator, *, length: float) -> tuple[int, int, int]:
    """First frame of a stretch of `length` clips, and first sample and count of an equally long stretch of sound."""
    fps, track, step = meta.fps, meta.audio_samples, sampling.step_of(meta.fps, settings.rate)
    frames, seconds = math.ceil(length * settings.frames), length * settings.window_seconds
    if settings.first == "sound" and settings.modality == "both":
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
    """Audio samples of a view."""
    return min(settings.log_mel.samples, meta.audio_samples)


def val_view(sample: Sample, settings: Settings) -> dict[str, Tensor]:
    """Deterministic `train_view`: evenly spaced clips, center crops, and the sound centered on each."""
    found = eval_views(sample, settings, settings.views)
    if chosen := _changes(settings):
        found["draws"] = torch.zeros(settings.views, draws_width(chosen))
    return found


def eval_views(sample: Sample, settings: Settings, clips: int) -> dict[str, Tensor]:
    """Evenly spaced clips with center crops: `video` uint8 (clips, T, H, W, 3), and the sound around each, (clips, F, T).

    They include the first and the last possible clip; a single clip is the middle one. Near the ends of the track, the nearest
    window within it is used.
    """
    return shared.clips_with_sounds(
        sample,
        clips,
        frames=settings.frames,
        rate=settings.rate,
        side=settings.crop,
        short_side=settings.resize,
        seconds=settings.window_seconds,
        hear=None if settings.modality == "video" else lambda first, count: _heard(sample, first, count, settings),
        decoder=settings.decoder,
    )


def augment(arrays: Mapping[str, Tensor], settings: Settings) -> dict[str, Tensor]:
    """Augment and normalize on the device: `video` float32 (B, V, C, T, H, W), `audio` float32 (B, A, C, 1, F, T), if any.

    Raises SettingsError if there are no statistics to standardize the audio by.
    """
    before, after, sound = settings.augmentations
    widths = [draws_width(each) for each in (before, after, sound)]
    draws = torch.split(arrays["draws"].flatten(0, 1), widths, dim=1) if "draws" in arrays else ()
    video_BVCTHW = shared.in_unit_range(arrays["video"])
    if draws:
        video_BVCTHW = apply_all(before, video_BVCTHW.flatten(0, 1), draws[0]).view(video_BVCTHW.shape)
    video_BVCTHW = shared.imagenet_normalised(video_BVCTHW)
    if draws:
        video_BVCTHW = apply_all(after, video_BVCTHW.flatten(0, 1), draws[1]).view(video_BVCTHW.shape)
    if settings.modality == "video":
        return {"video": video_BVCTHW}
    mean, std = settings.audio_mean, settings.audio_std
    audio_BAFT = statistics.standardised(arrays["audio"], mean, std, view="clip_and_log_mel", bins_last=False)
    if draws:
        audio_BAFT = apply_all(sound, audio_BAFT.flatten(0, 1), draws[2]).view(audio_BAFT.shape)
    return {
        "video": video_BVCTHW,
        "audio": audio_BAFT[:, :, None, None].expand(-1, -1, settings.audio_channels, 1, -1, -1),
    }


def _changes(settings: Settings) -> tuple[Augmentation, ...]:
    """All augmentations on the device, in order."""
    before, after, sound = settings.augmentations
    return *before, *after, *sound


def _heard(sample: Sample, first: int, count: int, settings: Settings, *, gain: float = 1.0) -> Tensor:
    """Log-mel spectrogram of a part of the track, with its volume scaled: float32 (F, T)."""
    waveform = np.float32(gain) * sample.waveform(first=first, count=count)
    return torch.from_numpy(log_mel(waveform, settings.log_mel)[:, : settings.columns].copy())
