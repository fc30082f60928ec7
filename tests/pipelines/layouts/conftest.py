"""A build of small clips whose frames tell their numbers, made without ks-build."""

import dataclasses
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kinetics_sounds import files, manifest
from kinetics_sounds.classes import ClassList
from kinetics_sounds.clip import Clip, Media, Outcome, Status
from kinetics_sounds.media import synthesize
from kinetics_sounds.pipelines import export

from ..conftest import inline

FPS = 10
HOSTILE = '=cmd("x"), <b>'
LABELS = ("zither (big)", "playing drums", HOSTILE)
"""In the class list's order, which is not the sorted one."""
INDEX = {HOSTILE: 0, "playing drums": 1, "zither (big)": 2}


def video(path: Path, *, seconds: int, tone_hz: float) -> None:
    """Frame n is one grey of level 8 + 3n, and the sound a tone."""
    levels = (8 + 3 * np.arange(seconds * FPS)).astype(np.uint8)
    times = np.arange(24_000 * seconds) / 24_000
    wave = (0.4 * np.sin(2 * np.pi * tone_hz * times)).astype(np.float32)
    path.parent.mkdir(parents=True, exist_ok=True)
    frames = np.broadcast_to(levels[:, None, None, None], (len(levels), 48, 64, 3))
    synthesize.write_mp4(path, frames, wave, fps=FPS, sample_rate=24_000, crf=4)


@dataclass(frozen=True)
class Build:
    """A folder as ks-build leaves it."""

    folder: Path

    @property
    def manifest(self) -> Path:
        return self.folder / "manifest.parquet"

    @property
    def outcomes(self) -> tuple[Outcome, ...]:
        return manifest.read(self.manifest).outcomes

    def path(self, youtube_id: str) -> Path:
        return next(
            self.folder / each.media.path for each in self.outcomes if each.media and each.clip.youtube_id == youtube_id
        )

    def write(
        self,
        outcomes: "list[Outcome] | tuple[Outcome, ...]",
        labels: tuple[str, ...] = LABELS,
        classes: ClassList | None = None,
    ) -> None:
        manifest.write(self.manifest, classes or ClassList("mine", labels), outcomes)

    def export(self, layout: str, out: Path, *more: str) -> int:
        return int(export.main([layout, "--manifest", str(self.manifest), "--out", str(out), "--workers", "1", *more]))


ROWS = (
    ("-abc", 7, 12, "playing drums", "train"),
    ("b_1", 0, 5, HOSTILE, "train"),
    ("c", 3, 8, "zither (big)", "val"),
    ("d", 0, 5, "playing drums", "test"),
    ("short", 1, 4, "playing drums", "train"),
)


def outcome(folder: Path, row: tuple[str, int, int, str, str], path: Path) -> Outcome:
    """An ok row of the manifest for a clip's file below a folder."""
    facts: dict[str, Any] = {
        "duration_seconds": 5.0,
        "fps": float(FPS),
        "width": 64,
        "height": 48,
        "audio_rate": 24_000,
    }
    clip = Clip(*row)
    media = Media(
        path=str(path.relative_to(folder)),
        bytes=path.stat().st_size,
        sha256=files.sha256(path),
        num_frames=int(clip.seconds * FPS),
        audio_channels=1,
        audio_rms_db=-10.0,
        audio_offset_seconds=0.0,
        silent=False,
        still=False,
        other_streams="",
        rotation=0,
        decode_errors=0,
        audio_channel="mix",
        **facts,
    )
    return Outcome(clip=clip, status=Status.OK, media=media, source="local:x", tool_versions="none")


def make_build(folder: Path) -> Build:
    outcomes = []
    for number, row in enumerate(ROWS):
        path = folder / f"clips/{number}" / f"{Clip(*row).key}.mp4"
        video(path, seconds=row[2] - row[1], tone_hz=300 + 200 * number)
        outcomes.append(outcome(folder, row, path))
    gone = Outcome(clip=Clip("gone", 0, 5, "playing drums", "test"), status=Status.REMOVED, detail="it is gone")
    build = Build(folder)
    build.write([*outcomes, gone])
    return build


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Build:
    """The build, which no test changes: five ok clips, of which one has three seconds, and one that is gone."""
    return make_build(tmp_path_factory.mktemp("build"))


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clips are laid out in this process."""
    inline(monkeypatch)


@pytest.fixture(scope="session")
def undisturbed(whole: Build, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An export by ogm that went through at once, in this process."""
    out = tmp_path_factory.mktemp("undisturbed") / "out"
    with pytest.MonkeyPatch.context() as patch:
        inline(patch)
        assert whole.export("ogm", out) == 1
    return out


@pytest.fixture
def copy(undisturbed: Path, tmp_path: Path) -> Path:
    shutil.copytree(undisturbed, tmp_path / "copy")
    return tmp_path / "copy"


@pytest.fixture
def other(whole: Build, tmp_path: Path) -> Build:
    """A build of a test's own."""
    shutil.copytree(whole.folder, tmp_path / "other")
    return Build(tmp_path / "other")


def tree(folder: Path) -> dict[str, bytes]:
    """Every file below a folder but hidden ones, by its path."""
    paths = [path for path in folder.rglob("*") if path.is_file()]
    return {
        each: data
        for each, data in ((p.relative_to(folder).as_posix(), p.read_bytes()) for p in paths)
        if each[0] != "."
    }


def replaced(each: Outcome, **changes: Any) -> Outcome:
    """The same row with another label, split or so."""
    return dataclasses.replace(each, clip=dataclasses.replace(each.clip, **changes))
