"""Read and write the index beside each tar, and a set's `dataset.json` (`stats` has a module of its own)."""

import dataclasses
import hashlib
import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache, partial
from itertools import chain
from pathlib import Path
from types import UnionType
from typing import Any, Literal, TypeVar, cast, get_args, get_origin, get_type_hints

from .. import files
from ..clip import FOLD
from ..clip import SPLITS as PARTS_OF_FOLD
from ..errors import ShardError
from .layout import AUDIO, DATASET, DATASET_SCHEMA, FOLDS_SCHEMA, FRAMES, JPEGS, LABELS_SCHEMA, MEL, SCHEMA, SPLITS


@dataclass(frozen=True, slots=True, kw_only=True)
class SkippedClip:
    """A clip that was ok in the manifest but could not be packed."""

    key: str
    status: str
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Index:
    """Contents of a tar: the byte range of each part."""

    recipe: str
    """Fingerprint of the manifest and the settings that the tar was made from."""
    bytes: int
    sha256: str
    parts: tuple[str, ...]
    """Names of the parts of every sample, in the order of `offsets`, `sizes` and `crcs`."""
    keys: tuple[str, ...]
    label_indices: tuple[int, ...]
    offsets: tuple[tuple[int, ...], ...]
    """Byte offset of each part's data, a row per sample."""
    sizes: tuple[tuple[int, ...], ...]
    crcs: tuple[tuple[int, ...], ...]
    """CRC-32 of each part's data, a row per sample."""
    left: tuple[SkippedClip, ...] = ()
    """Clips of this section of the manifest that were skipped, with the reason."""
    folds: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Split of each sample in each fold of the set, by the fold's name; empty where the fold leaves it out."""
    label_sets: tuple[tuple[int, ...], ...] = ()
    """In a set whose samples have several labels: the indices of each sample's labels that are in the class list, that of
    `label_indices` first. Empty in any other set."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitFacts:
    """One split of a set; or of a fold, whose shards are those of `ALL` and whose bytes are its samples' parts'."""

    shards: int
    samples: int
    bytes: int
    left: int
    """Number of skipped clips."""
    fingerprint: str
    """SHA-256 over the sorted keys."""
    selection: str = ""
    """`fingerprints.selection` of the packed clips; empty in a set of schema 1."""
    content: str = ""
    """`fingerprints.content` of the packed clips, over the SHA-256 of the clip files; empty in a set of schema 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """Contents of `dataset.json`: what a set holds, and all parameters needed to make it again."""

    recipe: str
    """Fingerprint of the manifest and the settings."""
    fingerprint: str
    """SHA-256 over the sorted keys of all splits."""
    classes: str
    """Name of the class list."""
    note: str
    """Note of the class list for its users."""
    labels: tuple[str, ...]
    parts: tuple[str, ...]
    splits: dict[str, SplitFacts]
    frames: dict[str, Any]
    """Encoding of the frames."""
    mel: dict[str, Any]
    """Parameters of the mel-spectrogram."""
    audio: dict[str, Any]
    """Encoding of the audio."""
    shuffle_seed: int
    shard_bytes: int
    versions: dict[str, str]
    selection: str = ""
    """As `SplitFacts.selection`, over all splits."""
    content: str = ""
    """As `SplitFacts.content`, over all splits."""
    folds: dict[str, SplitFacts] = field(default_factory=dict)
    """Splits of folds, such as `fold1_train`: each a part of the split `ALL`."""
    schema: int = field(default=DATASET_SCHEMA)

    @property
    def modality(self) -> Literal["both", "video", "audio"]:
        """What the set's samples hold: one of pictures or sounds alone neither has the other nor says how it is stored."""
        if not self.frames and not {FRAMES, JPEGS} & set(self.parts):
            return "audio"
        return "both" if self.mel or self.audio or {MEL, AUDIO} & set(self.parts) else "video"

    @property
    def several_labels(self) -> bool:
        """Whether samples have several labels."""
        return self.schema == LABELS_SCHEMA

    @property
    def every_split(self) -> dict[str, SplitFacts]:
        """Stored splits, and those of folds."""
        return self.splits | self.folds

    @property
    def fold_names(self) -> tuple[str, ...]:
        """Names of the folds, in order."""
        return tuple(dict.fromkeys(name.partition("_")[0] for name in self.folds))


MOST_BYTES = 64 * 2**20
"""Maximum size of either file in bytes; they have some hundred bytes per sample or class."""

