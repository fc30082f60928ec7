"""examples/list_folders.py: clips in class folders become a build, or one error lists everything that prevents it."""

import importlib.util
import shlex
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from kinetics_sounds import manifest
from kinetics_sounds.pipelines import build, publish

from .pipelines.conftest import inline, video

SCRIPT = Path(__file__).parents[1] / "examples/list_folders.py"


def load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("list_folders", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run(folder: Path, out: Path) -> int:
    code: int = load().main([str(folder), "--out", str(out)])
    return code


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(name.encode())


@pytest.mark.slow
def test_class_folders_become_a_build_that_is_published(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    inline(monkeypatch)
    monkeypatch.chdir(tmp_path)
    lengths = {
        "train/clapping/IMG_1": 2,
        "train/dog, big/b": 3.9,
        "train/dog, big/-c": 1.6,
        "validate/clapping/d_0_9": 2.5,
    }
    for seed, (name, seconds) in enumerate(lengths.items()):
        video(tmp_path / f"my clips/{name}.mp4", seconds=seconds, seed=seed)
    touch(tmp_path, "my clips/train/clapping/notes.mxf")

    assert run(Path("my clips"), Path("mine")) == 0

    assert Path("mine.csv").read_text().splitlines() == [
        "label,youtube_id,time_start,time_end,split",
        "clapping,IMG_1,0,2,train",
        '"dog, big",-c,0,1,train',
        '"dog, big",b,0,4,train',
        "clapping,d_0_9,0,2,val",
    ]
    assert Path("mine.txt").read_text() == "clapping\ndog, big\n"
    said = capsys.readouterr()
    assert said.err.startswith(
        "left out, in a container that is not read (convert it to mp4, such as with ffmpeg): 1 file: "
    )
    first, last = said.out.splitlines()
    assert first == "mine.csv: 4 clips of 2 classes: mine.txt"
    words = shlex.split(last.removeprefix("next: "))
    assert words[0] == "ks-build"
    assert "--out" not in words
    assert build.main([*words[1:], "--workers", "1"]) == 0
    made = manifest.read(Path("data/mine/manifest.parquet"))
    assert {each.clip.youtube_id: each.media and each.media.origin for each in made.outcomes} == {
        Path(name).name: f"{name}.mp4" for name in lengths
    }
    assert publish.main(["--creator", "A. Name", "--workers", "1"]) == 0
    assert run(Path("my clips"), Path("mine")) == 2
    assert "mine.csv and mine.txt: already there; give another --out" in capsys.readouterr().err


def test_all_names_that_a_build_cannot_take_are_told_at_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    touch(
        tmp_path, *(f"train/dog/a {number:02}.mp4" for number in range(12)), "train/cat/IMG_1.mp4", "test/dog/img_1.MOV"
    )
    touch(tmp_path, "train/no. #1/b.mp4", "train/no. #1/b.mkv")

    assert run(tmp_path, tmp_path / "mine") == 2

    said = capsys.readouterr().err.splitlines()
    assert [line.partition(": ")[2] for line in said[1:]] == [
        f"{', '.join(f'train/dog/a {number:02}.mp4' for number in range(10))} and 2 more",
        "train/cat/IMG_1.mp4 and test/dog/img_1.MOV, train/no. #1/b.mkv and train/no. #1/b.mp4",
        "no. #1",
    ]
    assert not list(tmp_path.glob("mine.*"))


def test_a_file_without_a_length_is_left_to_the_build(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    touch(tmp_path, "clips/train/clapping/a.mp4", "clips/train/claping/b.mp4", "data/mine/manifest.parquet")

    assert run(Path("clips"), Path("mine")) == 0

    assert Path("mine.csv").read_text().splitlines()[1:] == ["claping,b,0,1,train", "clapping,a,0,1,train"]
    said = capsys.readouterr()
    assert "nearly the same name: 'claping' (1 clip) and 'clapping' (1 clip)\n" in said.err
    assert said.out.endswith(" --source local:clips --local.trimmed yes --out data/mine_2\n")  # the other is another's


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ([], "nothing here: is not a folder"),
        (["a.txt"], "no file like train/CLASS/FILE.mp4"),
        (["train/b.mp4"], "not in train/CLASS/: train/b.mp4; move these files into train/CLASS/"),
    ],
)
def test_a_folder_without_class_folders_is_refused(
    names: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    touch(tmp_path / "nothing here", *names)

    assert run(tmp_path / "nothing here", tmp_path / "mine") == 2

    assert said in capsys.readouterr().err


def test_lists_of_files_beside_classes_are_for_the_build(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In the folder itself they would be refused: see the next test."""
    touch(tmp_path, "train/b.mp4")

    assert run(tmp_path, tmp_path / "mine") == 2

    assert "if lists name them (train.csv and so on), give ks-build these as --annotations" in capsys.readouterr().err


def test_lists_are_for_the_build_itself(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    touch(tmp_path, "train/dog/a_000000_000010.mp4")
    (tmp_path / "train.csv").write_text("label,youtube_id,time_start,time_end,split\ndog,a,0,10,train\n")

    assert run(tmp_path, tmp_path / "mine") == 2

    assert "has lists of its clips; give these to ks-build --annotations" in capsys.readouterr().err


def test_help_says_what_is_written() -> None:
    done = subprocess.run([sys.executable, SCRIPT, "--help"], capture_output=True, text=True, check=True)

    assert "`mine.csv`, a row for each" in done.stdout
