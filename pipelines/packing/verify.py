"""ks-shard --verify: check a set against its indexes, tar by tar and member by member; every damaged sample is named."""

import contextlib
import json
import re
import tempfile
import zlib
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import IO

import numpy as np

from kinetics_sounds import files, fingerprints, manifest, progress, remote, stream
from kinetics_sounds.address import Address
from kinetics_sounds.errors import KineticsSoundsError, MediaError, ShardError
from kinetics_sounds.shards import index, layout, reader
from kinetics_sounds.shards.index import Dataset, Index
from kinetics_sounds.shards.reader import ShardInfo, Split
from kinetics_sounds.shards.writer import BLOCK

from ..executors import Failed, in_order, local

TAR_SECONDS = 3600.0
"""A tar's whole check is killed after this many seconds: a decoder may hang."""
FRAMES_AT_ONCE = 64
"""Frames decoded at once, to limit memory."""
MOST_FOREIGN = 20
"""Maximum number of foreign members listed per tar: each 512 bytes of garbage may be one."""
PARTS = (layout.FRAMES, layout.JPEGS, layout.MEL, layout.AUDIO, layout.META)
"""Allowed parts of a sample. Others are refused: loaders execute code from some (`pickle`, `pth`)."""

_KEY = re.compile(r"[\w-]+", re.ASCII)
_OCTAL = re.compile(rb"([0-7]+)[ \0]*")


