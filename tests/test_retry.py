"""What failed for a moment is called again, after waits that grow; nothing else is."""

import logging
import time

import pytest
import stamina

from kinetics_sounds import retry, web
from kinetics_sounds.retry import Backoff

QUICK = Backoff(attempts=4, first_seconds=0.0, longest_seconds=0.0)


class Flaky:
    """Raises these errors one after another, then returns how often it was called."""

    def __init__(self, *errors: BaseException) -> None:
        self.errors = list(errors)
        self.calls = 0

    def __call__(self) -> int:
        self.calls += 1
        if self.errors:
            raise self.errors.pop(0)
        return self.calls


def is_os_error(error: Exception) -> bool:
    return isinstance(error, OSError)


@pytest.mark.parametrize("failures", [0, 1, 3])
def test_what_fails_less_often_than_it_is_called_returns(failures: int) -> None:
    act = Flaky(*[OSError()] * failures)

    assert retry.call(act, may_pass=is_os_error, backoff=QUICK) == failures + 1


@pytest.mark.parametrize("attempts", [1, 2, 4])
def test_the_last_error_is_raised_when_no_attempt_is_left(attempts: int) -> None:
    act = Flaky(*(OSError(str(number)) for number in range(1, 9)))

    with pytest.raises(OSError, match=f"^{attempts}$") as caught:
        retry.call(
            act, may_pass=is_os_error, backoff=Backoff(attempts=attempts, first_seconds=0.0, longest_seconds=0.0)
        )

    assert act.calls == attempts
    assert caught.value.__context__ is None


@pytest.mark.parametrize("before", [0, 2])
@pytest.mark.parametrize("error", [ValueError("for good"), KeyboardInterrupt()])
def test_what_will_not_pass_is_raised_at_once(before: int, error: BaseException) -> None:
    act = Flaky(*[OSError()] * before, error)

    with pytest.raises(type(error)) as caught:
        retry.call(act, may_pass=is_os_error, backoff=QUICK)

    assert caught.value is error
    assert act.calls == before + 1


def test_without_a_number_whoever_says_what_may_pass_ends_it() -> None:
    act = Flaky(*[OSError()] * 99)
    left = iter(range(50))

    with pytest.raises(OSError, match=r"^$"):
        retry.call(
            act,
            may_pass=lambda _: next(left, None) is not None,
            backoff=Backoff(attempts=None, first_seconds=0.0, longest_seconds=0.0),
        )

    assert act.calls == 51


def test_waits_grow_by_their_factor_up_to_the_longest(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr(time, "sleep", waits.append)
    backoff = Backoff(attempts=5, first_seconds=0.1, factor=10, longest_seconds=5.0)

    retry.call(Flaky(*[OSError()] * 4), may_pass=is_os_error, backoff=backoff)

    assert waits == pytest.approx([0.1, 1.0, 5.0, 5.0])


def test_jitter_is_added_and_no_wait_is_longer_than_the_longest(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr(time, "sleep", waits.append)
    backoff = Backoff(attempts=100, first_seconds=1.0, factor=1, longest_seconds=1.75, jitter_seconds=1.0)

    retry.call(Flaky(*[OSError()] * 99), may_pass=is_os_error, backoff=backoff)

    assert all(1.0 <= wait <= 1.75 for wait in waits)
    assert len(set(waits)) > 9


def test_whoever_logs_retries_learns_no_secret(caplog: pytest.LogCaptureFixture) -> None:
    told: list[str] = []
    stamina.instrumentation.set_on_retry_hooks([lambda details: told.append(repr(details))])
    try:
        retry.call(Flaky(OSError("https://me:hunter22@host/")), may_pass=is_os_error, backoff=QUICK)
    finally:
        stamina.instrumentation.set_on_retry_hooks(None)
    with caplog.at_level(logging.WARNING):
        retry.call(Flaky(OSError("https://me:hunter22@host/")), may_pass=is_os_error, backoff=QUICK)

    assert len(told) == 1
    assert "hunter22" not in told[0]
    assert caplog.records == []


@pytest.mark.parametrize(
    ("code", "passes"), [(400, False), (404, False), (408, True), (425, True), (429, True), (499, False), (503, True)]
)
def test_an_http_status_says_whether_the_same_request_may_succeed(code: int, passes: bool) -> None:
    assert web.may_pass(code) is passes
