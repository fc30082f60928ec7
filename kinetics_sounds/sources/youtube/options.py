"""Options of the youtube source: validation, refused options of yt-dlp, and secrets."""

import functools
import json
import math
import re
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ... import files
from ...address import Address
from ...errors import SettingsError, SourceError
from ...plugins import nearest
from ...redact import of_url

RUNTIMES = ("deno", "node", "bun", "quickjs")
"""JavaScript runtimes that yt-dlp may use for YouTube's scripts: on the PATH, or installed with Python (`pip install deno`)."""
REFUSED: Mapping[str, tuple[str, ...]] = {
    "it would run code or an unsupervised program": (
        *("exec_cmd", "external_downloader", "external_downloader_args", "postprocessors", "postprocessor_args"),
        *("netrc_cmd", "ffmpeg_location", "remote_components", "hls_prefer_native", "plugin_dirs"),
    ),
    "it would weaken the protection against foreign replies": (
        *("nocheckcertificate", "prefer_insecure", "legacyserverconnect", "enable_file_urls", "compat_opts"),
        *("allowed_extractors", "force_generic_extractor", "default_search", "allow_unplayable_formats"),
    ),
    "it would write secrets where they can be read": ("debug_printtraffic", "dump_intermediate_pages", "write_pages"),
    "it is set by this program": (
        *("outtmpl", "paths", "logger", "match_filter", "progress_hooks", "postprocessor_hooks", "post_hooks"),
        *("download_ranges", "force_keyframes_at_cuts", "ignoreerrors", "simulate", "skip_download", "test"),
        *("download_archive", "cachedir", "final_ext", "merge_output_format", "noplaylist", "extract_flat"),
        *("quiet", "verbose", "no_warnings", "noprogress", "color", "logtostderr", "consoletitle"),
        *("forceprint", "print_to_file", "forcejson", "dump_single_json", "live_from_start", "wait_for_video"),
        *("usenetrc", "netrc_location", "load_pages", "bidi_workaround", "keepvideo", "_warnings"),
        *("_deprecation_warnings", "trim_file_name", "cookiesfrombrowser"),
    ),
    "it would skip videos, or produce no file": (
        *("listformats", "listsubtitles", "list_thumbnails", "ignore_no_formats_error", "min_filesize"),
        *("min_views", "max_views", "daterange", "age_limit", "matchtitle", "rejecttitle", "max_downloads"),
        *("break_on_existing", "break_on_reject", "break_per_url"),
        *("playlist_items", "playliststart", "playlistend"),
        *("forceurl", "forcetitle", "forceid", "forcethumbnail", "forcedescription", "forceduration"),
        *("forcefilename", "forceformat"),
    ),
    "it would write unused files": (
        *("writeinfojson", "writedescription", "writesubtitles", "writeautomaticsub", "writethumbnail"),
        *("write_all_thumbnails", "writelink", "writeurllink", "writewebloclink", "writedesktoplink"),
        *("allow_playlist_files", "force_write_download_archive"),
    ),
    "it would leave a gap in a video, or fetch only a part of it": (
        "skip_unavailable_fragments",
        "hls_split_discontinuity",
    ),
    "use --youtube.cookies": ("cookiefile",),
    "use --youtube.proxy": ("proxy",),
    "use --youtube.js_runtime": ("js_runtimes",),
    "use --youtube.max_bytes": ("max_filesize",),
}
"""Options of yt-dlp that `--youtube.option` refuses, by reason."""
_NUMBERS = (
    *("socket_timeout", "sleep_interval", "max_sleep_interval", "sleep_interval_requests", "sleep_interval_subtitles"),
    *("retries", "fragment_retries", "extractor_retries", "file_access_retries", "concurrent_fragment_downloads"),
    *("ratelimit", "throttledratelimit", "buffersize", "http_chunk_size", "progress_delta"),
)
"""Numeric options of yt-dlp, validated once here rather than failing for every video."""
TOKEN_LENGTH = 16
"""Minimum length of an extractor argument that is hidden as a token: client names are shorter."""
_SECRET = (
    "username",
    "password",
    "videopassword",
    "ap_username",
    "ap_password",
    "client_certificate_password",
    "twofactor",
)
"""Options of yt-dlp whose values are secret; so are headers and the extractors' own arguments (tokens)."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """Options of the youtube source."""

    cookies: Path | None = None
    """Netscape cookies.txt of an account; must be readable by you alone, and is never written. The account may be banned."""
    proxy: Address | None = field(default=None, repr=False)
    """URL of a proxy. Default: HTTPS_PROXY of the environment, where other users of the machine cannot see a password."""
    js_runtime: str = ""
    """JavaScript runtime for YouTube's scripts: deno, node, bun or quickjs, or NAME:PATH. Default: the best one found."""
    sections: bool = False
    """Download only the clip's span, cut exactly by ffmpeg: fewer bytes, but YouTube serves them far more slowly."""
    allow_dubbed: bool = False
    """Accept a dubbed or descriptive audio track, or one of unknown kind, if the original is not available; recorded in the
    column audio_track."""
    option: tuple[str, ...] = field(default=(), metadata={"repeat": True}, repr=False)
    """Any other option of yt-dlp's Python interface, as NAME=VALUE; repeatable. The value is parsed as JSON, else taken as
    text."""
    videos_per_hour: float | None = None
    """Rate limit: videos per hour of all workers together; 0: no limit. Default: 300 for YouTube, no limit for other sites."""
    requests_per_hour: float | None = None
    """Rate limit: page and player requests per hour of all workers together; 0: no limit. Default: 1000 for YouTube, no limit
    for other sites."""
    max_bytes: int = 2_000_000_000
    """Maximum size of a video in bytes; a larger one gets the status too_large and its download is aborted. 0: no limit."""

    def __post_init__(self) -> None:
        """Make paths absolute: workers may run in another folder."""
        if self.cookies is not None:
            object.__setattr__(self, "cookies", self.cookies.absolute())


