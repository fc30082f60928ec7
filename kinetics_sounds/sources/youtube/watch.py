"""What one task asked of YouTube and was told, and what it must not get."""

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
"""Media and scripts: YouTube's limit on requests does not count them."""


@dataclass(kw_only=True)
class Watch:
    """What one task asked for and was told, and what it must not get: yt-dlp's logger, filter and hook."""

    youtube_id: str
    """The only video that will do; empty where any will."""
    asked: str = ""
    """The URL of the video, whose query has no secret where sections are asked for."""
    max_bytes: int
    start: int
    """Of the clip's span, in seconds into the video."""
    sections: bool
    """The span alone is downloaded, whose size nobody knows before."""
    allow_dubbed: bool = False
    requests: int = 0
    warned: str = ""
    """The first warning: where no format is left, it says why."""
    failed: str = ""
    """The first error."""
    chosen: formats.Chosen = field(default_factory=formats.Chosen)
    """The formats that are downloaded, once that is settled."""
    cut: list[str] = field(default_factory=lambda: sections.cut(hdr=False))
    """ffmpeg's options for a section of them, which yt-dlp reads when it starts it."""
    received: dict[str, int] = field(default_factory=dict)
    """Bytes by file."""

    @property
    def settled(self) -> bool:
        """The video was found and its formats were chosen: what is missing from then on is a part of it."""
        return bool(self.chosen.format_ids)

    @property
    def bytes(self) -> int:
        """Of video that came over the network."""
        return sum(self.received.values())

    def counting(self, urlopen: Callable[[Any], Any]) -> Callable[[Any], Any]:
        """The same function, counted; a redirect and what ffmpeg reads of a section are not seen."""

        def counted(request: Any) -> Any:  # noqa: ANN401 - a URL or one of yt-dlp's requests
            self.requests += not _FREE.match(str(getattr(request, "url", request)))
            return urlopen(request)

        return counted

    def refuse(self, info: Mapping[str, Any], *, incomplete: object = False) -> None:
        """Raise for a stream that has not ended, another video, one too short, or one that says it is too large.

        Once the formats are chosen, also for a sound that is not told to be the original.
        """
        if self.youtube_id and info.get("id") != self.youtube_id:
            raise RefusedError(Status.UNAVAILABLE, f"another video was given in its place: {info.get('id')}")
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
                f"no sound is told to be the original one ({formats.offered(info)}); "
                "--youtube.allow_dubbed true takes what there is",
            )
        if not self.sections:
            self._hold(sum(each.get("filesize") or 0 for each in info.get("requested_formats") or [info]))

    def _check_addresses(self, info: Mapping[str, Any]) -> None:
        """Raise SettingsError where ffmpeg would be given an address with a secret that a mirror led to, on its command line."""
        for each in info.get("requested_formats") or [info]:
            url = str(each.get("url", ""))
            if url != self.asked and redact_url(url) != url:
                raise SettingsError(
                    f"--youtube.sections: the mirror leads to {redact_url(url)}, and ffmpeg would be given what is hidden here "
                    "where other users of this machine see it; leave out sections"
                )

    def refuse_file(self, path: Path) -> None:
        """Raise for a file that lacks a stream which its formats were to have: that says nothing of the video."""
        with contextlib.suppress(MediaError):  # what cannot be opened is judged like any other file
            found = probe.probe(path)
            there = {"picture": found.video, "sound": found.audio}
            for what in self.chosen.told:
                if there[what] is None:
                    raise RefusedError(Status.NO_FORMATS, f"the file of format {self.chosen.format_ids} has no {what}")

    def progress(self, update: Mapping[str, Any]) -> None:
        """Count what came; raise where it is too much, whatever the server had said."""
        name = str(update.get("filename"))
        self.received[name] = max(self.received.get(name, 0), int(update.get("downloaded_bytes") or 0))
        self._hold(max(self.bytes, int(update.get("total_bytes") or 0)))

    def _hold(self, size: int) -> None:
        if 0 < self.max_bytes < size:
            raise RefusedError(
                Status.TOO_LARGE, f"{size:,} bytes or more, and --youtube.max_bytes is {self.max_bytes:,}"
            )

    def debug(self, _message: str) -> None:
        """Say nothing: the outcome carries the messages."""

    def error(self, message: str) -> None:
        """Keep the first."""
        self.failed = self.failed or message

    def warning(self, message: str) -> None:
        """Keep the first."""
        self.warned = self.warned or message
