"""`stats.json` beside `dataset.json`: mean and deviation of a split's log or log-mel spectrograms. Read and written here only.

Several entries stand in it: one for each split and each way to make spectrograms.
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
"""How a window of sound becomes an image; a field of either tells them apart."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Statistics:
    """What a split's spectrograms are like."""

    split: str
    fingerprint: str
    """`SplitFacts.fingerprint` of the clips that it was computed of."""
    samples: int
    windows: int
    """Of all samples; those of one are evenly spaced and cover its track."""
    numbers: Numbers
    """How they were made."""
    mean: tuple[float, ...]
    """Of each bin, low frequencies first: decibels, or natural logarithms of a log-mel spectrogram."""
    std: tuple[float, ...]
    """The same's standard deviation."""
    data_recipe: str = ""
    """`Dataset.recipe` of the set that was heard; empty in an entry of before it was kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _File:
    entries: tuple[Statistics, ...]


def command(place: Address, split: str, numbers: Numbers) -> str:
    """What computes them."""
    kind = " --kind log_mel" if isinstance(numbers, LogMel) else ""
    options = " ".join(f"--{name} {value}" for name, value in dataclasses.asdict(numbers).items())
    return f"ks-shard stats {shlex.quote(str(place))} --split {split}{kind} {options}"


def read(place: Address) -> tuple[Statistics, ...]:
    """All that a set in a folder or at a URL has; raises ShardError where they cannot be read."""
    told, data = _read(place)
    if data is None:
        return ()
    mending = "delete it, and make it again with ks-shard stats"
    try:
        found = index.parse(data, told, _File, "set's statistics", mending=mending, remake=mending).entries
    except ValueError as error:  # numbers that make no spectrogram
        raise ShardError(f"{told}: {error}; {mending}") from error
    for each in found:
        sound = all(map(math.isfinite, (*each.mean, *each.std))) and min(each.std, default=0) >= 0
        if not sound or not len(each.mean) == len(each.std) == each.numbers.bins:
            raise ShardError(f"{told}: its statistics are not of {each.numbers.bins} bins; {mending}")
    return found


def find(place: Address, dataset: Dataset, split: str, numbers: Numbers) -> Statistics:
    """Those of a split of the set, of spectrograms that are made so.

    Raises ShardError that names the command where there are none, or where they are of other clips, or of the same clips packed
    otherwise.
    """
    there = [each for each in read(place) if each.split == split]
    found = next((each for each in there if each.numbers == numbers), None)
    remedy = f"compute them with: {command(place, split, numbers)}"
    if found is None:
        kind = "log-mel spectrograms" if isinstance(numbers, LogMel) else "log spectrograms"
        others = "".join(f"; it has those of {_describe(each.numbers)}" for each in there)
        raise ShardError(f"{place}: has no statistics of {split} for {kind} of {_describe(numbers)}{others}; {remedy}")
    own = dataset.splits[split].fingerprint
    if found.fingerprint != own:
        raise ShardError(
            f"{place}: its statistics of {split} are of other clips (fingerprint {found.fingerprint[:16]}, not {own[:16]}); "
            f"{remedy}"
        )
    if found.data_recipe != dataset.recipe:
        raise ShardError(
            f"{place}: its statistics of {split} are of the same clips packed otherwise (data recipe "
            f"{found.data_recipe[:16] or 'not told'}, not {dataset.recipe[:16]}); {remedy}"
        )
    return found


def add(place: Address, entry: Statistics) -> None:
    """Write an entry, in the place of one of the same split and numbers; the file is whole at any moment.

    Raises RemoteError where the URL cannot be written to, FolderInUseError where ks-shard works in the folder.
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
    """What the file is called in messages, and its bytes where it is there."""
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
        raise ShardError(f"{path}: cannot be read: {error.strerror}; see that the disk is there") from error
    if len(data) > MOST_BYTES:
        raise ShardError(f"{path}: is larger than any set's statistics; delete it")
    return str(path), data


def _describe(numbers: Numbers) -> str:
    return ", ".join(f"{name} {value}" for name, value in dataclasses.asdict(numbers).items())
