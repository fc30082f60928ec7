"""Inputs of AVID (arXiv 2004.12943, section 4.1): a short clip, and the log spectrogram of the sound around it.

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
"""Maximum offset between sound and clip: see `Settings.offset`."""
EVAL_CROP = 0.875
"""Center crop in evaluation as a fraction of the frame's short side: 224 of 256 pixels."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Clips and log spectrograms. The defaults are those of AVID's main experiments."""

    views: int = 1
    """Random views per sample, each a clip and its sound, for methods that compare views."""
    modality: Literal["both", "video"] = "both"
    """video: no sound, for sets of pictures alone."""
    frames: int = 8
    """Frames per clip."""
    rate: float = 16.0
    """Frames per second. The default 8 frames at 16 fps are half a second."""
    crop: int = 224
    """Side of the square crop in pixels; in evaluation, the center crop of frames with a short side of 8/7 of it."""
    min_area: float = 0.08
    """multi_scale_crop: minimum fraction of the frame's area."""
    video_augment: str = "multi_scale_crop,flip,colour_jitter"
    """Comma-separated video augmentations, as in clip_and_mel. Without multi_scale_crop, training uses a random crop of frames
    resized as in evaluation."""
    window_seconds: float = 2.0
    """Length of the sound in seconds; shorter tracks are padded with silence at the end."""
    n_fft: int = 1024
    """FFT size in samples (512 in the small study). The spectrogram has n_fft / 4 + 1 bins."""
    hop_seconds: float = 0.01
    """Hop length in seconds (0.02 in the small study)."""
    offset: Literal["paper", "code"] = "paper"
    """Offset of the sound from the clip in training. paper: centers at most 0.5 s apart (standard deviation 0.29 s). code: the
    clip is anywhere in the window widened by 0.5 s on both sides (at most 1.25 s apart, standard deviation 0.72 s)."""
    volume_jitter: float = 0.1
    """Maximum relative change of the volume in training."""
    audio_channels: Literal[1, 3] = 1
    """Channels to repeat the spectrogram to."""
    audio_mean: tuple[float, ...] = ()
    """Mean in decibels to subtract: one for all bins, or one per bin. Default: computed by ks-shard stats."""
    audio_std: tuple[float, ...] = ()
    """Standard deviation in decibels to divide by, likewise."""
    decoder: str = "auto"
    """Video decoder; auto: the fastest one that works. All give equal frames."""

    def __post_init__(self) -> None:
        """Raise ValueError for invalid or too large inputs."""
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
        """Parameters of the spectrogram."""
        return Spectrogram(window_seconds=self.window_seconds, n_fft=self.n_fft, hop_seconds=self.hop_seconds)

    @property
    def eval_side(self) -> int:
        """Short side of a frame in pixels before the center crop."""
        return round(self.crop / EVAL_CROP)

    @property
    def augmentations(self) -> tuple[Augmentation, ...]:
        """Augmentations on the device."""
        return find(shared.device_augment(self.video_augment), modality="video")


def check(dataset: Dataset, settings: Settings) -> None:
    """Raise ShardError if the stored frames are smaller than evaluation needs, or the sound is missing."""
    shared.check_set(
        dataset, inputs(settings).parts, side=settings.eval_side + settings.eval_side % 2, modality=settings.modality
    )


def complete(settings: Settings, shards: Address, split: Split, before: Mapping[str, Any]) -> Settings:
    """Fill in mean and standard deviation of the training split unless given; a resumed run keeps its own.

    Raises ShardError if the shard set has no suitable statistics.
    """
    if settings.audio_mean or settings.modality == "video":
        return settings
    mean, std = statistics.of_set(settings.spectrogram, shards, split, before)
    return dataclasses.replace(settings, audio_mean=mean, audio_std=std)


def plain(settings: Settings) -> Settings:
    """Settings for probes of frozen features: random clips, random crops and flips only."""
    return dataclasses.replace(settings, views=1, video_augment="flip", volume_jitter=0.0)


def inputs(settings: Settings) -> Inputs:
    """Input shapes, and the stored parts needed."""
    audio = (settings.audio_channels, 1, settings.spectrogram.columns, settings.spectrogram.bins)
    alone = settings.modality == "video"
    return Inputs(
        views=settings.views,
        video=(3, settings.frames, settings.crop, settings.crop),
        audio=None if alone else audio,
        parts=(layout.META,) if alone else (layout.AUDIO, layout.META),
        audio_time_first=True,
        reads_mel=False,
    )


