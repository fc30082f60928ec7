"""Sources of clips: one file per source, tried in the order given."""

from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Protocol, runtime_checkable

from .. import plugins
from ..address import Address
from ..archives import PartError, TarPart, UnreachableError
from ..clip import Clip, FetchResult
from ..clip_names import ClipNames
from ..errors import SourceError

__all__ = [
    "Named",
    "OnDisk",
    "PartError",
    "Source",
    "TarPart",
    "TarSource",
    "UnreachableError",
    "absolute",
    "advice",
    "load",
    "name_one_video",
    "naming_examples",
    "options",
]


class Source(Protocol):
    """A source that is asked clip by clip, built from the argument in `--source NAME:ARGUMENT`.

    A module with a dataclass `Options` is called as `Source(argument, options)`; its fields are the options `--NAME.FIELD`.
    Workers may run in another folder: a module whose argument may be a path has a function `absolute(argument)` that makes it
    absolute (`folders.absolute_folder` for a folder).
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
    folder: Path
    out: Path | None
    """Folder of the build that asks. Clips of other builds below `folder` are no originals, so they are left out."""

    def seen(self) -> tuple[int, Sequence[str]]:
        """Number of files, and the paths of the first three relative to the folder."""

    def near_miss(self, clip: Clip) -> str:
        """The file that seems to be the clip's, why it is not a candidate, and the remedy; empty if there is none."""

    def ambiguous(self, clips: Iterable[Clip]) -> tuple[frozenset[str], str]:
        """Keys of clips whose name stands for several different files, and the names and the remedy; empty if there are none."""


def advice(
    near_misses: Sequence[str], *, found: int, files: int, first: Sequence[str], patterns: Sequence[str]
) -> list[str]:
    """Hints about missing clips: near misses, and if nothing was found, what is there instead.

    `files`: number of files in the source; `first`: some of them; `patterns`: recognised names, as examples.
    """
    lines: list[str] = []
    if near_misses:
        lines.append(f"files not used: {len(near_misses)}, such as: {near_misses[0]}")
    if not found:
        such = f" (such as {', '.join(first)})" if first else ""
        what = f"none of its {files} files{such} is" if files else "no file was found in it that is"
        lines.append(f"{what} named after a requested clip; recognised names: {', '.join(patterns)}")
    return lines


@runtime_checkable
class Named(Protocol):
    """A source whose files are named by a pattern of the user."""

    naming: ClipNames


def naming_examples(asked: Mapping[Address, object], clips: Sequence[Clip]) -> list[str]:
    """How each source's pattern names the first clip; raises SettingsError if one gives two clips one name."""
    lines = (source.naming.check(clips) for source in asked.values() if isinstance(source, Named))
    return [line for line in lines if line]


def name_one_video(asked: Iterable[object]) -> bool:
    """Whether an ID names one video in all sources, whatever a clip's label and split."""
    return all(source.naming.one_video for source in asked if isinstance(source, Named))


@runtime_checkable
class TarSource(Protocol):
    """A source whose clips are unordered within archives, so that each archive is read once, sequentially."""

    notice: str
    """What users must know before the first use; empty if nothing."""
    versions: str
    """Names and versions of the tools that fetch; empty if there are none."""
    share: Mapping[str, float]
    """Expected fraction of clips that the source can provide, by split."""
    patterns: Sequence[str]
    """Recognised file names, as examples."""

    @property
    def part_bytes(self) -> int | None:
        """Typical size of a part in bytes; None if unknown."""

    @property
    def downloaded(self) -> int:
        """Bytes of parts downloaded so far."""

    @property
    def depth(self) -> int:
        """Number of path components of a clip's name in a part."""

    def names(self, clip: Clip) -> Mapping[str, bool | None]:
        """Names of a clip's file in a part, without extension, each with whether such a file is trimmed (see `FetchResult`)."""

    def near(self, clip: Clip) -> Mapping[str, str]:
        """Names that are not recognised but may be those of the clip's file, each with what to do about it."""

    def parts(self, splits: Iterable[str]) -> list[TarPart]:
        """Archives of these splits, replacements first.

        Raises SourceError if they cannot be listed, UnreachableError if that may succeed later.
        """

    def stream(self, part: TarPart, wanted: Container[str], folder: Path) -> Iterator[tuple[str, FetchResult | None]]:
        """Read a part once; yields the name of each clip's file in it, with the file in `folder` if it is wanted.

        A yielded name ends with the clip's, which has `depth` components; the folders before it may be left out. Runs in a
        worker. Raises PartError if the part ends early, after the clips before that point.
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


def options() -> dict[str, type]:
    """Option classes of the sources that have one, by source name."""
    modules = {name: plugins.load(__name__, name) for name in plugins.names(__name__)}
    return {name: module.Options for name, module in modules.items() if hasattr(module, "Options")}
