"""What servers answer: the status, wherever a library puts it, and the wait that is asked for."""

import email.utils
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import aiohttp
import hypothesis
import hypothesis.strategies as st
import pytest
import yarl
from multidict import CIMultiDict, CIMultiDictProxy

from kinetics_sounds import answers


class AnswerError(Exception):
    """As libraries have it."""

    def __init__(self, code: int, **headers: str) -> None:
        super().__init__("an answer")
        self.response = SimpleNamespace(status_code=code, headers={k.replace("_", "-"): v for k, v in headers.items()})


def http_error(code: int, **headers: str) -> Exception:
    """As fsspec gets it over http(s)."""
    address = yarl.URL("https://example.org/x")
    asked = aiohttp.RequestInfo(address, "GET", CIMultiDictProxy(CIMultiDict()), address)
    told = CIMultiDict({name.replace("_", "-"): value for name, value in headers.items()})
    return aiohttp.ClientResponseError(asked, (), status=code, headers=told)


def caused(error: Exception) -> Exception:
    outer = RuntimeError("while uploading")
    outer.__cause__ = error
    return outer


def test_the_status_is_found_wherever_it_stands() -> None:
    plain = OSError("no answer")
    assert answers.status(plain) is None
    assert answers.status(AnswerError(403)) == 403
    assert answers.status(caused(caused(AnswerError(429)))) == 429
    plain.status = 404  # type: ignore[attr-defined]
    assert answers.status(caused(plain)) == 404
    assert answers.status(caused(http_error(429))) == 429


def test_an_error_that_came_from_itself_has_an_end() -> None:
    one = RuntimeError("one")
    one.__cause__ = caused(one)

    assert answers.status(one) is None


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What was waited for, by a clock that takes no time."""
    waits: list[float] = []
    clock = SimpleNamespace(monotonic=lambda: sum(waits), sleep=waits.append, time=time.time)
    monkeypatch.setattr(answers, "time", clock)
    return waits


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Retry_After": "3"}, 3),
        ({"retry_after": "0"}, 0),
        ({"ratelimit": '"api";r=0;t=5'}, 5),
        ({"ratelimit": '"api";r=7;t=5'}, 0),
        ({"Retry_After": "soon"}, 0),
        ({"Retry_After": "-1"}, 0),
        ({}, 0),
    ],
)
@pytest.mark.parametrize("made", [AnswerError, http_error])
def test_the_wait_is_what_the_answer_asks_for(
    slept: list[float], made: Callable[..., Exception], headers: dict[str, str], seconds: float
) -> None:
    assert answers.waited(caused(made(429, **headers)))
    assert sum(slept) == pytest.approx(seconds)


def test_a_date_is_waited_for(slept: list[float]) -> None:
    assert answers.waited(AnswerError(503, Retry_After=email.utils.formatdate(time.time() + 10)))
    assert 8 < sum(slept) <= 10


def test_a_longer_wait_than_our_patience_is_none(slept: list[float]) -> None:
    assert not answers.waited(AnswerError(429, Retry_After="901"))
    assert slept == []


def test_a_wait_ends_when_it_is_asked_to(slept: list[float]) -> None:
    assert answers.waited(AnswerError(429, Retry_After="600"), stop=lambda: len(slept) == 2)
    assert sum(slept) == 1


@hypothesis.given(st.dictionaries(st.sampled_from(["Retry_After", "ratelimit"]), st.text()))
def test_no_header_is_an_error(headers: dict[str, Any]) -> None:
    found = answers._seconds(AnswerError(429, **headers).response.headers)

    assert found is None or found >= 0
