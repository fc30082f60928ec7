"""Whoever watches sees how far it is: a drawn bar on a terminal, plain lines elsewhere."""

import io
import logging
import sys

import pytest

from kinetics_sounds import progress


class Terminal(io.StringIO):
    """A standard error that a person looks at."""

    def isatty(self) -> bool:
        return True


class Clock:
    """Seconds that pass only when told to."""

    now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(progress, "time", made)
    return made


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    caplog.set_level(logging.INFO, logger="kinetics_sounds")
    return caplog.messages


def test_elsewhere_a_line_comes_every_five_seconds_and_at_the_end(
    clock: Clock, lines: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    with progress.bar("ks-build", 12) as bar:
        for number in range(12):
            clock.now += 1
            bar.advance("ok" if number % 3 else "private")

    assert caplog.messages == [
        "ks-build 5/12 1.0/s ok=3 private=2, 7 s left",
        "ks-build 10/12 1.0/s ok=6 private=4, 2 s left",
        "ks-build 12/12 1.0/s ok=8 private=4, 0 s left",
    ]


def test_what_an_earlier_run_did_counts_as_done_but_not_for_the_rate(
    clock: Clock, lines: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    with progress.bar("ks-build", 1000, done=980) as bar:
        for _ in range(10):
            clock.now += 0.5
            bar.advance("ok")

    assert caplog.messages == ["ks-build 990/1000 2.0/s ok=10, 5 s left"]


def test_a_note_takes_the_place_of_the_counts(clock: Clock, lines: list[str], caplog: pytest.LogCaptureFixture) -> None:
    with progress.bar("ks-train", 1) as bar:
        clock.now += 2
        bar.advance(note="loss 1.25")

    assert caplog.messages == ["ks-train 1/1 0.5/s loss 1.25, 0 s left"]


def test_the_six_most_frequent_outcomes_are_shown(
    clock: Clock, lines: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    with progress.bar("x", 28) as bar:
        for number in range(1, 8):
            for _ in range(number):
                bar.advance(f"s{number}")

    assert " s7=7 s6=6 s5=5 s4=4 s3=3 s2=2, " in caplog.messages[-1]


@pytest.mark.parametrize(("total", "done"), [(0, 0), (5, 5)])
def test_nothing_to_do_is_no_error(total: int, done: int, lines: list[str]) -> None:
    with progress.bar("x", total, done=done) as bar:
        assert (bar.done, bar.total) == (done, total)


def test_a_clock_that_stands_still_divides_by_nothing(clock: Clock, lines: list[str]) -> None:
    with progress.bar("x", 1) as bar:
        bar.advance("ok")


def test_on_a_terminal_a_bar_is_drawn_and_no_line_logged(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="kinetics_sounds")
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "200")

    with progress.bar("ks-build", 2) as bar:
        bar.advance("ok")
        bar.advance("private", note="odd [/words] of a note")

    assert "ks-build" in terminal.getvalue()
    assert "2/2" in terminal.getvalue()
    assert "odd [/words] of a note" in terminal.getvalue()
    assert caplog.messages == []


def test_a_terminal_is_given_back_after_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")

    with pytest.raises(ValueError, match="x"), progress.bar("ks-build", 2):
        raise ValueError("x")

    assert terminal.getvalue().endswith("\x1b[?25h")  # the cursor is shown again


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0, "0 s"), (59, "59 s"), (90, "2 min"), (3_600, "1 h 00 min"), (3_720, "1 h 02 min"), (273_600, "3 d 4 h")],
)
def test_seconds_are_said_as_people_say_them(seconds: float, said: str) -> None:
    assert progress.duration(seconds) == said
