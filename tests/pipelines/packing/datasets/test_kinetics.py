"""Kinetics-400, 600 and 700 as their mirrors and lists ship, each as a small folder."""

import os
import re
from collections.abc import Sequence
from pathlib import Path

import pytest

from kinetics_sounds import datasets, manifest
from kinetics_sounds.clip import SUFFIXES, Status
from kinetics_sounds.datasets import Listing
from kinetics_sounds.errors import ListError
from kinetics_sounds.pipelines import shard
from kinetics_sounds.pipelines.packing.dataset_report import Written
from kinetics_sounds.pipelines.viewing import sets

from ...conftest import inline
from . import shapes
from .test_datasets import packed

HEAD = "label,youtube_id,time_start,time_end,split"
BOWLING, YELLING = "bowling,-aB3_567890,0,10,train", '"person\'s yelling, loud",bbbbbbbbbbb,27,37,train'
ARCHERY = "archery,ccccccccccc,5,15,{split}"
KEYS = ("-aB3_567890_000000_000010", "bbbbbbbbbbb_000027_000037", "ccccccccccc_000005_000015")
LABELS = ("archery", "bowling", "person's yelling, loud")


def listed(path: Path, rows: Sequence[str], *, head: str = HEAD) -> Path:
    shapes.text(path, [head, *rows])
    return path


def touch(folder: Path, *names: str) -> Path:
    """Files whose bytes do not matter: a reader opens none."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def read(folder: Path) -> Listing:
    return datasets.load("kinetics").read(folder)


def files(folder: Path) -> dict[str, tuple[str, str]]:
    """Label and split of each file."""
    return {row.path: (row.label, row.split) for row in read(folder).rows}


def k400(folder: Path) -> Path:
    """The mirror's: flat, lists with `is_cc` beside the folders, and sound copies of corrupted files."""
    more = f"{HEAD},is_cc"
    listed(folder / "train.csv", [f"{BOWLING},0", f"{YELLING},1"], head=more)
    listed(folder / "val.csv", [f"{ARCHERY.format(split='val')},0"], head=more)
    replaced = f"replacement/replacement_for_corrupted_k400/{KEYS[1]}.mp4"
    return touch(folder, f"train/{KEYS[0]}.mp4", f"train/{KEYS[1]}.mp4", replaced, f"val/{KEYS[2]}.mp4")


def k600(folder: Path) -> Path:
    """The mirror's: an archive's own folder below each split's, and lists in `annotations`."""
    listed(folder / "annotations/train.csv", [BOWLING, YELLING])
    listed(folder / "annotations/test.csv", [ARCHERY.format(split="test")])
    shapes.text(folder / "annotations/kinetics600_holdout_test.csv", ["some,other,table"])
    return touch(folder, f"train/train/{KEYS[0]}.mp4", f"train/train/{KEYS[1]}.mp4", f"test/{KEYS[2]}.mp4")


def k700(folder: Path) -> Path:
    """DeepMind's list of Kinetics-700-2020, which says "validate", over class folders with underscores."""
    lists = folder / "annotations/deepmind/kinetics700_2020"
    listed(lists / "train.csv", [BOWLING, YELLING])
    listed(lists / "validate.csv", [ARCHERY.format(split="validate")])
    first, second = f"train/bowling/{KEYS[0]}.mp4", f"train/persons_yelling_loud/{KEYS[1]}.mp4"
    return touch(folder, first, second, f"val/archery/{KEYS[2]}.mp4")


def test_kinetics_400_of_the_mirror(tmp_path: Path) -> None:
    assert files(k400(tmp_path)) == {
        f"train/{KEYS[0]}.mp4": ("bowling", "train"),
        f"replacement/replacement_for_corrupted_k400/{KEYS[1]}.mp4": ("person's yelling, loud", "train"),
        f"val/{KEYS[2]}.mp4": ("archery", "val"),
    }
    assert (read(tmp_path).labels, read(tmp_path).unlisted) == (LABELS, ())


