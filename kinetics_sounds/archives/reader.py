"""Take the requested clips out of archives: each is read once, and nothing of it is stored but these clips."""

import contextlib
import hashlib
import itertools
import os
import time
from collections import Counter
from collections.abc import Callable, Container, Generator, Iterator
from dataclasses import dataclass
from pathlib import Path

from .. import files, redact
from ..clip import KEY, FetchResult, Kind, Status
from ..clip_names import tail
from ..errors import SourceError
from . import PartError, TarPart, UnfinishedError, remote_stream, tar_stream
from .common import BreakError, ChangedError
from .http_stream import Download
from .tar_stream import Tape

MAX_CLIPS = 1_000_000
"""Maximum number of clips in a part. Their names are kept in memory."""
MAX_NAMES_CHARS = 128 << 20
"""Maximum total length of these names."""
RESTARTS = 3
"""Number of restarts of a part whose file changed before it gave a clip."""
READ_SECONDS = 5 * 3600.0
"""A reading ends at the first member after this many seconds of new members."""
READ_BYTES = 32 << 30
"""A reading ends at the first member after this many bytes of clips' files, which all wait on disk until it ends."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """How the archives of a source hold clips."""

    member: Callable[[bytes], tuple[str, str] | None]
    """Name of the member with this path, and the extension of its file; None if it is not a clip."""
    depth: int = 1
    """Number of components at the end of a member's name that are the clip's name."""
    max_bytes: int
    """Maximum size of a clip's file in bytes."""
    copies: int = 1
    """Maximum number of files of one name that are given, since the first may be damaged."""


class ArchiveReader:
    """Reads the archives of a source, one at a time."""

    versions = ""

    def __init__(self, layout: Layout, *, host: str) -> None:
        """`host` is the host named by the user, as returned by `web.host`; empty for files on disk."""
        self.layout, self.host = layout, host
        self.downloaded = 0
        """Bytes of parts downloaded so far."""
        self.written = 0
        """Bytes of clips' files written since a part was begun."""

    @property
    def depth(self) -> int:
        """Number of components at the end of a member's name that are the clip's name."""
        return self.layout.depth

    def stream(self, part: TarPart, wanted: Container[str], folder: Path) -> Iterator[tuple[str, FetchResult | None]]:
        """Read a part once; yields the name of each clip's file in it, with the file in `folder` if it is wanted.

        The end of the yielded name (`depth` components) is compared with `wanted`. A yielded file is complete and belongs to the
        caller, who may delete it before the next one. Each wanted clip is yielded with a file once, or as often as the part holds
        it, at most `Layout.copies` times. An empty or oversized clip has the status corrupt and no file, unless the part also
        holds another copy. Raises PartError if the part ends early, after the clips before that point; UnfinishedError if
        another reading must continue there.
        """
        given: Counter[str] = Counter()
        try:
            for restart in itertools.count(1):
                chunks = self._chunks(part.place)
                try:
                    with contextlib.closing(chunks):
                        yield from self._clips(part, Tape(tar_stream.unpacked(chunks)), wanted, folder, given)
                    return
                except ChangedError:
                    if given or restart > RESTARTS:
                        raise
        except BreakError as error:
            remedy = "its other clips are missing: run again"
            if error.status.kind is Kind.PERMANENT:
                remedy = "once it is fixed there, build again with --retry retry,corrupt"
            cut_off = "://" not in part.place and error.status is Status.TRUNCATED and error.__cause__ is None
            if cut_off:
                remedy = "copy it again, then run the same command"
            told = PartError(error.status, f"part {part.name} ({redact.bare(part.place)}): {error}; {remedy}")
            told.lasts = cut_off
            raise told from error

    def _chunks(self, place: str) -> Generator[bytes, None, None]:
        """Bytes of a part; all received bytes are counted, including repeated ones."""
        if "://" not in place:
            yield from tar_stream.read_file(Path(place))
        elif remote_stream.is_remote(place):
            for chunk in remote_stream.read(place):
                self.downloaded += len(chunk)
                yield chunk
        else:
            download = Download(place, named=self.host)
            try:
                yield from download
            finally:
                self.downloaded += download.received

    def _clips(
        self, part: TarPart, tape: Tape, wanted: Container[str], folder: Path, given: Counter[str]
    ) -> Iterator[tuple[str, FetchResult | None]]:
        """Write and yield the requested clips, sound ones immediately and broken ones at the end.

        Names of other clips are yielded without a file. `given`: number of files by name.
        """
        broken: dict[str, tuple[str, FetchResult]] = {}
        count, chars = 0, 0
        for member, new in self._members(part, tape):
            found = self.layout.member(member.name)
            if found is None:
                continue
            (full, suffix), name = found, tail(found[0], self.layout.depth)
            count, chars = count + 1, chars + len(full)
            if count > MAX_CLIPS or chars > MAX_NAMES_CHARS:
                raise BreakError(Status.CORRUPT, f"it lists more than {MAX_CLIPS} clips, more than any part")
            if name not in wanted:
                yield full, None
                continue
            if given[name] >= self.layout.copies:
                if full != name:  # which was yielded already
                    yield full, None
                continue
            if fault := self._fault(member):
                broken[name] = full, FetchResult(status=Status.CORRUPT, detail=f"{name}{suffix} {fault}")
                continue
            path = folder / f"{_file_name(name, given[name] + 1)}{suffix.lower()}"
            if new:
                _write(path, tape.take(member.size))
                self.written += member.size
            given[name] += 1
            yield full, FetchResult(status=Status.OK, path=path) if new else None
        for name, (full, fetched) in broken.items():
            if not given[name]:
                yield full, fetched

    def _members(self, part: TarPart, tape: Tape) -> Iterator[tuple[tar_stream.Member, bool]]:
        """Members of a part, each with whether no earlier reading gave it; at least one new member, if there is any.

        Raises UnfinishedError at the first member beyond `READ_SECONDS` or `READ_BYTES`.
        """
        began: float | None = None
        self.written = 0
        for member in tar_stream.members(tape):
            new, now = tape.position >= part.start, time.monotonic()
            if new and began is not None and (now - began >= READ_SECONDS or self.written >= READ_BYTES):
                text = f"part {part.name} ({redact.bare(part.place)}): was not read to its end yet; run again"
                raise UnfinishedError(Status.NOT_TRIED, text, tape.position)
            if new and began is None:
                began = now
            yield member, new

    def _fault(self, member: tar_stream.Member) -> str:
        """Why a clip is not written; empty if it is."""
        if member.sparse:
            return "is stored as a sparse file, which is not supported"
        if member.size > self.layout.max_bytes:
            return f"has {member.size} bytes, more than {self.layout.max_bytes >> 20} MiB"
        return "" if member.size else "is empty"


def _file_name(name: str, copy: int) -> str:
    """Safe file name for a clip's name and the number of its copy: the first of a name like a key has this name itself."""
    safe = name if KEY.fullmatch(name) else hashlib.sha256(name.encode()).hexdigest()
    return safe if copy == 1 else f"{safe}.copy{copy}"


def _write(path: Path, pieces: Iterator[memoryview]) -> None:
    """Write a file atomically."""
    part = path.with_name(f"{path.name}.{os.getpid()}{files.PART}")
    try:
        with part.open("wb") as out:
            for piece in pieces:
                out.write(piece)
        part.replace(path)
    except OSError as error:
        if error.errno in files.FULL:
            raise BreakError(Status.DISK_FULL, f"{path.parent}: the disk is full") from error
        raise SourceError(f"{path.parent}: is not writable: {error.strerror}; give another folder") from error
    finally:
        part.unlink(missing_ok=True)
