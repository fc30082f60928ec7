"""Make a clip of exactly its span from a fetched file."""

from dataclasses import dataclass, replace
from pathlib import Path

from kinetics_sounds.clip import Clip, FetchResult, Status
from kinetics_sounds.clip_names import SPAN_ALONE
from kinetics_sounds.errors import MediaError
from kinetics_sounds.media import error_status, measure, probe, trim
from kinetics_sounds.media.probe import Probe

LENGTH_SHARE, LENGTH_SECONDS = 0.15, 0.5
"""Tolerances for taking a file as long as its span: fraction of the span, and seconds."""
LOST_SECONDS = 1.0
"""Least length that a file lacks of what its container says, to be said to be cut off."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trimmed:
    """A clip's file, not yet in its place, with its measurements; or a status with the reason."""

    status: Status
    detail: str = ""
    """The reason; for an ok clip, the assumption made about its file."""
    path: Path | None = None
    """The source's own file if it already is the span, else a file in the given folder."""
    measured: measure.Measured | None = None
    found: Probe | None = None
    """Streams of the clip's file."""
    other_streams: str = ""
    """Other streams of the fetched file."""


def to_span(clip: Clip, fetched: FetchResult, folder: Path, *, timeout_seconds: float) -> Trimmed:
    """Keep a file that is already cut to its span; trim any other by decoding and encoding, into `folder`."""
    path = fetched.path
    if path is None:
        raise ValueError(f"{clip.key}: nothing was fetched")
    try:
        found = probe.probe(path)
        if lack := _lack(found):
            return Trimmed(status=lack[0], detail=lack[1])
        alone = fetched.trimmed is None and is_span_alone(path, found, clip)
        said = SPAN_ALONE if alone else ""
        trimmed = alone or bool(fetched.trimmed)
        if trimmed and found.video is not None and not found.video.transfer:
            measured = _measured(path, found, clip, folder, timeout_seconds)
            fits = _fits(path, measured, clip)
            if not fits:  # a read that fails for a moment leaves frames out: it would be cut here, and linked elsewhere
                measured = _measured(path, found, clip, folder, timeout_seconds)
                fits = _fits(path, measured, clip)
            if fits:
                return Trimmed(
                    status=Status.OK,
                    detail=said,
                    path=path,
                    measured=measured,
                    found=found,
                    other_streams=found.other_streams,
                )
        out, start = folder / "cut.mp4", 0 if trimmed else clip.time_start
        measured = trim.cut(
            path, out, found=found, start_seconds=start, seconds=clip.seconds, timeout_seconds=timeout_seconds
        )
        return Trimmed(
            status=Status.OK,
            detail=said,
            path=out,
            measured=measured,
            found=probe.probe(out),
            other_streams=found.other_streams,
        )
    except MediaError as error:
        return Trimmed(status=error_status.status(error), detail=str(error))


def unless_shared(fetched: FetchResult, *, only_clip: bool) -> FetchResult:
    """The file, marked as a whole video if its length would have to decide but several clips of the video are requested."""
    return fetched if only_clip or fetched.trimmed is not None else replace(fetched, trimmed=False)


def estimate(clip: Clip, fetched: FetchResult, *, min_coverage: float) -> tuple[Status, str]:
    """Expected result for a file by its container, without decoding: the actual one may be worse.

    The detail of an ok result is as `Trimmed.detail`. Raises OSError if the file cannot be read.
    """
    path = fetched.path
    if path is None:
        return fetched.status, fetched.detail
    try:
        found = probe.probe(path)
        if lack := _lack(found):
            return lack
        if found.video is not None:
            probe.check_aspect(found.video)
        alone = fetched.trimmed is None and is_span_alone(path, found, clip)
        begin = 0 if alone or fetched.trimmed else clip.time_start
    except MediaError as error:
        return error_status.status(error), str(error)
    if found.seconds is not None and found.seconds < begin + min_coverage * clip.seconds:
        return Status.TOO_SHORT, f"it has {found.seconds:.2f} s, and {begin} to {begin + clip.seconds} s are requested"
    return Status.OK, SPAN_ALONE if alone else ""


def _lack(found: Probe) -> tuple[Status, str] | None:
    if found.video is None:
        return Status.NO_VIDEO, "the file has no picture stream that can be read"
    return None if found.audio else (Status.NO_AUDIO, "the file has no sound stream")


def is_span_alone(path: Path, found: Probe, clip: Clip) -> bool:
    """Whether a file is about as long as the clip's span, and ends at least 0.9 s before the span would.

    Annotated spans are in whole seconds, so a span may end up to a second after its whole video does.

    Uses the packets: a container may claim anything.
    """

    def alike(seconds: float) -> bool:
        room = max(LENGTH_SHARE * clip.seconds, LENGTH_SECONDS)
        return abs(seconds - clip.seconds) <= room and seconds + 0.9 <= clip.time_end

    if clip.time_start == 0 or (found.seconds is not None and not alike(found.seconds)):
        return False
    ends = [span.last_seconds - max(span.first_seconds, 0.0) for span in probe.spans(path) if span is not None]
    return bool(ends) and alike(max(ends))


def cut_off(path: Path) -> str:
    """Says that picture and sound end long before their container does; empty if they do not, or the file cannot be read.

    So it is if there are further streams: the container's length may be theirs.
    """
    try:
        found, ends = probe.probe(path), [span.last_seconds for span in probe.spans(path) if span is not None]
    except MediaError:
        return ""
    if found.seconds is None or found.other_streams or not ends or max(ends) > found.seconds - LOST_SECONDS:
        return ""
    return f"the file says {found.seconds:.1f} s, but ends after {max(ends):.1f} s: it may be cut off"


def _measured(path: Path, found: Probe, clip: Clip, folder: Path, timeout_seconds: float) -> measure.Measured:
    most = clip.seconds + 2 * measure.LONGER_SECONDS  # enough to see that it is too long
    return measure.measure(path, found=found, scratch=folder, timeout_seconds=timeout_seconds, most_seconds=most)


def _fits(path: Path, measured: measure.Measured, clip: Clip) -> bool:
    """Whether a file named as trimmed can be used as it is.

    It must hold the span at the right position, upright, at a constant rate, and without audio gaps.
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
