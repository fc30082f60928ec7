"""What an error of some library's says of a server's answer: its HTTP status, and the wait that it asks for."""

import email.utils
import logging
import re
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

MOST_SECONDS = 900.0
"""A server that asks for a longer wait is not waited for."""

log = logging.getLogger("kinetics_sounds")
_LIMIT = re.compile(r";\s*r\s*=\s*0\s*;\s*t\s*=\s*(\d{1,9})")
"""Of a header `ratelimit: "api";r=0;t=55`: nothing is left for so many seconds."""


def causes(error: BaseException) -> Iterator[BaseException]:
    """An error, and what it came from."""
    seen: list[BaseException] = []
    following: BaseException | None = error
    while following is not None and following not in seen:
        seen.append(following)
        yield following
        following = following.__cause__


def status(error: BaseException) -> int | None:
    """HTTP's status, where that is why: libraries say it as `status`, or as `response.status_code`."""
    for each in causes(error):
        for value in (getattr(each, "status", None), getattr(getattr(each, "response", None), "status_code", None)):
            if isinstance(value, int):
                return value
    return None


def waited(error: BaseException, *, stop: Callable[[], bool] = lambda: False) -> bool:
    """Wait as long as the answer asks (not at all where it does not), or until `stop()`.

    False, at once, where it asks for more than `MOST_SECONDS`.
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
    """Of the answer: libraries have them as `headers`, as aiohttp does, or as `response.headers`."""
    for found in (getattr(error, "headers", None), getattr(getattr(error, "response", None), "headers", None)):
        if isinstance(found, Mapping):
            return found
    return {}


def _seconds(headers: Mapping[str, Any]) -> float | None:
    """The wait that headers ask for, by `Retry-After` (seconds or a date) or by a limit's own."""
    told = {str(name).lower(): str(value).strip() for name, value in headers.items()}
    after = told.get("retry-after", "")
    if re.fullmatch(r"\d{1,9}", after):
        return float(after)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(after).timestamp() - time.time())
    except (ValueError, TypeError, OverflowError):
        found = _LIMIT.search(told.get("ratelimit", ""))
        return float(found[1]) if found else None
