"""Run ffmpeg: arguments built by ffmpeg-python, no shell, and limits on time, memory, output and messages.

At the time limit the whole process group is killed. On Linux ffmpeg also dies with the thread that waits for it.
"""

import errno
import functools
import itertools
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ffmpeg
import imageio_ffmpeg

from .. import files
from ..errors import MediaError
from . import messages

PROTOCOLS = "file,pipe"
"""Allowed protocols: a playlist inside a video must not make ffmpeg open anything else."""
CONTAINERS = "mov,matroska,avi,flv,mpegts,mpeg,ogg,asf,mp3,wav,flac,aac"
"""Allowed demuxers; playlists and scripts are not among them."""
MAX_PIXELS = 2**25
"""Maximum size of a picture in pixels, just over 8K: a small file that claims more would take gigabytes of memory."""
MAX_STREAMS = 100
"""Maximum number of streams: each costs memory before the first frame is read. Further streams of a Matroska are ignored."""
OPEN_OPTIONS = {
    "protocol_whitelist": PROTOCOLS,
    "format_whitelist": CONTAINERS,
    "max_pixels": str(MAX_PIXELS),
    "max_streams": str(MAX_STREAMS),
}
"""Options for opening untrusted files."""
MAX_MEMORY = 4 * 2**30
"""Maximum address space of a run in bytes, on Linux; trimming 8K takes three quarters of it."""
MAX_OUTPUT = 2**30
"""Maximum size of an output file in bytes; ten seconds of 4K take a tenth of it."""
BUSY_THREADS = min(os.cpu_count() or 1, 8)
"""Threads that a run can keep busy: a reader, a decoder and an encoder per stream, their filters, a writer."""
MAX_MESSAGES = 2**28
"""Maximum size of the messages in bytes: several hours of frames, one line each."""
BIT_EXACT_SCALE = "bicubic+accurate_rnd+bitexact"
"""The only scaler flags that give the same bytes on every x86-64 CPU."""
_FIXED_POINT_DECODERS = {"aac": "aac_fixed", "ac3": "ac3_fixed", "mp2": "mp2", "mp3": "mp3"}
"""Audio decoders whose output does not depend on the CPU."""

NEEDED: Mapping[str, tuple[str, ...]] = {
    "encoders": ("libx264", "mjpeg", "aac", "flac", "pcm_f32le", "pcm_s16le"),
    "decoders": ("h264", *_FIXED_POINT_DECODERS.values()),
    "filters": (
        *("showinfo", "freezedetect", "fps", "trim", "setpts", "crop", "scale", "setsar", "format"),
        *("ashowinfo", "atrim", "asetpts", "aresample", "astats", "asplit", "channelmap", "pad"),
        *("setparams", "zscale", "tonemap"),  # for a high dynamic range alone
    ),
}
"""ffmpeg components that this package needs, by the option that lists them."""


class FailedError(MediaError):
    """ffmpeg ended with an error."""

    def __init__(self, reason: str, messages: str) -> None:
        """`messages`: all output of ffmpeg."""
        super().__init__(reason)
        self.messages = messages


class TimedOutError(MediaError):
    """ffmpeg exceeded its time limit and was killed, or its CPU time limit."""


class TooLargeError(MediaError):
    """A file, its picture, or the resources to decode it exceed a limit."""


class KilledError(MediaError):
    """ffmpeg was killed by a signal that was not ours: a crash, or lack of memory."""


@functools.cache
def executable() -> str:
    """Path of the ffmpeg to run: the bundled one, unless `IMAGEIO_FFMPEG_EXE` names another."""
    try:
        return str(imageio_ffmpeg.get_ffmpeg_exe())
    except RuntimeError as error:
        raise MediaError(f"no ffmpeg: {error}; name one with IMAGEIO_FFMPEG_EXE=PATH") from error


@functools.cache
def version() -> str:
    """Version string of ffmpeg, for example `n9.0.2`."""
    try:
        result = subprocess.run([executable(), "-version"], capture_output=True, text=True, check=True, timeout=30)
    except (OSError, subprocess.SubprocessError) as error:
        raise MediaError(f"{executable()}: does not run ({error}); check IMAGEIO_FFMPEG_EXE") from error
    return result.stdout.split()[2]


