"""What a build has still to do, told by the commands that use its manifest."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from kinetics_sounds import files
from kinetics_sounds.clip import Status
from kinetics_sounds.manifest import Manifest
from kinetics_sounds.quantities import plural


def unfinished(made: Manifest, build: Path) -> Iterator[str]:
    """Yield what another run of ks-build may add to a manifest in the folder `build`; nothing if it was made to its end.

    Clips in no source, though retried, do not count: a finished build may lack many.
    """
    if made.folds is not None:
        return
    statuses = Counter(outcome.status for outcome in made.outcomes)
    of = f"of {plural(statuses.total(), 'clip')}"
    if waiting := statuses.pop(Status.NOT_TRIED, 0):
        were = "was" if waiting == 1 else "were"
        yield f"{waiting} {of} {were} not tried yet; finish the build first (run the same ks-build again)"
    if failed := {status: count for status, count in statuses.items() if status.is_blocking}:
        told = ", ".join(f"{count} {status}" for status, count in failed.items())
        yield f"{sum(failed.values())} {of} failed for now ({told}); the same ks-build tries them again"
    if files.is_locked(build):
        yield f"ks-build is running in {build}, and this manifest is of the run before; wait for its end"
