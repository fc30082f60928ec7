"""Files at URLs: the only door to fsspec. What is fetched is bounded, checked, and goes on where a broken line left it."""

import contextvars
import dataclasses
import functools
import hashlib
import re
import socket
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, TypeVar

from . import answers, files, redact, retry, web
from .address import Address
from .errors import RemoteError

EXTRAS = {"s3": "s3", "gs": "gs", "gcs": "gs", "hf": "hub", "http": "http", "https": "http", "file": "", "memory": ""}
"""The schemes that are known, and the extra of this package that brings what each needs."""
OPTIONS: dict[str, dict[str, Any]] = {"file": {"auto_mkdir": True}}
"""What a scheme's file system is made with: no more, since its library reads keys and endpoints from the environment."""
UPLOADS: dict[str, dict[str, Any]] = {"http": {"method": "put"}, "https": {"method": "put"}}
"""How a scheme's file system is told to store a file."""
PIECE = 16 * 2**20
"""Bytes that are asked for at a time: a request costs tens of milliseconds."""
SMALLEST_PIECE = 256 * 2**10
"""Bytes that are asked for at a time on a line that broke again and again."""
BACKOFF = retry.Backoff(attempts=4, first_seconds=0.5, factor=4, longest_seconds=8.0)
"""Of a request that failed and may not the next time."""

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
"""Of a file; a text is as an address: no message tells a secret in it."""


def is_url(place: Url) -> bool:
    """Whether an address or a text names something remote rather than a path.

    Raises RemoteError for what is neither: an unknown scheme, `pipe:` (it would run a command), a chain (`zip::...`).
    """
    text = str(place)
    found = _URL.match(text)
    if found and ("::" in text or found["scheme"] not in EXTRAS):
        raise RemoteError(
            f"{_told(place)}: this kind of URL is not read; give a path, s3://, gs://, hf:// or http(s)://"
        )
    return found is not None


def join(url: Url, *names: str) -> Address:
    """The address of a file below `url`, whose query stays; raises ValueError for a name that might lead elsewhere."""
    for name in names:
        if not re.fullmatch(r"[\w.-]*[\w-][\w.-]*", name, flags=re.ASCII):
            raise ValueError(f"{name!r} is no name of a file")
    base, mark, query = _text(url).partition("?")
    return Address("/".join([base.rstrip("/"), *names]) + mark + query)


def read(url: Url, *, most: int) -> bytes:
    """A whole file of at most `most` bytes; raises RemoteError where it is larger, not there or not to be had."""

    def whole() -> bytes:
        with _open(url) as file:
            return _up_to(file, most + 1)

    data = _with_retry(url, whole)
    if len(data) > most:
        raise RemoteError(f"{_told(url)}: is larger than {most} bytes, and so not what is looked for; give another URL")
    return data


def size(url: Url) -> int | None:
    """Bytes of a file, None where there is none; raises RemoteError where that is not to be told."""

    def told() -> object:
        try:
            info = _system(url).info(_path(url))
        except FileNotFoundError as error:
            if not _is_gone(url, error):
                raise
            return None
        return info["size"] if info["type"] == "file" else None

    found = _with_retry(url, told)
    if found is not None and not isinstance(found, int):
        raise RemoteError(f"{_told(url)}: the server does not say its size; serve it by one that does")
    return found


def forget(url: Url) -> None:
    """What a URL's library remembers of which files there are: that of the Hub does, for as long as the process lives."""
    _system(url).invalidate_cache()


def upload(path: Path, url: Url) -> None:
    """Store a file at a URL, over what was there; raises RemoteError where it is not there as a whole afterwards."""
    wanted = path.stat().st_size
    _with_retry(url, lambda: _system(url).put_file(str(path), _path(url), **UPLOADS.get(_scheme(url), {})))
    if (found := size(url)) != wanted:
        raise RemoteError(f"{_told(url)}: has {found} bytes after the {wanted} of {path} were sent; send them again")


