"""Convert high dynamic range to standard, keeping middle grey.

A PQ or HLG frame (ITU-R BT.2100) interpreted as an ordinary picture looks dull: grey 128 becomes 105.
"""

import errno
import functools
from collections.abc import Mapping
from typing import Any

from . import ffmpeg

TRANSFERS: Mapping[int, str] = {16: "smpte2084", 18: "arib-std-b67"}
"""PQ and HLG, as ffmpeg names them, by their number in ITU-T H.273."""
WHITE_NITS = 203
"""Luminance of reference white in HDR, cd/m² (ITU-R BT.2408): maps to the brightest SDR value."""
PEAK_NITS = 1000
"""Luminance in cd/m² that maps to the maximum; brighter values are clipped."""
_FILTERS = ("setparams", "zscale", "tonemap")


def to_sdr(picture: Any, transfer: str) -> Any:  # noqa: ANN401 - ffmpeg-python is untyped
    """Tone-map a stream with one of `TRANSFERS` and even sides to BT.709; the pixel format is left to the caller.

    Tones up to 0.3 of white (grey 154 of 255) are unchanged; brighter ones are compressed, so that `PEAK_NITS` becomes white.
    Raises OSError if this ffmpeg lacks the filters: not the file's fault.
    """
    if lacking := _missing_filters():
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
def _missing_filters() -> tuple[str, ...]:
    names = [f"filter {name}" for name in _FILTERS]
    return tuple(each for each in ffmpeg.missing_components(timeout_seconds=60) if each in names)
