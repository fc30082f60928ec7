"""`cvdf`: the public Kinetics-400 mirror, streamed as tar files (parts).

`cvdf` is the official location, `cvdf:URL` another server with the same layout below that URL, `cvdf:DIR` a folder of parts.
Clips are unordered within the parts, so a part is read once, sequentially, and the requested clips are written as they come; no
file name of an archive is used for writing.

The tar is parsed here rather than with tarfile, whose stream mode (3.11) takes a damaged or truncated header after the first
member for the end of the archive, silently losing clips; reads name records of any claimed length into memory; recurses once per
record in a row; and keeps an object for every member.
"""

import contextlib
import hashlib
import http.client
import itertools
import os
import re
import time
import urllib.error
from collections.abc import Container, Generator, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from ... import files, web
from ...clip import SPLITS, FetchResult, Kind, Status, parse_key
from ...errors import SourceError
from .. import PartError, TarPart, UnreachableError, absolute_folder, readable_folder, walk
from ..cvdf import tar_stream
from ..cvdf.common import BreakError, ChangedError
from ..cvdf.http_stream import Download
from ..cvdf.tar_stream import Tape

OFFICIAL = "https://s3.amazonaws.com/kinetics/400"
SUFFIXES = (".mp4", ".mkv", ".webm", ".avi")
"""Accepted containers; a clip's file keeps its extension, in lower case."""
ARCHIVES = (".tar", ".tar.gz", ".tgz")
"""Extensions of a folder's parts; the compression is detected from the first bytes."""

MAX_CLIP_BYTES = 512 << 20
MAX_CLIPS = 1_000_000
"""Maximum number of clips in a part; all parts together hold 300,000. Their keys are kept in memory."""
LIST_SECONDS = 60.0
"""Time limit of a download of a list of parts, which has a few thousand bytes."""
RESTARTS = 3
"""Number of restarts of a part whose file changed before it gave a clip."""
_REPLACEMENT = "replacement_for_corrupted"
_NOTICE = (
    "The mirror's parts hold clips of all classes: every part of the requested splits is streamed completely (the official "
    "three splits are 436 GB together) and only the wanted clips are kept."
)


def absolute(argument: str) -> str:
    """Absolute path of a folder; a URL unchanged."""
    return argument if _is_url(argument) else absolute_folder(argument)


def _is_url(argument: str) -> bool:
    return re.match(r"[a-z][a-z0-9+.-]*://", argument, flags=re.IGNORECASE) is not None


