"""Shard sets that something happened to: each is refused, or every sample is what was written or named as bad."""

import dataclasses
import json
import pickle
import random
import shutil
import tarfile
import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from kinetics_sounds.errors import BadSampleError, ShardError
from kinetics_sounds.shards import index, layout
from kinetics_sounds.shards.writer import Sample, ShardWriter
from kinetics_sounds.stream import Split, open_split, sample
from kinetics_sounds.train.data import fetcher, loader
from kinetics_sounds.train.data.bad_samples import BadSampleLog
from kinetics_sounds.train.data.loader import Loading
from kinetics_sounds.train.data.sampler import Order
from kinetics_sounds.train.data.views import clip_and_mel

SECONDS = 5.0
"""A set of 12 samples is read in hundredths of one."""
Content = Mapping[str, Mapping[str, bytes]]


def content(split: Split) -> Content:
    """Every part of every sample by its key."""
    found = {}
    for number in range(len(split)):
        with split.open(number) as parts:
            found[parts.key] = {name: parts.read(name) for name in split.dataset.parts}
    return found


class Planted:
    """What runs when it is unpickled."""

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return pytest.fail, ("a pickle of a shard was run",)


# --- What may happen to a set ---------------------------------------------------------------------------------------


def any_tar(folder: Path, random_: random.Random) -> Path:
    return random_.choice(sorted((folder / "train").glob("*.tar")))


def any_json(folder: Path, random_: random.Random) -> Path:
    return random_.choice([folder / layout.DATASET, *sorted((folder / "train").glob("*.json"))])


def flip_bits(path: Path, random_: random.Random) -> None:
    data = bytearray(path.read_bytes())
    for _ in range(random_.choice([1, 1, 2, 100])):
        data[random_.randrange(len(data))] ^= 1 << random_.randrange(8)
    path.write_bytes(data)


def cut(path: Path, random_: random.Random) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: random_.randrange(len(data))])


def lengthen(path: Path, random_: random.Random) -> None:
    path.write_bytes(path.read_bytes() + random_.randbytes(random_.randint(1, 2000)))


def overwrite(path: Path, random_: random.Random) -> None:
    data = bytearray(path.read_bytes())
    first = random_.randrange(len(data))
    size = min(random_.randint(1, 5000), len(data) - first)
    data[first : first + size] = random_.choice([bytes(size), random_.randbytes(size), b"9" * size])
    path.write_bytes(data)


def shift(path: Path, random_: random.Random) -> None:
    """Bytes lost in the middle, as many added at the end: the size stays right."""
    data = path.read_bytes()
    first, size = random_.randrange(len(data)), random_.randint(1, 600)
    path.write_bytes((data[:first] + data[first + size :]).ljust(len(data), b"\0"))


def rewrite_header(path: Path, random_: random.Random) -> None:
    """A member's name, size, kind or link becomes something that an unpacker would fall for."""
    data = bytearray(path.read_bytes())
    with tarfile.open(path) as tar:
        at = random_.choice(tar.getmembers()).offset
    place, text = random_.choice(
        [(0, b"../../x.mp4\0"), (0, b"/etc/passwd\0"), (124, b"77777777777\0"), (156, b"2"), (157, b"../x\0")]
    )
    data[at + place : at + place + len(text)] = text
    path.write_bytes(data)


def pickle_member(path: Path, random_: random.Random) -> None:
    """A member's data becomes a pickle."""
    data = bytearray(path.read_bytes())
    with tarfile.open(path) as tar:
        at = random_.choice(tar.getmembers()).offset_data
    planted = pickle.dumps(Planted())
    data[at : at + len(planted)] = planted
    path.write_bytes(data)


def remove(path: Path, _: random.Random) -> None:
    path.unlink()


def replace_by_another(path: Path, random_: random.Random) -> None:
    other = random_.choice([other for other in path.parent.glob(f"*{path.suffix}") if other != path] or [path])
    path.write_bytes(other.read_bytes() if other != path else b"{}")


def replace_value(path: Path, random_: random.Random) -> None:
    """Somewhere in a JSON file stands another value."""
    document = json.loads(path.read_bytes())
    at, keys = document, [*document]
    while True:
        key = random_.choice(keys)
        inner = at[key]
        keys = [*inner] if isinstance(inner, dict) else [*range(len(inner))] if isinstance(inner, list) else []
        if not keys or random_.random() < 0.3:
            break
        at = inner
    odd: list[object] = [
        -1,
        0,
        1,
        2**40,
        2**70,
        0.5,
        True,
        None,
        "",
        "../x",
        "a.b",
        [],
        {},
        [[[]]],
        float("nan"),
        "\0",
        "é",
    ]
    at[key] = random_.choice(odd)
    path.write_text(json.dumps(document))


