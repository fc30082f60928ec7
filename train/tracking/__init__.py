"""Metric trackers besides metrics.jsonl, one module each; chosen by `--track`, several separated by commas.

A module has `track(out, first_step=, facts=)`, a context manager that returns a function to call with each step's values.
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

from kinetics_sounds import plugins
from kinetics_sounds.settings import choices

NONE = "none"
"""Name that selects no tracker."""

Write = Callable[[int, Mapping[str, float]], None]
"""Function that takes a step and its values by name."""


class Tracker(Protocol):
    """Interface of a module of this package."""

    @staticmethod
    def track(out: Path, *, first_step: int, facts: Mapping[str, Any]) -> contextlib.AbstractContextManager[Write]:
        """Track the run in folder `out`, resumed after `first_step`; `facts` are its settings and data, without paths."""
        ...


def first_logged(first_step: int) -> int:
    """First step logged by a run resumed after `first_step`; a new run also logs step 0, before training."""
    return first_step + 1 if first_step else 0


def names(text: str) -> tuple[str, ...]:
    """Parse `--track`; raise SettingsError for an unknown tracker."""
    chosen = choices(text, [*plugins.names(__name__), NONE], option="track")
    return tuple(name for name in chosen if name != NONE)


def check(chosen: str) -> None:
    """Raise SettingsError if the package of a tracker is missing."""
    for name in names(chosen):
        if own := getattr(plugins.load(__name__, name), "check", None):
            own()


@contextlib.contextmanager
def track(chosen: str, out: Path, *, first_step: int, facts: Mapping[str, Any]) -> Iterator[Write]:
    """Combine all selected trackers into one."""
    with contextlib.ExitStack() as stack:
        writes: list[Write] = [
            stack.enter_context(plugins.load(__name__, name).track(out, first_step=first_step, facts=facts))
            for name in names(chosen)
        ]

        def write(step: int, values: Mapping[str, float]) -> None:
            for each in writes:
                each(step, values)

        yield write
