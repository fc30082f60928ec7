"""Mel filter banks on Slaney's scale, librosa's to the bit.

librosa takes seconds to import, in each process, so the banks that presets and recipes use are stored, as Whisper stores its
own: `benchmarks/mel_filters.py` makes the file.
"""

import functools
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from scipy.sparse import csr_array

STORED = Path(__file__).with_suffix(".npz")
"""File with the three arrays of a sparse matrix per bank of `BANKS`, float32 and int32."""
BANKS = ((24_000, 2048, 256), (16_000, 1024, 80), (16_000, 512, 40))
"""Sample rate in hertz, FFT size in samples, and number of bands: those of `paper` and `authors`, of CrissCross, and of IICL."""
PARTS = ("data", "indices", "indptr")
"""Names of a sparse matrix's arrays in scipy."""


@functools.lru_cache(maxsize=8)
def mel_filters(sample_rate: int, n_fft: int, bands: int) -> "csr_array":
    """Mel filters from 0 Hz to half of `sample_rate`: float32, shape (bands, n_fft // 2 + 1).

    Sparse, because the result of a dense product depends on the CPU's BLAS.
    """
    if (sample_rate, n_fft, bands) not in BANKS:
        return from_librosa(sample_rate, n_fft, bands)
    from scipy.sparse import csr_array

    with np.load(STORED) as stored:
        parts = tuple(stored[name_of(sample_rate, n_fft, bands, part)] for part in PARTS)
    return csr_array(parts, shape=(bands, n_fft // 2 + 1))


def from_librosa(sample_rate: int, n_fft: int, bands: int) -> "csr_array":
    """Same as `mel_filters`, computed by librosa."""
    from librosa.filters import mel
    from scipy.sparse import csr_array

    return csr_array(mel(sr=sample_rate, n_fft=n_fft, n_mels=bands, fmin=0.0, fmax=sample_rate / 2))


def name_of(sample_rate: int, n_fft: int, bands: int, part: str) -> str:
    """Name of an array in the stored file."""
    return f"{sample_rate}_{n_fft}_{bands}_{part}"