def test_kinetics_600_of_the_mirror(tmp_path: Path) -> None:
    assert files(k600(tmp_path)) == {
        f"train/train/{KEYS[0]}.mp4": ("bowling", "train"),
        f"train/train/{KEYS[1]}.mp4": ("person's yelling, loud", "train"),
        f"test/{KEYS[2]}.mp4": ("archery", "test"),
    }


def test_kinetics_700_2020_with_deepmind_s_lists(tmp_path: Path) -> None:
    assert files(k700(tmp_path)) == {
        f"train/bowling/{KEYS[0]}.mp4": ("bowling", "train"),
        f"train/persons_yelling_loud/{KEYS[1]}.mp4": ("person's yelling, loud", "train"),
        f"val/archery/{KEYS[2]}.mp4": ("archery", "val"),
    }


@pytest.mark.parametrize("place", ["kinetics700", "annotations/kinetics600", "kinetics400"])
def test_lists_may_lie_in_the_folder_that_they_are_unpacked_to(tmp_path: Path, place: str) -> None:
    listed(tmp_path / place / "train.csv", [BOWLING])

    assert files(touch(tmp_path, f"train/{KEYS[0]}.mp4")) == {f"train/{KEYS[0]}.mp4": ("bowling", "train")}


@pytest.mark.parametrize("name", ["kinetics_600_train.csv", "kinetics-400_train.csv", "kinetics_train.csv"])
def test_older_names_of_lists_are_known(tmp_path: Path, name: str) -> None:
    listed(tmp_path / name, [BOWLING])

    assert files(touch(tmp_path, f"videos/{KEYS[0]}.mkv")) == {f"videos/{KEYS[0]}.mkv": ("bowling", "train")}


def test_missing_and_unlisted_files_are_known(tmp_path: Path) -> None:
    folder = touch(k600(tmp_path), "train/ddddddddddd_000000_000010.mp4", "train/bbbbbbbbbbb.mp4")
    (folder / f"train/train/{KEYS[1]}.mp4").unlink()

    assert f"train/{KEYS[1]}.mp4" in files(folder)  # where it might have been
    assert read(folder).unlisted == ("train/bbbbbbbbbbb.mp4", "train/ddddddddddd_000000_000010.mp4")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        (f"val/{KEYS[0]}.mp4", r"annotations/train\.csv:2: -aB3.* is in train, but the file is val/-aB3"),
        (f"train/archery/{KEYS[0]}.mp4", r"train\.csv:2: -aB3.* is 'bowling', but the file is train/archery/-aB3"),
    ],
)
def test_a_file_that_lies_otherwise_than_its_list_says_is_refused(tmp_path: Path, name: str, said: str) -> None:
    with pytest.raises(ListError, match=said):
        read(touch(k600(tmp_path), name))


def test_two_rows_of_a_clip_must_agree(tmp_path: Path) -> None:
    folder = k600(tmp_path)
    listed(folder / "annotations/train.csv", [BOWLING, BOWLING])
    assert len(read(folder).rows) == 2
    listed(folder / "annotations/train.csv", [BOWLING, BOWLING.replace("bowling", "archery")])

    with pytest.raises(ListError, match=r"train\.csv:3: -aB3.* is 'archery' in train, but .*:2 has 'bowling' in train"):
        read(folder)


def test_a_list_without_labels_and_a_second_one_of_a_split_are_refused(tmp_path: Path) -> None:
    folder = k600(tmp_path)
    listed(folder / "annotations/test.csv", ["ccccccccccc,5,15,test"], head=HEAD.removeprefix("label,"))
    with pytest.raises(ListError, match=r"test\.csv: has no column 'label'.* move it away to leave the split out"):
        read(folder)
    listed(folder / "annotations/test.csv", [ARCHERY.format(split="test")])
    listed(folder / "annotations/kinetics_600_train.csv", [BOWLING])
    with pytest.raises(ListError, match=r"train\.csv: is a second list of train beside .*; move one away"):
        read(folder)


