"""A folder of small real videos under made-up ids, good and bad, with class list and annotations."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kinetics_sounds.media import ffmpeg, synthesize
from kinetics_sounds.pipelines import executors

from ..serving import serving
from .mirror import Mirror, Place


class Inline:
    """A pool that carries tasks out one by one, here, when their results are asked for."""

    workers = 1

    def __init__(self, work: Any) -> None:
        self.work = work
        self.tasks: list[Any] = []

    @property
    def busy(self) -> int:
        return len(self.tasks)

    def submit(self, task: Any, *, timeout_seconds: float) -> None:
        assert timeout_seconds > 0
        self.tasks.append(task)

    def finished(self, seconds: float) -> list[tuple[Any, Any]]:
        return [(task, self.work(task)) for task in (self.tasks.pop(0) for _ in self.tasks[:1])] if seconds else []

    def close(self) -> None:
        self.tasks.clear()


def inline(patch: pytest.MonkeyPatch) -> None:
    """No worker is started from now on, which saves seconds each: for tests to which processes do not matter."""
    patch.setattr(executors, "start", lambda _name, function, **_: Inline(function))


@dataclass(frozen=True)
class Folder:
    """What `ks-build` is given, and the status that each key should get."""

    videos: Path
    classes: Path
    annotations: Path
    expected: dict[str, str]


def video(path: Path, *, seconds: float, seed: int = 0, tone_hz: float = 440.0, side: int = 48) -> None:
    """A video of drifting noise with a tone."""
    generator = np.random.default_rng(seed)
    still = generator.integers(0, 255, (side, side, 3), dtype=np.uint8)
    frames = np.stack([np.roll(still, step, axis=1) for step in range(round(10 * seconds))])
    times = np.arange(round(24_000 * seconds)) / 24_000
    wave = (0.3 * np.sin(2 * np.pi * tone_hz * times)).astype(np.float32)
    path.parent.mkdir(parents=True, exist_ok=True)
    synthesize.write_mp4(path, frames, wave, fps=10, sample_rate=24_000)


def without_sound(source: Path, path: Path) -> None:
    """The same picture and no sound stream."""
    opened = ffmpeg.source(source)
    ffmpeg.run(ffmpeg.sink(opened.video, path=path, vcodec="copy", format="mp4"), timeout_seconds=30)


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    root = tmp_path_factory.mktemp("videos")
    videos = root / "videos"
    rows = ["label,youtube_id,time_start,time_end,split,is_cc"]
    expected: dict[str, str] = {}

    def annotate(name: str, start: int, end: int, label: str, split: str, status: str) -> str:
        rows.append(f'"{label}",{name},{start},{end},{split},0')
        key = f"{name}_{start:06d}_{end:06d}"
        expected[key] = status
        return key

    for number in range(6):
        split = ("train", "train", "validate")[number % 3]
        label = ("humming", 'person\'s "buzz" / zoom')[number % 2]
        key = annotate(f"-trimmed_{number}", 7, 9, label, split, "ok")
        video(videos / label.split()[0] / f"{key}.mp4", seconds=2, seed=number, tone_hz=300 + 100 * number)
    annotate("whole", 1, 3, "humming", "train", "ok")
    annotate("whole", 2, 4, "humming", "train", "ok")
    video(videos / "whole.mp4", seconds=5, seed=10)
    annotate("whole", 20, 22, "humming", "train", "too_short")
    video(videos / f"{annotate('short', 0, 4, 'humming', 'train', 'too_short')}.mp4", seconds=2)
    mute = annotate("mute", 0, 2, "humming", "train", "no_audio")
    without_sound(videos / "whole.mp4", videos / f"{mute}.mp4")
    (videos / f"{annotate('garbage', 0, 2, 'humming', 'train', 'corrupt')}.mp4").write_bytes(b"\0" * 4096)
    (videos / f"{annotate('empty', 0, 2, 'humming', 'train', 'corrupt')}.webm").write_bytes(b"")
    cut_off = videos / f"{annotate('cutoff', 0, 2, 'humming', 'train', 'corrupt')}.mp4"
    video(cut_off, seconds=2)
    cut_off.write_bytes(cut_off.read_bytes()[: cut_off.stat().st_size // 2])
    annotate("elsewhere", 3, 5, "humming", "test", "not_in_source")

    classes, annotations = root / "mine.txt", root / "list.csv"
    classes.write_text('humming\nperson\'s "buzz" / zoom\n')
    text = "\n".join(rows).replace('"person\'s "buzz" / zoom"', '"person\'s ""buzz"" / zoom"')
    annotations.write_text(text + "\n")
    return Folder(videos, classes, annotations, expected)


@pytest.fixture(scope="session")
def running_mirror() -> Iterator[Mirror]:
    with serving(Mirror()) as mirror:
        yield mirror
        mirror.over.set()


@pytest.fixture
def mirror(running_mirror: Mirror) -> Mirror:
    running_mirror.clear()
    return running_mirror


@pytest.fixture(scope="session")
def sound(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A real clip of two seconds."""
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    video(path, seconds=2)
    return path.read_bytes()


@pytest.fixture
def place(tmp_path: Path, mirror: Mirror) -> Place:
    return Place(tmp_path, mirror.spec)
