"""The core types: a clip, the statuses it may have, and the outcome of fetching it."""

import json
import re
from collections.abc import Container, Iterable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path, PurePath
from typing import Self

SPLITS = ("train", "val", "test")
"""Splits of a build."""
ALL = "all"
"""The only stored split of a set with folds; each fold divides its clips into train and test."""
FOLD = re.compile(r"fold[1-9][0-9]?")
"""Name of a fold."""

KEY = re.compile(r"[A-Za-z0-9_-]{1,92}")
"""A clip's key: it names files, and with the longest part's name (`.mel.npy`) fits the 100 bytes of a tar's header."""
YOUTUBE_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
"""Characters allowed in file names."""
SUFFIXES = (
    *(".mp4", ".mkv", ".webm", ".avi", ".mov", ".m4v", ".flv", ".ts", ".mpg", ".mpeg", ".wmv", ".3gp", ".ogv"),
    *(".mts", ".m2ts", ".vob", ".asf", ".f4v"),
)
"""Accepted containers, in any case, best first if a clip exists twice."""
UNREAD = (".mxf", ".dv", ".rm", ".rmvb", ".qt", ".3g2", ".divx", ".ogm", ".m2t", ".mod", ".tod", ".mpe", ".wtv", ".nut")
"""Extensions of other videos with sound: these files are not read, and are named in messages."""
CONVERT = "convert it to mp4, such as with ffmpeg"
"""What to do about such a file."""

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
"""Control characters, which no label may contain: they could end a line of a list or a column of a fingerprint."""

_KEY = re.compile(rf"(?P<youtube_id>{YOUTUBE_ID.pattern})_(?P<start>[0-9]{{6}})_(?P<end>[0-9]{{6}})")


@dataclass(frozen=True, slots=True, order=True)
class Clip:
    """One annotation: the span of a video that shows an action, or a file of a data set."""

    youtube_id: str
    """The video's ID: letters, digits, `_` and `-`; it may begin with `-`. Empty for a file of a data set."""
    time_start: float
    """Seconds into the video, to the millisecond; an int if whole."""
    time_end: float
    """Seconds into the video, to the millisecond; later than `time_start`."""
    label: str
    """The label, such as one of Kinetics; of several, the one that counts as the clip's class."""
    split: str
    """train, val or test; `ALL` in a set with folds."""
    name: str = ""
    """Key of a file of a data set; empty for the span of a YouTube video, whose key is made of its ID and times."""
    group: str = ""
    """What the file was cut from, such as one video, if the data set says so: clips of one group belong in one split."""
    folds: tuple[str, ...] = ()
    """Its split in each fold of its set; empty where a fold leaves it out."""
    other_labels: tuple[str, ...] = ()
    """Further labels, such as those of AudioSet, in the order of their list; they need not be in the class list."""

    def __post_init__(self) -> None:
        """Raise ValueError unless the key can name a file and the span is valid."""
        if self.name:
            if self.youtube_id or not KEY.fullmatch(self.name):
                raise ValueError(f"{self.name!r} is not a key (letters, digits, '_' and '-', at most 92)")
        elif not YOUTUBE_ID.fullmatch(self.youtube_id):
            raise ValueError(id_fault(self.youtube_id))
        if not 0 <= self.time_start < self.time_end <= 999_999:
            raise ValueError(f"{self.time_start} to {self.time_end} is not a valid span in seconds")
        if type(self.time_start) is not int or type(self.time_end) is not int:
            object.__setattr__(self, "time_start", _to_the_millisecond(self.time_start))
            object.__setattr__(self, "time_end", _to_the_millisecond(self.time_end))
        for what, text in (("group", self.group), *(("label", label) for label in self.labels)):
            if text and _CONTROL.search(text):
                raise ValueError(f"{what} {text!r} has a line end or another control character in it")
        if self.other_labels and len(set(self.labels)) < len(self.labels):
            raise ValueError(f"the labels {', '.join(map(repr, self.labels))} contain one twice")
        if self.split not in (*SPLITS, ALL):
            raise ValueError(f"{self.split!r} is not a split (one of {', '.join(SPLITS)})")
        if wrong := set(self.folds) - {*SPLITS, ""}:
            raise ValueError(f"{min(wrong)!r} is not a split of a fold (one of {', '.join(SPLITS)})")

    @property
    def key(self) -> str:
        """Unique name of the clip: its `name`, or that of its video's span."""
        return self.name or span_key(self.youtube_id, self.time_start, self.time_end)

    @property
    def labels(self) -> tuple[str, ...]:
        """All labels, `label` first."""
        return (self.label, *self.other_labels)

    @property
    def seconds(self) -> float:
        """Length of the annotated span in seconds."""
        return _to_the_millisecond(round(self.time_end - self.time_start, 3))


