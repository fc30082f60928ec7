"""A fetched file to a clip of exactly its span."""

from dataclasses import dataclass
from pathlib import Path

from kinetics_sounds.clip import Clip, Fetched, Status
from kinetics_sounds.errors import MediaError
from kinetics_sounds.media import probe, trim
from kinetics_sounds.media.ffmpeg import TimedOutError
from kinetics_sounds.media.probe import Probe

LONGER_SECONDS = 1.0
"""A file named as trimmed may be this much longer than its span before it is cut."""
APART_SECONDS = 0.1
"""Picture and sound of a trimmed file may begin this much apart before it is cut anew."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trimmed:
    """A clip's file, not yet in its place, and what decoding showed; or the status that says why not."""

    status: Status
    detail: str = ""
    path: Path | None = None
    measured: trim.Measured | None = None
    found: Probe | None = None
    linked: bool = False
    """The source's own file, which is left where it lies."""


def to_span(clip: Clip, fetched: Fetched, folder: Path, *, timeout_seconds: float) -> Trimmed:
    """Keep a file that is already cut to its span; cut anything else by decoding and encoding, into `folder`."""
    path = fetched.path
    if path is None:
        raise ValueError(f"{clip.key}: nothing was fetched")
    try:
        found = probe.probe(path)
        if found.video is None:
            return Trimmed(status=Status.NO_VIDEO, detail="the file has no picture stream")
        if found.audio is None:
            return Trimmed(status=Status.NO_AUDIO, detail="the file has no sound stream")
        start = 0 if fetched.trimmed else clip.time_start
        if fetched.trimmed:
            measured = trim.measure(path, found=found, scratch=folder, timeout_seconds=timeout_seconds)
            if _fits(path, measured, clip):
                return Trimmed(status=Status.OK, path=path, measured=measured, found=found, linked=True)
        elif found.seconds is not None and found.seconds <= start:
            return Trimmed(status=Status.TOO_SHORT, detail=f"the video ends at {found.seconds:.1f} s, before the span")
        out = folder / "cut.mp4"
        measured = trim.cut(
            path, out, found=found, start_seconds=start, seconds=clip.seconds, timeout_seconds=timeout_seconds
        )
        return Trimmed(status=Status.OK, path=out, measured=measured, found=probe.probe(out))
    except TimedOutError as error:
        return Trimmed(status=Status.TIMEOUT, detail=str(error))
    except MediaError as error:
        full = "No space left" in str(error)
        return Trimmed(status=Status.DISK_FULL if full else Status.CORRUPT, detail=str(error))


def _fits(path: Path, measured: trim.Measured, clip: Clip) -> bool:
    """Whether a file that is named as trimmed can be taken as it is: it begins with what it shows, and ends in time."""
    if measured.audio is None:
        return True  # cutting would not give it sound; the audit says so
    stored, _ = probe.spans(path)
    if stored is None or stored.count != measured.video.count:
        return False  # frames that an edit list hides (a stream copy), which some decoders show all the same
    apart = abs(measured.video.first_seconds - measured.audio.first_seconds)
    return measured.video.last_seconds <= clip.seconds + LONGER_SECONDS and apart <= APART_SECONDS
