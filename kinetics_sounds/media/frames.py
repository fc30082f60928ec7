"""Frames of a stored clip, at any start position, as the model sees them."""

import io
from collections.abc import Sequence
from typing import Literal

import numpy as np

from ..errors import MediaError

Decoder = Literal["auto", "decord", "pyav"]
"""Which library decodes. decord and PyAV give the same frames, bit for bit (a test holds them to it); auto is decord, which is
faster, and PyAV where decord fails: it refuses a few small sizes (48 x 36, 72 x 64) that are sound."""

NEXT_SEEK = 32
"""Frames of a gap that it is cheaper to seek over than to decode through: two groups of pictures."""


def decode(mp4: bytes, numbers: Sequence[int], *, decoder: Decoder = "auto") -> np.ndarray:
    """The frames of these numbers, in this order: uint8, shape (len(numbers), H, W, 3), RGB.

    Raises MediaError where the bytes do not decode or a number lies outside the clip.
    """
    if mp4[4:8] != b"ftyp":
        raise MediaError("the stored frames are no mp4")  # decord would follow a playlist to files and addresses
    try:
        return _DECODERS[decoder](mp4, list(numbers))
    except MediaError:
        raise
    except Exception as error:
        raise MediaError(f"{decoder} cannot decode the stored frames: {error}") from error


def _auto(mp4: bytes, numbers: list[int]) -> np.ndarray:
    try:
        return _decord(mp4, numbers)
    except MediaError:
        raise
    except Exception:  # noqa: BLE001 - a crash of decord's says nothing of the clip: PyAV decides
        return _pyav(mp4, numbers)


def _decord(mp4: bytes, numbers: list[int]) -> np.ndarray:
    import decord

    reader = decord.VideoReader(io.BytesIO(mp4), num_threads=1)
    _check(numbers, len(reader))
    frames: np.ndarray = reader.get_batch(numbers).asnumpy()
    return frames


def _pyav(mp4: bytes, numbers: list[int]) -> np.ndarray:
    import av

    with av.open(io.BytesIO(mp4), "r", options={"format_whitelist": "mov"}) as container:
        stream = container.streams.video[0]
        stream.thread_type = "NONE"
        _check(numbers, stream.frames)
        base, rate = stream.time_base, stream.average_rate
        if base is None or rate is None:
            raise MediaError("the stored frames have no rate")
        wanted, found = set(numbers), dict[int, np.ndarray]()
        while wanted:
            container.seek(round(min(wanted) / rate / base), stream=stream)
            before = len(wanted)
            for frame in container.decode(stream):
                number = round((frame.pts or 0) * base * rate)
                if number in wanted:
                    found[number] = frame.to_ndarray(format="rgb24")
                    wanted.remove(number)
                if not wanted or min(wanted) - number > NEXT_SEEK:
                    break
            if len(wanted) == before:
                raise MediaError(f"frame {min(wanted)} is missing")
    return np.stack([found[number] for number in numbers])


def _check(numbers: list[int], length: int) -> None:
    if not numbers or not 0 <= min(numbers) <= max(numbers) < length:
        raise MediaError(f"frames {numbers[:1]} to {numbers[-1:]} are asked of a stored clip of {length}")


_DECODERS = {"auto": _auto, "decord": _decord, "pyav": _pyav}
