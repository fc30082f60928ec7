import dataclasses
import json
import os
import pickle
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kinetics_sounds import stream
from kinetics_sounds.errors import ShardError
from kinetics_sounds.shards import index, layout
from kinetics_sounds.shards.index import Dataset, SplitFacts
from kinetics_sounds.shards.writer import Sample, ShardWriter

COUNTS = (3, 0, 1, 4)
LABELS = ("humming", "clapping", "singing")


def parts(number: int) -> dict[str, bytes]:
    made = {part: f"{part} of {number} ".encode() * (number + 1) for part in (layout.FRAMES, layout.MEL, layout.AUDIO)}
    return made | {layout.META: json.dumps({"number": number}).encode()}


def make(folder: Path, counts: tuple[int, ...] = COUNTS, *, recipe: str = "a recipe") -> Path:
    """A set of one split whose n-th sample in the stored order holds n in each of its parts."""
    made, number = [], 0
    for shard, count in enumerate(counts):
        with ShardWriter(layout.tar_path(folder, "train", shard), recipe=recipe) as writer:
            for _ in range(count):
                writer.write(Sample(key=f"k_{number}", label_index=number % 3, parts=parts(number)))
                number += 1
            made.append(writer.close())
    facts = SplitFacts(
        shards=len(counts), samples=number, bytes=sum(each.bytes for each in made), left=0, fingerprint=""
    )
    dataset = Dataset(
        recipe=recipe,
        fingerprint="",
        classes="three",
        note="",
        labels=LABELS,
        parts=next((each.parts for each in made if each.parts), ()),
        splits={"train": facts},
        frames={},
        mel={},
        audio={},
        shuffle_seed=0,
        shard_bytes=1,
        versions={},
    )
    index.write(folder / layout.DATASET, dataset)
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make(tmp_path / "shards")


@pytest.fixture
def split(folder: Path) -> stream.Split:
    return stream.open_split(folder, "train")


# --- Opening --------------------------------------------------------------------------------------------------------


def test_a_split_knows_its_samples_in_the_stored_order(split: stream.Split) -> None:
    assert len(split) == 8
    assert split.keys == tuple(f"k_{number}" for number in range(8))
    assert split.label_index_N.tolist() == [0, 1, 2, 0, 1, 2, 0, 1]
    assert split.counts.tolist() == [3, 0, 1, 4]
    assert split.tar_N.tolist() == [0, 0, 0, 2, 3, 3, 3, 3]
    assert split.offset_NP.shape == split.size_NP.shape == split.crc_NP.shape == (8, 4)


def test_a_split_that_is_not_there_lists_those_that_are(folder: Path) -> None:
    with pytest.raises(ShardError, match=rf"{folder}: has no split 'val'; it has: train"):
        stream.open_split(folder, "val")


def test_a_folder_that_is_no_set_says_what_makes_one(tmp_path: Path) -> None:
    with pytest.raises(ShardError, match="make the set with ks-shard"):
        stream.open_split(tmp_path, "train")


def test_a_set_whose_index_is_missing_names_it(folder: Path) -> None:
    (folder / "train" / "train-000002.json").unlink()

    with pytest.raises(ShardError, match=r"train-000002.json is missing"):
        stream.open_split(folder, "train")


def test_an_index_of_another_set_is_refused(folder: Path, tmp_path: Path) -> None:
    other = make(tmp_path / "other", recipe="another recipe")
    (other / "train" / "train-000002.json").replace(folder / "train" / "train-000002.json")

    with pytest.raises(ShardError, match=r"train-000002.json: belongs to another set than dataset.json"):
        stream.open_split(folder, "train")


def changed_dataset(folder: Path, **changes: object) -> None:
    dataset = index.read_dataset(folder)
    index.write(folder / layout.DATASET, dataclasses.replace(dataset, **changes))  # type: ignore[arg-type]


def test_a_set_of_other_parts_is_refused(folder: Path) -> None:
    changed_dataset(folder, parts=("json", "mp4"))

    with pytest.raises(ShardError, match="belongs to another set"):
        stream.open_split(folder, "train")


def test_a_label_without_a_name_is_refused(folder: Path) -> None:
    changed_dataset(folder, labels=LABELS[:2])

    with pytest.raises(ShardError, match=r"train-000000.json: has labels that dataset.json does not name"):
        stream.open_split(folder, "train")


@pytest.mark.parametrize(("samples", "shards"), [(9, 4), (7, 4), (8, 3), (8, 10**18)])
def test_a_count_that_is_not_so_is_refused(folder: Path, samples: int, shards: int) -> None:
    facts = dataclasses.replace(index.read_dataset(folder).splits["train"], samples=samples, shards=shards)
    changed_dataset(folder, splits={"train": facts})

    with pytest.raises(ShardError, match=r"samples where|is missing"):
        stream.open_split(folder, "train")


def test_a_set_without_samples_is_opened(tmp_path: Path) -> None:
    split = stream.open_split(make(tmp_path, (0,)), "train")

    assert len(split) == 0
    assert stream.order(split.counts, seed=0, epoch=0).tolist() == []


