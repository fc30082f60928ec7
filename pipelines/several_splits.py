"""Videos with clips in more than one split, told by the commands that build, pack and publish."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from kinetics_sounds.clip import Clip
from kinetics_sounds.quantities import plural

NAMED = 3
"""Number of videos that a report names."""


def in_several_splits(clips: Iterable[Clip]) -> dict[str, Any]:
    """How many videos have clips in more than one split, and the splits of the first of them; empty if there are none."""
    first: dict[str, str] = {}
    shared = defaultdict[str, set[str]](set)
    for clip in clips:
        if clip.youtube_id and (before := first.setdefault(clip.youtube_id, clip.split)) != clip.split:
            shared[clip.youtube_id] |= {before, clip.split}
    if not shared:
        return {}
    return {"videos": len(shared), "such_as": {video: sorted(shared[video]) for video in sorted(shared)[:NAMED]}}


def text(found: Mapping[str, Any]) -> str:
    """What `in_several_splits` found, which is not nothing, as a sentence."""
    video, splits = next(iter(found["such_as"].items()))
    have = "has" if found["videos"] == 1 else "have"
    return (
        f"{plural(found['videos'], 'video')} {have} clips in more than one split (such as {video}: {', '.join(splits)}), "
        "so scores may be too high"
    )