READABLE = (1, DATASET_SCHEMA, FOLDS_SCHEMA, LABELS_SCHEMA)
"""Schema versions of `dataset.json` that can be read."""

FINGERPRINTS = ("selection", "content")
"""Fields added in schema 2 of `dataset.json`, for the set and for each split."""

_FOLD_SPLIT = re.compile(rf"{FOLD.pattern}_({'|'.join(PARTS_OF_FOLD)})")

MENDING = "copy it again, or rebuild it with ks-shard --check_bytes"
"""Remedy for a damaged file, in error messages."""

Record = TypeVar("Record")
Value = TypeVar("Value")


def write(path: Path, record: Index | Dataset) -> None:
    """Write an index or `dataset.json` as JSON with a checksum, atomically, without empty folds and label sets."""
    document = dataclasses.asdict(record)
    for name in ("folds", "label_sets"):
        if name in document and not document[name]:
            del document[name]
    files.write_bytes(path, seal(document))


def seal(document: Mapping[str, Any]) -> bytes:
    """Serialise to JSON that begins with the schema version and a checksum over the whole file.

    The checksum is the SHA-256 of the file with 64 zeros in its place.
    """
    said: dict[str, Any] = {"schema": SCHEMA} | dict(document) | {"checksum": "0" * 64}
    text = (
        json.dumps({name: said[name] for name in ("schema", "checksum", *said)}, separators=(",", ":")) + "\n"
    ).encode()
    return text.replace(b"0" * 64, _digest(text).encode(), 1)


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def read_index(path: Path) -> Index:
    """Read a tar's index; raises ShardError if it is missing, damaged or of another schema."""
    return parse_index(_read(path, "index"), str(path))


def parse_index(data: bytes, place: str) -> Index:
    """Parse the bytes of an index from `place`; raises ShardError if they are damaged or of another schema."""
    index = parse(data, place, Index, "index")
    tables = (index.offsets, index.sizes, index.crcs)
    lengths = {len(column) for column in (index.keys, index.label_indices, *tables, *index.folds.values())}
    if len(lengths) != 1 or not {len(index.parts)}.issuperset(map(len, chain.from_iterable(tables))):
        raise ShardError(f"{place}: its columns differ in length; make the set again with ks-shard")
    if index.label_sets and [each[:1] for each in index.label_sets] != [(each,) for each in index.label_indices]:
        raise ShardError(f"{place}: a sample's first label is not that of its class; {MENDING}")
    if not {*PARTS_OF_FOLD, ""}.issuperset(chain.from_iterable(index.folds.values())):
        raise ShardError(f"{place}: its folds have other splits than {', '.join(PARTS_OF_FOLD)}; {MENDING}")
    return index


def read_dataset(folder: Path) -> Dataset:
    """Read a set's `dataset.json`; raises ShardError if it is missing, damaged or of another schema."""
    path = folder / DATASET
    if (inner := folder / "shards" / DATASET).is_file() and not path.exists():
        raise ShardError(
            f"{folder}: has no shard set ({DATASET} is missing); its shards are in {inner.parent}: give that"
        )
    return parse_dataset(_read(path, "shard set"), str(path))


def parse_dataset(data: bytes, place: str) -> Dataset:
    """Parse the bytes of a `dataset.json` from `place`; raises ShardError if they are damaged or of another schema."""
    dataset = parse(data, place, Dataset, "shard set")
    splits = {name: dataset.splits[name] for name in SPLITS if name in dataset.splits}
    folds = {name: facts for name, facts in dataset.folds.items() if _FOLD_SPLIT.fullmatch(name)}
    return dataclasses.replace(dataset, splits=splits, folds=folds)


def _read(path: Path, what: str) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(MOST_BYTES + 1)
    except FileNotFoundError as error:
        raise ShardError(
            f"{path.parent}: has no {what} ({path.name} is missing); make the set with ks-shard, or let it finish"
        ) from error
    except OSError as error:
        remedy = "make the set again with ks-shard" if path.is_dir() else "check that the disk is available"
        raise ShardError(f"{path}: cannot be read: {error.strerror}; {remedy}") from error
    if len(data) > MOST_BYTES:
        raise ShardError(f"{path}: is larger than any {what}; make the set again with ks-shard")
    return data


