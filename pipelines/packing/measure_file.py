"""Measure one file of a data set, by decoding all of it. Runs in a worker."""

import dataclasses
import math
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kinetics_sounds import __version__, files
from kinetics_sounds.clip import Clip, Media, Outcome, Status
from kinetics_sounds.errors import MediaError
from kinetics_sounds.media import encode, error_status, ffmpeg, measure, messages, probe
from kinetics_sounds.media.measure import silent, still
from kinetics_sounds.media.probe import Probe

from .. import attempts
from ..attempts import Refused

LEAST_SHARE = 0.5
"""Minimum share of the length that the container states which can be decoded, and maximum share of damaged frames or packets."""
MOST_STATED = 2**31 - 2**16
"""Smallest stated size in bytes that means "unknown": streaming writers put such values into headers."""
RIFF_HEADER = 12
"""Bytes before the first chunk of an AVI or WAV file."""
MOST_CHUNKS = 10_000
"""Maximum number of chunks that are looked at; a sound has a handful, an AVI the same beside its list of frames."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """Input of a worker for one file."""

    clip: Clip
    """Without its length, which is to be measured."""
    file: Path
    """Absolute path."""
    path: str
    """Path of the link to it, relative to the manifest's folder."""
    modality: encode.Modality
    timeout_seconds: float
    scratch: Path
    """An existing folder for ffmpeg's output."""


class _UnfitError(MediaError):
    """The file decodes, and cannot be used."""

    def __init__(self, status: Status, detail: str) -> None:
        super().__init__(detail)
        self.status = status


def attempt(task: Task) -> Outcome | Refused:
    """`measured`, with a full disk or a failing machine as a result: any other exception counts as a bug."""
    return attempts.attempt(measured, task)


def measured(task: Task) -> Outcome:
    """The file's measurements, or why it cannot be used; raises OSError if the disk is full."""
    try:
        media = attempts.in_two_tries(lambda: _media(task), task.file)
    except _UnfitError as error:
        return _without_file(task, error.status, str(error))
    except MediaError as error:
        return _without_file(task, error_status.status(error), str(error))
    except OSError as error:
        if error.errno in files.FULL:
            raise
        return _without_file(task, Status.UNREADABLE, f"{error.strerror} (errno {error.errno})")
    return Outcome(clip=spanned(task.clip, media), status=Status.OK, media=media, tool_versions=versions())


def _without_file(task: Task, status: Status, detail: str) -> Outcome:
    return Outcome(clip=task.clip, status=status, detail=detail, tool_versions=versions())


def spanned(clip: Clip, media: Media) -> Clip:
    """The clip as the span of its whole file."""
    return dataclasses.replace(clip, time_end=max(math.ceil(media.duration_seconds * 1000), 1) / 1000)


def versions() -> str:
    """Names and versions of the tools that measure."""
    return f"kinetics-sounds {__version__}; ffmpeg {ffmpeg.version()}"


def _media(task: Task) -> Media:
    """Measurements of the wanted streams; raises MediaError, or _UnfitError for a file that lacks one or most of its length."""
    found = probe.probe(task.file)
    if task.modality != "audio" and found.video is None:
        raise _UnfitError(Status.NO_VIDEO, "the file has no picture stream that can be read")
    if task.modality != "video" and found.audio is None:
        raise _UnfitError(Status.NO_AUDIO, "the file has no sound stream")
    size = task.file.stat().st_size
    stated = _stated_bytes(task.file)
    if size < stated and not (size == stated - 1 and _lacks_only_padding(task.file, size)):
        raise _UnfitError(Status.TRUNCATED, f"the file has {size} bytes, and states {stated}; copy it again")
    about: dict[str, Any] = {
        "path": task.path,
        "bytes": size,
        "sha256": files.sha256(task.file),
        "other_streams": found.other_streams,
        "origin": files.as_text(task.file.name),
    }
    if task.modality == "audio":
        return Media(**about, **_sound(task, found))
    if task.modality == "video":
        found = dataclasses.replace(found, audio=None)
    return Media(**about, **_picture(task, found))


