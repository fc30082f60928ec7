"""What became of a clip is on disk when `record` returns, and the last word on a key holds."""

import contextlib
import dataclasses
import errno
import os
import re
import resource
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from kinetics_sounds.address import Address
from kinetics_sounds.clip import Clip, Media, Outcome, Status, Verdict
from kinetics_sounds.errors import ManifestError
from kinetics_sounds.ledger import Ledger, PartEntry, name_of
from kinetics_sounds.manifest import ADDED
from kinetics_sounds.sqlite_errors import sqlite_errors

from .canaries import WORD

CLIP = Clip("-5JzkrOVhPO", 27, 37, "bowling", "val")
MEDIA = Media(
    path="clips/bowling/-5JzkrOVhPO_000027_000037.mp4",
    bytes=2**40,
    sha256="ab" * 32,
    duration_seconds=9.976633333333334,
    fps=30000 / 1001,
    width=340,
    height=256,
    num_frames=299,
    audio_rate=44_100,
    audio_channels=2,
    audio_rms_db=-21.123456789,
    audio_offset_seconds=0.013,
    silent=False,
    still=True,
    other_streams="1 video, 2 audio",
    rotation=90,
    decode_errors=3,
    audio_channel="left",
    origin="part_0/-5JzkrOVhPO_000027_000037.mp4",
    format_ids="136+140",
    audio_language="en",
    audio_track="original",
)
OK = Outcome(
    clip=CLIP, status=Status.OK, detail="", source="local:/a", media=MEDIA, tool_versions="ffmpeg n9.0.2; av 18"
)
GONE = Outcome(clip=CLIP, status=Status.PRIVATE, detail="Private video\n'\"; DROP TABLE outcomes; --", source="youtube")


def told(path: Path, *outcomes: Outcome) -> dict[str, Outcome]:
    """What a ledger says after these were recorded and it was opened anew."""
    with Ledger(path) as ledger:
        for outcome in outcomes:
            ledger.record([outcome])
    with Ledger(path) as ledger:
        return {entry.key: entry.outcome(CLIP) for entry in ledger.latest()}


OLD = """
CREATE TABLE outcomes (
    id INTEGER PRIMARY KEY, time REAL NOT NULL, key TEXT NOT NULL, status TEXT NOT NULL,
    detail TEXT NOT NULL, source TEXT NOT NULL, tool_versions TEXT NOT NULL, media TEXT
);
CREATE INDEX outcomes_word ON outcomes (key, source);
CREATE TABLE parts (
    source TEXT NOT NULL, name TEXT NOT NULL, time REAL NOT NULL, status TEXT NOT NULL, detail TEXT NOT NULL,
    keys TEXT NOT NULL, PRIMARY KEY (source, name)
);
INSERT INTO outcomes VALUES
    (1, 1.5, 'a_000000_000010', 'http_5xx', 'corrupt: no moov: atom; a sound copy may lie in an archive that was not read to'
     || ' its end: part x: HTTP 503; a sound copy may lie in an archive that was not read to its end: ', 'cvdf', 'v 1', NULL),
    (2, 2.5, 'b_000000_000010', 'private', 'corrupt: as it was told', 'cvdf', 'v 1', NULL),
    (3, 3.5, 'c_000000_000010', 'network', 'gone: x; a sound copy may lie in an archive that was not read to its end: y',
     'youtube', 'v 1', NULL);
INSERT INTO parts VALUES ('cvdf', 'train/part.tar.gz', 4.5, 'ok', '', 'a_000000_000010');
"""
"""A ledger of version 0.1.0, whose only word of a damaged copy is prose."""


def old(path: Path) -> Path:
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.executescript(OLD)
    return path


# --- What is kept -----------------------------------------------------------------------------------------------------


def test_a_new_ledger_is_empty_and_makes_its_folder(tmp_path: Path) -> None:
    assert told(tmp_path / "new" / "ledger.sqlite") == {}
    assert (tmp_path / "new" / "ledger.sqlite").is_file()


@pytest.mark.parametrize("outcome", [OK, GONE], ids=["ok", "gone"])
def test_every_field_of_an_outcome_comes_back(outcome: Outcome, tmp_path: Path) -> None:
    assert told(tmp_path / "ledger.sqlite", outcome) == {CLIP.key: outcome}


