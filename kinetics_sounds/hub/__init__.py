"""Hugging Face Hub access: upload in few commits, and download into the Hub's own cache.

Only this package imports huggingface_hub.
"""

import fnmatch
import hashlib
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from .. import answers, files, progress
from ..errors import RemoteError
from .place import Place, is_hub, is_name, parse
from .session import SHORT_BACKOFF, connect, stopped, with_retry

__all__ = [
    "File",
    "Item",
    "Place",
    "Pushed",
    "fetch",
    "is_hub",
    "is_name",
    "is_private",
    "listing",
    "page",
    "parse",
    "push",
    "surplus",
]

BATCH_FILES, BATCH_BYTES = 250, 8_000_000_000
"""Maximum number of files and bytes per commit; the Hub accepts 128 commits an hour."""
INLINE_BYTES, BATCH_INLINE_BYTES = 10_000_000, 64_000_000
"""Files below this size are sent within the commit, up to a total of `BATCH_INLINE_BYTES`."""
MOST_LISTED = 1_000_000
"""Maximum number of files of a repository that are listed."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """A file to upload."""

    path: Path
    name: str
    """Path below the place, with slashes."""
    sha256: str = ""
    """Hexadecimal SHA-256, if already known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pushed:
    """Result of a push."""

    sent: int
    there: int
    """Number of files that already existed and were not sent."""
    commits: int
    deleted: int = 0


@dataclass(frozen=True, slots=True)
class File:
    """A file of a repository."""

    size: int
    """In bytes."""
    version: str
    """Hexadecimal digest of the content: SHA-256 of a large file, Git's ID of another."""


def page(place: Place) -> str:
    """URL of a repository's web page; raises RemoteError if huggingface_hub is missing."""
    with connect() as api:
        return f"{api.endpoint}/{'datasets/' * (place.kind == 'dataset')}{place.repo}"


def is_private(place: Place) -> bool | None:
    """Whether the repository is private; None if it does not exist. Raises RemoteError if that cannot be determined."""
    with connect() as api:
        found = with_retry(place, lambda: _info(api, place))
        return None if found is None else bool(found.private)


def listing(place: Place) -> tuple[Place, dict[str, File]]:
    """The place at the commit that its revision stands for now, and the files below it, by path.

    Raises RemoteError with the remedy, and StoppedError if the Hub's rate limit is reached.
    """
    where = {"repo_id": place.repo, "repo_type": place.kind, "revision": place.revision}

    def ask(act: Callable[[], T]) -> T:
        return with_retry(place, act, backoff=SHORT_BACKOFF)

    with connect() as api:
        pinned = replace(place, revision=ask(lambda: api.resolve_revision(**where)).resolved)
        there = ask(lambda: _listing(api, pinned))
    return pinned, {
        name.removeprefix(place.below("")): File(each.size, each.lfs.sha256 if each.lfs else each.blob_id)
        for name, each in there.items()
    }


def surplus(place: Place, items: Sequence[Item], patterns: Sequence[str]) -> list[str]:
    """Names of remote files below a place that match `patterns` (with `*`) and are not items; raises RemoteError as `push`."""
    names = {each.name for each in items}
    with connect() as api:
        if with_retry(place, lambda: _info(api, place)) is None:
            return []
        there = with_retry(place, lambda: _listing(api, place))
    below = (name.removeprefix(place.below("")) for name in there)
    return sorted(name for name in below if name not in names and _matches(name, patterns))


