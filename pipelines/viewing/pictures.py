"""Mel-spectrogram as PNG, in the colours of the page."""

import struct
import zlib

import numpy as np
import numpy.typing as npt

_GLOW = np.array(
    [
        (6, 8, 26),
        (34, 26, 84),
        (88, 28, 116),
        (146, 36, 118),
        (200, 60, 96),
        (236, 110, 66),
        (250, 176, 84),
        (252, 244, 196),
    ]
)
"""Colour map with steps of about equal lightness."""


def png(mel_FT: npt.NDArray[np.floating]) -> bytes:
    """An indexed-colour PNG of values from 0 to 1 [shape=(bands, columns)], low bands at the bottom."""
    index_FT = np.asarray(np.rint(255 * np.clip(np.nan_to_num(mel_FT[::-1]), 0, 1)), np.uint8)
    knots = np.linspace(0, 255, len(_GLOW))
    palette = np.stack([np.interp(np.arange(256), knots, channel) for channel in _GLOW.T], axis=1)
    height, width = index_FT.shape
    chunks = {
        b"IHDR": struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0),
        b"PLTE": np.asarray(np.rint(palette), np.uint8).tobytes(),
        b"IDAT": zlib.compress(np.pad(index_FT, ((0, 0), (1, 0))).tobytes(), 9),  # each row begins with its filter: 0
        b"IEND": b"",
    }
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        for name, body in chunks.items()
    )