def parse(
    data: bytes,
    place: str,
    kind: type[Record],
    what: str,
    *,
    mending: str = MENDING,
    remake: str = "make the set again with ks-shard",
) -> Record:
    """Parse a checksummed file from `place` into a dataclass; raises ShardError with the remedy if it is invalid."""
    try:
        document = json.loads(data, object_pairs_hook=_object, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise ShardError(f"{place}: cannot be read as JSON ({error}); {mending}") from error
    schema = document.get("schema") if isinstance(document, dict) else None
    readable = READABLE if kind is Dataset else (SCHEMA,)
    if type(schema) is not int or schema not in readable:
        told = ", ".join(map(str, readable))
        raise ShardError(f"{place}: has schema {schema}, but this version reads {told}; {remake}")
    told = document.pop("checksum", None)
    if kind is not Dataset:
        del document["schema"]
    if not isinstance(told, str) or not told.isascii() or told != _digest(data.replace(told.encode(), b"0" * 64, 1)):
        raise ShardError(f"{place}: is damaged (its checksum differs); {mending}")
    try:
        if kind is Dataset:
            _check_fingerprints(document)
        record: Record = _reader(cast("Any", kind))(document)  # mypy takes a class for one that has no hash
    except (KeyError, TypeError) as error:
        raise ShardError(f"{place}: is not a valid {what} ({error}); {remake}") from error
    return record


def _check_fingerprints(document: dict[str, Any]) -> None:
    """Raise KeyError if a `dataset.json` lacks a fingerprint or its folds; schema 1 gets empty fingerprints."""
    splits = _one(dict, document["splits"]) | _one(dict, document.get("folds", {}))
    for table in (document, *(each for each in splits.values() if isinstance(each, dict))):
        for name in FINGERPRINTS:
            if document["schema"] == 1:
                table.setdefault(name, "")
            table[name]
    if document["schema"] == FOLDS_SCHEMA:
        document["folds"]


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("it has a duplicate key")
    return found


def _no_number(text: str) -> None:
    raise ValueError(f"{text} is not a number")


@cache
def _reader(kind: Any) -> Callable[[Any], Any]:  # noqa: ANN401 - annotations have no common type
    """Function that converts a JSON value to an annotated type, lists to tuples; it raises TypeError for other values."""
    origin, inner = get_origin(kind), get_args(kind)
    if kind is Any:
        return lambda value: value
    if dataclasses.is_dataclass(kind):
        fields = {name: _reader(hint) for name, hint in get_type_hints(kind).items()}
        build = cast("Callable[..., Any]", kind)
        return lambda value: build(**{name: fields[name](each) for name, each in _one(dict, value).items()})
    if origin is UnionType:
        readers = {frozenset(get_type_hints(each)): _reader(each) for each in inner}
        return lambda value: readers[_fields(value, readers)](value)
    if origin is dict:
        read = _reader(inner[1])
        return lambda value: {name: read(each) for name, each in _one(dict, value).items()}
    if origin is tuple and inner[0] in (int, str):
        return lambda value: tuple(_all(inner[0], _one(list, value)))
    if origin is tuple and inner[0] == tuple[int, ...]:
        return _rows
    if origin is tuple:
        read = _reader(inner[0])
        return lambda value: tuple(map(read, _one(list, value)))
    return partial(_one, kind)


def _fields(value: object, known: Iterable[frozenset[str]]) -> frozenset[str]:
    """Field names of an object; raises TypeError unless they are those of one of several dataclasses."""
    found = frozenset(_one(dict, value))
    if found not in known:
        raise TypeError(f"unknown fields {', '.join(sorted(found))}")
    return found


def _rows(value: object) -> tuple[tuple[int, ...], ...]:
    rows: list[list[int]] = _all(list, _one(list, value))
    _all(int, list(chain.from_iterable(rows)))
    return tuple(map(tuple, rows))


def _one(kind: type[Value], value: object) -> Value:
    return _all(kind, [value])[0]


def _all(kind: type[Value], values: list[Any]) -> list[Value]:
    """Check that all values have one type and numbers are in 0 to 2**63 - 1; column-wise, since there may be millions."""
    if not {kind}.issuperset(map(type, values)):
        wrong = next(value for value in values if type(value) is not kind)
        raise TypeError(f"{str(wrong)[:40]!r} is no {kind.__name__}")
    if kind is int and values and not 0 <= min(values) <= max(values) < 2**63:
        raise TypeError("a number is negative or has more than 63 bits")
    return values