class Source:
    """The parts of one location."""

    versions = ""
    part_bytes = 436 * 10**9 // 301
    """Mean size of the official parts in bytes."""
    share: Mapping[str, float] = {"train": 240_258 / 246_534, "val": 19_881 / 19_906, "test": 38_685 / 39_805}
    """Fraction of the annotated clips that the official mirror holds."""

    def __init__(self, argument: str) -> None:
        """`argument`: empty, an http(s) URL or a folder; raises SourceError for another URL or if it is not a folder."""
        self.base, self.notice = OFFICIAL, _NOTICE
        self.downloaded = 0
        self.folder: Path | None = None
        self.named = web.host(OFFICIAL)
        if _is_url(argument):
            self.base = _quoted(argument.rstrip("/"))
            with contextlib.suppress(ValueError):  # which is what is wrong with it, and said below
                self.named = web.host(self.base)
            refusal = web.refusal(self.base, named=self.named)
            if refusal or self.base != _shown(self.base):
                refusal = refusal or "has a query or fragment (?… or #…), which a mirror's parts cannot have"
                raise SourceError(
                    f"--source cvdf:{_shown(argument)}: {refusal}; give the http(s) URL above the mirror's folders "
                    "train, val and test, or a folder on disk"
                )
        elif argument:
            self.notice = ""
            self.folder = readable_folder(argument, spec=f"cvdf:{argument}")

    def parts(self, splits: Iterable[str]) -> list[TarPart]:
        """The replacement archive if there is one, then the parts of these splits in the order of their lists.

        Raises SourceError for a list or folder that cannot be read or names no parts, UnreachableError if waiting may help.
        """
        wanted = list(splits)
        found = _on_disk(self.folder, wanted) if self.folder else _listed(self.base, wanted, named=self.named)
        return sorted(found, key=lambda part: not part.replacement)

    def stream(self, part: TarPart, wanted: Container[str], folder: Path) -> Iterator[tuple[str, FetchResult | None]]:
        """Read a part once; yields the key of each clip in it, with its file in `folder` if requested.

        A yielded file is complete and belongs to the caller, who may delete it before the next one. Each key is yielded once. An
        empty or oversized clip has the status corrupt and no file, unless the part also holds a sound copy. Raises PartError if
        the part ends early, after the clips before that point.
        """
        given: set[str] = set()
        try:
            for restart in itertools.count(1):
                chunks = self._download(part.place) if "://" in part.place else tar_stream.read_file(Path(part.place))
                try:
                    with contextlib.closing(chunks):
                        yield from _clips(Tape(tar_stream.unpacked(chunks)), wanted, folder, given)
                    return
                except ChangedError:
                    if given or restart > RESTARTS:
                        raise
        except BreakError as error:
            remedy = "its other clips are missing: run again"
            if error.status.kind is Kind.PERMANENT:
                remedy = "once it is fixed there, build again with --retry retry,corrupt"
            raise PartError(error.status, f"part {part.name} ({_shown(part.place)}): {error}; {remedy}") from error

    def _download(self, url: str) -> Generator[bytes, None, None]:
        """Bytes of a URL; all received bytes are counted, including repeated ones."""
        download = Download(url, named=self.named)
        try:
            yield from download
        finally:
            self.downloaded += download.received


def _on_disk(folder: Path, splits: Sequence[str]) -> list[TarPart]:
    """Archives below a folder, sorted by path; a folder named after a split holds clips of that split only."""
    found: list[TarPart] = []
    for place, names in walk(folder):
        for path in (Path(place, name) for name in sorted(names) if name.lower().endswith(ARCHIVES)):
            inside = path.relative_to(folder)
            split = next((name for name in reversed(inside.parts[:-1]) if name in SPLITS), None)
            replacement = path.name.startswith(_REPLACEMENT)
            if path.is_file() and (replacement or split is None or split in splits):
                found.append(TarPart(files.as_text(inside), str(path), None if replacement else split, replacement))
    if not found:
        raise SourceError(
            f"{folder}: has no part of {', '.join(splits)} (a file named *.tar, *.tar.gz or *.tgz); give the folder that "
            "the mirror's parts were downloaded to"
        )
    return found


def _listed(base: str, splits: Sequence[str], *, named: str) -> Iterator[TarPart]:
    """Parts named by each split's list, and the replacement archive."""
    for split in splits:
        place = f"{base}/{split}/k400_{split}_path.txt"
        urls: dict[str, str] = {}
        for line, url in enumerate(_urls_in(place, named=named), start=1):
            if not url:
                continue
            if refusal := web.refusal(url, named=named):
                raise SourceError(
                    f"{_shown(place)}:{line}: {_shown(url)!r} {refusal}; check that this is the list of parts"
                )
            name = f"{split}/{_shown(url).removeprefix(f'{base}/{split}/')}"
            if urls.setdefault(name, url) != url:  # told apart by the query alone, which may hold a secret
                urls[f"{name}?{hashlib.sha256(url.encode()).hexdigest()[:8]}"] = url
        if not urls:
            raise SourceError(f"{_shown(place)}: lists no part; leave {split} out with --splits, or use another mirror")
        yield from (TarPart(name, url, split, replacement=False) for name, url in urls.items())
    mended = f"{base}/{_REPLACEMENT}_k400.tgz"
    if not _absent(mended, named=named):
        yield TarPart(f"{_REPLACEMENT}_k400.tgz", mended, None, replacement=True)


