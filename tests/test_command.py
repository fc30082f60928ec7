"""Exit codes, signals, standard streams, and what an exception says to a user."""

import errno
import importlib
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from kinetics_sounds import files
from kinetics_sounds.command import (
    DONE,
    FAULT,
    MISUSE,
    SAME_SECONDS,
    SOME_FAILED,
    STOPPED,
    check_subcommand,
    command,
    stoppable,
)
from kinetics_sounds.errors import (
    AnnotationError,
    ClassListError,
    FolderInUseError,
    KineticsSoundsError,
    LostRanksError,
    ManifestError,
    RemoteError,
    RunError,
    SettingsError,
    ShardError,
)


def raising(error: BaseException) -> Callable[[], int]:
    def run() -> int:
        raise error

    return run


@pytest.mark.parametrize("code", [DONE, SOME_FAILED, MISUSE, STOPPED, FAULT])
def test_a_commands_own_code_is_kept(code: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert command("ks-cook", lambda: code) == code
    assert capsys.readouterr().err == ""


@pytest.mark.timeout(20)
def test_an_error_that_is_its_own_cause_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    def refuse() -> int:
        error = SettingsError("--out: is not so")
        raise error from error

    assert command("ks", refuse) == 2
    assert capsys.readouterr().err == "ks: error: --out: is not so\n"


def test_exit_codes_are_the_contract() -> None:
    assert (DONE, SOME_FAILED, MISUSE, STOPPED, FAULT) == (0, 1, 2, 3, 4)


@pytest.mark.parametrize("kind", [KineticsSoundsError, SettingsError, ClassListError, FolderInUseError])
def test_an_error_of_the_user_is_one_line_and_exit_2(
    kind: type[KineticsSoundsError], capsys: pytest.CaptureFixture[str]
) -> None:
    assert command("ks-cook", raising(kind("soup.txt: is cold; warm it"))) == 2
    assert capsys.readouterr().err == "ks-cook: error: soup.txt: is cold; warm it\n"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_one_line_and_exit_3(number: int, capsys: pytest.CaptureFixture[str]) -> None:
    words = os.strerror(number)

    assert command("ks-cook", raising(OSError(number, words, "/data/a"))) == 3
    assert command("ks-cook", raising(OSError(number, words))) == 3  # a write knows no name
    assert capsys.readouterr().err.splitlines() == [
        f"ks-cook: stopped: {words}: /data/a; free some space and run it again",
        f"ks-cook: stopped: {words}; free some space and run it again",
    ]


def test_a_full_disk_says_what_is_needed_where_that_is_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")  # as a sync says it: without a path

    def write() -> int:
        files.write_bytes(tmp_path / "a", bytes(1_200_000))
        return DONE

    monkeypatch.setattr(os, "fsync", full)
    assert command("ks-cook", write) == 3
    assert list(tmp_path.iterdir()) == []
    told = capsys.readouterr().err
    assert told.startswith(f"ks-cook: stopped: No space left on device: {tmp_path}/a")
    assert told.endswith("; about 1.2 MB are needed; free some space and run it again\n")


@pytest.mark.parametrize("act", ["fsync", "replace"])
def test_a_disk_that_fails_as_a_file_gets_its_name_is_no_success(
    act: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(*_: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    def write() -> int:
        files.write_bytes(tmp_path / "manifest.parquet", b"new")
        return SOME_FAILED

    (tmp_path / "manifest.parquet").write_bytes(b"old")
    monkeypatch.setattr(os if act == "fsync" else Path, act, fails)
    assert command("ks-cook", write) == 4
    assert capsys.readouterr().err.startswith(f"ks-cook: error: Input/output error: {tmp_path}/manifest.parquet")
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("manifest.parquet", b"old")]


def test_a_place_that_cannot_be_is_one_line_and_exit_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()

    def below_a_file() -> int:
        (tmp_path / "file" / "folder").mkdir(parents=True)
        return DONE

    def in_its_place() -> int:
        files.make_folder(tmp_path / "file")
        return DONE

    assert command("ks-cook", below_a_file) == 2
    assert command("ks-cook", in_its_place) == 2
    (tmp_path / "file").unlink()
    (tmp_path / "file").symlink_to("nowhere")
    assert command("ks-cook", in_its_place) == 2
    assert command("ks-cook", raising(PermissionError(errno.EACCES, "Permission denied", "/root/a"))) == 2
    assert capsys.readouterr().err.splitlines() == [
        *[f"ks-cook: error: {tmp_path}/file: is no folder; choose another place"] * 3,
        "ks-cook: error: Permission denied: /root/a; choose another place or fix this one",
    ]


@pytest.mark.parametrize("error", [ValueError("odd"), MemoryError("odd"), OSError("odd"), AssertionError("odd")])
def test_anything_else_is_a_bug_with_its_traceback_and_exit_4(
    error: Exception, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command("ks-cook", raising(error)) == 4
    told = capsys.readouterr().err
    assert told.startswith("Traceback (most recent call last):\n")
    assert told.endswith(
        f"{type(error).__name__}: odd\nks-cook: this is a bug; please report it with the lines above\n"
    )


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE, errno.EMFILE])
def test_a_disk_that_fails_is_one_line_with_its_path_and_exit_4(
    number: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command("ks-cook", raising(OSError(number, os.strerror(number), "/data/a"))) == 4
    assert capsys.readouterr().err == (
        f"ks-cook: error: {os.strerror(number)}: /data/a; check that disk or network and run it again\n"
    )


@pytest.mark.parametrize(
    ("number", "kind", "code", "told"),
    [
        (errno.EIO, ShardError, 4, "error"),
        (errno.ESTALE, AnnotationError, 4, "error"),
        (errno.EMFILE, RunError, 4, "error"),
        (errno.ENOSPC, ManifestError, 3, "stopped"),
        (errno.EACCES, ShardError, 2, "error"),  # for the user to mend
        (errno.EIO, RemoteError, 2, "error"),  # as s3fs says of a bucket that is not there
    ],
)
def test_an_error_of_ours_that_tells_of_a_failing_disk_is_no_misuse(
    number: int, kind: type[KineticsSoundsError], code: int, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def read() -> int:
        try:
            raise OSError(number, os.strerror(number), "/data/a")
        except OSError as error:
            raise kind("/data/a: cannot be read") from error

    assert command("ks-cook", read) == code
    assert capsys.readouterr().err == f"ks-cook: {told}: /data/a: cannot be read\n"


def test_a_fault_that_is_no_misuse_is_one_line_and_exit_4(capsys: pytest.CaptureFixture[str]) -> None:
    assert command("ks-cook", raising(LostRanksError("rank 0: lost the others"))) == 4
    assert capsys.readouterr().err == "ks-cook: error: rank 0: lost the others\n"


def test_an_interrupt_is_one_line_and_exit_3(capsys: pytest.CaptureFixture[str]) -> None:
    assert command("ks-cook", raising(KeyboardInterrupt())) == 3
    assert capsys.readouterr().err == "ks-cook: stopped: interrupted; run it again to resume\n"


def shell(code: str, pipe: str) -> tuple[int, str, str]:
    """Exit code of a command whose output goes through `pipe`, and what it wrote to standard output and error."""
    script = f"set -o pipefail; {sys.executable} -c '{code}' | {pipe}"
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    result = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=False, env=environment)
    return result.returncode, result.stdout, result.stderr


PRINT = """
import sys
from kinetics_sounds.command import command
def run():
    for number in range({lines}):
        print(number)
    return {code}
sys.exit(command("ks-cook", run))
"""


def test_output_that_nobody_reads_to_its_end_is_no_error_of_a_command_that_has_ended() -> None:
    assert shell(PRINT.format(lines=3, code=0), "true") == (0, "", "")
    assert shell(PRINT.format(lines=3, code=1), "true") == (1, "", "")


def test_help_that_nobody_reads_is_no_bug_of_the_one_command_that_prints_it_itself() -> None:
    line = f"{sys.executable} -m kinetics_sounds.train.evaluate --help | true"
    done = subprocess.run(["sh", "-c", line], capture_output=True, text=True, check=False, timeout=60)

    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("pipe", ["exec >&-", "exec <&- >&- 2>&-"])
def test_a_command_whose_streams_are_closed_writes_into_no_file_of_its_own(pipe: str, tmp_path: Path) -> None:
    script = """
import sys
from pathlib import Path
from kinetics_sounds.command import command
def run():
    with Path(sys.argv[1]).open("wb", buffering=0) as out:
        print("said", flush=True)
        out.write(b"written")
    return 1
sys.exit(command("ks-cook", run))
"""
    done = subprocess.run(
        ["bash", "-c", f'{pipe}; exec "$@"', "-", sys.executable, "-c", script, str(tmp_path / "out")], check=False
    )
    assert done.returncode == 1
    assert (tmp_path / "out").read_bytes() == b"written"


def test_a_standard_output_that_is_full_is_no_success() -> None:
    if not Path("/dev/full").is_char_device():
        pytest.skip("there is no /dev/full")
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    with Path("/dev/full").open("w") as full:
        argv = [sys.executable, "-c", PRINT.format(lines=3, code=0)]
        done = subprocess.run(argv, stdout=full, stderr=subprocess.PIPE, check=False, env=environment)
    assert done.returncode == 3
    assert (
        done.stderr == b"ks-cook: stopped: No space left on device: standard output; free some space and run it again\n"
    )


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_standard_output_that_is_full_before_the_end_is_named(unbuffered: str) -> None:
    if not Path("/dev/full").is_char_device():
        pytest.skip("there is no /dev/full")
    environment = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
    with Path("/dev/full").open("w") as full:
        argv = [sys.executable, "-c", PRINT.format(lines=100_000, code=0)]
        done = subprocess.run(argv, stdout=full, stderr=subprocess.PIPE, check=False, env=environment)
    assert done.returncode == 3
    assert (
        done.stderr == b"ks-cook: stopped: No space left on device: standard output; free some space and run it again\n"
    )


@pytest.mark.parametrize("lines", [3, 100_000])
def test_a_standard_output_that_fails_is_no_bug(lines: int) -> None:
    """As where it leads to a file on a disk that fails, once."""
    failing = """
import errno, io
from kinetics_sounds import command
class Failing(io.FileIO):
    left = 1
    def write(self, data):
        if Failing.left:
            Failing.left = 0
            raise OSError(errno.EIO, "Input/output error")
        return super().write(data)
command._StandardOutput.__bases__ = (Failing,)
"""
    argv = [sys.executable, "-c", failing + PRINT.format(lines=lines, code=0)]
    done = subprocess.run(argv, capture_output=True, check=False, text=True)
    assert done.returncode == 4
    assert done.stderr == (
        "ks-cook: error: Input/output error: standard output; check that disk or network and run it again\n"
    )


def test_a_name_that_is_no_utf_8_can_be_printed() -> None:
    script = PRINT.format(lines=1, code=0).replace("print(number)", "print(sys.argv[1])")
    done = subprocess.run([sys.executable, "-c", script, b"a\xff"], capture_output=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"a\\udcff\n", b"")


def test_a_command_that_is_cut_short_by_its_reader_has_not_done_its_work() -> None:
    code, shown, told = shell(PRINT.format(lines=100_000, code=0), "head -1")

    assert (code, shown) == (3, "0\n")
    assert told == "ks-cook: stopped: the reader of its output has gone\n"


# --- Signals ----------------------------------------------------------------------------------------------------------


def test_the_first_signal_asks_to_stop() -> None:
    with stoppable(signal.SIGTERM, signal.SIGUSR1) as stop:
        assert not stop
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop
        assert stop.by is signal.SIGTERM
        assert f"stopped by {stop}" == "stopped by SIGTERM"


def test_handlers_are_as_before_after_the_block_and_after_an_error() -> None:
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)

    def work() -> None:
        with stoppable(signal.SIGTERM, signal.SIGINT):
            assert signal.getsignal(signal.SIGTERM) != before[0]
            raise ValueError("x")

    with pytest.raises(ValueError, match="x"):
        work()

    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before


def test_signals_of_the_same_moment_are_one_request_and_afterwards_every_handler_is_as_before() -> None:
    before = signal.getsignal(signal.SIGUSR1), signal.getsignal(signal.SIGTERM)
    with stoppable(signal.SIGUSR1, signal.SIGTERM) as stop:
        os.kill(os.getpid(), signal.SIGUSR1)
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.by is signal.SIGUSR1
    assert (signal.getsignal(signal.SIGUSR1), signal.getsignal(signal.SIGTERM)) == before


@pytest.mark.parametrize(
    ("second", "code"), [(signal.SIGTERM, -signal.SIGTERM), (signal.SIGINT, STOPPED)], ids=["term", "interrupt"]
)
def test_a_second_signal_ends_the_process_at_once(second: signal.Signals, code: int) -> None:
    script = """
import signal, sys, time
from kinetics_sounds.command import command, stoppable
signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell takes from what it runs in the background
def run():
    with stoppable(signal.SIGINT, signal.SIGTERM) as stop:
        print("ready", flush=True)
        while not stop:
            time.sleep(0.01)
        print("asked", flush=True)
        time.sleep(60)
    return 0
sys.exit(command("ks-cook", run))
"""
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as child:
        assert child.stdout
        assert child.stdout.readline() == b"ready\n"
        child.send_signal(signal.SIGTERM)
        assert child.stdout.readline() == b"asked\n"
        child.send_signal(second)  # within the same moment: the same request
        time.sleep(SAME_SECONDS + 0.2)
        assert child.poll() is None
        began = time.monotonic()
        child.send_signal(second)
        assert child.wait(timeout=20) == code
        assert time.monotonic() - began < 20


def test_no_traceback_and_no_line_of_a_log_tells_a_secret() -> None:
    code = textwrap.dedent("""
        import logging
        from kinetics_sounds.command import command

        def run():
            logging.getLogger("a.library").warning("asked http://me:CANARY@host.example/a?sig=CANARY")
            raise LookupError("https://host.example/b?sig=CANARY")

        raise SystemExit(command("ks-x", run))
    """)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)

    assert done.returncode == 4
    assert "asked http://***@host.example/a?***\n" in done.stderr
    assert "LookupError: https://host.example/b?***\n" in done.stderr
    assert "CANARY" not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("prog", "main", "word", "meant"),
    [
        ("ks-train", "kinetics_sounds.train.__main__", "bnech", "bench"),
        ("ks-train", "kinetics_sounds.train.__main__", "comparre", "compare"),
        ("ks-shard", "kinetics_sounds.pipelines.shard", "stat", "stats"),
        ("ks-publish", "kinetics_sounds.pipelines.publish", "dif", "diff"),
    ],
)
def test_a_mistyped_subcommand_is_suggested(
    prog: str, main: str, word: str, meant: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert importlib.import_module(main).main([word, "--out", "x"]) == MISUSE

    told = capsys.readouterr().err
    assert told.startswith(f"{prog}: error: '{word}' is neither an option nor a subcommand")
    assert f"did you mean '{meant}'" in told


def test_options_and_subcommands_are_no_mistake() -> None:
    for words in ([], ["--out", "x"], ["bench", "x"]):
        check_subcommand("ks", words, ["bench"])
