"""The index beside each tar, and `dataset.json` for the set: read and written here only."""

import dataclasses
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar, cast, get_args, get_origin, get_type_hints

from .. import files
from ..clip import SPLITS
from ..errors import ShardError
from .layout import DATASET, SCHEMA


@dataclass(frozen=True, slots=True, kw_only=True)
class Left:
    """A clip that stood in the manifest as ok and could not be packed."""

    key: str
    status: str
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Index:
    """What one tar holds, and where."""

    recipe: str
    """Fingerprint of the manifest and settings that the tar was made from."""
    bytes: int
    sha256: str
    parts: tuple[str, ...]
    """Every sample's parts, in the order of `offsets`, `sizes` and `crcs`."""
    keys: tuple[str, ...]
    label_indices: tuple[int, ...]
    offsets: tuple[tuple[int, ...], ...]
    """Byte at which each part's data begins, a row a sample."""
    sizes: tuple[tuple[int, ...], ...]
    crcs: tuple[tuple[int, ...], ...]
    """CRC-32 of each part's data, a row a sample."""
    left: tuple[Left, ...] = ()
    """Clips of this stretch of the manifest that are not in the tar, with the reason."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitFacts:
    """One split of a set."""

    shards: int
    samples: int
    bytes: int
    left: int
    """Clips that could not be packed."""
    fingerprint: str
    """SHA-256 over the sorted keys."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """`dataset.json`: what a set holds and every number needed to make it again."""

    recipe: str
    """Fingerprint of the manifest and settings."""
    fingerprint: str
    """SHA-256 over the sorted keys of all splits."""
    classes: str
    """Name of the class list."""
    note: str
    """What a user of that list must know."""
    labels: tuple[str, ...]
    parts: tuple[str, ...]
    splits: dict[str, SplitFacts]
    frames: dict[str, Any]
    """How the frames were encoded."""
    mel: dict[str, Any]
    """How the mel-spectrogram was made."""
    audio: dict[str, Any]
    """How the sound was encoded."""
    shuffle_seed: int
    shard_bytes: int
    versions: dict[str, str]
    schema: int = field(default=SCHEMA)


Record = TypeVar("Record", Index, Dataset)
Value = TypeVar("Value")


def write(path: Path, record: Index | Dataset) -> None:
    """Write either as JSON, complete or not at all."""
    document = {"schema": SCHEMA} | dataclasses.asdict(record)
    files.write_bytes(path, (json.dumps(document, separators=(",", ":")) + "\n").encode())


def read_index(path: Path) -> Index:
    """Read a tar's index; raises ShardError where it is missing, damaged or of another schema."""
    index = _read(path, Index, "index")
    tables = (index.offsets, index.sizes, index.crcs)
    lengths = {len(column) for column in (index.keys, index.label_indices, *tables)}
    if len(lengths) != 1 or any(len(row) != len(index.parts) for table in tables for row in table):
        raise ShardError(f"{path}: its columns differ in length; make the set again with ks-shard")
    return index


def read_dataset(folder: Path) -> Dataset:
    """Read a set's `dataset.json`; raises ShardError where it is missing, damaged or of another schema."""
    dataset = _read(folder / DATASET, Dataset, "shard set")
    return dataclasses.replace(
        dataset, splits={name: dataset.splits[name] for name in SPLITS if name in dataset.splits}
    )


def _read(path: Path, kind: type[Record], what: str) -> Record:
    try:
        document = json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise ShardError(
            f"{path.parent}: has no {what} ({path.name} is missing); make the set with ks-shard, or let it finish"
        ) from error
    except (OSError, ValueError, RecursionError) as error:
        raise ShardError(f"{path}: cannot be read as JSON ({error}); make the set again with ks-shard") from error
    schema = document.pop("schema", None) if isinstance(document, dict) else None
    if schema != SCHEMA:
        raise ShardError(
            f"{path}: is of schema {schema}, where this version reads {SCHEMA}; make the set again with ks-shard"
        )
    try:
        record: Record = _reader(kind)(document)
    except (KeyError, TypeError) as error:
        raise ShardError(
            f"{path}: is not what describes a {what} ({error}); make the set again with ks-shard"
        ) from error
    return record


def _reader(kind: Any) -> Callable[[Any], Any]:  # noqa: ANN401 - annotations have no common type
    """What turns a JSON value into what an annotation says, lists into tuples; it raises TypeError at anything else."""
    origin, inner = get_origin(kind), get_args(kind)
    if kind is Any:
        return lambda value: value
    if dataclasses.is_dataclass(kind):
        fields = {name: _reader(hint) for name, hint in get_type_hints(kind).items()}
        build = cast("Callable[..., Any]", kind)
        return lambda value: build(**{name: fields[name](each) for name, each in _exactly(dict, value).items()})
    if origin is dict:
        read = _reader(inner[1])
        return lambda value: {name: read(each) for name, each in _exactly(dict, value).items()}
    if origin is tuple:
        read = _reader(inner[0])
        return lambda value: tuple(map(read, _exactly(list, value)))
    return partial(_exactly, kind)


def _exactly(kind: type[Value], value: object) -> Value:
    if type(value) is not kind or (isinstance(value, int) and not 0 <= value < 2**63):
        raise TypeError(f"{str(value)[:40]!r} is no {kind.__name__}")
    return value
