"""Kaldi log-mel filter bank with the parameters used by OGM-GE and the papers that follow it.

Of its 128 bands at 16 kHz some of the lowest contain no FFT bin. kaldi-native-fbank refuses such a bank; those papers' scripts
(torchaudio's `compliance.kaldi.fbank`) return the floor there, as this module does.
"""

import functools
import io
from importlib.metadata import version
from pathlib import Path

import numpy as np
import scipy.fft
import scipy.sparse
import soundfile

BANDS = 128
ROWS = 1024
"""Number of frames, 10 ms each: shorter audio is padded, longer audio is truncated."""
MEAN, DEVIATION = -4.503877, 5.141276
"""Normalisation: (value - MEAN) / (2 * DEVIATION)."""
LOWEST_HZ = 20.0
EMPHASIS = 0.97
FLOOR = float(np.finfo(np.float32).eps)
"""Minimum energy before the logarithm."""


def versions() -> dict[str, str]:
    """Versions of the libraries that determine the values."""
    return {name: version(name) for name in ("numpy", "scipy")}


def of_wav(path: Path) -> np.ndarray:
    """Normalised filter bank of a mono WAV file: float32, shape (1024, 128), low bands first.

    The mean of the audio is subtracted first; padding is normalised too.
    """
    waveform, rate = soundfile.read(io.BytesIO(path.read_bytes()), dtype="float64")
    found_TF = log_energies(waveform - waveform.mean() if waveform.size else waveform, rate=rate)[:ROWS]
    padded_TF = np.zeros((ROWS, BANDS))
    padded_TF[: len(found_TF)] = found_TF
    scaled: np.ndarray = ((padded_TF - MEAN) / (2 * DEVIATION)).astype(np.float32)
    return scaled


def log_energies(waveform: np.ndarray, *, rate: int, bands: int = BANDS) -> np.ndarray:
    """Kaldi filter bank of a mono waveform in [-1, 1] at `rate` Hz: natural logarithms, shape (frames, bands).

    Frames of 25 ms every 10 ms (complete ones only), each with its mean removed, pre-emphasised and Hann-windowed; no dither.
    """
    length, step = rate * 25 // 1000, rate * 10 // 1000
    if waveform.size < length:
        return np.zeros((0, bands))
    frames_TW = np.lib.stride_tricks.sliding_window_view(waveform.astype(np.float64), length)[::step]
    frames_TW = frames_TW - frames_TW.mean(axis=1, keepdims=True)
    frames_TW = frames_TW - EMPHASIS * np.concatenate([frames_TW[:, :1], frames_TW[:, :-1]], axis=1)
    size = 1 << (length - 1).bit_length()
    spectrum_TK = scipy.fft.rfft(frames_TW * np.hanning(length), n=size, axis=1)[:, : size // 2]
    power_TK = spectrum_TK.real**2 + spectrum_TK.imag**2
    found: np.ndarray = np.log(np.maximum((_filters(rate, size, bands) @ power_TK.T).T, FLOOR))
    return found


@functools.lru_cache(maxsize=4)
def _filters(rate: int, size: int, bands: int) -> scipy.sparse.csr_array:
    """Triangular mel filters from `LOWEST_HZ` to half the rate: shape (bands, size / 2); some may be empty.

    Sparse, because the result of a dense product depends on the CPU's BLAS.
    """
    lowest, highest = map(float, _mel(np.array([LOWEST_HZ, rate / 2])))
    edges = np.linspace(lowest, highest, bands + 2)[:, None]
    bins_K = _mel(np.arange(size // 2) * (rate / size))
    rising_FK = (bins_K - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling_FK = (edges[2:] - bins_K) / (edges[2:] - edges[1:-1])
    return scipy.sparse.csr_array(np.maximum(0.0, np.minimum(rising_FK, falling_FK)))


def _mel(hertz: np.ndarray) -> np.ndarray:
    return np.asarray(1127.0 * np.log1p(hertz / 700.0))
