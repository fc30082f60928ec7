"""Log power spectrogram of a short window of audio, as in AVID (arXiv 2004.12943, section 4.1, and its code).

Shape suffixes: T columns, N samples of an FFT, K frequencies, F bins.
"""

import math
from dataclasses import dataclass

import numpy as np

from ..sampling import SAMPLE_RATE

FLOOR, FLOOR_DB, RANGE_DB = 1e-10, -100.0, 100.0
"""Minimum power, the same in decibels, and the dynamic range below the loudest value of a window."""
MOST_N_FFT, MOST_SECONDS, MOST_NUMBERS = 4096, 3600, 2**26
"""Upper limits of a window: the parameters may come from an untrusted run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Spectrogram:
    """Parameters of a spectrogram of a 24 kHz window; the defaults are those of AVID's main study."""

    window_seconds: float = 2.0
    """Length of the window in seconds."""
    n_fft: int = 1024
    """FFT size in samples, under a Hann window; a multiple of 4."""
    hop_seconds: float = 0.01
    """Hop between columns in seconds."""

    def __post_init__(self) -> None:
        """Raise ValueError for an empty window or one that is too large for memory."""
        if not 4 <= self.n_fft <= MOST_N_FFT or self.n_fft % 4:
            raise ValueError(f"n_fft {self.n_fft} must be a multiple of 4 up to {MOST_N_FFT}")
        if not 1 / SAMPLE_RATE <= self.hop_seconds <= self.window_seconds <= MOST_SECONDS:
            raise ValueError(
                f"hop_seconds {self.hop_seconds} must be more than 0 and no more than window_seconds {self.window_seconds}, "
                f"of up to {MOST_SECONDS}"
            )
        if self.columns * self.n_fft > MOST_NUMBERS:
            raise ValueError(
                f"hop_seconds {self.hop_seconds} gives {self.columns} columns, which is larger than any sound"
            )

    @property
    def samples(self) -> int:
        """Samples of a window."""
        return round(self.window_seconds * SAMPLE_RATE)

    @property
    def hop(self) -> int:
        """Samples between columns."""
        return round(self.hop_seconds * SAMPLE_RATE)

    @property
    def columns(self) -> int:
        """Number of columns of a window; those that begin after its end are left out."""
        return self.samples // self.hop

    @property
    def bins(self) -> int:
        """Number of frequency bins: the DC term, then pairs of frequencies."""
        return self.n_fft // 4 + 1


def log_spectrogram(waveform: np.ndarray, numbers: Spectrogram) -> np.ndarray:
    """Spectrogram in decibels of a mono float32 window with full scale 1: float32, shape (columns, bins), low frequencies first.

    Column t is centred on sample t * hop; the audio is reflected at the window's ends; shorter audio is padded with silence. The
    DC term is its own bin; the other bins average the power of two neighbouring frequencies. No value is more than 100 dB below
    the loudest.
    """
    import scipy.fft

    size = numbers.n_fft
    sound = in_silence(waveform, numbers.samples).astype(np.float32, copy=False)
    padded = np.pad(sound, size // 2, mode="reflect")
    windows_TN = np.lib.stride_tricks.sliding_window_view(padded, size)[:: numbers.hop][: numbers.columns]
    spectrum_TK = scipy.fft.rfft(windows_TN * hann(size), axis=1)
    power_TK = spectrum_TK.real**2 + spectrum_TK.imag**2
    pairs_TF = power_TK[:, 1:].reshape(len(power_TK), -1, 2).mean(axis=2)
    decibels_TF = 10 * np.log10(np.maximum(np.concatenate([power_TK[:, :1], pairs_TF], axis=1), FLOOR))
    found: np.ndarray = np.maximum(decibels_TF, max(decibels_TF.max() - RANGE_DB, FLOOR_DB))
    return found


def in_silence(waveform: np.ndarray, count: int) -> np.ndarray:
    """Pad a waveform with zeros to at least `count` samples."""
    missing = count - len(waveform)
    return np.pad(waveform, (0, missing)) if missing > 0 else waveform


def covering_starts(length: int, count: int) -> list[int]:
    """First samples of evenly spaced windows of `count` samples that cover a track of `length`; a single one if shorter."""
    windows = max(1, math.ceil(length / count))
    return [(length - count) * place // (windows - 1) for place in range(windows)] if windows > 1 else [0]


def hann(size: int) -> np.ndarray:
    """A periodic Hann window: float32, shape (size,)."""
    window: np.ndarray = (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(size) / size)).astype(np.float32)
    return window