def push(
    place: Place,
    items: Sequence[Item],
    *,
    last: Sequence[Item] = (),
    what: str,
    message: str,
    private: bool = True,
    drop: Sequence[str] = (),
    check: Callable[[Item], None] = lambda item: None,
    stop: Callable[[], bool] = lambda: False,
) -> Pushed:
    """Upload files to a place, those of `last` in a commit after all others; a missing repository is created.

    Files that already exist there with the same SHA-256 are not sent, so a killed push resumes. At the end, the files named in
    `drop` are deleted (see `surplus`). `check` may raise before anything is sent.

    Raises RemoteError with the remedy if the upload fails, StoppedError once `stop()`.
    """
    with connect() as api, progress.bar(what, len(items) + len(last)) as bar:
        if with_retry(place, lambda: _info(api, place), stop=stop) is None:
            make = {"repo_id": place.repo, "repo_type": place.kind, "private": private, "exist_ok": True}
            with_retry(place, lambda: api.create_repo(**make), stop=stop)
        there = with_retry(place, lambda: _listing(api, place), stop=stop)
        commits, sent = 0, 0
        for group in (items, last):
            lacking = []
            for item in group:
                if _is_same(item, there.get(place.below(item.name))):
                    bar.advance("there already")
                else:
                    lacking.append(item)
            for batch in _batches(lacking):
                for item in batch:
                    check(item)
                _send(api, place, batch, message=message, stop=stop)
                commits, sent = commits + 1, sent + len(batch)
                for _ in batch:
                    bar.advance("sent")
                if stop():
                    raise stopped(place)
        stale = [name for name in map(place.below, drop) if name in there]
        if stale:
            _delete(api, place, stale, message=message, stop=stop)
            commits += 1
        if sent:
            _check_sent(place, [*items, *last], with_retry(place, lambda: _listing(api, place), stop=stop))
    return Pushed(sent=sent, there=len(items) + len(last) - sent, commits=commits, deleted=len(stale))


def fetch(place: Place, *, most_bytes: Mapping[str, int], most_files: int) -> Path:
    """Download the files of a place that match the patterns of `most_bytes` (with `*`); returns their folder in the Hub's cache.

    A file may have at most the bytes of its pattern (the smallest of all matching ones): all sizes are checked before the
    download starts. Cached files are not fetched again; without a connection to the Hub, the cached version is used. Raises
    RemoteError with the remedy, and StoppedError if the Hub's rate limit is reached.
    """
    where = {"repo_id": place.repo, "repo_type": place.kind}
    most = {place.below(pattern): size for pattern, size in most_bytes.items()}
    patterns = list(most)

    def ask(act: Callable[[], T]) -> T:
        return with_retry(place, act, backoff=SHORT_BACKOFF)

    with connect() as api:
        revision = ask(lambda: api.resolve_revision(**where, revision=place.revision))
        try:
            there = ask(lambda: _listing(api, place, revision=revision.resolved))
            names = sorted(name for name in there if _matches(name, patterns))
            _check_claims(place, {name: there[name].size for name in names}, most, most_files)
            more: dict[str, Any] = {"allow_patterns": names or ["*/none"]}
        except RemoteError as error:
            if error.__cause__ is None or answers.status(error) is not None:
                raise
            more = {"allow_patterns": patterns, "local_files_only": True}
        folder = Path(ask(lambda: api.snapshot_download(**where, revision=revision, **more)))
    found = folder / place.path
    sizes = {str(path.relative_to(folder)): path.stat().st_size for each in most_bytes for path in found.glob(each)}
    _check_claims(place, sizes, most, most_files)
    return found


def _check_claims(place: Place, sizes: Mapping[str, int], most_bytes: Mapping[str, int], most_files: int) -> None:
    """Raise RemoteError if a repository has more or larger files than `most_files` and `most_bytes` (by pattern) allow."""
    if len(sizes) > most_files:
        raise RemoteError(
            f"{place}: has {len(sizes)} files, more than the {most_files} allowed; check that it is the right one"
        )
    for name, size in sizes.items():
        if size > (most := min(most_bytes[pattern] for pattern in most_bytes if _matches(name, [pattern]))):
            raise RemoteError(
                f"{place}: its {name} has {size} bytes, more than the {most} allowed; check that it is the right one"
            )


