import contextlib
import dataclasses
import errno
import hashlib
import json
import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import pytest

from kinetics_sounds import file_systems, remote
from kinetics_sounds.cache import Cache
from kinetics_sounds.errors import BadSampleError, ShardError
from kinetics_sounds.shards import index, layout
from kinetics_sounds.shards import split as split_module
from kinetics_sounds.shards.reader import Split, open_shard, open_split

from ..wire import FileServer, Proxy
from .sets import LABELS, make, parts, upload

COUNTS = (3, 0, 1, 4)
FLAC, JSON, MEL, MP4 = range(4)
"""Columns of the parts."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make(tmp_path / "shards", COUNTS)


@pytest.fixture
def split(folder: Path) -> Split:
    return open_split(folder, "train")


def read(split: Split, number: int) -> dict[str, bytes]:
    with split.open(number) as sample:
        return {part: sample.read(part) for part in split.dataset.parts}


def refused(folder: Path, match: str) -> None:
    with pytest.raises(ShardError, match=match):
        open_split(folder, "train")


# --- Opening --------------------------------------------------------------------------------------------------------


def test_a_split_knows_its_samples_in_the_stored_order(split: Split, folder: Path) -> None:
    assert len(split) == 8
    assert [split.key(number) for number in range(8)] == [f"k_{number}" for number in range(8)]
    assert split.label_index_N.tolist() == [0, 1, 2, 0, 1, 2, 0, 1]
    assert split.count_S.tolist() == [3, 0, 1, 4]
    assert [split.shard(number) for number in range(8)] == [0, 0, 0, 2, 3, 3, 3, 3]
    assert split.offset_NP.shape == split.size_NP.shape == split.crc_NP.shape == (8, 4)
    assert split.offset_NP[0].tolist() == [512, 1536, 2560, 3584]
    assert [tar.place for tar in split.tars] == [folder / f"train/train-00000{n}.tar" for n in range(4)]


def test_a_folder_may_be_given_as_text(folder: Path) -> None:
    assert len(open_split(str(folder), "train")) == 8


def test_a_split_that_is_not_there_lists_those_that_are(folder: Path) -> None:
    with pytest.raises(ShardError, match=rf"{folder}: has no split 'val'; it has: train"):
        open_split(folder, "val")


def test_a_folder_that_is_no_set_says_what_makes_one(tmp_path: Path) -> None:
    refused(tmp_path, "make the set with ks-shard")


def test_a_set_whose_index_is_missing_names_it(folder: Path) -> None:
    (folder / "train" / "train-000002.json").unlink()

    refused(folder, r"train-000002.json is missing")


def test_an_index_of_another_set_is_refused(folder: Path, tmp_path: Path) -> None:
    other = make(tmp_path / "other", COUNTS, recipe="another recipe")
    (other / "train" / "train-000002.json").replace(folder / "train" / "train-000002.json")

    refused(folder, r"train-000002.json: belongs to another set than dataset.json")


def changed_dataset(folder: Path, **changes: object) -> None:
    dataset = index.read_dataset(folder)
    index.write(folder / layout.DATASET, dataclasses.replace(dataset, **changes))  # type: ignore[arg-type]


def test_a_set_of_other_parts_is_refused(folder: Path) -> None:
    changed_dataset(folder, parts=("json", "mp4"))

    refused(folder, "belongs to another set")


def test_a_label_without_a_name_is_refused(folder: Path) -> None:
    changed_dataset(folder, labels=LABELS[:2])

    refused(folder, r"train-000000.json: has labels that are not in dataset.json")


@pytest.mark.parametrize(("samples", "shards"), [(9, 4), (7, 4), (8, 3), (8, 10**18)])
def test_a_count_that_is_not_so_is_refused(folder: Path, samples: int, shards: int) -> None:
    facts = dataclasses.replace(index.read_dataset(folder).splits["train"], samples=samples, shards=shards)
    changed_dataset(folder, splits={"train": facts})

    refused(folder, r"samples, but|is missing")


@pytest.mark.parametrize("counts", [(), (0,), (0, 0)])
def test_a_set_without_samples_is_opened(tmp_path: Path, counts: tuple[int, ...]) -> None:
    split = open_split(make(tmp_path, counts), "train")

    assert len(split) == 0
    assert split.count_S.tolist() == list(counts)


def test_a_tar_that_is_missing_is_named(folder: Path) -> None:
    (folder / "train" / "train-000002.tar").unlink()

    refused(folder, r"train-000002.tar: cannot be read: No such file or directory; copy it, or make it with ks-shard")


@pytest.mark.parametrize(("change", "fault"), [(-1, "cut short"), (512, "not what its index describes")])
def test_a_tar_of_another_size_is_named(folder: Path, change: int, fault: str) -> None:
    tar = folder / "train" / "train-000003.tar"
    size = tar.stat().st_size
    with tar.open("rb+") as file:
        file.truncate(size + change)

    refused(folder, rf"train-000003.tar: is {fault} \({size + change} bytes, not {size}\); copy both again")


def change_index(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    path = folder / "train" / "train-000003.json"
    document = json.loads(path.read_bytes())
    change(document)
    path.write_bytes(index.seal(document))


@pytest.mark.parametrize("key", ["../x", "a.b", "a/b", "", "a\nb", "a\n", "é", "a\0", "a b", "a" * 101])
def test_a_key_that_is_no_name_is_refused(folder: Path, key: str) -> None:
    change_index(folder, lambda found: found["keys"].__setitem__(1, key))

    refused(folder, r"train-000003.json: has invalid keys")


def test_a_key_of_a_hundred_letters_is_read(folder: Path) -> None:
    change_index(folder, lambda found: found["keys"].__setitem__(1, "a" * 100))

    assert open_split(folder, "train").key(5) == "a" * 100


@pytest.mark.parametrize("key", ["k_4", "k_0"])
def test_a_sample_that_is_there_twice_is_refused(folder: Path, key: str) -> None:
    change_index(folder, lambda found: found["keys"].__setitem__(3, key))

    refused(folder, r"train has duplicate samples")


@pytest.mark.parametrize(
    ("table", "row", "part", "value"),
    [
        ("offsets", 0, FLAC, 511),
        ("offsets", 0, FLAC, 0),
        ("offsets", 1, JSON, 512),
        ("offsets", 3, MP4, 2**40),
        ("offsets", 3, MP4, 2**63 - 1),
        ("sizes", 0, FLAC, 513),
        ("sizes", 0, MP4, 10**6),
        ("sizes", 3, MP4, 2**32 - 1),
        ("sizes", 3, MP4, 2**63 - 1),
        ("sizes", 0, FLAC, 2**63 - 512),
        ("crcs", 0, FLAC, 2**32),
    ],
)
def test_a_part_that_cannot_be_there_is_refused(folder: Path, table: str, row: int, part: int, value: int) -> None:
    change_index(folder, lambda found: found[table][row].__setitem__(part, value))

    refused(folder, r"train-000003.json: has parts that overlap or exceed their tar; make the set again with ks-shard")


def test_a_part_of_four_gib_is_refused(folder: Path) -> None:
    def claim(found: dict[str, Any]) -> None:
        found["bytes"] = 2**40
        found["sizes"][3][MP4] = 2**32

    change_index(folder, claim)
    refused(folder, "has parts that overlap or exceed their tar")


@pytest.mark.slow
def test_a_hundred_thousand_samples_are_opened_in_two_seconds_and_200_mb(tmp_path: Path) -> None:
    per, row = 250, [300_000, 500, 131_200, 250_000]
    padded = [512 + -(-size // 512) * 512 for size in row]
    starts = np.cumsum([0, *padded])[:-1]
    tar_bytes = per * sum(padded) + 10_240
    document = {
        "schema": layout.SCHEMA,
        "recipe": "r",
        "bytes": tar_bytes,
        "sha256": "ab" * 32,
        "parts": ["flac", "json", "mel.npy", "mp4"],
        "label_indices": [0] * per,
        "offsets": (np.arange(per)[:, None] * sum(padded) + starts + 512).tolist(),
        "sizes": [row] * per,
        "crcs": np.random.default_rng(0).integers(0, 2**32, (per, 4)).tolist(),
        "left": [],
    }
    make(tmp_path, (1,), recipe="r")
    facts = dataclasses.replace(index.read_dataset(tmp_path).splits["train"], shards=400, samples=400 * per)
    changed_dataset(tmp_path, splits={"train": facts})
    for shard in range(400):
        tar = layout.tar_path(tmp_path, "train", shard)
        with tar.open("wb") as file:
            file.truncate(tar_bytes)
        keys = [f"{shard:05d}{number:06d}_000000_000010" for number in range(per)]
        layout.index_path(tar).write_bytes(index.seal(document | {"keys": keys}))
    code = """
