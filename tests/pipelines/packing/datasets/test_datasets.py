"""Each data set the whole way: from its folder, as it ships, to samples that a stream opens by fold."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kinetics_sounds import datasets, manifest, stream
from kinetics_sounds.address import Address
from kinetics_sounds.cache import Cache
from kinetics_sounds.clip import KEY, Status
from kinetics_sounds.datasets import Row
from kinetics_sounds.errors import ListError, ShardError
from kinetics_sounds.pipelines import export, publish, shard, view
from kinetics_sounds.pipelines.packing import verify
from kinetics_sounds.shards import layout, reader, stats
from kinetics_sounds.train.data.views import clip_and_log_mel, clip_and_mel, clip_and_spectrogram

from ...conftest import inline
from . import shapes

DATA = Path(__file__).parents[5] / "shared" / "data"
REAL, AVIS = DATA / "audio_esc50", DATA / "videos/torchvision"
SHAPES: dict[str, Callable[[Path], Path]] = {
    name: getattr(shapes, name) for name in ("ucf101", "hmdb51", "esc50", "dcase2014", "dcase", "kinetics")
}


def packed(name: str, folder: Path, *options: str) -> int:
    """The exit code of packing it into `data/NAME` beside the folder."""
    path = folder.parent / "data" / name / "manifest.parquet"
    common = (
        "--dataset",
        name,
        "--folder",
        str(folder),
        "--manifest",
        str(path),
        "--workers",
        "1",
        "--short_side",
        "32",
    )
    code: int = shard.main([*common, *options])
    return code


@pytest.fixture(scope="module")
def packed_sets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Shards of each data set, by its name; not to be changed."""
    root, made = tmp_path_factory.mktemp("sets"), {}
    with pytest.MonkeyPatch.context() as patch:
        inline(patch)
        for name, shape in SHAPES.items():
            (root / name).mkdir()
            assert packed(name, shape(root / name)) == 0
            made[name] = root / "data" / name / "shards"
    return made


def keys(shards: Path, split: str) -> set[str]:
    opened = stream.open_split(shards, split)
    return {opened.key(number) for number in range(len(opened))}


def test_every_reader_has_a_test() -> None:
    assert datasets.names() == sorted(SHAPES)


@pytest.mark.parametrize("name", SHAPES)
def test_what_is_packed_has_no_fault(packed_sets: dict[str, Path], name: str) -> None:
    found = verify.verify(Address(str(packed_sets[name])), decode=True, workers=1, stop=lambda: False)

    assert found.faults == ()
    assert found.samples == {"ucf101": 6, "hmdb51": 4, "esc50": 10, "dcase2014": 6, "dcase": 4, "kinetics": 4}[name]


@pytest.mark.parametrize("name", ["ucf101", "hmdb51"])
def test_pictures_alone_are_packed(packed_sets: dict[str, Path], name: str) -> None:
    split = stream.open_split(packed_sets[name], "fold1_train")

    assert split.dataset.parts == (layout.META, layout.FRAMES)
    assert (split.dataset.mel, split.dataset.audio) == ({}, {})
    with stream.sample(split, 0) as sample:
        assert sample.frames(range(shapes.FRAMES)).shape == (shapes.FRAMES, 32, 44, 3)
        with pytest.raises(ShardError, match=r"has no part 'mel\.npy'"):
            sample.mel()


@pytest.mark.parametrize(("name", "split"), [("esc50", "fold2_test"), ("dcase2014", "test")])
def test_sounds_alone_are_packed(packed_sets: dict[str, Path], name: str, split: str) -> None:
    opened = stream.open_split(packed_sets[name], split)

    assert opened.dataset.parts == (layout.AUDIO, layout.META, layout.MEL)
    assert opened.dataset.frames == {}
    with stream.sample(opened, 0) as sample:
        assert sample.waveform().shape == (24_000,)
        assert sample.mel().shape == (256, 256)
        with pytest.raises(ShardError, match="has no part 'mp4'"):
            sample.frames([0])