def _to_the_millisecond(seconds: float) -> float:
    """The same number, as an int if it is whole; raises ValueError if it has a fraction of a millisecond."""
    if seconds != round(seconds, 3):
        raise ValueError(f"{seconds} is not in whole milliseconds")
    return int(seconds) if seconds == int(seconds) else seconds


def id_fault(text: str) -> str:
    """Why a text is not a video ID, with the remedy if it looks like the name of a file."""
    remedy = ""
    if PurePath(text).suffix.lower() in SUFFIXES:
        remedy = "; leave the extension off"
    elif " " in text.strip():
        remedy = "; rename a file with a blank in its name"
    return f"{text!r} is not a video ID (letters, digits, '_' and '-'){remedy}"


def span_key(youtube_id: str, start: float, end: float) -> str:
    """Key of a video's span, as in the mirror: `{youtube_id}_{start:06d}_{end:06d}`.

    Times that are not both whole seconds are in the key as milliseconds of nine digits.
    """
    if start == int(start) and end == int(end):
        return f"{youtube_id}_{int(start):06d}_{int(end):06d}"
    return f"{youtube_id}_{round(start * 1000):09d}_{round(end * 1000):09d}"


def parse_key(key: str) -> tuple[str, int, int] | None:
    """Video ID, start and end (seconds) of the key of a span in whole seconds; None for any other text."""
    match = _KEY.fullmatch(key)
    return (match["youtube_id"], int(match["start"]), int(match["end"])) if match else None


def labels_text(labels: Iterable[str]) -> str:
    """All labels of a clip as a cell of a table: a JSON array, since labels may contain any separator."""
    return json.dumps(list(labels), ensure_ascii=False)


def parse_labels(text: str, label: str) -> tuple[str, ...]:
    """Labels of a cell that `labels_text` wrote; raises ValueError unless they are texts of which the first is `label`."""
    try:
        found = json.loads(text)
    except RecursionError as error:
        raise ValueError(f"labels {text[:80]!r} are not a JSON array") from error
    if not isinstance(found, list) or not all(isinstance(each, str) for each in found) or found[:1] != [label]:
        raise ValueError(f"labels {text[:80]!r} are not a JSON array that begins with {label!r}")
    return tuple(found)


def label_folder(label: str) -> str:
    """A label as a folder name of at most 100 bytes, safe whatever the label contains."""
    return re.sub(r"[^\w ()'.,&-]", "_", label).encode()[:100].decode(errors="ignore").strip(". ") or "_"


class Kind(StrEnum):
    """What a status means for further attempts."""

    OK = "ok"
    PERMANENT = "permanent"
    """Retrying will not help."""
    RETRY = "retry"
    """Retrying may help."""
    BLOCKED = "stop"
    """The source refuses all requests, and more of them would make it worse: the whole build waits."""