def arrays(settings: Settings, clips: int | None = None) -> Arrays:
    """Shapes and dtypes of `train_view` and `val_view` of a sample, or of its `eval_views` with this number of clips."""
    views, numbers = clips or settings.views, settings.spectrogram
    found: Arrays = {"video": ((views, settings.frames, settings.crop, settings.crop, 3), torch.uint8)}
    if settings.modality == "both":
        found["audio"] = ((views, numbers.columns, numbers.bins), torch.float32)
    if clips is None and settings.augmentations:
        found["draws"] = ((settings.views, draws_width(settings.augmentations)), torch.float32)
    return found


def train_view(sample: Sample, settings: Settings, generator: np.random.Generator) -> dict[str, Tensor]:
    """Random views: `video` uint8 (V, T, H, W, 3), `audio` float32 (V, T, F) in decibels."""
    made = [_random_view(sample, settings, generator) for _ in range(settings.views)]
    return {name: torch.stack([each[name] for each in made]) for name in made[0]}


def _random_view(sample: Sample, settings: Settings, generator: np.random.Generator) -> dict[str, Tensor]:
    """One random view."""
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
    found = {"video": video_THWC}
    if settings.modality == "both":
        found["audio"] = _heard(sample, first, count, settings, gain=gain)
    if chosen := settings.augmentations:
        found["draws"] = draw_all(chosen, generator)
    return found


def placed(sample: Sample, settings: Settings, generator: np.random.Generator) -> tuple[int, int, int]:
    """Draw a training clip's first stored frame, and first sample and length of its sound (docs/decisions/0017).

    A track shorter than the window is taken whole. Near its ends, "paper" uses the nearest window within it. Without sound, the
    clip is anywhere.
    """
    meta, frames, seconds = sample.meta, settings.frames, settings.window_seconds
    fps, step, track = meta.fps, sampling.step_of(meta.fps, settings.rate), meta.audio_samples
    if settings.offset == "code" and settings.modality == "both":
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
    """Deterministic `train_view`: evenly spaced clips, center crops, and the sound centered on each."""
    found = eval_views(sample, settings, settings.views)
    if chosen := settings.augmentations:
        found["draws"] = torch.zeros(settings.views, draws_width(chosen))
    return found


def eval_views(sample: Sample, settings: Settings, clips: int) -> dict[str, Tensor]:
    """Evenly spaced clips with center crops: `video` uint8 (clips, T, H, W, 3), and the sound around each, (clips, T, F).

    They include the first and the last possible clip; a single clip is the middle one. Near the ends of the track, the nearest
    window within it is used.
    """
    return shared.clips_with_sounds(
        sample,
        clips,
        frames=settings.frames,
        rate=settings.rate,
        side=settings.crop,
        short_side=settings.eval_side,
        seconds=settings.window_seconds,
        hear=None if settings.modality == "video" else lambda first, count: _heard(sample, first, count, settings),
        decoder=settings.decoder,
    )


def augment(arrays: Mapping[str, Tensor], settings: Settings) -> dict[str, Tensor]:
    """Augment and normalize on the device: `video` float32 (B, V, C, T, H, W), `audio` float32 (B, A, C, 1, T, F), if any.

    Raises SettingsError if there are no statistics to standardize the audio by.
    """
    video_BVCTHW = shared.in_unit_range(arrays["video"])
    if "draws" in arrays:
        changed = apply_all(settings.augmentations, video_BVCTHW.flatten(0, 1), arrays["draws"].flatten(0, 1))
        video_BVCTHW = changed.view(video_BVCTHW.shape)
    video_BVCTHW = shared.imagenet_normalised(video_BVCTHW)
    if settings.modality == "video":
        return {"video": video_BVCTHW}
    mean, std = settings.audio_mean, settings.audio_std
    audio_BATF = statistics.standardised(arrays["audio"], mean, std, view="clip_and_spectrogram")
    return {
        "video": video_BVCTHW,
        "audio": audio_BATF[:, :, None, None].expand(-1, -1, settings.audio_channels, 1, -1, -1),
    }


def _heard(sample: Sample, first: int, count: int, settings: Settings, *, gain: float = 1.0) -> Tensor:
    """Log spectrogram of a part of the track, with its volume scaled: float32 (T, F)."""
    return torch.from_numpy(
        log_spectrogram(np.float32(gain) * sample.waveform(first=first, count=count), settings.spectrogram)
    )
