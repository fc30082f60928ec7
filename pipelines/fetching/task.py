"""Tasks sent to workers, and their results."""

from dataclasses import dataclass, field
from pathlib import Path

from kinetics_sounds.address import Address
from kinetics_sounds.clip import Clip, FetchResult, Outcome, Status
from kinetics_sounds.sources import TarPart


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipTask:
    """Input of a worker for one clip."""

    clip: Clip
    spec: Address
    """The source's `--source` text."""
    options: object = field(default=None, hash=False)
    """The source's own options."""
    locations: tuple[str, ...] = ()
    """The source's candidate locations, best first."""
    ambiguous: bool = False
    """Whether they are several different files of one name without times."""
    fetched: FetchResult | None = None
    """The already fetched file of the clip, from an archive."""
    out: Path
    """Folder of the build."""
    scratch: Path
    """Scratch folder on the file system of `out`; files below it may be moved."""
    folder: Path
    """Folder of this task, below `scratch`; the driver deletes it."""
    kept: tuple[str, ...] = ()
    """The user's own files that may be the clip's: never overwritten."""
    only_clip: bool = True
    """Whether no other clip of the same video is requested."""
    min_coverage: float
    timeout_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class PartTask:
    """Input of a worker for one archive."""

    part: TarPart
    spec: Address
    options: object = field(default=None, hash=False)
    wanted: Path
    """File of `archives.wanted` with the requested clips; it never changes."""
    folder: Path
    """Folder of this task; the driver deletes it."""
    seconds: float = 0.0
    """How long the reading before took, if it ended at `part.start`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipDone:
    """Result for a clip, with its costs."""

    outcome: Outcome
    seconds: dict[str, float] = field(default_factory=dict)
    """Wall time by stage."""
    requests: int = 0
    bytes: int = 0
    """Bytes downloaded."""
    reached: bool = False
    """Whether the source provided the file, so that a failure is local."""
    origin: str = ""
    """Which of the source's files it concerns."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PartDone:
    """Result for an archive, with its costs."""

    status: Status
    """Ok if it was read to its end."""
    detail: str = ""
    clips: tuple[tuple[str, FetchResult], ...] = ()
    """The requested clips, with their files in the task's folder."""
    names: frozenset[str] = frozenset()
    """Names of all clips' files in it, requested or not."""
    position: int = 0
    """Where in the tar another task must continue, if it holds more than one may read; else 0."""
    seconds: float = 0.0
    bytes: int = 0
    """Bytes downloaded."""
    lasts: bool = False
    """Same as `PartError.lasts`."""
