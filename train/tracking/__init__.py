"""Where metrics go besides metrics.jsonl, one file a tracker; chosen by `--track NAME`, several separated by commas.

A module has `track(out, first_step=, facts=)`, a context manager that gives a function to be called with each step's values.
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

from kinetics_sounds import plugins
from kinetics_sounds.settings import choices

NONE = "none"
"""Which asks for no tracker."""

Write = Callable[[int, Mapping[str, float]], None]
"""Takes a step and its values by name."""


class Tracker(Protocol):
    """A module of this package."""

    @staticmethod
    def track(out: Path, *, first_step: int, facts: Mapping[str, Any]) -> contextlib.AbstractContextManager[Write]:
        """Follow the run in a folder, which goes on after `first_step`; `facts` are its settings and data, without places."""
        ...


def first_told(first_step: int) -> int:
    """The first step whose values a run tells that goes on after `first_step`: a new one tells of step 0, before any update."""
    return first_step + 1 if first_step else 0


def names(text: str) -> tuple[str, ...]:
    """The trackers that a setting names; raises SettingsError for another word."""
    chosen = choices(text, [*plugins.names(__name__), NONE], option="track")
    return tuple(name for name in chosen if name != NONE)


def check(chosen: str) -> None:
    """Raise SettingsError for a tracker whose package is missing; one of them may have a `check` that says so."""
    for name in names(chosen):
        if own := getattr(plugins.load(__name__, name), "check", None):
            own()


@contextlib.contextmanager
def track(chosen: str, out: Path, *, first_step: int, facts: Mapping[str, Any]) -> Iterator[Write]:
    """All that a setting names, as one."""
    with contextlib.ExitStack() as stack:
        writes: list[Write] = [
            stack.enter_context(plugins.load(__name__, name).track(out, first_step=first_step, facts=facts))
            for name in names(chosen)
        ]

        def write(step: int, values: Mapping[str, float]) -> None:
            for each in writes:
                each(step, values)

        yield write
