"""What is wrong with a data set's files is named and counted, and what is wrong with its lists ends the command."""

import dataclasses
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kinetics_sounds import datasets, files, manifest
from kinetics_sounds.classes import ClassList
from kinetics_sounds.clip import Clip, Outcome, Status
from kinetics_sounds.errors import ListError
from kinetics_sounds.pipelines import executors
from kinetics_sounds.pipelines.packing import dataset_manifest, measure_file
from kinetics_sounds.pipelines.packing.dataset_manifest import Asked
from kinetics_sounds.shards import reader

from ...conftest import Inline, inline
from . import shapes
from .test_datasets import SHAPES, packed


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    inline(monkeypatch)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, Path], Path]:
    """A function that copies a data set's folder, which is made once, to a place."""
    root, made = tmp_path_factory.mktemp("whole"), dict[str, Path]()

    def copied(name: str, place: Path) -> Path:
        if name not in made:
            made[name] = SHAPES[name](root / name)
        return Path(shutil.copytree(made[name], place))

    return copied


Copied = Callable[[str, Path], Path]


def test_missing_broken_and_unlisted_files_are_named_and_the_rest_is_packed(
    whole: Copied, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    videos = whole("ucf101", tmp_path / "ucf") / "UCF-101"
    (videos / "Archery/v_Archery_g01_c01.avi").unlink()
    (videos / "Archery/v_Archery_g02_c01.avi").write_bytes(b"\0" * 4096)
    cut = videos / "Archery/v_Archery_g03_c01.avi"
    cut.write_bytes(cut.read_bytes()[:-5000])
    shutil.copy(videos / "HandstandPushups/v_HandStandPushups_g01_c01.avi", videos / "HandstandPushups/extra.avi")
    (videos / "HandstandPushups/._extra.avi").write_bytes(b"of another system")

    assert packed("ucf101", tmp_path / "ucf") == 1

    said = capsys.readouterr().err
    assert "files in the lists: 6, of which ok: 3" in said
    assert "left out: v_Archery_g01_c01: not_in_source" in said
    assert "left out: v_Archery_g02_c01: corrupt: cannot be opened: Invalid data found when processing input" in said
    assert f"left out: v_Archery_g03_c01: truncated: the file has {cut.stat().st_size} bytes, and states" in said
    assert "for no list names them: 1 file: UCF-101/HandstandPushups/extra.avi" in said
    rows = {each.clip.key: each for each in manifest.read(tmp_path / "data/ucf101/manifest.parquet").outcomes}
    assert [rows[f"v_Archery_g{number:02d}_c01"].status for number in (1, 2, 3)] == [
        Status.NOT_IN_SOURCE,
        Status.CORRUPT,
        Status.TRUNCATED,
    ]
    dataset = reader.read_dataset(tmp_path / "data/ucf101/shards")
    assert {name: facts.samples for name, facts in dataset.every_split.items()} == {
        "all": 3,
        **{f"fold{fold}_{part}": count for fold in (1, 2, 3) for part, count in (("train", 2), ("test", 1))},
    }


def test_a_file_that_comes_later_is_packed_by_the_next_run(whole: Copied, tmp_path: Path) -> None:
    folder = whole("esc50", tmp_path / "esc")
    late = folder / "audio/2-2005-A-5.wav"
    kept = late.read_bytes()
    late.unlink()
    assert packed("esc50", folder) == 1
    late.write_bytes(kept)

    assert packed("esc50", folder, "--out", str(tmp_path / "again")) == 0

    assert reader.read_dataset(tmp_path / "again").splits["all"].samples == 10


def test_a_file_that_changed_is_measured_again(whole: Copied, tmp_path: Path) -> None:
    folder = whole("esc50", tmp_path / "esc")
    assert packed("esc50", folder) == 0
    changed = folder / "audio/2-2005-A-5.wav"
    data = bytearray(changed.read_bytes())
    data[1000:2000] = bytes(1000)
    changed.write_bytes(data)

    assert packed("esc50", folder, "--out", str(tmp_path / "again")) == 2
    assert packed("esc50", folder, "--out", str(tmp_path / "again"), "--check_bytes") == 0


def test_a_changed_file_is_told_with_the_remedy(
    whole: Copied, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = whole("esc50", tmp_path / "esc")
    assert packed("esc50", folder) == 0
    changed = folder / "audio/2-2005-A-5.wav"
    data = bytearray(changed.read_bytes())
    data[-1] ^= 1
    changed.write_bytes(data)
    capsys.readouterr()

    assert packed("esc50", folder, "--out", str(tmp_path / "again")) == 2

    said = capsys.readouterr().err
    assert "so it is not the clip in the manifest; measure it again: ks-shard --dataset ... --check_bytes" in said


LISTS = [
    (
        "ucf101",
        "ucfTrainTestlist/trainlist01.txt",
        "Archery/v_Archery_g02_c01.avi 1",
        "Archery/v_Archery_g02_c01.avi 2",
    ),
    ("ucf101", "ucfTrainTestlist/trainlist01.txt", "Archery/v_Archery_g02_c01.avi 1", "Yoga/v_Yoga_g02_c01.avi 1"),
    ("ucf101", "ucfTrainTestlist/trainlist01.txt", "Archery/v_Archery_g02_c01.avi 1", "../v_Archery_g02_c01.avi 1"),
    ("ucf101", "ucfTrainTestlist/testlist02.txt", "Archery/v_Archery_g02_c01.avi", "Archery/v_Archery_g01_c01.avi"),
    ("ucf101", "ucfTrainTestlist/classInd.txt", "2 HandstandPushups", "3 HandstandPushups"),
    ("hmdb51", "testTrainMulti_7030_splits/climb_test_split2.txt", ".avi 1", ".avi 3"),
    ("hmdb51", "testTrainMulti_7030_splits/climb_test_split2.txt", ".avi 2", ".avi"),
    ("esc50", "meta/esc50.csv", "src_file", "source"),
    ("esc50", "meta/esc50.csv", "1-1000-A-0.wav,1,", "1-1000-A-0.wav,2,"),
    ("esc50", "meta/esc50.csv", "1-1000-A-0.wav,1,0,dog", "1-1000-A-0.wav,1,0,cow"),
    ("esc50", "meta/esc50.csv", "1-1000-A-0.wav,1,0,dog,True,1000,A", "2-2000-A-0.wav,2,0,dog,True,2000,A"),
    ("esc50", "meta/esc50.csv", ",True,1000,A", ",True"),
    ("dcase", "meta.txt", "audio/bus_1.wav\tbus\tb001", "audio/bus_1.wav"),
    ("dcase", "meta.txt", "audio/bus_1.wav", "../bus_1.wav"),
    ("dcase", "evaluation_setup/fold2_train.txt", "audio/bus_1.wav\tbus", "audio/bus_1.wav\tpark"),
]
SAID = (
    "trainlist01.txt:1: Archery has number 1 in classInd.txt, not 2",
    "trainlist01.txt:1: 'Yoga/v_Yoga_g02_c01.avi 1' is not CLASS/FILE.avi with a class of classInd.txt",
    "trainlist01.txt:1: '../v_Archery_g02_c01.avi 1' is not CLASS/FILE.avi",
    "testlist02.txt:1: UCF-101/Archery/v_Archery_g01_c01.avi is in fold2 twice, as train and test",
    "classInd.txt:2: '3 HandstandPushups' is not number 2 and the name of another class",
    "climb_test_split2.txt:1: '#20_(climb)_u_0.avi 3' is not FILE.avi and 0, 1 or 2",
    "climb_0.avi' is not FILE.avi and 0, 1 or 2",
    "esc50.csv: lacks the columns src_file",
    "esc50.csv:2: '1-1000-A-0.wav' is not a recording whose name has its fold, source and target",
    "esc50.csv:4: target 0 is 'dog', and before 'cow'",
    "esc50.csv:4: 2-2000-A-0.wav is in the list twice",
    "esc50.csv:2: has 5 cells, not 7",
    "meta.txt:1: audio/bus_1.wav has no scene, or is in the list twice",
    "meta.txt:1: '../bus_1.wav' is not audio/FILE.wav",
    "fold2_train.txt:1: audio/bus_1.wav is not in meta, or of another scene there",
)


@pytest.mark.parametrize(("place", "said"), list(zip(LISTS, SAID, strict=True)), ids=range(len(SAID)))
def test_a_wrong_list_is_refused_with_its_line(
    whole: Copied, tmp_path: Path, place: tuple[str, str, str, str], said: str
) -> None:
    name, file, before, after = place
    path = whole(name, tmp_path / "set") / file
    text = path.read_bytes().decode()
    assert before in text
    path.write_bytes(text.replace(before, after, 1).encode())

    with pytest.raises(ListError) as caught:
        datasets.load(name).read(tmp_path / "set")
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("name", "lost"),
    [
        ("ucf101", "ucfTrainTestlist/testlist03.txt"),
        ("ucf101", "ucfTrainTestlist/classInd.txt"),
        ("hmdb51", "testTrainMulti_7030_splits/climb_test_split3.txt"),
        ("esc50", "meta/esc50.csv"),
        ("dcase", "meta.txt"),
        ("dcase", "evaluation_setup/fold1_train.txt"),
    ],
)
def test_a_missing_list_is_named(
    whole: Copied, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, lost: str
) -> None:
    path = whole(name, tmp_path / "set") / lost
    path.unlink()

    assert packed(name, tmp_path / "set") == 2

    assert f"{path}: is missing; give --folder the data set as it ships, with its lists" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("ucf101", "ucfTrainTestlist/trainlist03.txt"),
        ("hmdb51", "testTrainMulti_7030_splits/climb_test_split2.txt"),
        ("esc50", "meta/esc50.csv"),
        ("dcase", "evaluation_setup/fold1_train.txt"),
        ("kinetics", "annotations/test.csv"),
    ],
)
def test_an_empty_list_is_refused(whole: Copied, tmp_path: Path, name: str, file: str) -> None:
    path = whole(name, tmp_path / "set") / file
    path.parent.mkdir(exist_ok=True)
    path.write_text("")

    with pytest.raises(ListError) as caught:
        datasets.load(name).read(tmp_path / "set")

    assert f"{path}: is empty; download the list" in str(caught.value)


