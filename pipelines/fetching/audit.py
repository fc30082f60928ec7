"""Is a clip what its annotation says? Judged by what decoding showed, never by what its container claims."""

from kinetics_sounds.clip import Clip, Status
from kinetics_sounds.media.measure import Measured, misplaced

SILENT_DB = -60.0
"""Sound of a lower level is silence: no room and no microphone is so quiet."""
STILL_SHARE = 0.75
"""A picture that is still for this share of its time does not change; the rest are the encoder's own jumps at keyframes."""


def audit(clip: Clip, measured: Measured, *, min_coverage: float) -> tuple[Status, str]:
    """Ok where picture and sound begin together, each covers `min_coverage` of the span, and both decode; else why not.

    What decoding could only patch up does not cover the span either: above the share that may be missing, it is corrupt.
    """
    if measured.audio is None:
        return Status.NO_AUDIO, "its sound stream holds no samples"
    if fault := misplaced(measured, seconds=clip.seconds):
        return Status.CORRUPT, fault
    needed = min_coverage * clip.seconds
    for what, span in (("picture", measured.video), ("sound", measured.audio)):
        if span.covered_seconds < needed:
            return Status.TOO_SHORT, f"the {what} covers {span.covered_seconds:.2f} s of the {clip.seconds} s asked for"
    if 1 - measured.damaged_share < min_coverage:
        return (
            Status.CORRUPT,
            f"{measured.decode_errors} decoding errors, {measured.damaged_share:.0%} of picture or sound",
        )
    return Status.OK, ""


def silent(measured: Measured) -> bool:
    """Whether nothing can be heard."""
    return measured.audio_rms_db < SILENT_DB


def still(measured: Measured) -> bool:
    """Whether the picture does not change."""
    return measured.still_seconds >= STILL_SHARE * (measured.video.last_seconds - measured.video.first_seconds)