@pytest.mark.parametrize("status", [status for status in Status if status is not Status.OK])
def test_every_status_comes_back(status: Status, tmp_path: Path) -> None:
    outcome = Outcome(clip=CLIP, status=status, detail="é\u2019\0\r\n")

    assert told(tmp_path / "ledger.sqlite", outcome) == {CLIP.key: outcome}


def test_a_verdict_that_waits_for_other_copies_comes_back(tmp_path: Path) -> None:
    verdict = Verdict(status=Status.CORRUPT, detail="no moov: atom; a sound copy")
    waits = dataclasses.replace(GONE, status=Status.NOT_TRIED, provisional=verdict)

    assert told(tmp_path / "ledger.sqlite", waits) == {CLIP.key: waits}


def test_an_old_ledger_keeps_its_rows_and_its_prose_is_understood_once(tmp_path: Path) -> None:
    path = old(tmp_path / "ledger.sqlite")
    with contextlib.closing(sqlite3.connect(path)) as database:
        before = database.execute("SELECT * FROM outcomes").fetchall()

    with Ledger(path) as ledger:
        words = {entry.key[0]: entry for entry in ledger.latest()}
        assert list(ledger.parts("cvdf")) == ["train/part.tar.gz"]
        ledger.record([GONE])

    assert words["a"].provisional == Verdict(status=Status.CORRUPT, detail="no moov: atom")
    assert (words["b"].provisional, words["c"].provisional) == (None, None)
    with contextlib.closing(sqlite3.connect(path)) as database:
        after = database.execute("SELECT * FROM outcomes").fetchall()
        assert [row[:-1] for row in after[:3]] == before
        database.execute("UPDATE outcomes SET provisional = NULL")
        database.commit()
    with Ledger(path) as ledger:  # whose column says all there is
        assert {entry.provisional for entry in ledger.latest()} == {None}


def test_an_old_ledger_that_is_only_read_stays_as_it_is(tmp_path: Path) -> None:
    path = old(tmp_path / "ledger.sqlite")
    before = path.read_bytes()

    with Ledger(path, only_read=True) as ledger:
        assert [(entry.key[0], entry.status) for entry in ledger.latest()] == [
            ("a", Status.HTTP_5XX),
            ("b", Status.PRIVATE),
            ("c", Status.NETWORK),
        ]

    assert path.read_bytes() == before


