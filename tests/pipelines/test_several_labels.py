"""AudioSet's lists as they ship: all labels of a clip, from the list to manifest, shards, published folder, export and report."""

import csv
import dataclasses
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from pyarrow import parquet

from kinetics_sounds import lists, manifest, stream
from kinetics_sounds.address import Address
from kinetics_sounds.clip import SPLITS
from kinetics_sounds.errors import ManifestError
from kinetics_sounds.pipelines import build, export, publish, shard, view
from kinetics_sounds.pipelines.fetching import list_report
from kinetics_sounds.pipelines.fetching.list_plan import Asked, plan_lists
from kinetics_sounds.pipelines.packing import verify
from kinetics_sounds.pipelines.publishing import croissant
from kinetics_sounds.pipelines.viewing import sets
from kinetics_sounds.shards import layout

from .conftest import inline, video

KEYS = {"--4gqARaEJE": 0, "aaaaaaaaaaa": 30, "bbbbbbbbbbb": 7}
"""Start of each video's span of two seconds."""
CLASSES = (
    "index,mid,display_name",
    '0,/m/09x0r,"Speech"',
    '1,/m/05zppz,"Male speech, man speaking"',
    '137,/m/04rlf,"Music"',
)
SEGMENTS = (
    "# Segments csv created Sun Mar  5 10:54:25 2017",
    "# num_ytids=22160, num_segs=22160, num_unique_labels=527, num_positive_labels=52882",
    "# YTID, start_seconds, end_seconds, positive_labels",
    '--4gqARaEJE, 0.000, 2.000, "/m/04rlf,/m/05zppz,/m/09x0r"',
    'aaaaaaaaaaa, 30.000, 32.000, "/m/0bt9lr,/m/09x0r,/m/04rlf"',
    'bbbbbbbbbbb, 7.000, 9.000, "/m/09x0r"',
    'ccccccccccc, 7.000, 9.000, "/m/0bt9lr,/m/068hy"',
)
LABELS = {
    "--4gqARaEJE_000000_000002": ("Music", "Male speech, man speaking", "Speech"),
    "aaaaaaaaaaa_000030_000032": ("Speech", "/m/0bt9lr", "Music"),  # a dog's is not in the class list
    "bbbbbbbbbbb_000007_000009": ("Speech",),
}


def write(path: Path, lines: Sequence[str]) -> Path:
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