def _stated_bytes(path: Path) -> int:
    """Size in bytes that the header of an AVI or WAV file states; 0 for other files, and where the header does not know.

    Demuxers silently stop where such a file ends.
    """
    with path.open("rb") as file:
        header = file.read(8)
    size = int.from_bytes(header[4:], "little")
    return size + 8 if header[:4] == b"RIFF" and 0 < size < MOST_STATED else 0


def _lacks_only_padding(path: Path, size: int) -> bool:
    """Whether a RIFF file of `size` bytes ends with a whole chunk of odd length, whose padding byte some writers leave out."""
    with path.open("rb") as file:
        position = RIFF_HEADER
        for _ in range(MOST_CHUNKS):
            file.seek(position)
            header = file.read(8)
            if len(header) < 8:
                return False
            length = int.from_bytes(header[4:], "little")
            position += 8 + length
            if length % 2 and position == size:
                return True
            position += length % 2
    return False


def _sound(task: Task, found: Probe) -> dict[str, Any]:
    """Fields of `Media` of a sound alone."""
    if found.audio is None:
        raise ValueError(f"{task.clip.key}: has no sound to measure")
    heard = measure.measure_audio(task.file, found.audio, timeout_seconds=task.timeout_seconds)
    if not heard.blocks:
        raise _UnfitError(Status.NO_AUDIO, "its sound stream holds no samples")
    covered = probe.covered(heard.times)
    damage = measure.damage("", heard.messages, frames=0, blocks=len(heard.blocks))
    _check(found, covered, damage["damaged_share"], what="sound")
    return {
        "duration_seconds": round(covered, 6),
        "fps": 0.0,
        "width": 0,
        "height": 0,
        "num_frames": 0,
        "audio_rate": found.audio.rate,
        "audio_channels": found.audio.channels,
        "audio_rms_db": round(heard.level_db, 3),
        "audio_offset_seconds": 0.0,
        "silent": heard.level_db < measure.SILENT_DB,
        "still": False,
        "rotation": 0,
        "decode_errors": damage["decode_errors"],
        "audio_channel": heard.channel,
    }


def _picture(task: Task, found: Probe) -> dict[str, Any]:
    """Fields of `Media` of a picture, and of its sound if `found` has it."""
    with tempfile.TemporaryDirectory(dir=task.scratch, ignore_cleanup_errors=True) as name:
        seen = measure.measure(task.file, found=found, scratch=Path(name), timeout_seconds=task.timeout_seconds)
    _check(found, seen.video.covered_seconds, seen.damaged_share, what="picture")
    if found.audio is not None and seen.audio is None:
        raise _UnfitError(Status.NO_AUDIO, "its sound stream holds no samples")
    return {
        "duration_seconds": round(seen.video.last_seconds - seen.video.first_seconds, 6),
        "fps": round(seen.fps, 6),
        "width": seen.width,
        "height": seen.height,
        "num_frames": seen.video.count,
        "audio_rate": found.audio.rate if found.audio else 0,
        "audio_channels": found.audio.channels if found.audio else 0,
        "audio_rms_db": round(seen.audio_rms_db, 3) if found.audio else messages.SILENCE_DB,
        "audio_offset_seconds": round(seen.audio_offset_seconds, 6) + 0.0,  # never -0.0
        "silent": found.audio is not None and silent(seen),
        "still": still(seen),
        "rotation": seen.rotation,
        "decode_errors": seen.decode_errors,
        "audio_channel": seen.audio_channel,
    }


def _check(found: Probe, covered_seconds: float, damaged_share: float, *, what: str) -> None:
    """Raise _UnfitError if most of what the container states is missing or damaged."""
    if found.seconds is not None and covered_seconds < LEAST_SHARE * found.seconds:
        told = f"the {what} covers {covered_seconds:.2f} s of the {found.seconds:.2f} s that the file states"
        raise _UnfitError(Status.TOO_SHORT, told)
    if damaged_share > LEAST_SHARE:
        raise _UnfitError(Status.CORRUPT, f"{damaged_share:.0%} of its {what} are damaged")