def test_the_folds_of_ucf101_are_its_lists(packed_sets: dict[str, Path]) -> None:
    for fold in (1, 2, 3):
        tested = {f"v_{file}_g{fold:02d}_c01" for file in ("Archery", "HandStandPushups")}
        assert keys(packed_sets["ucf101"], f"fold{fold}_test") == tested
        assert keys(packed_sets["ucf101"], f"fold{fold}_train") == keys(packed_sets["ucf101"], "all") - tested


def test_the_third_fold_of_hmdb51_leaves_out_what_its_lists_do(packed_sets: dict[str, Path]) -> None:
    shards = packed_sets["hmdb51"]

    assert len(keys(shards, "fold1_train")) == len(keys(shards, "fold3_test")) == 2
    assert keys(shards, "fold3_train") == {"a_brush_hair_u_0"}
    assert keys(shards, "fold1_train") | keys(shards, "fold1_test") == keys(shards, "all")


def test_names_that_are_no_keys_become_such(packed_sets: dict[str, Path]) -> None:
    made = keys(packed_sets["hmdb51"], "all")

    assert {"a_brush_hair_u_0", "b_brush_hair_u_1"} < made
    assert all(KEY.fullmatch(key) for key in made)
    (strange,) = (key for key in made if key.startswith("_20_"))
    assert strange.startswith("_20__climb__u_0-")
    assert max(map(len, made)) == 92


def test_a_key_depends_on_its_own_name_alone_unless_another_file_has_it() -> None:
    rows = [Row(path=path, label="x") for path in ("a/one.avi", "a/#.avi", "b/one.avi")]

    first, strange, second = datasets.keys(rows)
    assert datasets.keys(rows[:2]) == ["one", strange]
    assert first != second
    assert all(key.startswith("one-") and len(key) == 12 for key in (first, second))
    with pytest.raises(ListError, match=f"two files have the key {strange}; rename"):
        datasets.keys([*rows, Row(path=f"a/{strange}.avi", label="x")])


def test_names_that_differ_only_in_case_get_keys_that_do_not() -> None:
    """On a disk that ignores case, `clips/x/A_1.avi` and `clips/x/a_1.avi` are one file."""
    first, second, other = datasets.keys(
        [Row(path=path, label="x") for path in ("a/A_1.avi", "b/a_1.avi", "b/B_1.avi")]
    )

    assert (first[:4], second[:4], other) == ("A_1-", "a_1-", "B_1")
    assert first.lower() != second.lower()


def test_each_fold_of_esc50_is_tested_once(packed_sets: dict[str, Path]) -> None:
    tested = [keys(packed_sets["esc50"], f"fold{fold}_test") for fold in range(1, 6)]

    assert tested[0] == {"1-1000-A-0", "1-1005-A-5"}
    assert sum(map(len, tested)) == len(set.union(*tested)) == 10
    assert keys(packed_sets["esc50"], "fold1_train") == set.union(*tested[1:])
    assert reader.read_dataset(packed_sets["esc50"]).labels == ("dog", "cat")  # in the order of their targets


def test_dcase_2014_has_splits_and_no_folds(packed_sets: dict[str, Path]) -> None:
    dataset = reader.read_dataset(packed_sets["dcase2014"])

    assert (list(dataset.splits), dataset.folds, dataset.labels) == (["train", "test"], {}, ("bus", "tubestation"))
    assert keys(packed_sets["dcase2014"], "test") == {"bus07", "tubestation07"}
    assert dataset.schema == layout.DATASET_SCHEMA


def test_later_years_of_dcase_have_folds(packed_sets: dict[str, Path]) -> None:
    assert keys(packed_sets["dcase"], "fold1_test") == keys(packed_sets["dcase"], "fold2_train") == {"bus_1", "park_1"}
    assert keys(packed_sets["dcase"], "fold2_test") == {"bus_2", "park_2"}


