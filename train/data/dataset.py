"""Open a split of a shard set, through the cache if it is remote."""

from pathlib import Path
from typing import Protocol

from kinetics_sounds import stream
from kinetics_sounds.address import Address
from kinetics_sounds.cache import Cache, default_cache
from kinetics_sounds.stream import Split

__all__ = ["Cached", "default_cache", "open_split"]


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
    """Open a split of a local shard set, or of a remote one through the cache."""
    cache = Cache.for_set(shards, settings.cache, gigabytes=settings.cache_gb)
    return stream.open_split(shards, name, cache=cache)