@pytest.fixture(scope="module", autouse=True)
def _inline() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        inline(patch)
        yield


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built and packed."""
    folder = tmp_path_factory.mktemp("audioset")
    for number, (name, start) in enumerate(KEYS.items()):
        video(folder / "videos" / f"{name}_{start:06d}_{start + 2:06d}.mp4", seconds=2, seed=number)
    segments = write(folder / "balanced_train_segments.csv", SEGMENTS)
    classes = write(folder / "class_labels_indices.csv", CLASSES)
    assert call(folder, "--clips", segments, "--classes", classes, out=folder / "built") == 0
    assert shard.main(["--manifest", str(folder / "built/manifest.parquet"), "--workers", "1"]) == 0
    return folder


def call(folder: Path, *words: object, out: Path) -> int:
    source = f"local:{folder / 'videos'}"
    code: int = build.main([*map(str, words), "--source", source, "--out", str(out), "--workers", "1"])
    return code


@pytest.fixture(scope="module")
def published(root: Path) -> Path:
    words = ["--manifest", str(root / "built/manifest.parquet"), "--out", str(root / "published"), "--name", "few"]
    assert publish.main([*words, "--workers", "1"]) == 0
    return root / "published"


def labels(path: Path) -> dict[str, tuple[str, ...]]:
    return {each.clip.key: each.clip.labels for each in manifest.read(path).outcomes}


# --- The manifest -----------------------------------------------------------------------------------------------------


def test_the_manifest_has_every_label_by_its_name(root: Path) -> None:
    made = manifest.read(root / "built/manifest.parquet")

    assert made.classes.labels == ("Speech", "Male speech, man speaking", "Music")
    assert {each.clip.key: each.clip.labels for each in made.outcomes} == LABELS
    assert {each.clip.split for each in made.outcomes} == {"train"}  # by the name of the file
    assert json.loads(parquet.read_schema(root / "built/manifest.parquet").metadata[b"kinetics_sounds"])["schema"] == 5
    assert labels(root / "built/manifest.csv") == LABELS


def test_a_clip_s_class_is_its_first_label_in_the_class_list(root: Path) -> None:
    report = json.loads((root / "built/report.json").read_text())

    assert sorted(path.name for path in (root / "built/clips").iterdir()) == ["Music", "Speech"]
    assert report["lists"]["splits"]["train"]["other_classes"] == 1  # ccccccccccc, of which no label is in it
    assert report["lists"]["splits"]["train"]["several_labels"] == 2


def test_a_copy_by_pandas_keeps_the_labels(root: Path, tmp_path: Path) -> None:
    rows = parquet.read_table(root / "built/manifest.parquet").to_pandas()
    rows.to_csv(tmp_path / "copy.csv", index=False)
    rows.to_parquet(tmp_path / "copy.parquet", index=False)

    assert labels(tmp_path / "copy.csv") == labels(tmp_path / "copy.parquet") == LABELS


@pytest.mark.parametrize("cell", ["", "Speech", '["Music"]', '["Speech", 1]', "[" * 9999])
def test_a_copy_s_column_that_is_not_of_json_arrays_after_the_label_is_the_user_s_own(
    root: Path, tmp_path: Path, cell: str, caplog: pytest.LogCaptureFixture
) -> None:
    rows = parquet.read_table(root / "built/manifest.parquet").to_pandas()
    rows.loc[rows["label"] == "Speech", "labels"] = cell
    rows.to_csv(tmp_path / "copy.csv", index=False)
    rows.to_parquet(tmp_path / "copy.parquet", index=False)

    for name in ("copy.csv", "copy.parquet"):
        assert labels(tmp_path / name) == {key: labels[:1] for key, labels in LABELS.items()}
    assert [record.message.split(" (")[0] for record in caplog.records] == [
        f"{tmp_path / name}: its column labels is not that of a manifest, so it is ignored"
        for name in ("copy.csv", "copy.parquet")
    ]


def test_a_label_twice_in_a_copy_is_refused(root: Path, tmp_path: Path) -> None:
    rows = parquet.read_table(root / "built/manifest.parquet").to_pandas()
    rows.loc[rows["label"] == "Speech", "labels"] = '["Speech", "Speech"]'
    rows.to_csv(tmp_path / "copy.csv", index=False)

    with pytest.raises(ManifestError, match="is invalid"):
        manifest.read(tmp_path / "copy.csv")


@pytest.mark.parametrize("tail", [".csv", ".parquet"])
def test_numbers_in_a_column_of_that_name_are_the_user_s_own(root: Path, tmp_path: Path, tail: str) -> None:
    """Of a copy of a manifest with one label a clip."""
    made = manifest.read(root / "built/manifest.parquet")
    one = [each for each in made.outcomes if not each.clip.other_labels]
    manifest.write(tmp_path / "manifest.parquet", made.classes, one)
    rows = parquet.read_table(tmp_path / "manifest.parquet").to_pandas().assign(labels=3)
    copy = tmp_path / f"copy{tail}"
    rows.to_csv(copy, index=False) if tail == ".csv" else rows.to_parquet(copy, index=False)

    assert labels(copy) == {"bbbbbbbbbbb_000007_000009": ("Speech",)}
    assert manifest.read_classes(copy).labels == ("Speech",)


def test_a_column_of_that_name_in_another_manifest_is_the_user_s_own(root: Path, tmp_path: Path) -> None:
    """Of schema 3, whose metadata say so."""
    made = manifest.read(root / "built/manifest.parquet")
    one = [each for each in made.outcomes if not each.clip.other_labels]
    manifest.write(tmp_path / "manifest.parquet", made.classes, one)
    table = parquet.read_table(tmp_path / "manifest.parquet")
    parquet.write_table(table.append_column("labels", [["loud"]]), tmp_path / "mine.parquet")

    assert labels(tmp_path / "mine.parquet") == {"bbbbbbbbbbb_000007_000009": ("Speech",)}


def test_a_manifest_for_one_label_refuses_a_clip_with_several(root: Path, tmp_path: Path) -> None:
    made = manifest.read(root / "built/manifest.parquet")

    with pytest.raises(ValueError, match="has several labels, and the manifest no column labels"):
        manifest.write(tmp_path / "manifest.parquet", made.classes, made.outcomes)


def test_without_a_class_list_the_first_labels_are_the_classes(tmp_path: Path) -> None:
    segments = lists.recognise(write(tmp_path / "eval_segments.csv", SEGMENTS))
    plan = plan_lists([segments], None, Asked(splits=SPLITS), annotation_lists=list, always=False)

    assert plan.classes.labels == ("/m/04rlf", "/m/09x0r", "/m/0bt9lr")
    assert {clip.split for clip in plan.clips} == {"test"}
    assert {clip.key: clip.labels for clip in plan.clips}["ccccccccccc_000007_000009"] == ("/m/0bt9lr", "/m/068hy")


def test_a_build_by_0_2_0_without_a_class_list_is_resumed(root: Path, tmp_path: Path) -> None:
    """Its manifest has the first label of each clip alone, and these are the classes; no clip is judged again."""
    segments, out = root / "balanced_train_segments.csv", tmp_path / "built"
    assert call(root, "--clips", segments, out=out) == 1  # there is no ccccccccccc
    made = manifest.read(out / "manifest.parquet")
    first = [dataclasses.replace(each, clip=dataclasses.replace(each.clip, other_labels=())) for each in made.outcomes]
    classes = dataclasses.replace(made.classes, labels=("/m/04rlf", "/m/09x0r", "/m/0bt9lr"))
    manifest.write(out / "manifest.parquet", classes, first)

    assert call(root, "--clips", segments, out=out) == 1
    assert labels(out / "manifest.parquet")["ccccccccccc_000007_000009"] == ("/m/0bt9lr", "/m/068hy")


def test_a_class_is_the_first_of_the_row_not_of_the_class_list(root: Path) -> None:
    """The row of --4gqARaEJE begins with Music, which is last in the class list; what is said of it agrees."""
    made = manifest.read(root / "built/manifest.parquet")

    label = next(each.clip.label for each in made.outcomes if each.clip.youtube_id == "--4gqARaEJE")
    assert label == made.classes.labels[-1] == "Music"
    for told in (croissant.SEVERAL, list_report.text(json.loads((root / "built/report.json").read_text())["lists"])):
        assert re.search(r"the first of the (clip's )?row that is in the class list", told)


def test_two_rows_of_a_clip_with_other_labels_are_refused(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    segments = write(tmp_path / "train.csv", [*SEGMENTS, 'bbbbbbbbbbb, 7.000, 9.000, "/m/09x0r,/m/04rlf"'])

    assert call(root, "--clips", segments, out=tmp_path / "built") == 2
    assert "is '/m/09x0r', '/m/04rlf' in train, but" in capsys.readouterr().err


# --- Shards -----------------------------------------------------------------------------------------------------------


def test_the_shards_have_every_label(root: Path) -> None:
    split = stream.open_split(root / "built/shards", "train")

    found = {}
    for number in range(len(split)):
        with stream.sample(split, number) as sample:
            found[sample.key] = sample.labels
            assert json.loads(sample.part(layout.META))["label_indices"] == split.label_indices(number).tolist()
    assert found == LABELS
    indices = {split.key(number): split.label_indices(number).tolist() for number in range(3)}
    assert indices["--4gqARaEJE_000000_000002"] == [2, 1, 0]
    assert indices["aaaaaaaaaaa_000030_000032"] == [0, 2]
    assert indices["bbbbbbbbbbb_000007_000009"] == [0]


def test_the_set_says_so_and_is_whole(root: Path) -> None:
    document = json.loads((root / "built/shards/dataset.json").read_text())
    task = verify.TarTask(place=Address(str(root / "built/shards")), split="train", number=0, decode=True)
    checked = verify.check_tar(task)

    assert document["schema"] == layout.LABELS_SCHEMA
    assert (len(checked.keys), checked.faults) == (3, ())


def test_other_labels_make_other_shards(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    copy = root / "built/copy.parquet"
    rows = parquet.read_table(root / "built/manifest.parquet").to_pandas()
    rows["labels"] = [json.dumps(json.loads(each)[:2]) for each in rows["labels"]]
    rows.to_parquet(copy, index=False)

    assert shard.main(["--manifest", str(copy), "--out", str(root / "built/shards"), "--workers", "1"]) == 2
    assert "contains shards of another manifest" in capsys.readouterr().err


# --- Published, exported, shown ---------------------------------------------------------------------------------------


def test_a_published_folder_has_them_in_both_tables(published: Path) -> None:
    with (published / "splits/train.csv").open(newline="") as text:
        rows = {row["key"]: tuple(json.loads(row["labels"])) for row in csv.DictReader(text)}

    assert rows == LABELS
    assert list(parquet.read_table(published / "splits/train.parquet").to_pandas()["labels"]) == [
        json.dumps(rows[key]) for key in parquet.read_table(published / "splits/train.parquet").to_pandas()["key"]
    ]
    assert json.loads((published / "fingerprints.json").read_text())["schema"] == 2
    assert "several labels" in (published / "DATASHEET.md").read_text()


@pytest.mark.filterwarnings("ignore")  # of mlcroissant's own
def test_a_published_folder_has_no_fault_and_croissant_records_with_all_labels(published: Path) -> None:
    assert {json.loads(each["clips/labels"])[0] for each in croissant.records(published)} == {"Music", "Speech"}
    assert publish.main(["check", str(published)]) == 0


def test_a_folder_that_others_published_is_built_with_all_labels(root: Path, published: Path, tmp_path: Path) -> None:
    assert call(root, "--clips", published, out=tmp_path / "again") == 0
    assert labels(tmp_path / "again/manifest.parquet") == LABELS
    assert publish.main(["diff", str(published), str(tmp_path / "again/manifest.parquet")]) == 0
    assert publish.main(["diff", str(published), str(published), "--out", str(tmp_path / "common")]) == 0
    assert json.loads((tmp_path / "common/fingerprints.json").read_text())["schema"] == 2


def test_another_further_label_is_a_moved_record(root: Path, published: Path, tmp_path: Path) -> None:
    """A version of the folder with one label less is MAJOR."""
    rows = parquet.read_table(root / "built/manifest.parquet").to_pandas()
    rows["labels"] = [json.dumps(json.loads(each)[:2]) for each in rows["labels"]]
    rows.to_parquet(root / "built/fewer.parquet", index=False)
    words = ["--out", str(published), "--name", "few", "--workers", "1", "--version", "1.0.1"]

    assert publish.main(["--manifest", str(root / "built/fewer.parquet"), *words]) == 2


def test_videofolder_has_them_in_a_column(root: Path, tmp_path: Path) -> None:
    words = ["--manifest", str(root / "built/manifest.parquet"), "--out", str(tmp_path / "out"), "--workers", "1"]

    assert export.main(["videofolder", *words]) == 0
    with (tmp_path / "out/train/metadata.csv").open(newline="") as text:
        assert {row["key"]: tuple(json.loads(row["labels"])) for row in csv.DictReader(text)} == LABELS


@pytest.mark.parametrize("name", ["built", "built/shards", "published"])
def test_a_report_shows_them(root: Path, published: Path, name: str, tmp_path: Path) -> None:
    assert published.is_dir()
    rows = {row.key: row.labels for row in sets.read(root / name).rows}

    assert rows["aaaaaaaaaaa_000030_000032"] == "Speech; /m/0bt9lr; Music"
    assert rows["bbbbbbbbbbb_000007_000009"] == ""
    assert view.main([str(root / name), "--out", str(tmp_path / "page.html"), "--embed", "0"]) == 0
    assert "all labels" in (tmp_path / "page.html").read_text()
