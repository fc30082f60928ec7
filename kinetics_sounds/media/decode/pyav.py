"""Decode with PyAV, the reference: only the requested frames and the preceding ones of their GOPs."""

import itertools
from bisect import bisect_right
from collections.abc import Iterator
from typing import Any

import numpy as np

from ...errors import MediaError
from ..mp4 import MAX_PIXELS, Track, check_indices, check_room, read_track

IMPORTS_SLOWLY = False
"""If true, `auto` considers it only if it is already imported: the import takes two seconds."""


def frames(mp4: bytes, numbers: list[int]) -> np.ndarray:
    """Decode the frames with these indices: uint8 (len(numbers), H, W, 3), RGB; raises MediaError if one is out of range."""
    from av.video.reformatter import VideoReformatter

    track = read_track(mp4)
    check_indices(numbers, len(track.offsets))
    wanted = sorted(set(numbers))
    place = {number: row for row, number in enumerate(wanted)}
    to_rgb = VideoReformatter()
    found_NHWC: np.ndarray | None = None
    missing = set(wanted)
    for frame in _decoded(mp4, track, wanted):
        if frame.pts not in missing:
            continue
        missing.remove(frame.pts)
        # By default it starts threads for every frame, which takes longer than the conversion.
        rgb_HWC = to_rgb.reformat(frame, format="rgb24", threads=1).to_ndarray()
        if found_NHWC is None:
            check_room(len(wanted), *rgb_HWC.shape[:2])
            found_NHWC = np.empty((len(wanted), *rgb_HWC.shape), dtype=np.uint8)
        found_NHWC[place[frame.pts]] = rgb_HWC
    if missing or found_NHWC is None:
        raise MediaError(f"frame {min(missing)} of the stored clip is missing")
    return found_NHWC if numbers == wanted else found_NHWC[[place[number] for number in numbers]]


def _decoded(mp4: bytes, track: Track, wanted: list[int]) -> Iterator[Any]:
    """The requested frames and the preceding ones of their GOPs, each with its index as `pts`."""
    import av

    codec = av.CodecContext.create("h264", "r")
    codec.extradata, codec.thread_count = track.extradata, 1
    codec.options = {"max_pixels": str(MAX_PIXELS)}
    for first, group in itertools.groupby(
        wanted, key=lambda number: track.keyframes[bisect_right(track.keyframes, number) - 1]
    ):
        for number in range(first, max(group) + 1):
            start = track.offsets[number]
            packet = av.Packet(mp4[start : start + track.sizes[number]])
            packet.pts = packet.dts = number
            yield from codec.decode(packet)
    yield from codec.decode(None)