@dataclass(frozen=True, slots=True)
class Fault:
    """A deviation from the index."""

    place: str
    """Path of the tar, such as `train/train-000000.tar`; or a split's name for the whole split."""
    key: str
    """Key of the sample; empty if it concerns no single sample."""
    what: str
    packed: bool = False
    """Whether the bytes match the index: the sample was packed like this, and other copies of the tar are no better."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Result of verifying a set."""

    shards: int
    samples: int
    """Number of samples in the indexes."""
    faults: tuple[Fault, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TarTask:
    """Input of a worker for one tar."""

    place: Address
    """Location of the set: a folder or a URL."""
    split: str
    number: int
    decode: bool

    @property
    def name(self) -> Path:
        """Path of the tar within the set."""
        return layout.tar_path(Path(), self.split, self.number)


@dataclass(frozen=True, slots=True)
class Checked:
    """Result of checking a tar."""

    keys: tuple[str, ...] = ()
    label_indices: tuple[int, ...] = ()
    """Label indices of the keys, in order."""
    faults: tuple[Fault, ...] = ()


def verify(place: Address, *, decode: bool, workers: int, stop: Callable[[], bool]) -> Report:
    """Verify a set in a folder or at a URL; `decode`: also decode every sample. Ends early once `stop()` is true.

    Raises ShardError if there is no set.
    """
    dataset = reader.read_dataset(place)
    shards = sum(facts.shards for facts in dataset.splits.values())
    lost: list[Fault] = []
    strange = [part for part in dataset.parts if part not in PARTS]
    faults = [
        Fault(layout.DATASET, "", f"has parts {part!r}: only {', '.join(PARTS)} are safe to load") for part in strange
    ]
    clips: defaultdict[str, list[tuple[str, int]]] = defaultdict(list)
    pool: local.Pool[TarTask, Checked] = local.Pool(check_tar, workers=min(workers, shards or 1))
    with contextlib.closing(pool), progress.bar("ks-shard --verify", shards) as bar:
        tasks = _tasks(place, dataset, lost, decode=decode)
        for task, found in in_order(pool, tasks, timeout_seconds=TAR_SECONDS, stop=stop):
            checked = Checked(faults=(Fault(str(task.name), "", found.detail),)) if isinstance(found, Failed) else found
            bar.advance("bad" if checked.faults else "good")
            faults += checked.faults
            clips[task.split] += zip(checked.keys, checked.label_indices, strict=True)
    faults += lost
    of_splits = [
        Fault(split, "", what) for split in dataset.splits for what in split_faults(place, dataset, split, clips[split])
    ]
    faults += of_splits
    if not lost and not of_splits:
        faults += [Fault(layout.DATASET, "", what) for what in _set_faults(dataset, clips)]
    samples = sum(map(len, clips.values()))
    return Report(shards=bar.done, samples=samples, faults=tuple(faults))


def _tasks(place: Address, dataset: Dataset, lost: list[Fault], *, decode: bool) -> Iterator[TarTask]:
    """A task per tar, up to each split's first missing index, which is reported in `lost`.

    Created lazily: a set may claim any number.
    """
    for split, facts in dataset.splits.items():
        for number in range(facts.shards):
            task = TarTask(place=place, split=split, number=number, decode=decode)
            if not _has_index(task):
                what = f"has no index: of {facts.shards} shards of {split}, those from here on were not checked"
                lost.append(Fault(str(task.name), "", f"{what}; copy it, or make the set again with ks-shard"))
                break
            yield task


def _has_index(task: TarTask) -> bool:
    name = layout.index_path(task.name)
    if not remote.is_url(task.place):
        return (Path(task.place.real) / name).is_file()
    return remote.size(remote.join(task.place, *name.parts)) is not None


def _selection(dataset: Dataset, split: str, clips: Sequence[tuple[str, int]]) -> list[tuple[str, str, str]]:
    """Key, label and split of each key and label index; unknown labels are reported with their tar."""
    named = dict(enumerate(dataset.labels))
    return [(key, named.get(label_index, ""), split) for key, label_index in clips]


def _set_faults(dataset: Dataset, clips: Mapping[str, Sequence[tuple[str, int]]]) -> Iterator[str]:
    """Faults of the set as a whole: if each split is complete, the set's selection must be that of all of them."""
    rows = [row for split in dataset.splits for row in _selection(dataset, split, clips.get(split, ()))]
    if dataset.selection and fingerprints.selection(rows) != dataset.selection:
        yield f"its selection does not match the samples in the indexes ({len(rows)} in all splits)"


def split_faults(place: Address, dataset: Dataset, split: str, clips: Sequence[tuple[str, int]]) -> Iterator[str]:
    """Faults of a split as a whole; `clips`: keys and label indices from the split's indexes."""
    facts, keys = dataset.splits[split], [key for key, _ in clips]
    if len(keys) != facts.samples or manifest.fingerprint(keys) != facts.fingerprint:
        yield f"its indexes have {len(keys)} samples, which do not match the {facts.samples} of {layout.DATASET}"
    elif facts.selection and fingerprints.selection(_selection(dataset, split, clips)) != facts.selection:
        yield f"its indexes have other labels than {layout.DATASET}: its selection differs"
    if len(set(keys)) != len(keys):
        yield "has duplicate samples"
    if not remote.is_url(place):
        for tar in sorted((Path(place.real) / split).glob("*.tar")):
            number = tar.stem.removeprefix(f"{split}-")
            known = number.isdecimal() and layout.tar_path(Path(), split, int(number)).name == tar.name
            if not known or int(number) >= facts.shards:
                yield f"{tar.name} is not one of its {facts.shards} shards; delete it, or make the set again with ks-shard"


def check_tar(task: TarTask) -> Checked:
    """Faults of one tar; runs in a worker, because a decoder may crash."""
    try:
        dataset, made = reader.read_dataset(task.place), _index(task)
    except KineticsSoundsError as error:
        return Checked(faults=(Fault(str(task.name), "", str(error)),))
    try:
        faults = tuple(dict.fromkeys(_faults(task, dataset, made)))
    except FileNotFoundError:
        faults = (("", "is missing, but its index exists; copy it, or make the set again with ks-shard", False),)
    except (KineticsSoundsError, OSError) as error:
        faults = (("", f"cannot be read: {error}", False),)
    return Checked(made.keys, made.label_indices, tuple(Fault(str(task.name), *fault) for fault in faults))


def _faults(task: TarTask, dataset: Dataset, made: Index) -> Iterator[tuple[str, str, bool]]:
    """Contents of each `Fault` without its place; raises the errors of opening the tar."""
    if made.recipe != dataset.recipe or (made.keys and made.parts != dataset.parts):
        yield "", f"its index belongs to another set than {layout.DATASET}", False
        return
    if names := [key for key in made.keys if not _KEY.fullmatch(key)]:
        yield from ((key, "is not a valid name of a sample", False) for key in names)
        return
    try:
        reader.tables(made, dataset, "its index")
    except ShardError as error:
        yield "", str(error), False
    bad: set[str] = set()
    with _local(task, made) as path:
        for key, what in tar_faults(path, made):
            bad.add(key)
            yield key, what, False
        if task.decode:
            content = _content_faults(_alone(path, made, dataset, task.split), bad)
            yield from ((key, what, True) for key, what in content)


def _index(task: TarTask) -> Index:
    name = layout.index_path(task.name)
    if not remote.is_url(task.place):
        return index.read_index(Path(task.place.real) / name)
    url = remote.join(task.place, *name.parts)
    return index.parse_index(remote.read(url, most=index.MOST_BYTES), str(url))


@contextlib.contextmanager
def _local(task: TarTask, made: Index) -> Iterator[Path]:
    """The tar as a local file, unverified: damaged ones are wanted here, unlike in training."""
    if not remote.is_url(task.place):
        yield Path(task.place.real) / task.name
        return
    url = remote.join(task.place, *task.name.parts)
    with tempfile.NamedTemporaryFile() as copy:
        remote.fill(copy, url, made.bytes)
        copy.flush()
        yield Path(copy.name)


def tar_faults(path: Path, made: Index) -> Iterator[tuple[str, str]]:
    """Contradictions between a tar's headers, its bytes and the index."""
    size = path.stat().st_size
    if size != made.bytes:
        fault = "cut short" if size < made.bytes else "too long"
        yield "", f"is {fault}: {size} bytes, but {made.bytes} according to its index"
    whole = True
    with path.open("rb") as file:
        for key, what in _member_faults(file, size, made):
            whole = False
            yield key, what
    if whole and size == made.bytes and files.sha256(path) != made.sha256:
        yield "", "was changed between or after its samples: its SHA-256 differs from its index"


def _member_faults(file: IO[bytes], size: int, made: Index) -> Iterator[tuple[str, str]]:
    """Faults of the members: position, name, content, and foreign data."""
    rows = zip(made.keys, made.offsets, made.sizes, made.crcs, strict=True)
    places = ((key, *each) for key, *row in rows for each in zip(made.parts, *row, strict=True))
    position, gaps = 0, list[tuple[int, int]]()
    for key, part, offset, length, crc in sorted(places, key=lambda place: place[2]):
        if offset - BLOCK < position:
            yield key, f"its {part} overlaps the part before it, according to its index"
            continue
        gaps.append((position, min(offset - BLOCK, size)))
        position = offset + -(-length // BLOCK) * BLOCK
        if offset + length > size:
            yield key, f"its {part} is truncated"
            continue
        file.seek(offset - BLOCK)
        header, data = file.read(BLOCK), file.read(length)
        if wrong := _wrong(header, f"{key}.{part}", length):
            yield key, f"the header of its {part} {wrong}"
        elif zlib.crc32(data) != crc:
            yield key, f"its {part} is damaged"
    strangers = chain.from_iterable(_foreign_members(file, *gap) for gap in (*gaps, (position, size)))
    for name in islice(strangers, MOST_FOREIGN):
        yield "", f"contains {name!r}, which is not in its index: do not open it"
    if next(strangers, None) is not None:
        yield "", "contains further data that are not in its index"


def _foreign_members(file: IO[bytes], position: int, end: int) -> Iterator[str]:
    """Names of members between two positions of a tar that should hold only zeros."""
    while position < end:
        file.seek(position)
        header = file.read(BLOCK)
        position += BLOCK
        if header.strip(b"\0"):
            length = _OCTAL.match(header[124:136])
            position += -(-int(length[1], 8) // BLOCK) * BLOCK if length else 0
            yield _name(header)


def _wrong(header: bytes, name: str, size: int) -> str:
    """What is wrong with a USTAR header, for a regular file of this name and size."""
    length = _OCTAL.match(header[124:136])
    if header[148:156] != b"%06o\0 " % (sum(header[:148]) + 8 * ord(" ") + sum(header[156:])):
        return "is damaged"
    if _name(header) != name:
        return f"has the name {_name(header)!r}"
    if header[156:157] != b"0" or header[157:257].strip(b"\0") or header[257:265] != b"ustar\x0000":
        return "is not that of a regular USTAR file"
    return "" if length and int(length[1], 8) == size else f"does not give {size} bytes"


def _name(header: bytes) -> str:
    folder, name = (
        field.rstrip(b"\0").decode("ascii", "backslashreplace") for field in (header[345:500], header[:100])
    )
    return f"{folder}/{name}" if folder else name


def _alone(path: Path, made: Index, dataset: Dataset, split: str) -> Split:
    """A tar as a split of its own, whatever its faults."""
    rows = (len(made.keys), len(dataset.parts))
    return Split(
        dataset=dataset,
        name=split,
        tars=(ShardInfo(place=path, bytes=made.bytes, sha256=made.sha256),),
        cache=None,
        count_S=np.array([len(made.keys)]),
        key_N=np.array(made.keys, dtype=np.bytes_),
        label_index_N=np.array(made.label_indices, dtype=np.int64),
        offset_NP=np.array(made.offsets, dtype=np.int64).reshape(rows),
        size_NP=np.array(made.sizes, dtype=np.int64).reshape(rows),
        crc_NP=np.array(made.crcs, dtype=np.int64).reshape(rows),
    )


def _content_faults(split: Split, bad: Collection[str]) -> Iterator[tuple[str, str]]:
    """Decode every sample completely, except those known to be damaged."""
    for number in range(len(split)):
        key = split.key(number)
        if key in bad:
            continue
        with stream.sample(split, number) as sample:
            try:
                _decode(sample, split.dataset)
            except (KineticsSoundsError, KeyError) as error:
                yield key, str(error).removeprefix(f"{split.tars[0]}: sample {key}: ")


def _decode(sample: stream.Sample, dataset: Dataset) -> None:
    """Decode all parts of a sample; raises if one fails, or contradicts its metadata or `dataset.json`."""
    meta = sample.meta
    if json.loads(sample.part(layout.META))["label_index"] != sample.label_index:
        raise ShardError(f"its label is not number {sample.label_index} as in its index")
    if meta.num_frames == 0:
        raise MediaError("it has no frame")
    for first in range(0, meta.num_frames, FRAMES_AT_ONCE):
        sample.frames(range(first, min(first + FRAMES_AT_ONCE, meta.num_frames)), decoder="pyav")
    sample.mel()
    if layout.AUDIO in dataset.parts:
        sample.waveform()
