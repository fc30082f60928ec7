"""`youtube`: the whole video through yt-dlp, to be cut locally; with `--youtube.sections` the clip's span alone.

`youtube:URL` with `{youtube_id}` in it asks another server the same way (a mirror of one's own, the demo).
"""

import contextlib
import functools
import io
import json
import math
import os
import re
import stat
import tempfile
import traceback
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .. import files
from ..clip import SPLITS, Clip, Fetched, Status
from ..errors import KineticsSoundsError, SettingsError, SourceError
from ..media import ffmpeg
from ..plugins import nearest
from ..redact import of_url, redact

WATCH = "https://www.youtube.com/watch?v={youtube_id}"
_PAGE = "https://www.youtube.com/watch?"
ID_LENGTH = 11
"""Letters of a video id of YouTube's; of a longer one yt-dlp would ask for the beginning, another video."""
FORMAT = "bv*[height<=480]+ba/b[height<=480]/bv*+ba/b"
"""The best picture up to 480 lines with the best sound; else what there is."""
RUNTIMES = ("deno", "node", "bun", "quickjs")
"""JavaScript runtimes that yt-dlp may use for YouTube's own scripts: on the PATH, or beside Python (`pip install deno`)."""
VIDEOS_PER_HOUR = 300
"""What YouTube lets one address have without an account, by the measure of yt-dlp's makers."""
REQUESTS_PER_HOUR = 1000
"""The same measure in requests for pages and players, of which a video takes three or four."""
STILL_THERE = 0.89
"""Share of Kinetics' ids that were not gone by 2020; more are now."""
STALL_SECONDS = 20
"""A connection that is silent for so long is given up."""
_NOTICE = (
    "Videos will be asked of YouTube. Its terms of service restrict downloading; see that your use is covered, keep the "
    "clips to yourself (publish keys, not videos), and expect some 300 videos an hour from one address."
)
_FREE = re.compile(r"https?://(?:[^/]+\.)?(?:googlevideo\.com/|youtube\.com/s/)")
"""Media and scripts: YouTube's limit on requests does not count them."""
_CUT = (
    *("-vf", "crop=trunc(iw/2)*2:trunc(ih/2)*2:0:0", "-pix_fmt", "yuv420p"),
    *("-c:v", "libx264", "-preset", "veryfast", "-crf", "18", "-c:a", "aac", "-b:a", "192k"),
    *("-threads", "1", "-movflags", "+faststart", "-f", "mp4"),
)
"""A section is encoded as the local cut is."""

_BROKEN = re.compile(r".*(?:ends prematurely|Error during demuxing|Input/output error).*")
"""ffmpeg is content with the beginning of a section."""

