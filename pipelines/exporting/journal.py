"""Journal of exported clips, one line of JSON each: appended during the export, sorted at its end."""

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from kinetics_sounds import files
from kinetics_sounds.clip import Kind, Status
from kinetics_sounds.shards.index import SkippedClip

from .placing import Place

NAME = "export.jsonl"
MOST_LINE = 1 << 20
"""Maximum length of a line in bytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """Record of an exported clip."""

    places: Mapping[str, Place]
    """Its files and folders, by path relative to the export's folder."""
    counts: Mapping[str, int]
    """Numbers needed by the layout's lists."""


Known = dict[str, Made | SkippedClip]
"""Record of each clip, by key."""


def line(key: str, made: Made | SkippedClip) -> bytes:
    """Line of a clip."""
    told: dict[str, Any] = {"key": key} | asdict(made)
    return (json.dumps(told, sort_keys=True) + "\n").encode()


def read(path: Path) -> Known:
    """All valid lines: truncated or changed ones are ignored."""
    known: Known = {}
    if not path.is_file():
        return known
    with path.open("rb") as lines:
        while text := lines.readline(MOST_LINE):
            try:
                key, made = _parsed(json.loads(text))
            except (ValueError, TypeError, KeyError, RecursionError):
                continue
            known[key] = made
    return known


def _parsed(told: Any) -> tuple[str, Made | SkippedClip]:  # noqa: ANN401 - whatever JSON says
    """Parse a line; raises ValueError, TypeError or KeyError if it is not one of ours."""
    told = _mapping(told)
    if "status" in told:
        skipped = SkippedClip(key=_text(told["key"]), status=_text(told["status"]), detail=_text(told["detail"]))
        if Status.of(skipped.status).kind is not Kind.PERMANENT:
            raise ValueError("that is not a permanent failure")
        return skipped.key, skipped
    places = {
        place: Place(files=_count(each["files"]), bytes=_count(each["bytes"]), sha256=_text(each["sha256"]))
        for place, each in _mapping(told["places"]).items()
    }
    counts = {name: _count(each) for name, each in _mapping(told["counts"]).items()}
    return _text(told["key"]), Made(places=places, counts=counts)


def _mapping(value: Any) -> Mapping[str, Any]:  # noqa: ANN401 - whatever JSON says
    if not isinstance(value, dict):
        raise TypeError("it is not an object")
    return value


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError("it is not a text")
    return value


def _count(value: object) -> int:
    if type(value) is not int or not 0 <= value < 2**63:
        raise TypeError("it is not a count")
    return value


class Writer:
    """Appends lines to the journal, each synced to disk."""

    def __init__(self, path: Path) -> None:
        """Start on a new line, if a kill truncated the last one."""
        self._path = path
        self._file = path.open("ab")
        if path.stat().st_size:
            self._file.write(b"\n")

    def add(self, key: str, made: Made | SkippedClip) -> None:
        """Append a clip's line."""
        with files.named(self._path):
            self._file.write(line(key, made))
            self._file.flush()
            os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def write(path: Path, rows: Iterable[tuple[str, Made | SkippedClip]]) -> None:
    """Rewrite the whole journal atomically, unless it is unchanged."""
    data = b"".join(line(key, made) for key, made in rows)
    if not path.is_file() or path.stat().st_size != len(data) or path.read_bytes() != data:
        files.write_bytes(path, data)
