from pathlib import Path

import numpy as np
import pytest

from kinetics_sounds.media import probe, synthesize

from .conftest import RATE, beep, beep_seconds, grey_ramp, numbers, pictures, sound


def test_what_is_written_is_what_is_read(tmp_path: Path) -> None:
    out = tmp_path / "clip.mp4"
    synthesize.write_mp4(out, grey_ramp(40), beep(4, RATE), fps=10, sample_rate=RATE)
    found = probe.probe(out)

    assert found.video is not None
    assert found.audio is not None
    assert (found.video.codec, found.video.width, found.video.height) == ("h264", 64, 48)
    assert found.video.fps == 10
    assert (found.audio.codec, found.audio.rate, found.audio.channels) == ("aac", RATE, 1)
    assert numbers(out) == list(range(40))
    assert beep_seconds(*sound(out)) == pytest.approx((3.0, 3.5), abs=0.005)


def test_colours_and_places_are_kept(tmp_path: Path) -> None:
    quarters = np.zeros((4, 48, 64, 3), np.uint8)
    quarters[:, :24, :32] = (255, 0, 0)
    quarters[:, :24, 32:] = (0, 255, 0)
    quarters[:, 24:, :32] = (0, 0, 255)
    synthesize.write_mp4(tmp_path / "clip.mp4", quarters, np.zeros(RATE), fps=10, sample_rate=RATE)

    picture = pictures(tmp_path / "clip.mp4")[2][1]
    assert picture[12, 16] == pytest.approx([255, 0, 0], abs=10)
    assert picture[12, 48] == pytest.approx([0, 255, 0], abs=10)
    assert picture[36, 16] == pytest.approx([0, 0, 255], abs=10)
    assert picture[36, 48] == pytest.approx([0, 0, 0], abs=10)


def test_the_bytes_are_the_same_every_time_and_nothing_else_is_left(tmp_path: Path) -> None:
    for name in ("a.mp4", "b.mp4"):
        synthesize.write_mp4(tmp_path / name, grey_ramp(5), beep(1, RATE), fps=10, sample_rate=RATE)

    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.mp4", "b.mp4"]


@pytest.mark.parametrize("shape", [(0, 48, 64, 3), (2, 47, 64, 3), (2, 48, 63, 3), (2, 48, 64, 1), (2, 48, 64, 4)])
def test_frames_that_cannot_be_are_refused(tmp_path: Path, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="frames must be"):
        synthesize.write_mp4(tmp_path / "clip.mp4", np.zeros(shape, np.uint8), np.zeros(RATE), fps=10, sample_rate=RATE)


def test_frames_of_another_kind_of_number_are_refused(tmp_path: Path) -> None:
    """Their bytes would be taken for pixels: eight times as many, of noise."""
    with pytest.raises(ValueError, match="frames must be"):
        synthesize.write_mp4(tmp_path / "clip.mp4", np.zeros((2, 48, 64, 3)), np.zeros(RATE), fps=10, sample_rate=RATE)
