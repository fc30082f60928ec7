"""Decode with decord."""

import io

import numpy as np

from ..mp4 import check_indices

IMPORTS_SLOWLY = False
"""Whether `auto` tries it only where it is imported already: that takes two seconds."""


def frames(mp4: bytes, numbers: list[int]) -> np.ndarray:
    """The frames of these numbers: uint8 (len(numbers), H, W, 3), RGB; raises MediaError where one lies outside the clip."""
    import decord

    reader = decord.VideoReader(io.BytesIO(mp4), num_threads=1)
    check_indices(numbers, len(reader))
    frames_NHWC: np.ndarray = reader.get_batch(numbers).asnumpy()
    return frames_NHWC
