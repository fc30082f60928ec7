"""Decode with torchcodec."""

import numpy as np

from ...errors import first_line
from ..mp4 import check_indices

IMPORTS_SLOWLY = True
"""If true, `auto` considers it only if it is already imported: the import takes two seconds."""


def frames(mp4: bytes, numbers: list[int]) -> np.ndarray:
    """Decode the frames with these indices: uint8 (len(numbers), H, W, 3), RGB; raises MediaError if one is out of range."""
    try:
        from torchcodec.decoders import VideoDecoder
    except (OSError, RuntimeError) as error:  # it looks for the system's FFmpeg when it is imported
        raise ImportError(f"cannot be loaded: {first_line(error)}") from error

    # Approximate: the place of a frame is its time by the mean rate, which is exact for clips of a constant rate.
    reader = VideoDecoder(mp4, dimension_order="NHWC", num_ffmpeg_threads=1, device="cpu", seek_mode="approximate")
    check_indices(numbers, len(reader))
    frames_NHWC: np.ndarray = reader.get_frames_at(numbers).data.numpy()
    return frames_NHWC