def test_a_wrong_row_is_named(tmp_path: Path) -> None:
    folder = k600(tmp_path)
    listed(folder / "annotations/train.csv", [BOWLING, "archery,ccccccccccc,x,15,train"])

    with pytest.raises(ListError, match=r"train\.csv:3: time_start 'x' is not a whole number of seconds"):
        read(folder)


def test_a_table_of_another_kind_beside_class_folders_is_no_list(tmp_path: Path) -> None:
    shapes.text(tmp_path / "train.csv", ["train/bowling/a.mp4 0"])

    assert files(touch(tmp_path, "train/bowling/a.mp4")) == {"train/bowling/a.mp4": ("bowling", "train")}


def test_class_folders_take_every_container_and_name_other_files(tmp_path: Path) -> None:
    names = [f"train/bowling/{place}{suffix}" for place, suffix in enumerate(SUFFIXES)]
    others = ("up.mp4", "train/bowling/b", "train/about.txt", "val/archery/Thumbs.db")
    ignored = ("train/bowling/notes.txt", "train/bowling/.hidden", "classes.csv", ".git/config")
    touch(tmp_path, *names, "train/bowling/C.MTS", *others, *ignored)

    found = read(tmp_path)
    assert {row.path for row in found.rows} == {*names, "train/bowling/C.MTS"}
    assert sorted(found.unlisted) == sorted(others)
    told = f"left out, for they are no videos in train/CLASS/, val/CLASS/ or test/CLASS/: 4 files: {', '.join(found.unlisted)}"
    assert told in list(Written(found, (), "both").lines())


@pytest.mark.parametrize(
    ("name", "split"),
    [
        *(("Train", "train"), ("TRAINING", "train"), ("valid", "val"), ("Validation", "val"), ("dev", "val")),
        *(("Test", "test"), ("testing", "test"), ("eval", "test"), ("evaluation", "test")),
    ],
)
def test_a_folder_that_is_nearly_called_like_a_split_is_to_be_renamed(tmp_path: Path, name: str, split: str) -> None:
    touch(tmp_path, f"{name}/bowling/a.mp4", f"{name}/bowling/b.mp4")
    said = rf"{name}/ \(2 videos\) is not the name of a split; "
    with pytest.raises(ListError, match=rf"{said}rename {name}/ to {split}/, or move it away to leave it out$"):
        read(tmp_path)

    touch(tmp_path, *(f"{each}/bowling/{each}.mp4" for each in ("train", "val", "test")))
    with pytest.raises(ListError, match=rf"{said}move its class folders into {split}/"):
        read(tmp_path)


def test_other_folders_are_told_with_the_number_of_their_videos(tmp_path: Path) -> None:
    touch(tmp_path, "train/bowling/a.mp4", "Test/about.txt", "other/b/c.mp4", "other/d.mxf", "other/e.txt")
    (tmp_path / "train/archery").mkdir()
    touch(tmp_path, "train/yelling/notes.txt")

    told = "left out, for they are no train/CLASS/, val/CLASS/ or test/CLASS/ with videos: 4 folders: "
    told += "Test/ (0 videos), other/ (2 videos), train/archery/ (0 videos), train/yelling/ (0 videos)"
    assert list(read(tmp_path).left_out()) == [told]


def test_another_folder_that_cannot_be_read_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "train/bowling/a.mp4", "lost+found/b.mp4")
    scan = os.scandir

    def refuse(path: str | Path) -> object:
        if str(path).endswith("lost+found"):
            raise PermissionError(13, "Permission denied", path)
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)  # not by its mode: root may read everything

    assert read(tmp_path).folders == ("lost+found/ (cannot be read)",)


def test_videos_in_containers_that_are_not_read_are_to_be_converted(tmp_path: Path) -> None:
    touch(tmp_path, "train/speech/a.mp4", "train/speech/boat.mxf")

    told = "left out, in a container that is not read (convert it to mp4, such as with ffmpeg): 1 file: train/speech/boat.mxf"
    assert list(read(tmp_path).left_out()) == [told]


