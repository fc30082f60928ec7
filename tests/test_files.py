"""A file that exists is complete, whoever is killed, and a folder has one writer."""

import errno
import fcntl
import hashlib
import os
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from kinetics_sounds import files
from kinetics_sounds.errors import FolderInUseError


@contextmanager
def process(code: str, *argv: str) -> Iterator[subprocess.Popen[str]]:
    """A Python that runs `code` and has said `ready`; killed at the end."""
    with subprocess.Popen(
        [sys.executable, "-c", code, *argv], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        try:
            assert child.stdout
            assert child.stdout.readline() == "ready\n"
            yield child
        finally:
            child.kill()


def test_the_names_of_new_folders_are_synced_in_the_folders_above_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[Path] = []
    monkeypatch.setattr(files, "sync_folder", synced.append)

    files.make_folder(tmp_path / "a/b")
    assert synced == [tmp_path, tmp_path / "a"]
    files.make_folder(tmp_path / "a/b")
    assert synced == [tmp_path, tmp_path / "a"]


# --- Is it there? -----------------------------------------------------------------------------------------------------


def test_a_file_is_there_by_its_size_and_where_it_is_asked_by_its_bytes(tmp_path: Path) -> None:
    path, link = tmp_path / "a.bin", tmp_path / "link"
    path.write_bytes(b"abc")
    link.symlink_to(path)
    abc, abd = (hashlib.sha256(data).hexdigest() for data in (b"abc", b"abd"))

    for each in (path, link):
        assert files.difference(each, size=3) == files.difference(each, size=3, digest=abc) == ""
        assert files.difference(each, size=3, digest=abd) == "its SHA-256 differs"
        assert files.difference(each, size=4, digest=abc) == "has 3 bytes instead of 4"
    assert files.difference(tmp_path, size=3) == "is not a file"
    path.unlink()
    for each in (path, link, tmp_path / "link/below"):
        assert files.difference(each, size=3) == "is missing"


def test_whether_a_file_is_there_is_not_told_by_a_disk_that_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(_: Path) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(Path, "stat", fails)
    with pytest.raises(OSError, match="Input/output error"):
        files.difference(tmp_path / "a.bin", size=3)


def test_threads_give_results_in_order_and_take_no_more_than_they_need() -> None:
    taken: list[int] = []

    def items() -> Iterator[int]:
        for number in range(100):
            taken.append(number)
            yield number

    def act(number: int) -> int:
        time.sleep(0.002 * (number % 3))
        return number * number

    results = files.in_threads(act, items())
    assert [next(results) for _ in range(50)] == [(number, number * number) for number in range(50)]
    assert len(taken) == 49 + 2 * files.THREADS
    assert [number for number, _ in results] == list(range(50, 100))


# --- Writing ----------------------------------------------------------------------------------------------------------


def test_a_file_appears_when_the_block_has_ended(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "a.bin"

    with files.atomic_writer(path) as out:
        out.write(b"whole")
        out.flush()
        assert not path.exists()

    assert path.read_bytes() == b"whole"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_an_error_in_the_block_leaves_nothing(error: type[BaseException], tmp_path: Path) -> None:
    def write_half() -> None:
        with files.atomic_writer(tmp_path / "a.bin") as out:
            out.write(b"half")
            raise error

    with pytest.raises(error):
        write_half()

    assert list(tmp_path.iterdir()) == []


def test_an_existing_file_survives_a_rewrite_that_fails(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    files.write_bytes(path, b"old")

    def rewrite_half() -> None:
        with files.atomic_writer(path) as out:
            out.write(b"new, but only ha")
            raise ValueError("midway")

    with pytest.raises(ValueError, match="midway"):
        rewrite_half()

    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_an_existing_file_survives_a_disk_that_fails(
    step: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(5, "Input/output error")

    path = tmp_path / "a.bin"
    files.write_bytes(path, b"old")
    monkeypatch.setattr(os, step, fail)
    monkeypatch.setattr(Path, "replace", fail if step == "replace" else Path.replace)

    with pytest.raises(OSError, match="Input/output error"):
        files.write_bytes(path, b"new")

    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_rewrite_gives_whole_new_bytes(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    files.write_bytes(path, b"a long old text")
    files.write_bytes(path, b"new")

    assert path.read_bytes() == b"new"


def test_bytes_are_on_disk_before_they_have_their_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, done = tmp_path / "a.bin", []
    sync, replace = os.fsync, Path.replace

    def synced(descriptor: int) -> None:
        done.append("sync folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "sync file")
        sync(descriptor)

    def renamed(part: Path, target: Path) -> Path:
        done.append("rename")
        return replace(part, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(Path, "replace", renamed)
    files.write_bytes(path, b"x")

    assert done == ["sync file", "rename", "sync folder"]


def test_an_error_names_the_file_that_was_asked_for(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    for path, error in ((Path("/proc/x.html"), FileNotFoundError), (tmp_path / "folder", IsADirectoryError)):
        with pytest.raises(error) as found:
            files.write_bytes(path, b"x")
        assert found.value.filename == str(path)


def test_a_writer_killed_midway_leaves_the_old_file_and_a_part_that_can_be_swept(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "a.bin"
    files.write_bytes(path, b"old")
    code = """
import sys, time
from pathlib import Path
from kinetics_sounds import files
with files.atomic_writer(Path(sys.argv[1])) as out:
    out.write(b"new" * 100_000)
    out.flush()
    print("ready", flush=True)
    time.sleep(60)
"""
    with process(code, str(path)) as child:
        child.send_signal(signal.SIGKILL)
        child.wait()

    assert path.read_bytes() == b"old"
    (part,) = [other for other in path.parent.iterdir() if other != path]
    assert part.name.endswith(files.PART)

    files.remove_parts(path.parent, "a.bin")

    assert list(path.parent.iterdir()) == [path]


def test_writers_killed_at_any_moment_leave_whole_files(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    files.write_bytes(path, b"a" * 100_000)
    code = """
import itertools, sys
from pathlib import Path
from kinetics_sounds import files
print("ready", flush=True)
for letter in itertools.cycle([b"b", b"c"]):
    files.write_bytes(Path(sys.argv[1]), letter * 100_000)
"""
    for milliseconds in (1, 7, 20):
        with process(code, str(path)) as child:
            time.sleep(milliseconds / 1000)
            child.kill()
            child.wait()
        data = path.read_bytes()
        assert data == data[:1] * 100_000


# --- Sweeping ---------------------------------------------------------------------------------------------------------


def dead() -> int:
    """The number of a process that has ended."""
    with subprocess.Popen(["true"]) as ended:
        pass
    return ended.pid


def test_what_killed_runs_left_is_cleared(tmp_path: Path) -> None:
    (tmp_path / files.SCRATCH / "deep").mkdir(parents=True)
    (tmp_path / f"report.json.{dead()}.part").touch()
    (tmp_path / "report.json").touch()

    files.clear(tmp_path, "report.json")
    assert [path.name for path in tmp_path.iterdir()] == ["report.json"]
    files.clear(tmp_path / "not there", "report.json")


def test_only_what_dead_writers_of_these_names_left_is_swept(tmp_path: Path) -> None:
    gone = [f"train-000000.tar.{dead()}.part", f"train-000001.tar.{os.getpid()}.part"]
    kept = [
        "film.mp4.part",  # of a browser
        "train-000000.tar.part",
        f"film.mp4.{dead()}.part",
        f"train-000000.tar.{os.getppid()}.part",  # another process writes it
        f"train-000000.tar.{dead()}",
        f"below/train-000000.tar.{dead()}.part",
    ]
    for name in (*gone, *kept):
        files.write_bytes(tmp_path / name, b"x")
    folder = tmp_path / f"train-000009.tar.{dead()}.part"
    folder.mkdir()
    (tmp_path / f"train-000008.tar.{dead()}.part").symlink_to(tmp_path / "nowhere")

    files.remove_parts(tmp_path, "train-*.tar")

    assert sorted(path for path in tmp_path.rglob("*") if not path.is_dir()) == sorted(tmp_path / each for each in kept)
    assert folder.is_dir()


def test_sweeping_a_folder_that_is_not_there_is_nothing(tmp_path: Path) -> None:
    files.remove_parts(tmp_path / "nowhere", "*")


# --- Hashing and names ------------------------------------------------------------------------------------------------


def test_the_hash_is_sha256(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")

    assert files.sha256(tmp_path / "a") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert files.sha256(tmp_path / "a") == hashlib.sha256(b"abc").hexdigest()


def test_a_users_path_knows_homes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/someone")

    assert files.user_path("~/a") == Path("/home/someone/a")
    assert files.user_path("a/~b") == Path("a/~b")
    assert files.user_path("~no-such-user/a") == Path("~no-such-user/a")


# --- One writer a folder ----------------------------------------------------------------------------------------------

HOLD = """
import sys, time
from pathlib import Path
from kinetics_sounds import files
with files.exclusive(Path(sys.argv[1]), command="ks-build"):
    print("ready", flush=True)
    time.sleep(60)
"""


def test_a_second_process_is_told_which_folder_is_in_use_and_a_killed_one_lets_go(tmp_path: Path) -> None:
    folder = tmp_path / "data" / "k32"
    with process(HOLD, str(folder)) as child:
        with (
            pytest.raises(FolderInUseError, match=f"{folder}: another ks-build is running in this folder; wait"),
            files.exclusive(folder, command="ks-build"),
        ):
            raise AssertionError("two hold one folder")
        child.send_signal(signal.SIGKILL)
        child.wait()

    with files.exclusive(folder, command="ks-build"):
        pass


def test_a_folder_that_cannot_be_removed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(name: str, **_: object) -> None:
        raise OSError(errno.EIO, "Input/output error", name)

    (tmp_path / "a").mkdir()
    (tmp_path / "a/state.json").touch()
    monkeypatch.setattr(os, "unlink", fails)
    with pytest.raises(OSError, match="Input/output error") as caught:
        files.remove_folder(tmp_path / "a")
    assert (caught.value.errno, caught.value.filename) == (errno.EIO, str(tmp_path / "a"))


def test_a_folder_is_free_again_after_the_block_and_after_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="x"), files.exclusive(tmp_path, command="ks-build"):
        raise ValueError("x")
    for _ in range(2):
        with files.exclusive(tmp_path, command="ks-build"):
            pass


def test_two_folders_are_held_apart(tmp_path: Path) -> None:
    with files.exclusive(tmp_path / "a", command="x"), files.exclusive(tmp_path / "b", command="x"):
        pass


def test_a_refused_process_leaves_no_descriptor_open(tmp_path: Path) -> None:
    with files.exclusive(tmp_path, command="x"):
        before = len(os.listdir("/dev/fd"))  # noqa: PTH208
        for _ in range(3):
            with pytest.raises(FolderInUseError), files.exclusive(tmp_path, command="x"):
                pass
        assert len(os.listdir("/dev/fd")) == before  # noqa: PTH208


@pytest.fixture(params=[errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def no_locks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(*_: object) -> None:
        raise OSError(request.param, os.strerror(request.param))

    monkeypatch.setattr(fcntl, "flock", refuses)


def test_whether_a_folder_is_held_is_seen_without_holding_it(tmp_path: Path) -> None:
    assert not files.is_locked(tmp_path / "no such folder")
    with files.exclusive(tmp_path, command="x"):
        assert files.is_locked(tmp_path)
    assert not files.is_locked(tmp_path)


@pytest.mark.usefixtures("no_locks")
def test_without_locks_the_file_of_the_holder_is_looked_for(tmp_path: Path) -> None:
    with files.exclusive(tmp_path, command="x"):
        assert files.is_locked(tmp_path)
    assert not files.is_locked(tmp_path)


@pytest.mark.usefixtures("no_locks")
def test_without_locks_a_file_says_who_holds_a_folder(tmp_path: Path) -> None:
    with files.exclusive(tmp_path, command="ks-x"):
        who = (tmp_path / ".lock.held").read_text()
        assert who.startswith(f"{socket.gethostname()} {os.getpid()} ")
        with pytest.raises(FolderInUseError) as caught, files.exclusive(tmp_path, command="ks-x"):
            pass
        assert str(caught.value) == (
            f"{tmp_path}: ks-x is running in this folder (process {os.getpid()} on {socket.gethostname()}); "
            f"wait for it or stop it; if it ended, delete {tmp_path}/.lock.held"
        )
        assert (tmp_path / ".lock.held").read_text() == who
    assert not (tmp_path / ".lock.held").exists()


@pytest.mark.usefixtures("no_locks")
@pytest.mark.parametrize(
    ("held", "told"),
    [
        (f"another.host {os.getpid()} 1", f" (process {os.getpid()} on another.host)"),
        (
            f"{socket.gethostname()} {os.getpid()} 1",
            f" (process {os.getpid()} on {socket.gethostname()})",
        ),  # of a container?
        (
            f"{socket.gethostname()} {2**22 + 1} 1",
            f" (process {2**22 + 1} on {socket.gethostname()})",
        ),  # or is it dead?
        ("", ""),  # a kill came before it was written
    ],
    ids=["another host", "this host", "dead", "empty"],
)
def test_without_locks_a_folder_is_nobody_s_until_the_file_is_deleted(held: str, told: str, tmp_path: Path) -> None:
    lock = tmp_path / ".lock.held"
    lock.write_text(held)
    with pytest.raises(FolderInUseError) as caught, files.exclusive(tmp_path, command="ks-x"):
        pass
    assert str(caught.value) == (
        f"{tmp_path}: ks-x is running in this folder{told}; wait for it or stop it; if it ended, delete {lock}"
    )
    assert lock.read_text() == held

    lock.unlink()
    with files.exclusive(tmp_path, command="ks-x"):
        pass


@pytest.mark.usefixtures("no_locks")
def test_without_locks_the_file_of_another_is_left(tmp_path: Path) -> None:
    lock = tmp_path / ".lock.held"
    with files.exclusive(tmp_path, command="ks-x"):
        lock.write_text(other := f"{socket.gethostname()} {os.getpid()} other")  # deleted, and made anew
    assert lock.read_text() == other
    lock.unlink()
    with files.exclusive(tmp_path, command="ks-x"):
        lock.unlink()


@pytest.mark.usefixtures("no_locks")
def test_without_locks_what_happens_within_is_told_alone(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="within") as caught, files.exclusive(tmp_path, command="ks-x"):
        raise ValueError("within")
    assert caught.value.__context__ is None


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_a_folder_is_made_where_none_may_list(tmp_path: Path) -> None:
    drop = tmp_path / "drop"
    drop.mkdir()
    drop.chmod(0o1733)
    code = """
import os, sys
from pathlib import Path
from kinetics_sounds import files
drop = os.open(sys.argv[1], os.O_PATH)
os.setuid(65534)
files.make_folder(Path(f"/proc/self/fd/{drop}/new/below"))
"""
    subprocess.run([sys.executable, "-c", code, str(drop)], check=True, timeout=30)
    assert (drop / "new/below").is_dir()


def test_only_a_folder_that_was_there_may_refuse_its_sync(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(number: int, *refusing: Path) -> None:
        def sync(folder: Path) -> None:
            if folder in refusing:
                raise OSError(number, os.strerror(number), str(folder))

        monkeypatch.setattr(files, "sync_folder", sync)

    for number in (errno.EACCES, errno.EINVAL):
        refuse(number, tmp_path)
        files.make_folder(tmp_path / str(number) / "below")
        refuse(number, tmp_path / f"{number} again")
        with pytest.raises(OSError, match=os.strerror(number)):
            files.make_folder(tmp_path / f"{number} again" / "below")
    refuse(errno.EIO, tmp_path)
    with pytest.raises(OSError, match="Input/output error"):
        files.make_folder(tmp_path / "eio")


def test_a_lock_that_fails_for_another_reason_names_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(fcntl, "flock", fails)

    with pytest.raises(OSError, match="Input/output error") as caught, files.exclusive(tmp_path, command="x"):
        pass
    assert caught.value.filename == str(tmp_path / ".lock")
