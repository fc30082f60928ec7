"""Checks of downloads: a recent yt-dlp, a JavaScript runtime, and optionally a real video."""

import tempfile
import time
from collections.abc import Container, Iterator
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

from kinetics_sounds import sources
from kinetics_sounds.address import Address
from kinetics_sounds.clip import Clip, FetchResult, Kind, Status
from kinetics_sounds.errors import MediaError
from kinetics_sounds.quantities import byte_size
from kinetics_sounds.sources import PartError, TarSource

from . import Asked, Finding, Verdict

OLD_DAYS = 90
"""Maximum age of yt-dlp in days: YouTube changes often, and an old yt-dlp fails without a clear message."""
LIVE_ID = "jNQXAC9IVRw"
"""Default video to fetch: the first one on YouTube; a folder may use any of its own instead."""
LIVE_SPLIT = "val"
"""Split whose parts are used to test a mirror."""
SECONDS = 10
"""Length of the requested span in seconds."""
_REMEDIES = {
    Status.NO_FORMATS: "pip install --upgrade 'yt-dlp[default]' and have a JavaScript runtime, then try again",
    Status.NOT_IN_SOURCE: "check that this is the intended source, and that it is complete",
    Status.DISK_FULL: "free some space where temporary files go, or set TMPDIR to another folder",
    Kind.PERMANENT: "that video is unavailable: choose another with --live_id",
    Kind.RETRY: "check this machine's network, proxy (HTTPS_PROXY) and clock, then try again",
    Kind.BLOCKED: "wait some hours before a build, or build from another IP address",
}
"""Remedies by status, else by kind."""


def yt_dlp(_asked: Asked) -> Iterator[Finding]:
    """Age of yt-dlp, whose version is a date."""
    version = metadata.version("yt-dlp")
    year, month, day = (int(part) for part in version.split(".")[:3])
    age = (datetime.now(UTC) - datetime(year, month, day, tzinfo=UTC)).days
    found = f"{version}, {age} days old"
    if age > OLD_DAYS:
        remedy = "pip install --upgrade 'yt-dlp[default]'; YouTube often refuses old versions"
        yield Finding("yt-dlp", Verdict.WARNING, found, remedy)
    else:
        yield Finding("yt-dlp", Verdict.OK, found)


def javascript(_asked: Asked) -> Iterator[Finding]:
    """A JavaScript runtime supported by the installed yt-dlp; only needed for YouTube."""
    from kinetics_sounds.sources import youtube

    there = youtube.runtimes()
    usable = [f"{runtime.name} {runtime.version}" for runtime in there if runtime.supported]
    if usable:
        yield Finding("javascript", Verdict.OK, ", ".join(usable))
        return
    old = [f"{runtime.name} {runtime.version} is too old for this yt-dlp" for runtime in there]
    remedy = "only YouTube needs one: pip install deno, or put a new deno, node, bun or quickjs on the PATH"
    yield Finding("javascript", Verdict.WARNING, ", ".join(old) or "no runtime on the PATH", remedy)


def live(asked: Asked) -> Iterator[Finding]:
    """Fetch one real video from the source given by `subject`."""
    from kinetics_sounds.media import probe
    from kinetics_sounds.sources import local

    name, source = f"live {asked.subject.partition(':')[0]}", sources.load(asked.subject)
    clip = Clip(youtube_id=asked.live_id, time_start=0, time_end=SECONDS, label="", split="val")
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="ks-doctor-") as folder:
        if isinstance(source, TarSource):
            location, fetched = _first(source, Path(folder))
        else:
            location = next(iter(source.candidates(clip)), "")
            if not location and asked.live_id == LIVE_ID and isinstance(source, local.Source):
                location = source.first() or ""
            if not location:
                remedy = "choose one of its videos with --live_id"
                yield Finding(name, Verdict.MISSING, f"{Address(asked.subject)} does not have {asked.live_id}", remedy)
                return
            fetched = source.fetch(clip, location, Path(folder))
        if fetched.status is not Status.OK or fetched.path is None:
            found = f"{location}: {fetched.status}: {fetched.detail}"
            remedy = _REMEDIES.get(fetched.status) or _REMEDIES.get(fetched.status.kind, "report this")
            yield Finding(name, Verdict.MISSING, found, remedy)
            return
        size, seconds = fetched.path.stat().st_size, time.monotonic() - began
        try:
            inside = probe.probe(fetched.path)
        except MediaError as error:
            found = f"{location}: {fetched.status}, but the result is not a video: {error}"
            yield Finding(
                name, Verdict.MISSING, found, "check what responds at that address: it may be a proxy or a portal"
            )
            return
    streams = [stream.codec for stream in (inside.video, inside.audio) if stream]
    found = f"{location}: {fetched.status}, {byte_size(size)} ({', '.join(streams)}) in {seconds:.0f} s"
    yield Finding(name, Verdict.OK, found)


def _first(source: TarSource, folder: Path) -> tuple[str, FetchResult]:
    """The first clip of the first part that is not a replacement, with the part's location."""
    part = next((part for part in source.parts([LIVE_SPLIT]) if not part.replacement), None)
    if part is None:
        return LIVE_SPLIT, FetchResult(status=Status.NOT_IN_SOURCE, detail=f"has no archive of {LIVE_SPLIT}")
    try:
        for key, fetched in source.stream(part, _Everything(), folder):
            if fetched is not None:
                return f"{part.name}: {key}", fetched
    except PartError as error:
        return part.name, FetchResult(status=error.status, detail=str(error))
    return part.name, FetchResult(status=Status.NOT_IN_SOURCE, detail="holds no clip")


class _Everything(Container[str]):
    """A set that contains everything."""

    def __contains__(self, _key: object) -> bool:
        return True