def test_a_listed_clip_is_found_in_every_container(tmp_path: Path) -> None:
    listed(tmp_path / "annotations/train.csv", [BOWLING])

    assert files(touch(tmp_path, f"train/{KEYS[0]}.M2TS")) == {f"train/{KEYS[0]}.M2TS": ("bowling", "train")}


def test_the_page_lists_the_containers() -> None:
    page = (Path(__file__).parents[4] / "docs/build.md").read_text()

    assert (
        tuple(f".{name}" for name in re.findall(r"`(\w+)`", page.split("Containers, by")[1].split("; best")[0]))
        == SUFFIXES
    )


def test_a_file_beside_the_classes_is_to_be_moved(tmp_path: Path) -> None:
    with pytest.raises(
        ListError, match=r"not in train/CLASS/: train/b\.mp4; move these files into train/CLASS/; or, if"
    ):
        read(touch(tmp_path, "train/bowling/a.mp4", "train/b.mp4"))


@pytest.mark.parametrize("other", ["Train passing", "train-passing", "Train__Passing"])
def test_class_folders_that_are_nearly_called_the_same_are_refused(tmp_path: Path, other: str) -> None:
    touch(tmp_path, "train/Train_passing/a.mp4", f"test/{other}/b.mp4", "test/Train_passing 2/c.mp4")
    touch(tmp_path, "train/class_1_1/a.mp4", "train/class_11/a.mp4")  # two classes

    with pytest.raises(
        ListError, match=rf"train/Train_passing and test/{other} would be two classes; call both folders"
    ):
        read(tmp_path)


def test_all_faults_of_class_folders_are_told_at_once(tmp_path: Path) -> None:
    touch(
        tmp_path, "train/Dog/a.mp4", "test/dog/b.mp4", "train/big cat/c.mp4", "train/big_cat/d.mp4", "train/cow /e.mp4"
    )
    touch(tmp_path, "train/cow/f.mp4", "train/g.mp4", "test/dog/more/h.mp4")

    with pytest.raises(ListError) as caught:
        read(tmp_path)
    said = str(caught.value).splitlines()
    assert [line.partition("; ")[0] for line in said] == [
        f"{tmp_path}: not in train/CLASS/: train/g.mp4",
        f"{tmp_path}: not in test/CLASS/: test/dog/more/h.mp4",
        f"{tmp_path}: train/Dog and test/dog, train/big cat and train/big_cat, train/cow  and train/cow would be two classes",
    ]


def test_all_rows_that_contradict_their_files_or_one_another_are_told_at_once(tmp_path: Path) -> None:
    folder = touch(k600(tmp_path), f"val/{KEYS[0]}.mp4", f"train/archery/{KEYS[1]}.mp4")
    with pytest.raises(ListError) as caught:
        read(folder)
    assert len(str(caught.value).splitlines()) == 2

    listed(
        folder / "annotations/train.csv",
        [BOWLING, YELLING, *(row.replace("train", "val") for row in (BOWLING, YELLING))],
    )
    with pytest.raises(ListError) as caught:
        read(folder)
    assert [line.partition(": ")[0].rpartition(":")[2] for line in str(caught.value).splitlines()] == ["4", "5"]


@pytest.mark.parametrize("where", ["folder", "lists"])
def test_files_are_counted_in_the_lists_if_there_are_any(tmp_path: Path, where: str) -> None:
    touch(tmp_path, "train/bowling/a.mp4")
    if where == "lists":
        listed(tmp_path / "annotations/train.csv", [BOWLING])

    assert next(Written(read(tmp_path), (), "both").lines()) == f"files in the {where}: 0, of which ok: 0"


# --- Packing them ------------------------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    inline(monkeypatch)


def flat(folder: Path, rows: Sequence[str], key: str) -> Path:
    """A flat folder of one real file, in whose list the others are missing."""
    listed(folder / "annotations/train.csv", rows)
    shapes.avi(folder / f"train/{key}.avi", sound=True)
    return folder