_REFUSED: Mapping[str, tuple[str, ...]] = {
    "it would run code or a program that nobody here looks after": (
        *("exec_cmd", "external_downloader", "external_downloader_args", "postprocessors", "postprocessor_args"),
        *("netrc_cmd", "ffmpeg_location", "remote_components", "hls_prefer_native", "plugin_dirs"),
    ),
    "it would weaken what keeps a foreign answer out": (
        *("nocheckcertificate", "prefer_insecure", "legacyserverconnect", "enable_file_urls", "compat_opts"),
        *("allowed_extractors", "force_generic_extractor", "default_search", "allow_unplayable_formats"),
    ),
    "it would write secrets where they can be read": ("debug_printtraffic", "dump_intermediate_pages", "write_pages"),
    "it is this program's own business": (
        *("outtmpl", "paths", "logger", "match_filter", "progress_hooks", "postprocessor_hooks", "post_hooks"),
        *("download_ranges", "force_keyframes_at_cuts", "ignoreerrors", "simulate", "skip_download", "test"),
        *("download_archive", "cachedir", "final_ext", "merge_output_format", "noplaylist", "extract_flat"),
        *("quiet", "verbose", "no_warnings", "noprogress", "color", "logtostderr", "consoletitle"),
        *("forceprint", "print_to_file", "forcejson", "dump_single_json", "live_from_start", "wait_for_video"),
        *("usenetrc", "netrc_location", "load_pages", "bidi_workaround", "keepvideo", "_warnings"),
        *("_deprecation_warnings", "trim_file_name", "cookiesfrombrowser"),
    ),
    "it would leave videos out, or give no file": (
        *("listformats", "listsubtitles", "list_thumbnails", "ignore_no_formats_error", "min_filesize"),
        *("min_views", "max_views", "daterange", "age_limit", "matchtitle", "rejecttitle", "max_downloads"),
        *("break_on_existing", "break_on_reject", "break_per_url"),
        *("playlist_items", "playliststart", "playlistend"),
        *("forceurl", "forcetitle", "forceid", "forcethumbnail", "forcedescription", "forceduration"),
        *("forcefilename", "forceformat"),
    ),
    "it would write files that nobody looks for": (
        *("writeinfojson", "writedescription", "writesubtitles", "writeautomaticsub", "writethumbnail"),
        *("write_all_thumbnails", "writelink", "writeurllink", "writewebloclink", "writedesktoplink"),
        *("allow_playlist_files", "force_write_download_archive"),
    ),
    "use --youtube.cookies": ("cookiefile",),
    "use --youtube.proxy": ("proxy",),
    "use --youtube.js_runtime": ("js_runtimes",),
    "use --youtube.max_bytes": ("max_filesize",),
}
"""Options of yt-dlp that `--youtube.option` does not take, by the reason."""
_NUMBERS = (
    *("socket_timeout", "sleep_interval", "max_sleep_interval", "sleep_interval_requests", "sleep_interval_subtitles"),
    *("retries", "fragment_retries", "extractor_retries", "file_access_retries", "concurrent_fragment_downloads"),
    *("ratelimit", "throttledratelimit", "buffersize", "http_chunk_size", "progress_delta"),
)
"""Options of yt-dlp that it reckons with, and meets again in every video when they are none."""
TOKEN_LENGTH = 16
"""An extractor's argument of so many letters is no name of a client, and is hidden."""
_SECRET = (
    "username",
    "password",
    "videopassword",
    "ap_username",
    "ap_password",
    "client_certificate_password",
    "twofactor",
)
"""Options of yt-dlp whose values no message may tell; nor those of headers and of the extractors' own arguments (tokens)."""

_MESSAGES: tuple[tuple[str, Status], ...] = (
    (r"confirm you.{1,3}re not a bot", Status.BOT_CHECK),
    (r"try again later|rate.?limit|too many requests", Status.RATE_LIMITED),
    (r"private video|video is private", Status.PRIVATE),
    (r"account.{0,60}terminated|closed their youtube account", Status.ACCOUNT_TERMINATED),
    (r"confirm your age|age.restricted|inappropriate for some users", Status.AGE_RESTRICTED),
    (r"not made this video available in your country|blocked it in your country|geo.?restrict", Status.GEO_BLOCKED),
    (r"removed by the uploader|has been removed|copyright|violat", Status.REMOVED),
    (r"live event|premieres? in|\bis live", Status.LIVE),
    (r"members.only|join this channel|requires payment|premium members|sign in|log.?in", Status.LOGIN_REQUIRED),
    (r"no space left|quota exceeded", Status.DISK_FULL),
    (r"timed? ?out", Status.TIMEOUT),
    (r"more expected|did not get any data blocks|content too short|incomplete|ends prematurely", Status.TRUNCATED),
    (r"postprocessing|invalid data found", Status.TRUNCATED),  # bytes came that are no video
    (r"no video formats|requested format is not available|drm.protected", Status.NO_FORMATS),
    (r"not available on this app|needs to be reloaded|player response", Status.NO_FORMATS),  # yt-dlp's disguise failed
    (r"(?:video|content) (?:is )?unavailable|no longer available|not available|does not exist", Status.UNAVAILABLE),
    (r"connect|network|unreachable|resolve|getaddrinfo|proxy|unable to download|\b(?:ssl|tls)\b", Status.NETWORK),
)
"""The first pattern found in the extractor's text decides; case is ignored."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """How the youtube source asks."""

    cookies: Path | None = None
    """Cookies of an account: a Netscape cookies.txt that only you can read; it is never written. Accounts may be banned."""
    proxy: str = field(default="", repr=False)
    """URL of a proxy; default: the environment's HTTPS_PROXY, where other users of the machine do not see a password."""
    js_runtime: str = ""
    """JavaScript runtime for YouTube's scripts: deno, node, bun or quickjs, or NAME:PATH; default: the best one found."""
    sections: bool = False
    """Fetch the clip's span alone, cut exactly by ffmpeg as it reads: fewer bytes, which YouTube sends far more slowly."""
    option: tuple[str, ...] = field(default=(), metadata={"repeat": True}, repr=False)
    """Any other option of yt-dlp's Python interface, NAME=VALUE; the value is read as JSON, else as text."""
    videos_per_hour: float | None = None
    """Videos asked for in an hour by all workers together; 0: no limit. Default: 300 of YouTube, no limit elsewhere."""
    requests_per_hour: float | None = None
    """Requests for pages and players in an hour, likewise; 0: no limit. Default: 1000 of YouTube, no limit elsewhere."""
    max_bytes: int = 2_000_000_000
    """A video larger than this is too_large, and its download ends there; 0: no limit."""

    def __post_init__(self) -> None:
        """Workers may stand in another folder."""
        if self.cookies is not None:
            object.__setattr__(self, "cookies", self.cookies.absolute())


