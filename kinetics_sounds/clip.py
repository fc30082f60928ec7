"""The nouns: a clip, what may become of it, and what did."""

import re
from collections.abc import Container
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Self

SPLITS = ("train", "val", "test")

YOUTUBE_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
"""What names a file must be made of this and nothing else."""

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
"""What no label may hold: it could end a line of a list, or a column of a fingerprint."""

_KEY = re.compile(rf"(?P<youtube_id>{YOUTUBE_ID.pattern})_(?P<start>[0-9]{{6}})_(?P<end>[0-9]{{6}})")


@dataclass(frozen=True, slots=True, order=True)
class Clip:
    """One annotation: the span of a video that shows an action."""

    youtube_id: str
    """The video; letters, digits, `_` and `-`, and it may begin with `-`."""
    time_start: int
    """Whole seconds into the video."""
    time_end: int
    """Whole seconds into the video; later than `time_start`."""
    label: str
    """The Kinetics label."""
    split: str
    """train, val or test."""

    def __post_init__(self) -> None:
        """Raise ValueError for what could not name a file or a span."""
        if not YOUTUBE_ID.fullmatch(self.youtube_id):
            raise ValueError(f"{self.youtube_id!r} is no video id (letters, digits, '_' and '-')")
        if not 0 <= self.time_start < self.time_end <= 999_999:
            raise ValueError(f"{self.time_start} to {self.time_end} is no span of seconds")
        if _CONTROL.search(self.label):
            raise ValueError(f"label {self.label!r} has a line end or another control character in it")
        if self.split not in SPLITS:
            raise ValueError(f"{self.split!r} is no split (one of {', '.join(SPLITS)})")

    @property
    def key(self) -> str:
        """Unique name of the clip, the mirror's own: `{youtube_id}_{start:06d}_{end:06d}`."""
        return f"{self.youtube_id}_{self.time_start:06d}_{self.time_end:06d}"

    @property
    def seconds(self) -> int:
        """Length of the annotated span."""
        return self.time_end - self.time_start


def parse_key(key: str) -> tuple[str, int, int] | None:
    """Video id, start and end in seconds of a key; None where it is not one."""
    match = _KEY.fullmatch(key)
    return (match["youtube_id"], int(match["start"]), int(match["end"])) if match else None


def label_folder(label: str) -> str:
    """A label as one folder name of at most 100 bytes: harmless whatever the label holds."""
    return re.sub(r"[^\w ()'.,&-]", "_", label).encode()[:100].decode(errors="ignore").strip(". ") or "_"


class Kind(StrEnum):
    """What a status means for the next run."""

    OK = "ok"
    PERMANENT = "permanent"
    """Asking again will not help."""
    RETRY = "retry"
    """Asking again may help."""
    STOP = "stop"
    """Asking for anything else would make it worse: the whole build waits."""


