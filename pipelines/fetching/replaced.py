"""Protect an existing manifest from being replaced by one that lacks its clips."""

import itertools
from collections.abc import Iterable
from pathlib import Path

from kinetics_sounds import manifest
from kinetics_sounds.classes import ClassList
from kinetics_sounds.clip import Clip
from kinetics_sounds.errors import ManifestError, SettingsError
from kinetics_sounds.progress import log
from kinetics_sounds.quantities import plural

EXAMPLES = 3
"""Number of clips shown in an error."""


def check_classes(class_list: ClassList, out: Path) -> None:
    """Raise SettingsError if the existing manifest has other classes."""
    path = out / "manifest.parquet"
    if not path.is_file():
        return
    there = manifest.read_classes(path)
    derived = there.note.startswith(
        manifest.DERIVED
    )  # a filtered copy in the manifest's place: some labels may be gone
    if not set(there.labels) <= set(class_list.labels) if derived else there.labels != class_list.labels:
        raise SettingsError(
            f"{out}: contains a build of other classes ({there.name}, {plural(len(there.labels), 'label')}); choose another "
            f"--out: --source local:{out / 'clips'} takes the clips over"
        )


def check_clips(clips: Iterable[Clip], out: Path) -> None:
    """Raise SettingsError if the existing manifest has ok clips that are not requested now.

    A damaged manifest is replaced, whatever it contained.
    """
    path = out / "manifest.parquet"
    if not path.is_file():
        return
    try:
        there = manifest.read(path)
    except ManifestError as error:
        log.warning("%s", error)
        return
    asked = {clip.key for clip in clips}
    lost = [each.clip.key for each in there.outcomes if each.media is not None and each.clip.key not in asked]
    if lost:
        free = next(
            each for number in itertools.count(2) if not (each := out.with_name(f"{out.name}_{number}")).exists()
        )
        raise SettingsError(
            f"{out}: contains another build, with {plural(len(lost), 'ok clip')} not requested now (such as "
            f"{', '.join(lost[:EXAMPLES])}): its manifest would be lost; choose another folder, such as --out {free}, "
            f"or delete {path} if it is not needed (the clips are kept)"
        )