class Source:
    """yt-dlp on one URL a clip."""

    def __init__(self, argument: str, options: Options | None = None) -> None:
        """`argument` is a URL template with `{youtube_id}`, or empty for YouTube itself.

        Raises SourceError and SettingsError, which name the option that cannot be.
        """
        if argument and not re.fullmatch(r"https?://[^{}]*\{youtube_id\}[^{}]*", argument):
            raise SourceError(
                f"--source youtube:{redact(argument)}: must be an http(s) URL with {{youtube_id}} in it, or be left out"
            )
        self.options = options or Options()
        self.template = argument or WATCH
        self.videos_per_hour = _limit(
            "videos_per_hour", self.options.videos_per_hour, 0 if argument else VIDEOS_PER_HOUR
        )
        """Videos that all workers together may ask for in an hour; None where there is no limit."""
        self.requests_per_hour = _limit(
            "requests_per_hour", self.options.requests_per_hour, 0 if argument else REQUESTS_PER_HOUR
        )
        """Requests, as `Fetched.requests` counts them, that all workers together may make in an hour; None: no limit."""
        self.share: Mapping[str, float] = dict.fromkeys(SPLITS, STILL_THERE)
        """Of the clips that are asked for, how many can be expected, by split."""
        self._runtimes = _runtimes_asked(self.options.js_runtime)
        self._passed = _passed(self.options.option)
        self._cookies, warning = _cookies(self.options.cookies) if self.options.cookies else ("", "")
        self.notice = " ".join(filter(None, ("" if argument else _NOTICE, warning)))
        self._secrets = [*of_url(argument), *of_url(self.options.proxy), *_cookie_values(self._cookies)]
        self._secrets += _secrets(self._passed)
        self._secrets += (secret for proxy in urllib.request.getproxies().values() for secret in of_url(proxy))
        to_mirror = not self.own and (self._cookies or of_url(argument))  # YouTube's media hosts are sent no cookies
        _check(self.options, secret=bool(to_mirror or "http_headers" in self._passed))

    @property
    def own(self) -> bool:
        """Whether YouTube itself is asked."""
        return self.template == WATCH

    @property
    def versions(self) -> str:
        """The version of yt-dlp."""
        from yt_dlp.version import __version__

        return f"yt-dlp {__version__}"

    def candidates(self, clip: Clip) -> Sequence[str]:
        """The URL: whether the video is still there, only asking can tell."""
        return (self.template.replace("{youtube_id}", clip.youtube_id),)

    def fetch(self, clip: Clip, location: str, folder: Path) -> Fetched:
        """Download the whole video, or its section, into `folder`; whatever else was written is removed.

        With sections, other threads must not start ffmpeg meanwhile: its log goes where an environment variable says.
        """
        from yt_dlp.utils import YoutubeDLError

        watch = _Watch(
            youtube_id=clip.youtube_id if self.own else "",
            max_bytes=self.options.max_bytes,
            start=clip.time_start,
            sections=self.options.sections,
        )
        path: Path | None = None
        with tempfile.TemporaryDirectory(dir=folder, prefix="youtube-", ignore_cleanup_errors=True) as name:
            try:
                path = self._download(clip, location, Path(name).absolute(), watch)
                status, detail = Status.OK, ""
            except KineticsSoundsError:
                raise
            except _RefusedError as error:
                status, detail = error.status, str(error)
            except (YoutubeDLError, OSError) as error:
                status = classify(error, own=self.own)
                detail = _first_words(error, watch, status)
            except Exception as error:  # noqa: BLE001 - a bug of the tool's, met by one video: its outcome says so
                status, detail = Status.CRASHED, _where(error)
            if path is not None:
                path = path.replace(folder / f"video{'.mp4' if self.options.sections else path.suffix}")
        if detail:
            detail = f"{redact(detail, self._secrets)} [{self.versions}]"
        return Fetched(
            status=status,
            detail=detail,
            path=path,
            trimmed=path is not None and self.options.sections,
            requests=watch.requests,
            bytes=watch.bytes,
        )

    def _download(self, clip: Clip, location: str, work: Path, watch: "_Watch") -> Path:
        """The file that yt-dlp makes of the location, below `work`."""
        # A user's plugins are code that nobody asked for; who asks sets the variable to nothing.
        os.environ.setdefault("YTDLP_NO_PLUGINS", "1")
        from yt_dlp import YoutubeDL
        from yt_dlp.postprocessor.ffmpeg import FFmpegPostProcessor
        from yt_dlp.utils import DownloadError

        if self.own and len(clip.youtube_id) != ID_LENGTH:
            raise _RefusedError(Status.UNAVAILABLE, f"YouTube has no id of {len(clip.youtube_id)} letters, only of 11")
        FFmpegPostProcessor._ffmpeg_location.set(ffmpeg.executable())  # where sections look for it, as its command does
        log = work / "ffmpeg.log"
        logged = _ffmpeg_log(log) if self.options.sections else contextlib.nullcontext()
        with logged, YoutubeDL(self._parameters(clip, work, watch)) as downloader:
            downloader.urlopen = watch.counting(downloader.urlopen)
            try:
                info = downloader.extract_info(location, download=True) or {}
            except DownloadError as error:
                if not log.exists() or "ffmpeg exited" not in str(error):
                    raise
                raise DownloadError(f"{error}: {_told(log)}") from error
        if log.exists() and (broken := _BROKEN.search(log.read_text("utf-8", "replace"))):
            raise DownloadError(f"the section broke off: {broken[0]}")
        downloads = [each["filepath"] for each in info.get("requested_downloads") or [] if each.get("filepath")]
        if not downloads:
            raise _RefusedError(Status.NO_FORMATS, "yt-dlp gave no file")
        return Path(downloads[0])

    def _parameters(self, clip: Clip, work: Path, watch: "_Watch") -> dict[str, Any]:
        """All that yt-dlp is told: what may be changed, the user's own options, what may not."""
        pauses = {"sleep_interval": 10, "max_sleep_interval": 20, "sleep_interval_requests": 0.75} if self.own else {}
        backoff = {kind: lambda n: min(2.0**n, 30.0) for kind in ("http", "fragment", "extractor")}
        usual: dict[str, Any] = {
            "format": FORMAT,
            "retries": 4,
            "fragment_retries": 4,
            "extractor_retries": 2,
            "retry_sleep_functions": backoff,
            "socket_timeout": STALL_SECONDS,
            **pauses,
        }
        fixed: dict[str, Any] = {
            "outtmpl": {"default": "video.%(ext)s"},
            "paths": {"home": _verbatim(work), "temp": _verbatim(work)},
            "merge_output_format": "mp4" if self.options.sections else "mkv",
            "ffmpeg_location": ffmpeg.executable(),
            "js_runtimes": self._runtimes,
            "quiet": True,
            "noprogress": True,
            "color": "never",
            "noplaylist": True,
            "logger": watch,
            "match_filter": watch.refuse,
            "progress_hooks": [watch.progress],
            "cachedir": False,
            "allowed_extractors": ["youtube" if self.own else "generic"],
        }
        if self.options.proxy:
            fixed["proxy"] = self.options.proxy
        if self._cookies:
            fixed["cookiefile"] = io.StringIO(self._cookies)  # yt-dlp writes the jar back: into this, not into the file
        if self.options.sections:
            span = {"start_time": clip.time_start, "end_time": clip.time_end}
            fixed["download_ranges"] = lambda _info, _downloader: [span]
            fixed["force_keyframes_at_cuts"] = True
            patience = float(self._passed.get("socket_timeout", STALL_SECONDS)) * 1e6  # in microseconds
            fixed["external_downloader_args"] = {"ffmpeg_i": ["-rw_timeout", f"{patience:.0f}"], "ffmpeg_o": list(_CUT)}
        return {**usual, **self._passed, **fixed}


