"""Mel-spectrogram image of a whole audio track (presets `paper` and `authors`: docs/decisions/0005).

Its bytes are the same on every x86-64 CPU: pocketfft and the sparse product are plain compiled loops, and the logarithm, whose
last bit may differ, is taken in float64 and stored as float16.
"""

import dataclasses
import functools
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from types import MappingProxyType
from typing import Any

import numpy as np

from ..errors import MediaError
from .mel_filters import mel_filters
from .spectrogram import hann

BLOCK = 128
"""Columns transformed at a time: their spectra fit into the CPU's cache, which halves the time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mel:
    """Parameters of the mel-spectrogram image; the defaults are the `paper` preset.

    The paper's parameters (10 ms window and hop, 256 bands, 256 columns, whole audio) contradict each other: a 10 ms window has
    121 frequencies, and 10 s have 1,001 columns. Zero-padding to `n_fft` 2048 is the smallest power of two without empty bands,
    and pooling the time axis keeps the stated window and hop.
    """

    sample_rate: int = 24_000
    """Sample rate in hertz."""
    win_length: int = 240
    """Length of the Hann window in samples: 10 ms at 24 kHz."""
    hop_length: int = 240
    """Samples between columns before pooling: 10 ms at 24 kHz."""
    n_fft: int = 2048
    """FFT size in samples, after zero-padding."""
    bands: int = 256
    """Number of mel bands (Slaney scale) from 0 Hz to half the sample rate."""
    columns: int = 256
    """Number of time columns after adaptive average pooling."""
    range_db: float = 80.0
    """Dynamic range of the image in decibels: the loudest value is 1, 0 lies this far below."""
    floor_db: float | None = -60.0
    """Minimum of the reference level, as the level of a tone in dBFS: silence stays 0. None: the reference is the track's
    loudest value, however soft."""
    least_power: float = 0.0
    """Lower bound of the power."""
    stretch: bool = False
    """Whether to map the track's own minimum and maximum to 0 and 1; a track without contrast becomes 0."""


PRESETS: Mapping[str, Mel] = MappingProxyType(
    {
        "paper": Mel(),
        "authors": Mel(win_length=1024, hop_length=512, floor_db=None, least_power=1e-10, stretch=True),
    }
)
"""Parameters of the paper's text, and of its authors' scripts (librosa's `power_to_db(ref=max)`, then min-max scaling)."""


def of_set(told: Mapping[str, Any]) -> Mel:
    """Parameters recorded in a shard set's `dataset.json`; missing ones are taken from its preset.

    Raises MediaError for values that no set of ours has.
    """
    names = {field.name for field in dataclasses.fields(Mel)}
    numbers = {name: value for name, value in told.items() if name in names}
    for name, value in numbers.items():
        if not _can_be(name, value):
            raise MediaError(
                f"the set's mel-spectrogram has {name} {str(value)[:40]}; make the set again with ks-shard"
            )
    return dataclasses.replace(PRESETS.get(told.get("preset", ""), Mel()), **numbers)


_RANGES = {
    "sample_rate": (1_000, 192_000),
    "win_length": (2, 1 << 16),
    "hop_length": (32, 1 << 16),
    "n_fft": (1, 1 << 16),
    "bands": (1, 1 << 12),
    "columns": (1, 1 << 16),
}
"""Valid ranges of the integers: an untrusted set may claim anything."""


def _can_be(name: str, value: object) -> bool:
    """Whether a set may have this value."""
    if name in _RANGES:
        least, most = _RANGES[name]
        return type(value) is int and least <= value <= most
    if name == "stretch":
        return isinstance(value, bool)
    return (name == "floor_db" and value is None) or (type(value) in (int, float) and abs(value) <= 1e6)  # type: ignore[arg-type]


def versions() -> dict[str, str]:
    """Versions of the libraries that determine the image's bytes."""
    return {name: version(name) for name in ("librosa", "numpy", "scipy")}


def mel_image(waveform: np.ndarray, mel: Mel) -> np.ndarray:
    """Mel-spectrogram image of a mono float32 waveform: float32 in [0, 1], shape (bands, columns), low bands first, C order.

    The loudest band and column of the track (or the floor, if louder) is 1, values `range_db` below it are 0.
    """
    power_FT = np.maximum(power(waveform, mel).astype(np.float64), mel.least_power)
    reference = max(float(power_FT.max()), floor_power(mel))
    if reference == 0:
        return np.zeros((mel.bands, mel.columns), dtype=np.float32)
    decibels_FT = 10 * np.log10(np.maximum(power_FT / reference, 10 ** (-mel.range_db / 10)))
    bright_FT = decibels_FT / mel.range_db + 1
    if mel.stretch:
        least, most = bright_FT.min(), bright_FT.max()
        bright_FT = (bright_FT - least) / (most - least) if most > least else np.zeros_like(bright_FT)
    image: np.ndarray = np.clip(adaptive_mean(bright_FT, mel.columns), 0, 1).astype(np.float32, order="C")
    return image


def power(waveform: np.ndarray, mel: Mel) -> np.ndarray:
    """Power per band: float32, shape (bands, time); column t is centred on sample t * hop_length."""
    import scipy.fft

    missing = max(mel.win_length - waveform.size, 0)
    half = mel.win_length // 2  # where in the n_fft samples the window lies does not change the power
    padded = np.pad(waveform.astype(np.float32, copy=False), (half, half + missing))
    windows_TW = np.lib.stride_tricks.sliding_window_view(padded, mel.win_length)[:: mel.hop_length]
    window, filters_FK = hann(mel.win_length), mel_filters(mel.sample_rate, mel.n_fft, mel.bands)
    blocks = []
    for first in range(0, len(windows_TW), BLOCK):
        spectrum_TK = scipy.fft.rfft(windows_TW[first : first + BLOCK] * window, n=mel.n_fft, axis=1)
        blocks.append(filters_FK @ (spectrum_TK.real**2 + spectrum_TK.imag**2).T)
    return np.concatenate(blocks, axis=1)


@functools.lru_cache(maxsize=8)
def floor_power(mel: Mel) -> float:
    """Power of a 1 kHz tone at `floor_db` in its band; 0 without a floor."""
    if mel.floor_db is None:
        return 0.0
    seconds = np.arange(mel.sample_rate) / mel.sample_rate  # float64: the last bits of a float32 sine depend on the CPU
    tone = 10 ** (mel.floor_db / 20) * np.sin(2 * np.pi * 1000 * seconds)
    return float(power(tone.astype(np.float32), mel).max())


def adaptive_mean(image_FT: np.ndarray, columns: int) -> np.ndarray:
    """Adaptive average pooling of the last axis of shape (bands, time) to `columns` columns."""
    time = image_FT.shape[1]
    starts = np.arange(columns) * time // columns
    ends = -(-(np.arange(1, columns + 1) * time) // columns)
    sums_FT = np.concatenate([np.zeros_like(image_FT[:, :1]), np.cumsum(image_FT, axis=1, dtype=np.float64)], axis=1)
    pooled: np.ndarray = (sums_FT[:, ends] - sums_FT[:, starts]) / (ends - starts)
    return pooled