import resource, sys, time
from kinetics_sounds.shards.reader import open_split
before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
split = open_split(sys.argv[1], "train")
print(len(split), time.process_time() - began, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1e3)
print(sum(array.nbytes for array in vars(split).values() if hasattr(array, "nbytes")) / len(split))
"""
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path], capture_output=True, text=True, check=True, timeout=60
    )
    samples, seconds, megabytes, bytes_each = map(float, done.stdout.split())

    assert samples == 100_000
    assert seconds < 2
    assert megabytes < 200
    assert bytes_each <= 100  # so that a million samples take 100 MB


# --- Reading --------------------------------------------------------------------------------------------------------


def test_a_part_is_read_as_it_was_written(split: Split) -> None:
    assert [read(split, number) for number in range(8)] == [parts(number) for number in range(8)]


def test_a_part_that_the_set_does_not_have_lists_those_that_it_has(split: Split) -> None:
    with (
        split.open(0) as sample,
        pytest.raises(ShardError, match=r"has no part 'jpeg'; it has: flac, json, mel.npy, mp4"),
    ):
        sample.read("jpeg")


def test_nothing_else_of_the_tar_is_read(split: Split, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    pread = os.pread

    def counting(descriptor: int, size: int, offset: int) -> bytes:
        asked.append(size)
        return pread(descriptor, size, offset)

    monkeypatch.setattr("os.pread", counting)
    with split.open(5) as sample:
        sample.read(layout.MEL)
        sample.read_pieces(layout.MEL, [(3, 4, crc32(parts(5)[layout.MEL][3:7]))])

    assert asked == [len(parts(5)[layout.MEL]), 4]


def test_a_piece_is_read_and_checked(split: Split) -> None:
    mel = parts(5)[layout.MEL]
    with split.open(5) as sample:
        assert sample.read_pieces(layout.MEL, [(0, len(mel), crc32(mel)), (len(mel), 0, 0)]) == [mel, b""]
        with pytest.raises(BadSampleError, match=r"train-000003.tar: sample k_5: its mel.npy is damaged"):
            sample.read_pieces(layout.MEL, [(0, 4, crc32(mel[:4]) ^ 1)])
        for first, size in ((0, len(mel) + 1), (len(mel), 1), (-1, 1), (2, -1)):
            with pytest.raises(BadSampleError, match=r"were requested from a mel.npy of"):
                sample.read_pieces(layout.MEL, [(first, size, 0)])


def test_the_clock_stands_while_parts_are_read(split: Split, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever counts a sample's time is told before the first byte is asked for, and after the last one."""
    said: list[str] = []
    pread = os.pread

    def telling(descriptor: int, size: int, offset: int) -> bytes:
        said.append("read")
        return pread(descriptor, size, offset)

    @contextlib.contextmanager
    def fetching() -> Iterator[None]:
        said.append("stop")
        yield
        said.append("start")

    monkeypatch.setattr("os.pread", telling)
    mel = parts(5)[layout.MEL]
    with split.open(5, fetching=fetching) as sample:
        sample.read(layout.MEL)
        sample.read_pieces(layout.MEL, [(0, 1, crc32(mel[:1])), (1, 2, crc32(mel[1:3]))])

    assert said == ["stop", "read", "start", "stop", "read", "read", "start"]


