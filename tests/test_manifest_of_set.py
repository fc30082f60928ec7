"""The manifest of a data set: keys of its own, times to the millisecond, and a column for each fold."""

import csv
import dataclasses
from pathlib import Path

import pandas as pd
import pytest
from pyarrow import parquet

from kinetics_sounds import manifest
from kinetics_sounds.classes import ClassList
from kinetics_sounds.clip import ALL, Clip, Outcome, Status
from kinetics_sounds.errors import ManifestError

from .test_manifest import MEDIA

CLASSES = ClassList("ucf101", ("Archery", "Surfing"))
FOLDS = ("fold1", "fold2")
KEPT = Outcome(
    clip=Clip("", 0, 7.24, "Archery", ALL, name="v_Archery_g01_c01", group="Archery g01", folds=("test", "train")),
    status=Status.OK,
    media=dataclasses.replace(MEDIA, path="clips/Archery/v_Archery_g01_c01.avi"),
)
LOST = Outcome(
    clip=Clip("", 0, 1, "Surfing", ALL, name="v_Surfing_g09_c02", folds=("train", "")), status=Status.NOT_IN_SOURCE
)


def write(folder: Path, folds: tuple[str, ...] = FOLDS) -> Path:
    path = folder / "manifest.parquet"
    manifest.write(path, CLASSES, [KEPT, LOST], folds=folds)
    return path


def test_a_data_set_reads_back_as_written(tmp_path: Path) -> None:
    assert manifest.read(write(tmp_path)) == manifest.Manifest(CLASSES, (KEPT, LOST), FOLDS)


def test_folds_are_columns_of_both_files(tmp_path: Path) -> None:
    path = write(tmp_path)

    (kept, lost) = csv.DictReader(path.with_suffix(".csv").read_text("utf-8").splitlines())
    assert (kept["key"], kept["youtube_id"], kept["split"]) == ("v_Archery_g01_c01", "", "all")
    assert (kept["time_end"], kept["group"], kept["fold1"], kept["fold2"]) == ("7.24", "Archery g01", "test", "train")
    assert (lost["fold1"], lost["fold2"]) == ("train", "")
    assert parquet.read_table(path).to_pandas()["fold2"].tolist() == ["train", ""]


@pytest.mark.parametrize("name", ["copy.csv", "copy.parquet"])
def test_a_copy_by_pandas_keeps_the_folds(tmp_path: Path, name: str) -> None:
    rows = pd.read_parquet(write(tmp_path))
    (rows.to_csv if name.endswith("csv") else rows.to_parquet)(tmp_path / name, index=False)

    copy = manifest.read(tmp_path / name)

    assert (copy.outcomes, copy.folds, copy.classes.labels) == ((KEPT, LOST), FOLDS, CLASSES.labels)


def test_a_set_without_folds_is_no_build(tmp_path: Path) -> None:
    path = tmp_path / "manifest.parquet"
    clip = Clip("", 0, 30, "Surfing", "test", name="bus01")
    manifest.write(path, CLASSES, [dataclasses.replace(KEPT, clip=clip)], folds=())

    assert manifest.read(path).folds == ()
    assert manifest.read(path).outcomes[0].clip == clip


def test_a_build_s_manifest_has_no_column_more_than_before(tmp_path: Path) -> None:
    clip = Clip("abc", 27, 37, "Archery", "train")
    manifest.write(tmp_path / "manifest.parquet", CLASSES, [dataclasses.replace(KEPT, clip=clip)])

    assert parquet.read_schema(tmp_path / "manifest.parquet").names == list(manifest.COLUMNS)
    assert manifest.read(tmp_path / "manifest.parquet").folds is None


@pytest.mark.parametrize(
    ("column", "value", "said"),
    [
        ("fold1", "training", "'training' is not a split of a fold"),
        ("key", "../etc", "'../etc' is not a key"),
        ("key", "k" * 93, "is not a key"),
        ("time_end", 7.24001, "7.24001 is not in whole milliseconds"),
        ("split", "fold1", "'fold1' is not a split"),
    ],
)
def test_a_row_that_cannot_be_is_refused(tmp_path: Path, column: str, value: str | float, said: str) -> None:
    rows = pd.read_parquet(write(tmp_path))
    rows.loc[0, column] = value
    rows.to_csv(tmp_path / "copy.csv", index=False)

    with pytest.raises(ManifestError, match=r"copy\.csv: is invalid") as caught:
        manifest.read(tmp_path / "copy.csv")
    assert said in str(caught.value)
