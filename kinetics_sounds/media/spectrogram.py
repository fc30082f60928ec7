"""The log power spectrogram of a short window of sound, as AVID has it (arXiv 2004.12943, section 4.1, and its code).

Shape suffixes: T columns, N samples of a transform, K frequencies, F bins.
"""

import math
from dataclasses import dataclass

import numpy as np

from ..sampling import SAMPLE_RATE

FLOOR, FLOOR_DB, RANGE_DB = 1e-10, -100.0, 100.0
"""Least power that is told apart, the same in decibels, and how far under the loudest value of a window they reach."""
MOST_N_FFT, MOST_SECONDS, MOST_NUMBERS = 4096, 3600, 2**26
"""Of one window: settings may come with a stranger's run, and claim any size."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Spectrogram:
    """How a window of 24 kHz sound becomes an image of time by frequency; the defaults are those of AVID's main study."""

    window_seconds: float = 2.0
    """Length of the window."""
    n_fft: int = 1024
    """Samples of a transform, under a Hann window; a multiple of 4."""
    hop_seconds: float = 0.01
    """From one column to the next."""

    def __post_init__(self) -> None:
        """Raise ValueError where there is nothing to hear, or more than memory is for."""
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
        """Of a window."""
        return round(self.window_seconds * SAMPLE_RATE)

    @property
    def hop(self) -> int:
        """Samples from one column to the next."""
        return round(self.hop_seconds * SAMPLE_RATE)

    @property
    def columns(self) -> int:
        """Of a window; what begins after its end is left out."""
        return self.samples // self.hop

    @property
    def bins(self) -> int:
        """Frequencies: the mean, and then pairs."""
        return self.n_fft // 4 + 1


def log_spectrogram(waveform: np.ndarray, numbers: Spectrogram) -> np.ndarray:
    """Decibels of a mono float32 window at full scale 1: float32, shape (columns, bins), low frequencies first.

    Column t is centred on sample t * hop; the sound is mirrored at the window's ends, and one that is shorter than the window
    has silence after it. The mean stands alone, of other frequencies two neighbours' powers are averaged. No value lies more
    than 100 dB under the loudest.
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
    """At least `count` samples: those of a shorter sound, and zeros after them."""
    missing = count - len(waveform)
    return np.pad(waveform, (0, missing)) if missing > 0 else waveform


def covering_starts(length: int, count: int) -> list[int]:
    """First samples of as many evenly spaced windows of `count` samples as cover a track of `length`; one where it is shorter."""
    windows = max(1, math.ceil(length / count))
    return [(length - count) * place // (windows - 1) for place in range(windows)] if windows > 1 else [0]


def hann(size: int) -> np.ndarray:
    """A periodic Hann window: float32, shape (size,)."""
    window: np.ndarray = (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(size) / size)).astype(np.float32)
    return window
