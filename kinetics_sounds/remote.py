"""Bounded, verified and resumable access to remote files, through the file systems of fsspec."""

import dataclasses
import hashlib
import re
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, TypeVar

from . import answers, files, redact, retry, web
from .address import Address
from .errors import RemoteError
from .extras import pip_install
from .file_systems import EXTRAS, file_system

UPLOADS: dict[str, dict[str, Any]] = {"http": {"method": "put"}, "https": {"method": "put"}}
"""Arguments for uploads, by scheme."""
PIECE = 16 * 2**20
"""Bytes per request: a request costs tens of milliseconds."""
SMALLEST_PIECE = 256 * 2**10
"""Bytes per request on a connection that fails repeatedly."""
BACKOFF = retry.Backoff(attempts=4, first_seconds=0.5, factor=4, longest_seconds=8.0)
"""Retries on transient errors."""

_URL = re.compile(r"(?P<scheme>[a-z][a-z0-9+.-]*)(?:://|::)|pipe:", flags=re.IGNORECASE)
_FOR_GOOD = (
    FileNotFoundError,
    PermissionError,
    IsADirectoryError,
    NotADirectoryError,
    ImportError,
    NotImplementedError,
)
_BUGS = (TypeError, AttributeError, NameError, LookupError, AssertionError, MemoryError)

T = TypeVar("T")
Url = Address | str
"""URL of a file; text is treated like an address: no message shows its secrets."""


def is_url(place: Url) -> bool:
    """Whether an address or a text is a URL.

    Raises RemoteError for an unknown scheme, `pipe:`, or a chain such as `zip::...`.
    """
    text = str(place)
    found = _URL.match(text)
    if found and ("::" in text or found["scheme"] not in EXTRAS):
        raise RemoteError(
            f"{_shown(place)}: this kind of URL is not supported; give a path, s3://, gs://, hf:// or http(s)://"
        )
    return found is not None


def join(url: Url, *names: str) -> Address:
    """Address of a file below `url`, keeping its query; raises ValueError for a name that could lead elsewhere."""
    for name in names:
        if not re.fullmatch(r"[\w.-]*[\w-][\w.-]*", name, flags=re.ASCII):
            raise ValueError(f"{name!r} is not a file name")
    base, mark, query = _text(url).partition("?")
    return Address("/".join([base.rstrip("/"), *names]) + mark + query)


def read(url: Url, *, most: int) -> bytes:
    """Read a whole file of at most `most` bytes; raises RemoteError if it is larger, missing or unavailable."""

    def whole() -> bytes:
        with _open(url) as file:
            return _up_to(file, most + 1)

    data = _with_retry(url, whole)
    if len(data) > most:
        raise RemoteError(f"{_shown(url)}: is larger than {most} bytes; give another URL")
    return data


def size(url: Url) -> int | None:
    """Size of a file in bytes, None if it does not exist; raises RemoteError if that cannot be determined."""
    found = _version(url)
    return found and found[0]


def _version(url: Url) -> tuple[int, str] | None:
    """Size of a file, and its version if the server tells one (ETag); otherwise as `size`."""

    def info() -> Any:  # noqa: ANN401 - fsspec has no types
        try:
            info = _system(url).info(_path(url))
        except FileNotFoundError as error:
            if not _is_gone(url, error):
                raise
            return None
        return info if info["type"] == "file" else None

    found = _with_retry(url, info)
    if found is not None and not isinstance(found["size"], int):
        raise RemoteError(f"{_shown(url)}: the server does not report its size; use one that does")
    return found and (found["size"], str(found.get("ETag") or found.get("etag") or ""))


def forget(url: Url) -> None:
    """Clear the library's cached listing for a URL: the Hub's library caches it for the lifetime of the process."""
    _system(url).invalidate_cache()


def upload(path: Path, url: Url) -> None:
    """Upload a file to a URL, replacing an existing one; raises RemoteError if it is not there completely afterwards."""
    wanted = path.stat().st_size
    _with_retry(url, lambda: _system(url).put_file(str(path), _path(url), **UPLOADS.get(_scheme(url), {})))
    if (found := size(url)) != wanted:
        raise RemoteError(f"{_shown(url)}: has {found} bytes after {wanted} of {path} were uploaded; upload them again")


