"""State of a build from its ledger and its files: which clips exist, and which are pending for each source."""

import errno
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from kinetics_sounds import files, progress
from kinetics_sounds.address import Address
from kinetics_sounds.clip import Clip, Status
from kinetics_sounds.errors import SettingsError, StoppedError
from kinetics_sounds.ledger import Entry, Ledger, name_of
from kinetics_sounds.quantities import first_of, plural
from kinetics_sounds.sources import Source

DEFAULT_SOURCE = Address("youtube")
ID_LENGTH = 11
"""Length of a YouTube ID."""
MOST_NAMED = 20
"""Maximum number of changed clips listed one by one; the ledger has all."""


@dataclass(frozen=True, slots=True)
class BuildState:
    """State of the requested clips; updated during the run."""

    ok: dict[str, str] = field(default_factory=dict)
    """Keys of existing clips, with the source that provided them."""
    terminal: defaultdict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    """By source, keys with a terminal status, not to be asked for again."""
    absent: defaultdict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    """By source, keys that it does not have."""
    refused: set[str] = field(default_factory=set)
    """Keys at which a source last refused everything: they may be the cause."""
    made: dict[str, str] = field(default_factory=dict)
    """By key, outdated files of earlier runs: a source may find them, but they are ours."""
    occupied: set[str] = field(default_factory=set)
    """Keys whose clip's path is occupied by a file of the user."""


def default_source(out: Path) -> Address:
    """The source of a command without `--source`; raises SettingsError if the build in the folder has asked others.

    Their options are not recorded, so a resumed build would judge clips otherwise.
    """
    if (out / "ledger.sqlite").is_file():
        with Ledger(out / "ledger.sqlite", only_read=True) as ledger:
            others = [name for name in ledger.sources() if name != str(DEFAULT_SOURCE)]
        if others:
            raise SettingsError(
                f"--source: {out} was built from {', '.join(others)}; give --source and its options as before"
            )
    return DEFAULT_SOURCE


def check_ids(clips: Collection[Clip]) -> None:
    """Raise SettingsError if the default source cannot have some clips, which it would reject one by one, for good."""
    others = [clip.youtube_id for clip in clips if len(clip.youtube_id) != ID_LENGTH]
    if others:
        raise SettingsError(
            f"--source: none given, and {DEFAULT_SOURCE}, the default, cannot have {plural(len(others), 'clip')} of videos such "
            f"as {first_of(others, 2)} (its IDs have {ID_LENGTH} characters); give --source local:DIR, the folder of the videos, "
            "or --source youtube to request the others"
        )


def load_state(ledger: Ledger, clips: Iterable[Clip], again: Collection[str], out: Path) -> BuildState:
    """State left by earlier runs: existing clips are kept, and recorded statuses hold unless they are retried."""
    known = BuildState()
    asked = {clip.key for clip in clips}
    placed: dict[str, int] = {}
    doubted: set[str] = set()
    lost: dict[str, str] = {}
    for entry in ledger.latest():
        if entry.key not in asked:
            continue
        if entry.status is Status.OCCUPIED:
            known.occupied.add(entry.key)
        elif entry.status is Status.NOT_TRIED:
            doubted.add(entry.key)
        elif entry.status is Status.NOT_IN_SOURCE:
            known.absent[entry.source].add(entry.key)
        if entry.media is not None:
            found = _difference(entry, out)
            if not found and entry.number > placed.get(entry.key, 0):  # a later one replaced the file
                placed[entry.key] = entry.number
                known.ok[entry.key] = entry.source
                continue
            lost[entry.key] = "vanished" if found == "is missing" else "changed"
            if _was_made(entry, out):
                known.made[entry.key] = os.path.realpath(out / entry.media.path)
        elif not entry.status.is_named(again):
            known.terminal[entry.source].add(entry.key)
        elif entry.status.is_refusal:
            known.refused.add(entry.key)
    for entry in (
        ledger.latest(of_files=True) if doubted else ()
    ):  # made, and found to be no good by a run that was killed
        if entry.key in doubted and entry.media and entry.key not in known.ok and _was_made(entry, out):
            known.made[entry.key] = os.path.realpath(out / entry.media.path)
    for said, count in Counter(said for key, said in lost.items() if key not in known.ok).items():
        progress.log.warning("%s: %s had %s, to be made again", out, plural(count, "clip"), said)
    return known


