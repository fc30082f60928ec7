"""Decode with decord."""

import io

import numpy as np

from ..mp4 import check_indices

IMPORTS_SLOWLY = False
"""If true, `auto` considers it only if it is already imported: the import takes two seconds."""


def frames(mp4: bytes, numbers: list[int]) -> np.ndarray:
    """Decode the frames with these indices: uint8 (len(numbers), H, W, 3), RGB; raises MediaError if one is out of range."""
    import decord

    reader = decord.VideoReader(io.BytesIO(mp4), num_threads=1)
    check_indices(numbers, len(reader))
    frames_NHWC: np.ndarray = reader.get_batch(numbers).asnumpy()
    return frames_NHWC