def download(url: Url, path: Path, *, size: int, sha256: str) -> None:
    """Download a file of `size` bytes; it appears at `path` only if its hexadecimal SHA-256 is `sha256`.

    Bytes of an earlier call, at `path` + `.part`, are not fetched again; only one call at a time may download to a path. Raises
    RemoteError if the file is unavailable, of another size, or still wrong after a complete download.
    """
    part = path.with_name(path.name + files.PART)
    try:
        with part.open("ab+") as out:
            resumed = 0 < out.tell() <= size
        for fresh in (False, True) if resumed else (True,):
            with part.open("wb" if fresh else "rb+") as out:
                fill(out, url, size)
            if files.sha256(part) == sha256:
                files.replace_atomically(part, path)
                return
        part.unlink()
    except OSError as error:
        if error.errno in files.FULL:
            raise OSError(error.errno, error.strerror, str(part)) from error
        raise RemoteError(f"{part}: cannot be written: {error.strerror}; give another folder") from error
    raise RemoteError(
        f"{_shown(url)}: its SHA-256 is not {sha256}: it was damaged or replaced; to send it again, run ks-shard "
        "with the options that made the set, its --out and --check_bytes"
    )


def sha256(url: Url, *, size: int, folder: Path) -> str:
    """Hexadecimal SHA-256 of the `size` bytes at a URL, downloaded to an unnamed file in `folder`.

    Raises RemoteError as `fill` does, and if they cannot be written there.
    """
    try:
        with tempfile.TemporaryFile(dir=folder) as copy:
            fill(copy, url, size)
            copy.seek(0)
            return hashlib.file_digest(copy, "sha256").hexdigest()
    except OSError as error:
        what = f"{folder}: cannot hold the {size} bytes of {_shown(url)}: {error.strerror}"
        raise RemoteError(f"{what}; free space, or give another folder") from error


def fill(out: IO[bytes], url: Url, wanted: int) -> None:
    """Append the missing ones of the `wanted` bytes at a URL to an open file, piece by piece; the content is not verified.

    Raises RemoteError if the file is unavailable or of another size (before anything is fetched). A lost connection is retried
    as `BACKOFF` says; attempts are counted from 0 again after each that brought bytes.
    """
    found = size(url)
    if found != wanted:
        what = "does not exist" if found is None else f"has {found} bytes, but {wanted} according to its index"
        raise RemoteError(f"{_shown(url)}: {what}; upload it again, with its index")
    for first, data in _resumed(url, out.seek(0, 2), wanted):
        out.seek(first)
        out.write(data)


def chunks(url: Url) -> Iterator[bytes]:
    """The bytes of a file, piece by piece, with retries as in `fill`.

    Raises RemoteError if it is unavailable, or was replaced meanwhile.
    """
    version = _version(url)
    if version is None:
        raise _named(url, missing := FileNotFoundError()) from missing

    def check() -> None:
        if _version(url) != version:
            raise RemoteError(f"{_shown(url)}: was replaced while it was read; run again")

    for _, data in _resumed(url, 0, version[0], after_failure=check):
        yield data
    check()


def find(url: Url) -> dict[str, int]:
    """Sizes of the files below a folder, by their paths relative to it; raises RemoteError if it is unavailable."""
    root = _path(url).rstrip("/")
    found = _with_retry(url, lambda: _system(url).find(root, detail=True))
    return {path.removeprefix(f"{root}/"): int(info["size"]) for path, info in sorted(found.items())}