def download(url: Url, path: Path, *, size: int, sha256: str) -> None:
    """Fetch a file of `size` bytes; it appears at `path` only if this is its hexadecimal SHA-256.

    What an earlier call got, at `path` + `.part`, is not fetched again; only one call at a time may fetch to a path. Raises
    RemoteError where the file is not to be had, of another size, or wrong even when all of it was fetched by this call.
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
        f"{_told(url)}: its SHA-256 is not {sha256}: it was damaged or replaced; to send it again, run ks-shard "
        "with the options that made the set, its --out and --check_bytes"
    )


def sha256(url: Url, *, size: int, folder: Path) -> str:
    """Hexadecimal SHA-256 of the `size` bytes at a URL, which are fetched into a file without a name in `folder`.

    Raises RemoteError as `fill` does, and where they cannot be written there.
    """
    try:
        with tempfile.TemporaryFile(dir=folder) as copy:
            fill(copy, url, size)
            copy.seek(0)
            return hashlib.file_digest(copy, "sha256").hexdigest()
    except OSError as error:
        what = f"{folder}: cannot hold the {size} bytes of {_told(url)}: {error.strerror}"
        raise RemoteError(f"{what}; make room, or give another folder") from error


def fill(out: IO[bytes], url: Url, wanted: int) -> None:
    """Write what an open file lacks of the `wanted` bytes at a URL, piece by piece; what they say is not checked.

    Raises RemoteError where the file at the URL is not to be had, or of another size: then nothing is fetched. A line that
    breaks is tried again as `BACKOFF` says, counted anew whenever more came than ever before.
    """
    found = size(url)
    if found != wanted:
        what = "is not there" if found is None else f"has {found} bytes where its index says {wanted}"
        raise RemoteError(f"{_told(url)}: {what}; upload it again, with its index")
    reached, length, broken = out.seek(0, 2), PIECE, 0
    pieces = _pieces(url, reached, wanted, length=length)

    def may_pass(error: Exception) -> bool:
        """Whether smaller pieces may come, from here on."""
        nonlocal length, broken, pieces
        broken += 1
        length = max(length // 4, SMALLEST_PIECE)
        pieces = _pieces(url, reached, wanted, length=length)
        return _may_pass(url, error) and broken != BACKOFF.attempts

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
        first, data = piece
        out.seek(first)
        out.write(data)
        if first + len(data) > reached:
            reached, broken = first + len(data), 0


def _pieces(url: Url, first: int, size: int, *, length: int) -> Iterator[tuple[int, bytes]]:
    """The bytes of a file from `first` on, each piece with its place; from 0 on where the server can do no other."""
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
    """`count` bytes, or all that are left: one read may give fewer, and a server that does as it likes more."""
    data = file.read(count)
    while len(data) < count and (more := file.read(count - len(data))):
        data += more
    return data[:count]


def _open(url: Url, *, streaming: bool = False) -> Any:  # noqa: ANN401 - fsspec has no types
    return _system(url).open(_path(url), "rb", block_size=0 if streaming else PIECE, cache_type="none")


def _text(url: Url) -> str:
    """What is asked for."""
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
        raise ValueError(f"{_told(url)!r} is a path")
    try:
        return file_system(_scheme(url), web.host(_text(url)) if _is_http(url) else None)
    except ValueError as error:
        raise RemoteError(f"{_told(url)}: is no URL; see that it is right") from error


@functools.cache
def file_system(scheme: str, host: str | None) -> Any:  # noqa: ANN401 - fsspec has no types
    """A scheme's file system, one a process, of http one a host: each has connections of its own, and takes a moment to make."""
    import fsspec

    options = dict(OPTIONS.get(scheme, {}))
    if host is not None:
        options["get_client"] = functools.partial(_client, host)
    return fsspec.filesystem(scheme, skip_instance_cache=True, use_listings_cache=False, **options)