def test_kinetics_in_class_folders_has_pictures_and_sounds(packed_sets: dict[str, Path]) -> None:
    dataset = reader.read_dataset(packed_sets["kinetics"])

    assert (dataset.modality, dataset.labels) == ("both", ("bowling", "playing accordion"))
    assert keys(packed_sets["kinetics"], "val") == {f"-validate_{number}_000001_000003" for number in (0, 1)}
    with stream.sample(stream.open_split(packed_sets["kinetics"], "train"), 0) as sample:
        assert sample.frames([0, 19]).shape == (2, 32, 44, 3)
        assert sample.waveform().size == 48_000
    clip_and_mel.check(dataset, clip_and_mel.Settings(resize_height=32, resize_width=44, crop=32))


@pytest.mark.parametrize("name", SHAPES)
def test_a_sample_s_json_says_its_label_and_folds(packed_sets: dict[str, Path], name: str) -> None:
    shards = packed_sets[name]
    dataset = reader.read_dataset(shards)
    for stored in dataset.splits:
        split = stream.open_split(shards, stored)
        for number in range(len(split)):
            with stream.sample(split, number) as sample:
                told = json.loads(sample.part(layout.META))
                assert (told["key"], told["split"]) == (sample.key, stored)
                assert told["label"] == dataset.labels[sample.label_index]
                splits = {f"{fold}_{part}" for fold, part in told.get("folds", {}).items() if part}
                assert splits == {name for name in dataset.folds if sample.key in keys(shards, name)}


@pytest.mark.parametrize("its", [clip_and_mel, clip_and_log_mel, clip_and_spectrogram])
@pytest.mark.parametrize(("name", "lacks"), [("ucf101", "sound"), ("esc50", "picture")])
def test_a_view_refuses_a_set_without_what_it_needs(
    packed_sets: dict[str, Path], its: Any, name: str, lacks: str
) -> None:
    dataset = reader.read_dataset(packed_sets[name])

    with pytest.raises(ShardError) as caught:
        its.check(dataset, its.Settings())
    assert str(caught.value) == f"the shards of {name} have no {lacks}, and the view needs picture and sound"


def test_the_manifest_has_a_row_for_each_file_and_links_to_it(packed_sets: dict[str, Path]) -> None:
    folder = packed_sets["ucf101"].parent
    made = manifest.read(folder / "manifest.parquet")

    assert len(made.outcomes) == 6
    for outcome in made.outcomes:
        media = outcome.media
        assert media is not None
        assert (media.num_frames, media.fps, media.audio_rate, media.silent) == (20, 10.0, 0, False)
        assert (folder / media.path).resolve().parent.name == outcome.clip.label
        assert (outcome.clip.time_end, outcome.clip.group) == (2, f"{outcome.clip.label} {outcome.clip.key[-7:-4]}")


