"""The ledger: every reply of every source for every clip, which makes a build resumable.

Rows are only appended; the last row of a clip and a source is that source's current reply. Only the driver writes (it holds
`files.exclusive`), and recorded rows are on disk before it continues (rollback journal with full sync: the folder may be on NFS,
so no WAL).
"""

import dataclasses
import json
import os
import re
import socket
import sqlite3
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from . import files
from .address import Address
from .clip import Clip, Kind, Media, Outcome, Status, Verdict
from .errors import ManifestError
from .sqlite_errors import sqlite_errors

_SCHEMA = """
CREATE TABLE IF NOT EXISTS outcomes (
    id INTEGER PRIMARY KEY, time REAL NOT NULL, key TEXT NOT NULL, status TEXT NOT NULL,
    detail TEXT NOT NULL, source TEXT NOT NULL, tool_versions TEXT NOT NULL, media TEXT, provisional TEXT
);
CREATE INDEX IF NOT EXISTS outcomes_word ON outcomes (key, source);
DROP INDEX IF EXISTS outcomes_key;
CREATE TABLE IF NOT EXISTS parts (
    source TEXT NOT NULL, name TEXT NOT NULL, time REAL NOT NULL, status TEXT NOT NULL, detail TEXT NOT NULL,
    keys TEXT NOT NULL, PRIMARY KEY (source, name)
);
CREATE TABLE IF NOT EXISTS coverages (after INTEGER NOT NULL, min_coverage REAL NOT NULL);
CREATE TABLE IF NOT EXISTS runs (
    id INTEGER PRIMARY KEY, time REAL NOT NULL, clips INTEGER NOT NULL, host TEXT NOT NULL, process INTEGER NOT NULL
);
"""
PAGE = 5000
"""Number of keys read at a time."""
BUSY_SECONDS = 600.0
"""Seconds to wait for another process that has the file open, such as a dry run on a slow disk."""
_WORD = "SELECT key, status, detail, source, tool_versions, media, provisional, MAX(id) FROM outcomes"
_OLD_DOUBT = "; a sound copy may lie in an archive that was not read to its end: "
"""Marker in the details of a ledger without the column `provisional`; it was preceded by `STATUS: DETAIL`."""
_KEYS = "SELECT DISTINCT key FROM outcomes WHERE key > ? ORDER BY key LIMIT ?"
_LAST_KEY = "SELECT MAX(key) FROM (SELECT DISTINCT key FROM outcomes WHERE key > ? ORDER BY key LIMIT ?)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """Last reply of a source for a key."""

    number: int
    """Row number; later replies have larger ones."""
    key: str
    status: Status
    detail: str
    source: str
    tool_versions: str
    media: Media | None
    provisional: Verdict | None

    def outcome(self, clip: Clip) -> Outcome:
        """Convert the entry to an outcome of its clip."""
        own = [field.name for field in dataclasses.fields(self) if field.name not in ("number", "key")]
        return Outcome(clip=clip, **{name: getattr(self, name) for name in own})


@dataclass(frozen=True, slots=True, kw_only=True)
class PartEntry:
    """Contents of an archive that was read."""

    status: Status
    """Ok if it was read to its end."""
    detail: str
    names: frozenset[str]
    """Names of all clips' files in it, requested or not: paths without extension, of which only the end may be kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunEntry:
    """A run of the build, recorded as it started."""

    time: float
    """When it started, in seconds since the epoch."""
    clips: int
    """Number of clips that it was to build, existing ones included."""
    host: str
    process: int
    """Its process ID on that host."""