# --- Reading --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", range(8))
def test_a_part_is_read_as_it_was_written(split: stream.Split, number: int) -> None:
    assert split.read(number, split.dataset.parts) == parts(number)
    assert split.read(number, [layout.MEL]) == {layout.MEL: parts(number)[layout.MEL]}
    assert split.read(number, iter([layout.MEL, layout.AUDIO])).keys() == {layout.MEL, layout.AUDIO}
    assert split.read(number, []) == {}


def test_a_part_that_the_set_does_not_have_lists_those_that_it_has(split: stream.Split) -> None:
    with pytest.raises(ShardError, match=r"has no part 'jpeg'; it has: flac, json, mel.npy, mp4"):
        split.read(0, [layout.MEL, "jpeg"])


def test_nothing_else_of_the_tar_is_read(split: stream.Split, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []
    pread = os.pread

    def counting(descriptor: int, size: int, offset: int) -> bytes:
        read.append(size)
        return pread(descriptor, size, offset)

    monkeypatch.setattr("os.pread", counting)
    split.read(5, [layout.MEL])

    assert read == [len(parts(5)[layout.MEL])]


def test_a_tar_that_is_cut_short_names_the_sample_that_it_lacks(split: stream.Split) -> None:
    column = split.dataset.parts.index(layout.MEL)
    end = int(split.offset_NP[6, column] + split.size_NP[6, column])
    tar = split.tars[3]
    tar.write_bytes(tar.read_bytes()[: end - 1])

    assert split.read(5, split.dataset.parts) == parts(5)
    with pytest.raises(ShardError, match=rf"{tar}: is cut short within k_6.mel.npy; copy or make it again"):
        split.read(6, [layout.MEL])
    with pytest.raises(ShardError, match=r"is cut short within k_7"):
        split.read(7, [layout.AUDIO])


def test_a_tar_that_is_gone_is_named(split: stream.Split) -> None:
    split.tars[0].unlink()

    with pytest.raises(ShardError, match=rf"{split.tars[0]}: cannot be read: No such file or directory"):
        split.read(0, [layout.MEL])


@pytest.mark.parametrize("part", [layout.FRAMES, layout.MEL, layout.AUDIO, layout.META])
def test_any_flipped_bit_is_found_and_named(split: stream.Split, part: str) -> None:
    tar, column = split.tars[3], split.dataset.parts.index(part)
    whole = tar.read_bytes()
    for bit in np.random.default_rng(0).integers(0, 8 * int(split.size_NP[5, column]), 20).tolist():
        flipped = bytearray(whole)
        flipped[int(split.offset_NP[5, column]) + bit // 8] ^= 1 << bit % 8
        tar.write_bytes(flipped)

        with pytest.raises(ShardError, match=rf"{tar}: is damaged within k_5.{part}; copy or make it again"):
            split.read(5, [part])
        assert split.read(4, split.dataset.parts) == parts(4)


@pytest.mark.parametrize("size", [10**6, 2**62])
def test_an_index_that_asks_for_more_than_there_is_takes_no_memory(split: stream.Split, size: int) -> None:
    greedy = dataclasses.replace(split, size_NP=np.full_like(split.size_NP, size))

    with pytest.raises(ShardError, match="is cut short"):
        greedy.read(0, [layout.MEL])


def test_reading_leaves_no_file_open(split: stream.Split) -> None:
    def opened() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    before = opened()
    split.tars[2].write_bytes(b"")
    for number in (0, 3, 5) * 10:
        if number == 3:
            with pytest.raises(ShardError):
                split.read(number, [layout.MEL])
        else:
            split.read(number, [layout.MEL])
    assert opened() == before


def test_a_split_travels_to_another_process(split: stream.Split) -> None:
    travelled: stream.Split = pickle.loads(pickle.dumps(split))

    assert travelled.keys == split.keys
    assert travelled.read(6, split.dataset.parts) == parts(6)


# --- Order ----------------------------------------------------------------------------------------------------------

counts_of = st.lists(st.integers(0, 7), max_size=8)
seeds = st.integers(0, 2**32)
windows = st.none() | st.integers(1, 9)


@settings(max_examples=150, deadline=None)
@given(counts=counts_of, seed=seeds, epoch=st.integers(0, 1000), window=windows)
def test_an_order_has_every_sample_once_and_is_the_same_every_time(
    counts: list[int], seed: int, epoch: int, window: int | None
) -> None:
    first, second = (stream.order(counts, seed=seed, epoch=epoch, window=window) for _ in range(2))

    assert sorted(first.tolist()) == list(range(sum(counts)))
    assert first.dtype == np.int64
    assert np.array_equal(first, second)


@settings(max_examples=150, deadline=None)
@given(counts=counts_of, seed=seeds, epoch=st.integers(0, 1000), window=st.integers(1, 9))
def test_no_more_than_a_window_of_shards_is_needed_at_once(
    counts: list[int], seed: int, epoch: int, window: int
) -> None:
    """The samples of `window` shards stand together, then those of the next ones; no shard is come back to."""
    tar_N = np.repeat(np.arange(len(counts)), counts)
    shards: list[int] = tar_N[stream.order(counts, seed=seed, epoch=epoch, window=window)].tolist()

    def last(shard: int) -> int:
        return len(shards) - shards[::-1].index(shard)

    overlapping = [
        {shard for shard in set(shards) if shards.index(shard) <= place < last(shard)} for place in range(len(shards))
    ]
    assert all(len(needed) <= window for needed in overlapping)


def test_a_window_of_one_shard_reads_them_one_after_another() -> None:
    order = stream.order([3, 3, 3, 3], seed=1, epoch=0, window=1).tolist()
    runs = [{number // 3 for number in order[place : place + 3]} for place in range(0, 12, 3)]

    assert all(len(run) == 1 for run in runs)
    assert set.union(*runs) == {0, 1, 2, 3}
    assert order != sorted(order)


def test_without_a_window_the_whole_set_is_mixed() -> None:
    """Of 100 shards of 10, neighbours from one shard are as rare as chance: 9 of 999."""
    order = stream.order([10] * 100, seed=0, epoch=0)
    together = sum(first // 10 == second // 10 for first, second in pairwise(order.tolist()))

    assert together < 30
    assert np.array_equal(order, stream.order([10] * 100, seed=0, epoch=0, window=100))
    assert np.array_equal(order, stream.order([10] * 100, seed=0, epoch=0, window=10**9))


def test_every_place_is_as_likely_for_every_sample() -> None:
    """Over 3000 epochs, sample 0 of shards of 1, 2 and 3 comes at each of the 6 places about 500 times."""
    places = [stream.order([1, 2, 3], seed=0, epoch=epoch).tolist().index(0) for epoch in range(3000)]

    assert np.bincount(places, minlength=6) == pytest.approx(np.full(6, 500), abs=90)  # 4 standard deviations


def test_epochs_and_seeds_differ() -> None:
    orders = {stream.order([50], seed=seed, epoch=epoch).tobytes() for seed in range(10) for epoch in range(10)}

    assert len(orders) == 100


def test_an_order_is_the_same_in_another_process() -> None:
    here = stream.order([5, 6, 7], seed=3, epoch=4, window=2).tolist()
    code = "from kinetics_sounds import stream; print(stream.order([5, 6, 7], seed=3, epoch=4, window=2).tolist())"
    there = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)

    assert json.loads(there.stdout) == here


def test_global_randomness_is_neither_used_nor_moved() -> None:
    np.random.seed(0)
    order, expected = stream.order([50], seed=3, epoch=4).tolist(), float(np.random.random())
    np.random.seed(0)

    assert float(np.random.random()) == expected
    assert stream.order([50], seed=3, epoch=4).tolist() == order


def test_an_order_stays_what_it_was() -> None:
    """A run that was begun under one version of this code, or of numpy, goes on under the next."""
    assert stream.order([3, 2, 4], seed=7, epoch=1).tolist() == [7, 0, 4, 8, 3, 1, 5, 6, 2]


@pytest.mark.parametrize("window", [0, -1])
def test_a_window_of_no_shards_is_refused(window: int) -> None:
    with pytest.raises(ValueError, match=f"window must be at least one shard, not {window}"):
        stream.order([1, 2], seed=0, epoch=0, window=window)


def test_a_million_samples_are_ordered_in_a_moment() -> None:
    order = stream.order([250] * 4000, seed=0, epoch=0)

    assert len(order) == 1_000_000


# --- Randomness -----------------------------------------------------------------------------------------------------


def draw(seed: int = 0, epoch: int = 0, key: str = "k", view: str = "") -> float:
    return float(stream.rng(seed, epoch, key, view).random())


def test_a_sample_s_randomness_is_its_own() -> None:
    """The same for the same clip and epoch, whatever was drawn before; another for another of any of the four."""
    first = draw()
    stream.rng(0, 0, "k").random(1000)

    assert draw() == first
    assert len({first, draw(seed=1), draw(epoch=1), draw(key="l"), draw(view="second")}) == 5


@settings(max_examples=50, deadline=None)
@given(seed=seeds, epoch=st.integers(0, 10_000), key=st.text(max_size=80), view=st.text(max_size=5))
def test_any_key_has_randomness(seed: int, epoch: int, key: str, view: str) -> None:
    assert draw(seed, epoch, key, view) == draw(seed, epoch, key, view)


def test_samples_are_independent() -> None:
    draws = np.array([[draw(epoch=epoch, key=f"k_{key}") for key in range(200)] for epoch in range(20)])

    assert draws.mean() == pytest.approx(0.5, abs=0.02)
    assert abs(np.corrcoef(draws[0], draws[1])[0, 1]) < 0.3
    assert abs(np.corrcoef(draws[:, 0], draws[:, 1])[0, 1]) < 0.8
    assert len(np.unique(draws)) == draws.size