def missing_components(*, timeout_seconds: float) -> list[str]:
    """Components of `NEEDED` missing from this ffmpeg, such as `encoder libx264`.

    Raises TimedOutError if a listing takes longer, MediaError if it fails, OSError if ffmpeg does not start.
    """
    lacks: list[str] = []
    for kind, names in NEEDED.items():
        argv = [executable(), "-hide_banner", f"-{kind}"]
        try:
            listed = subprocess.run(argv, check=True, capture_output=True, text=True, timeout=timeout_seconds).stdout
        except subprocess.TimeoutExpired as error:
            raise TimedOutError(f"{argv[0]} -{kind} took more than {timeout_seconds:g} s and was killed") from error
        except subprocess.CalledProcessError as error:
            words = last_words(error.stderr)
            raise MediaError(f"{argv[0]} -{kind} ended with {error.returncode}: {words}") from error
        there = {line.split()[1] for line in listed.splitlines() if len(line.split()) > 1}
        lacks += [f"{kind.removesuffix('s')} {name}" for name in names if name not in there]
    return lacks


def source(path: Path, *, audio_codec: str = "", **options: str | float | None) -> Any:  # noqa: ANN401 - ffmpeg-python is untyped
    """Input node for an untrusted file: one thread, safe demuxers only, CPU-independent decoding."""
    decoder = _FIXED_POINT_DECODERS.get(audio_codec)
    chosen: dict[str, str | float] = {"acodec": decoder} if decoder else {}
    return ffmpeg.input(word_of(path), threads=1, **OPEN_OPTIONS, **chosen, **options)


def sink(*streams: Any, path: Path, **options: str | float) -> Any:  # noqa: ANN401 - ffmpeg-python is untyped
    """Output node: one thread, no metadata, independent of clock and CPU."""
    fixed: Mapping[str, str | float] = {
        "threads": 1,
        "map_metadata": -1,
        "fflags": "+bitexact",
        "flags": "+bitexact",
    }
    return ffmpeg.output(*streams, word_of(path), **{**fixed, **options})


def word_of(path: Path) -> str:
    """A path encoded as ASCII for the graph, one letter per byte: ffmpeg-python only accepts UTF-8."""
    return os.fsencode(f"file:{path.absolute()}").decode("latin-1")


def _path_word(word: str) -> str:
    """Decode a word made by `word_of` for argv; any other word is returned unchanged."""
    return os.fsdecode(word.encode("latin-1")) if word.startswith("file:") else word


def run(*outputs: Any, timeout_seconds: float) -> str:  # noqa: ANN401 - ffmpeg-python is untyped
    """Run the graph; returns the messages of ffmpeg, one per line.

    ffmpeg exits normally if its input ends early, whether the file is truncated or the disk failed for a moment: such a run is
    repeated once, after the input was read to its end. Raises TimedOutError at the time limit, TooLargeError beyond another
    limit, KilledError if something else killed ffmpeg, OSError for faults of the machine (disk full; `MACHINE`; unreadable
    input; ffmpeg does not start), and FailedError with ffmpeg's own errors otherwise.
    """
    text, broken = _whole_words(outputs, timeout_seconds)
    if not broken or broken <= _ENDS_EARLY:
        return text
    for path, _, _ in broken:
        read_through(path)
    text, again = _whole_words(outputs, timeout_seconds)
    _ENDS_EARLY.update(again)
    return text


_ENDS_EARLY: set[tuple[Path, int, int]] = set()
"""Files (with size and mtime) that end early on every read: the file itself is truncated."""


def _whole_words(outputs: Sequence[Any], timeout_seconds: float) -> tuple[str, set[tuple[Path, int, int]]]:
    for _ in range(5):
        text, broken = _run(outputs, timeout_seconds)
        if not messages.garbled(text):
            return text, broken
    raise OSError(errno.EAGAIN, "its messages were garbled five times in a row", executable())