def test_a_kill_while_an_old_ledger_gets_its_column_leaves_it_old(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = old(tmp_path / "ledger.sqlite")

    def killed(_verdict: object) -> str:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("kinetics_sounds.ledger.json.dumps", killed)
        with pytest.raises(KeyboardInterrupt):
            Ledger(path)

    with Ledger(path) as ledger:
        assert next(ledger.latest()).provisional == Verdict(status=Status.CORRUPT, detail="no moov: atom")


AGAIN = dataclasses.replace(GONE, status=Status.NETWORK, detail="refused")
LOCAL = dataclasses.replace(GONE, status=Status.CORRUPT, detail="no moov atom", source="local:/a")
THERE = dataclasses.replace(OK, source="youtube", media=dataclasses.replace(MEDIA, bytes=17))
ABSENT = dataclasses.replace(GONE, status=Status.NOT_IN_SOURCE, detail="", source="local:/b")


def test_the_last_word_of_a_source_on_a_key_holds(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"

    assert told(path, GONE, AGAIN)[CLIP.key] == AGAIN
    assert told(path, GONE)[CLIP.key] == GONE


def after(outcome: Outcome, others: str) -> Outcome:
    """The same, with what other sources said."""
    return dataclasses.replace(outcome, detail=f"{outcome.detail} (before: {others})")


def test_sources_have_a_word_each(tmp_path: Path) -> None:
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        ledger.record([GONE, LOCAL, ABSENT, AGAIN])

        assert [(entry.source, entry.status) for entry in ledger.latest()] == [
            ("local:/a", Status.CORRUPT),
            ("local:/b", Status.NOT_IN_SOURCE),
            ("youtube", Status.NETWORK),
        ]


@pytest.mark.parametrize(
    ("said", "order", "kept", "holds"),
    [
        ([], ["youtube"], "local:/a", Outcome(clip=CLIP, status=Status.NOT_TRIED)),
        ([LOCAL, GONE], ["local:/a", "youtube"], "local:/a", after(GONE, "local:/a: corrupt")),
        ([LOCAL, GONE], ["youtube", "local:/a"], "local:/a", after(LOCAL, "youtube: private")),
        (
            [GONE, LOCAL],
            ["local:/a"],
            "local:/a",
            after(LOCAL, "youtube: private"),
        ),  # one that is not asked any more says less
        ([LOCAL, ABSENT], ["local:/a", "local:/b"], "local:/a", LOCAL),  # and one that has no such file says least
        ([ABSENT], ["local:/b"], "local:/a", ABSENT),
        ([OK, GONE], ["local:/a", "youtube"], "local:/a", OK),  # a file is worth more than all words
        ([OK, GONE], ["local:/a", "youtube"], None, GONE),  # but not one that is lost
        ([OK], ["local:/a"], None, Outcome(clip=CLIP, status=Status.NOT_TRIED)),
        ([OK, LOCAL], ["local:/a"], "local:/a", LOCAL),
        ([OK, THERE], ["youtube", "local:/a"], "youtube", THERE),  # of two files the one that is there
        ([THERE, OK], ["local:/a", "youtube"], "local:/a", OK),
    ],
)
def test_a_clip_s_outcome_is_drawn_from_what_its_sources_said(
    said: list[Outcome], order: list[str], kept: str | None, holds: Outcome, tmp_path: Path
) -> None:
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        ledger.record(said)

        assert ledger.outcome(CLIP, order, kept=kept) == holds


def test_several_outcomes_are_recorded_together_or_not_at_all(tmp_path: Path) -> None:
    def broken() -> Iterator[Outcome]:
        yield GONE
        raise RuntimeError

    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        with pytest.raises(RuntimeError):
            ledger.record(broken())

        assert list(ledger.latest()) == []


def test_a_source_s_password_is_in_no_table(tmp_path: Path) -> None:
    spec = "youtube:https://user:hunter22@mirror.example/{youtube_id}.mp4"
    said = dataclasses.replace(GONE, source=spec)
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        ledger.record([said])
        ledger.record_part(spec, "part", PartEntry(status=Status.OK, detail="", names=frozenset()))

        assert list(ledger.parts(spec)) == ["part"]
        assert ledger.outcome(CLIP, [spec], kept=None).source == "youtube:https://***@mirror.example/{youtube_id}.mp4"
    assert b"hunter22" not in (tmp_path / "ledger.sqlite").read_bytes()


def test_what_an_archive_held_is_kept_by_source_and_name(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    whole = PartEntry(status=Status.OK, detail="", names=frozenset({"a_000000_000010", "-b_000001_000011"}))
    empty = PartEntry(status=Status.CORRUPT, detail="damaged at byte 512", names=frozenset())
    with Ledger(path) as ledger:
        ledger.record_part("cvdf", "train/part_0.tar.gz", empty)
        ledger.record_part("cvdf", "train/part_0.tar.gz", whole)
        ledger.record_part("cvdf", "val/part_0.tar.gz", empty)
        ledger.record_part("cvdf:/elsewhere", "train/part_0.tar.gz", empty)

    with Ledger(path) as ledger:
        assert ledger.parts("cvdf") == {"train/part_0.tar.gz": whole, "val/part_0.tar.gz": empty}
        assert ledger.parts("cvdf:/elsewhere") == {"train/part_0.tar.gz": empty}
        assert ledger.parts("youtube") == {}


def test_archives_at_addresses_that_differ_in_the_query_are_other_ones(tmp_path: Path) -> None:
    a, b = (Address(f"archives:https://host.example/get?id={name}&key={WORD}") for name in "ab")
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        ledger.record_part(a, "get", PartEntry(status=Status.OK, detail="", names=frozenset({"x"})))

        assert list(ledger.parts(a)) == ["get"]
        assert ledger.parts(b) == {}
        assert list(ledger.parts(name_of(a))) == ["get"]  # a name is the name of itself
    assert re.fullmatch(r"archives:https://host\.example/get\?\*\*\* \([0-9a-f]{8}\)", name_of(a))
    assert name_of("archives:https://host.example/a.tar") == "archives:https://host.example/a.tar"
    assert name_of("archives:/data/a?b.tar") == "archives:/data/a?b.tar"
    assert name_of("youtube:https://host.example/v?key=1") == "youtube:https://host.example/v?***"


def test_a_ledger_that_another_process_holds_is_not_called_damaged(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    with Ledger(path) as ledger:
        ledger._database.execute("PRAGMA busy_timeout = 0")
        other = sqlite3.connect(path)
        other.execute("BEGIN EXCLUSIVE")

        with pytest.raises(ManifestError, match=r"cannot be used now .*locked.*; check the disk"):
            ledger.record([GONE])
        other.close()


def test_nothing_that_was_said_is_forgotten(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    told(path, GONE, OK, GONE)

    with contextlib.closing(sqlite3.connect(path)) as database, database:
        rows = database.execute("SELECT status FROM outcomes ORDER BY id").fetchall()
    database.close()
    assert rows == [("private",), ("ok",), ("private",)]


def test_keys_are_kept_apart(tmp_path: Path) -> None:
    others = [Clip("-5JzkrOVhPO", 27, end, "bowling", "val") for end in (38, 39)]

    assert len(told(tmp_path / "ledger.sqlite", *(Outcome(clip=c, status=Status.TIMEOUT) for c in others), OK)) == 3


def test_a_path_that_is_not_utf_8_does_not_stop_a_build(tmp_path: Path) -> None:
    odd = Outcome(clip=CLIP, status=Status.TIMEOUT, detail="/data/caf\udce9/x is gone", source="local:/data/caf\udce9")

    kept = told(tmp_path / "ledger.sqlite", odd)[CLIP.key]

    assert (kept.detail, kept.source) == ("/data/caf?/x is gone", "local:/data/caf?")


# --- Kills and faults -------------------------------------------------------------------------------------------------

RECORDER = """
import os, signal, sys
from pathlib import Path
from kinetics_sounds.clip import Clip, Outcome, Status
from kinetics_sounds.ledger import Ledger, PartEntry
from kinetics_sounds.manifest import ADDED
from kinetics_sounds.sqlite_errors import sqlite_errors
with Ledger(Path(sys.argv[1])) as ledger:
    for number in range(int(sys.argv[2])):
        ledger.record([Outcome(clip=Clip(f"id{number}", 0, 10, "bowling", "val"), status=Status.PRIVATE)])
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("count", [1, 20])
def test_what_was_recorded_survives_a_kill_right_after(count: int, tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"

    result = subprocess.run([sys.executable, "-c", RECORDER, str(path), str(count)], check=False)

    assert result.returncode == -signal.SIGKILL
    assert set(told(path)) == {f"id{number}_000000_000010" for number in range(count)}


def test_a_kill_inside_a_write_leaves_what_was_there_before(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    told(path, GONE)
    code = """
import os, signal, sqlite3, sys
database = sqlite3.connect(sys.argv[1], isolation_level=None)
database.execute("PRAGMA cache_size = 1")
database.execute("PRAGMA cache_spill = 1")
database.execute("BEGIN")
for number in range(2000):
    database.execute(
        "INSERT INTO outcomes (time, key, status, detail, source, tool_versions) VALUES (0, ?, 'timeout', ?, '', '')",
        (f"id{number}", "x" * 500),
    )
os.kill(os.getpid(), signal.SIGKILL)
"""
    subprocess.run([sys.executable, "-c", code, str(path)], check=False)
    assert (tmp_path / "ledger.sqlite-journal").exists()  # the kill came in the middle, with pages already written

    assert told(path) == {CLIP.key: GONE}


def test_every_row_is_synced_and_there_is_no_write_ahead_log(tmp_path: Path) -> None:
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        ledger.record([GONE])
        database = ledger._database
        assert database.execute("PRAGMA synchronous").fetchone() == (3,)  # EXTRA
        assert database.execute("PRAGMA journal_mode").fetchone() == ("delete",)


def test_a_disk_that_is_full_is_told_as_such(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    with Ledger(path) as ledger:
        pages = ledger._database.execute("PRAGMA page_count").fetchone()[0]
        ledger._database.execute(f"PRAGMA max_page_count = {pages}")
        with pytest.raises(OSError, match="No space left") as caught:
            ledger.record([Outcome(clip=CLIP, status=Status.TIMEOUT, detail="x" * 100_000)])
        assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, str(path))
        ledger.record([GONE])  # what fits is still taken

    assert told(path) == {CLIP.key: GONE}


def test_a_ledger_that_cannot_be_begun_on_a_full_disk_says_so(small_disk: Path) -> None:
    with (small_disk / "rest").open("wb", buffering=0) as rest, contextlib.suppress(OSError):
        while True:
            rest.write(bytes(4096))

    with pytest.raises(OSError, match="No space left") as caught:
        Ledger(small_disk / "ledger.sqlite")
    assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, str(small_disk / "ledger.sqlite"))


def test_a_machine_that_opens_no_more_files_is_no_misuse(tmp_path: Path) -> None:
    """SQLite opens its journal for each write, and says of any failure alike that it cannot."""
    path = tmp_path / "ledger.sqlite"
    with Ledger(path) as ledger:
        ledger.record([GONE])
        lowest = os.dup(0)
        os.close(lowest)
        before = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, before[1]))
        try:
            with pytest.raises(OSError, match="Input/output error") as caught:
                ledger.record([Outcome(clip=CLIP, status=Status.TIMEOUT)])
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, before)
        assert (caught.value.errno, caught.value.filename) == (errno.EIO, str(path))
    assert told(path) == {CLIP.key: GONE}


@pytest.mark.parametrize("code", [sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY])
def test_a_file_that_only_a_failing_disk_keeps_from_being_opened_is_no_misuse(code: int, tmp_path: Path) -> None:
    """Where the disk does not let it be written, SQLite opens it to be read, and complains of that."""
    told(tmp_path / "ledger.sqlite", GONE)
    error = sqlite3.OperationalError("attempt to write a readonly database")
    error.sqlite_errorcode = code

    def within(path: Path) -> None:
        with sqlite_errors(path):
            raise error

    with pytest.raises(OSError, match="Input/output error") as caught:
        within(tmp_path / "ledger.sqlite")
    assert caught.value.filename == str(tmp_path / "ledger.sqlite")
    with pytest.raises(ManifestError, match="cannot be used now"):
        within(tmp_path)  # a folder in its place is for the user to move


# --- What is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("data", [b"not a database, but some text that somebody put here\n" * 50, b"\0" * 4096])
def test_a_file_that_is_no_ledger_is_refused_and_left_alone(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    path.write_bytes(data)

    with pytest.raises(ManifestError, match=f"{path}: is not a ledger, or damaged .*; move it away to start afresh"):
        Ledger(path)

    assert path.read_bytes() == data


def test_a_row_of_version_0_1_0_lacks_what_came_later(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    told(path, OK)
    with contextlib.closing(sqlite3.connect(path)) as database, database:
        for name in ADDED:
            database.execute(f"UPDATE outcomes SET media = json_remove(media, '$.{name}')")
    database.close()

    assert told(path)[CLIP.key].media == dataclasses.replace(
        MEDIA, audio_channel="", origin="", format_ids="", audio_language="", audio_track=""
    )


def test_a_folder_is_no_ledger(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="cannot be used now"):
        Ledger(tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE outcomes SET status = 'a status of next year'",
        'UPDATE outcomes SET media = \'{"path": "x"}\'',
        "UPDATE outcomes SET media = '{'",
        "ALTER TABLE outcomes DROP COLUMN tool_versions",
    ],
)
def test_a_ledger_of_another_version_is_refused(change: str, tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    told(path, OK)
    with contextlib.closing(sqlite3.connect(path)) as database, database:
        database.execute(change)
    database.close()

    with Ledger(path) as ledger, pytest.raises(ManifestError, match=f"{path}: is not a ledger, or damaged"):
        list(ledger.latest())


def test_a_torn_ledger_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    told(path, *(Outcome(clip=CLIP, status=Status.TIMEOUT, detail="x" * 2000) for _ in range(20)))
    path.write_bytes(path.read_bytes()[: 4096 * 4])

    with pytest.raises(ManifestError, match="is not a ledger, or damaged"):
        told(path)


def test_a_damaged_page_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    told(path, *(Outcome(clip=CLIP, status=Status.TIMEOUT, detail="x" * 200) for _ in range(100)))
    data = bytearray(path.read_bytes())
    data[4096 * 4 : 4096 * 8] = b"\xff" * (4096 * 4)
    path.write_bytes(data)

    with pytest.raises(ManifestError, match="is not a ledger, or damaged"):
        told(path)
