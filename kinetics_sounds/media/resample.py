"""Sound at another rate than the stored one, for views that hear 16 kHz."""

import librosa
import numpy as np


def resampled(waveform: np.ndarray, *, rate: int, to: int) -> np.ndarray:
    """A mono float32 waveform of `rate` hertz at `to` hertz: float32, ceil(samples * to / rate) of them.

    By soxr's high quality: what is below nine tenths of the lower half rate stays as it is to 1e-5 of full scale, and nothing
    is folded. Raises ValueError for rates that are not positive.
    """
    if rate < 1 or to < 1:
        raise ValueError(f"rates must be positive, not {rate} and {to}")
    found: np.ndarray = librosa.resample(waveform, orig_sr=rate, target_sr=to, res_type="soxr_hq")
    return found
