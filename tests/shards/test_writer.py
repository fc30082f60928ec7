import gc
import hashlib
import io
import json
import os
import pickle
import subprocess
import sys
import tarfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kinetics_sounds.shards import index, layout
from kinetics_sounds.shards.index import Index, SkippedClip
from kinetics_sounds.shards.writer import BLOCK, Sample, ShardWriter


def npy(seed: int) -> bytes:
    out = io.BytesIO()
    np.save(out, np.random.default_rng(seed).random((4, 4), dtype=np.float32).astype(np.float16))
    return out.getvalue()


def sample(number: int) -> Sample:
    """Parts of every length that matters to a tar: none, one byte, a block less one, a block, a block and one."""
    return Sample(
        key=f"-video_id{number:02d}_{number:06d}_{number + 10:06d}",
        label_index=number % 3,
        parts={
            layout.FRAMES: bytes([number % 256]) * (0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 5000)[number % 6],
            layout.MEL: npy(number),
            layout.AUDIO: f"fLaC{number}".encode(),
            layout.META: json.dumps({"number": number}).encode(),
        },
    )


SAMPLES = [sample(number) for number in range(12)]


def write(tar: Path, samples: list[Sample], *, left: tuple[SkippedClip, ...] = ()) -> Index:
    with ShardWriter(tar, recipe="a recipe") as writer:
        for each in samples:
            writer.write(each)
        for one in left:
            writer.leave(one)
        return writer.close()


@pytest.mark.slow
def test_webdataset_alone_reads_the_same_parts(tmp_path: Path) -> None:
    write(tmp_path / "train-000000.tar", SAMPLES)
    code = """
import pickle, sys
import webdataset
found = list(webdataset.WebDataset(sys.argv[1], shardshuffle=False))
sys.stdout.buffer.write(pickle.dumps([{k: v for k, v in each.items() if k != "__local_path__"} for each in found]))
assert not [name for name in sys.modules if name.startswith("kinetics_sounds")]
"""
    argv = [sys.executable, "-c", code, str(tmp_path / "train-000000.tar")]
    found = pickle.loads(subprocess.run(argv, check=True, capture_output=True, timeout=120).stdout)

    assert [each["__key__"] for each in found] == [each.key for each in SAMPLES]
    assert [{part: each[part] for part in each if not part.startswith("__")} for each in found] == [
        dict(each.parts) for each in SAMPLES
    ]


def test_the_tar_is_plain_ustar_of_files_without_owner_or_date(tmp_path: Path) -> None:
    tar = tmp_path / "train-000000.tar"
    write(tar, SAMPLES)
    data = tar.read_bytes()

    assert data[257:265] == b"ustar\x0000"
    assert len(data) % BLOCK == 0
    assert data.endswith(bytes(2 * BLOCK))
    with tarfile.open(tar) as opened:
        members = opened.getmembers()
    assert all(member.isfile() and member.type == tarfile.REGTYPE for member in members)
    assert {(member.mtime, member.uid, member.gid, member.uname, member.gname) for member in members} == {
        (0, 0, 0, "", "")
    }
    assert [member.name for member in members[:4]] == [
        f"{SAMPLES[0].key}.{part}" for part in ("flac", "json", "mel.npy", "mp4")
    ]


def test_the_index_points_at_the_data(tmp_path: Path) -> None:
    tar = tmp_path / "train-000000.tar"
    made = write(tar, SAMPLES)
    data = tar.read_bytes()
    with tarfile.open(tar) as opened:
        members = {member.name: member for member in opened.getmembers()}

    assert made.parts == ("flac", "json", "mel.npy", "mp4")
    assert made.keys == tuple(each.key for each in SAMPLES)
    assert made.label_indices == tuple(each.label_index for each in SAMPLES)
    for row, each in enumerate(SAMPLES):
        for column, part in enumerate(made.parts):
            offset, size = made.offsets[row][column], made.sizes[row][column]
            member = members[f"{each.key}.{part}"]
            assert (offset, size) == (member.offset_data, member.size)
            assert data[offset : offset + size] == each.parts[part]
            assert made.crcs[row][column] == zlib.crc32(each.parts[part])