class _RefusedError(Exception):
    """What this source does not take, although the tool would."""

    def __init__(self, status: Status, reason: str) -> None:
        super().__init__(reason)
        self.status = status


@dataclass(kw_only=True)
class _Watch:
    """What one task asked for and was told, and what it must not get: yt-dlp's logger, filter and hook."""

    youtube_id: str
    """The only video that will do; empty where any will."""
    max_bytes: int
    start: int
    """Of the clip's span, in seconds into the video."""
    sections: bool
    """The span alone is downloaded, whose size nobody knows before."""
    requests: int = 0
    warnings: list[str] = field(default_factory=list)
    received: dict[str, int] = field(default_factory=dict)
    """Bytes by file."""

    @property
    def bytes(self) -> int:
        return sum(self.received.values())

    def counting(self, urlopen: Callable[[Any], Any]) -> Callable[[Any], Any]:
        """The same function, counted; a redirect and what ffmpeg reads of a section are not seen."""

        def counted(request: Any) -> Any:  # noqa: ANN401 - a URL or one of yt-dlp's requests
            self.requests += not _FREE.match(str(getattr(request, "url", request)))
            return urlopen(request)

        return counted

    def refuse(self, info: Mapping[str, Any], *, incomplete: object = False) -> None:
        """Raise for a stream that has not ended, another video, one too short, or one that says it is too large."""
        if self.youtube_id and info.get("id") != self.youtube_id:
            raise _RefusedError(Status.UNAVAILABLE, f"another video was given in its place: {info.get('id')}")
        if info.get("live_status") in ("is_live", "is_upcoming", "post_live"):
            raise _RefusedError(Status.LIVE, f"live status: {info['live_status']}")
        seconds = info.get("duration")
        if seconds and seconds <= self.start:
            raise _RefusedError(Status.TOO_SHORT, f"the video ends at {seconds:g} s, before the span")
        if not self.sections and not incomplete:
            self._hold(sum(each.get("filesize") or 0 for each in info.get("requested_formats") or [info]))

    def progress(self, update: Mapping[str, Any]) -> None:
        """Count what came; raise where it is too much, whatever the server had said."""
        name = str(update.get("filename"))
        self.received[name] = max(self.received.get(name, 0), int(update.get("downloaded_bytes") or 0))
        self._hold(max(self.bytes, int(update.get("total_bytes") or 0)))

    def _hold(self, size: int) -> None:
        if 0 < self.max_bytes < size:
            raise _RefusedError(
                Status.TOO_LARGE, f"{size:,} bytes or more, and --youtube.max_bytes is {self.max_bytes:,}"
            )

    def debug(self, _message: str) -> None:
        """Say nothing: the outcome carries the messages."""

    error = debug

    def warning(self, message: str) -> None:
        """Keep it: where no format is left, the warnings say why."""
        self.warnings.append(message)


