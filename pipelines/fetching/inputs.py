"""The clips that a build is asked for, read from annotations or lists, and what is printed of these."""

import contextlib
import itertools
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

from kinetics_sounds import annotations, lists
from kinetics_sounds.address import Address
from kinetics_sounds.classes import ClassList, nearly_same_text
from kinetics_sounds.clip import SPLITS, Clip
from kinetics_sounds.errors import ListError
from kinetics_sounds.lists import ClipList
from kinetics_sounds.progress import log as logger
from kinetics_sounds.quantities import plural

from ..manifest_option import BUILD_OF_FOLDERS
from . import list_report, other_labels
from .build_settings import BuildSettings
from .list_plan import Asked, ListPlan, plan_lists
from .plan import plan


def from_annotations(
    class_list: ClassList, splits: Sequence[str], settings: BuildSettings, out: Path, log: TextIO
) -> tuple[tuple[Clip, ...], dict[str, int]]:
    """The annotated clips, and the section `annotations` of `report.json`: the rows, and those of other classes."""
    places = settings.annotations or _official(splits)
    with _folder(settings, out) as folder:
        paths = [annotations.fetch(place.real, folder) for place in places]
        planned = plan(class_list, paths, splits=splits, limit=settings.limit, per_class=settings.per_class)
    others = Counter({label: count for label, count in planned.rows.items() if label not in class_list.labels})
    told = other_labels.told(others, class_list.labels)
    repeated = f", {plural(planned.repeated, 'duplicate row')} of a clip" if planned.repeated else ""
    counts = f"{plural(planned.rows.total(), 'row')}, {plural(len(planned.clips), 'clip')}{repeated}"
    print(f"annotations: {', '.join(map(str, places))}: {counts}{told and f'; {told}'}", file=log)
    _warn(others, class_list)
    section = {"rows": planned.rows.total(), "repeated": planned.repeated, "other_classes": others.total()}
    return planned.clips, section


def from_lists(
    clip_lists: Sequence[ClipList],
    class_list: ClassList | None,
    splits: Sequence[str],
    settings: BuildSettings,
    out: Path,
    log: TextIO,
) -> ListPlan:
    """Plan the clips of the lists."""
    how: dict[str, Any] = {name: getattr(settings, name) for name in ("limit", "per_class", "min_coverage")}
    asked = Asked(splits=splits, split=settings.clips_split, **how)
    for each in clip_lists:
        told = (
            f"; split {each.split} for rows without one, from the file name" if each.split and not asked.split else ""
        )
        print(f"list: {each.path} ({each.format}{told})", file=log)
    if not settings.annotations:
        _refuse_files_of_a_set(clip_lists)
    with _folder(settings, out) as folder:

        def annotation_lists() -> list[Path]:
            places = settings.annotations or _official(SPLITS)
            print(f"annotations: {', '.join(map(str, places))}", file=log)
            return [annotations.fetch(place.real, folder) for place in places]

        planned = plan_lists(
            clip_lists, class_list, asked, annotation_lists=annotation_lists, always=bool(settings.annotations)
        )
    print(list_report.text(list_report.report(planned, None)), file=log)
    others = planned.tally.other_labels
    if named := other_labels.named(others, planned.classes.labels):
        print(f"labels that are not in the class list: {named}", file=log)
    _warn(others, planned.classes)
    if class_list is None and (told := nearly_same_text(Counter(clip.label for clip in planned.clips))):
        logger.warning("%s", told)
    return planned


def _refuse_files_of_a_set(clip_lists: Iterable[ClipList]) -> None:
    """Raise ListError for a CSV of keys that name no span of a video, so that no annotations of Kinetics can have them."""
    for clip_list in (each for each in clip_lists if each.format == "csv_with_key"):
        names = (entry.name for entry in lists.read(clip_list))
        first = next(names, "")
        if first and not any(map(_is_of_video, itertools.chain([first], names))):
            raise ListError(
                f"{clip_list.path}: its keys, such as {first!r}, have no times and are no IDs of YouTube: they name files of a "
                "data set that ks-shard --dataset packed, as ks-view saves them; make a build of these files, and save the "
                f"selection from its page; {BUILD_OF_FOLDERS}"
            )


def _is_of_video(name: str) -> bool:
    """Whether a key has a start and an end, or the length of a YouTube ID; also true of invalid keys, reported by row."""
    try:
        youtube_id, _, end = lists.parse_name(name)
    except ValueError:
        return True
    return end is not None or len(youtube_id) == lists.YOUTUBE_ID_LENGTH


def _warn(rows: Mapping[str, int], class_list: ClassList) -> None:
    if warning := other_labels.warning(rows, class_list.labels):
        logger.warning("%s", warning)


def _official(splits: Iterable[str]) -> tuple[Address, ...]:
    return tuple(Address(annotations.OFFICIAL.format(split=split)) for split in splits)


@contextlib.contextmanager
def _folder(settings: BuildSettings, out: Path) -> Iterator[Path]:
    """Folder for downloaded lists; temporary if nothing is to be written."""
    if not settings.dry_run:
        yield out / "annotations"
        return
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        yield Path(folder)