def test_the_index_knows_the_tar_s_size_and_digest(tmp_path: Path) -> None:
    tar = tmp_path / "train-000000.tar"
    made = write(tar, SAMPLES)

    assert made.bytes == tar.stat().st_size
    assert made.sha256 == hashlib.sha256(tar.read_bytes()).hexdigest()
    assert index.read_index(layout.index_path(tar)) == made


def test_the_same_samples_are_the_same_bytes(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        write(
            tmp_path / folder / "train-000000.tar", SAMPLES, left=(SkippedClip(key="k", status="corrupt", detail="d"),)
        )

    for name in ("train-000000.tar", "train-000000.json"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_the_order_in_which_parts_are_given_does_not_matter(tmp_path: Path) -> None:
    backward = [
        Sample(key=each.key, label_index=each.label_index, parts=dict(reversed(list(each.parts.items()))))
        for each in SAMPLES
    ]

    assert write(tmp_path / "a.tar", SAMPLES) == write(tmp_path / "b.tar", backward)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.lists(st.binary(max_size=3 * BLOCK), min_size=3, max_size=3), max_size=8))
def test_offsets_hold_for_parts_of_any_length(
    tmp_path_factory: pytest.TempPathFactory, contents: list[list[bytes]]
) -> None:
    tar = tmp_path_factory.mktemp("any") / "train-000000.tar"
    samples = [
        Sample(key=f"k{number}", label_index=0, parts=dict(zip(("a", "b.c", "d"), each, strict=True)))
        for number, each in enumerate(contents)
    ]
    made = write(tar, samples)
    data = tar.read_bytes()

    found = [
        [data[offset : offset + size] for offset, size in zip(offsets, sizes, strict=True)]
        for offsets, sizes in zip(made.offsets, made.sizes, strict=True)
    ]
    assert found == contents
    assert len(data) == made.bytes


def test_a_writer_knows_its_size(tmp_path: Path) -> None:
    """A header and its data, each in whole blocks."""
    with ShardWriter(tmp_path / "train-000000.tar", recipe="") as writer:
        assert writer.bytes == 0
        writer.write(Sample(key="k", label_index=0, parts={"a": b"", "b": b"x", "c": bytes(BLOCK + 1)}))
        assert writer.bytes == (1 + 0 + 1 + 1 + 1 + 2) * BLOCK


def test_a_shard_without_samples_is_a_tar_all_the_same(tmp_path: Path) -> None:
    left = (
        SkippedClip(key="k", status="corrupt", detail="no picture"),
        SkippedClip(key="l", status="timeout", detail=""),
    )
    made = write(tmp_path / "train-000000.tar", [], left=left)

    assert (made.keys, made.parts, made.left) == ((), (), left)
    with tarfile.open(tmp_path / "train-000000.tar") as opened:
        assert opened.getmembers() == []
    assert index.read_index(tmp_path / "train-000000.json") == made


def test_samples_of_other_parts_are_refused(tmp_path: Path) -> None:
    """The Hub's loader refuses a set whose samples differ, so a set never does."""
    without_sound = Sample(
        key="k", label_index=0, parts={part: data for part, data in sample(0).parts.items() if part != layout.AUDIO}
    )

    with ShardWriter(tmp_path / "train-000000.tar", recipe="") as writer:
        writer.write(sample(0))
        with pytest.raises(ValueError, match=r"k has the parts \('json', 'mel.npy', 'mp4'\), but the set has"):
            writer.write(without_sound)
        writer.write(sample(1))
        made = writer.close()
    with tarfile.open(tmp_path / "train-000000.tar") as opened:
        assert len(opened.getmembers()) == 8
    assert len(made.keys) == 2