def test_a_read_that_gives_less_than_asked_is_gone_on_with(split: Split, monkeypatch: pytest.MonkeyPatch) -> None:
    pread = os.pread
    monkeypatch.setattr("os.pread", lambda descriptor, size, offset: pread(descriptor, min(size, 3), offset))

    assert read(split, 6) == parts(6)


def test_a_tar_that_is_cut_short_later_names_the_sample_that_it_lacks(split: Split) -> None:
    end = int(split.offset_NP[6, MP4] + split.size_NP[6, MP4])
    os.truncate(str(split.tars[3].place), end - 1)

    assert read(split, 5) == parts(5)
    with pytest.raises(BadSampleError, match=r"train-000003.tar: sample k_6: its mp4 is cut short; copy the tar again"):
        read(split, 6)


def test_a_tar_that_is_gone_later_is_named(split: Split) -> None:
    Path(str(split.tars[0].place)).unlink()

    with pytest.raises(ShardError, match=rf"{split.tars[0]}: cannot be read: No such file or directory"):
        read(split, 0)


@pytest.mark.parametrize("part", range(4), ids=["flac", "json", "mel.npy", "mp4"])
def test_any_flipped_bit_is_found_and_named(split: Split, part: int) -> None:
    tar, name = Path(str(split.tars[3].place)), split.dataset.parts[part]
    whole = tar.read_bytes()
    for bit in np.random.default_rng(0).integers(0, 8 * int(split.size_NP[5, part]), 20).tolist():
        flipped = bytearray(whole)
        flipped[int(split.offset_NP[5, part]) + bit // 8] ^= 1 << bit % 8
        tar.write_bytes(flipped)

        with split.open(5) as sample, pytest.raises(BadSampleError, match=rf"{tar}: sample k_5: its {name} is damaged"):
            sample.read(name)
        assert read(split, 4) == parts(4)


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> list[OSError | bytes]:
    """What the next reads end in."""
    ends: list[OSError | bytes] = []
    pread = os.pread

    def read_or_fail(descriptor: int, size: int, offset: int) -> bytes:
        if not ends:
            return pread(descriptor, size, offset)
        if isinstance(end := ends.pop(0), OSError):
            raise end
        return end.ljust(size)

    monkeypatch.setattr("os.pread", read_or_fail)
    monkeypatch.setattr(split_module, "BACKOFF", dataclasses.replace(split_module.BACKOFF, longest_seconds=0.0))
    return ends


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE, errno.ETIMEDOUT])
def test_a_disk_that_fails_for_a_moment_costs_no_sample(
    split: Split, failing: list[OSError | bytes], number: int
) -> None:
    failing += [OSError(number, "a moment")] * 3
    assert read(split, 0) == parts(0)

    failing += [OSError(number, "for good")] * 4
    with pytest.raises(ShardError, match=r"train-000000.tar: cannot be read: for good") as caught:
        read(split, 0)
    assert not isinstance(caught.value, BadSampleError)


