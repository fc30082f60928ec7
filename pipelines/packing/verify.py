"""ks-shard --verify: check a set against its indexes, tar by tar and member by member; every damaged sample is named."""

import contextlib
import json
import re
import tempfile
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from kinetics_sounds import fingerprints, manifest, progress, remote, stream
from kinetics_sounds.address import Address
from kinetics_sounds.errors import KineticsSoundsError, MediaError, ShardError
from kinetics_sounds.shards import index, layout, reader
from kinetics_sounds.shards.index import Dataset, Index
from kinetics_sounds.shards.reader import LabelSets, ShardInfo, Split

from ..executors import Failed, in_order, local
from .tar_faults import tar_faults

TAR_SECONDS = 3600.0
"""A tar's whole check is killed after this many seconds: a decoder may hang."""
FRAMES_AT_ONCE = 64
"""Frames decoded at once, to limit memory."""
PARTS = (layout.FRAMES, layout.JPEGS, layout.MEL, layout.AUDIO, layout.META)
"""Allowed parts of a sample. Others are refused: loaders execute code from some (`pickle`, `pth`)."""

_KEY = re.compile(r"[\w-]+", re.ASCII)


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
    folds: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Split of each key in each fold."""
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
            rows = list(zip(checked.keys, checked.label_indices, strict=True))
            clips[task.split] += rows
            for fold, parts in checked.folds.items():
                for row, part in zip(rows, parts, strict=True):
                    clips[f"{fold}_{part}"].append(row)
    faults += lost
    of_splits = [
        Fault(split, "", what)
        for split in dataset.every_split
        for what in split_faults(place, dataset, split, clips[split])
    ]
    faults += of_splits
    if not lost and not of_splits:
        faults += [Fault(layout.DATASET, "", what) for what in _set_faults(dataset, clips)]
    samples = sum(len(clips[split]) for split in dataset.splits)
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
    facts, keys = dataset.every_split[split], [key for key, _ in clips]
    part = split.rpartition("_")[2]  # of a fold's split, train or test
    if len(keys) != facts.samples or manifest.fingerprint(keys) != facts.fingerprint:
        yield f"its indexes have {len(keys)} samples, which do not match the {facts.samples} of {layout.DATASET}"
    elif facts.selection and fingerprints.selection(_selection(dataset, part, clips)) != facts.selection:
        yield f"its indexes have other labels than {layout.DATASET}: its selection differs"
    if len(set(keys)) != len(keys):
        yield "has duplicate samples"
    if split in dataset.splits and not remote.is_url(place):
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
    return Checked(made.keys, made.label_indices, made.folds, tuple(Fault(str(task.name), *fault) for fault in faults))


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
            content = _content_faults(_alone(path, made, dataset, task.split), bad, made.folds)
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
        label_sets=LabelSets.of(made.label_sets) if made.label_sets else None,
    )


def _content_faults(
    split: Split, bad: Collection[str], folds: Mapping[str, Sequence[str]]
) -> Iterator[tuple[str, str]]:
    """Decode every sample completely, except those known to be damaged."""
    for number in range(len(split)):
        key = split.key(number)
        if key in bad:
            continue
        with stream.sample(split, number) as sample:
            try:
                own = {fold: parts[number] for fold, parts in folds.items()}
                _decode(sample, split.dataset, own, split.label_indices(number).tolist())
            except (KineticsSoundsError, KeyError) as error:
                yield key, str(error).removeprefix(f"{split.tars[0]}: sample {key}: ")


def _decode(sample: stream.Sample, dataset: Dataset, folds: Mapping[str, str], label_indices: Sequence[int]) -> None:
    """Decode all parts of a sample; raises if one fails, or contradicts its metadata or `dataset.json`."""
    meta, picture = sample.meta, {layout.FRAMES, layout.JPEGS} & set(dataset.parts)
    told = json.loads(sample.part(layout.META))
    if told.get("folds", {}) != folds:
        raise ShardError("its folds are not those of its index")
    if told["label_index"] != sample.label_index:
        raise ShardError(f"its label is not number {sample.label_index} as in its index")
    if told.get("label_indices", [sample.label_index]) != label_indices:
        raise ShardError(f"its labels are not numbers {', '.join(map(str, label_indices))} as in its index")
    if picture and meta.num_frames == 0:
        raise MediaError("it has no frame")
    for first in range(0, meta.num_frames, FRAMES_AT_ONCE):
        sample.frames(range(first, min(first + FRAMES_AT_ONCE, meta.num_frames)), decoder="pyav")
    if layout.MEL in dataset.parts:
        sample.mel()
    if layout.AUDIO in dataset.parts:
        sample.waveform()
