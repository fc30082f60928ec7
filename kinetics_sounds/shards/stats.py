"""Read and write `stats.json` beside `dataset.json`: mean and standard deviation of a split's (log-mel) spectrograms.

It holds several entries, one per split and set of spectrogram parameters.
"""

import dataclasses
import math
import shlex
import tempfile
from dataclasses import dataclass
from pathlib import Path

from .. import files, hub, remote
from ..address import Address
from ..errors import ShardError
from ..media.log_mel import LogMel
from ..media.spectrogram import Spectrogram
from . import index, layout
from .index import Dataset
from .split import set_errors

MOST_BYTES = 16 * 2**20
Numbers = Spectrogram | LogMel
"""Parameters of a window's spectrogram; the two types differ in their fields."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Statistics:
    """Statistics of a split's spectrograms."""

    split: str
    fingerprint: str
    """`SplitFacts.fingerprint` of the clips they were computed from."""
    samples: int
    windows: int
    """Total number of windows; those of a sample are evenly spaced and cover its track."""
    numbers: Numbers
    """Parameters of the spectrograms."""
    mean: tuple[float, ...]
    """Mean per bin, low frequencies first: decibels, or natural logarithms for a log-mel spectrogram."""
    std: tuple[float, ...]
    """Standard deviation per bin."""
    data_recipe: str = ""
    """`Dataset.recipe` of the set; empty in entries written before this was recorded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _File:
    entries: tuple[Statistics, ...]


def command(place: Address, split: str, numbers: Numbers) -> str:
    """The command that computes the statistics."""
    kind = " --kind log_mel" if isinstance(numbers, LogMel) else ""
    options = " ".join(f"--{name} {value}" for name, value in dataclasses.asdict(numbers).items())
    return f"ks-shard stats {shlex.quote(str(place))} --split {split}{kind} {options}"


def read(place: Address) -> tuple[Statistics, ...]:
    """All entries of a set in a folder or at a URL; raises ShardError if they cannot be read."""
    told, data = _read(place)
    if data is None:
        return ()
    mending = "delete it, and compute it again with ks-shard stats"
    try:
        found = index.parse(data, told, _File, "set's statistics", mending=mending, remake=mending).entries
    except ValueError as error:  # numbers that make no spectrogram
        raise ShardError(f"{told}: {error}; {mending}") from error
    for each in found:
        sound = all(map(math.isfinite, (*each.mean, *each.std))) and min(each.std, default=0) >= 0
        if not sound or not len(each.mean) == len(each.std) == each.numbers.bins:
            raise ShardError(f"{told}: its statistics do not have {each.numbers.bins} bins; {mending}")
    return found


def find(place: Address, dataset: Dataset, split: str, numbers: Numbers) -> Statistics:
    """Entry for a split of the set and these parameters.

    Raises ShardError with the command to run if there is none, or if it belongs to other clips, or to the same clips packed with
    other settings.
    """
    there = [each for each in read(place) if each.split == split]
    found = next((each for each in there if each.numbers == numbers), None)
    remedy = f"compute them with: {command(place, split, numbers)}"
    if found is None:
        others = "".join(f"; it has those for {_describe(each.numbers)}" for each in there)
        raise ShardError(f"{place}: has no statistics of {split} for {_describe(numbers)}{others}; {remedy}")
    own = dataset.every_split[split].fingerprint
    if found.fingerprint != own:
        raise ShardError(
            f"{place}: its statistics of {split} belong to other clips (fingerprint {found.fingerprint[:16]}, not {own[:16]}); "
            f"{remedy}"
        )
    if found.data_recipe != dataset.recipe:
        raise ShardError(
            f"{place}: its statistics of {split} belong to the same clips packed with other settings (data recipe "
            f"{found.data_recipe[:16] or 'not recorded'}, not {dataset.recipe[:16]}); {remedy}"
        )
    return found


def add(place: Address, entry: Statistics) -> None:
    """Add an entry, replacing one of the same split and parameters; the file is replaced atomically.

    Raises RemoteError if the URL cannot be written to, FolderInUseError if ks-shard is running in the folder.
    """
    if not remote.is_url(place):
        folder = Path(place.real)
        with files.exclusive(folder, command="ks-shard"):
            files.write_bytes(folder / layout.STATS, _with(place, entry))
        return
    remote.forget(place)  # another may have added one since this process looked
    with tempfile.TemporaryDirectory() as passing:
        path = Path(passing) / layout.STATS
        files.write_bytes(path, _with(place, entry))
        if hub.is_hub(place):
            item = hub.Item(path=path, name=layout.STATS)
            hub.push(hub.parse(place), [item], what=f"{layout.STATS} to {place}", message="Add statistics")
        else:
            remote.upload(path, remote.join(place, layout.STATS))
    remote.forget(place)


def _with(place: Address, entry: Statistics) -> bytes:
    others = [each for each in read(place) if (each.split, each.numbers) != (entry.split, entry.numbers)]
    return index.seal(dataclasses.asdict(_File(entries=(*others, entry))))


def _read(place: Address) -> tuple[str, bytes | None]:
    """Name of the file in messages, and its bytes if it exists."""
    if remote.is_url(place):
        with set_errors():
            url = remote.join(place, layout.STATS)
            return str(url), None if remote.size(url) is None else remote.read(url, most=MOST_BYTES)
    path = Path(place.real) / layout.STATS
    try:
        with path.open("rb") as file:
            data = file.read(MOST_BYTES + 1)
    except FileNotFoundError:
        return str(path), None
    except OSError as error:
        raise ShardError(f"{path}: cannot be read: {error.strerror}; check that the disk is available") from error
    if len(data) > MOST_BYTES:
        raise ShardError(f"{path}: is larger than any set's statistics; delete it")
    return str(path), data


def _describe(numbers: Numbers) -> str:
    kind = "log-mel spectrograms" if isinstance(numbers, LogMel) else "log spectrograms"
    return f"{kind} of " + ", ".join(f"{name} {value}" for name, value in dataclasses.asdict(numbers).items())
