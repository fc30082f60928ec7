import contextlib
import copy
import dataclasses
import errno
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kinetics_sounds.errors import ShardError
from kinetics_sounds.shards import index, layout
from kinetics_sounds.shards.index import Dataset, Index, SkippedClip, SplitFacts

from .sets import make

INDEX = Index(
    recipe="a recipe",
    bytes=10_240,
    sha256="ab" * 32,
    parts=("json", "mp4"),
    keys=("a_000000_000010", "-b_000001_000011"),
    label_indices=(0, 1),
    offsets=((512, 1536), (3072, 4096)),
    sizes=((10, 600), (10, 0)),
    crcs=((1, 2), (3, 2**32 - 1)),
    left=(SkippedClip(key="c", status="corrupt", detail='no "picture"\n'),),
)
FACTS = SplitFacts(shards=1, samples=2, bytes=10_240, left=1, fingerprint="cd" * 32)
DATASET = Dataset(
    recipe="a recipe",
    fingerprint="ef" * 32,
    classes="k32",
    note="Kinetics-Sounds: 32 labels",
    labels=("playing accordion", "tap dancing"),
    parts=("json", "mp4"),
    splits={"train": FACTS, "val": FACTS},
    frames={"short_side": 128, "max_fps": 30.0, "codec": "h264"},
    mel={"bands": 256},
    audio={"codec": "flac"},
    shuffle_seed=0,
    shard_bytes=256_000_000,
    versions={"ffmpeg": "n9"},
)


def read_back(record: Index | Dataset, folder: Path) -> Index | Dataset:
    path = folder / (layout.DATASET if isinstance(record, Dataset) else "train-000000.json")
    index.write(path, record)
    return reader(record)(path)


def reader(record: Index | Dataset) -> Callable[[Path], Index | Dataset]:
    return (lambda path: index.read_dataset(path.parent)) if isinstance(record, Dataset) else index.read_index


BOTH = pytest.mark.parametrize("record", [INDEX, DATASET], ids=["index", "dataset"])


@BOTH
def test_what_is_written_is_what_is_read(record: Index | Dataset, tmp_path: Path) -> None:
    assert read_back(record, tmp_path) == record
    assert len(list(tmp_path.iterdir())) == 1


def test_an_index_without_samples_is_read_too(tmp_path: Path) -> None:
    empty = dataclasses.replace(INDEX, parts=(), keys=(), label_indices=(), offsets=(), sizes=(), crcs=())

    assert read_back(empty, tmp_path) == empty


@BOTH
def test_the_file_is_one_line_of_json_with_its_schema(record: Index | Dataset, tmp_path: Path) -> None:
    index.write(tmp_path / "x.json", record)
    text = (tmp_path / "x.json").read_text()

    assert text.count("\n") == 1
    assert json.loads(text)["schema"] == (layout.DATASET_SCHEMA if isinstance(record, Dataset) else layout.SCHEMA)


@BOTH
def test_what_is_missing_says_who_makes_it(record: Index | Dataset, tmp_path: Path) -> None:
    with pytest.raises(ShardError, match=rf"{tmp_path}: has no .*; make the set with ks-shard"):
        reader(record)(tmp_path / layout.DATASET)


@BOTH
@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"nul", b"\xff\xfe", b"[" * 100_000, b'{"schema": ' + b"9" * 5000 + b"}", b"\0" * 100],
    ids=["empty", "cut short", "a word", "not utf-8", "deep", "a long number", "zeros"],
)
def test_what_is_no_json_is_named(record: Index | Dataset, tmp_path: Path, content: bytes) -> None:
    path = tmp_path / layout.DATASET
    path.write_bytes(content)

    with pytest.raises(ShardError, match=rf"{path}: cannot be read as JSON .*; {index.MENDING}"):
        reader(record)(path)


@BOTH
@pytest.mark.parametrize(
    "content", ["[]", "null", "3", '"text"', "{}", '{"schema": 5}', '{"schema": true}', '{"schema": null}']
)
def test_another_schema_is_refused(record: Index | Dataset, tmp_path: Path, content: str) -> None:
    path = tmp_path / layout.DATASET
    path.write_text(content)

    with pytest.raises(
        ShardError, match=rf"{path}: has schema .*, but this version reads (1|1, 2, 3, 4); make the set again"
    ):
        reader(record)(path)


def test_a_folder_in_a_file_s_place_is_named(tmp_path: Path) -> None:
    (tmp_path / layout.DATASET).mkdir()

    with pytest.raises(ShardError, match=r"dataset.json: cannot be read: Is a directory; make the set again"):
        index.read_dataset(tmp_path)