def _limit(name: str, asked: float | None, usual: float) -> float | None:
    limit = usual if asked is None else asked
    if not 0 <= limit < math.inf:
        raise SettingsError(f"--youtube.{name} {asked}: must be 0 (no limit) or more")
    return limit or None


def _check(options: Options, *, secret: bool) -> None:
    """Raise SettingsError where options do not go together; `secret`: the server is sent a secret of the user's."""
    if options.max_bytes < 0:
        raise SettingsError(f"--youtube.max_bytes {options.max_bytes}: must be 0 (no limit) or more")
    if not options.sections:
        return
    if options.proxy.startswith("socks"):
        raise SettingsError("--youtube.sections: ffmpeg reads the span and knows no SOCKS proxy; use an HTTP one")
    if secret:
        raise SettingsError(
            "--youtube.sections: ffmpeg would be given the server's secrets where other users of this machine see them; "
            "leave out sections, or the cookies, password or headers"
        )


def _runtimes_asked(text: str) -> dict[str, dict[str, str]]:
    """yt-dlp's `js_runtimes`; it takes the best of those that are there."""
    if not text:
        return {name: {} for name in RUNTIMES}
    name, _, path = text.partition(":")
    if name not in RUNTIMES:
        raise SettingsError(f"--youtube.js_runtime {text}: is none of {', '.join(RUNTIMES)}{nearest(name, RUNTIMES)}")
    if path and not files.user_path(path).exists():
        raise SettingsError(f"--youtube.js_runtime {text}: there is no {path}")
    return {name: {"path": str(files.user_path(path))} if path else {}}