def test_a_read_that_is_wrong_once_costs_no_sample(split: Split, failing: list[OSError | bytes]) -> None:
    failing += [b"wrong"]
    assert read(split, 0) == parts(0)


def test_an_error_that_will_not_pass_is_told_at_once(split: Split, failing: list[OSError | bytes]) -> None:
    failing += [PermissionError(errno.EACCES, "Permission denied")]
    with pytest.raises(ShardError, match="Permission denied"):
        read(split, 0)


def open_files(folder: Path) -> int:
    """Of this process, in a folder."""
    files = (os.path.realpath(descriptor) for descriptor in Path("/proc/self/fd").iterdir())
    return sum(file.startswith(str(folder)) for file in files)


def test_reading_leaves_no_file_open(split: Split, tmp_path: Path) -> None:
    Path(str(split.tars[2].place)).write_bytes(b"")
    for _ in range(10):
        read(split, 0)
        with pytest.raises(BadSampleError):
            read(split, 3)
    assert open_files(tmp_path) == 0


def test_a_split_travels_to_another_process_with_other_arrays(split: Split) -> None:
    travelled: Split = pickle.loads(pickle.dumps(split))
    mapped = dataclasses.replace(travelled, key_N=np.array(split.key_N), offset_NP=np.array(split.offset_NP))

    assert read(mapped, 6) == parts(6)