def _urls_in(place: str, *, named: str) -> Iterator[str]:
    """Absolute URL on each line of a list; lines without one are skipped."""
    data = b""
    try:
        for chunk in web.with_progress(place, Download(place, named=named, ends=time.monotonic() + LIST_SECONDS)):
            data += chunk
            if len(data) > tar_stream.MAX_LIST_BYTES:
                raise BreakError(Status.CORRUPT, f"is larger than {tar_stream.MAX_LIST_BYTES >> 20} MiB")
        lines = [line.strip() for line in data.decode("utf-8-sig").splitlines()]
        if any(line.startswith("<") for line in lines):
            raise BreakError(Status.CORRUPT, "is a web page")
    except (BreakError, UnicodeDecodeError) as error:
        text = (
            f"{_shown(place)}: the list of parts cannot be read: {error}; check the address and the server, "
            "or download the parts and give their folder with --source cvdf:DIR"
        )
        if isinstance(error, BreakError) and _may_pass(error.status):
            raise UnreachableError(error.status, text) from error
        raise SourceError(text) from error
    for line in lines:
        try:
            yield urllib.parse.urljoin(place, _quoted(line)) if line and not line.startswith("#") else ""
        except ValueError:
            yield line


def _may_pass(status: Status) -> bool:
    """Whether a list may become available later: not after 404."""
    return status.is_refusal or (status.is_transient and status is not Status.HTTP_4XX)


def _absent(url: str, *, named: str) -> bool:
    """Whether the server says that there is no such file; if unsure, streaming it will show."""
    try:
        web.open_url(url, named=named, method="HEAD", ends=time.monotonic() + LIST_SECONDS).close()
    except urllib.error.HTTPError as error:
        return error.code in (404, 410)
    except (OSError, http.client.HTTPException):
        pass
    return False


def _quoted(url: str) -> str:
    """A URL in ASCII; existing quoting is kept."""
    return urllib.parse.quote(url, safe="%/:=&?~#+!$,;'@()*[]")


def _shown(place: str) -> str:
    """A location without its secrets."""
    return re.sub(r"(?<=://)[^/@]*@|[?#].*", "", place) if "://" in place else place


def _clips(
    tape: Tape, wanted: Container[str], folder: Path, given: set[str]
) -> Iterator[tuple[str, FetchResult | None]]:
    """Write and yield the requested clips that were not yielded yet, sound ones immediately and broken ones at the end.

    Keys of other clips are yielded without a file.
    """
    broken: dict[str, FetchResult] = {}
    count = 0
    for member in tar_stream.members(tape):
        key, suffix = os.path.splitext(member.name.rpartition(b"/")[2].decode("ascii", "replace"))  # noqa: PTH122
        if suffix.lower() not in SUFFIXES or parse_key(key) is None or key in given:
            continue
        count += 1
        if count > MAX_CLIPS:
            raise BreakError(Status.CORRUPT, f"it lists more than {MAX_CLIPS} clips, more than any part")
        if key not in wanted:
            yield key, None
            continue
        fault = ""
        if member.sparse:
            fault = "is stored as a sparse file, which is not supported"
        elif member.size > MAX_CLIP_BYTES:
            fault = f"has {member.size} bytes, more than {MAX_CLIP_BYTES >> 20} MiB"
        elif not member.size:
            fault = "is empty"
        if fault:
            broken[key] = FetchResult(status=Status.CORRUPT, detail=f"{key}{suffix} {fault}")
            continue
        path = folder / f"{key}{suffix.lower()}"
        _write(path, tape.take(member.size))
        given.add(key)
        yield key, FetchResult(status=Status.OK, path=path, trimmed=True)
    for key, fetched in broken.items():
        if key not in given:
            given.add(key)
            yield key, fetched


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