def drop_changed(ledger: Ledger, known: BuildState, out: Path, stop: Callable[[], bool]) -> Iterator[tuple[Entry, str]]:
    """Verify every existing clip, and drop those whose bytes changed from the state; yields how they differ.

    Ends early once `stop()` is true.
    """
    entries = (entry for entry in ledger.latest() if entry.media and known.ok.get(entry.key) == entry.source)
    changed = 0
    with progress.bar("ks-build --check_bytes", len(known.ok)) as bar:
        for entry, found in files.in_threads(lambda each: _difference(each, out, check_bytes=True), entries):
            bar.advance("changed" if found else "whole")
            if found and entry.media:
                changed += 1
                del known.ok[entry.key]
                if _was_made(entry, out):
                    known.made[entry.key] = os.path.realpath(out / entry.media.path)
                if changed <= MOST_NAMED:
                    progress.log.warning("%s: %s; will be rebuilt", out / entry.media.path, found)
                yield entry, found
            if stop():
                break
    if changed > MOST_NAMED:
        progress.log.warning("%s: %d clips in total have changed bytes; will be rebuilt", out, changed)


def check_bytes(ledger: Ledger, known: BuildState, clips: Iterable[Clip], out: Path, stop: Callable[[], bool]) -> bool:
    """Mark clips whose bytes changed for rebuilding, by this run or a later one; returns whether all could be read."""
    asked = {clip.key: clip for clip in clips}
    for entry, found in drop_changed(ledger, known, out, stop):
        detail = f"{entry.media.path if entry.media else ''}: {found}; it will be rebuilt"
        path = entry.media.path if entry.media else None
        same = [each for each in ledger.of(entry.key) if each.media is not None and each.media.path == path]
        outcomes = (each.outcome(asked[each.key]) for each in same)  # an older word of another source would hold else
        ledger.record(replace(each, status=Status.NOT_TRIED, detail=detail, media=None) for each in outcomes)
    return not stop()


def _difference(entry: Entry, out: Path, *, check_bytes: bool = False) -> str:
    """How a clip's file differs from what was built; empty if it does not. A file that the disk cannot return differs too.

    Raises StoppedError if the disk or share is unavailable.
    """
    media = entry.media
    if media is None:
        return "was never built"
    try:
        return files.difference(out / media.path, size=media.bytes, digest=media.sha256 if check_bytes else "")
    except OSError as error:
        said = f"cannot be read: {error.strerror}"
        if error.errno == errno.EIO:
            return said
        remedy = "check that the disk is available, then run the same command again to resume"
        raise StoppedError(f"{out / media.path}: {said}; {remedy}") from error


def _was_made(entry: Entry, out: Path) -> bool:
    """Whether the file was made by a build, rather than being a link or the local source's own file (by its origin)."""
    name, _, folder = entry.source.partition(":")
    if entry.media is None or (out / entry.media.path).is_symlink():
        return False
    if name != "local":
        return True
    if not entry.media.origin:  # version 0.1.0 kept none
        return False
    try:
        return not Path(folder, entry.media.origin).samefile(out / entry.media.path)
    except OSError:  # either is gone
        return False


def candidates(known: BuildState, source: Source, clip: Clip) -> list[str]:
    """A source's locations for a clip, without files made by earlier runs."""
    made = known.made.get(clip.key)
    return [place for place in source.candidates(clip) if made is None or os.path.realpath(place) != made]


def failed_before(known: BuildState, spec: Address) -> set[str]:
    """Keys without success in earlier runs that are not tried again, but for those that the source did not have."""
    name = name_of(spec)
    return known.terminal[name] - known.absent[name] - known.ok.keys()


def found_before(known: BuildState, spec: Address) -> int:
    """Number of clips that earlier runs found in a source, failed ones too."""
    return Counter(known.ok.values())[name_of(spec)] + len(failed_before(known, spec))


def pending(known: BuildState, spec: Address, clips: Iterable[Clip]) -> list[Clip]:
    """Pending clips of a source: those that do not exist and have no terminal status. Refused ones come last."""
    terminal = known.terminal[name_of(spec)]
    left = [clip for clip in clips if clip.key not in known.ok and clip.key not in terminal]
    return sorted(left, key=lambda clip: clip.key in known.refused)