# --- At a URL -------------------------------------------------------------------------------------------------------


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache", most_bytes=10**6)


@pytest.fixture
def url(folder: Path, s3: str) -> str:
    return upload(folder, f"{s3}/set")


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "BACKOFF", dataclasses.replace(remote.BACKOFF, attempts=2, longest_seconds=0.01))
    monkeypatch.setattr("s3fs.core.S3FileSystem.retries", 1)


def gets(wire: Proxy) -> int:
    return wire.count("GET", ".tar")


def test_a_remote_set_is_the_set(url: str, split: Split, cache: Cache, wire: Proxy) -> None:
    there = open_split(url, "train", cache=cache)
    assert gets(wire) == 0
    assert [str(tar) for tar in there.tars] == [f"{url}/train/train-00000{n}.tar" for n in range(4)]
    for name, array in vars(split).items():
        if isinstance(array, np.ndarray):
            assert np.array_equal(array, getattr(there, name))

    assert [read(there, number) for number in range(8)] == [parts(number) for number in range(8)]
    assert gets(wire) == 3  # one has no samples


def test_a_shard_that_was_fetched_ahead_is_not_fetched_again(url: str, cache: Cache, wire: Proxy) -> None:
    there: Split = pickle.loads(pickle.dumps(open_split(url, "train", cache=cache)))
    there.fetch(3)
    before = gets(wire)

    assert read(there, 7) == parts(7)
    assert gets(wire) == before == 1


def test_a_set_on_disk_needs_no_cache_and_takes_none(split: Split, folder: Path, cache: Cache) -> None:
    split.fetch(0)
    assert open_split(folder, "train", cache=cache).cache is None
    assert not cache.folder.exists()


def test_a_remote_set_is_not_read_without_a_cache(url: str) -> None:
    with pytest.raises(ValueError, match="needs a cache"):
        open_split(url, "train")
    with pytest.raises(ValueError, match="needs a cache"):
        open_shard(url, "train", 0)


def test_one_shard_is_opened_whatever_became_of_the_others(folder: Path, s3: str, cache: Cache) -> None:
    (folder / "train" / "train-000000.tar").unlink()
    for place in (folder, upload(folder, f"{s3}/set")):
        with pytest.raises(ShardError, match=r"train-000000.tar: cannot be read|train-000000.tar: is missing"):
            open_shard(place, "train", 0, cache=cache)
        one = open_shard(place, "train", 3, cache=cache)
        assert [read(one, number) for number in range(4)] == [parts(number) for number in range(4, 8)]


def test_a_cache_of_one_shard_is_enough(url: str, tmp_path: Path) -> None:
    sizes = [path.stat().st_size for path in (tmp_path / "shards").rglob("*.tar")]
    there = open_split(url, "train", cache=Cache(tmp_path / "cache", most_bytes=max(sizes)))

    for number in (7, 0, 3, 6, 1):
        assert read(there, number) == parts(number)


def test_a_copy_that_rots_is_fetched_anew(url: str, cache: Cache, wire: Proxy) -> None:
    there = open_split(url, "train", cache=cache)
    there.fetch(0)
    copy = cache.folder / f"{there.tars[0].sha256}.{there.tars[0].bytes}"
    copy.write_bytes(bytes(there.tars[0].bytes))

    assert [read(there, number) for number in range(3)] == [parts(number) for number in range(3)]
    assert gets(wire) == 2
    assert open_files(cache.folder) == 0


def test_a_sample_that_is_wrong_at_the_source_is_fetched_once_more_and_named(
    folder: Path, s3: str, cache: Cache, wire: Proxy
) -> None:
    """Its index has the right checksum of the tar and a wrong one of the part."""
    change_index(folder, lambda found: found["crcs"][1].__setitem__(MEL, 0))
    there = open_split(upload(folder, f"{s3}/set"), "train", cache=cache)

    with pytest.raises(BadSampleError, match=r"train-000003.tar: sample k_5: its mel.npy is damaged"):
        read(there, 5)
    assert gets(wire) == 2
    assert read(there, 4) == parts(4)