def _passed(words: tuple[str, ...]) -> dict[str, Any]:
    """The user's own options of yt-dlp; raises SettingsError for one that it does not have or that is not taken."""
    passed: dict[str, Any] = {}
    for word in words:
        name, equals, text = word.partition("=")
        if not equals:
            raise SettingsError(f"--youtube.option {name}: must be NAME=VALUE")
        for reason, refused in _REFUSED.items():
            if name in refused:
                raise SettingsError(f"--youtube.option {name}: is not taken: {reason}")
        if name not in _known():
            raise SettingsError(f"--youtube.option {name}: yt-dlp has no such option{nearest(name, _known())}")
        try:
            passed[name] = json.loads(text)
        except json.JSONDecodeError:
            passed[name] = text
        if name in _NUMBERS:
            _check_number(name, passed[name])
    if "impersonate" in passed:
        from yt_dlp.networking.impersonate import ImpersonateTarget

        passed["impersonate"] = ImpersonateTarget.from_str(str(passed["impersonate"]).lower())
    return passed


def _check_number(name: str, value: object) -> None:
    number = isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < math.inf
    if not number or (name == "socket_timeout" and not value):
        raise SettingsError(f"--youtube.option {name}={value}: must be a number, 0 or more (a timeout: more than 0)")


@functools.cache
def _known() -> frozenset[str]:
    """Every option of the installed yt-dlp that its command line can set."""
    import yt_dlp

    return frozenset(yt_dlp.parse_options([]).ydl_opts)


def _secrets(passed: Mapping[str, Any]) -> Iterator[str]:
    for name in _SECRET:
        yield str(passed.get(name, ""))
    yield from of_url(str(passed.get("geo_verification_proxy", "")))
    yield from _texts(passed.get("http_headers"))
    tokens = (part for text in _texts(passed.get("extractor_args")) for part in (text, text.rpartition("+")[2]))
    yield from (token for token in tokens if len(token) >= TOKEN_LENGTH)


def _texts(value: Any) -> Iterator[str]:  # noqa: ANN401 - whatever JSON can hold
    """Every text inside, names aside, whole and word by word: a header says `Bearer TOKEN`."""
    if isinstance(value, str):
        yield value
        yield from value.split()
    elif isinstance(value, Mapping):
        yield from _texts(list(value.values()))
    elif isinstance(value, list):
        for each in value:
            yield from _texts(each)


def _cookies(path: Path) -> tuple[str, str]:
    """A cookies.txt's text, and a warning where others can read it; raises SourceError without telling what it holds."""
    place = files.user_path(str(path))
    try:
        text, mode = place.read_text("utf-8"), place.stat().st_mode
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no UTF-8 text"
        raise SourceError(f"--youtube.cookies {path}: cannot be read: {reason}") from None
    for number, line in enumerate(text.splitlines(), 1):
        fields = line.removeprefix("#HttpOnly_").split("\t")
        blank = not line.strip() or (line.startswith("#") and not line.startswith("#HttpOnly_"))
        if not blank and (len(fields) != 7 or not re.fullmatch(r"\d*(\.\d+)?", fields[4])):
            raise SourceError(
                f"--youtube.cookies {path}:{number}: is no cookie; export them in Netscape format, 7 fields between tabs"
            )
    others = stat.S_IMODE(mode) & (stat.S_IRGRP | stat.S_IROTH)
    return text, f"{path} can be read by others, and whoever has it has the account: chmod 600 it." if others else ""


