"""Protect an existing manifest from being replaced by one that lacks its clips."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from kinetics_sounds import manifest
from kinetics_sounds.address import Address
from kinetics_sounds.classes import ClassList
from kinetics_sounds.clip import Clip
from kinetics_sounds.errors import ManifestError, SettingsError
from kinetics_sounds.folders import first_free
from kinetics_sounds.progress import log
from kinetics_sounds.quantities import plural
from kinetics_sounds.sources import OnDisk

EXAMPLES = 3
"""Number of clips shown in an error."""


def check_sources(asked: Mapping[Address, object], out: Path) -> None:
    """Name the build's folder to the sources on disk; raises SettingsError if it is a source's own folder."""
    for spec, source in asked.items():
        if not isinstance(source, OnDisk):
            continue
        if out.is_dir() and out.samefile(source.folder):
            raise SettingsError(
                f"--out {out}: is the folder of --source {spec}, so clips and originals would be mixed; choose another --out"
            )
        source.out = out


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


def check_clips(clips: Iterable[Clip], out: Path, *, listed: bool) -> dict[str, int]:
    """Section `left_out` of the report: how many clips of the existing manifest are not requested now; empty if all are.

    Raises SettingsError for those if the clips are those of a list (`listed`): its build is another. A damaged manifest is
    replaced, whatever it contained.
    """
    path = out / "manifest.parquet"
    if not path.is_file():
        return {}
    try:
        there = manifest.read_keys(path)
    except ManifestError as error:
        log.warning("%s", error)
        return {}
    asked = {clip.key for clip in clips}
    lost = [key for key in there if key not in asked]
    if lost and listed:
        raise SettingsError(
            f"{out}: contains another build, with {plural(len(lost), 'clip')} not requested now (such as "
            f"{', '.join(lost[:EXAMPLES])}): its manifest would be lost; choose another folder, such as --out "
            f"{first_free(out, lambda each: not each.exists())}, or delete {path} if it is not needed (the clips are kept)"
        )
    return {"clips": len(lost), "of": len(there)} if lost else {}


def left_out_lines(section: Mapping[str, int], out: Path) -> list[str]:
    """Section `left_out` as text."""
    if not section:
        return []
    few = f"{section['clips']} of the {section['of']} clips"
    why = "which are not requested now (their files stay); the --annotations, --splits and limits of before bring them back"
    return [f"{out}: the new manifest leaves out {few} of the one before, {why}"]
