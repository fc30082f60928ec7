"""Inputs of AVCL (arXiv 2204.13386, section II.A): 16 consecutive frames, and a mel-spectrogram of the whole track.

For the paper's Table I (docs/decisions/0005), the audio is the mel-spectrogram of a short window, or the waveform.

Shapes: B batch, C channels, T time, H W pixels, F mel bands.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from kinetics_sounds import sampling
from kinetics_sounds.media.encode import SAMPLE_RATE
from kinetics_sounds.media.mel import mel_image, of_set
from kinetics_sounds.shards import layout
from kinetics_sounds.shards.index import Dataset
from kinetics_sounds.stream import Meta, Sample

from ...interface import Arrays, Inputs
from .. import crops
from ..augment import Augmentation, apply_all, draw_all, draws_width, find
from ..clips import MOST_PIXELS, centre_squares, check_set, device_augment, in_unit_range, random_square, words
from ..colormap import magma

MOST_SECONDS = 3600
"""Maximum window length; settings may come from an untrusted run."""
TIME_STEPS = 16
"""Time steps of the audio with layout `repeat16`."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Clips and mel-spectrograms. The defaults are AVCL's."""

    views: int = 1
    """Random views per sample, each a clip and an audio crop, for methods that compare views."""
    modality: Literal["both", "video"] = "both"
    """video: no sound, for sets of pictures alone."""
    frames: int = 16
    """Frames per clip."""
    start: Literal["random", "gop"] = "random"
    """Start of a training clip. random: any frame. gop: a stored group of 16 frames: a third fewer are decoded."""
    rate: float | None = None
    """Frames per second, e.g. 16 (AVID, CrissCross) or 30 (IICL). Default: consecutive stored frames (AVCL)."""
    resize_height: int = 128
    """Frame height in pixels before the crop."""
    resize_width: int = 171
    """Frame width in pixels before the crop; the aspect ratio is not kept (as in VCOP's code; not stated by AVCL)."""
    crop: int = 112
    """Side of the square crop in pixels, the same for all frames of a view."""
    audio: Literal["mel", "mel_window", "waveform"] = "mel"
    """mel: stored mel-spectrogram of the whole track. mel_window: mel-spectrogram of a window. waveform: samples of a window."""
    window_seconds: float = 1.2
    """Window length in seconds (Table I), random in training, else centered; shorter tracks are padded with silence."""
    mel_resize: int = 128
    """Side in pixels that the mel-spectrogram is resized to before its crop."""
    mel_crop: int = 112
    """Side of the mel-spectrogram's square crop in pixels; a waveform is folded row by row into images of this side."""
    audio_layout: Literal["repeat16", "single"] = "repeat16"
    """repeat16: repeat the mel-spectrogram to 16 time steps. single: one time step (not for c3d). A waveform fills all steps."""
    audio_channels: Literal[1, 3] = 3
    """Channels to repeat the audio to; a color map needs 3."""
    audio_colours: Literal["none", "magma"] = "none"
    """Color map of the mel-spectrogram; magma: as saved by AVCL's authors, low bands at the bottom (ks-shard --mel authors)."""
    video_augment: str = ""
    """Comma-separated video augmentations, applied in this order: multi_scale_crop, flip, and modules of augment/ such as
    colour_jitter,grey,gaussian_blur,cutout. Equal for all frames of a clip."""
    audio_augment: str = ""
    """Comma-separated augmentations of the mel-spectrogram: volume_jitter,spec_mask,resize_crop,time_warp."""
    subtract_clip_mean: bool = False
    """Subtract each pixel's mean over the clip, which removes static background (TCGL's code; not in AVCL's paper)."""
    decoder: str = "auto"
    """Video decoder; auto: the fastest one that works. All give equal frames."""

    def __post_init__(self) -> None:
        """Raise ValueError for invalid or too large inputs."""
        if self.views < 1 or self.frames < 1 or self.crop < 1 or self.mel_crop < 1:
            raise ValueError("views, frames, crop and mel_crop must be at least 1")
        if self.crop > min(self.resize_height, self.resize_width):
            raise ValueError(f"crop {self.crop} is larger than {self.resize_height} x {self.resize_width} pixels")
        if self.mel_crop > self.mel_resize:
            raise ValueError(f"mel_crop {self.mel_crop} is larger than mel_resize {self.mel_resize}")
        find(self._device_augment, modality="video")
        if find(self.audio_augment, modality="audio") and self.audio == "waveform":
            raise ValueError("audio_augment changes a mel-spectrogram, not audio waveform")
        if self.rate is not None and not 0 < self.rate < float("inf"):
            raise ValueError(f"rate {self.rate} must be more than 0")
        if self.audio_colours == "magma" and self.audio_channels != 3:
            raise ValueError("audio_colours magma gives 3 audio_channels")
        if self.audio_colours == "magma" and self.audio == "waveform":
            raise ValueError("audio_colours magma is for a mel-spectrogram, not for audio waveform")
        if not 0 < self.window_seconds < float("inf"):
            raise ValueError(f"window_seconds {self.window_seconds} must be more than 0")
        if self.views * self.frames * max(self.resize_height * self.resize_width, self.crop**2) > MOST_PIXELS:
            raise ValueError(
                f"{self.views} x {self.frames} frames of {self.resize_height} x {self.resize_width} are more than "
                f"{MOST_PIXELS} pixels"
            )
        if self.views * TIME_STEPS * self.mel_resize**2 > MOST_PIXELS or self.window_seconds > MOST_SECONDS:
            raise ValueError(
                f"mel_resize {self.mel_resize} or window_seconds {self.window_seconds} is larger than any sound"
            )

    @property
    def _device_augment(self) -> str:
        """Names in `video_augment` that are applied on the device."""
        return device_augment(self.video_augment)

    @property
    def augmentations(self) -> tuple[tuple[Augmentation, ...], tuple[Augmentation, ...]]:
        """Video and audio augmentations on the device."""
        video = find(self._device_augment, modality="video")
        return video, find(self.audio_augment, modality="audio")

    @property
    def steps(self) -> int:
        """Time steps of the audio."""
        return TIME_STEPS if self.audio_layout == "repeat16" else 1

    @property
    def sound(self) -> str:
        """Stored part that the audio is made from."""
        return layout.MEL if self.audio == "mel" else layout.AUDIO


