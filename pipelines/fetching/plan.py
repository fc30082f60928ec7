"""Plan the clips of a build from a class list and annotations."""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from kinetics_sounds import annotations, plugins
from kinetics_sounds.classes import ClassList
from kinetics_sounds.clip import SPLITS, Clip
from kinetics_sounds.errors import AnnotationError, ClassListError
from kinetics_sounds.quantities import first_lines, first_of, plural

SIMILAR = 0.75
"""Least similarity of a label that is suggested for one that has no rows."""
NAMED = 3
"""Number of videos with overlapping clips that are named."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The requested clips of annotations."""

    clips: tuple[Clip, ...]
    rows: Counter[str]
    """Number of rows by label, requested or not."""
    repeated: int = 0
    """Number of requested rows that repeat an earlier one."""


def plan(
    classes: ClassList,
    lists: Iterable[Path],
    *,
    splits: Sequence[str],
    limit: int | None = None,
    per_class: int | None = None,
) -> Plan:
    """All annotated clips of the classes and splits, without duplicates, in manifest order: split, label, key.

    `per_class` limits the clips per class and split, `limit` those per split. The selection depends on the keys alone, so a
    larger limit keeps the same clips and adds more. Raises ClassListError for a label unknown to the lists, AnnotationError for
    contradictory rows and if nothing is left.
    """
    found: dict[str, tuple[Clip, Path, int]] = {}
    seen, wrong = Counter[str](), list[str]()
    rows = 0
    for path in lists:
        listed = annotations.read(path, labels=frozenset(classes.labels), splits=splits)
        seen.update(listed.labels)
        rows += len(listed.clips)
        for clip, line in listed.clips:
            other, there, its = found.setdefault(clip.key, (clip, path, line))
            if other != clip:
                wrong.append(
                    f"{path}:{line}: {clip.key} is {clip.label!r} in {clip.split}, but {there}:{its} has "
                    f"{other.label!r} in {other.split}; remove one of the two rows"
                )
    if wrong:
        raise AnnotationError(first_lines(wrong))
    _check_labels(classes, seen)
    if not found:
        raise AnnotationError(
            f"the annotations have no clip of {classes.name} in {', '.join(splits)}; see --splits and --annotations"
        )
    clips = select(classes, (clip for clip, _, _ in found.values()), limit=limit, per_class=per_class)
    return Plan(clips=clips, rows=seen, repeated=rows - len(found))


def select(
    classes: ClassList, clips: Iterable[Clip], *, limit: int | None = None, per_class: int | None = None
) -> tuple[Clip, ...]:
    """The clips in manifest order, limited as in `plan`."""
    clips = _few(clips, per_class, by_label=True)
    clips = _few(clips, limit, by_label=False)
    index = {label: number for number, label in enumerate(classes.labels)}
    return tuple(sorted(clips, key=lambda clip: (SPLITS.index(clip.split), index[clip.label], clip.key)))


def shared_videos(clips: Iterable[Clip]) -> frozenset[str]:
    """IDs of videos with several clips."""
    counts = Counter(clip.youtube_id for clip in clips)
    return frozenset(youtube_id for youtube_id, count in counts.items() if count > 1)


def overlapping(clips: Iterable[Clip]) -> str:
    """Videos with overlapping clips of two classes, as a warning; empty if there are none, or clips have several labels."""
    by_video: defaultdict[str, list[Clip]] = defaultdict(list)
    for clip in clips:
        if clip.other_labels:
            return ""
        by_video[clip.youtube_id].append(clip)
    found = [pair for several in by_video.values() if len(several) > 1 and (pair := _overlap(several))]
    named = first_of((" and ".join(f"{clip.key} {clip.label!r}" for clip in pair) for pair in found), NAMED)
    videos = plural(len(found), "video")
    return f"{videos} with overlapping clips of two classes, one of which may be wrong: {named}" if found else ""


def _overlap(clips: Iterable[Clip]) -> tuple[Clip, Clip] | None:
    """The first two clips of a video that overlap and have different labels."""
    first, *others = sorted(clips)
    for clip in others:
        if clip.time_start < first.time_end and clip.label != first.label:
            return first, clip
        first = max(first, clip, key=lambda each: each.time_end)
    return None


def _check_labels(classes: ClassList, seen: Collection[str]) -> None:
    unknown = [label for label in classes.labels if label not in seen]
    if unknown:
        lacking = first_of(f"{label!r}{plugins.nearest(label, seen, cutoff=SIMILAR)}" for label in unknown)
        have = f"they have {first_of(map(repr, sorted(seen)))}" if seen else "they have no row"
        raise ClassListError(
            f"class list {classes.name}: the annotations have no label {lacking}; {have}; correct the spelling, or remove from "
            "the list what has no rows"
        )


def _few(clips: Iterable[Clip], most: int | None, *, by_label: bool) -> list[Clip]:
    groups: defaultdict[tuple[str, str], list[Clip]] = defaultdict(list)
    for clip in clips:
        groups[clip.split, clip.label if by_label else ""].append(clip)
    return [clip for group in groups.values() for clip in sorted(group, key=_rank)[:most]]


def _rank(clip: Clip) -> bytes:
    """Pseudo-random rank of a clip, from its key alone."""
    return hashlib.sha256(clip.key.encode()).digest()
