"""`youtube`: download the whole video with yt-dlp, to be trimmed locally; with `--youtube.sections` only the clip's span.

`youtube:URL` with `{youtube_id}` in it uses another server (a mirror of your own, the demo).
"""

import contextlib
import functools
import io
import os
import re
import tempfile
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...address import Address
from ...clip import SPLITS, Clip, FetchResult, Status
from ...errors import KineticsSoundsError, SettingsError, SourceError
from ...media import ffmpeg
from ...redact import of_url, redact
from ..youtube import answers, errors, formats, sections
from ..youtube.errors import RefusedError
from ..youtube.options import (
    RUNTIMES,
    Options,
    check,
    cookie_values,
    limit,
    passed_on,
    read_cookies,
    runtimes_asked,
    secrets,
)
from ..youtube.watch import Watch

__all__ = ["RUNTIMES", "Options", "Runtime", "Source", "runtimes"]

WATCH = "https://www.youtube.com/watch?v={youtube_id}"
ID_LENGTH = 11
"""Length of a YouTube video ID; yt-dlp would truncate a longer one and fetch another video."""
VIDEOS_PER_HOUR = 300
"""Videos per hour that YouTube allows an IP address without an account, according to yt-dlp's maintainers."""
REQUESTS_PER_HOUR = 1000
"""The same in requests for pages and players; a video takes three or four."""
STILL_THERE = 0.89
"""Fraction of Kinetics' videos that were still available in 2020; fewer are now."""
STALL_SECONDS = 20
"""Timeout of a silent connection in seconds."""
_NOTICE = (
    "Videos will be requested from YouTube. Its terms of service restrict downloading; check that your use is covered, keep the "
    "clips to yourself (publish keys, not videos), and expect about 300 videos per hour and IP address."
)


