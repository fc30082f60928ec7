"""Open a split of a shard set, through the cache if it is remote, and tell which splits share samples."""

import functools
import itertools
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from kinetics_sounds import stream
from kinetics_sounds.address import Address
from kinetics_sounds.cache import Cache, default_cache
from kinetics_sounds.errors import SettingsError
from kinetics_sounds.shards.index import Dataset
from kinetics_sounds.stream import Split

from ..distributed import launch

log = logging.getLogger("kinetics_sounds")

__all__ = ["Cached", "check_apart", "default_cache", "open_split", "shared_samples"]


class Cached(Protocol):
    """Settings of a command that reads shards."""

    @property
    def cache(self) -> Path:
        """Cache folder for remote shards."""
        ...

    @property
    def cache_gb(self) -> float:
        """Maximum cache size in gigabytes (1e9 bytes)."""
        ...


def open_split(settings: Cached, shards: Address, name: str) -> Split:
    """Open a split of a local shard set, or of a remote one through the cache; says once if samples have several labels."""
    cache = Cache.for_set(shards, settings.cache, gigabytes=settings.cache_gb)
    split = stream.open_split(shards, name, cache=cache)
    if split.label_sets is not None and launch.is_main():
        _say_which_label(str(shards), name, split.label_sets.several, len(split))
    return split


@functools.cache
def _say_which_label(shards: str, name: str, several: int, count: int) -> None:
    log.warning(
        "%s: %s: %d of %d clips have several labels; the class of each, the first of its row that is in the class list, is used",
        shards,
        name,
        several,
        count,
    )


def shared_samples(settings: Cached, shards: Address, dataset: Dataset, one: str, other: str) -> int:
    """How many samples are in both of two splits; only a split of a fold shares any with another."""
    if dataset.folds.keys().isdisjoint((one, other)):
        return 0
    key_M, key_N = (open_split(settings, shards, name).key_N for name in (one, other))
    return len(np.intersect1d(key_M, key_N))


def check_apart(settings: Cached, shards: Address, dataset: Dataset, names: Sequence[str | None]) -> None:
    """Raise SettingsError if two of these splits (None: not used) share samples, as splits of different folds do."""
    for one, other in itertools.combinations([name for name in names if name is not None], 2):
        if one != other and (shared := shared_samples(settings, shards, dataset, one, other)):
            raise SettingsError(
                f"{one} and {other}: share {shared} clips, so that scores would be too high; choose splits of one fold"
            )