@pytest.mark.parametrize(
    ("name", "pattern", "text", "said"),
    [
        ("hmdb51", "*/*_test_split2.txt", "{0}.avi 0\n{1}.avi 2\n", "{folder}/*_test_split2.txt: no line ends with 1;"),
        ("hmdb51", "*/*_test_split3.txt", "{0}.avi 1\n{1}.avi 0\n", "{folder}/*_test_split3.txt: no line ends with 2;"),
        ("dcase", "*/fold2_evaluate.txt", "filename\tscene_label\n", "{folder}/fold2_evaluate.txt: names no sound;"),
        ("esc50", "*/esc50.csv", "filename,fold,target,category,src_file\n", "{folder}/esc50.csv: names no recording;"),
    ],
)
def test_lists_that_leave_a_fold_nothing_to_train_or_to_test_on_are_refused(
    whole: Copied, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, pattern: str, text: str, said: str
) -> None:
    found = sorted(whole(name, tmp_path / "set").glob(pattern))
    assert found
    for path in found:
        path.write_text(text.format(*shapes.HMDB_NAMES.get(path.name.partition("_test_")[0], ())))

    assert packed(name, tmp_path / "set") == 2

    assert said.format(folder=found[0].parent) in capsys.readouterr().err
    assert not (tmp_path / "data").exists()


