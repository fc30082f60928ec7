"""Each layout read as its loader reads it, by small readers written from what those loaders do (`docs/layouts.md`)."""

import csv
import json
import os
import random
import subprocess
import sys
import wave
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from kinetics_sounds import files, lists
from kinetics_sounds.classes import ClassList
from kinetics_sounds.clip import SPLITS, Clip
from kinetics_sounds.media import fbank
from kinetics_sounds.pipelines.fetching.list_plan import Asked, plan_lists
from kinetics_sounds.pipelines.layouts import Entry, Exported, mmaction2

from .conftest import HOSTILE, INDEX, LABELS, ROWS, Build, outcome, video

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("here")]


def grey(path: Path) -> int:
    """Which frame of its video a JPEG shows."""
    with Image.open(path) as image:
        assert image.mode == "RGB"
        return round((float(np.asarray(image).mean()) - 8) / 3)


def picked(files_in_folder: int, *, train: bool) -> list[int]:
    """The three frames that OGM-GE's followers open, by number, of a folder of so many."""
    part = files_in_folder // 3
    if files_in_folder <= 6:
        return [1, 1, 1]
    if train:
        return [min(random.randint(place * part + 1, place * part + part), 9) for place in range(3)]
    return [place * part + max(part // 2, 1) for place in range(3)]


def followers(list_: Path, visual: Path, audio: Path, *, train: bool) -> list[tuple[str, int, np.ndarray, list[int]]]:
    """Rows split at blanks, the class last; a name counts if its .npy is there and it has more than three frames."""
    found = []
    for line in list_.read_text().splitlines():
        fields = line.split(" ")
        name, label = fields[0].split("/")[-1], int(fields[-1])
        if not (audio / f"{name}.npy").exists():
            continue
        count = len(list((visual / name).iterdir()))
        if count > 3:
            spectrogram = np.load(audio / f"{name}.npy")
            frames = [grey(visual / name / f"frame_0000{number}.jpg") for number in picked(count, train=train)]
            found.append((name, label, spectrogram, frames))
    return found


@pytest.fixture
def ogm(whole: Build, tmp_path: Path) -> Path:
    assert whole.export("ogm", tmp_path / "out", "--audio", "both") == 1  # a clip of three seconds is left out
    return tmp_path / "out"


def test_followers_of_ogm_ge_read_frames_spectrograms_and_classes(ogm: Path) -> None:
    found = {
        split: followers(
            ogm / f"{split}_1fps_path.txt", ogm / "visual" / split, ogm / "audio" / split, train=split == "train"
        )
        for split in ("train", "val", "test")
    }

    classes = {split: {name: label for name, label, _, _ in rows} for split, rows in found.items()}
    assert classes == {
        "train": {"-abc_000007_000012": INDEX["playing drums"], "b_1_000000_000005": INDEX[HOSTILE]},
        "val": {"c_000003_000008": INDEX["zither (big)"]},
        "test": {"d_000000_000005": INDEX["playing drums"]},
    }
    for rows in found.values():
        for name, _, spectrogram, frames in rows:
            assert spectrogram.shape == (1024, 128), name
            assert spectrogram.dtype == np.float32, name
            assert frames == [4, 4, 4]  # of five frames they take the first, and that is the middle of the first second


def test_ogm_ge_s_own_list_has_name_frames_and_class(ogm: Path) -> None:
    with (ogm / "my_train.txt").open(newline="") as file:
        rows = [(name, int(frames), int(label)) for name, frames, label in csv.reader(file)]

    assert rows == [("-abc_000007_000012", 5, 1), ("b_1_000000_000005", 5, 0)]
    assert (ogm / "classes.txt").read_text().splitlines() == sorted(INDEX, key=lambda label: INDEX[label])
    for name, frames, _ in rows:
        shown = [grey(ogm / "visual/train" / name / f"frame_{number:05d}.jpg") for number in range(1, frames + 1)]
        assert shown == [4, 14, 24, 34, 44]


def test_ogm_ge_s_sound_is_16_khz_mono_and_its_filter_bank_is_made_of_it(ogm: Path) -> None:
    path = ogm / "audio/train/-abc_000007_000012.wav"
    with wave.open(str(path)) as sound:
        assert (sound.getframerate(), sound.getnchannels(), sound.getsampwidth()) == (16_000, 1, 2)
        samples = np.frombuffer(sound.readframes(sound.getnframes()), "<i2") / 2**15

    spectrum = np.abs(np.fft.rfft(samples * np.hanning(samples.size)))
    assert spectrum.argmax() * 16_000 / samples.size == pytest.approx(300, abs=1)
    assert samples.size == pytest.approx(5 * 16_000, abs=800)
    np.testing.assert_array_equal(np.load(path.with_suffix(".npy")), fbank.of_wav(path))


def test_a_clip_of_twelve_seconds_has_ten_frames(tmp_path: Path) -> None:
    """With twelve their loader would look for `frame_000010.jpg`."""
    build = Build(tmp_path / "build")
    video(build.folder / "clips/long_000000_000012.mp4", seconds=12, tone_hz=500)
    row = ("long", 0, 12, "playing drums", "test")
    build.write([outcome(build.folder, row, build.folder / "clips/long_000000_000012.mp4")])

    assert build.export("ogm", tmp_path / "out", "--audio", "fbank") == 0

    out = tmp_path / "out"
    [(_, _, _, frames)] = followers(out / "test_1fps_path.txt", out / "visual/test", out / "audio/test", train=False)
    assert frames == [4, 34, 64]  # of ten frames, numbers 1, 4 and 7
    assert (out / "my_test.txt").read_text() == "long_000000_000012,10,1\n"
    assert not list(out.rglob("*.wav"))


def vggsound(root: Path) -> dict[str, list[tuple[Path, Path, int]]]:
    """Videos, sounds and classes of `train` and `test`: as OGM-GE finds them, classes numbered as train rows come."""
    found: dict[str, list[Any]] = {"train": [], "test": []}
    with (root / "vggsound.csv").open(newline="") as file:
        for youtube_id, start, label, split in csv.reader(file):
            if split in found:
                frames = root / f"{split}-videos/{split}-set-img/Image-01-FPS/{youtube_id}_{start}.mp4"
                sound = root / f"{split}-audios/{split}-set/{youtube_id}_{start}.wav"
                if frames.exists() and sound.exists() and len(list(frames.iterdir())) > 3:
                    found[split].append((frames, sound, label))
    numbers: dict[str, int] = {}
    for _, _, label in found["train"]:
        numbers.setdefault(label, len(numbers))
    return {split: [(frames, sound, numbers[label]) for frames, sound, label in rows] for split, rows in found.items()}


def test_ogm_ge_reads_a_set_laid_out_as_vggsound(whole: Build, tmp_path: Path) -> None:
    assert whole.export("ogm_vggsound", tmp_path) == 1

    found = vggsound(tmp_path)

    names = {split: [(frames.name, number) for frames, _, number in rows] for split, rows in found.items()}
    assert names == {"train": [("b_1_0.mp4", 0), ("-abc_7.mp4", 1)], "test": [("d_0.mp4", 1)]}
    for frames, sound, _ in found["train"]:
        assert [grey(path) for path in sorted(frames.iterdir())] == [4, 14, 24, 34, 44]
        with wave.open(str(sound)) as opened:
            assert (opened.getframerate(), opened.getnchannels()) == (16_000, 1)


def test_val_may_be_what_they_test_on(whole: Build, tmp_path: Path) -> None:
    assert whole.export("ogm_vggsound", tmp_path, "--test_split", "val") == 1

    with (tmp_path / "vggsound.csv").open(newline="") as file:
        rows = {row[0]: row[3] for row in csv.reader(file)}
    assert rows == {"-abc": "train", "b_1": "train", "c": "test", "d": "val"}


def video_dataset(list_: Path, prefix: Path) -> dict[str, int]:
    """mmaction2's VideoDataset: two fields between blanks, path and class."""
    found = {}
    for line in list_.read_text().splitlines():
        path, label = line.strip().split()
        assert (prefix / path).is_file()
        found[path] = int(label)
    return found


def test_mmaction2_reads_videos(whole: Build, tmp_path: Path) -> None:
    assert whole.export("mmaction2", tmp_path) == 0

    found = {
        split: video_dataset(tmp_path / f"{split}_list_videos.txt", tmp_path / f"videos_{split}")
        for split in ("train", "val")
    }

    assert found == {
        "train": {
            "playing_drums/-abc_000007_000012.mp4": 1,
            "_cmd-_x_-,__b_/b_1_000000_000005.mp4": 0,
            "playing_drums/short_000001_000004.mp4": 1,
        },
        "val": {"zither_-big-/c_000003_000008.mp4": 2},
    }
    copy = tmp_path / "videos_train/playing_drums/-abc_000007_000012.mp4"
    assert copy.read_bytes() == whole.path("-abc").read_bytes()
    assert copy.stat().st_nlink == 1
    assert not [path for path in tmp_path.rglob("*") if path.is_symlink()]


@pytest.mark.parametrize("layout", ["mmaction2", "videofolder"])
def test_a_link_is_a_second_name_of_the_clip_and_changes_nothing_else(
    layout: str, whole: Build, tmp_path: Path
) -> None:
    before = {path: path.read_bytes() for path in whole.folder.rglob("*.mp4")}

    assert whole.export(layout, tmp_path / "a", "--link") == 0
    assert whole.export(layout, tmp_path / "b") == 0

    linked = sorted((tmp_path / "a").rglob("*.mp4"))
    assert {path.stat().st_ino for path in linked} == {path.stat().st_ino for path in before}
    assert not any(path.is_symlink() for path in linked)
    names = [
        path.relative_to(tmp_path / "a")
        for path in (tmp_path / "a").rglob("*")
        if path.name != ".lock" and path.is_file()
    ]
    assert all((tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes() for name in names)
    assert whole.export(layout, tmp_path / "a", "--check_bytes") == 0  # the options differ in no byte


def test_mmaction2_reads_raw_frames(whole: Build, tmp_path: Path) -> None:
    """RawframeDataset: folder, number of frames and class between blanks; frames from 1, `img_{:05}.jpg`."""
    assert whole.export("mmaction2", tmp_path, "--rawframes", "--short_side", "32") == 0

    rows = [line.strip().split() for line in (tmp_path / "train_list_rawframes.txt").read_text().splitlines()]

    assert [(folder, int(count), int(label)) for folder, count, label in rows] == [
        ("playing_drums/-abc_000007_000012", 50, 1),
        ("_cmd-_x_-,__b_/b_1_000000_000005", 50, 0),
        ("playing_drums/short_000001_000004", 30, 1),
    ]
    for folder, count, _ in rows:
        paths = [tmp_path / "rawframes_train" / folder / f"img_{number:05}.jpg" for number in range(1, int(count) + 1)]
        assert [grey(path) for path in paths] == list(range(int(count)))
    with Image.open(paths[0]) as image:
        assert image.size == (44, 32)


@pytest.mark.parametrize(
    ("label", "folder"),
    [
        ("playing drums", "playing_drums"),
        ("massaging person's head", "massaging_person's_head"),
        ("tying knot (not on a tie)", "tying_knot_-not_on_a_tie-"),
        ("../../etc/passwd", "_.._etc_passwd"),
        ("a\nb\u202e c", "a_b__c"),
        ("..", "_"),
    ],
)
def test_a_class_folder_is_mmaction2_s_and_harmless(label: str, folder: str) -> None:
    assert mmaction2.class_folder(label) == folder


VIDEOFOLDER = """
import json, sys
import datasets
found = datasets.load_dataset("videofolder", data_dir=sys.argv[1], cache_dir=sys.argv[2])
tables = {split: found[split].remove_columns("video").to_list() for split in found}
stored = found["train"].cast_column("video", datasets.Video(decode=False))[0]["video"]["path"]
print(json.dumps({"tables": tables, "stored": stored}))
"""


def test_datasets_reads_a_videofolder(whole: Build, tmp_path: Path) -> None:
    """By the package itself, in a process of its own: it leaves files open, and stays offline once it was."""
    assert whole.export("videofolder", tmp_path / "out") == 0
    words = [str(tmp_path / "out"), str(tmp_path / "cache")]
    environ = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "home")}
    done = subprocess.run(
        [sys.executable, "-c", VIDEOFOLDER, *words], check=True, capture_output=True, text=True, env=environ
    )
    found = json.loads(done.stdout)

    tables = found["tables"]
    assert [row["key"] for row in tables["train"]] == ["-abc_000007_000012", "b_1_000000_000005", "short_000001_000004"]
    assert [row["key"] for row in tables["validation"] + tables["test"]] == ["c_000003_000008", "d_000000_000005"]
    for row in [*tables["train"], *tables["validation"], *tables["test"]]:
        assert row["label_index"] == INDEX[files.from_people(row["label"])]
    assert tables["train"][1]["label"] == f"'{HOSTILE}"
    assert (tables["train"][0]["youtube_id"], tables["train"][0]["time_start"]) == ("-abc", 7)
    assert Path(found["stored"]).read_bytes() == whole.path("-abc").read_bytes()


@pytest.mark.parametrize("rawframes", [False, True])
def test_what_is_exported_for_mmaction2_is_read_back(rawframes: bool, tmp_path: Path) -> None:
    """By ks-build --clips, with the class list of the build, which is not sorted."""
    clips = [Clip(*row) for row in ROWS]
    settings = mmaction2.Settings(out=tmp_path, rawframes=rawframes)
    done = [
        Exported(entry=Entry(clip=clip, index=sorted(LABELS).index(clip.label)), counts={"frames": 50})
        for clip in clips
    ]
    for name, data in mmaction2.lists(done, sorted(LABELS), settings).items():
        (tmp_path / name).write_bytes(data)
    written = [path for path in sorted(tmp_path.glob("*_list_*.txt")) if path.stat().st_size]

    plan = plan_lists(
        [lists.recognise(path) for path in written],
        ClassList("mine", LABELS),
        Asked(splits=SPLITS),
        annotation_lists=list,
        always=False,
    )

    assert len(written) == 3
    assert set(plan.clips) == set(clips)
