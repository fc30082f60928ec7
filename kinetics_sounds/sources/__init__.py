"""Sources of clips: one file per source, tried in the order given."""

import os
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Protocol, runtime_checkable

from .. import files, plugins
from ..address import Address
from ..clip import Clip, FetchResult, Status
from ..errors import SourceError


class Source(Protocol):
    """A source that is asked clip by clip, built from the argument in `--source NAME:ARGUMENT`.

    A module with a dataclass `Options` is called as `Source(argument, options)`; its fields are the options `--NAME.FIELD`.
    Workers may run in another folder: a module whose argument may be a path has a function `absolute(argument)` that makes it
    absolute (`absolute_folder` for a folder).
    """

    notice: str
    """What users must know before the first use; empty if nothing."""
    versions: str
    """Names and versions of the tools that fetch; empty if there are none."""
    videos_per_hour: float | None
    """Rate limit in clips per hour and IP address; None for no limit."""
    requests_per_hour: float | None
    """Rate limit in requests per hour and IP address; None for no limit."""
    share: Mapping[str, float]
    """Expected fraction of clips that the source can provide, by split."""

    def candidates(self, clip: Clip) -> Sequence[str]:
        """Locations to look for a clip, best first; empty if there are none. Makes no requests. Runs in the driver."""

    def fetch(self, clip: Clip, location: str, folder: Path) -> FetchResult:
        """Get the file of one candidate, into `folder` if it must be created. Runs in a worker.

        A failure is returned as a status, not raised: the next candidate is tried then.
        """


@runtime_checkable
class OnDisk(Source, Protocol):
    """A source of local files: its candidates are paths, and `fetch` returns them in place and writes nothing.

    A dry run opens some of them, and a build never overwrites one.
    """

    patterns: Sequence[str]
    """Recognised file name patterns, as examples."""

    def seen(self) -> tuple[int, Sequence[str]]:
        """Number of files, and the paths of the first three relative to the folder."""

    def near_miss(self, clip: Clip) -> str:
        """The file that seems to be the clip's, why it is not a candidate, and the remedy; empty if there is none."""


def advice(source: OnDisk, near_misses: Sequence[str], *, found: int) -> list[str]:
    """Hints about missing clips of a folder: near misses, and if nothing was found, what is there instead."""
    lines: list[str] = []
    if near_misses:
        lines.append(f"files not used: {len(near_misses)}, such as: {near_misses[0]}")
    if not found:
        count, first = source.seen()
        such = f" (such as {', '.join(first)})" if first else ""
        known = ", ".join(source.patterns)
        lines.append(f"none of its {count} files{such} is named after a requested clip; recognised names: {known}")
    return lines


@dataclass(frozen=True, slots=True)
class TarPart:
    """One archive of clips."""

    name: str
    """Unique among the source's parts, and stable between runs."""
    place: str
    """URL or path."""
    split: str | None
    """Split whose list or folder contains it; None if unknown."""
    replacement: bool
    """Whether it replaces broken clips of other parts, so that its clips are preferred."""


class _StatusError(SourceError):
    """An error that has a status."""

    def __init__(self, status: Status, text: str) -> None:
        """The text says what is wrong, where, and what to do."""
        super().__init__(status, text)
        self.status = status

    def __str__(self) -> str:
        """The text without the status."""
        return str(self.args[1])


class PartError(_StatusError):
    """A part ended early for good; clips after those already read may be missing. The status says why."""


class UnreachableError(_StatusError):
    """The list of parts is unavailable for now, due to network or server errors. The status says why."""


@runtime_checkable
class TarSource(Protocol):
    """A source whose clips are unordered within archives, so that each archive is read once, sequentially."""

    notice: str
    """What users must know before the first use; empty if nothing."""
    versions: str
    """Names and versions of the tools that fetch; empty if there are none."""
    share: Mapping[str, float]
    """Expected fraction of clips that the source can provide, by split."""
    part_bytes: int
    """Typical size of a part in bytes."""
    downloaded: int
    """Bytes of parts downloaded so far."""

    def parts(self, splits: Iterable[str]) -> list[TarPart]:
        """Archives of these splits, replacements first.

        Raises SourceError if they cannot be listed, UnreachableError if that may succeed later.
        """

    def stream(self, part: TarPart, wanted: Container[str], folder: Path) -> Iterator[tuple[str, FetchResult | None]]:
        """Read a part once; yields the key of each clip in it, with its file in `folder` if requested.

        Runs in a worker. Raises PartError if the part ends early, after the clips before that point.
        """


def load(spec: Address | str, options: object = None) -> Source | TarSource:
    """Load the source `NAME` or `NAME:ARGUMENT`; raises SettingsError or SourceError if there is none.

    `options` is an instance of the module's `Options`, or None for its defaults.
    """
    module, _, argument = _parsed(spec)
    source: Source | TarSource = module.Source(argument) if options is None else module.Source(argument, options)
    return source


def absolute(spec: Address | str) -> Address:
    """The source with an absolute argument, valid in any working directory and environment; raises as `load`."""
    module, name, argument = _parsed(spec)
    if not argument or not hasattr(module, "absolute"):
        return Address(Address(spec).real)
    return Address(f"{name}:{module.absolute(argument)}")


def _parsed(spec: Address | str) -> tuple[ModuleType, str, str]:
    """Module, name and argument of a source."""
    spec = Address(spec).real
    name, _, argument = spec.partition(":")
    if spec and Path(spec).exists() and name not in plugins.names(__name__):
        raise SourceError(f"--source {spec}: write a folder as local:{spec}")
    return plugins.load(__name__, name), name, argument


def absolute_folder(argument: str) -> str:
    """Absolute path of a folder given by the user."""
    return str(files.user_path(argument).absolute())


def readable_folder(argument: str, *, spec: str) -> Path:
    """Folder given by the user; raises SourceError if it cannot be read."""
    folder = Path(absolute_folder(argument))
    try:
        with os.scandir(folder):
            pass
    except OSError as error:
        raise SourceError(f"--source {spec}: the folder cannot be read: {error.strerror}") from error
    return folder


def walk(folder: Path) -> Iterator[tuple[str, list[str]]]:
    """Walk a folder tree: each folder with its file names; links are followed, cycles are not.

    Raises SourceError for a folder that cannot be read.
    """
    seen: set[tuple[int, int]] = set()
    for place, folders, names in os.walk(folder, followlinks=True, onerror=_refuse):
        status = os.stat(place)  # noqa: PTH116
        if (status.st_dev, status.st_ino) in seen:  # a link back into the tree
            folders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        folders.sort()
        yield place, names


def _refuse(error: OSError) -> None:
    raise SourceError(f"{error.filename}: the folder cannot be read: {error.strerror}") from error


def options() -> dict[str, type]:
    """Option classes of the sources that have one, by source name."""
    modules = {name: plugins.load(__name__, name) for name in plugins.names(__name__)}
    return {name: module.Options for name, module in modules.items() if hasattr(module, "Options")}
