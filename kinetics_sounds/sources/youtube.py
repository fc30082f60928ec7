"""`youtube`: the whole video through yt-dlp, to be cut locally.

`youtube:URL` with `{youtube_id}` in it asks another server the same way (a mirror of one's own, the demo).
"""

import errno
import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..clip import SPLITS, Clip, Fetched, Status
from ..errors import SourceError
from ..media import ffmpeg

WATCH = "https://www.youtube.com/watch?v={youtube_id}"
FORMAT = "bv*[height<=480]+ba/b[height<=480]/bv*+ba/b"
"""The best picture up to 480 lines with the best sound; else what there is."""
RUNTIMES = ("deno", "node", "bun", "quickjs")
"""JavaScript runtimes that yt-dlp may use for YouTube's own scripts: on the PATH, or beside Python (`pip install deno`)."""
_NOTICE = (
    "Videos will be asked of YouTube. Its terms of service restrict downloading; see that your use is covered, keep the "
    "clips to yourself (publish keys, not videos), and expect some 300 videos an hour from one address."
)

_MESSAGES: tuple[tuple[str, Status], ...] = (
    (r"confirm you.{1,3}re not a bot", Status.BOT_CHECK),
    (r"try again later|rate.?limit|too many requests", Status.RATE_LIMITED),
    (r"private video|video is private", Status.PRIVATE),
    (r"account.{0,60}terminated|closed their youtube account", Status.ACCOUNT_TERMINATED),
    (r"confirm your age|age.restricted|inappropriate for some users", Status.AGE_RESTRICTED),
    (r"not made this video available in your country|blocked it in your country|geo.?restrict", Status.GEO_BLOCKED),
    (r"removed by the uploader|has been removed|copyright|violat", Status.REMOVED),
    (r"live event|premieres? in|is live", Status.LIVE),
    (r"members.only|join this channel|requires payment|sign in|log.?in", Status.LOGIN_REQUIRED),
    (r"no space left|quota exceeded", Status.DISK_FULL),
    (r"timed? ?out", Status.TIMEOUT),
    (r"more expected|did not get any data blocks|content too short|incomplete", Status.TRUNCATED),
    (r"no video formats|requested format is not available", Status.NO_FORMATS),
    (r"video unavailable|no longer available|not available|does not exist", Status.UNAVAILABLE),
)
"""The first pattern found in the extractor's text decides; case is ignored."""


class Source:
    """yt-dlp on one URL a clip."""

    def __init__(self, argument: str) -> None:
        """`argument` is a URL template with `{youtube_id}`, or empty for YouTube itself."""
        if argument and not re.fullmatch(r"https?://[^{}]*\{youtube_id\}[^{}]*", argument):
            raise SourceError(
                f"--source youtube:{argument}: must be an http(s) URL with {{youtube_id}} in it, or be left out"
            )
        self.template = argument or WATCH
        self.notice = "" if argument else _NOTICE
        self.videos_per_hour = None if argument else 300.0
        self.requests_per_hour = None
        self.share: Mapping[str, float] = dict.fromkeys(SPLITS, 0.89)

    @property
    def versions(self) -> str:
        """The version of yt-dlp."""
        from yt_dlp.version import __version__

        return f"yt-dlp {__version__}"

    def locate(self, clip: Clip) -> str | None:
        """The URL: whether the video is still there, only asking can tell."""
        return self.template.replace("{youtube_id}", clip.youtube_id)

    def fetch(self, clip: Clip, location: str, folder: Path) -> Fetched:
        """Download the whole video into `folder`."""
        os.environ.setdefault("YTDLP_NO_PLUGINS", "1")  # a user's plugins are code that nobody asked for
        from yt_dlp import YoutubeDL
        from yt_dlp.utils import YoutubeDLError

        try:
            with YoutubeDL(_options(folder, polite=self.template == WATCH)) as downloader:
                info = downloader.extract_info(location, download=True)
        except (YoutubeDLError, OSError) as error:
            return Fetched(status=classify(error), detail=f"{_first_words(error)} [{self.versions}]")
        downloads = (info or {}).get("requested_downloads") or []
        if not downloads:
            return Fetched(status=Status.UNAVAILABLE, detail=f"yt-dlp gave no file [{self.versions}]")
        return Fetched(status=Status.OK, path=Path(downloads[0]["filepath"]))


def _options(folder: Path, *, polite: bool) -> dict[str, Any]:
    backoff = {kind: lambda attempt: min(2.0**attempt, 30.0) for kind in ("http", "fragment", "extractor")}
    pauses = {"sleep_interval": 10, "max_sleep_interval": 20, "sleep_interval_requests": 0.75} if polite else {}
    return {
        "format": FORMAT,
        "outtmpl": {"default": "video.%(ext)s"},
        "paths": {"home": str(folder), "temp": str(folder)},
        "merge_output_format": "mkv",
        "ffmpeg_location": ffmpeg.executable(),
        "js_runtimes": {name: {} for name in RUNTIMES},  # it takes the best of those that are there
        "quiet": True,
        "no_warnings": True,
        "noprogress": True,
        "color": "never",
        "noplaylist": True,
        "logger": _Silent(),
        "cachedir": False,
        "retries": 4,
        "fragment_retries": 4,
        "extractor_retries": 2,
        "retry_sleep_functions": backoff,
        "socket_timeout": 20,
        "allowed_extractors": ["youtube", "generic"],
        **pauses,
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Runtime:
    """A JavaScript runtime that is here."""

    name: str
    version: str
    supported: bool
    """New enough for the installed yt-dlp, by its own word."""


def runtimes() -> list[Runtime]:
    """Which of `RUNTIMES` yt-dlp finds here; runs each to hear its version."""
    import yt_dlp.globals

    looked_for = (yt_dlp.globals.supported_js_runtimes.value[name]() for name in RUNTIMES)
    there = (each.info for each in looked_for if each.info is not None)
    return [Runtime(name=info.name, version=info.version, supported=info.supported) for info in there]


def _first_words(error: Exception) -> str:
    """The begin of a message, where yt-dlp says what is wrong; the advice that follows can be longer than that."""
    return " ".join(str(error).split()).removeprefix("ERROR: ")[:300]


class _Silent:
    """A yt-dlp logger that says nothing: outcomes carry the messages."""

    def debug(self, _message: str) -> None:
        """Progress."""

    warning = error = debug


def classify(error: Exception) -> Status:
    """The status of a yt-dlp failure: by the exception that caused it where there is one, else by the text."""
    inner = cause = (getattr(error, "exc_info", None) or (None, error))[1]
    while cause is not None:
        http = getattr(cause, "status", None)
        if getattr(cause, "countries", None):
            return Status.GEO_BLOCKED
        if isinstance(http, int) and http >= 400:
            return _http_status(http)
        if isinstance(cause, TimeoutError):
            return Status.TIMEOUT
        if isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT):
            return Status.DISK_FULL
        cause = getattr(cause, "cause", None) or cause.__cause__
    text = str(getattr(inner, "orig_msg", None) or error)  # without the id, which may spell anything
    for pattern, status in _MESSAGES:
        if re.search(pattern, text, flags=re.IGNORECASE):
            return status
    return Status.NETWORK


def _http_status(code: int) -> Status:
    if code == 429:
        return Status.RATE_LIMITED
    if code in (404, 410):
        return Status.UNAVAILABLE
    return Status.HTTP_5XX if math.floor(code / 100) == 5 else Status.HTTP_4XX