class Status(StrEnum):
    """What became of a clip: a closed list, each of one kind."""

    kind: Kind

    def __new__(cls, value: str, kind: Kind) -> Self:
        """A member carries its kind beside its value."""
        member = str.__new__(cls, value)
        member._value_ = value
        member.kind = kind
        return member

    @classmethod
    def of(cls, value: str) -> Self:
        """The status of this name; raises ValueError where there is none."""
        found = cls._value2member_map_.get(value)
        if not isinstance(found, cls):
            raise ValueError(f"{value!r} is no status")
        return found

    @property
    def is_transient(self) -> bool:
        """Another try within the same run may mend it."""
        return self.is_outage or self in (Status.HTTP_4XX, Status.TRUNCATED, Status.CRASHED)

    @property
    def is_outage(self) -> bool:
        """It is what a dead line or a host in trouble looks like; many in a row are no fault of the clips."""
        return self in (Status.NETWORK, Status.HTTP_5XX, Status.TIMEOUT)

    @property
    def is_refusal(self) -> bool:
        """The source refuses everything for now."""
        return self.kind is Kind.STOP and self is not Status.DISK_FULL

    @property
    def is_blocking(self) -> bool:
        """While it lasts, nothing more can be had of the source."""
        return self.kind is Kind.STOP or self.is_outage

    def is_named(self, words: Container[str]) -> bool:
        """Whether the status itself or its kind is among some words, such as those of `--retry`."""
        return self in words or self.kind in words

    OK = "ok", Kind.OK

    PRIVATE = "private", Kind.PERMANENT
    REMOVED = "removed", Kind.PERMANENT
    ACCOUNT_TERMINATED = "account_terminated", Kind.PERMANENT
    GEO_BLOCKED = "geo_blocked", Kind.PERMANENT
    AGE_RESTRICTED = "age_restricted", Kind.PERMANENT
    LOGIN_REQUIRED = "login_required", Kind.PERMANENT
    UNAVAILABLE = "unavailable", Kind.PERMANENT
    LIVE = "live", Kind.PERMANENT
    NO_VIDEO = "no_video", Kind.PERMANENT
    NO_AUDIO = "no_audio", Kind.PERMANENT
    TOO_SHORT = "too_short", Kind.PERMANENT
    CORRUPT = "corrupt", Kind.PERMANENT
    TOO_LARGE = "too_large", Kind.PERMANENT  # the file, its picture, or the memory that decoding it takes
    BAD_ASPECT = "bad_aspect", Kind.PERMANENT  # so wide or high that its frames could not be stored
    OUT_OF_SYNC = "out_of_sync", Kind.PERMANENT  # sound and picture of the finished file do not lie as in the source

    NOT_TRIED = "not_tried", Kind.RETRY  # the build was stopped before it came to this clip
    NOT_IN_SOURCE = "not_in_source", Kind.RETRY  # a folder may have been filled since, and looking costs nothing
    OCCUPIED = "occupied", Kind.RETRY  # a file of the user's own lies where the clip would go, and is left as it is
    UNREADABLE = "unreadable", Kind.RETRY  # the disk or the network share fails: nothing is known of the bytes
    DUBBED = "dubbed", Kind.RETRY  # only a dubbed or descriptive sound track is offered; the original may be later
    NO_FORMATS = "no_formats", Kind.RETRY  # nothing to download was found: yt-dlp may be too old or lack its JS runtime
    NETWORK = "network", Kind.RETRY
    HTTP_4XX = "http_4xx", Kind.RETRY
    HTTP_5XX = "http_5xx", Kind.RETRY
    TRUNCATED = "truncated", Kind.RETRY
    TIMEOUT = "timeout", Kind.RETRY
    DISK_FULL = "disk_full", Kind.STOP
    CRASHED = "crashed", Kind.RETRY

    BOT_CHECK = "bot_check", Kind.STOP
    RATE_LIMITED = "rate_limited", Kind.STOP


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchResult:
    """What a source gave for a clip."""

    status: Status
    detail: str = ""
    """The raw message and the tool's version where the status is not ok."""
    path: Path | None = None
    """The file, where the status is ok."""
    trimmed: bool | None = False
    """The file is cut to the clip's span already (else it is the whole video); None where its length must tell."""
    origin: str = ""
    """Which of the source's files it is, relative to the source: a path below its folder, an archive's name."""
    format_ids: str = ""
    """The formats that the source chose, as yt-dlp names them: `136+140`."""
    audio_language: str = ""
    """Language of the sound track that the source chose, where it says."""
    audio_track: str = ""
    """What kind of sound track the source chose, where it says: a word of `manifests/SCHEMA.md`, such as `original`."""
    requests: int = 0
    """Requests made of the source's server, for whoever keeps to its limits; those for the video's own bytes aside."""
    bytes: int = 0
    """Bytes of video that came over the network, kept or not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Media:
    """What the audit measured on a clip's file."""

    path: str
    """Relative to the folder of the manifest."""
    bytes: int
    sha256: str
    duration_seconds: float
    """Of the picture: frames over frame rate."""
    fps: float
    width: int
    height: int
    num_frames: int
    audio_rate: int
    """Hertz."""
    audio_channels: int
    audio_rms_db: float
    """Decibels under full scale, over the whole clip, of the mono sound that a shard keeps; -200 for digital silence."""
    audio_offset_seconds: float
    """Start of the sound minus start of the picture in the source; a cut fills it with silence or the first frame."""
    silent: bool
    still: bool
    """The picture does not change."""
    other_streams: str
    """What else the source held, like `1 video, 2 audio, 3 subtitle`."""
    rotation: int
    """Degrees clockwise that the source was turned upright by."""
    decode_errors: int
    """Frames that were patched up, and packets that could not be decoded."""
    audio_channel: str = ""
    """Which channel a shard keeps: `mix`, `left`, `right`, or a number from 0; empty where version 0.1.0 measured."""
    origin: str = ""
    """As `FetchResult.origin`."""
    format_ids: str = ""
    audio_language: str = ""
    audio_track: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """A status and its reason."""

    status: Status
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of one clip."""

    clip: Clip
    status: Status
    detail: str = ""
    source: str = ""
    """The source that gave the clip, or the last one asked."""
    media: Media | None = None
    """Present exactly where the status is ok."""
    tool_versions: str = ""
    provisional: Verdict | None = None
    """What holds for good unless another copy of the clip turns up, in an archive that was not read to its end."""

    def __post_init__(self) -> None:
        """An ok clip has a file; no other has."""
        if (self.status is Status.OK) != (self.media is not None):
            raise ValueError(f"{self.clip.key}: status {self.status} with media {self.media}")
