"""Small videos in which every frame says its number and the sound says the time.

Frame n of a ramp is one flat grey of level 8 + 3n. The beep is a 1 kHz tone from 3.0 to 3.5 s, with silence around it.
"""

import subprocess
from pathlib import Path

import av
import numpy as np
import pytest

from kinetics_sounds.media import ffmpeg, probe, synthesize

FPS = 10
SECONDS = 8
RATE = 44_100
BEEP_SECONDS = (3.0, 3.5)


def tool(*arguments: object) -> None:
    """Run ffmpeg with these arguments; for making media, never for what is under test."""
    argv = [ffmpeg.executable(), "-nostdin", "-y", "-v", "error", *map(str, arguments)]
    subprocess.run(argv, check=True, timeout=60)


def grey_ramp(count: int, *, height: int = 48, width: int = 64) -> np.ndarray:
    levels = (8 + 3 * np.arange(count)).astype(np.uint8)
    return np.broadcast_to(levels[:, None, None, None], (count, height, width, 3))


def beep(seconds: float, rate: int) -> np.ndarray:
    times = np.arange(round(seconds * rate)) / rate
    heard = (times >= BEEP_SECONDS[0]) & (times < BEEP_SECONDS[1])
    return np.where(heard, 0.5 * np.sin(2 * np.pi * 1000 * times), 0).astype(np.float32)


def pictures(path: Path) -> list[tuple[float, np.ndarray]]:
    """Time in seconds and RGB of every frame, as PyAV decodes them."""
    with av.open(str(path)) as container:
        return [(float(frame.time or 0), frame.to_ndarray(format="rgb24")) for frame in container.decode(video=0)]


def numbers(path: Path) -> list[int]:
    """Which frame of the ramp each frame shows."""
    return [round((float(picture.mean()) - 8) / 3) for _, picture in pictures(path)]


def sound(path: Path) -> tuple[np.ndarray, int]:
    """First channel from time 0, and its rate, as PyAV decodes it."""
    with av.open(str(path)) as container:
        rate = container.streams.audio[0].rate
        arrays = [(frame.time or 0, frame.to_ndarray()) for frame in container.decode(audio=0)]
    assert abs(arrays[0][0]) < 1e-6
    return np.concatenate([array[0] for _, array in arrays]), rate


def beep_seconds(waveform: np.ndarray, rate: int) -> tuple[float, float]:
    """Where the beep begins and ends in a waveform."""
    loud = np.flatnonzero(np.abs(waveform) > np.abs(waveform).max() / 4)
    return loud[0] / rate, loud[-1] / rate


@pytest.fixture(scope="session")
def ramp(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """8 s of 64 x 48 at 10 frames a second, a keyframe every 5 s, with the beep."""
    folder = tmp_path_factory.mktemp("ramp")
    synthesize.write_mp4(
        folder / "plain.mp4", grey_ramp(FPS * SECONDS), beep(SECONDS, RATE), fps=FPS, sample_rate=RATE, crf=4
    )
    gop = ("-g", 50, "-keyint_min", 50, "-sc_threshold", 0)
    tool("-i", folder / "plain.mp4", "-c:v", "libx264", "-crf", 4, *gop, "-c:a", "copy", folder / "ramp.mp4")
    return folder / "ramp.mp4"


@pytest.fixture(scope="session")
def silent_film(ramp: Path) -> Path:
    """The ramp without a sound stream."""
    out = ramp.with_name("silent_film.mp4")
    tool("-i", ramp, "-c", "copy", "-an", out)
    return out


@pytest.fixture(scope="session")
def song(ramp: Path) -> Path:
    """The beep without a picture stream."""
    out = ramp.with_name("song.m4a")
    tool("-i", ramp, "-c", "copy", "-vn", out)
    return out


@pytest.fixture
def found(ramp: Path) -> probe.Probe:
    return probe.probe(ramp)