def _resumed(
    url: Url, reached: int, wanted: int, *, after_failure: Callable[[], None] = lambda: None
) -> Iterator[tuple[int, bytes]]:
    """As `_pieces`, with retries as `BACKOFF` says; attempts are counted from 0 again after each that brought bytes.

    `after_failure` may raise a RemoteError, which ends the retries.
    """
    length, broken = PIECE, 0
    pieces = _pieces(url, reached, wanted, length=length)

    def may_pass(error: Exception) -> bool:
        """Whether the error is transient; reduces the piece size from here on."""
        nonlocal length, broken, pieces
        broken += 1
        length = max(length // 4, SMALLEST_PIECE)
        pieces = _pieces(url, reached, wanted, length=length)
        if not _may_pass(url, error) or broken == BACKOFF.attempts:
            return False
        after_failure()
        return True

    uncounted = dataclasses.replace(BACKOFF, attempts=None)
    while True:
        try:
            piece = retry.call(lambda: next(pieces, None), may_pass=may_pass, backoff=uncounted)
        except RemoteError:
            raise
        except Exception as error:
            raise _named(url, error, done=f" after {reached} of {wanted} bytes") from error
        if piece is None:
            return
        yield piece
        first, data = piece
        if first + len(data) > reached:
            reached, broken = first + len(data), 0


def _pieces(url: Url, first: int, size: int, *, length: int) -> Iterator[tuple[int, bytes]]:
    """Bytes of a file from `first` on, each piece with its offset; from offset 0 if the server does not support ranges."""
    try:
        with _open(url) as file:
            while first < size:
                file.seek(first)
                yield first, (data := _exactly(file, min(length, size - first)))
                first += len(data)
        return
    except ValueError:  # what fsspec raises where a server does not know of ranges
        if not first or not _is_http(url):
            raise
    with _open(url, streaming=True) as file:
        for at in range(0, size, length):
            yield at, _exactly(file, min(length, size - at))


def _exactly(file: IO[bytes], count: int) -> bytes:
    data = _up_to(file, count)
    if len(data) < count:
        raise EOFError(f"it ended {count - len(data)} bytes early")
    return data


def _up_to(file: IO[bytes], count: int) -> bytes:
    """`count` bytes, or all that are left: a single read may return fewer, or more from a misbehaving server."""
    data = file.read(count)
    while len(data) < count and (more := file.read(count - len(data))):
        data += more
    return data[:count]


def _open(url: Url, *, streaming: bool = False) -> Any:  # noqa: ANN401 - fsspec has no types
    return _system(url).open(_path(url), "rb", block_size=0 if streaming else PIECE, cache_type="none")


def _text(url: Url) -> str:
    """The full text of a URL."""
    return url.real if isinstance(url, Address) else url


def _scheme(url: Url) -> str:
    return str(url).partition("://")[0]


def _is_http(url: Url) -> bool:
    return _scheme(url) in ("http", "https")


def _path(url: Url) -> str:
    path: str = _system(url)._strip_protocol(_text(url))
    return path


def _system(url: Url) -> Any:  # noqa: ANN401 - fsspec has no types
    if not is_url(url):
        raise ValueError(f"{_shown(url)!r} is a path")
    try:
        return file_system(_scheme(url), web.host(_text(url)) if _is_http(url) else None)
    except ValueError as error:
        raise RemoteError(f"{_shown(url)}: is not a valid URL; check it") from error


def _with_retry(url: Url, act: Callable[[], T]) -> T:
    """What `act` returns, called with retry and exponential backoff on transient errors."""
    try:
        return retry.call(act, may_pass=lambda error: _may_pass(url, error), backoff=BACKOFF)
    except RemoteError:
        raise
    except Exception as error:
        raise _named(url, error) from error


def _may_pass(url: Url, error: Exception) -> bool:
    """Whether an error of a library is transient; their errors have no common base class, so bugs are found by elimination."""
    if isinstance(error, _BUGS):
        raise error
    if isinstance(error, RemoteError) or _refused(error):
        return False
    status = answers.status(error)
    if status is not None and status >= 400:
        return web.may_pass(status) and answers.waited(error)
    return not isinstance(error, _FOR_GOOD) or (isinstance(error, FileNotFoundError) and not _is_gone(url, error))


def _is_gone(url: Url, error: FileNotFoundError) -> bool:
    """Whether the file does not exist: fsspec raises FileNotFoundError for every failed HTTP request; the cause tells why."""
    status = answers.status(error)
    return status in (404, 410) or (status is None and (not _is_http(url) or error.__cause__ is None))


def _refused(error: BaseException | None) -> web.RefusedError | None:
    """The refusal of a host by `web`, if that caused a library's error."""
    return error if error is None or isinstance(error, web.RefusedError) else _refused(error.__cause__)


def _named(url: Url, error: Exception, *, done: str = "") -> RemoteError:
    """Translate a library's error into one of ours, with the remedy."""
    if refused := _refused(error):
        return RemoteError(f"{_shown(url)}: is not followed: {refused}; give the final URL of the files")
    if isinstance(error, ImportError):
        package = pip_install(EXTRAS[_scheme(url)])
        return RemoteError(f"{_shown(url)}: needs a missing package ({error}); {package}")
    if isinstance(error, FileNotFoundError) and _is_gone(url, error):
        return RemoteError(f"{_shown(url)}: does not exist; check the URL, and that the upload is complete")
    cause = error.__cause__ if isinstance(error, FileNotFoundError) and error.__cause__ else error
    words = redact.redact(str(cause), Address(url).secrets)
    return RemoteError(
        f"{_shown(url)}: is unavailable{done} ({type(cause).__name__}: {words}); check the URL, your keys and the "
        "connection, then run again"
    )


def _shown(url: Url) -> str:
    return str(Address(url))