async def _client(named: str, **options: Any) -> Any:  # noqa: ANN401 - fsspec's own
    """What fsspec asks http servers with, held to what `web` asks of every hop; `named` is the host that the user named."""
    import aiohttp

    if not hasattr(aiohttp, "SocketFactoryType"):
        raise ImportError(f"aiohttp 3.12 or newer; {aiohttp.__version__} cannot be held to public hosts")
    trusted = contextvars.ContextVar("trusted", default=False)

    async def hop(request: aiohttp.ClientRequest, send: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
        """One request of those that redirects lead to."""
        url, host = str(request.url), request.url.host or ""
        if why := web.refusal(url, named=named):
            raise web.RefusedError(f"{_told(url)} {why}")
        if not web.is_host(host, web.host(url)):
            raise web.RefusedError(f"{_told(url)} names two hosts, by how it is read")
        trusted.set(request.proxy is not None or web.is_host(host, named))
        return await send(request)

    def allowed(address: aiohttp.AddrInfoType) -> socket.socket:
        """A socket for an address that is about to be connected."""
        family, kind, protocol, _, place = address
        if not (trusted.get() or web.is_allowed(str(place[0]), named=named)):
            raise web.RefusedError(f"what it redirects to {web.PRIVATE}")
        return socket.socket(family, kind, protocol)

    connector = aiohttp.TCPConnector(socket_factory=allowed)
    return aiohttp.ClientSession(connector=connector, middlewares=(hop,), **options)


def _with_retry(url: Url, act: Callable[[], T]) -> T:
    """What `act` returns, called with retry and exponential backoff on transient errors."""
    try:
        return retry.call(act, may_pass=lambda error: _may_pass(url, error), backoff=BACKOFF)
    except RemoteError:
        raise
    except Exception as error:
        raise _named(url, error) from error


def _may_pass(url: Url, error: Exception) -> bool:
    """Whether what a library raised may go away by itself; they have no base in common, so bugs are told by elimination."""
    if isinstance(error, _BUGS):
        raise error
    if isinstance(error, RemoteError) or _refused(error):
        return False
    status = answers.status(error)
    if status is not None and status >= 400:
        return web.may_pass(status) and answers.waited(error)
    return not isinstance(error, _FOR_GOOD) or (isinstance(error, FileNotFoundError) and not _is_gone(url, error))


def _is_gone(url: Url, error: FileNotFoundError) -> bool:
    """Whether there is no such file: fsspec says so of every HTTP request that fails, the Hub's of many, and why in the cause."""
    status = answers.status(error)
    return status in (404, 410) or (status is None and (not _is_http(url) or error.__cause__ is None))


def _refused(error: BaseException | None) -> web.RefusedError | None:
    """Why a host was not asked, where that is what a library's error came from."""
    return error if error is None or isinstance(error, web.RefusedError) else _refused(error.__cause__)


def _named(url: Url, error: Exception, *, done: str = "") -> RemoteError:
    """The error of ours that says what a library's does, and what to do."""
    if refused := _refused(error):
        return RemoteError(f"{_told(url)}: is not followed: {refused}; give the URL of the place where the files lie")
    if isinstance(error, ImportError):
        package = f"pip install 'kinetics-sounds[{EXTRAS[_scheme(url)]}]'"
        return RemoteError(f"{_told(url)}: is not to be had without a package that is missing ({error}); {package}")
    if isinstance(error, FileNotFoundError) and _is_gone(url, error):
        return RemoteError(f"{_told(url)}: is not there; see whether the URL is right and all was uploaded")
    cause = error.__cause__ if isinstance(error, FileNotFoundError) and error.__cause__ else error
    words = redact.redact(str(cause), Address(url).secrets)
    return RemoteError(
        f"{_told(url)}: is not to be had{done} ({type(cause).__name__}: {words}); see that the URL, your keys and the line "
        "are right, then run again"
    )


def _told(url: Url) -> str:
    return str(Address(url))
