"""Open a split of a shard set, through the cache where the set is remote."""

from pathlib import Path
from typing import Protocol

from kinetics_sounds import files, remote, stream
from kinetics_sounds.address import Address
from kinetics_sounds.cache import Cache
from kinetics_sounds.errors import SettingsError
from kinetics_sounds.stream import Split


class Cached(Protocol):
    """Settings of a command that reads shards."""

    @property
    def cache(self) -> Path:
        """Folder that keeps those of a remote set."""
        ...

    @property
    def cache_gb(self) -> float:
        """Gigabytes that it may take."""
        ...


def default_cache() -> Path:
    """Of every command."""
    return files.user_path("~/.cache/kinetics-sounds")


def open_split(settings: Cached, shards: Address, name: str) -> Split:
    """A split of a set on disk, or of a remote one through the cache."""
    if remote.is_url(shards) and settings.cache.parts[:1] == ("~",):
        raise SettingsError(
            "--cache: there is no home folder to keep shards in (no HOME, and no entry of this user); name a folder"
        )
    cache = Cache(settings.cache, most_bytes=int(settings.cache_gb * 1e9)) if remote.is_url(shards) else None
    return stream.open_split(shards, name, cache=cache)
