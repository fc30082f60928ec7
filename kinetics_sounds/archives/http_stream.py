"""Sequential bytes of a URL, reconnecting as needed."""

import hashlib
import http.client
import math
import re
import time
import urllib.error
from collections.abc import Generator

from .. import retry, web
from ..clip import Status
from ..retry import Backoff
from . import common
from .common import BreakError, ChangedError

ATTEMPTS = 6
"""Consecutive connections that fail before they deliver `web.SLOW_BYTES`; then the part is given up."""
BACKOFF = Backoff(attempts=None, first_seconds=1.0, longest_seconds=30.0, jitter_seconds=1.0)
"""Waits between connections, restarted after each connection that delivered something."""


class Download:
    """Sequential bytes of a URL, reconnecting as needed.

    After a lost connection the download continues at the same byte, if the server identifies the file's version (strong ETag) and
    still has it. Otherwise the file is read from its start again and the earlier part is compared by digest, so that two versions
    of a file are never joined.
    """

    def __init__(self, url: str, *, named: str, ends: float = math.inf) -> None:
        self.url, self.named, self.ends = url, named, ends
        self.offset = 0  # bytes handed on
        self.digest = hashlib.sha256()  # of them
        self.position = 0  # of the connection in the file: less than offset where it is read again
        self.again = hashlib.sha256()  # of what it has read again
        self.total: int | None = None
        self.etag = ""
        self.failures = 0  # connections in a row that broke after few bytes
        self.broken_at = 0  # where the last one broke
        self.received = 0
        self.answer: http.client.HTTPResponse | None = None

    def __iter__(self) -> Generator[bytes, None, None]:
        """Raises BreakError if the file cannot be read to its end."""
        try:
            while chunk := self._next():
                self.digest.update(chunk)
                self.offset += len(chunk)
                if self.offset > common.MAX_PART_BYTES:
                    raise BreakError(
                        Status.CORRUPT, f"it has more than {common.MAX_PART_BYTES} bytes, more than is accepted"
                    )
                yield chunk
        finally:
            self._hang_up()

    def _next(self) -> bytes:
        """The next bytes; empty at the end."""
        try:
            return retry.call(self._receive, may_pass=self._may_pass, backoff=BACKOFF)
        except (OSError, http.client.HTTPException) as error:
            raise _classified(error) from error

    def _may_pass(self, error: Exception) -> bool:
        """Close the connection; returns whether another one may help."""
        self._hang_up()
        self.failures = self.failures + 1 if self.offset - self.broken_at < web.SLOW_BYTES else 1
        self.broken_at = self.offset
        if isinstance(error, web.RefusedError) or time.monotonic() >= self.ends:
            return False
        if isinstance(error, urllib.error.HTTPError) and error.code == 416:
            self.etag = ""  # there is no such byte, so this is another file: read it again and see
        elif isinstance(error, urllib.error.HTTPError) and not web.may_pass(error.code):
            return False
        return isinstance(error, (OSError, http.client.HTTPException, BreakError)) and (
            not isinstance(error, ChangedError) and self.failures < ATTEMPTS
        )

    def _hang_up(self) -> None:
        if self.answer is not None:
            self.answer.close()
            self.answer = None

    def _connect(self) -> http.client.HTTPResponse:
        resume = {"Range": f"bytes={self.offset}-", "If-Range": self.etag} if self.offset and self.etag else {}
        answer = self.answer = web.open_url(self.url, named=self.named, headers=resume, ends=self.ends)
        etag = answer.headers.get("ETag", "")
        if answer.status == http.HTTPStatus.PARTIAL_CONTENT:
            span = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", answer.headers.get("Content-Range", ""))
            total = int(span[2]) if span and span[2] != "*" else self.total
            if not resume or not span or (int(span[1]), etag, self.total or total) != (self.offset, self.etag, total):
                self.etag = ""  # a server that does not know what it sends: do not ask it for ranges again
                raise ConnectionError("the server sent another range than requested")
            self.position, self.total = self.offset, total
        else:
            self.position, self.again = 0, hashlib.sha256()
            self.total = answer.length
            self.etag = etag if etag.startswith('"') else ""
        return answer

    def _receive(self) -> bytes:
        """New bytes from the connection, without those already returned; empty at the end of the file."""
        while True:
            answer = self.answer or self._connect()
            chunk = answer.read1(common.CHUNK_BYTES)
            self.received += len(chunk)
            known = min(len(chunk), self.offset - self.position)
            self.position += len(chunk)
            if not chunk and self.total is not None and self.position < self.total:
                raise BreakError(Status.TRUNCATED, f"ends after {self.position} of {self.total} bytes")
            if known:
                self.again.update(memoryview(chunk)[:known])
                chunk = chunk[known:]
                if self.position >= self.offset and self.again.digest() != self.digest.digest():
                    raise ChangedError(Status.TRUNCATED, "the file changed on the server while it was read")
            elif not chunk and self.position < self.offset:
                raise ChangedError(Status.TRUNCATED, "the file became shorter on the server while it was read")
            if chunk or not known:
                return chunk


def _classified(error: OSError | http.client.HTTPException) -> BreakError:
    """Status for an error of a server; the server's text is left out, since it may contain anything."""
    if isinstance(error, urllib.error.HTTPError):
        status = Status.HTTP_5XX if error.code >= 500 else Status.HTTP_4XX
        return BreakError(
            Status.RATE_LIMITED if error.code == 429 else status, f"the server returned HTTP {error.code}"
        )
    if isinstance(error, web.RefusedError):
        return BreakError(Status.HTTP_4XX, str(error))
    reason = getattr(error, "reason", error)
    if isinstance(reason, web.SlowError):
        return BreakError(Status.TIMEOUT, f"the server is too slow: {reason}")
    if isinstance(reason, TimeoutError):
        return BreakError(Status.TIMEOUT, "the server stopped responding")
    return BreakError(Status.NETWORK, f"the connection failed ({reason!r:.200})")