@pytest.mark.parametrize("name", ["ucf101", "esc50"])
def test_a_page_shows_pictures_or_sounds_alone(
    packed_sets: dict[str, Path], name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shards = packed_sets[name]

    for place in (shards, shards.parent / "manifest.parquet"):
        assert view.main([str(place), f"--out={tmp_path / 'page.html'}", "--embed=1"]) == 0
        assert "1 embedded" in capsys.readouterr().out


def test_what_only_builds_have_is_refused_in_a_sentence(
    packed_sets: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, shards = packed_sets["ucf101"].parent / "manifest.parquet", packed_sets["ucf101"]
    refusals: dict[str, Callable[[], int]] = {
        "is the manifest of a data set (ucf101); only builds can be exported; to make one of your own clips": lambda: (
            export.main(["videofolder", f"--manifest={path}", f"--out={tmp_path / 'x'}"])
        ),
        "is a data set (ucf101); only builds can be exported": lambda: export.main(
            ["ogm", f"--shards={shards}", f"--out={tmp_path / 'x'}"]
        ),
        "is the manifest of a data set (ucf101); only builds can be published; to make one": lambda: publish.main(
            [f"--manifest={path}", f"--out={tmp_path / 'x'}"]
        ),
        "has no sound, which the statistics are of": lambda: shard.main(["stats", str(shards), "--split=fold1_train"]),
    }
    for said, command in refusals.items():
        assert command() == 2
        assert said in capsys.readouterr().err
    assert not (tmp_path / "x").exists()


def test_statistics_are_of_a_fold(packed_sets: dict[str, Path], tmp_path: Path) -> None:
    shards = Path(shutil.copytree(packed_sets["esc50"], tmp_path / "shards"))

    assert shard.main(["stats", str(shards), "--split=fold1_train", "--workers=1"]) == 0

    (entry,) = stats.read(Address(str(shards)))
    assert (entry.split, entry.samples) == ("fold1_train", 8)
    assert entry.fingerprint == reader.read_dataset(shards).folds["fold1_train"].fingerprint


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    inline(monkeypatch)


@pytest.mark.usefixtures("alone")
def test_a_second_run_decodes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = shapes.esc50(tmp_path / "esc")
    assert packed("esc50", folder) == 0
    tars = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.tar")}
    monkeypatch.setattr(
        "kinetics_sounds.pipelines.executors.start", lambda *_, **__: pytest.fail("something was decoded")
    )

    assert packed("esc50", folder) == 0

    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.tar")} == tars
    assert len(tars) == 1


@pytest.mark.usefixtures("alone")
def test_another_out_has_the_same_manifest_and_decodes_no_file_to_measure_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    common = ["--dataset=esc50", f"--folder={shapes.esc50(tmp_path / 'esc')}", "--workers=1"]
    assert shard.main([*common, "--out=one"]) == 0
    assert "manifest: data/esc50/manifest.parquet\nout: one\n" in capsys.readouterr().out
    measured = Path("data/esc50/ledger.sqlite").read_bytes()

    assert shard.main([*common, "--out=two", "--audio=none"]) == 0

    assert Path("data/esc50/ledger.sqlite").read_bytes() == measured
    assert not Path("two/manifest.parquet").exists()
    assert view.main(["two", "--out=page.html", "--embed=1"]) == 0


@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize("out", [[], ["--out=elsewhere"]])
def test_the_manifest_of_another_folder_is_used_only_if_it_is_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], out: list[str]
) -> None:
    """Even if that folder has the same files, as after a move; the same folder may be written otherwise."""
    monkeypatch.chdir(tmp_path)
    folder = shapes.esc50(tmp_path / "esc")
    common = ["--dataset=esc50", "--workers=1"]
    assert shard.main([*common, f"--folder={folder}"]) == shard.main([*common, "--folder=data/../esc", *out]) == 0
    before = {path: path.read_bytes() for path in tmp_path.glob("data/esc50/*.*")}
    moved = folder.rename(tmp_path / "moved")

    assert shard.main([*common, "--folder=moved", *out]) == 2

    said = capsys.readouterr().err
    assert (
        f"is the manifest of the folder {tmp_path}/data/../esc, not of {moved}; give another: --manifest data/moved"
        in said
    )
    assert "if that folder was moved: --manifest data/esc50\n" in said
    assert {path: path.read_bytes() for path in before} == before
    assert shard.main([*common, "--folder=moved", "--manifest=data/esc50", *out]) == 0


@pytest.mark.usefixtures("alone")
def test_the_sound_of_ucf101_is_packed_where_it_is_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = shapes.ucf101(tmp_path / "ucf")
    for number in (1, 2):
        shapes.avi(folder / f"UCF-101/Archery/v_Archery_g{number:02d}_c01.avi", sound=True)

    assert packed("ucf101", folder, "--modality", "both") == 1

    said = capsys.readouterr().err
    assert "files in the lists: 6, of which ok: 2" in said
    assert "left out: v_Archery_g03_c01: no_audio: the file has no sound stream" in said
    assert "without sound: 4 files; --modality video with a --manifest of its own packs pictures alone" in said
    split = stream.open_split(tmp_path / "data/ucf101/shards", "fold3_train")
    assert split.dataset.parts == (layout.AUDIO, layout.META, layout.MEL, layout.FRAMES)
    with stream.sample(split, 1) as sample:
        assert sample.waveform().size == 48_000
        assert np.ptp(sample.mel().astype(np.float32)) > 0


