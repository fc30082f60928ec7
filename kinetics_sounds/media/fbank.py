"""Kaldi's log-mel filter bank with the numbers that OGM-GE and the papers after it store.

Of its 128 bands at 16 kHz some of the lowest hold no frequency of the transform. kaldi-native-fbank refuses such a bank;
what those papers' scripts call (torchaudio's `compliance.kaldi.fbank`) gives the floor there, and so does this.
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
"""Of 10 ms each: what is shorter is padded, what is longer is cut."""
MEAN, DEVIATION = -4.503877, 5.141276
"""By which the values are shifted and, twice the second, divided."""
LOWEST_HZ = 20.0
EMPHASIS = 0.97
FLOOR = float(np.finfo(np.float32).eps)
"""Of an energy, before its logarithm."""


def versions() -> dict[str, str]:
    """Of the tools that the values depend on besides the sound."""
    return {name: version(name) for name in ("numpy", "scipy")}


def of_wav(path: Path) -> np.ndarray:
    """The filter bank of a mono WAV file as it is stored: float32, shape (1024, 128), low bands first.

    Of the sound less its mean; a row of padding holds what a 0 becomes.
    """
    waveform, rate = soundfile.read(io.BytesIO(path.read_bytes()), dtype="float64")
    found_TF = log_energies(waveform - waveform.mean() if waveform.size else waveform, rate=rate)[:ROWS]
    padded_TF = np.zeros((ROWS, BANDS))
    padded_TF[: len(found_TF)] = found_TF
    scaled: np.ndarray = ((padded_TF - MEAN) / (2 * DEVIATION)).astype(np.float32)
    return scaled


def log_energies(waveform: np.ndarray, *, rate: int, bands: int = BANDS) -> np.ndarray:
    """Kaldi's filter bank of a mono waveform in [-1, 1] at `rate` Hz: natural logarithms, shape (frames, bands).

    Frames of 25 ms every 10 ms, as many as are whole, each less its mean, pre-emphasised and under a Hann window; no dither.
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
    """Triangles over the mel scale from `LOWEST_HZ` to half the rate: shape (bands, size / 2); some may be empty.

    Sparse, since a dense product's bytes depend on the CPU's BLAS.
    """
    lowest, highest = map(float, _mel(np.array([LOWEST_HZ, rate / 2])))
    edges = np.linspace(lowest, highest, bands + 2)[:, None]
    bins_K = _mel(np.arange(size // 2) * (rate / size))
    rising_FK = (bins_K - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling_FK = (edges[2:] - bins_K) / (edges[2:] - edges[1:-1])
    return scipy.sparse.csr_array(np.maximum(0.0, np.minimum(rising_FK, falling_FK)))


def _mel(hertz: np.ndarray) -> np.ndarray:
    return np.asarray(1127.0 * np.log1p(hertz / 700.0))
