"""A clip to its files of a layout, in a worker."""

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
    """What every clip's task is told."""

    layout: str
    settings: layouts.CommonSettings
    out: Path
    scratch: Path
    """An existing folder on the same disk as `out`."""
    clips: Path
    """Folder of the manifest, to which clips' paths are relative; or of the shards."""
    tools: str
    """Of the driver: a worker that has others would make other bytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """All that a worker needs for one clip."""

    entry: Entry
    media: Media | None
    """What the manifest says of its file; None for a sample of a shard."""
    number: int = 0
    """Of the sample in its split."""
    work: Work


Answer = Made | SkippedClip | Refused
"""What becomes of a clip."""


def attempt(task: Task) -> Answer:
    """As `export`, with what is up to the user, the disk or the machine as a result."""
    return attempts.attempt(export, task)


def export(task: Task) -> Made | SkippedClip:
    """Make a clip's files and give them their names; or why there never will be any.

    Raises ManifestError where the clip is not what the build left, ShardError where the sample is bad, SettingsError where this
    machine's tools are not the driver's or an option cannot be, StoppedError where the clip cannot be read now, or a tool was
    killed or ran past its time, and OSError where there is no room or a disk fails.
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
            raise ValueError(f"{work.layout}: make gave {sorted(counts)}, which are not what its counts are called")
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
            f"{path}: {found}, so it is not the clip that the manifest names; "
            f"{attempts.mending(task.work.clips, then='ks-export')}"
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
    """The sample's parts as files."""
    split = _split(task.work.clips, task.entry.clip.split)
    if task.number >= len(split) or split.key(task.number) != task.entry.key:
        raise ShardError(f"{task.work.clips}: {task.entry.key} is not where it was; run this again")
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
