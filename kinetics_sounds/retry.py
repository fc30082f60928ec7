"""Retry of transient failures; only this module imports stamina."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")

logging.getLogger("stamina").setLevel(logging.ERROR)  # its own words name neither what nor where


@dataclass(frozen=True, slots=True, kw_only=True)
class Backoff:
    """Number of attempts, and the waits between them: exponential, with jitter."""

    attempts: int | None
    """Maximum number of calls; None: no limit, `may_pass` decides."""
    first_seconds: float
    factor: float = 2.0
    longest_seconds: float
    jitter_seconds: float = 0.0
    """Maximum random addition to each wait, within the longest wait."""


def call(act: Callable[[], T], *, may_pass: Callable[[Exception], bool], backoff: Backoff) -> T:
    """Call `act` with retry and exponential backoff on errors for which `may_pass` is true.

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
    """Error passed to stamina in place of the original: its text is logged, and contains no secret."""