def test_a_tar_that_was_damaged_at_the_source_is_named(url: str, folder: Path, cache: Cache) -> None:
    there = open_split(url, "train", cache=cache)
    tar = bytearray((folder / "train/train-000000.tar").read_bytes())
    tar[600] ^= 1
    (folder / "flipped.tar").write_bytes(tar)
    remote.upload(folder / "flipped.tar", f"{url}/train/train-000000.tar")

    with pytest.raises(
        ShardError, match=r"train-000000.tar: its SHA-256 is not .*: it was damaged or replaced"
    ) as caught:
        read(there, 0)
    assert not isinstance(caught.value, BadSampleError)


def test_a_server_that_goes_away_is_no_bad_sample(url: str, cache: Cache, wire: Proxy) -> None:
    there = open_split(url, "train", cache=cache)
    wire.close()

    with pytest.raises(ShardError, match=r"train-000000.tar: is unavailable") as caught:
        read(there, 0)
    assert not isinstance(caught.value, BadSampleError)


@pytest.mark.parametrize(
    ("name", "match"),
    [
        ("dataset.json", r"set/dataset.json: does not exist"),
        ("train/train-000003.json", r"train-000003.json: does not exist"),
        ("train/train-000003.tar", r"train-000003.tar: is missing, but its index exists; upload it"),
    ],
)
def test_what_is_missing_at_a_url_is_named(url: str, cache: Cache, name: str, match: str) -> None:
    file_systems.file_system("s3", None).rm_file(f"{url}/{name}")

    with pytest.raises(ShardError, match=match):
        open_split(url, "train", cache=cache)


@pytest.mark.parametrize(("change", "fault"), [(-1, "cut short"), (512, "not what its index describes")])
def test_a_tar_of_another_size_at_a_url_is_named(
    url: str, folder: Path, cache: Cache, wire: Proxy, change: int, fault: str
) -> None:
    tar = folder / "train" / "train-000003.tar"
    os.truncate(tar, tar.stat().st_size + change)
    remote.upload(tar, f"{url}/train/train-000003.tar")

    with pytest.raises(ShardError, match=rf"{url}/train/train-000003.tar: is {fault}"):
        open_split(url, "train", cache=cache)
    assert gets(wire) == 0


def test_a_count_that_is_a_lie_at_a_url_is_refused(folder: Path, s3: str, cache: Cache) -> None:
    facts = dataclasses.replace(index.read_dataset(folder).splits["train"], shards=10**18)
    changed_dataset(folder, splits={"train": facts})

    with pytest.raises(ShardError, match=r"train-00000\d.json: does not exist"):
        open_split(upload(folder, f"{s3}/set"), "train", cache=cache)


def test_an_index_that_is_too_large_is_not_read(
    url: str, cache: Cache, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    most = max(path.stat().st_size for path in folder.rglob("*.json")) - 1
    monkeypatch.setattr(index, "MOST_BYTES", most)

    with pytest.raises(ShardError, match=f"is larger than {most} bytes"):
        open_split(url, "train", cache=cache)
    refused(folder, "is larger than any")


@pytest.fixture
def server(folder: Path) -> Iterator[FileServer]:
    server = FileServer(ranges=True)
    server.files = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.*")}
    yield server
    server.close()


def test_a_set_on_a_web_server_is_read_and_its_token_is_not_told(server: FileServer, cache: Cache) -> None:
    there = open_split(f"{server.url('')}?token=abcd1234", "train", cache=cache)
    assert read(there, 7) == parts(7)

    del server.files["train/train-000000.tar"]
    for act in (lambda: read(there, 0), lambda: open_split(f"{server.url('')}?token=abcd1234", "train", cache=cache)):
        with pytest.raises(ShardError, match=r"train-000000.tar") as caught:
            act()
        assert "abcd1234" not in str(caught.value)
    assert "abcd1234" not in str(there.tars[0])
    assert hashlib.sha256(server.files["train/train-000003.tar"]).hexdigest() == there.tars[3].sha256