def check(dataset: Dataset, settings: Settings) -> None:
    """Raise ShardError if the stored frames are smaller than the view needs, or a part is missing."""
    side = min(settings.resize_height, settings.resize_width)
    check_set(dataset, inputs(settings).parts, side=side, modality=settings.modality)


def plain(settings: Settings) -> Settings:
    """Settings for probes of frozen features: random clips, random crops and flips only."""
    return replace(settings, views=1, video_augment="flip", audio_augment="")


def inputs(settings: Settings) -> Inputs:
    """Input shapes, and the stored parts needed."""
    alone = settings.modality == "video"
    return Inputs(
        views=settings.views,
        video=(3, settings.frames, settings.crop, settings.crop),
        audio=None if alone else (settings.audio_channels, settings.steps, settings.mel_crop, settings.mel_crop),
        parts=(layout.META,) if alone else (settings.sound, layout.META),
        reads_mel=settings.audio != "waveform" and not alone,  # mel_window uses the shard set's parameters
    )


def arrays(settings: Settings, clips: int | None = None) -> Arrays:
    """Shapes and dtypes of `train_view` and `val_view` of a sample, or of its `eval_views` with this number of clips."""
    video = (settings.frames, settings.crop, settings.crop, 3)
    image = (settings.mel_crop, settings.mel_crop)
    audio = (settings.steps, *image) if settings.audio == "waveform" else image
    found: Arrays = {"video": ((clips or settings.views, *video), torch.uint8)}
    if settings.modality == "both":
        found["audio"] = ((1 if clips else settings.views, *audio), torch.float32)
    if clips is None and (chosen := _changes(settings)):
        found["draws"] = ((settings.views, draws_width(chosen)), torch.float32)
    return found


def train_view(sample: Sample, settings: Settings, generator: np.random.Generator) -> dict[str, Tensor]:
    """Random views: `video` uint8 (V, T, H, W, 3), and `audio` float32.

    The audio is a mel-spectrogram (V, H, W) in [0, 1], or a waveform (V, T, H, W) in [-1, 1].
    """
    made = [_random_view(sample, settings, generator) for _ in range(settings.views)]
    return {name: torch.stack([each[name] for each in made]) for name in made[0]}


def _random_view(sample: Sample, settings: Settings, generator: np.random.Generator) -> dict[str, Tensor]:
    """One random view."""
    length, step = sample.meta.num_frames, _step(sample.meta, settings)
    draw = sampling.gop_aligned_start if settings.start == "gop" else sampling.random_start
    start = draw(length, settings.frames, generator, step=step)
    numbers = sampling.frame_indices(start, settings.frames, length=length, step=step)
    frames_THWC = torch.from_numpy(sample.frames(numbers, decoder=settings.decoder))
    video_THWC = random_square(
        frames_THWC,
        settings.crop,
        generator,
        changes=words(settings.video_augment),
        resize=lambda each: _resized(each, settings),
    )
    found = {"video": video_THWC}
    if settings.modality == "both":
        found["audio"] = _audio(sample, settings, generator)
    if chosen := _changes(settings):
        found["draws"] = draw_all(chosen, generator)
    return found