def test_a_list_of_dcase_in_two_forms_that_differ_is_refused(whole: Copied, tmp_path: Path) -> None:
    folder = whole("dcase", tmp_path / "dcase")
    place = folder / "evaluation_setup/fold1_train.txt"
    alike = datasets.load("dcase").read(folder)
    place.with_suffix(".csv").write_text("filename\tscene_label\n" + place.read_text())
    assert datasets.load("dcase").read(folder) == alike

    place.with_suffix(".csv").write_text(place.read_text().splitlines()[0])
    with pytest.raises(ListError, match=r"fold1_train\.csv: lists other sounds or labels than .*fold1_train\.txt"):
        datasets.load("dcase").read(folder)


def test_dcase_2014_without_a_part_or_with_another_name_is_refused(whole: Copied, tmp_path: Path) -> None:
    folder = whole("dcase2014", tmp_path / "dcase")
    odd = folder / "set1/scenes_stereo/scenes_stereo/Noise.wav"
    shapes.wav(odd)
    with pytest.raises(ListError, match=r"Noise\.wav are not named like bus01\.wav"):
        datasets.load("dcase2014").read(folder)
    odd.rename(odd.with_name("park01.wav"))
    with pytest.raises(ListError, match=r"park are in one of scenes_stereo and scenes_stereo_testset alone"):
        datasets.load("dcase2014").read(folder)
    shutil.rmtree(folder / "set1/scenes_stereo_testset")
    with pytest.raises(ListError, match=r"has no recording in a folder scenes_stereo_testset"):
        datasets.load("dcase2014").read(folder)