def test_nothing_has_its_name_before_it_is_closed(tmp_path: Path) -> None:
    with ShardWriter(tmp_path / "train-000000.tar", recipe="") as writer:
        writer.write(sample(0))
        assert [path.suffix for path in tmp_path.iterdir()] == [".part"]
        writer.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["train-000000.json", "train-000000.tar"]


def interrupted(tar: Path, error: Exception) -> None:
    with ShardWriter(tar, recipe="") as writer:
        writer.write(sample(0))
        raise error


def test_an_error_leaves_nothing_and_no_one_writes_on(tmp_path: Path) -> None:
    """tarfile's own clean-up, when it is collected, finds nothing left to do: it would complain of the closed file."""
    with pytest.raises(RuntimeError, match="stop"):
        interrupted(tmp_path / "t" / "t-000000.tar", RuntimeError("stop"))
    gc.collect()

    assert list((tmp_path / "t").iterdir()) == []


def test_a_full_disk_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("kinetics_sounds.shards.writer._Hashed.write", full)
    with pytest.raises(OSError, match="No space left"):
        write(tmp_path / "train-000000.tar", [sample(number) for number in range(5)])
    gc.collect()

    assert list(tmp_path.iterdir()) == []


def test_a_shard_that_was_not_closed_leaves_nothing(tmp_path: Path) -> None:
    with ShardWriter(tmp_path / "train-000000.tar", recipe="") as writer:
        writer.write(sample(0))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_kill_leaves_only_a_part(tmp_path: Path) -> None:
    code = """
import os, signal, sys
from pathlib import Path
from kinetics_sounds.shards.writer import Sample, ShardWriter
with ShardWriter(Path(sys.argv[1]), recipe="") as writer:
    for number in range(100):
        writer.write(Sample(key=str(number), label_index=0, parts={"a": bytes(100_000)}))
    os.kill(os.getpid(), signal.SIGKILL)
"""
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "train-000000.tar")], check=False, timeout=60)

    assert [path.suffix for path in tmp_path.iterdir()] == [".part"]


def test_an_index_that_cannot_be_written_leaves_a_tar_that_no_one_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tar comes first: an index never stands beside a tar that is not whole."""

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(index, "write", full)
    with pytest.raises(OSError, match="No space left"):
        write(tmp_path / "train-000000.tar", SAMPLES)
    assert [path.name for path in tmp_path.iterdir()] == ["train-000000.tar"]


def test_a_tar_is_on_disk_with_its_name_before_its_index(tmp_path: Path, disk_acts: list[str]) -> None:
    write(tmp_path / "train/train-000000.tar", SAMPLES)

    part = f"train-000000.tar.{os.getpid()}.part"
    place = disk_acts.index(f"sync {part}")
    assert disk_acts[place + 1 : place + 3] == [f"rename {part} train-000000.tar", "sync train"]
    assert disk_acts[place + 3].startswith("sync train-000000.json.")


def test_names_are_one_place_s_business() -> None:
    tar = layout.tar_path(Path("shards"), "train", 7)

    assert tar == Path("shards/train/train-000007.tar")
    assert layout.index_path(tar) == Path("shards/train/train-000007.json")


@pytest.mark.slow
def test_it_imports_no_torch_and_leaves_webdataset_whole(tmp_path: Path) -> None:
    code = """
import sys
from pathlib import Path
from kinetics_sounds.shards.writer import ShardWriter
ShardWriter(Path(sys.argv[1]), recipe="").__exit__(None, None, None)
print([name for name in sys.modules if name.split(".")[0] in ("torch", "webdataset")])
import torch.utils.data, webdataset
print(issubclass(webdataset.WebDataset, torch.utils.data.IterableDataset))
"""
    argv = [sys.executable, "-c", code, str(tmp_path / "train-000000.tar")]
    done = subprocess.run(argv, check=False, capture_output=True, text=True)

    assert done.stdout.splitlines() == ["[]", "True"], done.stderr
