import contextlib
import errno
import os
import re
import resource
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import av
import ffmpeg as builder
import pytest

from kinetics_sounds.errors import MediaError
from kinetics_sounds.media import ffmpeg, measure, probe, trim

from .conftest import numbers, tool


def script(path: Path, body: str) -> Path:
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def alive(pid: int) -> bool:
    """Whether a process runs; one that ended and that nobody waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def first_word(pid: int) -> str:
    """Of a process's command; empty where it has just ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().split("\0")[0]
    except (FileNotFoundError, ProcessLookupError):
        return ""


def until(met: Callable[[], bool], *, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not met() and time.monotonic() < deadline:
        time.sleep(0.02)
    return met()


def nothing(path: Path) -> Any:
    """A graph that any program can be given."""
    return ffmpeg.sink(ffmpeg.source(path), path=path.with_suffix(".out"), format="null")


@pytest.fixture
def hanging(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A tool that starts a child and hangs; the file that then holds both pids."""
    pids = tmp_path / "pids"
    body = f'sleep 15 &\necho "$$ $!" > {pids}.part; mv {pids}.part {pids}; wait'
    path = script(tmp_path / "tool", body)
    monkeypatch.setattr(ffmpeg, "executable", lambda: str(path))
    return pids


def test_the_tool_is_there_and_says_its_version() -> None:
    assert os.access(ffmpeg.executable(), os.X_OK)
    assert re.match(r"n?\d+\.\d+", ffmpeg.version())


def test_a_run_past_its_wall_clock_is_killed_with_its_children(hanging: Path, tmp_path: Path) -> None:
    begun = time.monotonic()
    with pytest.raises(ffmpeg.TimedOutError, match=r"more than 0\.5 s and was killed"):
        ffmpeg.run(nothing(tmp_path / "in.mp4"), timeout_seconds=0.5)

    assert 0.5 <= time.monotonic() - begun < 2
    pids = [int(pid) for pid in hanging.read_text().split()]
    assert len(pids) == 2
    assert until(lambda: not any(map(alive, pids)), seconds=1)


def test_an_interrupt_kills_the_tool_with_its_children(hanging: Path, tmp_path: Path) -> None:
    class Interrupted(Exception):  # noqa: N818 - it stands for KeyboardInterrupt
        pass

    def interrupt(*_: object) -> None:
        raise Interrupted

    def when_it_hangs() -> None:
        until(hanging.exists, seconds=10)
        os.kill(os.getpid(), signal.SIGUSR1)

    before = signal.signal(signal.SIGUSR1, interrupt)
    try:
        threading.Thread(target=when_it_hangs).start()
        with pytest.raises(Interrupted):
            ffmpeg.run(nothing(tmp_path / "in.mp4"), timeout_seconds=30)
    finally:
        signal.signal(signal.SIGUSR1, before)

    pids = [int(pid) for pid in hanging.read_text().split()]
    assert len(pids) == 2
    assert until(lambda: not any(map(alive, pids)), seconds=20)


def test_a_tool_that_hangs_on_its_input_is_killed(tmp_path: Path) -> None:
    endless = builder.input("anullsrc", format="lavfi", re=None)
    output = ffmpeg.sink(endless, path=tmp_path / "out.wav", format="wav")

    with pytest.raises(ffmpeg.TimedOutError):
        ffmpeg.run(output, timeout_seconds=0.3)


ENDLESS = """
import sys
from pathlib import Path
import ffmpeg as builder
from kinetics_sounds.media import ffmpeg
if sys.argv[2] == "none":
    ffmpeg.kill_with_parent = lambda: ()
endless = builder.input("testsrc2=size=640x480", format="lavfi")
ffmpeg.run(ffmpeg.sink(endless, path=Path(sys.argv[1]), format="null"), timeout_seconds=float(sys.argv[3]))
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kill_with_parent", "timeout_seconds", "most_seconds"), [("setpriv", 300, 2), ("none", 0.9, 30)]
)
def test_a_tool_whose_caller_was_killed_ends_too(
    tmp_path: Path, kill_with_parent: str, timeout_seconds: float, most_seconds: float
) -> None:
    """At once where there is a kill_with_parent; else when it has used its time."""
    if kill_with_parent == "setpriv" and not ffmpeg.kill_with_parent():
        pytest.skip("no setpriv here that can do it")
    argv = [sys.executable, "-c", ENDLESS, str(tmp_path / "out"), kill_with_parent, str(timeout_seconds)]
    with subprocess.Popen(argv, stderr=subprocess.DEVNULL) as caller:
        children = Path(f"/proc/{caller.pid}/task/{caller.pid}/children")

        def tools() -> list[int]:
            pids = [int(pid) for pid in children.read_text().split()] if caller.poll() is None else []
            return [pid for pid in pids if "ffmpeg" in first_word(pid)]

        try:
            assert until(lambda: bool(tools()) or caller.poll() is not None, seconds=30)
            time.sleep(0.5)  # or its first words, which nobody reads, would end it
            orphans = tools()
        finally:
            caller.kill()

    assert orphans
    try:
        assert until(lambda: not any(map(alive, orphans)), seconds=most_seconds)
    finally:
        for pid in filter(alive, orphans):
            os.kill(pid, signal.SIGKILL)


def test_a_system_whose_setpriv_is_another_goes_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script(tmp_path / "setpriv", "exit 1")
    monkeypatch.setenv("PATH", str(tmp_path))

    assert ffmpeg.kill_with_parent.__wrapped__() == ()


def lavfi(graph: str) -> Any:
    return builder.input(graph, format="lavfi")


@pytest.mark.parametrize(("name", "words"), [("mp4", {"vcodec": "libx264"}), ("framecrc", {}), ("rawvideo", {})])
def test_a_full_disk_is_no_fault_of_the_file(name: str, words: dict[str, str]) -> None:
    """With x264 the words are not among the tool's last."""
    output = ffmpeg.sink(lavfi("testsrc2=duration=1"), path=Path("/dev/full"), format=name, **words)

    with pytest.raises(OSError, match="No space left on device") as caught:
        ffmpeg.run(output, timeout_seconds=20)
    assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, "/dev/full")