class Ledger:
    """The file `ledger.sqlite` of a build, opened by its driver."""

    def __init__(self, path: Path, *, only_read: bool = False) -> None:
        """Open or create the ledger; raises ManifestError if the file is something else.

        `only_read`: open beside a driver that writes.

        An older ledger without the column `provisional` is migrated, unless it is only read.
        """
        self._path, self._only_read = path, only_read
        if not only_read:
            files.make_folder(path.parent)
        with sqlite_errors(path):
            address = f"{path.absolute().as_uri()}?mode={'ro' if only_read else 'rwc'}"
            self._database = sqlite3.connect(address, uri=True, timeout=BUSY_SECONDS)
            try:
                self._database.execute("PRAGMA synchronous = EXTRA")
                if not only_read:
                    self._database.executescript(_SCHEMA)
                    _migrate(self._database)
                self._word = _WORD if _is_new(self._database) else _WORD.replace("provisional", "NULL")
            except BaseException:
                self._database.close()
                raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._database.close()

    def record(self, outcomes: Iterable[Outcome]) -> None:
        """Append outcomes, all or none; they are on disk when this returns. Does nothing for an empty list.

        Raises OSError if the disk is full (ENOSPC) or fails (EIO).
        """
        now = time.time()
        rows = [
            (
                now,
                outcome.clip.key,
                outcome.status.value,
                _storable(outcome.detail),
                name_of(outcome.source),
                outcome.tool_versions,
                json.dumps(dataclasses.asdict(outcome.media)) if outcome.media else None,
                json.dumps(dataclasses.asdict(outcome.provisional)) if outcome.provisional else None,
            )
            for outcome in outcomes
        ]
        if not rows:
            return
        if self._only_read:
            raise ManifestError(f"{self._path}: is open read-only")
        with sqlite_errors(self._path), self._database:
            self._database.executemany(
                "INSERT INTO outcomes (time, key, status, detail, source, tool_versions, media, provisional) "
                "VALUES (?,?,?,?,?,?,?,?)",
                rows,
            )

    def record_run(self, clips: int, *, min_coverage: float) -> None:
        """Record that this process starts to build so many clips, and judges them by this coverage from here on."""
        row = (time.time(), clips, socket.gethostname(), os.getpid())
        with sqlite_errors(self._path), self._database:
            self._database.execute("INSERT INTO runs (time, clips, host, process) VALUES (?,?,?,?)", row)
            self._database.execute(
                "INSERT INTO coverages SELECT COALESCE(MAX(id), 0), ? FROM outcomes", (min_coverage,)
            )

    def coverages(self) -> list[tuple[int, float]]:
        """Each `--min_coverage` that runs judged by, with the row number after which it holds, in order; earlier: unknown."""
        with sqlite_errors(self._path):
            return self._database.execute("SELECT after, min_coverage FROM coverages ORDER BY rowid").fetchall()

    def last_run(self) -> RunEntry | None:
        """The run that started last; None for a ledger made before 0.2.0."""
        with sqlite_errors(self._path):
            if not self._database.execute("SELECT 1 FROM sqlite_master WHERE name = 'runs'").fetchall():
                return None
            row = self._database.execute(
                "SELECT time, clips, host, process FROM runs ORDER BY id DESC LIMIT 1"
            ).fetchone()
            return None if row is None else RunEntry(time=row[0], clips=row[1], host=row[2], process=row[3])

    def last_times(self, most: int, *, since: float) -> list[float]:
        """Times of the last replies since then, in seconds since the epoch, at most so many; newest first."""
        with sqlite_errors(self._path):
            rows = self._database.execute("SELECT time FROM outcomes ORDER BY id DESC LIMIT ?", (most,)).fetchall()
            return [row[0] for row in rows if row[0] >= since]

    def latest(self, *, of_files: bool = False) -> Iterator[Entry]:
        """Last entry of each key and source, ordered by key; raises ManifestError if the file is damaged.

        `of_files`: the last entry that has a file, whatever was recorded since.
        """
        only = "media IS NOT NULL AND" if of_files else ""
        last = ""
        while True:  # a page at a time: whoever reads slowly does not keep the driver from writing
            with sqlite_errors(self._path):
                page = self._database.execute(
                    f"{self._word} WHERE {only} key IN ({_KEYS}) GROUP BY key, source", (last, PAGE)
                )
                entries = [_entry(row) for row in page.fetchall()]
                last = self._database.execute(_LAST_KEY, (last, PAGE)).fetchone()[0]
            yield from entries
            if last is None:
                return

    def of(self, key: str) -> list[Entry]:
        """Last entry of each source for a key."""
        with sqlite_errors(self._path):
            rows = self._database.execute(f"{self._word} WHERE key = ? GROUP BY source", (key,))
            return [_entry(row) for row in rows]

    def sources(self) -> list[str]:
        """Names of all sources that were asked, in the order of their first replies."""
        with sqlite_errors(self._path):
            if not self._database.execute("SELECT 1 FROM sqlite_master WHERE name = 'outcomes'").fetchall():
                return []
            rows = self._database.execute("SELECT source FROM outcomes GROUP BY source ORDER BY MIN(id)")
            return [name for (name,) in rows]

    def outcome(self, clip: Clip, sources: Sequence[Address | str], *, kept: str | None) -> Outcome:
        """Outcome of a clip from the entries of all its sources: the file that one provided, else why there is none.

        Without a file, this is the reply of the last source in the order of `sources` that knew the clip. `kept`: the source
        whose file still exists; an ok reply of any other source no longer counts.
        """
        entries = [entry for entry in self.of(clip.key) if entry.media is None or entry.source == kept]
        if not entries:
            return Outcome(clip=clip, status=Status.NOT_TRIED)
        order = {name_of(source): place for place, source in enumerate(sources)}

        def weight(entry: Entry) -> tuple[bool, bool, int, int]:
            had = entry.status is not Status.NOT_IN_SOURCE
            return entry.status.kind is Kind.OK, had, order.get(entry.source, -1), entry.number

        best = max(entries, key=weight)
        outcome = best.outcome(clip)
        others = [each for each in entries if each is not best and each.status is not Status.NOT_IN_SOURCE]
        if outcome.media is not None or not others:
            return outcome
        told = ", ".join(f"{each.source}: {each.status}" for each in sorted(others, key=weight))
        return dataclasses.replace(outcome, detail=f"{outcome.detail} (before: {told})")

    def record_part(self, source: Address | str, name: str, part: PartEntry) -> None:
        """Record the contents of an archive, replacing earlier ones."""
        row = (
            name_of(source),
            name,
            time.time(),
            part.status.value,
            _storable(part.detail),
            "\n".join(sorted(part.names)),
        )
        with sqlite_errors(self._path), self._database:
            self._database.execute("INSERT OR REPLACE INTO parts VALUES (?,?,?,?,?,?)", row)

    def parts(self, source: Address | str) -> dict[str, PartEntry]:
        """Archives of a source that were read, by name."""
        with sqlite_errors(self._path):
            rows = self._database.execute(
                "SELECT name, status, detail, keys FROM parts WHERE source = ?", (name_of(source),)
            )
            return {
                name: PartEntry(
                    status=Status.of(status), detail=detail, names=frozenset(names.split("\n") if names else ())
                )
                for name, status, detail, names in rows
            }


