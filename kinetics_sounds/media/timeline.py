"""Put decoded sound on the time line that its stream gives it: holes become silence, what overlaps is left out.

ffmpeg's own filter for this (`aresample=async`) leaves holes shorter than 0.1 s open, so that all later sound is early, and
begins anew at time 0 when the stream changes its rate or channels.
"""

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, NamedTuple, Self

import numpy as np
import soundfile

from .. import files
from . import ffmpeg
from .messages import SILENCE_DB, Block

SLACK_SECONDS = 0.01
"""A block may lie this far from the end of those before it: time stamps are rounded."""
AGREE_SECONDS = 1.0
"""Times in between may be wrong where one this much later agrees with the number of samples."""
FIRST_SECONDS = 0.001
"""The first block may lie this far from time 0."""


class _Written:
    """A file to which libsndfile writes, which loses what its callbacks raise: that is raised at the end of the block."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._error: BaseException | None = None

    def write(self, data: bytes) -> int:
        return self._kept(lambda: self._file.write(data))

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return self._kept(lambda: self._file.seek(offset, whence))

    def tell(self) -> int:
        return self._kept(self._file.tell)

    def _kept(self, act: Callable[[], int]) -> int:
        try:
            return act()
        except BaseException as error:  # noqa: BLE001 - that of a worker that is told to leave, too
            self._error = self._error or error
            return 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._error is not None:  # in place of libsndfile's own words, which name no cause
            raise self._error


class Piece(NamedTuple):
    """Samples that lie one after another both in what was decoded and on the time line."""

    place: int
    """On the time line, in samples."""
    source: int
    """Among all decoded samples, in the order in which they came."""
    length: int


@dataclass(frozen=True, slots=True)
class Track:
    """What was written."""

    samples: int
    """Of each channel."""
    levels_db: tuple[float, ...]
    """RMS of each channel."""


def arrange(blocks: Sequence[Block], *, end: int | None = None) -> list[Piece]:
    """Where each decoded sample belongs, in order and without overlap; what lies before time 0 or comes late is left out.

    The blocks have one rate; nothing from sample `end` on is kept. No sample is further than `SLACK_SECONDS` from its time,
    but for those between two times that agree (`_agrees`). Pieces are as long as can be: a stream without holes and overlaps
    is one.
    """
    pieces: list[Piece] = []
    free = source = trusted = 0
    for number, block in enumerate(blocks):
        near = round((SLACK_SECONDS if pieces else FIRST_SECONDS) * block.rate)
        off = block.start - free
        if abs(off) > near and pieces and number >= trusted:
            trusted = _agrees(blocks, number, free)
        if abs(off) <= near or (number < trusted and pieces):
            off = 0
        skip, place = max(-off, 0), free + max(off, 0)
        length = block.length - skip if end is None else min(block.length - skip, end - place)
        if length > 0:
            last = pieces[-1] if pieces else Piece(-1, -1, 0)
            if (last.place + last.length, last.source + last.length) == (place, source + skip):
                pieces[-1] = Piece(last.place, last.source, last.length + length)
            else:
                pieces.append(Piece(place, source + skip, length))
            free = place + length
        source += block.length
    return pieces


def _agrees(blocks: Sequence[Block], first: int, free: int) -> int:
    """The next block whose time is right again, if all samples from `first` on are kept; 0 where none is soon.

    A packet of MPEG-TS holds several blocks and one time; those of the others are reckoned from the stream's first rate,
    and wrong once it has changed. The next packet's time corrects them by a jump.
    """
    slack, limit = round(SLACK_SECONDS * blocks[first].rate), AGREE_SECONDS * blocks[first].rate
    place = free + blocks[first].length
    for number in range(first + 1, len(blocks)):
        before, block = blocks[number - 1], blocks[number]
        jumps = abs(block.start - before.start - before.length) > slack
        if jumps and abs(block.start - place) <= slack:
            return number
        if place - free > limit:
            break
        place += block.length
    return 0


def write_wav(raw: Path, out: Path, pieces: Iterable[Piece], *, rate: int, channels: int) -> Track:
    """Write the pieces of raw interleaved float32 samples as a WAV file, silence between them.

    Raises TooLargeError where it would be larger than what ffmpeg may write, and OSError where it cannot be written.
    """
    end, size = 0, 4 * channels
    silence = np.zeros((rate, channels), np.float32)
    squares = np.zeros(channels)
    with (
        files.named(out),
        raw.open("rb") as samples,
        out.open("w+b") as file,  # soundfile takes no name that is not UTF-8
        _Written(file) as written,
        soundfile.SoundFile(written, "w", rate, channels, "FLOAT", format="WAV") as wav,
    ):
        for piece in pieces:
            if (piece.place + piece.length) * size > ffmpeg.MAX_OUTPUT:
                raise ffmpeg.TooLargeError(f"its sound takes more than {ffmpeg.MAX_OUTPUT >> 20} MiB")
            for start in range(end, piece.place, rate):
                wav.write(silence[: piece.place - start])
            for start in range(0, piece.length, rate):
                samples.seek((piece.source + start) * size)
                data = samples.read(min(rate, piece.length - start) * size)
                part = np.frombuffer(data, np.float32).reshape(-1, channels)
                squares += np.square(part, dtype=np.float64).sum(0)
                wav.write(part)
            end = piece.place + piece.length
    with np.errstate(divide="ignore"):
        levels = 10 * np.log10(squares / max(end, 1))
    return Track(end, tuple(np.maximum(levels, SILENCE_DB).tolist()))
