"""Resample audio, for views that use 16 kHz."""

import numpy as np
import soxr


def resampled(waveform: np.ndarray, *, rate: int, to: int) -> np.ndarray:
    """Resample a mono float32 waveform from `rate` to `to` hertz: float32, ceil(samples * to / rate) samples.

    Uses soxr's high quality, as librosa.resample: frequencies below 0.9 of the lower Nyquist frequency are kept to 1e-5 of full
    scale, without aliasing. Raises ValueError for rates that are not positive.
    """
    if rate < 1 or to < 1:
        raise ValueError(f"rates must be positive, not {rate} and {to}")
    found: np.ndarray = soxr.resample(waveform, rate, to, quality="HQ")
    wanted = -(-len(waveform) * to // rate)
    return np.pad(found, (0, max(0, wanted - len(found))))[:wanted]