def test_copies_of_esc50_may_have_the_category_before_their_names(whole: Copied, tmp_path: Path) -> None:
    folder = whole("esc50", tmp_path / "esc")
    path = folder / "meta/esc50.csv"
    path.write_text(path.read_text().replace("1-1000-A-0.wav", "big_dog_1-1000-A-0.wav"))

    rows = {row.path: row for row in datasets.load("esc50").read(folder).rows}

    assert rows["audio/big_dog_1-1000-A-0.wav"].folds[:2] == ("test", "train")
    assert rows["audio/big_dog_1-1000-A-0.wav"].group == "1000"


def test_folders_of_kinetics_that_lie_otherwise_are_refused(whole: Copied, tmp_path: Path) -> None:
    folder = whole("kinetics", tmp_path / "k")
    shutil.copytree(folder / "train/bowling", folder / "train/sports/bowling")
    with pytest.raises(ListError, match=r"not in train/CLASS/: "):
        datasets.load("kinetics").read(folder)
    with pytest.raises(
        ListError, match=r"has no list such as annotations/train\.csv, and no file like train/CLASS/FILE\.mp4"
    ):
        datasets.load("kinetics").read(folder / "train")


def test_names_may_be_any_bytes(whole: Copied, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = whole("kinetics", tmp_path / "k")
    strange = os.fsdecode(b"caf\xe9")
    (folder / "train/bowling").rename(folder / "train" / strange)
    file = next((folder / "train" / strange).iterdir())
    file.rename(file.with_name(os.fsdecode(b"\xff.avi")))

    assert packed("kinetics", folder) == 0

    made = manifest.read(tmp_path / "data/kinetics/manifest.parquet")
    (row,) = (each for each in made.outcomes if each.clip.label == r"caf\xe9")
    assert row.clip.key.startswith("_-")
    assert row.media is not None
    assert row.media.origin == r"\xff.avi"
    assert "ok: 4" in capsys.readouterr().err


def test_a_label_with_a_control_character_is_refused(whole: Copied, tmp_path: Path) -> None:
    folder = whole("kinetics", tmp_path / "k")
    (folder / "train/bowling").rename(folder / "train/bow\tling")

    assert packed("kinetics", folder) == 2


def test_folders_may_be_links(whole: Copied, tmp_path: Path) -> None:
    folder, elsewhere = whole("kinetics", tmp_path / "k"), tmp_path / "elsewhere"
    (folder / "train/bowling").rename(elsewhere)
    (folder / "train/bowling").symlink_to(elsewhere)
    (elsewhere / "back").symlink_to(folder / "train/bowling")  # a cycle

    assert len(datasets.load("kinetics").read(folder).rows) == 4


@pytest.mark.parametrize("name", ["ucf101", "hmdb51"])
def test_a_list_does_not_lead_out_of_the_folder(
    whole: Copied, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    folder = whole(name, tmp_path / name)
    shutil.copy(next(folder.rglob("*.avi")), tmp_path / "secret.avi")
    if name == "ucf101":
        (folder / "UCF-101").rename(tmp_path / "elsewhere")  # now the class folders are sought in the folder itself
        lists = folder / "ucfTrainTestlist"
        for file, line in (("classInd.txt", "3 ..\n"), ("trainlist01.txt", "../secret.avi 3\n")):
            (lists / file).write_text((lists / file).read_text() + line)
    else:
        (folder / "hmdb51_org").rename(tmp_path / "elsewhere")
        for number in (1, 2, 3):
            (folder / f"testTrainMulti_7030_splits/.._test_split{number}.txt").write_text("secret.avi 1\n")

    assert packed(name, folder) == 2

    assert "the lists name ../secret.avi, which may lie out of the folder" in capsys.readouterr().err


def test_files_of_two_splits_with_the_same_bytes_are_named(
    whole: Copied, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = whole("kinetics", tmp_path / "one/kinetics")  # of which all files are copies of one
    assert packed("kinetics", folder) == 0
    told = "packed, though files of two splits have the same bytes, so that scores may be too high: "
    keys = sorted(path.stem for path in folder.glob("*/*/*"))
    assert f"{told}4 files: {', '.join(keys)}" in capsys.readouterr().err

    folder = whole("kinetics", tmp_path / "two/kinetics")
    for seed, path in enumerate(sorted(folder.glob("validate/*/*")), start=1):
        shapes.avi(path, seed=seed, sound=True)
    assert packed("kinetics", folder) == 0
    assert told not in capsys.readouterr().err


def test_a_fold_of_ucf101_that_tests_on_a_group_it_trains_on_is_refused(
    whole: Copied, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = whole("ucf101", tmp_path / "ucf")
    with (folder / "ucfTrainTestlist/trainlist01.txt").open("a") as file:
        file.write("Archery/v_Archery_g01_c02.avi 1\n")

    assert packed("ucf101", folder) == 2

    said = capsys.readouterr().err
    assert "fold1: train and test share 1 group," in said
    assert "scores would be too high: Archery g01; use the lists that ship" in said


def test_a_recording_of_esc50_in_two_folds_is_refused(
    whole: Copied, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = whole("esc50", tmp_path / "esc")
    with (folder / "meta/esc50.csv").open("a") as file:
        file.write("2-1000-B-0.wav,2,0,dog,True,1000,B\n")

    assert packed("esc50", folder) == 2

    assert "fold1: train and test share 1 group," in capsys.readouterr().err


def test_a_folder_without_the_files_is_refused(
    whole: Copied, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = whole("esc50", tmp_path / "esc")
    shutil.rmtree(folder / "audio")

    assert packed("esc50", folder) == 2

    assert f"has none of the 10 files in its lists, such as {folder}/audio/1-1000-A-0.wav" in capsys.readouterr().err


def test_the_manifest_of_a_build_is_not_overwritten(
    whole: Copied, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "data/esc50/manifest.parquet"
    path.parent.mkdir(parents=True)
    gone = Outcome(clip=Clip("abc", 0, 10, "dog", "train"), status=Status.PRIVATE)
    manifest.write(path, ClassList("mine", ("dog",)), [gone])
    before = path.read_bytes()

    assert packed("esc50", whole("esc50", tmp_path / "esc")) == 2

    assert "is the manifest of a build; give another: --manifest data/esc" in capsys.readouterr().err
    assert path.read_bytes() == before


@pytest.mark.parametrize("name", ["mine.csv", "mine.CSV"])
def test_a_manifest_is_not_written_over_its_csv_copy(
    name: str, whole: Copied, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "data" / name

    assert packed("esc50", whole("esc50", tmp_path / "esc"), "--manifest", str(path)) == 2

    assert f"give {tmp_path / 'data/mine.parquet'}" in capsys.readouterr().err
    assert not path.parent.exists()


def test_a_refused_modality_leaves_the_set_of_another_as_it_is(
    whole: Copied, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = whole("ucf101", tmp_path / "ucf")
    assert packed("ucf101", folder) == 0
    path = tmp_path / "data/ucf101/manifest.parquet"
    before = path.read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(
            "kinetics_sounds.pipelines.executors.start", lambda *_, **__: pytest.fail("something was decoded")
        )

        assert packed("ucf101", folder, "--modality", "both") == 2
        assert packed("ucf101", folder, "--modality", "both", "--out", str(tmp_path / "both")) == 2

    said = capsys.readouterr().err
    assert f"{path}: is the manifest of ucf101 with --modality video, not both; give another:" in said
    assert "--manifest data/ucf101_both\n" in said
    assert path.read_bytes() == before
    assert packed("ucf101", folder) == 0


@pytest.mark.parametrize("out", [[], ["--out=elsewhere"]])
@pytest.mark.parametrize("change", ["size", "fold", "missing"])
def test_the_manifest_of_another_folder_s_files_is_kept_with_its_links(
    whole: Copied,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    change: str,
    out: list[str],
) -> None:
    """Whichever --out is given: the shards of the other folder would lose their manifest."""
    monkeypatch.chdir(tmp_path)
    one = whole("hmdb51", tmp_path / "one")
    assert packed("hmdb51", one) == 0
    path = tmp_path / "data/hmdb51/manifest.parquet"
    clip = tmp_path / "data/hmdb51/clips/brush_hair/a_brush_hair_u_0.avi"
    before = path.read_bytes(), path.with_suffix(".csv").read_bytes(), clip.readlink()
    other = whole("hmdb51", tmp_path / "other")
    listed = other / "testTrainMulti_7030_splits/brush_hair_test_split1.txt"
    if change == "size":
        with (other / "hmdb51_org/brush_hair/a_brush_hair_u_0.avi").open("ab") as file:
            file.write(b"\0")
    elif change == "fold":
        listed.write_text(listed.read_text().replace("u_0.avi 1", "u_0.avi 0"))
    else:
        (other / "hmdb51_org/brush_hair/a_brush_hair_u_0.avi").unlink()

    assert packed("hmdb51", other, *out) == 2

    said = capsys.readouterr().err
    assert f"is the manifest of another folder (hmdb51:{one}), whose a_brush_hair_u_0 is not in {other}, or has" in said
    assert "give another: --manifest data/other\n" in said
    assert (path.read_bytes(), path.with_suffix(".csv").read_bytes(), clip.readlink()) == before
    assert not (tmp_path / "elsewhere").exists()


def test_a_folder_that_was_moved_is_packed_on(whole: Copied, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its files are not read before workers measure them, which can be stopped."""
    folder = whole("ucf101", tmp_path / "one")
    assert packed("ucf101", folder) == 0
    seen: list[str] = []
    for name, real in (("files.sha256", files.sha256), ("pipelines.executors.start", executors.start)):

        def noted(*args: Any, name: str = name, real: Callable[..., Any] = real, **more: Any) -> Any:
            seen.append(name)
            return real(*args, **more)

        monkeypatch.setattr(f"kinetics_sounds.{name}", noted)

    assert packed("ucf101", folder.rename(tmp_path / "two")) == 0

    assert seen[0] == "pipelines.executors.start"
    made = manifest.read(tmp_path / "data/ucf101/manifest.parquet")
    assert {each.source for each in made.outcomes} == {f"ucf101:{tmp_path / 'two'}"}


def test_a_manifest_s_folder_may_not_be_there_yet(whole: Copied, tmp_path: Path) -> None:
    folder, made = whole("esc50", tmp_path / "esc"), tmp_path / "data/mine"

    for _ in range(2):
        assert packed("esc50", folder, "--manifest", str(made)) == 0

    assert sorted(each.name for each in made.parent.iterdir()) == ["mine"]
    assert reader.read_dataset(made / "shards").splits["all"].samples == 10
    assert len(manifest.read(made / "manifest.parquet").outcomes) == 10


def test_a_set_without_a_usable_file_does_not_take_the_place_of_another(
    whole: Copied, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = whole("ucf101", tmp_path / "ucf")
    path = tmp_path / "data/ucf101/manifest.parquet"
    assert packed("ucf101", folder, "--modality", "both") == 2
    assert f"{path}: has no ok clip, so there is nothing to pack" in capsys.readouterr().err

    assert packed("ucf101", folder) == 0

    before = path.read_bytes()
    for file in (folder / "UCF-101").rglob("*.avi"):
        file.write_bytes(b"broken")
    assert packed("ucf101", folder) == 2
    assert "contains shards of another manifest" in capsys.readouterr().err
    assert path.read_bytes() == before


def test_a_file_of_the_user_in_a_link_s_place_is_kept(
    whole: Copied, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = tmp_path / "data/esc50/clips/dog/1-1000-A-0.wav"
    own.parent.mkdir(parents=True)
    own.write_text("mine")

    assert packed("esc50", whole("esc50", tmp_path / "esc")) == 2

    assert f"{own}: is a file of your own" in capsys.readouterr().err
    assert own.read_text() == "mine"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--dataset", "esc50"], "--dataset and --folder: are needed together"),
        (["--folder", "x"], "--dataset and --folder: are needed together"),
        (["--modality", "audio"], "--modality: only applies to a data set"),
        (["--dataset", "esc50", "--folder", "nowhere"], "--folder nowhere: is not a folder; give that of esc50"),
        (
            ["--dataset", "esc", "--folder", "x"],
            "'esc' is none of dcase, dcase2014, esc50, hmdb51, kinetics, ucf101 (did you",
        ),
        (["--dataset", "esc50", "--folder", "x", "--verify", "y"], "--dataset: packs, and --verify packs nothing"),
    ],
)
def test_options_that_do_not_belong_together_are_refused(
    options: list[str],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from kinetics_sounds.pipelines import shard

    monkeypatch.chdir(tmp_path)

    assert shard.main(options) == 2

    assert said in capsys.readouterr().err


class Stop:
    """A stop that is asked for after some files."""

    def __init__(self, after: int) -> None:
        self.left = after

    def __bool__(self) -> bool:
        return self.left <= 0


def test_a_stopped_run_goes_on_where_it_was(whole: Copied, tmp_path: Path) -> None:
    seen: list[str] = []
    stop = Stop(after=3)

    def measured(task: measure_file.Task) -> object:
        seen.append(task.clip.key)
        stop.left -= 1
        return measure_file.attempt(task)

    asked = Asked(
        name="esc50",
        folder=whole("esc50", tmp_path / "esc"),
        path=tmp_path / "out/manifest.parquet",
        is_given=True,
        modality=None,
        check_bytes=False,
        timeout_seconds=30,
    )

    def start(_scratch: Path) -> object:
        return Inline(measured)

    first = dataset_manifest.write(asked, start, workers=1, stop=stop)
    assert first is None
    assert not asked.path.exists()
    stop.left = 100
    written = dataset_manifest.write(asked, start, workers=1, stop=stop)

    assert written is not None
    assert len(written.outcomes) == 10
    assert written.lost == ()
    assert len(seen) - len(set(seen)) <= 1  # what was measured and not yet collected when it was stopped
    assert dataclasses.replace(written.outcomes[0], tool_versions="") in [
        dataclasses.replace(each, tool_versions="") for each in manifest.read(asked.path).outcomes
    ]