@BOTH
@pytest.mark.parametrize(
    ("new", "fault"), [('{"recipe":"another",', "it has a duplicate key"), ('{"x":NaN,', "NaN is not a number")]
)
def test_what_json_readers_disagree_on_is_refused(
    record: Index | Dataset, tmp_path: Path, new: str, fault: str
) -> None:
    path = tmp_path / layout.DATASET
    path.write_text(json.dumps(document(record)).replace("{", new, 1))

    with pytest.raises(ShardError, match=rf"{path}: cannot be read as JSON \({fault}\); {index.MENDING}"):
        reader(record)(path)


@BOTH
@pytest.mark.parametrize("checksum", ["", "0" * 64, "a", '"', "\ud800", "é", None, 3, []], ids=ascii)
def test_a_checksum_that_is_not_its_own_is_refused(record: Index | Dataset, tmp_path: Path, checksum: object) -> None:
    path = tmp_path / layout.DATASET
    path.write_text(json.dumps(document(record) | {"checksum": checksum}))

    with pytest.raises(ShardError, match=rf"{path}: is damaged \(its checksum differs\)"):
        reader(record)(path)


@BOTH
def test_a_file_larger_than_any_is_not_read(
    record: Index | Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / layout.DATASET
    index.write(path, record)
    monkeypatch.setattr(index, "MOST_BYTES", path.stat().st_size)
    assert reader(record)(path) == record

    monkeypatch.setattr(index, "MOST_BYTES", path.stat().st_size - 1)
    with pytest.raises(ShardError, match=rf"{path}: is larger than any"):
        reader(record)(path)


def test_of_a_file_larger_than_any_no_more_is_read_than_tells_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, memory: Callable[[int], contextlib.AbstractContextManager[None]]
) -> None:
    with (tmp_path / layout.DATASET).open("wb") as file:
        file.truncate(64 << 20)  # of zeros, none of which is stored
    monkeypatch.setattr(index, "MOST_BYTES", 1 << 20)

    with memory(8 << 20), pytest.raises(ShardError, match="is larger than any"):
        index.read_dataset(tmp_path)


def document(record: Index | Dataset) -> dict[str, Any]:
    made: dict[str, Any] = json.loads(json.dumps({"schema": 1} | dataclasses.asdict(record)))
    return made


def refused(record: Index | Dataset, changed: dict[str, Any], folder: Path) -> None:
    path = folder / layout.DATASET
    path.write_bytes(index.seal(changed))
    with pytest.raises(ShardError, match=rf"{path}: .*; make the set again with ks-shard"):
        reader(record)(path)


@BOTH
def test_every_field_is_needed(record: Index | Dataset, tmp_path: Path) -> None:
    for name in document(record).keys() - {"schema", "left", "folds", "label_sets"}:
        changed = document(record)
        del changed[name]
        refused(record, changed, tmp_path)


@BOTH
def test_a_field_that_no_one_knows_is_refused(record: Index | Dataset, tmp_path: Path) -> None:
    refused(record, document(record) | {"pickle": "x"}, tmp_path)


@BOTH
@pytest.mark.parametrize("wrong", [None, True, -1, 2**63, 1.5, [1.5], [[None]], [["a"]], [True]], ids=str)
def test_a_field_of_another_type_is_refused(record: Index | Dataset, tmp_path: Path, wrong: object) -> None:
    for name in document(record).keys() - {"schema"}:
        refused(record, document(record) | {name: wrong}, tmp_path)


@pytest.mark.parametrize(
    "changed",
    [
        {"keys": ["a"]},
        {"label_indices": [0]},
        {"offsets": [[512, 1536]]},
        {"sizes": [[10, 600], [10]]},
        {"crcs": [[1, 2, 3], [3, 4, 5]]},
        {"parts": ["json"]},
        {"keys": "ab"},
        {"offsets": [[512, -1], [3072, 4096]]},
        {"left": [{"key": "c"}]},
        {"left": {"key": "c"}},
        {"label_indices": [0, True]},
        {"label_indices": [0, 1.0]},
        {"crcs": [[1, 2], [3, False]]},
        {"crcs": [[1, 2], [3, 2**63]]},
        {"crcs": [[1, 2], [3, 10**400]]},
        {"sizes": [[10, 600], [10, 0.0]]},
        {"sizes": [[10, 600], 10]},
        {"sizes": [[10, 600], "ab"]},
        {"sizes": [[10, 600], [10, [0]]]},
        {"keys": ["a", 1]},
        {"parts": ["json", None]},
    ],
    ids=str,
)
def test_columns_that_do_not_fit_are_refused(tmp_path: Path, changed: dict[str, Any]) -> None:
    refused(INDEX, document(INDEX) | changed, tmp_path)


