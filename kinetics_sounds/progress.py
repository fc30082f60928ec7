"""Progress on standard error: a bar on a terminal, else a line every few seconds."""

import logging
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress

SECONDS_BETWEEN_LINES = 5.0

log = logging.getLogger("kinetics_sounds")


class Bar:
    """Progress of a task: counts by outcome, rate and remaining time."""

    def __init__(self, what: str, total: int, *, done: int = 0, shown: bool = True) -> None:
        """`done` of `total` items were finished by an earlier run; with `shown` false nothing is printed."""
        self._shown = shown
        self.what, self.total, self.done = what, total, done
        self.counts: Counter[str] = Counter()
        self._began, self._first, self._spoke = time.monotonic(), done, time.monotonic()
        self._rich: Progress | None = None
        if shown and sys.stderr.isatty():
            self._rich = _progress()
            self._task = self._rich.add_task(what, total=total, completed=done, note="")

    def advance(self, outcome: str = "", *, note: str = "") -> None:
        """Count one finished item with this outcome."""
        self.done += 1
        if outcome:
            self.counts[outcome] += 1
        said = note or " ".join(f"{name}={count}" for name, count in self.counts.most_common(6))
        rate = (self.done - self._first) / max(time.monotonic() - self._began, 1e-9)
        said = f"{rate:.1f}/s {said}".strip()
        if self._rich:
            self._rich.update(self._task, completed=self.done, note=said)
        elif self._shown and (time.monotonic() - self._spoke >= SECONDS_BETWEEN_LINES or self.done == self.total):
            self._spoke = time.monotonic()
            left = (self.total - self.done) / rate if rate else 0.0
            log.info("%s %d/%d %s, %s left", self.what, self.done, self.total, said, duration(left))


def duration(seconds: float) -> str:
    """Seconds as people say them: 7 s, 4 min, 1 h 02 min, 3 d 4 h."""
    minutes, hours = round(seconds / 60), round(seconds / 3600)
    if seconds < 60:
        return f"{seconds:.0f} s"
    if minutes < 60:
        return f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60:02} min" if hours < 24 else f"{hours // 24} d {hours % 24} h"


@contextmanager
def bar(what: str, total: int, *, done: int = 0, shown: bool = True) -> Iterator[Bar]:
    """A progress bar that is shown while the block runs."""
    made = Bar(what, total, done=done, shown=shown)
    if made._rich is None:
        yield made
    else:
        with made._rich:
            yield made


def _progress() -> "Progress":
    """What draws a bar on a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, TextColumn("{task.fields[note]}", markup=False), console=Console(stderr=True))
