"""High dynamic range to standard: what a screen for it shows as a middle grey is a middle grey.

A frame of PQ or HLG (ITU-R BT.2100) whose numbers are taken for those of an ordinary picture is dull: grey 128 becomes 105.
"""

import errno
import functools
from collections.abc import Mapping
from typing import Any

from . import ffmpeg

TRANSFERS: Mapping[int, str] = {16: "smpte2084", 18: "arib-std-b67"}
"""PQ and HLG, as ffmpeg calls them, by their number in ITU-T H.273."""
WHITE_NITS = 203
"""Candelas per square metre of white paper in such a picture (ITU-R BT.2408): the brightest of a standard one."""
PEAK_NITS = 1000
"""The brightest that is told from what is brighter still."""
_FILTERS = ("setparams", "zscale", "tonemap")


def to_sdr(picture: Any, transfer: str) -> Any:  # noqa: ANN401 - ffmpeg-python is untyped
    """A stream of even width and height and one of `TRANSFERS` as BT.709, its tones mapped; not yet in a pixel format.

    Up to three tenths of white's light (grey 154 of 255) tones stay as they are; above they are pressed together, so that
    `PEAK_NITS` is the new white. Raises OSError where this ffmpeg cannot: the fault is not the file's.
    """
    if lacking := _lacking():
        raise OSError(errno.ENOSYS, f"{ffmpeg.executable()} lacks {', '.join(lacking)} for HDR: see ks-doctor")
    return (
        picture.filter("setparams", color_primaries="bt2020", color_trc=transfer, colorspace="bt2020nc")
        .filter("zscale", transfer="linear", npl=WHITE_NITS, agamma=0)  # HLG's own gamma is exact, or colours are off
        .filter("format", "gbrpf32le")
        .filter("zscale", primaries="bt709")
        .filter("tonemap", "mobius", desat=0, peak=f"{PEAK_NITS / WHITE_NITS:.3f}")
        .filter("zscale", transfer="bt709", matrix="bt709", range="tv")
    )


@functools.cache
def _lacking() -> tuple[str, ...]:
    names = [f"filter {name}" for name in _FILTERS]
    return tuple(each for each in ffmpeg.lacking(timeout_seconds=60) if each in names)