class Status(StrEnum):
    """Status of a clip: a closed list, each of one kind."""

    kind: Kind

    def __new__(cls, value: str, kind: Kind) -> Self:
        """Each member has a kind besides its value."""
        member = str.__new__(cls, value)
        member._value_ = value
        member.kind = kind
        return member

    @classmethod
    def of(cls, value: str) -> Self:
        """The status of this name; raises ValueError for an unknown name."""
        found = cls._value2member_map_.get(value)
        if not isinstance(found, cls):
            raise ValueError(f"{value!r} is not a status")
        return found

    @property
    def is_transient(self) -> bool:
        """Whether another attempt within the same run may succeed."""
        return self.is_outage or self in (Status.HTTP_4XX, Status.TRUNCATED, Status.CRASHED)

    @property
    def is_outage(self) -> bool:
        """Whether this looks like a lost connection or a host in trouble; many in a row are not caused by the clips."""
        return self in (Status.NETWORK, Status.HTTP_5XX, Status.TIMEOUT)

    @property
    def is_refusal(self) -> bool:
        """Whether the source refuses all requests for now."""
        return self.kind is Kind.BLOCKED and self is not Status.DISK_FULL

    @property
    def is_blocking(self) -> bool:
        """Whether nothing else can be fetched from the source while this lasts."""
        return self.kind is Kind.BLOCKED or self.is_outage

    def is_named(self, words: Container[str]) -> bool:
        """Whether the status or its kind is among some words, such as those of `--retry`."""
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
    DISK_FULL = "disk_full", Kind.BLOCKED
    CRASHED = "crashed", Kind.RETRY

    BOT_CHECK = "bot_check", Kind.BLOCKED
    RATE_LIMITED = "rate_limited", Kind.BLOCKED


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchResult:
    """Result of fetching a clip from a source."""

    status: Status
    detail: str = ""
    """Raw message and version of the tool, unless the status is ok."""
    path: Path | None = None
    """The file, if the status is ok."""
    trimmed: bool | None = False
    """True if the file is already cut to the clip's span, False if it is the whole video, None to decide by its length."""
    origin: str = ""
    """Which file of the source this is: a path relative to its folder, or an archive's name."""
    format_ids: str = ""
    """Formats chosen by the source, as yt-dlp names them: `136+140`."""
    audio_language: str = ""
    """Language of the chosen audio track, if known."""
    audio_track: str = ""
    """Kind of the chosen audio track, if known: a value listed in `manifests/SCHEMA.md`, such as `original`."""
    requests: int = 0
    """Requests to the source's server, counted by rate limits; downloads of the video's bytes are not included."""
    bytes: int = 0
    """Bytes of video downloaded, kept or not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Media:
    """Measurements of a clip's file by the audit."""

    path: str
    """Path relative to the manifest's folder."""
    bytes: int
    sha256: str
    duration_seconds: float
    """Duration of the picture: number of frames over frame rate."""
    fps: float
    width: int
    height: int
    num_frames: int
    audio_rate: int
    """Sample rate in hertz."""
    audio_channels: int
    audio_rms_db: float
    """RMS level in dBFS over the whole clip, of the mono audio stored in a shard; -200 for digital silence."""
    audio_offset_seconds: float
    """Start of the audio minus start of the picture in the source; trimming fills the gap with silence or the first frame."""
    silent: bool
    still: bool
    """Whether the picture does not change."""
    other_streams: str
    """Other streams of the source, like `1 video, 2 audio, 3 subtitle`."""
    rotation: int
    """Degrees clockwise by which the source was rotated upright."""
    decode_errors: int
    """Number of frames that were concealed, and of packets that could not be decoded."""
    audio_channel: str = ""
    """Channel stored in a shard: `mix`, `left`, `right`, or a number from 0; empty if measured by version 0.1.0."""
    origin: str = ""
    """Same as `FetchResult.origin`."""
    format_ids: str = ""
    audio_language: str = ""
    audio_track: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """A status and the reason for it."""

    status: Status
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """Final result for one clip."""

    clip: Clip
    status: Status
    detail: str = ""
    source: str = ""
    """The source that provided the clip, or the last one tried."""
    media: Media | None = None
    """Present if and only if the status is ok."""
    tool_versions: str = ""
    provisional: Verdict | None = None
    """Verdict that holds unless a further copy of the clip is found in an archive that was not read to its end."""

    def __post_init__(self) -> None:
        """Raise ValueError unless exactly the ok clips have a file."""
        if (self.status is Status.OK) != (self.media is not None):
            raise ValueError(f"{self.clip.key}: status {self.status} with media {self.media}")