def _run(outputs: Sequence[Any], timeout_seconds: float) -> tuple[str, set[tuple[Path, int, int]]]:
    """Run ffmpeg once: its messages, and its inputs if one of them ended early.

    `-timelimit` also bounds ffmpeg's own CPU time, for systems on which it outlives its parent. It counts all threads, so it
    must be longer than the time limit.
    """
    graph = outputs[0] if len(outputs) == 1 else ffmpeg.merge_outputs(*outputs)
    cpu_seconds = (int(timeout_seconds) + 1) * (BUSY_THREADS + 1)
    graph = graph.global_args("-nostdin", "-hide_banner", "-nostats", "-y", "-timelimit", str(cpu_seconds))
    words = map(_path_word, graph.get_args())
    argv = [*kill_with_parent(), executable(), "-v", "repeat+level+info", "-filter_complex_threads", "1", *words]
    with subprocess.Popen(
        argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True
    ) as process:
        try:
            _limit(process.pid)
            text = _words(process, timeout_seconds)
        finally:
            _kill(process)
    places = [(flag == "-i", Path(word[5:])) for flag, word in itertools.pairwise(argv) if word.startswith("file:")]
    inputs, made = ([path for is_input, path in places if is_input == wanted] for wanted in (True, False))
    if process.returncode != 0:
        for place in (word for word in argv if word.startswith("file:")):  # folders differ from run to run
            text = text.replace(os.fsencode(place).decode("utf-8", "replace"), Path(place).name)
        raise failure(process.returncode, text, inputs, made)
    facts = ((path, path.stat()) for path in inputs if _BROKEN_OFF.search(text))
    return _LEVEL.sub(r"\1", text), {(path, found.st_size, found.st_mtime_ns) for path, found in facts}


@functools.cache
def kill_with_parent() -> tuple[str, ...]:
    """Command prefix that makes the kernel kill ffmpeg with the thread that started it; empty if not on Linux.

    Some small systems have a `setpriv` without the option.
    """
    setpriv = shutil.which("setpriv")
    words = (setpriv, "--pdeathsig", "KILL", "--") if setpriv else ()
    known = words and subprocess.run([*words, "true"], capture_output=True, check=False, timeout=30).returncode == 0
    return words if known else ()


def _limit(pid: int) -> None:
    if sys.platform == "linux":
        limits = {resource.RLIMIT_AS: MAX_MEMORY, resource.RLIMIT_FSIZE: MAX_OUTPUT, resource.RLIMIT_CORE: 0}
        for kind, most in limits.items():
            allowed = resource.prlimit(pid, kind)[1]  # the site's, which a user may not raise
            least = most if allowed == resource.RLIM_INFINITY else min(most, allowed)
            resource.prlimit(pid, kind, (least, least))


def _words(process: subprocess.Popen[bytes], timeout_seconds: float) -> str:
    """All output of ffmpeg until it ends."""
    late = threading.Event()

    def expire() -> None:
        late.set()
        _kill(process)

    clock = threading.Timer(timeout_seconds, expire)
    clock.start()
    try:
        written = process.stderr.read(MAX_MESSAGES) if process.stderr else b""
        if len(written) == MAX_MESSAGES:
            raise TooLargeError(f"ffmpeg wrote more than {MAX_MESSAGES >> 20} MiB of messages and was killed")
        process.wait()
    finally:
        clock.cancel()
    if late.is_set():
        raise TimedOutError(f"ffmpeg took more than {timeout_seconds:g} s and was killed")
    return written.decode("utf-8", "replace")


def _kill(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)


