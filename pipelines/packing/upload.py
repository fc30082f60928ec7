"""A shard set from the folder where it was made to a URL: what is there already is not sent again."""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from kinetics_sounds import files, hub, progress, remote
from kinetics_sounds.address import Address
from kinetics_sounds.clip import SPLITS
from kinetics_sounds.errors import RemoteError, ShardError
from kinetics_sounds.shards import index, layout, reader
from kinetics_sounds.shards.index import Index


def holds_another(url: Address, recipe: str) -> bool:
    """Whether a set of another recipe lies at a URL; raises ShardError or RemoteError where that is not to be told."""
    if hub.is_hub(url) and hub.is_private(hub.parse(url)) is None:  # there is no such repository yet
        return False
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
    To the Hub they go in few commits, and whatever SHA-256 the Hub tells of them is compared without a fetch. Raises ShardError
    where a tar is not what was written, RemoteError where the URL cannot be written to.
    """
    if hub.is_hub(url):
        _to_hub(folder, hub.parse(url), done, stop=stop)
        return
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
            _check_tar(tar, made)
            for each in (tar, path):
                remote.upload(each, remote.join(place, each.name))
            bar.advance("sent")
    if not _is_there(folder / layout.DATASET, url):
        remote.upload(folder / layout.DATASET, remote.join(url, layout.DATASET))


def _is_there(path: Path, place: Address) -> bool:
    """Whether the same small file lies below a URL."""
    url, data = remote.join(place, path.name), path.read_bytes()
    return remote.size(url) == len(data) and remote.read(url, most=len(data)) == data


def _check_tar(tar: Path, made: Index) -> None:
    """Raise ShardError where a tar is not what was written."""
    if differs := files.difference(tar, size=made.bytes, digest=made.sha256):
        raise ShardError(f"{tar}: {differs}; run ks-shard again with --check_bytes to make it anew")


def _to_hub(folder: Path, place: hub.Place, done: Mapping[str, Sequence[Index]], *, stop: Callable[[], bool]) -> None:
    """The same by commits of many files, of which an index is in no earlier one than its tar; `dataset.json` has the last."""
    tars = {
        layout.tar_path(folder, split, number): made
        for split, indices in done.items()
        for number, made in enumerate(indices)
    }

    def item(path: Path, sha256: str = "") -> hub.Item:
        return hub.Item(path=path, name=path.relative_to(folder).as_posix(), sha256=sha256)

    def check(each: hub.Item) -> None:
        if each.path in tars:
            _check_tar(each.path, tars[each.path])

    hub.push(
        place,
        [each for tar, made in tars.items() for each in (item(tar, made.sha256), item(layout.index_path(tar)))],
        last=[item(folder / layout.DATASET)],
        what=f"ks-shard to {place}",
        message="Add shards",
        check=check,
        stop=stop,
    )
