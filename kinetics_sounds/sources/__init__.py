"""Where clips come from: one file a source, tried in the order given."""

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
    """A place that is asked clip by clip. Built from what follows the colon in `--source NAME:ARGUMENT`.

    A module with a dataclass `Options` gets it as `Source(argument, options)`; its fields are the command's `--NAME.FIELD`.
    Workers may run in another folder: a module whose argument may be a path has a function `absolute(argument)`, which makes
    it one that means the same there (`absolute_folder` does so for a folder).
    """

    notice: str
    """What the user must know before the first use; empty where there is nothing to say."""
    versions: str
    """The tools that fetch, with their versions; empty where there are none."""
    videos_per_hour: float | None
    """How many clips may be asked of it in an hour, from one address; None for no limit."""
    requests_per_hour: float | None
    """How many requests may be made in an hour, from one address; None for no limit."""
    share: Mapping[str, float]
    """Of the clips that it is asked for, how many it can be expected to give, by split."""

    def candidates(self, clip: Clip) -> Sequence[str]:
        """The places to look for a clip, best first; empty where it has none. Asks no network. Runs in the driver."""

    def fetch(self, clip: Clip, location: str, folder: Path) -> FetchResult:
        """Get the file of one candidate, into `folder` if it must be made. Runs in a worker.

        Bad luck is a status, not an error: the next candidate is fetched then.
        """


@runtime_checkable
class OnDisk(Source, Protocol):
    """A source of files on a disk: its candidates are their paths, and `fetch` gives them where they lie and writes nothing.

    A dry run opens some of them, and a build never writes over one.
    """

    patterns: Sequence[str]
    """The file names that it knows, as people write them."""

    def seen(self) -> tuple[int, Sequence[str]]:
        """How many files there are, and the paths of the first three below the folder."""

    def near_miss(self, clip: Clip) -> str:
        """Which file seems to be the clip's, why it is none of its candidates, and the remedy; empty where there is none."""


def advice(source: OnDisk, near_misses: Sequence[str], *, found: int) -> list[str]:
    """What to tell of a folder that lacks clips: near misses, and where none was found what is there instead."""
    lines: list[str] = []
    if near_misses:
        lines.append(f"files not taken: {len(near_misses)}, such as: {near_misses[0]}")
    if not found:
        count, first = source.seen()
        such = f" (such as {', '.join(first)})" if first else ""
        known = ", ".join(source.patterns)
        lines.append(
            f"none of its {count} files{such} is named after a clip that is asked for; names that are read: {known}"
        )
    return lines


@dataclass(frozen=True, slots=True)
class TarPart:
    """One archive of clips."""

    name: str
    """Unique among the source's parts and the same in every run."""
    place: str
    """URL or path."""
    split: str | None
    """The split whose list named it, or whose folder it lies in; None where that is not told."""
    replacement: bool
    """It mends clips that other parts hold broken, so its clips are to be preferred."""


class _StatusError(SourceError):
    """A failure that has a status."""

    def __init__(self, status: Status, text: str) -> None:
        """The text names the thing, the place and the remedy."""
        super().__init__(status, text)
        self.status = status

    def __str__(self) -> str:
        """The text alone."""
        return str(self.args[1])


class PartError(_StatusError):
    """A part broke off for good after the clips that it gave; others of it may be missing. The status says how it broke."""


class UnreachableError(_StatusError):
    """The parts cannot be told now, since the network or the server fails; later they may be. The status says how."""


@runtime_checkable
class TarSource(Protocol):
    """A place whose clips lie in archives in no order, so that each archive is read once from end to end."""

    notice: str
    """What the user must know before the first use; empty where there is nothing to say."""
    versions: str
    """The tools that fetch, with their versions; empty where there are none."""
    share: Mapping[str, float]
    """Of the clips that it is asked for, how many it can be expected to give, by split."""
    part_bytes: int
    """How large a part is, about."""
    downloaded: int
    """Bytes of parts that came over the network so far."""

    def parts(self, splits: Iterable[str]) -> list[TarPart]:
        """The archives to be read for these splits, replacements first.

        Raises SourceError where that cannot be told, UnreachableError where it may be later.
        """

    def stream(self, part: TarPart, wanted: Container[str], folder: Path) -> Iterator[tuple[str, FetchResult | None]]:
        """Read a part once and yield the key of each clip in it, with its file in `folder` where it is wanted.

        Runs in a worker. Raises PartError when the part breaks off, after the clips before the break.
        """


def load(spec: Address | str, options: object = None) -> Source | TarSource:
    """The source named by `NAME` or `NAME:ARGUMENT`; raises SettingsError or SourceError where there is none.

    `options` is an instance of the module's `Options`, or None for its defaults.
    """
    module, _, argument = _parsed(spec)
    source: Source | TarSource = module.Source(argument) if options is None else module.Source(argument, options)
    return source


def absolute(spec: Address | str) -> Address:
    """The same source for whoever works in another folder or environment; raises as `load` does where there is none."""
    module, name, argument = _parsed(spec)
    if not argument or not hasattr(module, "absolute"):
        return Address(Address(spec).real)
    return Address(f"{name}:{module.absolute(argument)}")


def _parsed(spec: Address | str) -> tuple[ModuleType, str, str]:
    """A source's module, its name and its argument."""
    spec = Address(spec).real
    name, _, argument = spec.partition(":")
    if spec and Path(spec).exists() and name not in plugins.names(__name__):
        raise SourceError(f"--source {spec}: a folder is named as local:{spec}")
    return plugins.load(__name__, name), name, argument


def absolute_folder(argument: str) -> str:
    """The path of a folder, as a user writes it, for whoever works in another one."""
    return str(files.user_path(argument).absolute())


def readable_folder(argument: str, *, spec: str) -> Path:
    """The folder that a user names; raises SourceError where it cannot be read."""
    folder = Path(absolute_folder(argument))
    try:
        with os.scandir(folder):
            pass
    except OSError as error:
        raise SourceError(f"--source {spec}: the folder cannot be read: {error.strerror}") from error
    return folder


def walk(folder: Path) -> Iterator[tuple[str, list[str]]]:
    """Each folder below one, itself included, with the names of its files; links are followed, but not in circles.

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
    """The options of each source that has some, by its name."""
    modules = {name: plugins.load(__name__, name) for name in plugins.names(__name__)}
    return {name: module.Options for name, module in modules.items() if hasattr(module, "Options")}