class Source:
    """Fetches one URL per clip with yt-dlp."""

    def __init__(self, argument: str, options: Options | None = None) -> None:
        """`argument`: a URL template with `{youtube_id}`, or empty for YouTube itself.

        Raises SourceError or SettingsError, naming the invalid option.
        """
        if argument and not re.fullmatch(r"https?://[^{}]*\{youtube_id\}[^{}]*", argument):
            raise SourceError(
                f"--source youtube:{redact(argument)}: must be an http(s) URL with {{youtube_id}} in it, or be left out"
            )
        self.options = options or Options()
        self.template = argument or WATCH
        mirror = Address(argument)
        self.videos_per_hour = limit(
            "videos_per_hour", self.options.videos_per_hour, 0 if argument else VIDEOS_PER_HOUR
        )
        """Rate limit in videos per hour over all workers; None for no limit."""
        self.requests_per_hour = limit(
            "requests_per_hour", self.options.requests_per_hour, 0 if argument else REQUESTS_PER_HOUR
        )
        """Rate limit in requests (`FetchResult.requests`) per hour over all workers; None for no limit."""
        self.share: Mapping[str, float] = dict.fromkeys(SPLITS, STILL_THERE)
        """Expected fraction of clips that are available, by split."""
        self._runtimes = runtimes_asked(self.options.js_runtime)
        self._passed = passed_on(self.options.option)
        self._cookies, warning = read_cookies(self.options.cookies) if self.options.cookies else ("", "")
        self.notice = " ".join(filter(None, ("" if argument else _NOTICE, warning)))
        self.secrets = [*mirror.secrets, *(self.options.proxy or Address("")).secrets, *cookie_values(self._cookies)]
        self.secrets += secrets(self._passed)
        self.secrets += (secret for proxy in urllib.request.getproxies().values() for secret in of_url(proxy))
        """Texts that no message may tell."""
        to_mirror = not self.own and (self._cookies or mirror.secrets)  # YouTube's media hosts are sent no cookies
        check(self.options, secret=bool(to_mirror or "http_headers" in self._passed))

    @property
    def own(self) -> bool:
        """Whether this is YouTube itself rather than a mirror."""
        return self.template == WATCH

    @property
    def versions(self) -> str:
        """Version of yt-dlp."""
        from yt_dlp.version import __version__

        return f"yt-dlp {__version__}"

    def candidates(self, clip: Clip) -> Sequence[str]:
        """The URL, without a mirror's secrets; only a request can show whether the video exists."""
        url = self._url(clip)
        return (url if self.own else str(Address(url)),)

    def _url(self, clip: Clip) -> str:
        return self.template.replace("{youtube_id}", clip.youtube_id)

    def fetch(self, clip: Clip, _location: str, folder: Path) -> FetchResult:
        """Download the whole video, or its section, into `folder`; all other files are removed.

        With sections, no other thread may start ffmpeg meanwhile: its log path is set by an environment variable. Raises
        SettingsError if the user's own `format` selects several files, or if a mirror redirects sections to an address with a
        secret.
        """
        from yt_dlp.utils import YoutubeDLError

        watch = self._watch(clip)
        path: Path | None = None
        with tempfile.TemporaryDirectory(dir=folder, prefix="youtube-", ignore_cleanup_errors=True) as name:
            try:
                path = self._download(clip, Path(name).absolute(), watch)
                status, detail = Status.OK, ""
            except KineticsSoundsError:
                raise
            except RefusedError as error:
                status, detail = error.status, errors.first_words(self._hide(error))
            except (YoutubeDLError, OSError) as error:
                status = errors.classify(error, there=self.own or watch.formats_chosen)
                warned = self._hide(watch.warned) if status is Status.NO_FORMATS else ""
                detail = errors.first_words(self._hide(error), warned=warned)
            except Exception as error:  # noqa: BLE001 - a bug of the tool's, met by one video: its outcome says so
                status, detail = Status.CRASHED, errors.where(error, self._hide(error))
                if watch.failed:  # what went wrong before, such as one of several fragments at once
                    status = errors.classify(YoutubeDLError(watch.failed), there=self.own or watch.formats_chosen)
                    detail = f"{errors.first_words(self._hide(watch.failed))} ({detail})"
            if path is not None:
                path = path.replace(folder / f"video{'.mp4' if self.options.sections else path.suffix}")
        if detail:
            detail = f"{detail} [{self.versions}]"
        chosen = watch.chosen if path is not None else formats.Chosen()
        return FetchResult(
            status=status,
            detail=detail,
            path=path,
            trimmed=path is not None and self.options.sections,
            format_ids=chosen.format_ids,
            audio_language=chosen.language,
            audio_track=chosen.track,
            requests=watch.requests,
            bytes=watch.bytes,
        )

    def _hide(self, said: object) -> str:
        """Third-party text without secrets. The whole text is needed: a truncated one could begin or end within a secret."""
        return redact(str(said), self.secrets)

    def _download(self, clip: Clip, work: Path, watch: Watch) -> Path:
        """Path of the file that yt-dlp makes of the clip's video, below `work`."""
        if self.own and len(clip.youtube_id) != ID_LENGTH:
            raise RefusedError(Status.UNAVAILABLE, f"a YouTube ID has 11 characters, not {len(clip.youtube_id)}")
        log = work / "ffmpeg.log"
        logged = sections.logged(log) if self.options.sections else contextlib.nullcontext()
        with logged, self._tool(clip, work, watch) as tool:
            from yt_dlp.utils import DownloadError, smuggle_url

            url = self._url(clip)
            if not self.own:  # else its id is what follows the last slash, query and all, and stands in every message
                url = smuggle_url(url, {"force_videoid": clip.youtube_id})
            try:
                info = tool.extract_info(url, download=True) or {}
            except DownloadError as error:
                if not log.exists() or "ffmpeg exited" not in str(error):
                    raise
                raise DownloadError(f"{error}: {sections.log_summary(log, hide=self._hide)}") from error
        if broken := sections.broken(log, hide=self._hide):
            raise DownloadError(f"the section is incomplete: {broken}")
        downloads = info.get("requested_downloads") or []
        if len(downloads) > 1:
            raise SettingsError(
                f"--youtube.option format={self._passed.get('format')}: selects {len(downloads)} files per video; select "
                "one: + merges a picture and a sound, / tries in turn, and a comma selects both"
            )
        if not downloads or not downloads[0].get("filepath"):
            raise RefusedError(Status.NO_FORMATS, "yt-dlp gave no file")
        path = Path(downloads[0]["filepath"])
        watch.refuse(info)
        watch.refuse_file(path)
        return path

    @contextlib.contextmanager
    def _tool(self, clip: Clip, work: Path, watch: Watch) -> Iterator[Any]:
        """A yt-dlp instance with this clip's restrictions, observed by `watch`."""
        # A user's plugins are code that nobody asked for; who asks sets the variable to nothing.
        os.environ.setdefault("YTDLP_NO_PLUGINS", "1")
        from yt_dlp import YoutubeDL
        from yt_dlp.postprocessor.ffmpeg import FFmpegPostProcessor

        FFmpegPostProcessor._ffmpeg_location.set(ffmpeg.executable())  # where sections look for it, as its command does
        with YoutubeDL(self._parameters(clip, work, watch)) as tool:
            tool.urlopen = watch.counting(tool.urlopen)
            if self.own:
                answers.inspect(tool.get_info_extractor("Youtube"))
            yield tool

    def _watch(self, clip: Clip) -> Watch:
        return Watch(
            youtube_id=clip.youtube_id if self.own else "",
            asked=self._url(clip),
            max_bytes=self.options.max_bytes,
            start=clip.time_start,
            sections=self.options.sections,
            allow_dubbed=self.options.allow_dubbed,
        )

    def _parameters(self, clip: Clip, work: Path, watch: Watch) -> dict[str, Any]:
        """All parameters of yt-dlp: changeable defaults, the user's own options, then fixed ones."""
        pauses = {"sleep_interval": 10, "max_sleep_interval": 20, "sleep_interval_requests": 0.75} if self.own else {}
        backoff = {kind: lambda n: min(2.0**n, 30.0) for kind in ("http", "fragment", "extractor")}
        container = "mp4" if self.options.sections else "mkv"
        usual: dict[str, Any] = {
            "format": functools.partial(formats.select, container=container),
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
            "merge_output_format": container,
            "skip_unavailable_fragments": False,
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
            fixed["proxy"] = self.options.proxy.real
        if self._cookies:
            fixed["cookiefile"] = io.StringIO(self._cookies)  # yt-dlp writes the jar back: into this, not into the file
        if self.options.sections:
            span = {"start_time": clip.time_start, "end_time": clip.time_end}
            fixed["download_ranges"] = lambda _info, _downloader: [span]
            fixed["force_keyframes_at_cuts"] = True
            patience = float(self._passed.get("socket_timeout", STALL_SECONDS)) * 1e6  # in microseconds
            fixed["external_downloader_args"] = {
                "ffmpeg_i": ["-rw_timeout", f"{patience:.0f}"],
                "ffmpeg_o": watch.cut,
            }
        return {**usual, **self._passed, **fixed}


def _verbatim(path: Path) -> str:
    """A folder name that yt-dlp uses literally; raises SourceError if it contains a `$VARIABLE`, which yt-dlp would expand."""
    if os.path.expandvars(path) != str(path):
        raise SourceError(f"{path}: yt-dlp would expand the variable in this folder's name; choose another folder")
    return str(path)


@dataclass(frozen=True, slots=True, kw_only=True)
class Runtime:
    """An installed JavaScript runtime."""

    name: str
    version: str
    supported: bool
    """Whether the installed yt-dlp supports its version."""


def runtimes() -> list[Runtime]:
    """Runtimes of `RUNTIMES` that yt-dlp finds; runs each to get its version."""
    import yt_dlp.globals

    looked_for = (yt_dlp.globals.supported_js_runtimes.value[name]() for name in RUNTIMES)
    there = (each.info for each in looked_for if each.info is not None)
    return [Runtime(name=info.name, version=info.version, supported=info.supported) for info in there]