_LEVEL = re.compile(
    r"^((?:\[[^\]\n]* @ [^\]\n]*\] )*)\[(?P<level>panic|fatal|error|warning|info|verbose|debug)\] ", re.MULTILINE
)
"""Prefix of a message with `-v level`, after its context."""
_BROKEN_OFF = re.compile(
    r"^\[.*(?:Error during demuxing|Read error|ended prematurely|[Pp]artial file|Input/output error|Connection timed out)",
    re.MULTILINE,
)
"""Message about an input that could not be read to its end."""
_FULL = re.compile(r"^\[.*(No space left on device|Disk quota exceeded)\)?$", re.MULTILINE)
_NO_MEMORY = re.compile(r"^(\[.*Cannot allocate memory\)?|x264 \[error\]: malloc of size \d+ failed)$", re.MULTILINE)
_CAUGHT = re.compile(r"^(?:\[.*\] )?Exiting normally, received signal (\d+)\.$", re.MULTILINE)
"""Start of ffmpeg's own lines; lines from the file's metadata are indented."""
CAUGHT = 255
"""Exit code of ffmpeg after a caught signal and an orderly exit."""
NOT_STARTED = {126: errno.EACCES, 127: errno.ENOENT}
"""Exit codes of a `setpriv` that could not start ffmpeg, and their errno."""
MACHINE = (errno.EIO, errno.ESTALE, errno.EMFILE, errno.ENFILE, errno.EAGAIN)
"""errno values for faults of the machine: the same file may work another time."""
_MACHINE = re.compile(
    r"^\[(?!.*(?:submitting packet|Decoding error)).*?"
    rf"(?P<demuxer>Error (?:opening input|during demuxing): )?(?P<words>{'|'.join(map(os.strerror, MACHINE))})\)?$",
    re.MULTILINE,
)


def read_through(path: Path) -> None:
    """Raise OSError if a file cannot be read: demuxers report `Input/output error` for truncated files too."""
    try:
        files.sha256(path)
    except OSError as error:  # of a read, which names no file
        raise OSError(error.errno, error.strerror, str(path)) from error


def failure(code: int, tagged: str, inputs: Sequence[Path] = (), made: Sequence[Path] = ()) -> OSError | MediaError:
    """Translate exit code and messages into an exception; raises OSError if an input cannot be read.

    An OSError names the first of the inputs, or of the output files.
    """
    text = _LEVEL.sub(r"\1", tagged)
    if full := _FULL.search(text):
        number = errno.EDQUOT if full[1].startswith("Disk quota") else errno.ENOSPC
        return _fault(number, made)
    if code in NOT_STARTED:
        return OSError(NOT_STARTED[code], f"the tool was not started: {last_words(text)}", executable())
    if code == -signal.SIGXFSZ:
        return TooLargeError(f"ffmpeg wrote more than {MAX_OUTPUT >> 20} MiB")
    if _NO_MEMORY.search(text):
        return TooLargeError(f"ffmpeg needs more than {MAX_MEMORY >> 20} MiB of memory: {last_words(text)}")
    for found in _MACHINE.finditer(text):
        number = next(each for each in MACHINE if os.strerror(each) == found["words"])
        if number != errno.EIO or not found["demuxer"]:
            return _fault(number, inputs if found["demuxer"] else made)
        for path in inputs:
            read_through(path)
    ended = f"ffmpeg {version()} ended with {code}: {reason(tagged)}"
    caught = _CAUGHT.search(text) if code == CAUGHT else None
    if caught and int(caught[1]) == signal.SIGXCPU:
        return TimedOutError(ended)
    return KilledError(ended) if caught or code < 0 else FailedError(ended, text)


def _fault(number: int, places: Sequence[Path]) -> OSError:
    return OSError(number, os.strerror(number), *map(str, places[:1]))


_FOLLOWS = re.compile(
    r"Conversion failed!|Task finished with error code|Terminating thread with return code|Could not open encoder before EOF"
    r"|Nothing was written into output file"
)
"""Errors that only follow from other errors."""


def reason(tagged: str) -> str:
    """The errors among messages with levels, on one line for a `detail` column; else the last words."""
    errors = [
        line
        for line in tagged.splitlines()
        if (found := _LEVEL.match(line)) and found["level"] in ("panic", "fatal", "error") and not _FOLLOWS.search(line)
    ]
    return last_words(_LEVEL.sub(r"\1", "\n".join(dict.fromkeys(errors)) or tagged))


def last_words(text: str, *, most: int = 300) -> str:
    """The end of ffmpeg's output on one line, for a `detail` column."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return re.sub(r" @ 0x[0-9a-f]+", "", " | ".join(lines[-3:]))[-most:]
