"""The Python examples of docs/evaluate.md, run as they stand there."""

import re
import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from kinetics_sounds import stream, train
from kinetics_sounds.media import synthesize

PAGE = Path(__file__).parents[3] / "docs" / "evaluate.md"
SAMPLE, FILM, SOUND = re.findall(r"(?ms)^```python\n(.*?)^```$", PAGE.read_text())
RATE = 24_000


@pytest.fixture(autouse=True)
def here(finished: Path, shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A working directory with the files that the page names."""
    for name, target in (("runs/avcl_k32_recommended", finished), ("data/k32/shards", shards)):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).symlink_to(target)
    monkeypatch.chdir(tmp_path)


def run(example: str) -> dict[str, Any]:
    Path("example.py").write_text(example)
    return runpy.run_path("example.py")


def tone() -> np.ndarray:
    """A second of 440 Hz, float32."""
    return np.sin(2 * np.pi * 440 * np.arange(RATE) / RATE).astype(np.float32) / 2


def test_of_a_sample_of_the_shards(shards: Path) -> None:
    with stream.sample(stream.open_split(shards, "test"), 0) as sample:
        expected = train.load("runs/avcl_k32_recommended").features(sample)

    found = run(SAMPLE)
    assert torch.equal(found["video_D"], expected[0])
    assert torch.equal(found["audio_D"], expected[1])


def test_of_a_film_with_sound() -> None:
    """Grey that brightens in 20 frames; compression moves it by some levels."""
    frames_THWC = np.broadcast_to(np.arange(0, 200, 10, dtype=np.uint8)[:, None, None, None], (20, 96, 128, 3))
    synthesize.write_mp4(Path("mine.mp4"), frames_THWC, np.tile(tone(), 2), fps=10, sample_rate=RATE)

    found = run(FILM)

    assert found["raw"].frames_THWC.shape == (20, 128, 172, 3)
    assert np.abs(found["raw"].frames_THWC.mean(axis=(1, 2, 3)) - np.arange(0, 200, 10)).max() < 5
    assert len(found["raw"].sound) == pytest.approx(2 * RATE, abs=RATE / 20)
    assert found["video_D"].shape == found["audio_D"].shape == (16,)
    assert found["video_D"].count_nonzero() > 0


def test_of_sound_alone() -> None:
    """Its features are those of the sound beside any picture."""
    soundfile.write("mine.wav", np.stack([tone(), tone()], axis=1), RATE)

    found = run(SOUND)

    encoders, waveform = found["encoders"], found["waveform"]
    assert np.abs(waveform - tone()).max() < 1e-3
    noise_THWC = np.random.default_rng(0).integers(0, 256, (25, 36, 48, 3), dtype=np.uint8)
    raw = train.RawClip(frames_THWC=noise_THWC, fps=25.0, mel_FT=encoders.mel_image(waveform))
    assert torch.equal(found["audio_D"], encoders.features(raw)[1])
    assert len(encoders.sound_alone(waveform).frames_THWC) == 25
