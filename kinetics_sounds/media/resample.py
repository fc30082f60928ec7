"""Sound at another rate than the stored one, for views that hear 16 kHz."""

import numpy as np
import soxr


def resampled(waveform: np.ndarray, *, rate: int, to: int) -> np.ndarray:
    """A mono float32 waveform of `rate` hertz at `to` hertz: float32, ceil(samples * to / rate) of them.

    By soxr's high quality, as in librosa.resample: what is below nine tenths of the lower half rate stays as it is to 1e-5
    of full scale, and nothing is folded. Raises ValueError for rates that are not positive.
    """
    if rate < 1 or to < 1:
        raise ValueError(f"rates must be positive, not {rate} and {to}")
    found: np.ndarray = soxr.resample(waveform, rate, to, quality="HQ")
    wanted = -(-len(waveform) * to // rate)
    return np.pad(found, (0, max(0, wanted - len(found))))[:wanted]
