"""What earlier comparisons of a build with published clips found, kept in its folder: nothing is decoded twice for it."""

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
"""Same: the very bytes. Alike, different: by what is seen and heard. Unknown: that cannot be told."""
Verdict = str
"""A kind; behind `different: ` what differs, as `sound, motion`."""

FILE = "compared.json"
MAX_BYTES = 1 << 28
"""Of the file; a verdict takes less than 100 bytes."""
SECONDS = 30.0
"""Between two writings of it while clips are compared."""
SCHEMA = 1
_BOUNDS = {name: value for name, value in vars(likeness).items() if name.startswith(("MOST_", "LEAST_"))}
"""By which clips are judged: verdicts by others do not hold."""


def kind_of(verdict: Verdict) -> str:
    """The kind of a verdict."""
    return verdict.partition(":")[0]


def name_of(told: Sequence[str], sha256: str) -> str:
    """What a verdict is kept under: what was published of the clip, and the bytes that lie here."""
    return hashlib.sha256("\n".join((sha256, *map(repr, told))).encode()).hexdigest()


class Kept:
    """The verdicts of earlier runs, and of this one; for the process that holds the folder."""

    def __init__(self, folder: Path) -> None:
        """Read what is there; what is damaged, or was judged by other bounds, is as if it were not there."""
        self.path = folder / FILE
        self._found = _read(self.path)
        self._used: set[str] = set()
        self._new = False
        self._written = time.monotonic()

    def get(self, name: str) -> Verdict | None:
        """What was found earlier."""
        self._used.add(name)
        return self._found.get(name)

    def put(self, name: str, found: Verdict) -> None:
        """Keep a verdict; now and then all are written."""
        self._found[name] = found
        self._new = True
        if time.monotonic() - self._written > SECONDS:
            self.save()

    def forget_others(self) -> None:
        """Leave out what nobody asked for: once all clips have been."""
        others = set(self._found) - self._used
        self._new = self._new or bool(others)
        for name in others:
            del self._found[name]

    def save(self) -> None:
        """Write the verdicts, complete or not at all, unless there is nothing new."""
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
        log.warning("%s: cannot be read (%s): clips are compared anew", path, error)
        return {}
    if not isinstance(document, dict) or (document.get("schema"), document.get("bounds")) != (SCHEMA, _BOUNDS):
        return {}
    verdicts = document.get("verdicts")
    if not isinstance(verdicts, dict):
        return {}
    known = get_args(Kind)
    return {name: found for name, found in verdicts.items() if isinstance(found, str) and kind_of(found) in known}
