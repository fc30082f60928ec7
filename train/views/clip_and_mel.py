"""AVCL's input (methods 1.3, 1.4): 16 consecutive frames, and the mel-spectrogram of the whole audio.

Shapes: B batch, C channels, T time, H W pixels, F mel bands.
"""

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from kinetics_sounds.errors import ShardError
from kinetics_sounds.media.frames import Decoder, decode
from kinetics_sounds.shards import layout
from kinetics_sounds.shards.index import Dataset

PARTS = (layout.FRAMES, layout.MEL, layout.META)
"""What is read of a sample."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How a sample becomes a pair of model inputs."""

    frames: int = 16
    """Consecutive frames at the stored rate, from a random start."""
    resize_height: int = 128
    """Pixels of a frame before the crop."""
    resize_width: int = 171
    """Pixels of a frame before the crop; the aspect is not kept (methods 1.3)."""
    crop: int = 112
    """Pixels of the square crop, the same for all frames of a view."""
    mel_resize: int = 128
    """Pixels that the mel-spectrogram's both sides are brought to before its crop."""
    mel_crop: int = 112
    """Pixels of the mel-spectrogram's square crop."""
    audio_layout: Literal["repeat16", "single"] = "repeat16"
    """The mel-spectrogram repeated to as many time steps as there are frames, or one time step (R3D only)."""
    audio_channels: Literal[1, 3] = 3
    """Channels that the mel-spectrogram is repeated to."""
    subtract_clip_mean: bool = False
    """Subtract each pixel's mean over the clip, so that what stands still is 0 (TCGL's code; not in AVCL's paper)."""
    decoder: Decoder = "auto"
    """Which library decodes the frames: decord, pyav, or auto: decord, and PyAV where it fails."""

    def __post_init__(self) -> None:
        """Raise ValueError where there is nothing to see or a crop is larger than its image."""
        if self.frames < 1 or self.crop < 1 or self.mel_crop < 1:
            raise ValueError("frames, crop and mel_crop must be at least 1")
        if self.crop > min(self.resize_height, self.resize_width):
            raise ValueError(f"crop {self.crop} is larger than {self.resize_height} x {self.resize_width} pixels")
        if self.mel_crop > self.mel_resize:
            raise ValueError(f"mel_crop {self.mel_crop} is larger than mel_resize {self.mel_resize}")


def check(dataset: Dataset, settings: Settings) -> None:
    """Raise ShardError where the stored frames are smaller than the view needs, or a part is missing."""
    side = dataset.frames["short_side"]
    needed = min(settings.resize_height, settings.resize_width)
    if side < needed:
        raise ShardError(
            f"the shards' frames have a short side of {side}, the view needs {needed}: ks-shard --short_side {needed}"
        )
    missing = [part for part in PARTS if part not in dataset.parts]
    if missing:
        raise ShardError(
            f"the shards have no {', '.join(missing)}, which the view reads; make them again with ks-shard"
        )


def train_view(parts: Mapping[str, bytes], settings: Settings, generator: np.random.Generator) -> dict[str, Tensor]:
    """One random view: `video` uint8 (T, H, W, 3) and `audio` float32 (H, W) in [0, 1]."""
    length = int(json.loads(parts[layout.META])["num_frames"])
    start = int(generator.integers(max(length - settings.frames, 0) + 1))
    numbers = [number % length for number in range(start, start + settings.frames)]
    clip_THWC = _resized(decode(parts[layout.FRAMES], numbers, decoder=settings.decoder), settings)
    mel_FT = _mel(parts, settings)
    return {
        "video": _random_crop(clip_THWC, settings.crop, generator),
        "audio": _random_crop(mel_FT[None, :, :, None], settings.mel_crop, generator)[0, :, :, 0],
    }


def test_views(parts: Mapping[str, bytes], settings: Settings, clips: int) -> dict[str, Tensor]:
    """Evenly spaced views, centre crops: `video` uint8 (clips, T, H, W, 3) and `audio` float32 (H, W).

    Starts follow methods 6.2: centres at linspace(L/2, length - L/2, clips) for clips of L frames; one clip is the middle.
    """
    length, long = int(json.loads(parts[layout.META])["num_frames"]), settings.frames
    last = max(length - long, 0)
    starts = [last * place // (clips - 1) for place in range(clips)] if clips > 1 else [last // 2]
    numbers = [(start + step) % length for start in starts for step in range(long)]
    distinct = sorted(set(numbers))
    decoded = _resized(decode(parts[layout.FRAMES], distinct, decoder=settings.decoder), settings)
    video = _centre_crop(decoded, settings.crop)[np.searchsorted(distinct, numbers)]
    mel_FT = _mel(parts, settings)
    return {
        "video": video.reshape(clips, long, *video.shape[1:]),
        "audio": _centre_crop(mel_FT[None, :, :, None], settings.mel_crop)[0, :, :, 0],
    }


def to_model(batch: Mapping[str, Tensor], settings: Settings) -> dict[str, Tensor]:
    """What the encoders take: float32 (B, C, T, H, W) for `video` (from uint8 (B, T, H, W, 3)) and `audio`, in [0, 1]."""
    video_BCTHW = batch["video"].permute(0, 4, 1, 2, 3).float() / 255
    if settings.subtract_clip_mean:
        video_BCTHW = video_BCTHW - video_BCTHW.mean(dim=2, keepdim=True)
    steps = settings.frames if settings.audio_layout == "repeat16" else 1
    audio_BHW = batch["audio"]
    audio_BCTHW = audio_BHW[:, None, None].expand(-1, settings.audio_channels, steps, -1, -1)
    return {"video": video_BCTHW, "audio": audio_BCTHW}


def _resized(frames_THWC: np.ndarray, settings: Settings) -> Tensor:
    """Every frame squashed to the same size, antialiased: uint8 (T, H, W, 3)."""
    clip = torch.from_numpy(frames_THWC)
    size = (settings.resize_height, settings.resize_width)
    if tuple(clip.shape[1:3]) == size:
        return clip
    resized = F.interpolate(clip.permute(0, 3, 1, 2), size=size, mode="bilinear", antialias=True)
    return resized.permute(0, 2, 3, 1)


def _mel(parts: Mapping[str, bytes], settings: Settings) -> Tensor:
    """The stored image brought to `mel_resize`: float32 (H, W), low bands first."""
    stored = np.load(io.BytesIO(parts[layout.MEL]), allow_pickle=False)
    mel_FT = torch.from_numpy(stored).float()
    size = (settings.mel_resize, settings.mel_resize)
    return F.interpolate(mel_FT[None, None], size=size, mode="bilinear", antialias=True)[0, 0]


def _random_crop(images_THWC: Tensor, side: int, generator: np.random.Generator) -> Tensor:
    """The same square of every image; drawn once, so that a still clip stays still."""
    top, left = (int(generator.integers(size - side + 1)) for size in images_THWC.shape[1:3])
    return images_THWC[:, top : top + side, left : left + side].contiguous()


def _centre_crop(images_THWC: Tensor, side: int) -> Tensor:
    top, left = ((size - side) // 2 for size in images_THWC.shape[1:3])
    return images_THWC[:, top : top + side, left : left + side].contiguous()