TAR_FAULTS = (flip_bits, cut, lengthen, overwrite, shift, rewrite_header, pickle_member, remove, replace_by_another)
JSON_FAULTS = (flip_bits, cut, lengthen, overwrite, remove, replace_by_another, replace_value, replace_value)


def damage(folder: Path, random_: random.Random) -> str:
    """Do one or two things to a set; returns what."""
    done = []
    for _ in range(random_.choice([1, 1, 2])):
        tars = random_.random() < 0.6
        pick = any_tar if tars else any_json
        fault = random_.choice(TAR_FAULTS if tars else JSON_FAULTS)
        try:
            path = pick(folder, random_)
            if path.exists():
                fault(path, random_)
                done.append(f"{fault.__name__} {path.name}")
        except (tarfile.TarError, ValueError, IndexError):  # of what the first fault left, the second can make nothing
            continue
    return ", ".join(done)


# --- What becomes of it ---------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("sets", [150, pytest.param(1000, marks=pytest.mark.slow_campaign)])
def test_no_set_crashes_hangs_or_loses_a_sample_in_silence(sets: int, shards: Path, tmp_path: Path) -> None:
    truth = content(open_split(shards, "train"))
    ends: Counter[str] = Counter()
    for seed in range(sets):
        folder = tmp_path / "set"
        shutil.copytree(shards, folder)
        what = damage(folder, random.Random(seed))
        began = time.monotonic()
        try:
            ends[_read(folder, truth)] += 1
        except Exception as error:
            raise AssertionError(f"seed {seed}: {what}: {type(error).__name__}: {error}") from error
        assert time.monotonic() - began < SECONDS, what
        shutil.rmtree(folder)

    assert ends.total() == sets
    assert min(ends[end] for end in ("refused", "some bad", "whole")) > sets / 50, ends


def _read(folder: Path, truth: Content) -> str:
    """What a set is; raises what no reader should."""
    try:
        split = open_split(folder, "train")
    except ShardError:
        return "refused"
    assert {split.key(number) for number in range(len(split))} == set(truth)
    bad = 0
    for number in range(len(split)):
        try:
            with sample(split, number) as found:
                parts = {name: found.part(name) for name in split.dataset.parts}
                found.frames(range(min(4, found.meta.num_frames)))
                found.mel()
        except BadSampleError as error:
            if split.key(number) not in str(error):
                raise
            bad += 1
        else:
            assert parts == truth[split.key(number)]
            assert split.label_index_N[number] == int(split.key(number)[4:11]) % 2
    return "some bad" if bad else "whole"


@pytest.mark.slow
def test_what_was_wrong_before_it_was_packed_is_named_too(shards: Path, tmp_path: Path) -> None:
    """Checksums fit here, so the parts' own readers meet what is wrong, in processes that may crash or hang."""
    clean = open_split(shards, "train")
    truth, random_ = content(clean), random.Random(0)
    written = {}
    with ShardWriter(layout.tar_path(tmp_path, "train", 0), recipe=clean.dataset.recipe) as writer:
        for number in range(120):
            parts = dict(truth[clean.key(number % len(clean))])
            if number % 6 == 0:
                name = random_.choice(sorted(parts))
                parts[name] = _mutated(parts[name], random_)
            key = f"clip{number:07d}"
            written[key] = parts
            writer.write(Sample(key=key, label_index=number % 2, parts=parts))
        writer.close()
    facts = dataclasses.replace(clean.dataset.splits["train"], shards=1, samples=120)
    index.write(tmp_path / layout.DATASET, dataclasses.replace(clean.dataset, splits={"train": facts}))
    split = open_split(tmp_path, "train")
    view = clip_and_mel.Settings(frames=8, resize_height=36, resize_width=36, crop=32)
    samples = fetcher.Samples(split=split, view=clip_and_mel.__name__, settings=view)
    bad_log = BadSampleLog(tmp_path / "quarantine.jsonl", split, max_bad_fraction=0.5)
    order = Order(split=split, batch=20, seed=0, first_step=0, steps=6)

    with loader.train_batches(
        samples, order, loading=Loading(workers=2, sample_timeout=10), bad_log=bad_log
    ) as batches:
        seen = [number for batch in batches for number in batch["index"].tolist()]

    assert len(seen) == 120
    assert {int(key[4:]) % 6 for key in bad_log.keys} <= {0}
    assert len(bad_log.keys) >= 8
    assert not {split.key(number) for number in seen} & bad_log.keys


def _mutated(data: bytes, random_: random.Random) -> bytes:
    changed = bytearray(data)
    kind = random_.randrange(4)
    if kind == 0:
        return bytes(changed[: random_.randrange(len(changed))])
    if kind == 1:
        return random_.randbytes(len(changed))
    if kind == 2:
        return pickle.dumps(Planted())
    for _ in range(20):
        changed[random_.randrange(len(changed))] = random_.randrange(256)
    return bytes(changed)
