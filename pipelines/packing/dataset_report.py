"""What ks-shard --dataset tells of a data set's files once they are measured."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

from kinetics_sounds import datasets
from kinetics_sounds.clip import Clip, Outcome, Status
from kinetics_sounds.datasets import Listing
from kinetics_sounds.media import encode
from kinetics_sounds.quantities import plural


@dataclass(frozen=True, slots=True)
class Written:
    """A manifest that was written."""

    listing: Listing
    outcomes: tuple[Outcome, ...]
    modality: encode.Modality

    @property
    def lost(self) -> tuple[Outcome, ...]:
        """Files that are missing or cannot be used."""
        return tuple(outcome for outcome in self.outcomes if outcome.media is None)

    def lines(self) -> Iterator[str]:
        """What a user should know: how many files are ok, which are not, which no list names, and which are in two splits."""
        where = "lists" if self.listing.has_lists else "folder"
        yield f"files in the {where}: {len(self.outcomes)}, of which ok: {len(self.outcomes) - len(self.lost)}"
        for outcome in self.lost[: datasets.MOST_NAMED]:
            yield f"left out: {outcome.clip.key}: {outcome.status}: {outcome.detail}"
        if len(self.lost) > datasets.MOST_NAMED:
            counts = Counter(outcome.status for outcome in self.lost)
            told = ", ".join(f"{status} {count}" for status, count in counts.most_common())
            yield f"left out in all: {told}; each is named in the manifest"
        silent = sum(each.status is Status.NO_AUDIO for each in self.lost)
        if silent and self.modality == "both":
            yield f"without sound: {plural(silent, 'file')}; --modality video with a --manifest of its own packs pictures alone"
        yield from self.listing.left_out()
        if twice := self._same_bytes(lambda clip: clip.label):
            told = "packed, though files of two classes have the same bytes, so that one of the labels is wrong"
            names = [f"{each.clip.key} ({each.clip.label})" for each in twice]
            yield f"{told}: {plural(len(twice), 'file')}: {datasets.named(names)}"
        for place, fold in enumerate(self.listing.folds or ("",)):
            if twice := self._same_bytes(partial(_part, fold=place if fold else None)):
                where = f"{fold}: " if fold else ""
                told = "packed, though files of two splits have the same bytes, so that scores may be too high"
                yield f"{where}{told}: {plural(len(twice), 'file')}: {datasets.named([each.clip.key for each in twice])}"

    def _same_bytes(self, part: Callable[[Clip], str]) -> list[Outcome]:
        """Files whose bytes are in two parts: classes, or the splits of a fold; an empty part does not count."""
        parts, same = defaultdict[str, set[str]](set), defaultdict[str, list[Outcome]](list)
        for outcome in self.outcomes:
            if outcome.media is not None and (name := part(outcome.clip)):
                parts[outcome.media.sha256].add(name)
                same[outcome.media.sha256].append(outcome)
        return [each for digest, names in parts.items() if len(names) > 1 for each in same[digest]]


def _part(clip: Clip, fold: int | None) -> str:
    """The clip's split in a fold; None: of a set without folds."""
    return clip.split if fold is None else clip.folds[fold]