def test_kinetics_400_does_not_take_the_place_of_600(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Both of whose manifests are data/kinetics/manifest.parquet, unless another is given."""
    monkeypatch.chdir(tmp_path)
    common = ("--dataset", "kinetics", "--workers", "1", "--short_side", "32", "--folder")
    first = flat(tmp_path / "k600", [BOWLING, YELLING], KEYS[0])
    second = flat(tmp_path / "k400", [BOWLING], KEYS[0])

    assert shard.main([*common, str(first)]) == 1  # one is missing
    made = manifest.read(tmp_path / "data/kinetics/manifest.parquet")
    assert {each.clip.key: each.status for each in made.outcomes} == {
        KEYS[0]: Status.OK,
        KEYS[1]: Status.NOT_IN_SOURCE,
    }
    before = (tmp_path / "data/kinetics/manifest.parquet").read_bytes()
    capsys.readouterr()
    assert shard.main([*common, str(second), "--manifest", "data/kinetics"]) == 2
    said = capsys.readouterr().err
    assert "is the manifest of other classes (2, from kinetics:" in said
    assert "(1); give another: --manifest data/k400\n" in said
    assert shard.main([*common, str(second)]) == 2
    assert f"folder {first}, not of {second}; give another: --manifest data/k400; or" in capsys.readouterr().err
    assert (tmp_path / "data/kinetics/manifest.parquet").read_bytes() == before
    assert shard.main([*common, str(second), "--manifest", "data/k400"]) == 0


@pytest.mark.parametrize("name", ["x" * 300, "é" * 200])
def test_a_name_that_is_too_long_for_the_disk_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    folder = shapes.ucf101(tmp_path / "ucf101")
    path = folder / "ucfTrainTestlist/trainlist01.txt"
    path.write_text(path.read_text() + f"Archery/v_{name}_g09_c01.avi 1\n")

    assert packed("ucf101", folder) == 2
    said = capsys.readouterr().err
    assert f"the lists name the file 'v_{name[:98]}'…, which is longer than the disk allows; fix the list" in said


def test_clips_in_class_folders_are_no_leak_of_one_another(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for seed, name in enumerate(("train/bowling/a", "train/archery/b", "test/bowling/c")):
        shapes.avi(tmp_path / f"mine/{name}.avi", seed=seed, sound=True)

    assert packed("kinetics", tmp_path / "mine", f"--manifest={tmp_path / 'made'}") == 0
    assert "test: no ok clip of 1 of 2 classes: 'archery'" in capsys.readouterr().err
    for place in (tmp_path / "made", tmp_path / "made/shards"):
        assert sets.read(place).findings == []


def test_classes_of_nearly_one_name_are_warned_about_once_and_packed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for seed, name in enumerate(("clapping/a", "clapping/b", "claping/c")):
        shapes.avi(tmp_path / f"mine/train/{name}.avi", seed=seed, sound=True)

    assert packed("kinetics", tmp_path / "mine") == 0
    told = "classes with nearly the same name: 'claping' (1 clip) and 'clapping' (2 clips)"
    assert caplog.text.count(told) == 1


def test_files_of_two_classes_with_the_same_bytes_are_named_with_these(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for seed, name in ((1, "bowling/a"), (2, "bowling/b"), (1, "archery/c"), (2, "bowling/d")):
        shapes.avi(tmp_path / f"mine/train/{name}.avi", seed=seed, sound=True)

    assert packed("kinetics", tmp_path / "mine", f"--manifest={tmp_path / 'made'}") == 0
    told = "two classes have the same bytes, so that one of the labels is wrong: 2 files: c (archery), a (bowling)\n"
    assert told in capsys.readouterr().err
    for place in (tmp_path / "made", tmp_path / "made/shards"):
        said = {each.what.partition("; ")[2] for each in sets.read(place).findings}
        assert said == {"the same bytes in train", "the same bytes in train, labelled 'archery' and 'bowling'"}
