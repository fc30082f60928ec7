"""Ask the sources for a clip, in the order given."""

from collections.abc import Sequence
from pathlib import Path

from kinetics_sounds import sources
from kinetics_sounds.clip import Clip, Fetched, Kind, Status

Place = tuple[str, str]
"""A source's `--source` text, and where in it the clip would be."""


def fetch(clip: Clip, places: Sequence[Place], folder: Path) -> tuple[Fetched, str]:
    """What the first source that has the clip gave, and that source; else the last source's refusal.

    A refusal that means "stop the world" is returned at once: asking further would burn the clip.
    """
    fetched, spec = Fetched(status=Status.NOT_IN_SOURCE, detail="no source has it"), ""
    for spec, location in places:
        fetched = sources.load(spec).fetch(clip, location, folder)
        if fetched.status.kind in (Kind.OK, Kind.STOP):
            break
    return fetched, spec
