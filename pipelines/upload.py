"""A shard set from the folder where it was made to a URL: what is there already is not sent again."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from kinetics_sounds import files, progress, remote
from kinetics_sounds.errors import ShardError
from kinetics_sounds.redact import redact
from kinetics_sounds.shards import layout, reader
from kinetics_sounds.shards.index import Index


def holds_another(url: str, recipe: str) -> bool:
    """Whether a set of another recipe lies at a URL; raises ShardError or RemoteError where that is not to be told."""
    return remote.size(remote.join(url, layout.DATASET)) is not None and reader.read_dataset(url).recipe != recipe


def upload(folder: Path, url: str, done: Mapping[str, Sequence[Index]], *, stop: Callable[[], bool]) -> None:
    """Send the shards of each split, each tar checked and before its index; that of the set comes last.

    So an index at the URL says that its tar was sent, and `dataset.json` that all was; one that is gone or of another size
    since is sent again. Ends early once `stop()` is true.
    Raises ShardError where a tar is not what was written, RemoteError where the URL cannot be written to.
    """
    tars = [
        (layout.tar_path(folder, split, number), remote.join(url, split), made)
        for split, indices in done.items()
        for number, made in enumerate(indices)
    ]
    with progress.bar(f"ks-shard to {redact(url)}", len(tars)) as bar:
        for tar, place, made in tars:
            if stop():
                return
            path = layout.index_path(tar)
            if _is_there(path, place) and remote.size(remote.join(place, tar.name)) == made.bytes:
                bar.advance("there already")
                continue
            if files.sha256(tar) != made.sha256:
                raise ShardError(f"{tar}: its SHA-256 is not its index's; delete both to make them anew")
            for each in (tar, path):
                remote.upload(each, remote.join(place, each.name))
            bar.advance("sent")
    if not _is_there(folder / layout.DATASET, url):
        remote.upload(folder / layout.DATASET, remote.join(url, layout.DATASET))


def _is_there(path: Path, place: str) -> bool:
    """Whether the same small file lies below a URL."""
    url, data = remote.join(place, path.name), path.read_bytes()
    return remote.size(url) == len(data) and remote.read(url, most=len(data)) == data
