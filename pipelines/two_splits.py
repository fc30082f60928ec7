"""Videos with clips in two splits, told by the commands that build and pack them."""

from collections import defaultdict
from collections.abc import Iterable

from kinetics_sounds.clip import SPLITS, Clip
from kinetics_sounds.quantities import plural


def in_two_splits(clips: Iterable[Clip]) -> str:
    """A sentence about the videos with clips in more than one split; empty if there are none."""
    first: dict[str, str] = {}
    shared = defaultdict[str, set[str]](set)
    for clip in clips:
        if clip.youtube_id and (before := first.setdefault(clip.youtube_id, clip.split)) != clip.split:
            shared[clip.youtube_id] |= {before, clip.split}
    if not shared:
        return ""
    where = ", ".join(sorted(set().union(*shared.values()), key=SPLITS.index))
    have = "has" if len(shared) == 1 else "have"
    return (
        f"{plural(len(shared), 'video')} {have} clips in two splits ({where}), such as {min(shared)}, so scores may be too high: "
        "see ks-publish check"
    )
