"""Call again what failed for a moment: the only door to stamina."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")

logging.getLogger("stamina").setLevel(logging.ERROR)  # its own words name neither what nor where


@dataclass(frozen=True, slots=True, kw_only=True)
class Backoff:
    """How often something is called, and the waits between: exponentially growing, with jitter."""

    attempts: int | None
    """Calls in all; None: whether there is another is up to who says what may pass."""
    first_seconds: float
    factor: float = 2.0
    longest_seconds: float
    jitter_seconds: float = 0.0
    """Up to so much is added to each wait, which still is no longer than the longest."""


def call(act: Callable[[], T], *, may_pass: Callable[[Exception], bool], backoff: Backoff) -> T:
    """What `act` returns, called with retry and exponential backoff on the errors that `may_pass`.

    Raises the error of the last call.
    """
    try:
        return act()  # mostly that is all, at the cost of nothing
    except Exception as error:
        if not may_pass(error):
            raise
        failed = error
    import stamina

    try:
        for attempt in stamina.retry_context(
            on=_AgainError,
            attempts=backoff.attempts,
            timeout=None,
            wait_initial=backoff.first_seconds,
            wait_max=backoff.longest_seconds,
            wait_jitter=backoff.jitter_seconds,
            wait_exp_base=backoff.factor,
        ):
            with attempt:
                if attempt.num == 1:  # it was made
                    raise _AgainError
                try:
                    return act()
                except Exception as error:
                    failed = error
                    if not may_pass(error):
                        raise
                raise _AgainError
    except _AgainError:
        pass  # no attempt is left
    try:
        raise failed
    finally:
        del failed  # which holds this frame


class _AgainError(Exception):
    """All that stamina learns of an error: what it tells to whoever logs retries has no secret of an address."""
