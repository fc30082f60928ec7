"""HTTP and HTTPS access: which hosts may be contacted. Only this module opens URLs with urllib.

A list, a redirect or a name server may lead anywhere. The host named by the user is always allowed; any other host only at a
public address, checked for the actual connection, on every redirect. Behind a proxy (http_proxy, https_proxy, no_proxy) the
connection goes to the proxy, which resolves the names, so only the spelling of the host can be checked here.
"""

import functools
import http.client
import io
import ipaddress
import logging
import math
import re
import socket
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterable, Iterator, Mapping
from typing import IO, Any

import idna

from .redact import redact_url

TIMEOUT_SECONDS = 30.0
"""Timeout of a silent connection in seconds."""
SLOW_SECONDS, SLOW_BYTES = 60.0, 64 << 10
"""A connection counts as broken if it delivers less than this many bytes (including headers) in this many seconds of waiting."""
MOST_BYTES = 1 << 40
"""Maximum bytes per connection, including headers and trailers, which a server may send without end."""
SECONDS_BETWEEN_LINES = 5.0
"""Seconds between log lines on the progress of a list."""
PRIVATE = "is on a private network, where only the host named by you is contacted"

_NAME = re.compile(r"[a-z0-9_-]+(?:\.[a-z0-9_-]+)*")
_LOCAL_NAMES = ("localhost", "localdomain", "local", "internal", "lan", "home.arpa")
"""Suffixes of names that no public name server knows; names without a dot are not public either."""
_SPECIAL = tuple(map(ipaddress.IPv4Network, ("192.0.0.0/24", "192.88.99.0/24", "168.63.129.16/32")))
"""Special-purpose networks (protocols, 6to4 relays, Azure's own services), whose `is_global` depends on the version of
ipaddress."""
_UNICAST = ipaddress.IPv6Network("2000::/3")
_PROXYS = ("Proxy-authorization",)
"""Headers that urllib adds for a proxy, removed on redirects."""
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")

log = logging.getLogger("kinetics_sounds")


class RefusedError(OSError):
    """A URL or address that must not be contacted; retrying does not help."""


class SlowError(TimeoutError):
    """A server that sends too slowly."""


def host(url: str) -> str:
    """Normalised host of a URL: unquoted, lower case, IDNA, without a trailing dot; "" if it has none.

    Raises ValueError for an invalid URL, and for a host that is neither a name nor an address.
    """
    return _spelt(urllib.parse.unquote(urllib.parse.urlsplit(url).hostname or ""))


def is_host(name: str, named: str) -> bool:
    """Whether a host name, not quoted, is the one returned by `host`."""
    try:
        return _spelt(name) == named
    except ValueError:
        return False


def _spelt(name: str) -> str:
    if ":" in name:
        ipaddress.IPv6Address(name)
        return name.lower()
    name = (name if name.isascii() else idna.encode(name, uts46=True).decode()).lower().removesuffix(".")
    if name and not _NAME.fullmatch(name):
        raise ValueError("its host is not a valid name")
    return name


def may_pass(code: int) -> bool:
    """Whether a request may succeed after this HTTP status: other 4xx are permanent."""
    return code >= 500 or code in (408, 425, 429)


def refusal(url: str, *, named: str) -> str:
    """Why a URL must not be requested, judged by its spelling; empty if allowed. `named` is the host named by the user.

    If that is private, another name of it, or its address, is allowed too.
    """
    try:
        parts, name = urllib.parse.urlsplit(url), host(url)
        _ = parts.port
    except ValueError:
        return "is not a URL"
    if parts.scheme not in ("http", "https") or not name:
        return "is not an http or https URL"
    if not re.fullmatch(r"[!-~]+", url):
        return "is not a URL: it contains a space, a control character or a non-ASCII character"
    if "@" in parts.netloc:
        return "contains a password, which would end up in logs"
    if name == named or not _is_private(name):
        return ""
    found = _addresses(name) if _is_private(named) else set()
    return "" if found and found <= _addresses(named) else PRIVATE


