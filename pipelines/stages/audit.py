"""Is a clip what its annotation says? Judged by what decoding showed, never by what its container claims."""

from kinetics_sounds.clip import Clip, Status
from kinetics_sounds.media.trim import Measured

FIRST_SECONDS = 0.2
"""The picture may begin this late."""


def audit(clip: Clip, measured: Measured, *, min_coverage: float) -> tuple[Status, str]:
    """Ok where picture and sound begin together and each covers `min_coverage` of the span; else why not."""
    if measured.audio is None:
        return Status.NO_AUDIO, "its sound stream holds no samples"
    if measured.video.first_seconds > FIRST_SECONDS:
        return Status.CORRUPT, f"the first frame is at {measured.video.first_seconds:.2f} s, not at 0"
    needed = min_coverage * clip.seconds
    for what, span in (("picture", measured.video), ("sound", measured.audio)):
        if span.covered_seconds < needed:
            return Status.TOO_SHORT, f"the {what} covers {span.covered_seconds:.2f} s of the {clip.seconds} s asked for"
    return Status.OK, ""