def test_a_title_cannot_claim_that_the_disk_is_full(ramp: Path, tmp_path: Path) -> None:
    titled = tmp_path / "titled.mp4"
    tool("-i", ramp, "-c", "copy", "-metadata", "title=[mp4 @ 0x1] No space left on device", titled)
    output = ffmpeg.sink(ffmpeg.source(titled)["5"], path=tmp_path / "out.mp4", format="mp4")  # there is no stream 5

    with pytest.raises(MediaError, match="ended with") as caught:
        ffmpeg.run(output, timeout_seconds=20)
    assert not isinstance(caught.value, ffmpeg.TooLargeError)


def test_a_run_that_writes_too_much_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A minute of it has 173 MB; the limit comes into force once the tool runs, and has written some on a busy machine."""
    monkeypatch.setattr(ffmpeg, "MAX_OUTPUT", 2**20)
    output = ffmpeg.sink(lavfi("testsrc2=duration=60"), path=tmp_path / "out.yuv", format="rawvideo")

    with pytest.raises(ffmpeg.TooLargeError, match="wrote more than 1 MiB"):
        ffmpeg.run(output, timeout_seconds=20)
    assert 2**20 <= (tmp_path / "out.yuv").stat().st_size < 2**26


def test_a_run_that_takes_too_much_memory_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """To show the last first, all 100 pictures of 12 MB have to be kept."""
    monkeypatch.setattr(ffmpeg, "MAX_MEMORY", 2**30)
    backwards = lavfi("testsrc2=size=3840x2160:duration=4").filter("reverse")
    output = ffmpeg.sink(backwards, path=tmp_path / "out", format="null")

    with pytest.raises(ffmpeg.TooLargeError, match="more than 1024 MiB of memory"):
        ffmpeg.run(output, timeout_seconds=60)


def test_a_run_that_says_too_much_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ffmpeg, "MAX_MESSAGES", 2**20)
    monkeypatch.setattr(ffmpeg, "executable", lambda: str(script(tmp_path / "tool", "exec yes >&2")))

    with pytest.raises(ffmpeg.TooLargeError, match="more than 1 MiB of messages"):
        ffmpeg.run(nothing(tmp_path / "in.mp4"), timeout_seconds=20)


TOLD = """Input #0, avi, from 'low.avi':
  Metadata:
    title           : n:   3 pts:      3 pts_time:0.15
