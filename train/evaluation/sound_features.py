"""Features of sounds that come without pictures: evenly spaced windows as in evaluation, random clips as in training.

Shape suffixes: K windows or clips of a recording, D feature channels.
"""

import zlib
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from kinetics_sounds.shards import layout

from .encoders import Encoders, RawClip
from .features import Kind, encode

BATCH = 64
"""Random clips per forward pass."""
FPS = 25.0
"""Frame rate of the black frames that accompany a sound, for views that place it in a video."""


def windows(waveform: np.ndarray, count: int, *, length: int | None) -> list[np.ndarray]:
    """`count` evenly spaced windows of `length` samples, from start to end; a single one is the middle.

    With `length` None, or for a recording that is not longer, each window is the whole recording.
    """
    room = 0 if length is None else max(0, len(waveform) - length)
    end = None if length is None else length
    starts = [room // 2] if count == 1 else [room * place // (count - 1) for place in range(count)]
    return [waveform[start : None if end is None else start + end] for start in starts]


@torch.no_grad()
def encode_sound(encoders: Encoders, waveforms: Sequence[np.ndarray], *, kind: Kind, layer: str = "conv5") -> Tensor:
    """Features of waveforms, mono float32 at the mel's sample rate: float32 (K, D).

    Each is rendered by the run's view as in evaluation, with black frames.
    """
    inputs = [encoders.preprocess(_dark(encoders, waveform))["audio"] for waveform in waveforms]
    first = encoders.view.inputs(encoders.view_settings).audio_time_first
    return encode(encoders.audio, torch.cat(inputs), kind=kind, time_first=first, layer=layer).cpu()


@torch.no_grad()
def encode_random(
    encoders: Encoders,
    waveform: np.ndarray,
    *,
    clips: int,
    length: int | None,
    seed: int,
    kind: Kind,
    layer: str = "conv5",
) -> Tensor:
    """Features of random clips of a waveform, each rendered by the run's view as in training: float32 (K, D).

    The clips lie in random windows of `length` samples, None: in all of it; they are a function of the seed and the waveform.
    """
    generator = np.random.default_rng([seed, zlib.crc32(waveform.tobytes())])
    view, view_settings = encoders.view, encoders.view_settings
    time_first = view.inputs(view_settings).audio_time_first
    room = 0 if length is None else max(0, len(waveform) - length)
    found = []
    for first in range(0, clips, BATCH):
        made = []
        for _ in range(min(BATCH, clips - first)):
            start = int(generator.integers(room + 1))
            clip = waveform[start : None if length is None else start + length]
            made.append(view.train_view(_dark(encoders, clip), view_settings, generator))
        arrays = {name: torch.stack([each[name] for each in made]).to(encoders.device) for name in made[0]}
        inputs = view.augment(arrays, view_settings)["audio"][:, 0]
        found.append(encode(encoders.audio, inputs, kind=kind, time_first=time_first, layer=layer).cpu())
    return torch.cat(found)


def _dark(encoders: Encoders, waveform: np.ndarray) -> RawClip:
    frames = max(1, round(len(waveform) / encoders.mel.sample_rate * FPS))
    parts = encoders.view.inputs(encoders.view_settings).parts
    black_THWC = np.broadcast_to(np.zeros((1, 16, 16, 3), dtype=np.uint8), (frames, 16, 16, 3))
    return RawClip(
        frames_THWC=black_THWC,
        fps=FPS,
        mel_FT=encoders.mel_image(waveform) if layout.MEL in parts else None,
        sound=waveform,
        of=encoders.dataset,
        key="a sound",
    )
