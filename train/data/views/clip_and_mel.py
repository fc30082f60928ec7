"""AVCL's input (arXiv 2204.13386, section II.A): 16 consecutive frames, and the mel-spectrogram of the whole audio.

For the paper's Table I (docs/decisions/0005) the sound is a short window's mel-spectrogram, or the waveform itself.

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
"""Of one window: settings may come with a stranger's run, and claim any size."""
TIME_STEPS = 16
"""Of the audio under the layout `repeat16`."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How a sample becomes a pair of model inputs."""

    views: int = 1
    """Random renderings of a sample, each a clip and a crop of the sound, for methods that compare them."""
    frames: int = 16
    """Images of a clip."""
    start: Literal["random", "gop"] = "random"
    """Where a training clip begins: anywhere, or with one of the stored groups of 16 frames, which costs half the decoding."""
    rate: float | None = None
    """Images a second, for example 16 (AVID, CrissCross) or 30 (IICL); default: consecutive stored frames, as AVCL has it."""
    resize_height: int = 128
    """Pixels of a frame before the crop."""
    resize_width: int = 171
    """Pixels of a frame before the crop; the aspect is not kept (as in VCOP's code; AVCL's paper does not say)."""
    crop: int = 112
    """Pixels of the square crop, the same for all frames of a view."""
    audio: Literal["mel", "mel_window", "waveform"] = "mel"
    """The stored mel-spectrogram of the whole track, that of a short window, or the samples of a window as they are."""
    window_seconds: float = 1.2
    """Length of the window of mel_window (Table I); at random in training, else centred; a short track has silence around it."""
    mel_resize: int = 128
    """Pixels that the mel-spectrogram's both sides are brought to before its crop."""
    mel_crop: int = 112
    """Pixels of the mel-spectrogram's square crop; a waveform becomes images of this side, row by row."""
    audio_layout: Literal["repeat16", "single"] = "repeat16"
    """The mel-spectrogram repeated to 16 time steps, or one time step (not C3D); a waveform fills as many, one after another."""
    audio_channels: Literal[1, 3] = 3
    """Channels that the audio is repeated to, or the mel-spectrogram coloured with."""
    audio_colours: Literal["none", "magma"] = "none"
    """magma: colour the mel-spectrogram, low bands at the bottom, as AVCL's authors saved theirs (ks-shard --mel authors)."""
    video_augment: str = ""
    """Random changes of a training clip, separated by commas: multi_scale_crop, flip, and modules of augment/ such as
    colour_jitter,grey,gaussian_blur,cutout; in this order, the same for every frame."""
    audio_augment: str = ""
    """Of a training mel-spectrogram: volume_jitter,spec_mask,resize_crop,time_warp."""
    subtract_clip_mean: bool = False
    """Subtract each pixel's mean over the clip, so that what stands still is 0 (TCGL's code; not in AVCL's paper)."""
    decoder: str = "auto"
    """Which library decodes the frames; auto: the fastest that decodes right. The frames are the same."""

    def __post_init__(self) -> None:
        """Raise ValueError where there is nothing to see or a crop is larger than its image."""
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
        """What of `video_augment` is not done in the worker."""
        return device_augment(self.video_augment)

    @property
    def augmentations(self) -> tuple[tuple[Augmentation, ...], tuple[Augmentation, ...]]:
        """What is done on the device, of video and of audio."""
        video = find(self._device_augment, modality="video")
        return video, find(self.audio_augment, modality="audio")

    @property
    def steps(self) -> int:
        """Time steps of the audio."""
        return TIME_STEPS if self.audio_layout == "repeat16" else 1

    @property
    def sound(self) -> str:
        """The stored part that the audio is made of."""
        return layout.MEL if self.audio == "mel" else layout.AUDIO


def check(dataset: Dataset, settings: Settings) -> None:
    """Raise ShardError where the stored frames are smaller than the view needs, or a part is missing."""
    check_set(dataset, inputs(settings).parts, side=min(settings.resize_height, settings.resize_width))


def plain(settings: Settings) -> Settings:
    """The settings for a classifier of frozen features: random clips, crops and flips, and no other change."""
    return replace(settings, views=1, video_augment="flip", audio_augment="")


def inputs(settings: Settings) -> Inputs:
    """What the encoders take, and which parts of a sample it is made of."""
    return Inputs(
        views=settings.views,
        video=(3, settings.frames, settings.crop, settings.crop),
        audio=(settings.audio_channels, settings.steps, settings.mel_crop, settings.mel_crop),
        parts=(settings.sound, layout.META),
        reads_mel=settings.audio != "waveform",  # mel_window is made with the set's numbers
    )


