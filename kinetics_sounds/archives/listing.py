"""Find archives: below a folder, and in a list of URLs."""

import re
import time
import urllib.parse
from collections.abc import Iterable, Iterator
from pathlib import Path

from .. import redact, web
from ..clip import SPLITS, Status
from ..errors import SourceError
from ..folders import absolute_folder, walk
from . import UnreachableError
from .common import BreakError
from .http_stream import Download
from .tar_stream import read_file

ARCHIVES = (".tar", ".tar.gz", ".tgz")
"""Extensions of the archives in a folder; the compression is detected from the first bytes."""
MAX_LIST_BYTES = 1 << 20
LIST_SECONDS = 60.0
"""Time limit of a download of a list of parts, which has a few thousand bytes."""


def is_url(argument: str) -> bool:
    """Whether an argument of a source is a URL, of any kind."""
    return re.match(r"[a-z][a-z0-9+.-]*://", argument, flags=re.IGNORECASE) is not None


def host_of(url: str) -> str:
    """Host of a URL that the user named (`web.host`); empty for an invalid URL, which `web.refusal` refuses."""
    try:
        return web.host(url)
    except ValueError:
        return ""


def lower_scheme(argument: str) -> str:
    """A URL with its scheme in lower case; a path unchanged."""
    scheme, mark, rest = argument.partition("://")
    return f"{scheme.lower()}{mark}{rest}" if is_url(argument) else argument


def absolute(argument: str) -> str:
    """Absolute path of a folder or file; a URL with its scheme in lower case. Raises SourceError as `absolute_folder`."""
    return lower_scheme(argument) if is_url(argument) else absolute_folder(argument)


def is_archive(name: str) -> bool:
    """Whether a file is an archive, by its extension."""
    return name.lower().endswith(ARCHIVES)


def split_of(folders: Iterable[str]) -> str | None:
    """Split that the innermost of some nested folders is named after; None if there is none."""
    return next((name for name in reversed(list(folders)) if name in SPLITS), None)


def below(folder: Path) -> Iterator[Path]:
    """Archives below a folder, sorted by folder and name; raises SourceError if a folder cannot be read."""
    for place, names in walk(folder):
        for path in (Path(place, name) for name in sorted(names) if is_archive(name)):
            if path.is_file():
                yield path


def listed(place: str, *, named: str, remedy: str) -> list[str]:
    """URLs in the list at a URL or path; those of a list at a URL may be relative to it.

    `remedy` ends the message of a list that cannot be read. Raises SourceError for a list that cannot be read or has a URL that
    must not be requested, UnreachableError if waiting may help.
    """
    urls: list[str] = []
    for line, url in enumerate(_urls_in(place, named=named, remedy=remedy), start=1):
        if not url:
            continue
        if refusal := web.refusal(url, named=named):
            raise SourceError(
                f"{redact.bare(place)}:{line}: {redact.bare(url)!r} {refusal}; check that this is the list of parts"
            )
        urls.append(url)
    return urls


def by_name(places: Iterable[str], *, base: str) -> dict[str, str]:
    """Paths and URLs by unique names without secrets: each without `base` where it begins with that, and a hash of its query."""
    return {_name(place).removeprefix(base): place for place in places}


def _name(place: str) -> str:
    query = redact.query_digest(place)
    return f"{redact.bare(place)}?{query}" if query else redact.bare(place)


def _urls_in(place: str, *, named: str, remedy: str) -> Iterator[str]:
    """Absolute URL on each line of a list; empty for a line without one."""
    data, base = b"", place if is_url(place) else ""
    chunks = Download(place, named=named, ends=time.monotonic() + LIST_SECONDS) if base else read_file(Path(place))
    try:
        for chunk in web.with_progress(place, chunks):
            data += chunk
            if len(data) > MAX_LIST_BYTES:
                raise BreakError(Status.CORRUPT, f"is larger than {MAX_LIST_BYTES >> 20} MiB")
        lines = [line.strip() for line in data.decode("utf-8-sig").splitlines()]
        if any(line.startswith("<") for line in lines):
            raise BreakError(Status.CORRUPT, "is a web page")
    except (BreakError, UnicodeDecodeError) as error:
        text = f"{redact.bare(place)}: the list of parts cannot be read: {error}; check the address and the server, or {remedy}"
        if isinstance(error, BreakError) and _may_pass(error.status):
            raise UnreachableError(error.status, text) from error
        raise SourceError(text) from error
    for line in lines:
        try:
            yield urllib.parse.urljoin(base, quoted(line)) if line and not line.startswith("#") else ""
        except ValueError:
            yield line


def _may_pass(status: Status) -> bool:
    """Whether a list may become available later: not after 404."""
    return status.is_refusal or (status.is_transient and status is not Status.HTTP_4XX)


def quoted(url: str) -> str:
    """A URL in ASCII; existing quoting is kept."""
    return urllib.parse.quote(url, safe="%/:=&?~#+!$,;'@()*[]")