def _send(
    api: Any,  # noqa: ANN401 - huggingface_hub's
    place: Place,
    batch: Sequence[Item],
    *,
    message: str,
    stop: Callable[[], bool],
) -> None:
    """Upload files in one commit; a retry neither hashes again nor resends what arrived."""
    from huggingface_hub import CommitOperationAdd

    summed: dict[str, Any] = {}

    def commit() -> object:
        operations = [CommitOperationAdd(place.below(each.name), each.path) for each in batch]
        for operation in operations:
            operation.upload_info = summed.setdefault(operation.path_in_repo, operation.upload_info)
        return api.create_commit(
            repo_id=place.repo,
            repo_type=place.kind,
            revision=place.revision,
            operations=operations,
            commit_message=message,
        )

    with_retry(place, commit, stop=stop)


def _delete(
    api: Any,  # noqa: ANN401 - huggingface_hub's
    place: Place,
    names: Sequence[str],
    *,
    message: str,
    stop: Callable[[], bool],
) -> None:
    """Delete files of a repository in one commit, those that still exist."""
    from huggingface_hub import CommitOperationDelete

    def commit() -> None:
        left = set(names).intersection(_listing(api, place))
        if left:
            api.create_commit(
                repo_id=place.repo,
                repo_type=place.kind,
                revision=place.revision,
                operations=[CommitOperationDelete(name, is_folder=False) for name in sorted(left)],
                commit_message=message,
            )

    with_retry(place, commit, stop=stop)


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatch.fnmatchcase(name, each) for each in patterns)


def _batches(items: Sequence[Item]) -> Iterator[list[Item]]:
    """Files of each commit, in order."""
    batch: list[Item] = []
    total, inline = 0, 0
    for item in items:
        size = item.path.stat().st_size
        small = size if size <= INLINE_BYTES else 0
        if len(batch) == BATCH_FILES or (batch and (total + size > BATCH_BYTES or inline + small > BATCH_INLINE_BYTES)):
            yield batch
            batch, total, inline = [], 0, 0
        batch.append(item)
        total, inline = total + size, inline + small
    if batch:
        yield batch


def _is_same(item: Item, entry: Any) -> bool:  # noqa: ANN401 - the Hub's own
    """Whether the Hub has these bytes, by its SHA-256 of large files and its Git ID of others."""
    if entry is None or entry.size != item.path.stat().st_size:
        return False
    if entry.lfs is not None:
        return bool(entry.lfs.sha256 == (item.sha256 or files.sha256(item.path)))
    data = item.path.read_bytes()
    return bool(entry.blob_id == hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest())


def _check_sent(place: Place, items: Sequence[Item], there: Mapping[str, Any]) -> None:
    """Raise RemoteError if the Hub left files out: it silently skips those listed in its .gitignore."""
    lacks = [each.name for each in items if place.below(each.name) not in there]
    if lacks:
        raise RemoteError(
            f"{place}: lacks {lacks[0]} and {len(lacks) - 1} others after the upload; check whether its .gitignore lists them"
        )


def _info(api: Any, place: Place) -> Any:  # noqa: ANN401 - the Hub's own
    """The Hub's information on a repository; None if it does not exist."""
    from huggingface_hub.errors import RepositoryNotFoundError

    try:
        return api.repo_info(place.repo, repo_type=place.kind)
    except RepositoryNotFoundError as error:
        if error.response.status_code != 404:
            raise
        return None


def _listing(
    api: Any,  # noqa: ANN401 - huggingface_hub's
    place: Place,
    *,
    revision: str | None = None,
) -> dict[str, Any]:
    """Files below a place, by their paths in the repository."""
    from huggingface_hub.errors import EntryNotFoundError

    where = {"repo_id": place.repo, "repo_type": place.kind, "revision": revision or place.revision}
    try:
        found = api.list_repo_tree(**where, path_in_repo=place.path or None, recursive=True)
        entries = list(itertools.islice(found, MOST_LISTED + 1))
    except EntryNotFoundError:
        return {}
    if len(entries) > MOST_LISTED:
        raise RemoteError(f"{place}: has more than {MOST_LISTED} files; give another repository")
    return {each.path: each for each in entries if hasattr(each, "lfs")}