def _cookie_values(text: str) -> Iterator[str]:
    for line in text.splitlines():
        if line.count("\t") == 6:
            yield line.rpartition("\t")[2].strip()


def _verbatim(path: Path) -> str:
    """A folder's name that yt-dlp leaves as it is; raises SourceError for one with a `$VARIABLE`, which it would fill in."""
    if os.path.expandvars(path) != str(path):
        raise SourceError(f"{path}: yt-dlp would fill in the variable in this folder's name; choose another folder")
    return str(path)


@contextlib.contextmanager
def _ffmpeg_log(path: Path) -> Iterator[None]:
    """Have every ffmpeg that starts meanwhile write its warnings to a file: yt-dlp tells only that it failed."""
    place = re.sub(r"([\\:'])", r"\\\1", str(path.absolute()).replace("%", "%%"))
    os.environ["FFREPORT"] = f"file={place}:level=24"
    try:
        yield
    finally:
        del os.environ["FFREPORT"]


def _told(log: Path, *, most: int = 300) -> str:
    """What an ffmpeg log says first, without its command line: all that follows is the same trouble's end."""
    _, _, text = log.read_text("utf-8", "replace").partition("Command line:\n")
    lines = dict.fromkeys(re.sub(r" @ 0x[0-9a-f]+", "", line).strip() for line in text.splitlines()[1:])
    return " | ".join(list(filter(None, lines))[:3])[:most]


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


def _first_words(error: Exception, watch: _Watch, status: Status) -> str:
    """The begin of a message, where yt-dlp says what is wrong; the advice that follows can be longer than that."""
    words = " ".join(str(error).split()).removeprefix("ERROR: ")
    if watch.warnings and status is Status.NO_FORMATS:
        words = f"{words[:200]} (warned before: {' '.join(watch.warnings[0].split())[:200]})"
    return words[:450]


def _where(error: Exception) -> str:
    """An exception that the tool should not have let out: its kind, its words and its place."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]} at {Path(frame.filename).name}:{frame.lineno}"


def classify(error: Exception, *, own: bool = False) -> Status:
    """The status of a yt-dlp failure: by the exception that caused it where there is one, else by the text.

    `own`: YouTube itself was asked. What says nothing of the network is no fault of the network's.
    """
    inner = cause = (getattr(error, "exc_info", None) or (None, error))[1]
    network = False
    while cause is not None:
        http = getattr(cause, "status", None)
        if getattr(cause, "countries", None):
            return Status.GEO_BLOCKED
        if isinstance(http, int) and http >= 400:
            return _http_status(http, url=str(getattr(getattr(cause, "response", None), "url", "")), own=own)
        if isinstance(cause, TimeoutError):
            return Status.TIMEOUT
        if isinstance(cause, OSError) and cause.errno in files.FULL:
            return Status.DISK_FULL
        network = network or _is_network(cause)
        cause = getattr(cause, "cause", None) or cause.__cause__
    text = str(getattr(inner, "orig_msg", None) or error)  # without the id, which may spell anything
    if told := re.search(r"(?:HTTP error|server returned) ([45](?:\d\d|XX))", text, flags=re.IGNORECASE):
        return _http_status(int(told[1].upper().replace("X", "0")), url="", own=own)
    for pattern, status in _MESSAGES:
        if re.search(pattern, text, flags=re.IGNORECASE):
            return status
    return Status.NETWORK if network else Status.NO_FORMATS


def _is_network(cause: object) -> bool:
    from yt_dlp.networking.exceptions import RequestError

    return isinstance(cause, OSError | RequestError)


def _http_status(code: int, *, url: str, own: bool) -> Status:
    """YouTube tells in words that a video is gone; a player or a segment that is not found is a matter of the moment.

    A mirror that has no such file may have it later.
    """
    if code == 429:
        return Status.RATE_LIMITED
    if code in (404, 410) and not own:
        return Status.NOT_IN_SOURCE
    if code in (404, 410) and url.startswith(_PAGE):
        return Status.UNAVAILABLE
    return Status.HTTP_5XX if math.floor(code / 100) == 5 else Status.HTTP_4XX
