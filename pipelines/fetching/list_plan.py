"""Plan a build from published lists: missing fields are looked up in the annotations."""

import itertools
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from kinetics_sounds import annotations, fingerprints, lists
from kinetics_sounds.classes import ClassList, normal
from kinetics_sounds.clip import Clip
from kinetics_sounds.errors import AnnotationError, ListError
from kinetics_sounds.lists import ClipList, Entry

from .list_classes import IndexCheck, Labels, origins, stated_selection
from .plan import select

FROM_ANNOTATIONS = "annotations"
"""Value of `--clips_split` besides the splits."""
EXAMPLES = 3
"""Number of rows shown in an error."""
MOST_NAMED = 1000
"""Maximum number of rows of a kind that are listed; the rest are counted."""
MOST_LETTERS = 100
"""Maximum length of a list's name or label in a report; of a reason, which may contain one, twice as many."""
UNKNOWN = "unknown"
"""Placeholder for the split of a row that has none."""
BAD = ("ambiguous", "not_in_annotations", "unusable")
"""Kinds of rows without a clip."""

Span = tuple[float, float]
"""Start and end, in whole seconds into a video."""
Annotated = Mapping[str, Mapping[Span, Clip]]
"""Annotated clips of the videos in the lists, by video and span."""


@dataclass(slots=True)
class RowCounts:
    """Counts of the lists' rows by result, before anything is built."""

    rows: defaultdict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    """Rows by split and result."""
    named: defaultdict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    """By kind, the first `MOST_NAMED` rows without a clip or contradicted by the annotations."""
    unnamed: Counter[str] = field(default_factory=Counter)
    """By kind, the number of further rows."""
    other_labels: Counter[str] = field(default_factory=Counter)
    """Rows of other classes by their first label."""

    def put(self, split: str, kind: str, text: str = "") -> None:
        """Count a row, and list it if there is a text."""
        self.rows[split or UNKNOWN][kind] += 1
        if text and len(self.named[kind]) < MOST_NAMED:
            self.named[kind].append(text)
        elif text:
            self.unnamed[kind] += 1

    @property
    def left_out(self) -> bool:
        """Whether rows of other classes or splits were left out."""
        return any(counts["other_classes"] or counts["other_splits"] for counts in self.rows.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class ListPlan:
    """The requested clips of published lists."""

    lists: tuple[ClipList, ...]
    origins: tuple[Mapping[str, str] | None, ...]
    """What the published folder of each list says of itself; None of a list that is of none."""
    classes: ClassList
    clips: tuple[Clip, ...]
    tally: RowCounts
    labels: frozenset[str]
    """Labels of all listed clips, including those of splits that are not requested."""
    annotated: bool
    """Whether the annotations were read and compared."""
    selection: str
    """Selection fingerprint of all listed clips, before --limit and --per_class."""
    stated: str
    """The same as stated by the published folder; empty if there is none, or if only a part is requested."""
    short: Mapping[str, float] = field(default_factory=dict)
    """Published clips that cover less of their span than --min_coverage: how much, by key."""

    @property
    def unbuilt(self) -> int:
        """Number of rows without a clip."""
        return sum(counts[kind] for counts in self.tally.rows.values() for kind in BAD)

    @property
    def sound(self) -> bool:
        """Whether every row has a clip, and the rows of a published folder are unchanged."""
        return not self.unbuilt and self.stated in ("", self.selection)


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """Parameters of the plan."""

    splits: Sequence[str]
    split: str = ""
    """Split of rows without one; `annotations`: look it up; empty: as in the file name, else look it up."""
    limit: int | None = None
    per_class: int | None = None
    min_coverage: float = 0.0


class _LeftOut(Exception):  # noqa: N818 - a row that is left out is no error
    """A row is left out."""

    def __init__(self, kind: str, why: str = "") -> None:
        super().__init__(why)
        self.kind, self.why = kind, why


def plan_lists(
    clip_lists: Sequence[ClipList],
    class_list: ClassList | None,
    asked: Asked,
    *,
    annotation_lists: Callable[[], Iterable[Path]],
    always: bool,
) -> ListPlan:
    """Clips of the lists, without duplicates, in manifest order: split, label, key.

    Without a class list, the classes are the rows' first labels, sorted. Annotations are read if rows need them, or `always`.
    Raises ListError for a clip with contradictory rows, for class indices of another class list, and if nothing is left;
    AnnotationError as `plan.plan`.
    """
    youtube_ids, needed = _survey(clip_lists, asked, indexed=class_list is not None)
    annotated = _annotated(annotation_lists(), youtube_ids) if always or needed else None
    del youtube_ids
    rows = _Rows(Labels.of(class_list, annotated), annotated or {}, asked)
    for clip_list in clip_lists:
        rows.take(clip_list)
    if shown := rows.indices.contradicted():
        raise ListError(f"class indices do not match the class list; choose another with --classes: {shown}")
    if not rows.found:
        told = ", ".join(str(each.path) for each in clip_lists)
        raise ListError(f"{told}: no clip is left to build; {_why(rows.tally)}")
    classes = class_list or ClassList("", tuple(sorted(rows.seen)))
    clips = select(classes, (clip for clip, _, _ in rows.found.values()), limit=asked.limit, per_class=asked.per_class)
    return ListPlan(
        lists=tuple(clip_lists),
        origins=origins(clip_lists),
        classes=classes,
        clips=clips,
        tally=rows.tally,
        labels=frozenset(rows.seen),
        annotated=annotated is not None,
        selection=fingerprints.selection((clip.key, clip.label, clip.split) for clip, _, _ in rows.found.values()),
        stated="" if rows.tally.left_out else stated_selection(clip_lists),
        short={clip.key: rows.short[clip.key] for clip in clips if clip.key in rows.short},
    )


def _survey(clip_lists: Iterable[ClipList], asked: Asked, *, indexed: bool) -> tuple[set[str], bool]:
    """IDs of the listed videos, and whether the annotations are needed.

    Raises ListError for class indices without a class list to apply them to (`indexed`).
    """
    youtube_ids: set[str] = set()
    needed = False
    for clip_list in clip_lists:
        split = _default_split(clip_list, asked)
        for entry in lists.read(clip_list):
            if entry.trouble:
                continue
            if entry.label_index is not None and not indexed:
                raise ListError(
                    f"{clip_list.path}: has class indices, not labels; give the class list of these indices with --classes"
                )
            youtube_ids.add(entry.youtube_id)
            labelled = bool(entry.labels or entry.folder)  # an index is compared with what the annotations say
            timed = entry.time_start is not None and entry.time_end is not None
            needed = needed or not (timed and labelled and (entry.split or split))
    return youtube_ids, needed


def _default_split(clip_list: ClipList, asked: Asked) -> str:
    """Split of rows without one; empty if it is looked up in the annotations."""
    return "" if asked.split == FROM_ANNOTATIONS else asked.split or clip_list.split


def _annotated(paths: Iterable[Path], youtube_ids: set[str]) -> Annotated:
    """Annotated clips of some videos. Raises AnnotationError as `plan.plan`."""
    found: dict[str, dict[str, tuple[Clip, Path, int]]] = {}
    for path in paths:
        for clip, line in annotations.read(path, labels=None, youtube_ids=youtube_ids).clips:
            other, there, its = found.setdefault(clip.youtube_id, {}).setdefault(clip.key, (clip, path, line))
            if other != clip:
                raise AnnotationError(
                    f"{path}:{line}: {clip.key} is {clip.label!r} in {clip.split}, but {there}:{its} has "
                    f"{other.label!r} in {other.split}; remove one of the two rows"
                )
    return {
        youtube_id: {(clip.time_start, clip.time_end): clip for clip, _, _ in clips.values()}
        for youtube_id, clips in found.items()
    }


class _Rows:
    """Clips of the rows read so far."""

    def __init__(self, labels: Labels, annotated: Annotated, asked: Asked) -> None:
        self.labels, self.annotated, self.asked = labels, annotated, asked
        self.found: dict[str, tuple[Clip, ClipList, int]] = {}
        self.seen: set[str] = set()  # labels, also of clips of splits that are not asked for
        self.short: dict[str, float] = {}
        self.tally = RowCounts()
        self.indices = IndexCheck()
        self._spans: dict[
            str, defaultdict[tuple[float | None, float | None], list[Span]]
        ] = {}  # by what a row may say of them

    def take(self, clip_list: ClipList) -> None:
        """Read the rows of a list."""
        split, indexed = _default_split(clip_list, self.asked), self.labels.indexed(clip_list)
        for entry in lists.read(clip_list):
            where = f"{clip_list.path}:{entry.line}: {_short(entry.name)!r}"
            try:
                labels = self._labels(entry, indexed, clip_list.path)
                clip, known = self._clip(entry, labels, split)
            except _LeftOut as row:
                self.tally.put(entry.split or split, "rows")
                self.tally.put(entry.split or split, row.kind, row.why and f"{where}: {_short(row.why, 2)}")
                continue
            self.tally.put(clip.split, "rows")
            if known is not None:
                self._compare(clip, known, where)
                if entry.label_index is not None:
                    self.indices.put(clip_list.path, entry.label_index, clip, known, where)
            self._put(clip, clip_list, entry.line)
            share = 1.0 if entry.duration_seconds is None else entry.duration_seconds / clip.seconds
            if 0 <= share < self.asked.min_coverage:  # no length is below 0
                self.short[clip.key] = share

    def _labels(self, entry: Entry, indexed: Sequence[str], path: Path) -> tuple[str, ...]:
        """Labels of a row, its class first; none if it has none. Raises _LeftOut."""
        if entry.trouble:
            raise _LeftOut("unusable", entry.trouble)
        labels = self.labels.labels(entry, indexed, path)
        if labels and not self.labels.holds(labels[0]):
            raise self._of_other_classes(labels)
        if entry.status not in (None, "ok"):
            raise _LeftOut("never_published")
        return labels

    def _of_other_classes(self, labels: tuple[str, ...]) -> _LeftOut:
        self.tally.other_labels[sys.intern(labels[0])] += 1
        return _LeftOut("other_classes")

    def _clip(self, entry: Entry, labels: tuple[str, ...], split: str) -> tuple[Clip, Clip | None]:
        """Clip of a row, and the annotated one; raises _LeftOut."""
        start, end = self._span(entry)
        known = self.annotated.get(entry.youtube_id, {}).get((start, end))
        if not labels:
            if known is None:
                raise _LeftOut("not_in_annotations", "is not in the annotations, and the list has no label for it")
            labels = (self.labels.spelt(known.label),)
            if not self.labels.holds(labels[0]):
                raise self._of_other_classes(labels)
        split = entry.split or split or (known.split if known else "")
        if not split:
            raise _LeftOut(
                "not_in_annotations", "is not in the annotations, and its split is unknown; give it with --clips_split"
            )
        try:
            label, *others = map(sys.intern, labels)
            return Clip(entry.youtube_id, start, end, label, sys.intern(split), other_labels=tuple(others)), known
        except ValueError as error:
            raise _LeftOut("unusable", str(error)) from error

    def _span(self, entry: Entry) -> Span:
        """Start and end of a row's clip: its own, else those of the only matching annotation; raises _LeftOut."""
        if entry.time_start is not None and entry.time_end is not None:
            return entry.time_start, entry.time_end
        spans = self._annotated_spans(entry.youtube_id).get((entry.time_start, entry.time_end))
        if not spans:
            raise _LeftOut("not_in_annotations", "is not in the annotations, and the list does not give its times")
        if len(spans) > 1:
            told = ", ".join(f"{start} to {end}" for start, end in itertools.islice(spans, EXAMPLES))
            raise _LeftOut("ambiguous", f"may be any of {len(spans)} annotated clips ({told} s)")
        return spans[0]

    def _annotated_spans(self, youtube_id: str) -> Mapping[tuple[float | None, float | None], Sequence[Span]]:
        """Sorted annotated spans of a video by start, by end, and all of them (None, None)."""
        found = self._spans.get(youtube_id)
        if found is None:
            found = self._spans[youtube_id] = defaultdict(list)
            for start, end in sorted(self.annotated.get(youtube_id, ())):
                for said in ((start, None), (None, end), (None, None)):
                    found[said].append((start, end))
        return found

    def _compare(self, clip: Clip, known: Clip, where: str) -> None:
        """Count a row found in the annotations, and how they differ; the list takes precedence."""
        self.tally.put(clip.split, "in_annotations")
        if known.split != clip.split:
            self.tally.put(clip.split, "other_split")
        if normal(known.label) != normal(clip.label):
            said = f"{_short(clip.label)!r}, by the annotations {_short(known.label)!r}"
            self.tally.put(clip.split, "other_label", f"{where}: {said}")

    def _put(self, clip: Clip, clip_list: ClipList, line: int) -> None:
        """Add a clip; raises ListError if an earlier row contradicts it."""
        self.seen.add(clip.label)
        if clip.split not in self.asked.splits:
            self.tally.put(clip.split, "other_splits")
            return
        if clip.key not in self.found:
            self.found[clip.key] = (clip, clip_list, line)
            self.tally.put(clip.split, "clips")
            if clip.other_labels:
                self.tally.put(clip.split, "several_labels")
            return
        other, there, its = self.found[clip.key]
        if other != clip:
            raise ListError(
                f"{clip_list.path}:{line}: {clip.key} is {_told(clip)} in {clip.split}, but {there.path}:{its} has "
                f"{_told(other)} in {other.split}; remove one of the two rows"
            )
        self.tally.put(clip.split, "repeated")


def _told(clip: Clip) -> str:
    """Labels of a clip, for a message."""
    return ", ".join(repr(_short(label)) for label in clip.labels)


def _short(text: str, times: int = 1) -> str:
    """Text of a list, truncated to `times` `MOST_LETTERS`."""
    most = times * MOST_LETTERS
    return text if len(text) <= most else f"{text[:most]}…"


def _why(tally: RowCounts) -> str:
    """Why no row is left to build."""
    total: Counter[str] = sum(tally.rows.values(), Counter())
    told = ", ".join(f"{count} {kind.replace('_', ' ')}" for kind, count in total.items() if kind != "rows")
    first = next(itertools.chain.from_iterable(tally.named.values()), "")
    return (
        f"of {total['rows']} rows: {told or 'none'}; see --classes, --splits and --annotations{first and f' ({first})'}"
    )
