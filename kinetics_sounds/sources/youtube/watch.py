"""Observe and restrict yt-dlp during one task."""

import contextlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...clip import Status
from ...errors import MediaError, SettingsError
from ...media import probe
from ...redact import redact_url
from ..youtube import formats, sections
from ..youtube.errors import RefusedError

_FREE = re.compile(r"https?://(?:[^/]+\.)?(?:googlevideo\.com/|youtube\.com/s/)")
"""Media and scripts, which YouTube's rate limit does not count."""


@dataclass(kw_only=True)
class Watch:
    """Logger, match filter and progress hook of yt-dlp for one task: counts requests and bytes, refuses unwanted videos."""

    youtube_id: str
    """The only accepted video ID; empty to accept any."""
    asked: str = ""
    """URL of the video; its query has no secret if sections are requested."""
    max_bytes: int
    start: float
    """Start of the clip's span, in seconds into the video."""
    sections: bool
    """Whether only the span is downloaded, whose size is unknown beforehand."""
    allow_dubbed: bool = False
    requests: int = 0
    warned: str = ""
    """First warning: if no format is left, it says why."""
    failed: str = ""
    """First error."""
    chosen: formats.Chosen = field(default_factory=formats.Chosen)
    """The selected formats, once known."""
    cut: list[str] = field(default_factory=lambda: sections.cut(hdr=False))
    """ffmpeg options for a section, read by yt-dlp when it starts ffmpeg."""
    received: dict[str, int] = field(default_factory=dict)
    """Bytes received, by file."""

    @property
    def formats_chosen(self) -> bool:
        """Whether the video was found and its formats selected: later errors concern only a part of it."""
        return bool(self.chosen.format_ids)

    @property
    def bytes(self) -> int:
        """Bytes of video downloaded."""
        return sum(self.received.values())

    def counting(self, urlopen: Callable[[Any], Any]) -> Callable[[Any], Any]:
        """Wrap `urlopen` to count requests; redirects, and ffmpeg's reads of a section, are not counted."""

        def counted(request: Any) -> Any:  # noqa: ANN401 - a URL or one of yt-dlp's requests
            self.requests += not _FREE.match(str(getattr(request, "url", request)))
            return urlopen(request)

        return counted

    def refuse(self, info: Mapping[str, Any], *, incomplete: object = False) -> None:
        """Raise for a live stream, another video, one that is too short, or one that claims to be too large.

        Once formats are selected, also for audio that is not known to be the original.
        """
        if self.youtube_id and info.get("id") != self.youtube_id:
            raise RefusedError(Status.UNAVAILABLE, f"another video was returned: {info.get('id')}")
        if info.get("live_status") in ("is_live", "is_upcoming", "post_live"):
            raise RefusedError(Status.LIVE, f"live status: {info['live_status']}")
        seconds = info.get("duration")
        if seconds and seconds <= self.start:
            raise RefusedError(Status.TOO_SHORT, f"the video ends at {seconds:g} s, before the span")
        if incomplete:
            return
        if self.sections and not self.youtube_id:
            self._check_addresses(info)
        self.chosen = formats.chosen(info)
        self.cut[:] = sections.cut(hdr=self.chosen.hdr)
        if self.chosen.track not in formats.ORIGINAL and not self.allow_dubbed:
            raise RefusedError(
                Status.DUBBED,
                f"no sound track is known to be the original ({formats.offered(info)}); "
                "--youtube.allow_dubbed true accepts others",
            )
        if not self.sections:
            self._hold(sum(each.get("filesize") or 0 for each in info.get("requested_formats") or [info]))

    def _check_addresses(self, info: Mapping[str, Any]) -> None:
        """Raise SettingsError if a mirror redirected to an address with a secret, which would appear on ffmpeg's command line."""
        for each in info.get("requested_formats") or [info]:
            url = str(each.get("url", ""))
            if url != self.asked and redact_url(url) != url:
                raise SettingsError(
                    f"--youtube.sections: the mirror redirects to {redact_url(url)}, and ffmpeg's command line would show the "
                    "secret part to other users of this machine; leave out sections"
                )

    def refuse_file(self, path: Path) -> None:
        """Raise for a file that lacks a stream its formats should have: this says nothing about the video."""
        with contextlib.suppress(MediaError):  # what cannot be opened is judged like any other file
            found = probe.probe(path)
            there = {"picture": found.video, "sound": found.audio}
            for what in self.chosen.told:
                if there[what] is None:
                    raise RefusedError(Status.NO_FORMATS, f"the file of format {self.chosen.format_ids} has no {what}")

    def progress(self, update: Mapping[str, Any]) -> None:
        """Count received bytes; raises if they exceed the limit, whatever size the server had claimed."""
        name = str(update.get("filename"))
        self.received[name] = max(self.received.get(name, 0), int(update.get("downloaded_bytes") or 0))
        self._hold(max(self.bytes, int(update.get("total_bytes") or 0)))

    def _hold(self, size: int) -> None:
        if 0 < self.max_bytes < size:
            raise RefusedError(
                Status.TOO_LARGE, f"{size:,} bytes or more, and --youtube.max_bytes is {self.max_bytes:,}"
            )

    def debug(self, _message: str) -> None:
        """Print nothing: messages go into the outcome."""

    def error(self, message: str) -> None:
        """Keep the first error."""
        self.failed = self.failed or message

    def warning(self, message: str) -> None:
        """Keep the first warning."""
        self.warned = self.warned or message