def _is_new(database: sqlite3.Connection) -> bool:
    """Whether the database has the column `provisional`."""
    return bool(database.execute("SELECT 1 FROM pragma_table_info('outcomes') WHERE name = 'provisional'").fetchall())


def _migrate(database: sqlite3.Connection) -> None:
    """Add the column `provisional` to an older ledger and fill it from the details, in one transaction."""
    if _is_new(database):
        return
    kinds = "|".join(status.value for status in Status if status.kind is Kind.PERMANENT)
    said = re.compile(rf"({kinds}): (.*?){re.escape(_OLD_DOUBT)}.*", re.DOTALL)
    with database:
        database.execute("BEGIN IMMEDIATE")
        database.execute("ALTER TABLE outcomes ADD COLUMN provisional TEXT")
        rows = database.execute("SELECT id, detail FROM outcomes WHERE instr(detail, ?)", (_OLD_DOUBT,)).fetchall()
        found = ((number, said.fullmatch(detail)) for number, detail in rows)
        told = [(json.dumps({"status": word[1], "detail": word[2]}), number) for number, word in found if word]
        database.executemany("UPDATE outcomes SET provisional = ? WHERE id = ?", told)


def _entry(row: tuple[str, str, str, str, str, str | None, str | None, int]) -> Entry:
    key, status, detail, source, versions, media, provisional, number = row
    verdict = json.loads(provisional) if provisional else None
    return Entry(
        number=number,
        key=key,
        status=Status.of(status),
        detail=detail,
        source=source,
        tool_versions=versions,
        media=Media(**json.loads(media)) if media else None,
        provisional=Verdict(status=Status.of(verdict["status"]), detail=verdict["detail"]) if verdict else None,
    )


def name_of(source: Address | str) -> str:
    """Name of a source in the ledger, the manifest and the log: its `--source` text without secrets.

    Archives are other ones with another query, so a hash of it follows.
    """
    address = Address(source)
    told = f" ({address.query_digest})" if address.query_digest and str(address).startswith("archives:") else ""
    return _storable(str(address)) + told


def _storable(text: str) -> str:
    """Text with `?` in place of bytes of a path that is not UTF-8."""
    return text.encode(errors="replace").decode()
