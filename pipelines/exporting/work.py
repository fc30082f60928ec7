"""Export one clip, in a worker."""

import functools
import socket
import tempfile
from dataclasses import dataclass
from pathlib import Path

from kinetics_sounds import files, stream
from kinetics_sounds.clip import Kind, Media, Status
from kinetics_sounds.errors import ManifestError, MediaError, SettingsError, ShardError, StoppedError
from kinetics_sounds.media import encode, error_status
from kinetics_sounds.shards import layout as parts
from kinetics_sounds.shards.index import SkippedClip

from .. import attempts, layouts
from ..attempts import Refused
from ..layouts import Entry, Source
from . import placing
from .journal import Made


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """Parameters common to all clips of an export."""

    layout: str
    settings: layouts.CommonSettings
    out: Path
    scratch: Path
    """An existing folder on the same disk as `out`."""
    clips: Path
    """Folder that clips' paths are relative to, or of the shards."""
    tools: str
    """Versions of the driver's tools: a worker with others would produce other bytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """Input of a worker for one clip."""

    entry: Entry
    media: Media | None
    """Measurements in the manifest; None for a sample of a shard."""
    number: int = 0
    """Index of the sample in its split."""
    work: Work


Answer = Made | SkippedClip | Refused
"""Result for a clip."""


def attempt(task: Task) -> Answer:
    """`export`, with errors of the user's, the disk's or the machine's as results."""
    return attempts.attempt(export, task)


def export(task: Task) -> Made | SkippedClip:
    """Make a clip's files and move them into place, or return why that is impossible.

    Raises ManifestError if the clip differs from the manifest, ShardError for a damaged sample, SettingsError if this machine's
    tools differ from the driver's or for an invalid option, StoppedError if the clip cannot be read now, or a tool was killed or
    timed out, and OSError if the disk is full or fails.
    """
    work, key = task.work, task.entry.key
    layout = layouts.load(work.layout)
    if (ours := str(layout.recipe(work.settings))) != work.tools:
        raise SettingsError(f"{socket.gethostname()} has {ours}, not {work.tools}; install the same on every node")
    remedy = f"{attempts.AGAIN}, if need be with fewer --workers or a longer --timeout"
    with tempfile.TemporaryDirectory(dir=work.scratch, ignore_cleanup_errors=True) as name:
        staged = Path(name) / "staged"
        staged.mkdir()
        try:
            source = _of_shard(task, Path(name)) if task.media is None else _of_build(task, task.media)
            counts = layout.make(source, staged, work.settings)
        except MediaError as error:
            status = error_status.status(error)
            if status.kind is not Kind.PERMANENT:
                raise StoppedError(f"{status}: {error}; {remedy}") from error
            return SkippedClip(key=key, status=status.value, detail=str(error))
        if set(counts) != set(layout.counts(work.settings)):
            raise ValueError(f"{work.layout}: make gave {sorted(counts)}, which do not match its counts")
        places = {place: placing.describe(staged / place) for place in layout.places(task.entry, work.settings)}
        for place in places:
            placing.put(staged / place, work.out / place, trash=Path(name))
    return Made(places=places, counts=counts)


def _of_build(task: Task, media: Media) -> Source:
    path = task.work.clips / media.path
    try:
        found = files.difference(path, size=media.bytes, digest=media.sha256)
    except OSError as error:
        error.filename = error.filename or str(path)
        if error.errno in (*files.FULL, *files.FAILING):
            raise
        raise StoppedError(f"{Status.UNREADABLE}: {path}: {error.strerror}; {attempts.AGAIN}") from error
    if found:
        raise ManifestError(
            f"{path}: {found}, so it is not the clip in the manifest; "
            f"{attempts.remedy(task.work.clips, then='ks-export')}"
        )
    return Source(
        entry=task.entry,
        picture=path,
        sound=path,
        channel=media.audio_channel or encode.MIX,
        num_frames=media.num_frames,
        timeout_seconds=task.work.settings.timeout,
    )


@functools.lru_cache(maxsize=3)
def _split(folder: Path, name: str) -> stream.Split:
    return stream.open_split(folder, name)


def _of_shard(task: Task, scratch: Path) -> Source:
    """Extract the sample's parts to files."""
    split = _split(task.work.clips, task.entry.clip.split)
    if task.number >= len(split) or split.key(task.number) != task.entry.key:
        raise ShardError(f"{task.work.clips}: {task.entry.key} was moved or deleted; run this again")
    picture, sound = scratch / "clip.mp4", scratch / "clip.flac"
    with stream.sample(split, task.number) as sample:
        picture.write_bytes(sample.part(parts.FRAMES))
        if parts.AUDIO in split.dataset.parts:
            sound.write_bytes(sample.part(parts.AUDIO))
        frames = sample.meta.num_frames
    return Source(
        entry=task.entry,
        picture=picture,
        sound=sound if parts.AUDIO in split.dataset.parts else None,
        num_frames=frames,
        timeout_seconds=task.work.settings.timeout,
    )
