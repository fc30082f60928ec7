"""Process tasks in a worker: fetch one clip from a source and move it into place, or read one archive."""

import contextlib
import errno
import os
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from kinetics_sounds import __version__, files, sources
from kinetics_sounds.archives import UnfinishedError
from kinetics_sounds.archives.wanted import read_once
from kinetics_sounds.clip import FetchResult, Kind, Media, Outcome, Status, label_folder
from kinetics_sounds.clip_names import ANOTHER_FILE, ONE_OF_SEVERAL
from kinetics_sounds.errors import SourceError
from kinetics_sounds.media import ffmpeg
from kinetics_sounds.media.measure import silent, still
from kinetics_sounds.sources import PartError, TarSource

from .audit import audit
from .task import ClipDone, ClipTask, PartDone, PartTask
from .trim import Trimmed, cut_off, to_span, unless_shared


class _OccupiedError(Exception):
    """The clip's path is occupied by a file of the user."""


def work(task: ClipTask | PartTask) -> ClipDone | PartDone:
    """Process a task; runs in a worker."""
    return read_part(task) if isinstance(task, PartTask) else process_clip(task)


def process_clip(task: ClipTask) -> ClipDone:
    """Fetch, trim, audit and place one clip, from the first of the source's candidates that is usable."""
    done: list[ClipDone] = []
    for location in task.locations or ("",):
        done.append(_process_candidate(task, location))
        if done[-1].outcome.status.kind in (Kind.OK, Kind.BLOCKED):
            break
    made = done[0] if len(done) == 1 else _of_several(done)
    return _remarked(made, ONE_OF_SEVERAL) if task.ambiguous and made.outcome.media is not None else made


def _remarked(done: ClipDone, remark: str) -> ClipDone:
    """The result for an ok clip, with a further remark in its detail."""
    detail = "; ".join(filter(None, (done.outcome.detail, remark)))
    return replace(done, outcome=replace(done.outcome, detail=detail))


_KINDS = (Kind.OK, Kind.BLOCKED, Kind.RETRY, Kind.PERMANENT)
"""Order of kinds among several outcomes: a clip is permanent only if every candidate is."""
_LESS_TELLING = {Status.TOO_SHORT: 0, Status.CORRUPT: 2, Status.NOT_IN_SOURCE: 2}
"""Order of statuses within a kind: too short first, since --min_coverage may help. Other statuses have 1."""


def _of_several(done: Sequence[ClipDone]) -> ClipDone:
    """Result for a clip with several candidates: the usable one, else the most relevant failure, mentioning the others."""

    def weight(each: ClipDone) -> tuple[int, int]:
        status = each.outcome.status
        return _KINDS.index(status.kind), _LESS_TELLING.get(status, 1)

    told = best = min(done, key=weight)  # the first of those that weigh the same
    if best.outcome.media is None:
        others = (f"{each.origin}: {each.outcome.status}: {each.outcome.detail}" for each in done if each is not best)
        detail = "; ".join((f"{best.origin}: {best.outcome.detail}", *others))
        told = replace(best, outcome=replace(best.outcome, detail=detail))
    elif best is not done[0]:
        told = _remarked(best, f"{ANOTHER_FILE} {done[0].outcome.status}")
    stages = dict.fromkeys(stage for each in done for stage in each.seconds)
    return replace(
        told,
        seconds={stage: sum(each.seconds.get(stage, 0.0) for each in done) for stage in stages},
        requests=sum(each.requests for each in done),
        bytes=sum(each.bytes for each in done),
        reached=any(each.reached for each in done),
    )


