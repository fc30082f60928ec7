"""Every decoded sample lies where its stream says, holes are silence, nothing is there twice."""

import errno
import io
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from kinetics_sounds.media import ffmpeg, timeline
from kinetics_sounds.media.messages import Block
from kinetics_sounds.media.timeline import Piece, arrange, write_wav

RATE = 1000
"""A sample is a millisecond; the slack is 10 of them, 1 at the start."""


def blocks(*spans: tuple[int, int]) -> list[Block]:
    return [Block(start, length, RATE, 1) for start, length in spans]


@pytest.mark.parametrize(
    ("spans", "pieces"),
    [
        ([], []),
        ([(0, 100), (100, 100), (200, 50)], [Piece(0, 0, 250)]),
        ([(1, 100)], [Piece(0, 0, 100)]),  # rounding
        ([(2, 100)], [Piece(2, 0, 100)]),
        ([(500, 100)], [Piece(500, 0, 100)]),  # a late start
        ([(0, 100), (110, 100)], [Piece(0, 0, 200)]),  # within the slack
        ([(0, 100), (111, 100)], [Piece(0, 0, 100), Piece(111, 100, 100)]),
        ([(0, 100), (105, 100), (210, 100), (315, 100)], [Piece(0, 0, 300), Piece(315, 300, 100)]),  # it adds up
        ([(0, 100), (60, 100)], [Piece(0, 0, 100), Piece(100, 140, 60)]),  # the first 40 of the second come late
        ([(0, 100), (20, 50), (100, 100)], [Piece(0, 0, 100), Piece(100, 150, 100)]),  # all of the second does
        # Times of the second and third are reckoned wrongly, and the fourth's agrees with the number of samples.
        ([(0, 100), (60, 100), (120, 100), (300, 100)], [Piece(0, 0, 400)]),
        ([(0, 100), (150, 100), (300, 100), (300, 100)], [Piece(0, 0, 400)]),
        (
            [(0, 100), (60, 100), (120, 100), (1400, 100)],
            [Piece(0, 0, 100), Piece(100, 140, 60), Piece(160, 240, 60), Piece(1400, 300, 100)],
        ),
        ([(-40, 100)], [Piece(0, 40, 60)]),
        ([(-100, 40), (0, 100)], [Piece(0, 40, 100)]),
    ],
)
def test_where_samples_belong(spans: list[tuple[int, int]], pieces: list[Piece]) -> None:
    assert arrange(blocks(*spans)) == pieces


def test_nothing_after_the_end_is_kept() -> None:
    assert arrange(blocks((0, 100), (100, 100), (250, 100)), end=150) == [Piece(0, 0, 150)]
    assert arrange(blocks((0, 100), (250, 100)), end=250) == [Piece(0, 0, 100)]


@pytest.mark.parametrize("agree", [False, True])
@given(st.lists(st.tuples(st.integers(-60, 60), st.integers(1, 80)), max_size=30))
def test_no_sample_is_far_from_its_time_and_none_is_there_twice(agree: bool, jumps: list[tuple[int, int]]) -> None:
    """Blocks that begin so much before or after the end of the one before; first where no later time is believed."""
    end, found = 0, list[Block]()
    for jump, length in jumps:
        found.append(Block(end + jump, length, RATE, 1))
        end += jump + length
    times = np.concatenate([np.arange(b.start, b.start + b.length) for b in found] or [np.arange(0)])

    with pytest.MonkeyPatch.context() as patch:
        if not agree:
            patch.setattr(timeline, "_agrees", lambda *_: 0)
        pieces = arrange(found)

    free = 0
    for piece in pieces:
        assert piece.length > 0
        assert piece.place >= free
        free = piece.place + piece.length
        told = times[piece.source : piece.source + piece.length]
        placed = np.arange(piece.place, piece.place + piece.length)
        far = np.abs(placed - told) > timeline.SLACK_SECONDS * RATE
        assert agree or not far.any()
        runs = np.flatnonzero(np.diff(np.concatenate([[False], far, [False]]).astype(int))).reshape(-1, 2)
        assert all(
            end - begin < 1.2 * RATE and end < far.size for begin, end in runs
        )  # within a second, and it agrees again
    assert free <= max([0, *times + 1]) + timeline.SLACK_SECONDS * RATE
    sources = {number for piece in pieces for number in range(piece.source, piece.source + piece.length)}
    for number, time in enumerate(times):  # what is left out came after sound of a later time, or lies before 0
        assert number in sources or time < max([0, *times[:number]]) + timeline.SLACK_SECONDS * RATE


def test_the_file_holds_the_pieces_with_silence_between_them(tmp_path: Path) -> None:
    """Of two channels; the second is the first, negated."""
    values = np.arange(1, 301, dtype=np.float32) / 1000
    np.stack([values, -values], axis=1).tofile(tmp_path / "raw")
    pieces = [Piece(1500, 0, 100), Piece(1700, 150, 150)]

    track = write_wav(tmp_path / "raw", tmp_path / "out.wav", pieces, rate=RATE, channels=2)

    samples, rate = soundfile.read(tmp_path / "out.wav", dtype="float32")
    expected = np.concatenate([np.zeros(1500), values[:100], np.zeros(100), values[150:]]).astype(np.float32)
    assert (rate, track.samples) == (RATE, 1850)
    assert (samples == np.stack([expected, -expected], axis=1)).all()
    level = 10 * np.log10(np.mean(np.square(expected, dtype=np.float64)))
    assert track.levels_db == pytest.approx((level, level))


def test_silence_has_a_level(tmp_path: Path) -> None:
    np.zeros(100, np.float32).tofile(tmp_path / "raw")

    track = write_wav(tmp_path / "raw", tmp_path / "out.wav", [Piece(0, 0, 100)], rate=RATE, channels=1)

    assert track.levels_db == (-200.0,)


def test_a_time_far_away_does_not_fill_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ffmpeg, "MAX_OUTPUT", 2**20)
    np.zeros(100, np.float32).tofile(tmp_path / "raw")

    with pytest.raises(ffmpeg.TooLargeError, match="more than 1 MiB"):
        write_wav(tmp_path / "raw", tmp_path / "out.wav", [Piece(2**18, 0, 100)], rate=RATE, channels=1)
    assert (tmp_path / "out.wav").stat().st_size < 2**20


class FailsOnce(io.FileIO):
    """The third write, of many, fails: libsndfile seeks then, and its callbacks lose what is raised in them."""

    writes = 0

    def write(self, data: Any) -> int:
        FailsOnce.writes += 1
        if FailsOnce.writes == 3:
            raise OSError(errno.EIO, "Input/output error")
        return super().write(data)


def test_a_disk_that_fails_once_while_sound_is_written_is_not_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    np.zeros(100_000, np.float32).tofile(tmp_path / "raw")
    real = Path.open

    def opened(path: Path, mode: str) -> IO[bytes]:
        return (
            io.BufferedRandom(FailsOnce(path, mode)) if path.name == "out.wav" else cast("IO[bytes]", real(path, mode))
        )

    monkeypatch.setattr(Path, "open", opened)
    monkeypatch.setattr(FailsOnce, "writes", 0)
    with pytest.raises(OSError, match=rf"Input/output error: '{tmp_path}/out.wav'"):
        write_wav(tmp_path / "raw", tmp_path / "out.wav", [Piece(0, 0, 100_000)], rate=RATE, channels=1)
    assert FailsOnce.writes > 3
    assert capfd.readouterr().err == ""
