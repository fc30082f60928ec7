"""Features of sounds that come without pictures: evenly spaced windows as in evaluation, random clips as in training.

Shape suffixes: K windows or clips of a recording, D feature channels.
"""

import zlib
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from .encoders import Encoders
from .features import Kind, encode

BATCH = 64
"""Random clips per forward pass."""


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
    inputs = [encoders.preprocess(encoders.sound_alone(waveform))["audio"] for waveform in waveforms]
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
            made.append(view.train_view(encoders.sound_alone(clip), view_settings, generator))
        arrays = {name: torch.stack([each[name] for each in made]).to(encoders.device) for name in made[0]}
        inputs = view.augment(arrays, view_settings)["audio"][:, 0]
        found.append(encode(encoders.audio, inputs, kind=kind, time_first=time_first, layer=layer).cpu())
    return torch.cat(found)
