"""The outcome of every clip, kept as it comes: what makes a build resumable.

Rows are only ever added; the last one of a key is what holds. Only the driver writes (it holds `files.exclusive`), and every
row is on disk before the next clip is taken (rollback journal, full sync: the folder may be NFS, so no WAL).
"""

import dataclasses
import errno
import json
import os
import sqlite3
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from .clip import Clip, Media, Outcome, Status
from .errors import ManifestError

_SCHEMA = """
CREATE TABLE IF NOT EXISTS outcomes (
    id INTEGER PRIMARY KEY, time REAL NOT NULL, key TEXT NOT NULL, status TEXT NOT NULL,
    detail TEXT NOT NULL, source TEXT NOT NULL, tool_versions TEXT NOT NULL, media TEXT
);
CREATE INDEX IF NOT EXISTS outcomes_key ON outcomes (key);
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """The last word on a key."""

    status: Status
    detail: str
    source: str
    tool_versions: str
    media: Media | None

    def outcome(self, clip: Clip) -> Outcome:
        """The same, said of a clip."""
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return Outcome(clip=clip, **fields)


class Ledger:
    """`ledger.sqlite` of a build, open for the one driver."""

    def __init__(self, path: Path) -> None:
        """Open or create; raises ManifestError where the file is something else."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        with _told(path):
            self._database = sqlite3.connect(path)
            try:
                self._database.execute("PRAGMA synchronous = FULL")
                self._database.executescript(_SCHEMA)
            except sqlite3.DatabaseError:
                self._database.close()
                raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._database.close()

    def record(self, outcome: Outcome) -> None:
        """Append one outcome; it is on disk when this returns. Raises OSError (ENOSPC) where it does not fit there."""
        media = json.dumps(dataclasses.asdict(outcome.media)) if outcome.media else None
        row = (
            time.time(),
            outcome.clip.key,
            outcome.status.value,
            _storable(outcome.detail),
            _storable(outcome.source),
        )
        with _told(self._path), self._database:
            self._database.execute(
                "INSERT INTO outcomes (time, key, status, detail, source, tool_versions, media) VALUES (?,?,?,?,?,?,?)",
                (*row, outcome.tool_versions, media),
            )

    def latest(self) -> Mapping[str, Entry]:
        """The last entry of each key; raises ManifestError where the file is damaged or of another version."""
        with _told(self._path):
            rows = self._database.execute(
                "SELECT key, status, detail, source, tool_versions, media FROM outcomes ORDER BY id"
            )
            return {
                key: Entry(
                    status=Status.of(status),
                    detail=detail,
                    source=source,
                    tool_versions=versions,
                    media=Media(**json.loads(media)) if media else None,
                )
                for key, status, detail, source, versions, media in rows
            }


def _storable(text: str) -> str:
    """The text, with `?` for what a path that is not UTF-8 brought into it."""
    return text.encode(errors="replace").decode()


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """What SQLite and a foreign row complain of, in the user's words."""
    try:
        yield
    except (sqlite3.DatabaseError, TypeError, ValueError) as error:
        if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path)) from error
        raise ManifestError(f"{path}: is no ledger, or damaged ({error}); move it away to begin anew") from error
