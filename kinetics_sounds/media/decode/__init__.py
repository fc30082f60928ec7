"""Decode frames of a stored clip from any start position; one file per decoder.

A decoder is a module with `frames(mp4, numbers)` and `IMPORTS_SLOWLY`. All return bitwise equal frames (enforced by a test), so
the choice only affects speed; `auto` measures it once per process, on the first clip.

PyAV is the reference and the fastest: a stored clip is one H.264 stream without B-frames (see `encode`), so the sample table of
its mp4 gives the positions of the packets, and only the requested frames and the preceding ones of their GOP are decoded. No
demuxer parses untrusted bytes, and only the requested frames are converted to RGB.
"""

import functools
import sys
import time
from collections.abc import Callable, Sequence

import numpy as np

from ... import plugins
from ...errors import MediaError, first_line
from ..mp4 import MAX_PIXELS, check_room, read_track

TRIALS = 3
"""Number of timed runs per decoder with `auto`; the fastest run counts."""


def decode(mp4: bytes, numbers: Sequence[int], *, decoder: str = "auto", length: int | None = None) -> np.ndarray:
    """Decode the frames with these indices, in this order: uint8, shape (len(numbers), H, W, 3), RGB.

    Raises MediaError if the bytes do not decode, the clip does not have the expected `length` in frames, an index is out of
    range, or the decoder is not installed; SettingsError if there is no such decoder.
    """
    frames = load(decoder)
    if mp4[4:8] != b"ftyp":
        raise MediaError("the stored frames are no mp4")  # decord would follow a playlist to files and addresses
    try:
        if length is not None and (there := len(read_track(mp4).offsets)) != length:
            raise MediaError(f"the stored clip has {there} frames, not {length}")
        return frames(mp4, list(numbers))
    except MediaError:
        raise
    except ImportError as error:
        raise MediaError(
            f"decoder {decoder} is not installed ({first_line(error)}); install {decoder}, or choose auto or pyav"
        ) from error
    except Exception as error:
        raise MediaError(f"{decoder} cannot decode the stored frames: {first_line(error)}") from error


def decode_jpegs(jpegs: Sequence[bytes]) -> np.ndarray:
    """Decode stored JPEGs, in this order: uint8, shape (len(jpegs), H, W, 3), RGB.

    Raises MediaError for an empty list, and if one does not decode, exceeds `MAX_PIXELS` or differs in size.
    """
    import simplejpeg

    frames_THWC: np.ndarray | None = None
    for number, jpeg in enumerate(jpegs):
        try:
            height, width, _, _ = simplejpeg.decode_jpeg_header(jpeg)
            if height * width > MAX_PIXELS:
                raise MediaError(f"JPEG {number} is {width} x {height}, more than {MAX_PIXELS} pixels")
            if frames_THWC is None:
                check_room(len(jpegs), height, width)
                frames_THWC = np.empty((len(jpegs), height, width, 3), dtype=np.uint8)
            if (height, width) != frames_THWC.shape[1:3]:
                _, first_height, first_width, _ = frames_THWC.shape
                raise MediaError(f"JPEG {number} is {width} x {height}, the first {first_width} x {first_height}")
            simplejpeg.decode_jpeg(jpeg, colorspace="RGB", buffer=frames_THWC[number])
        except ValueError as error:
            raise MediaError(f"JPEG {number} does not decode: {first_line(error)}") from error
    if frames_THWC is None:
        raise MediaError("no JPEG was requested")
    return frames_THWC


def encode_jpeg(picture_HWC: np.ndarray, *, quality: int = 95) -> bytes:
    """Encode a picture, uint8 (H, W, 3), RGB, as a JPEG without chroma subsampling."""
    import simplejpeg

    jpeg: bytes = simplejpeg.encode_jpeg(np.ascontiguousarray(picture_HWC), quality=quality, colorsubsampling="444")
    return jpeg


def names() -> list[str]:
    """Valid values of `decoder` besides auto."""
    return plugins.names(__name__)


def load(name: str) -> Callable[[bytes, list[int]], np.ndarray]:
    """The decode function of a decoder, or of `auto`; raises SettingsError listing the names if there is none."""
    if name == "auto":
        return _auto
    frames: Callable[[bytes, list[int]], np.ndarray] = plugins.load(__name__, name).frames
    return frames


def fastest(mp4: bytes, numbers: list[int]) -> str:
    """Name of the fastest installed decoder for these frames, among those whose output equals PyAV's.

    Takes about 0.1 s. Raises the errors of PyAV.
    """
    wanted = load("pyav")(mp4, numbers)
    seconds = {"pyav": _seconds(load("pyav"), mp4, numbers)}
    for rival in (name for name in names() if name != "pyav"):
        if plugins.load(__name__, rival).IMPORTS_SLOWLY and rival not in sys.modules:
            continue
        try:
            if np.array_equal(load(rival)(mp4, numbers), wanted):
                seconds[rival] = _seconds(load(rival), mp4, numbers)
        except Exception:  # noqa: BLE001, S112 - what cannot do it, or is not installed, does not take part
            continue
    return min(seconds, key=lambda name: seconds[name])


def _seconds(decoder: Callable[[bytes, list[int]], np.ndarray], mp4: bytes, numbers: list[int]) -> float:
    """Shortest time of `TRIALS` runs, in seconds."""

    def once() -> float:
        began = time.perf_counter()
        decoder(mp4, numbers)
        return time.perf_counter() - began

    return min(once() for _ in range(TRIALS))


@functools.cache
def measured() -> list[str]:
    """The decoder that `auto` chose in this process; empty before the first measurement."""
    return []


def _auto(mp4: bytes, numbers: list[int]) -> np.ndarray:
    choice = measured()
    if not choice:
        choice.append(fastest(mp4, numbers))
    try:
        return load(choice[0])(mp4, numbers)
    except Exception:
        if choice[0] == "pyav":
            raise
        return load("pyav")(mp4, numbers)  # the others refuse some sound clips (decord: 48 x 36, 72 x 64): PyAV decides