def val_view(sample: Sample, settings: Settings) -> dict[str, Tensor]:
    """Deterministic `train_view`: evenly spaced clips, center crops, and the same sound in each view."""
    found = eval_views(sample, settings, settings.views)
    made = {name: each.expand(settings.views, *each.shape[1:]) for name, each in found.items()}
    if chosen := _changes(settings):
        made["draws"] = torch.zeros(settings.views, draws_width(chosen))
    return made


def eval_views(sample: Sample, settings: Settings, clips: int) -> dict[str, Tensor]:
    """Evenly spaced clips with center crops: `video` uint8 (clips, T, H, W, 3), and one centered `audio` (1, ...).

    Clip centers are linspace(L/2, length - L/2, clips) for clips of L frames; a single clip is the middle one.
    """
    length, step = sample.meta.num_frames, _step(sample.meta, settings)
    starts = sampling.uniform_starts(length, settings.frames, clips, step=step)
    video = centre_squares(
        sample,
        starts,
        settings.frames,
        step=step,
        side=settings.crop,
        resize=lambda each: _resized(each, settings),
        decoder=settings.decoder,
    )
    return {"video": video} | ({} if settings.modality == "video" else {"audio": _audio(sample, settings, None)[None]})


def augment(arrays: Mapping[str, Tensor], settings: Settings) -> dict[str, Tensor]:
    """Augment on the device: float32 (B, V, C, T, H, W) `video` (from uint8 (B, V, T, H, W, 3)) and `audio`, if any.

    Values are in [0, 1], a waveform in [-1, 1].
    """
    video, sound = settings.augmentations
    draws_RK = arrays["draws"].flatten(0, 1) if "draws" in arrays else None
    video_BVCTHW = in_unit_range(arrays["video"])
    if draws_RK is not None:
        video_BVCTHW = apply_all(video, video_BVCTHW.flatten(0, 1), draws_RK).view(video_BVCTHW.shape)
    if settings.subtract_clip_mean:
        video_BVCTHW = video_BVCTHW - video_BVCTHW.mean(dim=3, keepdim=True)
    if settings.modality == "video":
        return {"video": video_BVCTHW}
    audio = arrays["audio"].flatten(0, 1)
    if draws_RK is not None:
        audio = apply_all(sound, audio, draws_RK[:, draws_width(video) :], within=(0, 1))
    if settings.audio == "waveform":  # (B V, T, H, W)
        audio_BCTHW = audio[:, None]
    else:  # (B V, H, W)
        audio_BCTHW = (magma(audio.flip(1)) if settings.audio_colours == "magma" else audio[:, None])[:, :, None]
    audio_BCTHW = audio_BCTHW.expand(-1, settings.audio_channels, settings.steps, -1, -1)
    return {"video": video_BVCTHW, "audio": audio_BCTHW.view(*arrays["audio"].shape[:2], *audio_BCTHW.shape[1:])}


def _changes(settings: Settings) -> tuple[Augmentation, ...]:
    """All augmentations on the device, of video and of audio."""
    video, audio = settings.augmentations
    return *video, *audio


def _step(meta: Meta, settings: Settings) -> float:
    """Stored frames between two frames of a clip."""
    return 1 if settings.rate is None else sampling.step_of(meta.fps, settings.rate)


def _resized(frames_THWC: Tensor, settings: Settings) -> Tensor:
    return crops.resized(frames_THWC, settings.resize_height, settings.resize_width)


def _audio(sample: Sample, settings: Settings, generator: np.random.Generator | None) -> Tensor:
    """Crop of a mel-spectrogram (H, W), or images of a waveform (T, H, W): float32; centered if nothing is random."""
    if settings.audio == "waveform":
        shape = (settings.steps, settings.mel_crop, settings.mel_crop)
        return torch.from_numpy(_window(sample, math.prod(shape), generator)).view(shape)
    if settings.audio == "mel":
        mel_FT = sample.mel().astype(np.float32)
    else:
        waveform = _window(sample, round(settings.window_seconds * SAMPLE_RATE), generator)
        mel_FT = mel_image(waveform, of_set(sample.dataset.mel))
    size = (settings.mel_resize, settings.mel_resize)
    image_HW = F.interpolate(torch.from_numpy(mel_FT)[None, None], size=size, mode="bilinear", antialias=True)[0, 0]
    image_THWC = image_HW[None, :, :, None]
    side = settings.mel_crop
    crop = crops.centre_crop(image_THWC, side) if generator is None else crops.random_crop(image_THWC, side, generator)
    return crop[0, :, :, 0]


def _window(sample: Sample, count: int, generator: np.random.Generator | None) -> np.ndarray:
    """Window of the track: float32 (count,); a shorter track is padded on both sides."""
    left = sample.meta.audio_samples - count
    first = int(generator.integers(left + 1)) if generator is not None and left > 0 else left // 2
    found = sample.waveform(first=max(first, 0), count=min(count, sample.meta.audio_samples))
    window = np.zeros(count, dtype=np.float32)
    window[max(-first, 0) :][: len(found)] = found
    return window