def test_a_split_of_another_name_is_no_way_out_of_the_folder(tmp_path: Path) -> None:
    changed = document(DATASET)
    changed["splits"]["../../etc"] = changed["splits"]["train"]
    (tmp_path / layout.DATASET).write_bytes(index.seal(changed))

    assert list(index.read_dataset(tmp_path).splits) == ["train", "val"]


def test_a_set_of_schema_1_opens_without_fingerprints(tmp_path: Path) -> None:
    old = document(DATASET) | {"schema": 1}
    for table in (old, *old["splits"].values()):
        del table["selection"], table["content"]
    (tmp_path / layout.DATASET).write_bytes(index.seal(old))

    read = index.read_dataset(tmp_path)
    assert (read.schema, read.selection, read.content, read.splits) == (1, "", "", DATASET.splits)


@pytest.mark.parametrize("name", ["selection", "content"])
def test_a_split_of_schema_2_has_its_fingerprints(tmp_path: Path, name: str) -> None:
    changed = document(DATASET)
    del changed["splits"]["val"][name]
    refused(DATASET, changed, tmp_path)


def test_the_schema_of_an_index_is_what_it_was() -> None:
    """Sets of before have the same indexes and recipes; `dataset.json` alone is another."""
    assert (layout.SCHEMA, layout.DATASET_SCHEMA, index.READABLE) == (1, 2, (1, 2, 3, 4))


def test_one_is_not_read_as_the_other(tmp_path: Path) -> None:
    refused(INDEX, document(DATASET), tmp_path)
    refused(DATASET, document(INDEX), tmp_path)


def named_error_or(kind: type[Any], read: Callable[[Path], object], path: Path) -> None:
    found: object
    try:
        found = read(path)
    except ShardError as error:
        found = str(error)
    if isinstance(found, str):
        assert str(path) in found
        assert "make the set again with ks-shard" in found or index.MENDING in found
    else:
        assert type(found) is kind


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


def places(value: object, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The way to every value within a JSON document."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for name, each in inner for place in places(each, (*path, name)))]


@BOTH
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_change_to_the_file_ends_in_anything_but_a_named_error(
    record: Index | Dataset, tmp_path: Path, data: st.DataObject
) -> None:
    changed = copy.deepcopy(document(record))
    *way, last = data.draw(st.sampled_from(places(changed)[1:]))
    inner: Any = changed
    for step in way:
        inner = inner[step]
    if data.draw(st.booleans()):
        del inner[last]
    else:
        inner[last] = data.draw(JSON)
    path = tmp_path / layout.DATASET
    path.write_bytes(index.seal(changed))

    named_error_or(type(record), reader(record), path)


@BOTH
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_changed_byte_is_always_found(record: Index | Dataset, tmp_path: Path, data: st.DataObject) -> None:
    path = tmp_path / layout.DATASET
    index.write(path, record)
    changed = bytearray(path.read_bytes())
    changed[data.draw(st.integers(0, len(changed) - 2))] ^= data.draw(st.integers(1, 255))  # all but the line's end
    path.write_bytes(changed)

    with pytest.raises(ShardError, match=rf"^{path}: "):
        reader(record)(path)


@BOTH
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_damage_to_the_bytes_ends_in_anything_but_a_named_error(
    record: Index | Dataset, tmp_path: Path, data: st.DataObject
) -> None:
    whole = index.seal(document(record))
    start = data.draw(st.integers(0, len(whole)))
    end = data.draw(st.integers(start, len(whole)))
    path = tmp_path / layout.DATASET
    path.write_bytes(whole[:start] + data.draw(st.binary(max_size=4)) + whole[end:])

    named_error_or(type(record), reader(record), path)


def test_a_disk_that_fails_is_no_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The set need not be made again."""

    def fails(*_: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(Path, "open", fails)
    with pytest.raises(
        ShardError, match=r"a.json: cannot be read: Input/output error; check that the disk is available"
    ):
        index.read_index(tmp_path / "a.json")


def test_of_a_build_the_folder_of_its_shards_is_named(tmp_path: Path) -> None:
    make(tmp_path / "four/shards", (1,))
    with pytest.raises(
        ShardError, match=rf"{tmp_path}/four: has no shard set .*; its shards are in {tmp_path}/four/shards: give"
    ):
        index.read_dataset(tmp_path / "four")