[Parsed_showinfo_0 @ 0x5] n:   2 pts:      2 pts_time:0.1     duration:      1 duration_time:0.05    fmt:yuvj420p
Output #0, mp4, to 'cut.mp4':
  Stream #0:0{}: Video: h264
[Parsed_showinfo_0 @ 0x5] n:   4 pts:      4 pts_time:0.2     duration:      1 duration_time:0.05    fmt:yuvj420p
"""
TORN = TOLD.format("n:   3 pts:      3 pts_time:0.15    duration:      1 duration_time:0.05    fmt:yuvj420p type:I \n")


def test_a_run_is_made_again_while_its_messages_come_torn(monkeypatch: pytest.MonkeyPatch) -> None:
    """As two of 2,000 runs gave them on a busy machine: a frame's line lost its filter's name, and the frame was missed."""
    texts = [TORN, TORN, TOLD.format("")]
    monkeypatch.setattr(ffmpeg, "_run", lambda *_: (texts.pop(0), set()))

    assert ffmpeg.run(timeout_seconds=1) == TOLD.format("")
    assert texts == []


def test_messages_that_always_come_torn_are_the_machine_s_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ffmpeg, "_run", lambda *_: (TORN, set()))

    with pytest.raises(OSError, match="garbled five times") as caught:
        ffmpeg.run(timeout_seconds=1)
    assert caught.value.errno == errno.EAGAIN


def test_a_failing_run_says_the_tool_s_own_words(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="No such file or directory") as caught:
        ffmpeg.run(nothing(tmp_path / "missing.mp4"), timeout_seconds=10)

    assert "\n" not in str(caught.value)
    assert not isinstance(caught.value, ffmpeg.TimedOutError)


def test_a_tool_that_is_killed_is_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ffmpeg.version()  # asked of the real tool, and kept
    monkeypatch.setattr(ffmpeg, "executable", lambda: str(script(tmp_path / "tool", "kill -9 $$")))

    with pytest.raises(ffmpeg.KilledError, match="ended with -9"):
        ffmpeg.run(nothing(tmp_path / "in.mp4"), timeout_seconds=10)


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (signal.SIGTERM, ffmpeg.KilledError),
        (signal.SIGINT, ffmpeg.KilledError),
        (signal.SIGXCPU, ffmpeg.TimedOutError),
    ],
)
def test_a_signal_that_the_tool_catches_is_no_fault_of_the_file(
    number: signal.Signals, kind: type[MediaError], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The real tool, which then ends in good order with 255."""
    real = ffmpeg.executable()
    ffmpeg.version()
    body = f'{real} "$@" & tool=$!; trap "" INT; sleep 1; kill -{number} $tool; wait $tool'
    monkeypatch.setattr(ffmpeg, "executable", lambda: str(script(tmp_path / "tool", body)))
    endless = builder.input("anullsrc", format="lavfi", re=None)

    with pytest.raises(MediaError, match="ended with 255: ") as caught:
        ffmpeg.run(ffmpeg.sink(endless, path=tmp_path / "out.wav", format="wav"), timeout_seconds=20)
    assert type(caught.value) is kind


