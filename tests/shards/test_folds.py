"""Folds of a set: `fold1_train` is a split like any other, of samples that are stored once."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from kinetics_sounds import fingerprints, manifest, remote, stream
from kinetics_sounds.address import Address
from kinetics_sounds.cache import Cache
from kinetics_sounds.clip import ALL
from kinetics_sounds.errors import ShardError
from kinetics_sounds.pipelines.packing import verify
from kinetics_sounds.shards import index, layout, reader
from kinetics_sounds.shards.index import Dataset, SplitFacts
from kinetics_sounds.shards.writer import Sample, ShardWriter

from .sets import LABELS, upload

FOLDS = {
    "a": ("train", "test"),
    "b": ("test", "train"),
    "c": ("train", ""),
    "d": ("test", "train"),
    "e": ("train", "train"),
}
"""Split of each sample in two folds."""
SHARDS = ("ab", "cd", "e")


def make(folder: Path) -> Path:
    made, keys = [], list(FOLDS)
    for number, own in enumerate(SHARDS):
        with ShardWriter(layout.tar_path(folder, ALL, number), recipe="r") as writer:
            for key in own:
                parts = {layout.AUDIO: key.encode() * 3, layout.META: json.dumps({"key": key}).encode()}
                folds = dict(zip(("fold1", "fold2"), FOLDS[key], strict=True))
                writer.write(Sample(key=key, label_index=keys.index(key) % 3, parts=parts, folds=folds))
            made.append(writer.close())

    def facts(own: list[str], split: str) -> SplitFacts:
        selection = fingerprints.selection((key, LABELS[keys.index(key) % 3], split) for key in own)
        return SplitFacts(
            shards=3, samples=len(own), bytes=1, left=0, fingerprint=manifest.fingerprint(own), selection=selection
        )

    dataset = Dataset(
        recipe="r",
        fingerprint="",
        classes="five",
        note="",
        labels=LABELS,
        parts=made[0].parts,
        splits={ALL: facts(keys, ALL)},
        frames={},
        mel={},
        audio={},
        shuffle_seed=0,
        shard_bytes=1,
        versions={},
        folds={
            f"fold{fold + 1}_{part}": facts([key for key in keys if FOLDS[key][fold] == part], part)
            for fold in range(2)
            for part in ("train", "test")
        },
        schema=layout.FOLDS_SCHEMA,
    )
    index.write(folder / layout.DATASET, dataset)
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make(tmp_path / "set")


def keys_of(split: reader.Split) -> list[str]:
    return [split.key(number) for number in range(len(split))]


@pytest.mark.parametrize(
    ("name", "keys"),
    [
        ("all", "abcde"),
        ("fold1_train", "ace"),
        ("fold1_test", "bd"),
        ("fold2_train", "bde"),
        ("fold2_test", "a"),
    ],
)
def test_a_fold_s_split_is_the_samples_that_it_names(folder: Path, name: str, keys: str) -> None:
    split = stream.open_split(folder, name)

    assert (split.name, keys_of(split)) == (name, list(keys))
    for number, key in enumerate(keys):
        with stream.sample(split, number) as sample:
            assert sample.part(layout.AUDIO) == key.encode() * 3
            assert sample.label_index == "abcde".index(key) % 3


def test_a_url_s_folds_are_the_same(folder: Path, tmp_path: Path) -> None:
    url = upload(folder, "memory://folds")
    split = stream.open_split(url, "fold2_train", cache=Cache(tmp_path / "cache", most_bytes=1 << 20))

    assert keys_of(split) == ["b", "d", "e"]
    with stream.sample(split, 2) as sample:
        assert sample.part(layout.AUDIO) == b"eee"
    remote.forget(Address(url))


def test_an_epoch_of_a_fold_has_each_of_its_samples_once(folder: Path) -> None:
    split = stream.open_split(folder, "fold1_test")

    assert split.count_S.tolist() == [1, 1, 0]  # shards without any are no trouble
    assert sorted(stream.order(split.count_S, seed=0, epoch=3)) == [0, 1]
    assert [split.shard(number) for number in range(2)] == [0, 1]
    assert keys_of(reader.open_shard(folder, "fold1_test", 2)) == []


def test_what_a_fold_leaves_out_is_in_none_of_its_splits(folder: Path) -> None:
    seen = {key for name in ("fold2_train", "fold2_test") for key in keys_of(stream.open_split(folder, name))}

    assert seen == set("abde")


def test_a_split_of_no_fold_is_named_with_those_there_are(folder: Path) -> None:
    with pytest.raises(ShardError, match=r"no split 'fold3_train'; it has: all, fold1_train, fold1_test, fold2_train"):
        stream.open_split(folder, "fold3_train")
    with pytest.raises(ShardError, match=r"no split 'train'; it has: all, fold1_train"):
        stream.open_split(folder, "train")


def test_an_intact_set_has_no_fault(folder: Path) -> None:
    found = verify.verify(Address(str(folder)), decode=False, workers=1, stop=lambda: False)

    assert (found.samples, found.shards, found.faults) == (5, 3, ())


def test_an_index_with_other_folds_is_found(folder: Path) -> None:
    path = layout.index_path(layout.tar_path(folder, ALL, 1))
    made = index.read_index(path)
    index.write(path, dataclasses.replace(made, folds=made.folds | {"fold1": ("test", "test")}))

    found = verify.verify(Address(str(folder)), decode=False, workers=1, stop=lambda: False)

    assert {fault.place for fault in found.faults} == {"fold1_train", "fold1_test"}
    with pytest.raises(ShardError, match="fold1_train has 2 samples, but 3 according to"):
        stream.open_split(folder, "fold1_train")


def test_a_fold_that_the_index_does_not_have_is_another_set(folder: Path) -> None:
    path = layout.index_path(layout.tar_path(folder, ALL, 0))
    made = index.read_index(path)
    index.write(path, dataclasses.replace(made, folds={"fold1": made.folds["fold1"]}))

    with pytest.raises(ShardError, match="belongs to another set"):
        stream.open_split(folder, "fold1_train")


@pytest.mark.parametrize("folds", [{"fold1": ("train",)}, {"fold1": ("train", "training")}])
def test_folds_that_do_not_fit_their_samples_are_refused(folder: Path, folds: dict[str, tuple[str, ...]]) -> None:
    path = layout.index_path(layout.tar_path(folder, ALL, 0))
    index.write(path, dataclasses.replace(index.read_index(path), folds=folds))

    with pytest.raises(ShardError, match=r"columns differ in length|folds have other splits"):
        index.read_index(path)


def test_a_set_of_folds_has_a_schema_that_older_versions_refuse(folder: Path) -> None:
    told = json.loads((folder / layout.DATASET).read_text())

    assert told["schema"] == 3
    del told["folds"], told["checksum"]
    (folder / layout.DATASET).write_bytes(index.seal(told))
    with pytest.raises(ShardError, match="is not a valid shard set"):
        index.read_dataset(folder)


def test_a_writer_without_folds_writes_no_word_of_them(tmp_path: Path) -> None:
    with ShardWriter(tmp_path / "train-000000.tar", recipe="r") as writer:
        writer.write(Sample(key="a", label_index=0, parts={layout.META: b"{}"}))
        made = writer.close()

    assert made.folds == {}
    assert "folds" not in (tmp_path / "train-000000.json").read_text()


def test_stored_rows_are_not_changed_by_a_selection(folder: Path) -> None:
    whole, own = stream.open_split(folder, ALL), stream.open_split(folder, "fold1_train")

    np.testing.assert_array_equal(own.offset_NP, whole.offset_NP[[0, 2, 4]])
    np.testing.assert_array_equal(own.crc_NP, whole.crc_NP[[0, 2, 4]])
