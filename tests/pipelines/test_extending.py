"""What docs/extending.md says of sources, executors, layouts and data sets, done as it says."""

import shutil
import wave
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from kinetics_sounds import manifest, stream
from kinetics_sounds.clip import Outcome
from kinetics_sounds.pipelines import build, export, shard

from ..documents import EXAMPLES, installed
from .conftest import inline

if TYPE_CHECKING:
    from .conftest import Folder

SOURCE, EXECUTOR = "kinetics_sounds/sources/table.py", "pipelines/executors/debug.py"
LAYOUT = "pipelines/layouts/wavs.py"
DATASET = "kinetics_sounds/datasets/class_folders.py"
Build = Callable[..., tuple[Outcome, ...]]


@pytest.fixture
def built(folder: "Folder", tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Build]:
    """A function that builds the two spans of one video, and one of a video whose file is gone, from a relative table."""
    (tmp_path / "classes.txt").write_text("humming\n")
    lines = [
        "label,youtube_id,time_start,time_end,split",
        *(f"humming,{each},val" for each in ("a,1,3", "a,2,4", "b,0,2")),
    ]
    (tmp_path / "list.csv").write_text("\n".join(lines) + "\n")
    (tmp_path / "table.csv").write_text(f"a,{folder.videos / 'whole.mp4'}\nb,{tmp_path / 'gone.mp4'}\n")
    monkeypatch.chdir(tmp_path)

    def outcomes(*more: str) -> tuple[Outcome, ...]:
        lists = ["--classes=classes.txt", "--annotations=list.csv", "--splits=val"]
        assert build.main([*lists, "--source=table:table.csv", "--out=out", *more]) == 1
        return manifest.read(Path("out/manifest.parquet")).outcomes

    with installed(SOURCE, tmp_path):
        yield outcomes


def test_a_source_gives_its_clips_and_says_what_it_lacks(
    built: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inline(monkeypatch)

    found = {row.clip.key: row for row in built()}

    assert {key: str(row.status) for key, row in found.items()} == {
        "a_000001_000003": "ok",
        "a_000002_000004": "ok",
        "b_000000_000002": "not_in_source",
    }
    assert {row.source for row in found.values()} == {f"table:{tmp_path / 'table.csv'}"}


def test_an_executor_builds_and_packs(built: Build, tmp_path: Path) -> None:
    with installed(EXECUTOR, tmp_path):
        assert sorted(str(row.status) for row in built("--executor=debug")) == ["not_in_source", "ok", "ok"]
        assert shard.main(["--manifest=out/manifest.parquet", "--executor=debug"]) == 0

    assert Path("out/shards/val/val-000000.tar").is_file()


def test_a_layout_is_found_by_its_name(
    built: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    inline(monkeypatch)
    built()

    with installed(LAYOUT, tmp_path):
        assert export.main(["wavs", "--manifest=out/manifest.parquet", "--out=sounds", "--sample_rate=8000"]) == 0
        assert export.main(["--help"]) == 0

    assert "  wavs           Only the audio" in capsys.readouterr().out
    keys = ["a_000001_000003", "a_000002_000004"]
    assert [path.stem for path in sorted(Path("sounds/val").iterdir())] == keys
    assert Path("sounds/labels.csv").read_text() == "".join(f"{key},0,'humming'\n" for key in keys)
    with wave.open("sounds/val/a_000001_000003.wav") as sound:
        assert (sound.getframerate(), sound.getnframes()) == (8000, 16_000)


def test_a_data_set_is_packed_by_its_name(
    folder: "Folder", tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    inline(monkeypatch)
    monkeypatch.chdir(tmp_path)
    for place in ("train/humming/a.mp4", "train/singing/b.mp4", "test/humming/c.mp4"):
        (tmp_path / "set" / place).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(folder.videos / "mute_000000_000002.mp4", tmp_path / "set" / place)

    with installed(DATASET, tmp_path):
        assert shard.main(["--dataset=class_folders", "--folder=set", "--short_side=32"]) == 0

    assert "train: 2 samples in 1 shard\ntest: 1 sample in 1 shard" in capsys.readouterr().out
    split = stream.open_split("data/class_folders/shards", "train")
    assert {split.key(number) for number in range(2)} == {"a", "b"}
    assert split.dataset.labels == ("humming", "singing")


def test_every_example_is_used_by_a_test() -> None:
    folders = ("kinetics_sounds/sources", "kinetics_sounds/datasets", "pipelines")
    assert {path for path in EXAMPLES if path.startswith(folders)} == {
        SOURCE,
        EXECUTOR,
        LAYOUT,
        DATASET,
    }
