"""Cache of comparisons between a build and published clips, in the build's folder."""

import hashlib
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, get_args

from kinetics_sounds import files
from kinetics_sounds.media import likeness
from kinetics_sounds.progress import log

Kind = Literal["same", "alike", "different", "unknown"]
"""Same: equal bytes. Alike, different: by perceptual hashes. Unknown: cannot be determined."""
Verdict = str
"""A kind; `different: ` is followed by the parts that differ, such as `sound, motion`."""

FILE = "compared.json"
MAX_BYTES = 1 << 28
"""Maximum size of the file in bytes; a verdict takes less than 100."""
SECONDS = 30.0
"""Seconds between writes of the file during a comparison."""
SCHEMA = 1
_BOUNDS = {name: value for name, value in vars(likeness).items() if name.startswith(("MOST_", "LEAST_"))}
"""Thresholds of the comparison: verdicts with other thresholds are invalid."""


def kind_of(verdict: Verdict) -> str:
    """Kind of a verdict."""
    return verdict.partition(":")[0]


def name_of(told: Sequence[str], sha256: str) -> str:
    """Cache key: what was published of the clip, and the local bytes."""
    return hashlib.sha256("\n".join((sha256, *map(repr, told))).encode()).hexdigest()


class Kept:
    """Verdicts of earlier runs and of this one; for the process that has locked the folder."""

    def __init__(self, folder: Path) -> None:
        """Load the file; damaged or outdated contents are ignored."""
        self.path = folder / FILE
        self._found = _read(self.path)
        self._used: set[str] = set()
        self._new = False
        self._written = time.monotonic()

    def get(self, name: str) -> Verdict | None:
        """A cached verdict."""
        self._used.add(name)
        return self._found.get(name)

    def put(self, name: str, found: Verdict) -> None:
        """Add a verdict; the file is written now and then."""
        self._found[name] = found
        self._new = True
        if time.monotonic() - self._written > SECONDS:
            self.save()

    def forget_others(self) -> None:
        """Drop verdicts that were not requested; call after all clips."""
        others = set(self._found) - self._used
        self._new = self._new or bool(others)
        for name in others:
            del self._found[name]

    def save(self) -> None:
        """Write the verdicts atomically, unless unchanged."""
        if self._new:
            document = {"schema": SCHEMA, "bounds": _BOUNDS, "verdicts": dict(sorted(self._found.items()))}
            files.write_bytes(self.path, json.dumps(document, indent=0).encode())
            self._new = False
        self._written = time.monotonic()


def _read(path: Path) -> dict[str, Verdict]:
    try:
        document = files.read_json(path, most_bytes=MAX_BYTES)
    except FileNotFoundError:
        return {}
    except ValueError as error:
        log.warning("%s: cannot be read (%s): clips are compared again", path, error)
        return {}
    if not isinstance(document, dict) or (document.get("schema"), document.get("bounds")) != (SCHEMA, _BOUNDS):
        return {}
    verdicts = document.get("verdicts")
    if not isinstance(verdicts, dict):
        return {}
    known = get_args(Kind)
    return {name: found for name, found in verdicts.items() if isinstance(found, str) and kind_of(found) in known}
