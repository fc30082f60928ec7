"""Upload a shard set from its local folder to a URL; existing files are not sent again."""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from kinetics_sounds import files, hub, progress, remote
from kinetics_sounds.address import Address
from kinetics_sounds.errors import RemoteError, ShardError
from kinetics_sounds.shards import index, layout, reader
from kinetics_sounds.shards.index import Index


def holds_another(url: Address, recipe: str) -> bool:
    """Whether the URL has a set of another recipe; raises ShardError or RemoteError if that cannot be determined."""
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
    """Recipe of each split's first shard at a URL, as far as readable."""
    for split in layout.SPLITS:
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
    """Upload the shards of each split, each tar verified and before its index; `dataset.json` comes last.

    So an index at the URL means that its tar was uploaded, and `dataset.json` that everything was. Missing files and those of
    another size are sent again; with `check_bytes`, which downloads all, also those of other bytes. Ends early once `stop()` is
    true. Uploads to the Hub use few commits, and the SHA-256 that the Hub reports is compared without a download. Raises
    ShardError if a tar differs from what was written, RemoteError if the URL cannot be written to.
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
                progress.log.warning("%s: its SHA-256 differs; it is sent again", there)
            _check_tar(tar, made)
            for each in (tar, path):
                remote.upload(each, remote.join(place, each.name))
            bar.advance("sent")
    if not _is_there(folder / layout.DATASET, url):
        remote.upload(folder / layout.DATASET, remote.join(url, layout.DATASET))


def _is_there(path: Path, place: Address) -> bool:
    """Whether the same small file exists below a URL."""
    url, data = remote.join(place, path.name), path.read_bytes()
    return remote.size(url) == len(data) and remote.read(url, most=len(data)) == data


def _check_tar(tar: Path, made: Index) -> None:
    """Raise ShardError if a tar differs from what was written."""
    if differs := files.difference(tar, size=made.bytes, digest=made.sha256):
        raise ShardError(f"{tar}: {differs}; run ks-shard again with --check_bytes to rebuild it")


def _to_hub(folder: Path, place: hub.Place, done: Mapping[str, Sequence[Index]], *, stop: Callable[[], bool]) -> None:
    """Upload to the Hub in commits of many files.

    An index is never in an earlier commit than its tar, and `dataset.json` is in the last.
    """
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
