"""Log-mel spectrogram of a short window of resampled audio, as in CrissCross (arXiv 2111.05329, and its code) and IICL.

Shape suffixes: T columns, N samples of an FFT, K frequencies, F mel bands.
"""

import functools
from dataclasses import dataclass

import numpy as np

from ..sampling import SAMPLE_RATE
from .mel_filters import mel_filters
from .resample import resampled
from .spectrogram import MOST_N_FFT, MOST_NUMBERS, MOST_SECONDS, hann, in_silence

RATES = (1_000, 192_000)
"""Range of the sample rate in hertz."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LogMel:
    """Parameters of a log-mel spectrogram of a 24 kHz window; the defaults are CrissCross's."""

    window_seconds: float = 2.0
    """Length of the window in seconds."""
    sample_rate: int = 16_000
    """Sample rate to resample to, in hertz; the mel bands (Slaney) span 0 to half of it."""
    n_fft: int = 1024
    """FFT size in samples."""
    frame_seconds: float = 0.064
    """Length of the Hann window in seconds, centred in the FFT frame: 1,024 samples at 16 kHz."""
    hop_seconds: float = 0.01
    """Hop between columns in seconds."""
    bands: int = 80
    """Number of mel bands."""
    epsilon: float = 1.19e-7
    """Added to the power before the natural logarithm."""

    def __post_init__(self) -> None:
        """Raise ValueError for an empty window or one that is too large for memory."""
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
        """Samples of a window as stored, at 24 kHz."""
        return round(self.window_seconds * SAMPLE_RATE)

    @property
    def hop(self) -> int:
        """Samples between columns, at `sample_rate`."""
        return round(self.hop_seconds * self.sample_rate)

    @property
    def columns(self) -> int:
        """Number of columns of a window; the last is centred on its end if the hops fit exactly."""
        return round(self.window_seconds * self.sample_rate) // self.hop + 1

    @property
    def bins(self) -> int:
        """Number of mel bands."""
        return self.bands


def log_mel(waveform: np.ndarray, numbers: LogMel) -> np.ndarray:
    """log(power + epsilon) of a mono 24 kHz window with full scale 1: float32, shape (bands, columns), low bands first.

    Column t is centred on sample t * hop; the audio is reflected at the window's ends; shorter audio is padded with silence.
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
    """Zero-padded periodic Hann window: float32, shape (n_fft,)."""
    long = round(numbers.frame_seconds * numbers.sample_rate)
    before = (numbers.n_fft - long) // 2
    window: np.ndarray = np.pad(hann(long), (before, numbers.n_fft - long - before))
    return window
