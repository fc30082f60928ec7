"""Check a clip against its annotation, by what decoding showed rather than by what its container claims."""

from kinetics_sounds.clip import Clip, Status
from kinetics_sounds.media.measure import Measured, misplaced


def audit(clip: Clip, measured: Measured, *, min_coverage: float) -> tuple[Status, str]:
    """Ok if picture and audio start together, each covers `min_coverage` of the span, and both decode; else why not.

    Damaged frames do not count as covering the span: if there are too many, the clip is corrupt.
    """
    if measured.audio is None:
        return Status.NO_AUDIO, "its sound stream holds no samples"
    if fault := misplaced(measured, seconds=clip.seconds):
        return Status.CORRUPT, fault
    needed = min_coverage * clip.seconds
    for what, span in (("picture", measured.video), ("sound", measured.audio)):
        if span.covered_seconds < needed:
            return Status.TOO_SHORT, f"the {what} covers {span.covered_seconds:.2f} s of the {clip.seconds} s requested"
    if 1 - measured.damaged_share < min_coverage:
        return (
            Status.CORRUPT,
            f"{measured.decode_errors} decoding errors, {measured.damaged_share:.0%} of picture or sound",
        )
    return Status.OK, ""