def arrays(settings: Settings, clips: int | None = None) -> Arrays:
    """Shape and type of what one sample's `train_view` and `val_view` give, or its `eval_views` of so many clips."""
    video = (settings.frames, settings.crop, settings.crop, 3)
    image = (settings.mel_crop, settings.mel_crop)
    audio = (settings.steps, *image) if settings.audio == "waveform" else image
    found: Arrays = {
        "video": ((clips or settings.views, *video), torch.uint8),
        "audio": ((1 if clips else settings.views, *audio), torch.float32),
    }
    if clips is None and (chosen := _changes(settings)):
        found["draws"] = ((settings.views, draws_width(chosen)), torch.float32)
    return found


def train_view(sample: Sample, settings: Settings, generator: np.random.Generator) -> dict[str, Tensor]:
    """Random views: `video` uint8 (V, T, H, W, 3), `audio` float32 (V, H, W) in [0, 1], a waveform (V, T, H, W) in [-1, 1]."""
    made = [_random_view(sample, settings, generator) for _ in range(settings.views)]
    return {name: torch.stack([each[name] for each in made]) for name in made[0]}


def _random_view(sample: Sample, settings: Settings, generator: np.random.Generator) -> dict[str, Tensor]:
    """One of them."""
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
    found = {"video": video_THWC, "audio": _audio(sample, settings, generator)}
    if chosen := _changes(settings):
        found["draws"] = draw_all(chosen, generator)
    return found


def val_view(sample: Sample, settings: Settings) -> dict[str, Tensor]:
    """As `train_view`, with nothing random: evenly spaced clips, centre crops, and the same sound in each view."""
    found = eval_views(sample, settings, settings.views)
    made = {"video": found["video"], "audio": found["audio"].expand(settings.views, *found["audio"].shape[1:])}
    if chosen := _changes(settings):
        made["draws"] = torch.zeros(settings.views, draws_width(chosen))
    return made


def eval_views(sample: Sample, settings: Settings, clips: int) -> dict[str, Tensor]:
    """Evenly spaced clips, centre crops: `video` uint8 (clips, T, H, W, 3) and one `audio` (1, ...), centred.

    Centres of the clips lie at linspace(L/2, length - L/2, clips) for clips of L frames; one clip is the middle.
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
    return {"video": video, "audio": _audio(sample, settings, None)[None]}


def augment(arrays: Mapping[str, Tensor], settings: Settings) -> dict[str, Tensor]:
    """What the encoders take: float32 (B, V, C, T, H, W) for `video` (from uint8 (B, V, T, H, W, 3)) and `audio`.

    In [0, 1], but a waveform is in [-1, 1].
    """
    video_BVCTHW = in_unit_range(arrays["video"])
    audio = arrays["audio"].flatten(0, 1)
    if "draws" in arrays:
        video, sound = settings.augmentations
        draws_RK = arrays["draws"].flatten(0, 1)
        changed = apply_all(video, video_BVCTHW.flatten(0, 1), draws_RK)
        video_BVCTHW = changed.view(video_BVCTHW.shape)
        audio = apply_all(sound, audio, draws_RK[:, draws_width(video) :], within=(0, 1))
    if settings.subtract_clip_mean:
        video_BVCTHW = video_BVCTHW - video_BVCTHW.mean(dim=3, keepdim=True)
    if settings.audio == "waveform":  # (B V, T, H, W)
        audio_BCTHW = audio[:, None]
    else:  # (B V, H, W)
        audio_BCTHW = (magma(audio.flip(1)) if settings.audio_colours == "magma" else audio[:, None])[:, :, None]
    audio_BCTHW = audio_BCTHW.expand(-1, settings.audio_channels, settings.steps, -1, -1)
    return {"video": video_BVCTHW, "audio": audio_BCTHW.view(*arrays["audio"].shape[:2], *audio_BCTHW.shape[1:])}


def _changes(settings: Settings) -> tuple[Augmentation, ...]:
    """All that is done on the device, of video and then of audio."""
    video, audio = settings.augmentations
    return *video, *audio


def _step(meta: Meta, settings: Settings) -> float:
    """Stored frames from one image of a clip to the next."""
    return 1 if settings.rate is None else sampling.step_of(meta.fps, settings.rate)


def _resized(frames_THWC: Tensor, settings: Settings) -> Tensor:
    return crops.resized(frames_THWC, settings.resize_height, settings.resize_width)


def _audio(sample: Sample, settings: Settings, generator: np.random.Generator | None) -> Tensor:
    """A mel-spectrogram's crop (H, W), or a waveform's images (T, H, W): float32; centred where nothing is random."""
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
    """So many samples of the track: float32, shape (count,); a track that is shorter stands whole in the middle of zeros."""
    left = sample.meta.audio_samples - count
    first = int(generator.integers(left + 1)) if generator is not None and left > 0 else left // 2
    found = sample.waveform(first=max(first, 0), count=min(count, sample.meta.audio_samples))
    window = np.zeros(count, dtype=np.float32)
    window[max(-first, 0) :][: len(found)] = found
    return window
