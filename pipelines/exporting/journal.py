"""What became of each clip, a line of JSON each: written as it comes, and in the clips' order at the end."""

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
"""Bytes of a line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """What a clip became."""

    places: Mapping[str, Place]
    """Its files and folders, by their paths below the export's folder."""
    counts: Mapping[str, int]
    """What the layout's lists need to know of it."""


Known = dict[str, Made | SkippedClip]
"""What became of each clip, by its key."""


def line(key: str, made: Made | SkippedClip) -> bytes:
    """A clip's line."""
    told: dict[str, Any] = {"key": key} | asdict(made)
    return (json.dumps(told, sort_keys=True) + "\n").encode()


def read(path: Path) -> Known:
    """Every line that is whole: one that a kill tore, or that somebody changed, is as if it were not there."""
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
    """Raises ValueError, TypeError or KeyError for what is no line of ours."""
    told = _mapping(told)
    if "status" in told:
        skipped = SkippedClip(key=_text(told["key"]), status=_text(told["status"]), detail=_text(told["detail"]))
        if Status.of(skipped.status).kind is not Kind.PERMANENT:
            raise ValueError("no clip is left out for good because of that")
        return skipped.key, skipped
    places = {
        place: Place(files=_count(each["files"]), bytes=_count(each["bytes"]), sha256=_text(each["sha256"]))
        for place, each in _mapping(told["places"]).items()
    }
    counts = {name: _count(each) for name, each in _mapping(told["counts"]).items()}
    return _text(told["key"]), Made(places=places, counts=counts)


def _mapping(value: Any) -> Mapping[str, Any]:  # noqa: ANN401 - whatever JSON says
    if not isinstance(value, dict):
        raise TypeError("it is no object")
    return value


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError("it is no text")
    return value


def _count(value: object) -> int:
    if type(value) is not int or not 0 <= value < 2**63:
        raise TypeError("it is no count")
    return value


class Writer:
    """Adds lines to the journal, each on the disk before the next."""

    def __init__(self, path: Path) -> None:
        """Begin a new line where a kill tore the last one."""
        self._path = path
        self._file = path.open("ab")
        if path.stat().st_size:
            self._file.write(b"\n")

    def add(self, key: str, made: Made | SkippedClip) -> None:
        """A clip's line."""
        with files.named(self._path):
            self._file.write(line(key, made))
            self._file.flush()
            os.fsync(self._file.fileno())

    def close(self) -> None:
        """No more lines."""
        self._file.close()


def write(path: Path, rows: Iterable[tuple[str, Made | SkippedClip]]) -> None:
    """The whole journal anew, complete or not at all; left alone where it says this already."""
    data = b"".join(line(key, made) for key, made in rows)
    if not path.is_file() or path.stat().st_size != len(data) or path.read_bytes() != data:
        files.write_bytes(path, data)
