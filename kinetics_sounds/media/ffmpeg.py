"""Run ffmpeg: argv built by ffmpeg-python, no shell, a wall clock, and the whole process group killed on time-out."""

import functools
import os
import re
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ffmpeg
import imageio_ffmpeg

from ..errors import MediaError

PROTOCOLS = "file,pipe"
"""A playlist inside a video must not make the tool open anything else."""
CONTAINERS = "mov,matroska,avi,flv,mpegts,mpeg,ogg,asf,mp3,wav,flac,aac"
"""Demuxers that a clip may need; playlists and scripts are not among them."""
OPEN_OPTIONS = {"protocol_whitelist": PROTOCOLS, "format_whitelist": CONTAINERS}
"""For whoever opens a foreign file."""
MAX_PIXELS = 2**25
"""Of a picture, just over 8K: a small file that claims more would take gigabytes of memory."""

BIT_EXACT_SCALE = "bicubic+accurate_rnd+bitexact"
"""The only scaler flags that give the same bytes on every x86-64 CPU."""
_FIXED_POINT_DECODERS = {"aac": "aac_fixed", "ac3": "ac3_fixed", "mp2": "mp2", "mp3": "mp3"}
"""Audio decoders whose output does not depend on the CPU."""

NEEDED: Mapping[str, tuple[str, ...]] = {
    "encoders": ("libx264", "aac", "flac"),
    "decoders": ("h264", *_FIXED_POINT_DECODERS.values()),
    "filters": (
        *("showinfo", "fps", "trim", "setpts", "crop", "scale", "setsar", "format"),
        *("ashowinfo", "atrim", "asetpts", "aresample", "astats"),
    ),
}
"""What this folder asks of ffmpeg, by the option that lists it."""


class TimedOutError(MediaError):
    """The tool ran past its wall clock and was killed."""


@functools.cache
def executable() -> str:
    """The ffmpeg to run: the one that the package brings, unless `IMAGEIO_FFMPEG_EXE` names another."""
    try:
        return str(imageio_ffmpeg.get_ffmpeg_exe())
    except RuntimeError as error:
        raise MediaError(f"no ffmpeg: {error}; name one with IMAGEIO_FFMPEG_EXE=PATH") from error


@functools.cache
def version() -> str:
    """As ffmpeg calls itself, for example `n9.0.2`."""
    try:
        result = subprocess.run([executable(), "-version"], capture_output=True, text=True, check=True, timeout=30)
    except (OSError, subprocess.SubprocessError) as error:
        raise MediaError(f"{executable()}: does not run ({error}); see IMAGEIO_FFMPEG_EXE") from error
    return result.stdout.split()[2]


def lacking(*, timeout_seconds: float) -> list[str]:
    """What of `NEEDED` this ffmpeg was built without, such as `encoder libx264`.

    Raises TimedOutError when a listing takes longer, MediaError when it fails, OSError where the tool does not start.
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
    """An input node for a foreign file: one thread, only safe containers, CPU-independent decoding."""
    decoder = _FIXED_POINT_DECODERS.get(audio_codec)
    chosen: dict[str, str | float] = {"acodec": decoder} if decoder else {}
    fixed = {"threads": 1, "max_pixels": MAX_PIXELS}
    return ffmpeg.input(f"file:{path.absolute()}", **fixed, **OPEN_OPTIONS, **chosen, **options)


def sink(*streams: Any, path: Path, **options: str | float) -> Any:  # noqa: ANN401 - ffmpeg-python is untyped
    """An output node: one thread, no metadata, nothing that depends on the clock or the CPU."""
    fixed: Mapping[str, str | float] = {
        "threads": 1,
        "map_metadata": -1,
        "fflags": "+bitexact",
        "flags": "+bitexact",
    }
    return ffmpeg.output(*streams, f"file:{path.absolute()}", **{**fixed, **options})


def run(*outputs: Any, timeout_seconds: float) -> str:  # noqa: ANN401 - ffmpeg-python is untyped
    """Run the graph; return what the tool wrote to standard error.

    Raises TimedOutError when the wall clock runs out, MediaError with the tool's last words when it fails.
    `-timelimit` bounds the tool's own CPU time too, should whoever waits for it be killed first.
    """
    graph = outputs[0] if len(outputs) == 1 else ffmpeg.merge_outputs(*outputs)
    graph = graph.global_args("-nostdin", "-hide_banner", "-nostats", "-y", "-timelimit", str(int(timeout_seconds) + 1))
    argv = [executable(), "-filter_complex_threads", "1", *graph.get_args()]
    with subprocess.Popen(
        argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True
    ) as process:
        try:
            _, error_output = process.communicate(timeout=timeout_seconds)
        except subprocess.TimeoutExpired as error:
            raise TimedOutError(f"ffmpeg took more than {timeout_seconds:g} s and was killed") from error
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
    text = error_output.decode("utf-8", "replace")
    if process.returncode != 0:
        raise MediaError(f"ffmpeg {version()} ended with {process.returncode}: {last_words(text)}")
    return text


def last_words(text: str, *, most: int = 300) -> str:
    """The end of a tool's output on one line, for a `detail` column."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return re.sub(r" @ 0x[0-9a-f]+", "", " | ".join(lines[-3:]))[-most:]
