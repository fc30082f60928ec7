"""The log-mel spectrogram of a short window of resampled sound, as CrissCross has it (arXiv 2111.05329, and its code), and IICL.

Shape suffixes: T columns, N samples of a transform, K frequencies, F mel bands.
"""

import functools
from dataclasses import dataclass

import numpy as np

from ..sampling import SAMPLE_RATE
from .mel_filters import mel_filters
from .resample import resampled
from .spectrogram import MOST_N_FFT, MOST_NUMBERS, MOST_SECONDS, hann, in_silence

RATES = (1_000, 192_000)
"""Hertz that a sound may be resampled to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LogMel:
    """How a window of 24 kHz sound becomes an image of mel bands by time; the defaults are CrissCross's."""

    window_seconds: float = 2.0
    """Length of the window."""
    sample_rate: int = 16_000
    """Hertz that the sound is resampled to; mel bands (Slaney's) reach from 0 to half of it."""
    n_fft: int = 1024
    """Samples of a transform."""
    frame_seconds: float = 0.064
    """Length of the Hann window in the middle of a transform: 1,024 samples at 16 kHz."""
    hop_seconds: float = 0.01
    """From one column to the next."""
    bands: int = 80
    """Mel bands."""
    epsilon: float = 1.19e-7
    """Added to the power before its natural logarithm."""

    def __post_init__(self) -> None:
        """Raise ValueError where there is nothing to hear, or more than memory is for."""
        if not RATES[0] <= self.sample_rate <= RATES[1]:
            raise ValueError(f"sample_rate {self.sample_rate} must be from {RATES[0]} to {RATES[1]}")
        if not 4 <= self.n_fft <= MOST_N_FFT or self.n_fft % 2:
            raise ValueError(f"n_fft {self.n_fft} must be even, from 4 to {MOST_N_FFT}")
        if not 1 <= self.bands <= self.n_fft // 2:
            raise ValueError(f"bands {self.bands} must be from 1 to half of n_fft, {self.n_fft // 2}")
        if not 1 <= self.frame_seconds * self.sample_rate <= self.n_fft:
            longest = self.n_fft / self.sample_rate
            raise ValueError(
                f"frame_seconds {self.frame_seconds} must be more than 0 and no longer than n_fft, {longest:g} s"
            )
        if not 1 / self.sample_rate <= self.hop_seconds <= self.window_seconds <= MOST_SECONDS:
            raise ValueError(
                f"hop_seconds {self.hop_seconds} must be more than 0 and no more than window_seconds {self.window_seconds}, "
                f"of up to {MOST_SECONDS}"
            )
        if self.columns * self.n_fft > MOST_NUMBERS:
            raise ValueError(
                f"hop_seconds {self.hop_seconds} gives {self.columns} columns, which is larger than any sound"
            )
        if not 0 < self.epsilon < 1:
            raise ValueError(f"epsilon {self.epsilon} must be between 0 and 1")

    @property
    def samples(self) -> int:
        """Of a window as it is stored, at 24 kHz."""
        return round(self.window_seconds * SAMPLE_RATE)

    @property
    def hop(self) -> int:
        """Samples at `sample_rate` from one column to the next."""
        return round(self.hop_seconds * self.sample_rate)

    @property
    def columns(self) -> int:
        """Of a window; the last is centred on its end where hops fit it exactly."""
        return round(self.window_seconds * self.sample_rate) // self.hop + 1

    @property
    def bins(self) -> int:
        """Mel bands."""
        return self.bands


def log_mel(waveform: np.ndarray, numbers: LogMel) -> np.ndarray:
    """log(power + epsilon) of a mono 24 kHz window at full scale 1: float32, shape (bands, columns), low bands first.

    Column t is centred on sample t * hop; the sound is mirrored at the window's ends, and one that is shorter than the window
    has silence after it.
    """
    import scipy.fft

    size, length = numbers.n_fft, round(numbers.window_seconds * numbers.sample_rate)
    stored = in_silence(waveform, numbers.samples)[: numbers.samples].astype(np.float32, copy=False)
    sound = in_silence(resampled(stored, rate=SAMPLE_RATE, to=numbers.sample_rate), length)[:length]
    padded = np.pad(sound, size // 2, mode="reflect")
    windows_TN = np.lib.stride_tricks.sliding_window_view(padded, size)[:: numbers.hop][: numbers.columns]
    spectrum_TK = scipy.fft.rfft(windows_TN * _window(numbers), axis=1)
    filters_FK = mel_filters(numbers.sample_rate, numbers.n_fft, numbers.bands)
    power_FT = filters_FK @ (spectrum_TK.real**2 + spectrum_TK.imag**2).T
    found: np.ndarray = np.log(power_FT + np.float32(numbers.epsilon))
    return found


@functools.lru_cache(maxsize=8)
def _window(numbers: LogMel) -> np.ndarray:
    """A periodic Hann window amid zeros: float32, shape (n_fft,)."""
    long = round(numbers.frame_seconds * numbers.sample_rate)
    before = (numbers.n_fft - long) // 2
    window: np.ndarray = np.pad(hann(long), (before, numbers.n_fft - long - before))
    return window
