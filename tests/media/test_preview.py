"""A preview is small, plays in a browser, and shows the whole of its sound."""

from pathlib import Path

import numpy as np
import pytest

from kinetics_sounds.errors import MediaError
from kinetics_sounds.media import preview, synthesize
from kinetics_sounds.media.probe import probe, spans

RATE = 24_000


def film(path: Path, *, seconds: float = 2, fps: int = 30, height: int = 240) -> Path:
    """Noise that stands still, whose sound is a tone in its second half alone."""
    still = np.random.default_rng(0).integers(0, 255, (1, height, height * 4 // 3, 3), dtype=np.uint8)
    times = np.arange(round(seconds * RATE)) / RATE
    wave = (0.3 * np.sin(2 * np.pi * 440 * times) * (times > seconds / 2)).astype(np.float32)
    synthesize.write_mp4(path, still.repeat(round(seconds * fps), axis=0), wave, fps=fps, sample_rate=RATE)
    return path


def test_a_clip_becomes_small_and_keeps_its_length_and_the_place_of_its_sound(tmp_path: Path) -> None:
    source = film(tmp_path / "clip.mp4")

    made = preview.of_clip(source)

    out = tmp_path / "small.mp4"
    out.write_bytes(made.mp4)
    found, (shown, heard) = probe(out), spans(out)
    assert found.video is not None
    assert found.audio is not None
    assert (found.video.codec, found.audio.codec) == ("h264", "aac")
    assert (found.video.height, found.video.width) == (112, 150)
    assert shown is not None
    assert heard is not None
    assert shown.last_seconds == pytest.approx(2, abs=0.1)
    assert heard.last_seconds == pytest.approx(2, abs=0.1)
    assert made.mel_FT is not None
    assert made.mel_FT.shape == (64, 256)
    assert made.mel_FT[:, :120].max() < 0.2
    assert made.mel_FT[:, 136:].max() > 0.9


def test_of_a_long_clip_the_first_half_minute_is_kept(tmp_path: Path) -> None:
    made = preview.of_clip(film(tmp_path / "long.mp4", seconds=32, fps=5, height=36))

    out = tmp_path / "small.mp4"
    out.write_bytes(made.mp4)
    shown, _ = spans(out)
    assert shown is not None
    assert shown.last_seconds == pytest.approx(preview.MOST_SECONDS, abs=0.3)


def test_what_has_no_picture_is_refused(tmp_path: Path) -> None:
    (tmp_path / "none.mp4").write_bytes(b"\0" * 100)

    with pytest.raises(MediaError):
        preview.of_clip(tmp_path / "none.mp4")
