"""The whole audio track as one mel-spectrogram image (methods 1.4, preset `paper`)."""

import functools
from dataclasses import dataclass
from importlib.metadata import version

import librosa
import numpy as np
import scipy.sparse


@dataclass(frozen=True, slots=True, kw_only=True)
class Mel:
    """How audio becomes an image; the defaults are the `paper` preset.

    The paper's text (10 ms window and hop, 256 bands, 256 columns, whole audio) is not self-consistent: a 10 ms window
    has 121 frequencies, and 10 s have 1,001 columns. Zero-padding to `n_fft` 2048 is the smallest power of two that leaves
    no band empty, and pooling the time axis keeps the stated window and hop.
    """

    sample_rate: int = 24_000
    """Hertz."""
    win_length: int = 240
    """Samples of the Hann window: 10 ms at 24 kHz."""
    hop_length: int = 240
    """Samples between columns before pooling: 10 ms at 24 kHz."""
    n_fft: int = 2048
    """Samples after zero padding."""
    bands: int = 256
    """Mel bands (Slaney scale) from 0 Hz to half the sample rate."""
    columns: int = 256
    """Time columns after adaptive average pooling."""
    range_db: float = 80.0
    """Decibels from the loudest value down to 0 in the image."""
    floor_db: float = -60.0
    """Level of a tone, in decibels under full scale, below which the reference does not sink: silence stays 0."""


def versions() -> str:
    """What the image's bytes depend on besides the sound."""
    return "; ".join(f"{name} {version(name)}" for name in ("librosa", "numpy", "scipy"))


def mel_image(waveform: np.ndarray, mel: Mel) -> np.ndarray:
    """Image in [0, 1] of a mono waveform: float32, shape (bands, columns), low bands first.

    1 is the loudest band and column of the track (or the floor, if that is louder), 0 lies `range_db` under it.
    """
    power_FT = _power(waveform, mel)
    relative_FT = power_FT / max(float(power_FT.max()), _floor_power(mel))
    decibels_FT = 10 * np.log10(np.maximum(relative_FT, 10 ** (-mel.range_db / 10)))
    image_FT = adaptive_mean(decibels_FT / mel.range_db + 1, mel.columns)
    image: np.ndarray = np.clip(image_FT, 0, 1).astype(np.float32)
    return image


def _power(waveform: np.ndarray, mel: Mel) -> np.ndarray:
    missing = max(mel.win_length - waveform.size, 0)
    half = mel.n_fft // 2  # centres the columns; librosa does the same, but warns of a sound shorter than n_fft
    spectrum_KT = librosa.stft(
        np.pad(waveform, (half, half + missing)),
        n_fft=mel.n_fft,
        win_length=mel.win_length,
        hop_length=mel.hop_length,
        center=False,
    )
    power_KT = spectrum_KT.real.astype(np.float64) ** 2 + spectrum_KT.imag.astype(np.float64) ** 2
    power_FT: np.ndarray = _filters(mel) @ power_KT
    return power_FT


@functools.lru_cache(maxsize=8)
def _filters(mel: Mel) -> scipy.sparse.csr_array:
    """The mel filters, shape (bands, frequencies); sparse, since a dense product's bytes depend on the CPU's BLAS."""
    return scipy.sparse.csr_array(
        librosa.filters.mel(  # type: ignore[attr-defined]
            sr=mel.sample_rate, n_fft=mel.n_fft, n_mels=mel.bands, fmin=0.0, fmax=mel.sample_rate / 2
        )
    )


@functools.lru_cache(maxsize=8)
def _floor_power(mel: Mel) -> float:
    """Power that a 1 kHz tone at `floor_db` has in its band."""
    seconds = np.arange(mel.sample_rate, dtype=np.float32) / mel.sample_rate
    tone = 10 ** (mel.floor_db / 20) * np.sin(2 * np.pi * 1000 * seconds)
    return float(_power(tone.astype(np.float32), mel).max())


def adaptive_mean(image_FT: np.ndarray, columns: int) -> np.ndarray:
    """Pool the last axis of shape (bands, time) to `columns` means over equal, at most one step overlapping, spans."""
    time = image_FT.shape[1]
    starts = np.arange(columns) * time // columns
    ends = -(-(np.arange(1, columns + 1) * time) // columns)
    sums_FT = np.concatenate([np.zeros_like(image_FT[:, :1]), np.cumsum(image_FT, axis=1, dtype=np.float64)], axis=1)
    pooled: np.ndarray = (sums_FT[:, ends] - sums_FT[:, starts]) / (ends - starts)
    return pooled
