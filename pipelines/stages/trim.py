"""A fetched file to a clip of exactly its span."""

from dataclasses import dataclass
from pathlib import Path

from kinetics_sounds.clip import Clip, Fetched, Status
from kinetics_sounds.errors import MediaError
from kinetics_sounds.media import faults, measure, probe, trim
from kinetics_sounds.media.probe import Probe


@dataclass(frozen=True, slots=True, kw_only=True)
class Trimmed:
    """A clip's file, not yet in its place, and what decoding showed; or the status that says why not."""

    status: Status
    detail: str = ""
    path: Path | None = None
    measured: measure.Measured | None = None
    found: Probe | None = None
    """Of the clip's file."""
    other_streams: str = ""
    """Of the fetched file."""
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
            return Trimmed(status=Status.NO_VIDEO, detail="the file has no picture stream that can be read")
        if found.audio is None:
            return Trimmed(status=Status.NO_AUDIO, detail="the file has no sound stream")
        if fetched.trimmed and not found.video.transfer:
            measured = _measured(path, found, clip, folder, timeout_seconds)
            fits = _fits(path, measured, clip)
            if not fits:  # a read that fails for a moment leaves frames out: it would be cut here, and linked elsewhere
                measured = _measured(path, found, clip, folder, timeout_seconds)
                fits = _fits(path, measured, clip)
            if fits:
                return Trimmed(
                    status=Status.OK,
                    path=path,
                    measured=measured,
                    found=found,
                    other_streams=found.other_streams,
                    linked=True,
                )
        out, start = folder / "cut.mp4", 0 if fetched.trimmed else clip.time_start
        measured = trim.cut(
            path, out, found=found, start_seconds=start, seconds=clip.seconds, timeout_seconds=timeout_seconds
        )
        return Trimmed(
            status=Status.OK,
            path=out,
            measured=measured,
            found=probe.probe(out),
            other_streams=found.other_streams,
        )
    except MediaError as error:
        return Trimmed(status=faults.status(error), detail=str(error))


def _measured(path: Path, found: Probe, clip: Clip, folder: Path, timeout_seconds: float) -> measure.Measured:
    most = clip.seconds + 2 * measure.LONGER_SECONDS  # enough to see that it is too long
    return measure.measure(path, found=found, scratch=folder, timeout_seconds=timeout_seconds, most_seconds=most)


def _fits(path: Path, measured: measure.Measured, clip: Clip) -> bool:
    """Whether a file that is named as trimmed can be taken as it is.

    It holds what it shows, and that in its place, upright, at a constant rate, and its sound has no holes.
    """
    if measured.audio is None:
        return True  # cutting would not give it sound; the audit says so
    if measured.rotation or not measured.steady or measure.misplaced(measured, seconds=clip.seconds):
        return False
    stored, sound = probe.spans(path)
    if stored is None or sound is None:
        return False
    begin = min(stored.first_seconds, sound.first_seconds)
    if sound.last_seconds > begin + clip.seconds + measure.LONGER_SECONDS:
        return False  # a packet that says it comes much later: what was measured ended before it
    # An edit list hides frames (a stream copy), which some decoders show all the same.
    return stored.count == measured.video.count and probe.constant_rate(path)
