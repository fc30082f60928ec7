"""The shipped recipes as ks-train reads them. Reading one takes a tenth of a second, so each is read once in a process."""

import functools
from typing import Any

from kinetics_sounds.settings import Parsed
from kinetics_sounds.train.config import recipes
from kinetics_sounds.train.config.settings import read_settings


@functools.cache
def read(name: str) -> Parsed[Any]:
    """The settings of `ks-train --config NAME`."""
    parsed: Parsed[Any] = read_settings(["--config", name])
    return parsed


@functools.cache
def flat(name: str) -> dict[str, Any]:
    """All of them by option name; not to be changed."""
    found: dict[str, Any] = recipes.flat(read(name).values)
    return found
