"""Read audio of a stored clip: only the requested samples."""

import io

import numpy as np
import soundfile

from ..errors import MediaError
from .encode import SAMPLE_RATE

MAX_SAMPLES = 3600 * SAMPLE_RATE
"""Maximum number of samples of a track, one hour: a small file that claims more would take gigabytes of memory."""


def read(flac: bytes, *, first: int = 0, count: int | None = None, length: int | None = None) -> np.ndarray:
    """Decode a stored track, or `count` samples of it from sample `first` on: float32, shape (samples,), 24 kHz mono.

    Raises MediaError if the bytes are not such a FLAC or do not decode, the track does not have the expected `length`, or the
    window is out of range.
    """
    try:
        with soundfile.SoundFile(io.BytesIO(flac)) as track:
            found = (track.format, track.channels, track.samplerate)
            if found != ("FLAC", 1, SAMPLE_RATE):
                raise MediaError(
                    f"the stored sound is {found[0]} of {found[1]} channel(s) at {found[2]} Hz,"
                    f" not mono FLAC at {SAMPLE_RATE} Hz"
                )
            if track.frames > MAX_SAMPLES:
                raise MediaError(f"the stored sound claims {track.frames} samples, more than {MAX_SAMPLES}")
            if length not in (None, track.frames):
                raise MediaError(f"the stored sound has {track.frames} samples, not {length}")
            wanted = track.frames - first if count is None else count
            if first < 0 or wanted < 0 or first + wanted > track.frames:
                raise MediaError(
                    f"{count} samples from {first} on were requested from a stored sound of {track.frames}"
                )
            track.seek(first)
            waveform: np.ndarray = track.read(wanted, dtype="float32")
    except (soundfile.SoundFileError, ValueError) as error:
        raise MediaError(f"the stored sound does not decode: {error}") from error
    if len(waveform) != wanted:
        raise MediaError(f"the stored sound ends {wanted - len(waveform)} samples early")
    return waveform