def is_public(address: str) -> bool:
    """Whether an IP address, and any it embeds, is public; False for an invalid one."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return False
    if isinstance(found, ipaddress.IPv6Address):
        inner = found.ipv4_mapped or found.sixtofour or (found.teredo and found.teredo[1])
        if found in _NAT64:
            inner = ipaddress.IPv4Address(int(found) & 0xFFFFFFFF)
        if inner:
            return is_public(str(inner))
        if found not in _UNICAST:
            return False
    return found.is_global and not found.is_multicast and not any(found in each for each in _SPECIAL)


def is_allowed(address: str, *, named: str) -> bool:
    """Whether an IP address may be connected to: a public one, or one of the host named by the user if that is private.

    The addresses of a public host are not trusted: its name server could return any of this machine's.
    """
    return is_public(address) or (_is_private(named) and address in _addresses(named))


def open_url(
    url: str,
    *,
    named: str,
    method: str = "GET",
    headers: Mapping[str, str] | None = None,
    ends: float = math.inf,
) -> http.client.HTTPResponse:
    """Open a URL; the caller closes the response. `named` is the host named by the user, as returned by `host`.

    Reading the response raises SlowError if it is too slow, and TimeoutError after `ends` (time.monotonic). Raises RefusedError
    if the URL, a redirect or an address must not be contacted, urllib's HTTPError (closed) for an error status, another OSError
    or HTTPException if the connection fails.
    """
    if why := refusal(url, named=named):
        raise RefusedError(f"{redact_url(url)} {why}")
    request = _Request(url, method=method, headers=dict(headers or {}), named=named, ends=ends)
    try:
        answer: http.client.HTTPResponse = _opener().open(request, timeout=TIMEOUT_SECONDS)
    except urllib.error.HTTPError as error:
        error.close()
        raise
    except urllib.error.URLError as error:
        if isinstance(error.reason, RefusedError):
            raise error.reason from None
        raise
    return answer


def with_progress(url: str, chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Pass the chunks through, logging the progress of a URL every few seconds."""
    began = spoke = time.monotonic()
    size = 0
    for chunk in chunks:
        size += len(chunk)
        if (now := time.monotonic()) - spoke >= SECONDS_BETWEEN_LINES:
            spoke = now
            log.info("%s: %d bytes after %.0f s", redact_url(url), size, now - began)
        yield chunk


def _addresses(name: str) -> set[str]:
    """IP addresses of a host, as far as it can be resolved here."""
    try:
        return {str(place[0]) for *_, place in socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)}
    except (OSError, UnicodeError):
        return set()


def _is_private(name: str) -> bool:
    """Whether a host, as returned by `host`, looks private by its name."""
    try:
        name = socket.inet_ntoa(socket.inet_aton(name))  # also 127.1 and 2130706433
    except (OSError, ValueError):
        if ":" not in name:
            return "." not in name or name.endswith(tuple(f".{end}" for end in _LOCAL_NAMES))
    return not is_public(name)


