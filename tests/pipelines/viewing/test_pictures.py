"""A mel-spectrogram's picture: a whole PNG, low bands at the bottom, lighter where it is louder."""

import math
import struct
import zlib

import numpy as np
import numpy.typing as npt

from kinetics_sounds.pipelines.viewing import pictures


def decode(png: bytes) -> npt.NDArray[np.uint8]:
    """Colours [shape=(rows, columns, 3)] of an indexed PNG whose rows are unfiltered."""
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    chunks, at = {}, 8
    while at < len(png):
        (size,) = struct.unpack(">I", png[at : at + 4])
        name, body = png[at + 4 : at + 8], png[at + 8 : at + 8 + size]
        assert struct.unpack(">I", png[at + 8 + size : at + 12 + size]) == (zlib.crc32(name + body),)
        chunks[name], at = body, at + 12 + size
    assert list(chunks) == [b"IHDR", b"PLTE", b"IDAT", b"IEND"]
    width, height, *kind = struct.unpack(">IIBBBBB", chunks[b"IHDR"])
    assert kind == [8, 3, 0, 0, 0]
    rows = np.frombuffer(zlib.decompress(chunks[b"IDAT"]), np.uint8).reshape(height, width + 1)
    assert not rows[:, 0].any()
    return np.asarray(np.frombuffer(chunks[b"PLTE"], np.uint8).reshape(256, 3)[rows[:, 1:]])


def test_mel_picture_has_low_bands_at_the_bottom_and_grows_lighter_with_loudness() -> None:
    picture = decode(pictures.png(np.linspace(0, 1, 64)[:, None].repeat(3, axis=1)))

    assert picture.shape == (64, 3, 3)
    brightness = picture[:, 0] @ [0.299, 0.587, 0.114]
    assert (np.diff(brightness) < 0).all()
    assert brightness[-1] < 12
    assert brightness[0] > 230


def test_mel_values_outside_zero_to_one_or_not_numbers_still_draw() -> None:
    odd = decode(pictures.png(np.array([[-3.0, math.nan, 7.0]])))
    even = decode(pictures.png(np.array([[0.0, 0.0, 1.0]])))

    assert odd.tolist() == even.tolist()