def limit(name: str, asked: float | None, usual: float) -> float | None:
    """The user's limit, else the default; None for no limit. Raises SettingsError for an invalid value."""
    most = usual if asked is None else asked
    if not 0 <= most < math.inf:
        raise SettingsError(f"--youtube.{name} {asked}: must be 0 (no limit) or more")
    return most or None


def check(options: Options, *, secret: bool) -> None:
    """Raise SettingsError for options that cannot be combined; `secret`: the server is sent a secret of the user."""
    if options.max_bytes < 0:
        raise SettingsError(f"--youtube.max_bytes {options.max_bytes}: must be 0 (no limit) or more")
    if options.proxy and "://" not in str(options.proxy):
        raise SettingsError("--youtube.proxy: has no scheme; begin it with http://, https:// or socks5h://")
    if not options.sections:
        return
    if str(options.proxy).startswith("socks"):
        raise SettingsError("--youtube.sections: ffmpeg does not support SOCKS proxies; use an HTTP one")
    if secret:
        raise SettingsError(
            "--youtube.sections: ffmpeg's command line would show the server's secrets to other users of this machine; "
            "leave out sections, or the cookies, the headers, or what is secret in the mirror's address (user, query, fragment)"
        )


def runtimes_asked(text: str) -> dict[str, dict[str, str]]:
    """yt-dlp's `js_runtimes` option; it uses the best one found."""
    if not text:
        return {name: {} for name in RUNTIMES}
    name, _, path = text.partition(":")
    if name not in RUNTIMES:
        raise SettingsError(f"--youtube.js_runtime {text}: is none of {', '.join(RUNTIMES)}{nearest(name, RUNTIMES)}")
    if path and not files.user_path(path).exists():
        raise SettingsError(f"--youtube.js_runtime {text}: {path} does not exist")
    return {name: {"path": str(files.user_path(path))} if path else {}}


def passed_on(words: tuple[str, ...]) -> dict[str, Any]:
    """The user's own options of yt-dlp; raises SettingsError for an unknown or refused one."""
    passed: dict[str, Any] = {}
    for word in words:
        name, equals, text = word.partition("=")
        if not equals:
            raise SettingsError(f"--youtube.option {name}: must be NAME=VALUE")
        for reason, refused in REFUSED.items():
            if name in refused:
                raise SettingsError(f"--youtube.option {name}: is refused: {reason}")
        if name not in known():
            raise SettingsError(f"--youtube.option {name}: yt-dlp has no such option{nearest(name, known())}")
        try:
            passed[name] = text if name == "format" else json.loads(text)  # 18 is a format's name and no number
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
def known() -> frozenset[str]:
    """All options of the installed yt-dlp that its command line can set."""
    import yt_dlp

    return frozenset(yt_dlp.parse_options([]).ydl_opts)


def secrets(passed: Mapping[str, Any]) -> Iterator[str]:
    """Secrets in the user's own options of yt-dlp."""
    for name in _SECRET:
        yield str(passed.get(name, ""))
    yield from of_url(str(passed.get("geo_verification_proxy", "")))
    yield from _texts(passed.get("http_headers"))
    tokens = (part for text in _texts(passed.get("extractor_args")) for part in (text, text.rpartition("+")[2]))
    yield from (token for token in tokens if len(token) >= TOKEN_LENGTH)


def _texts(value: Any) -> Iterator[str]:  # noqa: ANN401 - whatever JSON can hold
    """All texts in a nested value except names, whole and word by word: a header has `Bearer TOKEN`."""
    if isinstance(value, str):
        yield value
        yield from value.split()
    elif isinstance(value, Mapping):
        yield from _texts(list(value.values()))
    elif isinstance(value, list):
        for each in value:
            yield from _texts(each)


def read_cookies(path: Path) -> tuple[str, str]:
    """Text of a cookies.txt, and a warning if others can read it; raises SourceError without quoting its content."""
    place = files.user_path(str(path))
    try:
        text, mode = place.read_text("utf-8"), place.stat().st_mode
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise SourceError(f"--youtube.cookies {path}: cannot be read: {reason}") from None
    for number, line in enumerate(text.splitlines(), 1):
        fields = line.removeprefix("#HttpOnly_").split("\t")
        blank = not line.strip() or (line.startswith("#") and not line.startswith("#HttpOnly_"))
        if not blank and (len(fields) != 7 or not re.fullmatch(r"\d*(\.\d+)?", fields[4])):
            raise SourceError(
                f"--youtube.cookies {path}:{number}: is not a cookie; export them in Netscape format, 7 tab-separated fields"
            )
    others = stat.S_IMODE(mode) & (stat.S_IRGRP | stat.S_IROTH)
    return text, f"{path} is readable by others and gives access to the account: chmod 600 it." if others else ""


def cookie_values(text: str) -> Iterator[str]:
    """Value of each cookie in a cookies.txt."""
    for line in text.splitlines():
        if line.count("\t") == 6:
            yield line.rpartition("\t")[2].strip()