def test_a_title_cannot_claim_that_the_tool_was_killed() -> None:
    text = "    title           : Exiting normally, received signal 15.\nError opening output files: Invalid argument\n"

    assert type(ffmpeg.failure(255, text)) is ffmpeg.FailedError
    assert type(ffmpeg.failure(234, "Exiting normally, received signal 15.\n")) is ffmpeg.FailedError


def test_a_site_s_lower_limit_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """This process may write 1 MiB and no more; to raise that again would take a privilege, and is not tried."""
    asked: list[tuple[int, int]] = []
    told, prlimit = tmp_path / "told", resource.prlimit

    def site(pid: int, kind: int, limits: tuple[int, int] | None = None) -> tuple[int, int]:
        if kind == resource.RLIMIT_FSIZE and limits is None:
            return (2**20, 2**20)
        if kind == resource.RLIMIT_FSIZE and limits is not None:
            asked.append(limits)
        return prlimit(pid, kind) if limits is None else prlimit(pid, kind, limits)

    monkeypatch.setattr("resource.prlimit", site)
    monkeypatch.setattr(ffmpeg, "executable", lambda: str(script(tmp_path / "tool", f"sleep 0.3; ulimit -f > {told}")))
    ffmpeg.run(nothing(tmp_path / "in.mp4"), timeout_seconds=10)

    assert asked == [(2**20, 2**20)]
    assert int(told.read_text()) * 512 == 2**20


def test_a_tool_that_crashes_leaves_no_core_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told, before = tmp_path / "told", resource.getrlimit(resource.RLIMIT_CORE)
    if not before[1]:
        pytest.skip("this machine allows none to anybody")
    body = f'until [ "$(ulimit -f)" != unlimited ]; do sleep 0.05; done; sleep 0.1; ulimit -c > {told}'
    monkeypatch.setattr(ffmpeg, "executable", lambda: str(script(tmp_path / "tool", body)))
    resource.setrlimit(resource.RLIMIT_CORE, (before[1], before[1]))  # as a shell's is that wants them
    try:
        ffmpeg.run(nothing(tmp_path / "in.mp4"), timeout_seconds=20)
    finally:
        resource.setrlimit(resource.RLIMIT_CORE, before)

    assert told.read_text() == "0\n"


