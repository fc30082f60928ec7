"""What archives hold, by the names that the ledger keeps of those that were read."""

import heapq
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from kinetics_sounds.archives.wanted import Wanted
from kinetics_sounds.clip import Clip, Status
from kinetics_sounds.clip_names import tail
from kinetics_sounds.ledger import PartEntry
from kinetics_sounds.sources import TarPart, TarSource, advice

FIRST = 3
"""Number of example files in the message if nothing was found."""


@dataclass(frozen=True, slots=True)
class KnownPart:
    """What is known of an archive that was read."""

    status: Status
    """Ok if it was read to its end."""
    detail: str
    keys: frozenset[str]
    """Keys of the clips of the build that it holds."""


def wanted_of(source: TarSource, clips: Iterable[Clip]) -> Wanted:
    """The clips by the names of their files."""
    return Wanted(((clip.key, source.names(clip)) for clip in clips), depth=source.depth)


def known_parts(source: TarSource, clips: Iterable[Clip], entries: Mapping[str, PartEntry]) -> dict[str, KnownPart]:
    """What the ledger's entries say of some clips, by the names of the archives."""
    if not entries:
        return {}
    wanted = wanted_of(source, clips)
    found = {
        name: (key for member in entry.names for key, _ in wanted.clips(member)) for name, entry in entries.items()
    }
    return {name: KnownPart(entry.status, entry.detail, frozenset(found[name])) for name, entry in entries.items()}


def unread(
    parts: Sequence[TarPart],
    known: Mapping[str, KnownPart],
    left: Collection[str],
    again: Collection[str],
    damaged: Collection[str] = (),
) -> list[TarPart]:
    """Parts to read: those that may contain more clips than is known, or are known to contain a pending one.

    `damaged`: keys whose copies in the known parts are unusable.
    """
    pending = frozenset(left).difference(damaged)

    def asked(part: TarPart) -> bool:
        entry = known.get(part.name)
        if entry is None or (entry.status is not Status.OK and entry.status.is_named(again)):
            return True
        return not entry.keys.isdisjoint(pending)

    return [part for part in parts if asked(part)] if left else []


def near_misses(source: TarSource, clips: Iterable[Clip], entries: Mapping[str, PartEntry]) -> dict[str, str]:
    """Files that seem to be those of missing clips, by key: why each was not used, and the remedy."""
    near: dict[str, tuple[str, str]] = {}
    for clip in clips:
        for name, said in source.near(clip).items():
            near.setdefault(name, (clip.key, said))
    found: dict[str, str] = {}
    for part, entry in entries.items() if near else ():
        for member in entry.names:
            if (name := tail(member, 1)) in near:
                key, said = near[name]
                text = f"{member} in {part} {said}"
                found[key] = min(text, found.get(key, text))
    return found


def hints(source: TarSource, missed: Sequence[str], entries: Mapping[str, PartEntry], *, found: int) -> list[str]:
    """Hints about missing clips; `missed`: their near misses, `found`: number of clips that were found."""
    if found:
        return advice(missed, found=found, files=0, first=(), patterns=())
    names = [name for entry in entries.values() for name in entry.names]
    return advice(missed, found=0, files=len(names), first=heapq.nsmallest(FIRST, names), patterns=source.patterns)
