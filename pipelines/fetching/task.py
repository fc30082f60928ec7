"""What the driver hands to workers, and what comes back."""

from dataclasses import dataclass, field
from pathlib import Path

from kinetics_sounds.address import Address
from kinetics_sounds.clip import Clip, FetchResult, Outcome, Status
from kinetics_sounds.sources import TarPart


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipTask:
    """All that a worker needs for one clip."""

    clip: Clip
    spec: Address
    """The source's `--source` text."""
    options: object = field(default=None, hash=False)
    """The source's own options."""
    locations: tuple[str, ...] = ()
    """The source's candidates, best first."""
    fetched: FetchResult | None = None
    """The clip's file where it was fetched already, from an archive."""
    out: Path
    """The build's folder."""
    scratch: Path
    """A folder of the build's own on the same file system: what lies below it may be moved."""
    folder: Path
    """Of this task alone, below `scratch`; the driver sees to it that nothing stays."""
    kept: tuple[str, ...] = ()
    """Files of the user's own that may be the clip's: none is written over."""
    only_clip: bool = True
    """No other clip of the same video is asked for."""
    min_coverage: float
    timeout_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class PartTask:
    """All that a worker needs for one archive."""

    part: TarPart
    spec: Address
    options: object = field(default=None, hash=False)
    wanted: Path
    """A file with a key a line."""
    folder: Path
    """Of this task alone; the driver sees to it that nothing stays."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipDone:
    """What became of a clip, and what it took."""

    outcome: Outcome
    seconds: dict[str, float] = field(default_factory=dict)
    """Wall time by stage."""
    requests: int = 0
    bytes: int = 0
    """Downloaded."""
    reached: bool = False
    """The source gave its file; whatever failed, failed here."""
    origin: str = ""
    """Which of the source's files it was about."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PartDone:
    """What an archive gave, and what it took."""

    status: Status
    """Ok where it was read to its end."""
    detail: str = ""
    clips: tuple[tuple[str, FetchResult], ...] = ()
    """The wanted clips, with their files in the task's folder."""
    keys: frozenset[str] = frozenset()
    """Of all clips in it."""
    seconds: float = 0.0
    bytes: int = 0
    """Downloaded."""
