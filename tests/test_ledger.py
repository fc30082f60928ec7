"""What became of a clip is on disk when `record` returns, and the last word on a key holds."""

import errno
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from kinetics_sounds.clip import Clip, Media, Outcome, Status
from kinetics_sounds.errors import ManifestError
from kinetics_sounds.ledger import Ledger

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
)
OK = Outcome(
    clip=CLIP, status=Status.OK, detail="", source="local:/a", media=MEDIA, tool_versions="ffmpeg n9.0.2; av 18"
)
GONE = Outcome(clip=CLIP, status=Status.PRIVATE, detail="Private video\n'\"; DROP TABLE outcomes; --", source="youtube")


def told(path: Path, *outcomes: Outcome) -> dict[str, Outcome]:
    """What a ledger says after these were recorded and it was opened anew."""
    with Ledger(path) as ledger:
        for outcome in outcomes:
            ledger.record(outcome)
    with Ledger(path) as ledger:
        return {key: entry.outcome(CLIP) for key, entry in ledger.latest().items()}


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


def test_the_last_word_on_a_key_holds(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"

    assert told(path, GONE, OK)[CLIP.key] == OK
    assert told(path, GONE)[CLIP.key] == GONE


def test_nothing_that_was_said_is_forgotten(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    told(path, GONE, OK, GONE)

    with sqlite3.connect(path) as database:
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
from kinetics_sounds.ledger import Ledger
with Ledger(Path(sys.argv[1])) as ledger:
    for number in range(int(sys.argv[2])):
        ledger.record(Outcome(clip=Clip(f"id{number}", 0, 10, "bowling", "val"), status=Status.PRIVATE))
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
        ledger.record(GONE)
        database = ledger._database
        assert database.execute("PRAGMA synchronous").fetchone() == (2,)  # FULL
        assert database.execute("PRAGMA journal_mode").fetchone() == ("delete",)


def test_a_disk_that_is_full_is_told_as_such(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    with Ledger(path) as ledger:
        pages = ledger._database.execute("PRAGMA page_count").fetchone()[0]
        ledger._database.execute(f"PRAGMA max_page_count = {pages}")
        with pytest.raises(OSError, match="No space left") as caught:
            ledger.record(Outcome(clip=CLIP, status=Status.TIMEOUT, detail="x" * 100_000))
        assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, str(path))
        ledger.record(GONE)  # what fits is still taken

    assert told(path) == {CLIP.key: GONE}


# --- What is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("data", [b"not a database, but some text that somebody put here\n" * 50, b"\0" * 4096])
def test_a_file_that_is_no_ledger_is_refused_and_left_alone(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    path.write_bytes(data)

    with pytest.raises(ManifestError, match=f"{path}: is no ledger, or damaged .*; move it away to begin anew"):
        Ledger(path)

    assert path.read_bytes() == data


def test_a_folder_is_no_ledger(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="is no ledger"):
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
    with sqlite3.connect(path) as database:
        database.execute(change)
    database.close()

    with Ledger(path) as ledger, pytest.raises(ManifestError, match=f"{path}: is no ledger, or damaged"):
        ledger.latest()


def test_a_torn_ledger_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    told(path, *(Outcome(clip=CLIP, status=Status.TIMEOUT, detail="x" * 2000) for _ in range(20)))
    path.write_bytes(path.read_bytes()[: 4096 * 4])

    with pytest.raises(ManifestError, match="is no ledger, or damaged"):
        told(path)


def test_a_damaged_page_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    told(path, *(Outcome(clip=CLIP, status=Status.TIMEOUT, detail="x" * 200) for _ in range(100)))
    data = bytearray(path.read_bytes())
    data[4096 * 3 : 4096 * 6] = b"\xff" * (4096 * 3)
    path.write_bytes(data)

    with pytest.raises(ManifestError, match="is no ledger, or damaged"):
        told(path)
