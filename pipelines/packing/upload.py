"""A shard set from the folder where it was made to a URL: what is there already is not sent again."""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from kinetics_sounds import files, progress, remote
from kinetics_sounds.address import Address
from kinetics_sounds.clip import SPLITS
from kinetics_sounds.errors import RemoteError, ShardError
from kinetics_sounds.shards import index, layout, reader
from kinetics_sounds.shards.index import Index


def holds_another(url: Address, recipe: str) -> bool:
    """Whether a set of another recipe lies at a URL; raises ShardError or RemoteError where that is not to be told."""
    if remote.size(remote.join(url, layout.DATASET)) is None:
        return False
    try:
        return reader.read_dataset(url).recipe != recipe
    except ShardError:
        if recipe in _first_recipes(url):  # it is damaged, and so sent anew
            return False
        raise


def _first_recipes(url: Address) -> Iterator[str]:
    """The recipes of each split's first shard at a URL, where it can be told."""
    for split in SPLITS:
        place = remote.join(url, *layout.index_path(layout.tar_path(Path(), split, 0)).parts)
        with contextlib.suppress(ShardError, RemoteError):
            yield index.parse_index(remote.read(place, most=index.MOST_BYTES), str(place)).recipe


def upload(
    folder: Path,
    url: Address,
    done: Mapping[str, Sequence[Index]],
    *,
    stop: Callable[[], bool],
    check_bytes: bool = False,
) -> None:
    """Send the shards of each split, each tar checked and before its index; that of the set comes last.

    So an index at the URL says that its tar was sent, and `dataset.json` that all was; one that is gone or of another size
    since is sent again, and with `check_bytes`, which fetches them all, one of other bytes. Ends early once `stop()` is true.
    Raises ShardError where a tar is not what was written, RemoteError where the URL cannot be written to.
    """
    tars = [
        (layout.tar_path(folder, split, number), remote.join(url, split), made)
        for split, indices in done.items()
        for number, made in enumerate(indices)
    ]
    with progress.bar(f"ks-shard to {url}", len(tars)) as bar:
        for tar, place, made in tars:
            if stop():
                return
            path, there = layout.index_path(tar), remote.join(place, tar.name)
            if _is_there(path, place) and remote.size(there) == made.bytes:
                if not check_bytes or remote.sha256(there, size=made.bytes, folder=folder) == made.sha256:
                    bar.advance("there already")
                    continue
                progress.log.warning("%s: its SHA-256 is another; it is sent anew", there)
            if differs := files.difference(tar, size=made.bytes, digest=made.sha256):
                raise ShardError(f"{tar}: {differs}; run ks-shard again with --check_bytes to make it anew")
            for each in (tar, path):
                remote.upload(each, remote.join(place, each.name))
            bar.advance("sent")
    if not _is_there(folder / layout.DATASET, url):
        remote.upload(folder / layout.DATASET, remote.join(url, layout.DATASET))


def _is_there(path: Path, place: Address) -> bool:
    """Whether the same small file lies below a URL."""
    url, data = remote.join(place, path.name), path.read_bytes()
    return remote.size(url) == len(data) and remote.read(url, most=len(data)) == data
