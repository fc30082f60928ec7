"""Read a server's reply from a library's exception: the HTTP status, and the requested wait (Retry-After, rate limit)."""

import email.utils
import logging
import re
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

MOST_SECONDS = 900.0
"""Longest wait in seconds that is honoured; a longer one counts as a failure."""

log = logging.getLogger("kinetics_sounds")
_LIMIT = re.compile(r";\s*r\s*=\s*0\s*;\s*t\s*=\s*(\d{1,9})")
"""Header `ratelimit: "api";r=0;t=55`: no requests left for that many seconds."""


def causes(error: BaseException) -> Iterator[BaseException]:
    """An error and the chain of errors that caused it."""
    seen: list[BaseException] = []
    following: BaseException | None = error
    while following is not None and following not in seen:
        seen.append(following)
        yield following
        following = following.__cause__


def status(error: BaseException) -> int | None:
    """HTTP status of an error, if it has one; libraries store it as `status` or as `response.status_code`."""
    for each in causes(error):
        for value in (getattr(each, "status", None), getattr(getattr(each, "response", None), "status_code", None)):
            if isinstance(value, int):
                return value
    return None


def waited(error: BaseException, *, stop: Callable[[], bool] = lambda: False) -> bool:
    """Wait for as long as the server asks (not at all if it does not), or until `stop()`.

    Returns False at once if it asks for more than `MOST_SECONDS`.
    """
    seconds = next((found for each in causes(error) if (found := _seconds(_headers(each))) is not None), 0.0)
    if seconds > MOST_SECONDS:
        return False
    if seconds > 1:
        log.info("the server asks to wait %.0f seconds (HTTP status %s)", seconds, status(error))
    ends = time.monotonic() + seconds
    while (left := ends - time.monotonic()) > 0 and not stop():
        time.sleep(min(left, 0.5))
    return True


def _headers(error: BaseException) -> Mapping[str, Any]:
    """Headers of the response; stored as `headers` (aiohttp) or as `response.headers`."""
    for found in (getattr(error, "headers", None), getattr(getattr(error, "response", None), "headers", None)):
        if isinstance(found, Mapping):
            return found
    return {}


def _seconds(headers: Mapping[str, Any]) -> float | None:
    """Seconds to wait according to the headers: `Retry-After` (seconds or a date) or the rate limit's own header."""
    told = {str(name).lower(): str(value).strip() for name, value in headers.items()}
    after = told.get("retry-after", "")
    if re.fullmatch(r"\d{1,9}", after):
        return float(after)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(after).timestamp() - time.time())
    except (ValueError, TypeError, OverflowError):
        found = _LIMIT.search(told.get("ratelimit", ""))
        return float(found[1]) if found else None