@pytest.mark.skipif(not REAL.is_dir(), reason=f"no real recordings here: {REAL} is missing")
@pytest.mark.usefixtures("alone")
def test_real_recordings_of_esc50(tmp_path: Path) -> None:
    folder, rows = tmp_path / "esc", ["filename,fold,target,category,esc10,src_file,take"]
    for path in sorted(REAL.glob("*.wav")):
        category, _, name = path.name.rpartition("_")
        fold, source, take, target = Path(name).stem.split("-")
        rows.append(f"{name},{fold},{target},{category},False,{source},{take}")
        (folder / "audio").mkdir(parents=True, exist_ok=True)
        shutil.copy(path, folder / "audio" / name)
    shapes.text(folder / "meta/esc50.csv", rows)

    assert packed("esc50", folder) == 0

    shards = tmp_path / "data/esc50/shards"
    assert keys(shards, "fold3_test") == {"3-120526-B-37", "3-95694-A-5", "3-144891-B-19"}
    split = stream.open_split(shards, "fold1_test")
    with stream.sample(split, 0) as sample:
        assert sample.waveform().size == 120_000  # 5 s at 24 kHz
    outcomes = manifest.read(shards.parent / "manifest.parquet").outcomes
    assert all(outcome.status is Status.OK and outcome.clip.time_end == 5 for outcome in outcomes)


@pytest.mark.skipif(not AVIS.is_dir(), reason=f"no real videos here: {AVIS} is missing")
@pytest.mark.usefixtures("alone")
def test_real_videos_of_ucf101_and_hmdb51(tmp_path: Path) -> None:
    ucf, hmdb = tmp_path / "ucf", tmp_path / "hmdb"
    name, other = "v_SoccerJuggling_g23_c01", "v_SoccerJuggling_g01_c01"
    waves = sorted(path.name for path in AVIS.glob("*_wave_*.avi"))
    (ucf / "UCF-101/SoccerJuggling").mkdir(parents=True)
    shutil.copy(AVIS / f"{name}.avi", ucf / "UCF-101/SoccerJuggling")
    shutil.copy(AVIS / waves[0], ucf / f"UCF-101/SoccerJuggling/{other}.avi")
    shapes.text(ucf / "ucfTrainTestlist/classInd.txt", ["1 SoccerJuggling"])
    for fold in (1, 2, 3):
        shapes.text(ucf / f"ucfTrainTestlist/trainlist{fold:02d}.txt", [f"SoccerJuggling/{name}.avi 1"])
        shapes.text(ucf / f"ucfTrainTestlist/testlist{fold:02d}.txt", [f"SoccerJuggling/{other}.avi"])
    (hmdb / "wave").mkdir(parents=True)
    for wave in waves:
        shutil.copy(AVIS / wave, hmdb / "wave")
    for fold in (1, 2, 3):
        codes = zip(waves, "121", strict=True)
        shapes.text(
            hmdb / f"testTrainMulti_7030_splits/wave_test_split{fold}.txt", [f"{each} {code}" for each, code in codes]
        )

    assert packed("ucf101", ucf) == packed("hmdb51", hmdb) == 0

    with stream.sample(stream.open_split(tmp_path / "data/ucf101/shards", "fold1_train"), 0) as sample:
        assert (sample.key, sample.meta.num_frames) == (name, 240)
    assert keys(tmp_path / "data/hmdb51/shards", "fold2_test") == {Path(waves[1]).stem}


@pytest.mark.usefixtures("alone")
def test_a_set_at_a_url_is_opened_by_its_folds(tmp_path: Path) -> None:
    url = "memory://sets/esc50"
    assert packed("esc50", shapes.esc50(tmp_path / "esc"), "--out", url) == 0

    split = stream.open_split(url, "fold4_test", cache=Cache(tmp_path / "cache", most_bytes=1 << 24))

    assert {split.key(number) for number in range(len(split))} == {"4-4000-A-0", "4-4005-A-5"}
    with stream.sample(split, 1) as sample:
        assert sample.waveform().size == 24_000
