"""Archives at `hf://`, `s3://` and `gs://`: found through `hub` and `remote`, and read in ranges."""

import posixpath
import re
from collections.abc import Generator
from dataclasses import replace

from .. import answers, hub, remote
from ..address import Address
from ..clip import Status
from ..errors import KineticsSoundsError, RemoteError, SourceError, StoppedError
from . import UnreachableError
from .common import CHUNK_BYTES, MAX_PART_BYTES, BreakError
from .listing import is_archive

SCHEMES = ("hf", "s3", "gs")
"""URL schemes of these archives."""
Listings = dict[hub.Place, tuple[hub.Place, dict[str, hub.File]]]
"""Folders of the Hub, each at its commit and with its files (`hub.listing`)."""
_CONNECTION = (
    *("ConnectionError", "TimeoutError", "EOFError", "gaierror", "HTTPException"),  # Python's
    *("HTTPClientError", "IncompleteReadError"),  # botocore's
    *("ClientConnectionError", "ClientPayloadError"),  # aiohttp's
    "TransportError",  # httpx's
)
"""Names of classes of errors that may be gone later, or of their bases."""
_FOR_GOOD = ("OfflineModeIsEnabled", "SSLError", "ClientSSLError", "SSLCertVerificationError")
"""Names of classes of connections' errors that stay until somebody does something."""


def is_remote(place: str) -> bool:
    """Whether a URL is one of these."""
    return place.partition("://")[0] in SCHEMES


def read(url: str) -> Generator[bytes, None, None]:
    """Bytes of a file; raises BreakError if it cannot be read to its end, or was replaced meanwhile."""
    size = 0
    try:
        for piece in remote.chunks(url):
            size += len(piece)
            if size > MAX_PART_BYTES:
                raise BreakError(Status.CORRUPT, f"it has more than {MAX_PART_BYTES} bytes, more than is accepted")
            for first in range(0, len(piece), CHUNK_BYTES):
                yield piece[first : first + CHUNK_BYTES]
    except RemoteError as error:
        raise BreakError(_status(error) or Status.TRUNCATED, str(error)) from error


def find(url: str, listings: Listings) -> dict[str, tuple[str, int | None]]:
    """Archives below a folder, or the archive at this URL: by name, each with its URL and size in bytes.

    On the Hub the URLs are those of the commit that the revision stands for now, and the names change with the content. Calls
    with the same `listings`, which is filled, list each folder once and see one commit of a revision. Raises SourceError if they
    cannot be listed, UnreachableError if waiting may help.
    """
    try:
        if hub.is_hub(url):
            return _on_hub(hub.parse(url), listings)
        if is_archive(url):
            return {posixpath.basename(url): (url, remote.size(url))}
        found = {name: size for name, size in remote.find(url).items() if is_archive(name)}
        for name in found:
            if not name.isprintable():
                raise SourceError(f"{Address(url)}: holds {name!r}, a name that cannot be printed; rename it")
        return {name: (f"{url.rstrip('/')}/{name}", size) for name, size in found.items()}
    except (RemoteError, StoppedError) as error:
        status = _status(error)
        if status is not None and status is not Status.HTTP_4XX:
            raise UnreachableError(status, str(error)) from error
        raise SourceError(str(error)) from error


def _on_hub(place: hub.Place, listings: Listings) -> dict[str, tuple[str, int | None]]:
    parent, _, last = place.path.rpartition("/")
    alone = is_archive(place.path)
    folder = replace(place, path=parent) if alone else place
    if folder not in listings:
        same = (listings[each][0].revision for each in listings if replace(each, path="") == replace(place, path=""))
        listings[folder] = hub.listing(replace(folder, revision=next(same, place.revision)))
    pinned, files = listings[folder]
    return {
        f"{name}@{file.version[:12]}": (f"{pinned}/{name}", file.size)
        for name, file in files.items()
        if (name == last if alone else is_archive(name))
    }


def _status(error: KineticsSoundsError) -> Status | None:
    """Status for an error of a server or a connection; None for any other, such as missing keys, where waiting does not help."""
    code = _code(error)
    if isinstance(error, StoppedError) or code == 429:
        return Status.RATE_LIMITED
    if code is not None:
        return Status.HTTP_5XX if code >= 500 else Status.HTTP_4XX
    cause = error.__cause__
    if isinstance(cause, FileNotFoundError | PermissionError):
        return Status.HTTP_4XX
    return Status.NETWORK if any(map(_is_of_connection, answers.causes(error))) else None


def _code(error: BaseException) -> int | None:
    """HTTP status of an error; botocore has it in a dictionary, gcsfs as `code`."""
    if (status := answers.status(error)) is not None:
        return status
    for each in answers.causes(error):
        response = getattr(each, "response", None)
        told = response.get("ResponseMetadata", {}) if isinstance(response, dict) else {}
        code = str(told.get("HTTPStatusCode", getattr(each, "code", "")))
        if re.fullmatch(r"[45]\d\d", code, flags=re.ASCII):
            return int(code)
    return None


def _is_of_connection(error: BaseException) -> bool:
    """Whether an error is one of connections and time limits, by the names of its classes: the libraries share none."""
    names = {each.__name__ for each in type(error).__mro__}
    return not names.isdisjoint(_CONNECTION) and names.isdisjoint(_FOR_GOOD)