def _process_candidate(task: ClipTask, location: str) -> ClipDone:
    """Fetch, trim, audit and place one clip, from one candidate."""
    seconds: dict[str, float] = {}
    tools = versions()
    fetched, media = task.fetched, None
    try:
        source = sources.load(task.spec, task.options)
        tools = versions(source.versions)
        task.folder.mkdir(parents=True, exist_ok=True)
        if fetched is None:
            if isinstance(source, TarSource):
                raise ValueError(f"{task.clip.key}: an archive's clip comes with its file")
            with _timed(seconds, "fetch"):
                fetched = source.fetch(task.clip, location, task.folder)
        elif fetched.path is not None and not fetched.path.is_file():  # an earlier try died while it gave it its place
            fetched = FetchResult(
                status=Status.CRASHED, detail="its file is gone; the next run reads its archive again"
            )
        fetched = unless_shared(fetched, only_clip=task.only_clip)
        status, detail = fetched.status, fetched.detail
        if status is Status.OK:
            with _timed(seconds, "cut"):
                status, detail, trimmed = _trim_and_audit_twice(task, fetched)
            if status is Status.OK:
                with _timed(seconds, "place"):
                    media = _place(task, fetched, trimmed)
    except SourceError as error:  # of a folder that the disk does not give, nothing is known
        unread = isinstance(error.__cause__, OSError) and error.__cause__.errno != errno.ENOENT
        status, detail, media = Status.UNREADABLE if unread else Status.NOT_IN_SOURCE, str(error), None
    except _OccupiedError as error:
        status, detail, media = Status.OCCUPIED, str(error), None
    except OSError as error:  # a full disk, or a file system that fails or went away
        status, media = Status.DISK_FULL if error.errno in files.FULL else Status.CRASHED, None
        detail = f"{type(error).__name__}: {error}"
        if status is Status.CRASHED and fetched is not None and (fault := _unreadable(fetched)):
            status, detail = Status.UNREADABLE, fault
    finally:
        shutil.rmtree(task.folder, ignore_errors=True)
    outcome = Outcome(
        clip=task.clip,
        status=status,
        detail=detail,
        source=str(task.spec),
        media=media,
        tool_versions=tools,
    )
    return ClipDone(
        outcome=outcome,
        seconds=seconds,
        requests=fetched.requests if fetched else 0,
        bytes=fetched.bytes if fetched else 0,
        reached=fetched is not None and fetched.status is Status.OK,
        origin=fetched.origin if fetched else Path(location).name,
    )


def _trim_and_audit_twice(task: ClipTask, fetched: FetchResult) -> tuple[Status, str, Trimmed]:
    """Same as `_trim_and_audit`, but a permanent result requires that the file can be read to its end and fails twice.

    A momentary failure of a disk or network share looks like a decoding error.
    """
    status, detail, trimmed = _trim_and_audit(task, fetched)
    if status.kind is not Kind.PERMANENT:
        return status, detail, trimmed
    if fault := _unreadable(fetched):
        return Status.UNREADABLE, fault, trimmed
    before = f"{status}: {detail}"
    status, detail, trimmed = _trim_and_audit(task, fetched)
    if status is Status.OK:
        return (
            Status.UNREADABLE,
            f"{_named(fetched)}: decoded at the second attempt; before: {before}",
            trimmed,
        )
    if status in (Status.TOO_SHORT, Status.CORRUPT) and fetched.path is not None:
        detail = "; ".join(filter(None, (detail, cut_off(fetched.path))))
    return status, detail, trimmed


def _trim_and_audit(task: ClipTask, fetched: FetchResult) -> tuple[Status, str, Trimmed]:
    """Trim a clip, or find that its file already is the span, and audit it."""
    trimmed = to_span(task.clip, fetched, task.folder, timeout_seconds=task.timeout_seconds)
    status, detail = trimmed.status, trimmed.detail
    if status is Status.OK and trimmed.measured is not None:
        status, detail = audit(task.clip, trimmed.measured, min_coverage=task.min_coverage)
        detail = "; ".join(filter(None, (detail, trimmed.detail)))
    return status, detail, trimmed


def _unreadable(fetched: FetchResult) -> str:
    """Why a file cannot be read to its end; empty if it can."""
    try:
        if fetched.path is not None:
            ffmpeg.read_through(fetched.path)
    except OSError as error:
        return f"{_named(fetched)}: cannot be read: {error.strerror} (errno {error.errno})"
    return ""


def _named(fetched: FetchResult) -> str:
    """Name of a file in its source, else its file name: scratch folders differ from run to run."""
    return fetched.origin or (fetched.path.name if fetched.path else "")