class _Request(urllib.request.Request):
    """A request with the host named by the user, and the deadline of its response."""

    def __init__(self, url: str, *, named: str, ends: float, **more: Any) -> None:  # noqa: ANN401 - urllib's own
        super().__init__(url, **more)
        self.named, self.ends = named, ends
        self.proxied = False

    def set_proxy(self, host: str, type: str) -> None:  # noqa: A002 - urllib's name
        self.proxied = True
        super().set_proxy(host, type)


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects only to places that `refusal` allows."""

    def redirect_request(  # type: ignore[override]  # every request here is one of ours
        self,
        req: _Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        """Raise RefusedError for a redirect that must not be followed."""
        fp.close()  # or its body would be read to an end that it may not have
        if why := refusal(newurl, named=req.named):
            raise RefusedError(f"it redirects to {redact_url(newurl)}, which {why}")
        made = super().redirect_request(req, fp, code, msg, headers, newurl)
        kept = {name: value for name, value in (made.headers if made else {}).items() if name not in _PROXYS}
        return made and _Request(made.full_url, method=req.get_method(), headers=kept, named=req.named, ends=req.ends)


class _Http(urllib.request.HTTPHandler):
    def http_open(self, req: _Request) -> http.client.HTTPResponse:  # type: ignore[override]
        return self.do_open(functools.partial(_connection, http.client.HTTPConnection, request=req), req)


class _Https(urllib.request.HTTPSHandler):
    def https_open(self, req: _Request) -> http.client.HTTPResponse:  # type: ignore[override]
        return self.do_open(functools.partial(_connection, http.client.HTTPSConnection, request=req), req)


def _opener() -> urllib.request.OpenerDirector:
    """Opener for http and https only; urllib's default also opens file: and ftp:."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler,
        urllib.request.UnknownHandler,
        _Http,
        _Https,
        urllib.request.HTTPDefaultErrorHandler,
        urllib.request.HTTPErrorProcessor,
        _Redirects,
    ):
        opener.add_handler(handler())
    return opener


def _connection(
    kind: type[http.client.HTTPConnection], address: str, *, timeout: float, request: _Request
) -> http.client.HTTPConnection:
    """A urllib connection to an allowed address, whose responses have time limits."""
    made = kind(address, timeout=timeout)
    made._create_connection = functools.partial(_connect, named=None if request.proxied else request.named)  # type: ignore[attr-defined]
    made.response_class = functools.partial(_Answer, ends=request.ends)  # type: ignore[assignment]
    return made


def _connect(address: tuple[str, int], timeout: float, _source: object = None, *, named: str | None) -> socket.socket:
    """Socket to the first address of a host that answers and is allowed; to any if it is `named`, or that is None."""
    name, port = address
    try:
        name = _spelt(name)
        found = socket.getaddrinfo(name, port, type=socket.SOCK_STREAM)
    except ValueError as error:
        raise RefusedError(f"{name} is not a host name") from error
    failed: OSError = RefusedError(f"{name} {PRIVATE}")
    for family, kind, protocol, _, place in found:
        if not (named is None or name == named or is_allowed(str(place[0]), named=named)):
            continue
        made = socket.socket(family, kind, protocol)
        try:
            made.settimeout(timeout)
            made.connect(place)
        except OSError as error:
            made.close()
            failed = error
        else:
            return made
    raise failed


class _Answer(http.client.HTTPResponse):
    """A response with time limits for every byte, including headers."""

    def __init__(self, sock: socket.socket, *more: Any, ends: float, **others: Any) -> None:  # noqa: ANN401
        super().__init__(sock, *more, **others)
        self.fp = io.BufferedReader(_Timed(self.fp.detach(), sock, ends))


class _Timed(io.RawIOBase):
    """Data from a socket, with a minimum speed."""

    def __init__(self, raw: io.RawIOBase, sock: socket.socket, ends: float) -> None:
        self.raw, self.sock, self.ends = raw, sock, ends
        self.waited, self.arrived, self.total = 0.0, 0, 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:  # noqa: ANN401 - whatever may be written to
        """Raises SlowError and TimeoutError as `open_url` says."""
        began = time.monotonic()
        if began >= self.ends:
            raise SlowError("it exceeded its time limit")
        self.sock.settimeout(min(TIMEOUT_SECONDS, self.ends - began))
        size: int | None = self.raw.readinto(buffer)
        if size is None:
            raise TimeoutError("timed out")
        self.arrived += size
        self.total += size
        if self.total > MOST_BYTES:
            raise ConnectionError(f"it sent more than {MOST_BYTES} bytes")
        self.waited += time.monotonic() - began  # what the server took its time for, not what the reader did
        if self.waited >= SLOW_SECONDS:
            if size and self.arrived < SLOW_BYTES:
                raise SlowError(f"it sent {self.arrived} bytes in {self.waited:.0f} seconds")
            self.waited, self.arrived = 0.0, 0
        return size

    def close(self) -> None:
        self.raw.close()
        super().close()