@pytest.mark.parametrize("code", [126, 127])
def test_a_tool_that_setpriv_cannot_start_is_no_fault_of_the_file(
    code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = f"echo 'setpriv: failed to execute ffmpeg' >&2; exit {code}"
    monkeypatch.setattr(ffmpeg, "executable", lambda: str(script(tmp_path / "tool", body)))

    with pytest.raises(OSError, match="not started: setpriv: failed to execute ffmpeg"):
        ffmpeg.run(nothing(tmp_path / "in.mp4"), timeout_seconds=10)


@pytest.mark.parametrize("number", [errno.EAGAIN, errno.EMFILE, errno.ENFILE, errno.ESTALE, errno.EIO])
def test_the_machine_s_own_faults_are_none_of_the_file(number: int) -> None:
    text = f"[vf#0:0 @ 0x1] it failed: {os.strerror(number)}\nConversion failed!\n"
    found = ffmpeg.failure(1, text, [Path("in.mp4")], [Path("out.mp4"), Path("out.flac")])

    assert isinstance(found, OSError)
    assert (found.errno, found.filename) == (number, "out.mp4")
    assert type(ffmpeg.failure(1, f"  title : [a @ 0x1] {os.strerror(number)}\nFailed!\n")) is ffmpeg.FailedError


def test_a_file_that_is_cut_short_is_at_fault_though_its_demuxer_speaks_of_the_disk(ramp: Path, tmp_path: Path) -> None:
    """Matroska's says so of a file that ends early. A folder stands for a file that the disk does not give."""
    text = "[in#0 @ 0x1] Error opening input: Input/output error\nError opening input files: Input/output error\n"

    assert type(ffmpeg.failure(251, text, [ramp])) is ffmpeg.FailedError
    with pytest.raises(IsADirectoryError):
        ffmpeg.failure(251, text, [tmp_path])


def test_several_threads_reach_the_wall_clock_before_the_limit_of_cpu_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The limit counts the seconds of all threads together."""
    monkeypatch.setattr(ffmpeg, "executable", lambda: str(script(tmp_path / "tool", 'echo "$@" >&2')))

    words = ffmpeg.run(nothing(tmp_path / "in.mp4"), timeout_seconds=20).split()

    assert int(words[words.index("-timelimit") + 1]) > 20 * ffmpeg.BUSY_THREADS


def test_words_that_are_not_utf_8_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ffmpeg, "executable", lambda: str(script(tmp_path / "tool", r"printf 'caf\351' >&2")))

    assert ffmpeg.run(nothing(tmp_path / "in.mp4"), timeout_seconds=10) == "caf\ufffd"


def test_a_tool_that_writes_much_does_not_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    body = "head -c 1000000 /dev/zero | tr '\\0' x >&2"
    monkeypatch.setattr(ffmpeg, "executable", lambda: str(script(tmp_path / "tool", body)))

    assert len(ffmpeg.run(nothing(tmp_path / "in.mp4"), timeout_seconds=20)) == 1_000_000


def test_no_shell_stands_between(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ffmpeg.kill_with_parent(), ffmpeg.executable()  # found once, and kept
    calls: list[tuple[Any, dict[str, Any]]] = []
    real = subprocess.Popen

    def popen(argv: list[str], **options: Any) -> Any:
        calls.append((argv, options))
        return real(["true"], **options)

    monkeypatch.setattr(subprocess, "Popen", popen)
    name = tmp_path / "a; touch b $(touch c).mp4"
    ffmpeg.run(nothing(name), timeout_seconds=1)

    [(argv, options)] = calls
    assert argv[: argv.index(ffmpeg.executable())] == list(ffmpeg.kill_with_parent())
    assert f"file:{name}" in argv
    assert "shell" not in options
    assert options["start_new_session"]
    assert options["stdin"] == subprocess.DEVNULL
    assert "-nostdin" in argv


@pytest.mark.parametrize("folder", [b"\xb5\xaf\xbc\xaa", "é 弹吉".encode()])
def test_a_folder_may_be_called_anything_and_is_left_out_of_what_is_told(folder: bytes, tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(folder) / "in.mp4"
    path.parent.mkdir()
    tool("-f", "lavfi", "-i", "testsrc2=s=32x32:d=0.2", "-f", "lavfi", "-i", "sine=d=0.2", path)
    out = path.with_name("out.mp4")

    ffmpeg.run(ffmpeg.sink(ffmpeg.source(path).video, path=out, vcodec="copy"), timeout_seconds=20)

    found = probe.probe(out).video
    assert found is not None
    assert found.width == 32
    path.write_bytes(b"no video")
    with pytest.raises(MediaError, match=r"Error opening input file in\.mp4") as caught:
        ffmpeg.run(ffmpeg.sink(ffmpeg.source(path).video, path=out, vcodec="copy"), timeout_seconds=20)
    assert path.parent.name not in str(caught.value)


@pytest.mark.parametrize(
    "name",
    [
        "-y.mp4",
        "a b.mp4",
        "$(touch pwned).mp4",
        "'[0:v]';,x=y.mp4",
        "concat:a|b.mp4",
        "%d.mp4",
        "http:x.mp4",
        "ü\n.mp4",
    ],
)
def test_a_file_may_have_any_name(ramp: Path, found: probe.Probe, tmp_path: Path, name: str) -> None:
    video, out = tmp_path / name, tmp_path / f"out{name}"
    video.symlink_to(ramp)

    trim.cut(video, out, found=found, start_seconds=0, seconds=0.5, timeout_seconds=20)

    assert numbers(out) == [0, 1, 2, 3, 4]
    assert {path.name for path in tmp_path.iterdir()} == {name, f"out{name}"}


PLAYLISTS = {
    "concat": "ffconcat version 1.0\nfile {name}\n",
    "hls": "#EXTM3U\n#EXT-X-TARGETDURATION:8\n#EXTINF:8,\nfile:{path}\n#EXT-X-ENDLIST\n",
    "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\na=rtpmap:96 H264/90000\n",
    "dash": '<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static"><Period><AdaptationSet mimeType="video/mp4">'
    "<Representation><BaseURL>file:{path}</BaseURL></Representation></AdaptationSet></Period></MPD>",
}


@pytest.mark.parametrize("kind", PLAYLISTS)
def test_a_playlist_in_disguise_opens_no_other_file(ramp: Path, found: probe.Probe, tmp_path: Path, kind: str) -> None:
    playlist = tmp_path / "clip.mp4"
    (tmp_path / "secret.mp4").symlink_to(ramp)
    playlist.write_text(PLAYLISTS[kind].format(name="secret.mp4", path=tmp_path / "secret.mp4"))

    with pytest.raises(MediaError):
        probe.probe(playlist)
    with pytest.raises(MediaError):
        probe.spans(playlist)
    with pytest.raises(MediaError):
        measure.measure(playlist, found=found, scratch=tmp_path, timeout_seconds=20)


def test_without_the_list_of_formats_the_playlist_would_be_followed(ramp: Path, tmp_path: Path) -> None:
    playlist = tmp_path / "clip.mp4"
    (tmp_path / "secret.mp4").symlink_to(ramp)
    playlist.write_text(PLAYLISTS["concat"].format(name="secret.mp4"))

    tool("-i", playlist, "-c", "copy", tmp_path / "leaked.mp4")

    assert len(numbers(tmp_path / "leaked.mp4")) == 80


@pytest.fixture
def address() -> Iterator[tuple[str, list[bytes]]]:
    """A local address, and what it was sent; nobody answers there."""
    sent: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def hear() -> None:
            with contextlib.suppress(OSError):  # closed at the end of the test
                while True:
                    caller, _ = listening.accept()
                    with caller:
                        sent.append(caller.recv(4096))

        thread = threading.Thread(target=hear)
        thread.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/clip.mp4", sent
        listening.shutdown(socket.SHUT_RDWR)
        thread.join()


def test_no_address_is_asked_whatever_a_file_leads_to(
    address: tuple[str, list[bytes]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Should a container of the list ever follow an address, it would be opened with these options."""
    url, sent = address
    opens = av.open
    monkeypatch.setattr(av, "open", lambda _name, **options: opens(url, **options))
    monkeypatch.setattr(ffmpeg, "word_of", lambda path: url if path.name == "in.mp4" else f"file:{path}")

    with pytest.raises(MediaError):
        probe.probe(tmp_path)
    with pytest.raises(MediaError, match="Error opening input"):
        ffmpeg.run(nothing(tmp_path / "in.mp4"), timeout_seconds=20)
    assert sent == []

    with pytest.raises(av.FFmpegError):
        opens(url)  # which asks
    assert sent[0].startswith(b"GET /clip.mp4")


def test_last_words_are_one_short_line_without_addresses() -> None:
    text = "first\n\n[h264 @ 0x55d0c0ffee] broken\n  second to last  \nlast\n"

    assert ffmpeg.last_words(text) == "[h264] broken | second to last | last"
    assert ffmpeg.last_words("x" * 1000, most=5) == "xxxxx"
    assert ffmpeg.last_words("") == ""


def test_a_missing_tool_names_the_way_to_give_one(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> str:
        raise RuntimeError("No ffmpeg exe could be found")

    monkeypatch.setattr("imageio_ffmpeg.get_ffmpeg_exe", missing)

    with pytest.raises(MediaError, match="IMAGEIO_FFMPEG_EXE=PATH"):
        ffmpeg.executable.__wrapped__()