def _place(task: ClipTask, fetched: FetchResult, trimmed: Trimmed) -> Media:
    """Put the clip's file in its place: a link to a source's own file, else the moved file."""
    path, measured, found = trimmed.path, trimmed.measured, trimmed.found
    if path is None or measured is None or found is None or found.audio is None:
        raise ValueError(f"{task.clip.key}: an ok clip without a file")
    place = task.out / "clips" / label_folder(task.clip.label) / f"{task.clip.key}{path.suffix.lower()}"
    files.make_folder(place.parent)
    if not _same(place, path) and not place.is_symlink() and any(_same(place, Path(each)) for each in task.kept):
        raise _OccupiedError(
            f"{place.relative_to(task.out)} is your own file, which the clip would overwrite; move it out of "
            "the build's clips folder, or build with another --out"
        )
    size, digest = path.stat().st_size, files.sha256(path)
    if path.is_relative_to(task.scratch):
        files.replace_atomically(_spared(task, path), place)
    elif not _same(place, path):  # it may lie in its place already
        link = task.folder / place.name
        link.symlink_to(path.resolve())
        link.replace(place)
        files.sync_folder(place.parent)
    return Media(
        path=place.relative_to(task.out).as_posix(),
        bytes=size,
        sha256=digest,
        duration_seconds=round(measured.video.last_seconds - measured.video.first_seconds, 6),
        fps=round(measured.fps, 6),
        width=measured.width,
        height=measured.height,
        num_frames=measured.video.count,
        audio_rate=found.audio.rate,
        audio_channels=found.audio.channels,
        audio_rms_db=round(measured.audio_rms_db, 3),
        audio_offset_seconds=round(measured.audio_offset_seconds, 6) + 0.0,  # never -0.0
        silent=silent(measured),
        still=still(measured),
        other_streams=trimmed.other_streams,
        rotation=measured.rotation,
        decode_errors=measured.decode_errors,
        audio_channel=measured.audio_channel,
        origin=fetched.origin,
        format_ids=fetched.format_ids,
        audio_language=fetched.audio_language,
        audio_track=fetched.audio_track,
    )


def _same(one: Path, other: Path) -> bool:
    """Whether both paths exist and are the same file."""
    return one.exists() and other.exists() and one.samefile(other)


def _spared(task: ClipTask, path: Path) -> Path:
    """A second link to a file of an archive, so that a retry still finds it; else the file itself."""
    if task.fetched is None or task.fetched.path != path:
        return path
    other = task.folder / path.name
    other.unlink(missing_ok=True)
    _link(path, other)
    return other


def _link(path: Path, other: Path) -> None:
    """Give a file a second name."""
    try:
        os.link(path, other)
    except OSError:  # a file system without links; where the disk is full, the copy says so
        shutil.copyfile(path, other)


def read_part(task: PartTask) -> PartDone:
    """Stream one archive and keep the requested clips in the task's folder."""
    source = sources.load(task.spec, task.options)
    if not isinstance(source, TarSource):
        raise TypeError(f"{task.spec}: has no parts")
    wanted = read_once(task.wanted, depth=source.depth)
    clips: list[tuple[str, FetchResult]] = []
    names: set[str] = set()
    status, detail, position, lasts, seconds = Status.OK, "", 0, False, dict[str, float]()
    try:
        task.folder.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(dir=task.folder))  # clips of an earlier try may still be waiting beside it
        with _timed(seconds, "fetch"):
            for name, fetched in source.stream(task.part, wanted, folder):
                names.add(name)
                if fetched is not None:
                    clips += _of_each(replace(fetched, origin=fetched.origin or task.part.name), wanted.clips(name))
    except UnfinishedError as error:
        status, detail, position = error.status, str(error), error.position
    except PartError as error:
        status, detail, lasts = error.status, str(error), error.lasts
    except OSError as error:
        if error.errno not in files.FULL:
            raise
        status, detail = Status.DISK_FULL, str(error)
    return PartDone(
        status=status,
        detail=detail,
        clips=tuple(clips),
        names=frozenset(names),
        position=position,
        seconds=sum(seconds.values()),
        bytes=source.downloaded,
        lasts=lasts,
    )


def _of_each(fetched: FetchResult, clips: Iterable[tuple[str, bool | None]]) -> Iterator[tuple[str, FetchResult]]:
    """The file of an archive for each clip that is in it; every clip has its own link, which its task may delete."""
    path = fetched.path
    for number, (key, trimmed) in enumerate(clips):
        place = path.with_name(f"{path.stem}.{number}{path.suffix}") if path and number else path
        if path and place and number:
            _link(path, place)
        yield key, replace(fetched, path=place, trimmed=trimmed)


@contextlib.contextmanager
def _timed(seconds: dict[str, float], stage: str) -> Iterator[None]:
    began = time.monotonic()
    try:
        yield
    finally:
        seconds[stage] = seconds.get(stage, 0.0) + time.monotonic() - began


def versions(*others: str) -> str:
    """Names and versions of the tools that make a clip."""
    return "; ".join(filter(None, (f"kinetics-sounds {__version__}", f"ffmpeg {ffmpeg.version()}", *others)))
