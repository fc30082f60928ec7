"""Place decoded audio on its stream's time line: gaps become silence, overlaps are cut.

ffmpeg's own filter for this (`aresample=async`) leaves gaps below 0.1 s open, which shifts all later audio, and restarts at time
0 when the stream changes its rate or channels.
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
"""Tolerance between a block's start and the end of the blocks before it, in seconds: time stamps are rounded."""
AGREE_SECONDS = 1.0
"""Time stamps may be wrong in between if one within this many seconds agrees with the number of samples."""
FIRST_SECONDS = 0.001
"""Tolerance of the first block's start, in seconds."""


class _Written:
    """Output file for libsndfile, which swallows exceptions of its callbacks: they are raised at the end of the block."""

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
    """Samples that are contiguous both in the decoded audio and on the time line."""

    place: int
    """Position on the time line, in samples."""
    source: int
    """Position among all decoded samples."""
    length: int


@dataclass(frozen=True, slots=True)
class Track:
    """Result of writing a WAV file."""

    samples: int
    """Samples per channel."""
    levels_db: tuple[float, ...]
    """RMS level per channel, in dBFS."""


def arrange(blocks: Sequence[Block], *, end: int | None = None) -> list[Piece]:
    """Assign decoded samples to positions, in order and without overlap; samples before time 0 or that come late are dropped.

    All blocks have one rate; samples from `end` on are dropped. No sample is moved by more than `SLACK_SECONDS`, except between
    two time stamps that agree (`_agrees`). Pieces are as long as possible: a stream without gaps and overlaps is one piece.
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
    """The next block whose time stamp is right again if all samples from `first` on are kept; 0 if there is none soon.

    A packet of MPEG-TS holds several blocks but one time stamp; the others are computed from the stream's first rate, and are
    wrong after a change of rate. The next packet's time stamp corrects them.
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
    """Write the pieces of raw interleaved float32 samples as a WAV file, with silence between them.

    Raises TooLargeError if it would exceed ffmpeg's output limit, and OSError if it cannot be written.
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
