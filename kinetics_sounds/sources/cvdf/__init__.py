"""`cvdf`: the public Kinetics-400 mirror, read as a stream of tar parts.

`cvdf` is the official place, `cvdf:URL` another server with the same layout below that URL, `cvdf:DIR` a folder of parts.
Clips lie in the parts in no order, so a part is read once, from end to end, and the wanted clips are written as they
come; nothing is unpacked by the names that an archive gives.

The tar is walked here and not by tarfile, whose stream mode (3.11) takes a damaged or cut-off header after the first
member for the end of the archive, so that clips are lost without a word; reads name records of whatever length they
claim into memory; recurses once for each record in a row; and keeps an object for every member it has passed.
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
"""Containers that count; a clip's file gets the one it was stored under, in lower case."""
ARCHIVES = (".tar", ".tar.gz", ".tgz")
"""What a folder's parts end in; how a part is packed is told by its first bytes."""

MAX_CLIP_BYTES = 512 << 20
MAX_CLIPS = 1_000_000
"""A part that names more is none: there are three in ten of that in all. Their keys are kept in memory."""
LIST_SECONDS = 60.0
"""A list of parts has some thousand bytes: what takes longer is given up."""
RESTARTS = 3
"""How often a part is begun again because its file changed before it gave a clip."""
_REPLACEMENT = "replacement_for_corrupted"
_NOTICE = (
    "The mirror's parts hold clips of all classes: every part of the splits asked for is streamed whole (the official "
    "three splits are 436 GB together) and only the wanted clips are kept."
)


def absolute(argument: str) -> str:
    """A folder's path for whoever works in another one; a URL as it is."""
    return argument if _is_url(argument) else absolute_folder(argument)


def _is_url(argument: str) -> bool:
    return re.match(r"[a-z][a-z0-9+.-]*://", argument, flags=re.IGNORECASE) is not None


class Source:
    """The parts of one place."""

    versions = ""
    part_bytes = 436 * 10**9 // 301
    """The official parts' mean."""
    share: Mapping[str, float] = {"train": 240_258 / 246_534, "val": 19_881 / 19_906, "test": 38_685 / 39_805}
    """What the official mirror holds of what is annotated."""

    def __init__(self, argument: str) -> None:
        """`argument` is empty, an http(s) URL or a folder; raise SourceError for another URL and for what is no folder."""
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
                refusal = refusal or "has a query or fragment (?… or #…), which no part of a mirror is asked with"
                raise SourceError(
                    f"--source cvdf:{_shown(argument)}: {refusal}; give the http(s) URL below which the mirror's folders "
                    "train, val and test lie, or a folder on disk"
                )
        elif argument:
            self.notice = ""
            self.folder = readable_folder(argument, spec=f"cvdf:{argument}")

    def parts(self, splits: Iterable[str]) -> list[TarPart]:
        """The replacement archive where there is one, then the parts of these splits in the order of their lists.

        Raises SourceError for a list or folder that cannot be read or names no part, UnreachableError where waiting may help.
        """
        wanted = list(splits)
        found = _on_disk(self.folder, wanted) if self.folder else _listed(self.base, wanted, named=self.named)
        return sorted(found, key=lambda part: not part.replacement)

    def stream(self, part: TarPart, wanted: Container[str], folder: Path) -> Iterator[tuple[str, FetchResult | None]]:
        """Read a part once and yield the key of each clip in it, with its file in `folder` where it is wanted.

        A file is whole when it is yielded, and then the caller's, to be deleted before the next is asked for if the disk
        is small. A key comes once. An empty or oversized clip has status corrupt and no file, unless the part holds
        a sound one too. Raises PartError when the part breaks off, after the clips before the break.
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
            remedy = "its other clips are still to come: run again"
            if error.status.kind is Kind.PERMANENT:
                remedy = "once it is mended there, build again with --retry retry,corrupt"
            raise PartError(error.status, f"part {part.name} ({_shown(part.place)}): {error}; {remedy}") from error

    def _download(self, url: str) -> Generator[bytes, None, None]:
        """The bytes of a URL; all that came is counted, also what came twice."""
        download = Download(url, named=self.named)
        try:
            yield from download
        finally:
            self.downloaded += download.received


def _on_disk(folder: Path, splits: Sequence[str]) -> list[TarPart]:
    """The archives below a folder, sorted by path; a folder that is called as a split holds clips of that alone."""
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
            f"{folder}: holds no part of {', '.join(splits)} (a file named *.tar, *.tar.gz or *.tgz); give the folder that "
            "the mirror's parts were downloaded to"
        )
    return found


def _listed(base: str, splits: Sequence[str], *, named: str) -> Iterator[TarPart]:
    """The parts that each split's list names, and the replacement archive."""
    for split in splits:
        place = f"{base}/{split}/k400_{split}_path.txt"
        urls: dict[str, str] = {}
        for line, url in enumerate(_urls_in(place, named=named), start=1):
            if not url:
                continue
            if refusal := web.refusal(url, named=named):
                raise SourceError(
                    f"{_shown(place)}:{line}: {_shown(url)!r} {refusal}; see that this is the list of parts"
                )
            name = f"{split}/{_shown(url).removeprefix(f'{base}/{split}/')}"
            if urls.setdefault(name, url) != url:  # told apart by the query alone, which may hold a secret
                urls[f"{name}?{hashlib.sha256(url.encode()).hexdigest()[:8]}"] = url
        if not urls:
            raise SourceError(f"{_shown(place)}: names no part; leave {split} out with --splits, or use another mirror")
        yield from (TarPart(name, url, split, replacement=False) for name, url in urls.items())
    mended = f"{base}/{_REPLACEMENT}_k400.tgz"
    if not _absent(mended, named=named):
        yield TarPart(f"{_REPLACEMENT}_k400.tgz", mended, None, replacement=True)


def _urls_in(place: str, *, named: str) -> Iterator[str]:
    """The absolute URL on each line of a list; nothing for a line that has none."""
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
            f"{_shown(place)}: the list of parts cannot be read: {error}; see that the address is right and the server "
            "answers, or download the parts and give their folder with --source cvdf:DIR"
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
    """Whether a list may be read later: a server that has none (404) is waited for in vain."""
    return status.is_refusal or (status.is_transient and status is not Status.HTTP_4XX)


def _absent(url: str, *, named: str) -> bool:
    """Whether the server says that there is no such file; where it says neither, streaming it will tell."""
    try:
        web.open_url(url, named=named, method="HEAD", ends=time.monotonic() + LIST_SECONDS).close()
    except urllib.error.HTTPError as error:
        return error.code in (404, 410)
    except (OSError, http.client.HTTPException):
        pass
    return False


def _quoted(url: str) -> str:
    """A URL in ASCII; what is quoted already stays so."""
    return urllib.parse.quote(url, safe="%/:=&?~#+!$,;'@()*[]")


def _shown(place: str) -> str:
    """A place without what may be a secret in it."""
    return re.sub(r"(?<=://)[^/@]*@|[?#].*", "", place) if "://" in place else place


def _clips(
    tape: Tape, wanted: Container[str], folder: Path, given: set[str]
) -> Iterator[tuple[str, FetchResult | None]]:
    """Write and yield the wanted clips that are not given yet, sound ones as they come and broken ones at the end.

    The others' keys come without a file.
    """
    broken: dict[str, FetchResult] = {}
    count = 0
    for member in tar_stream.members(tape):
        key, suffix = os.path.splitext(member.name.rpartition(b"/")[2].decode("ascii", "replace"))  # noqa: PTH122
        if suffix.lower() not in SUFFIXES or parse_key(key) is None or key in given:
            continue
        count += 1
        if count > MAX_CLIPS:
            raise BreakError(Status.CORRUPT, f"it names more than {MAX_CLIPS} clips, as no part does")
        if key not in wanted:
            yield key, None
            continue
        fault = ""
        if member.sparse:
            fault = "is stored without its holes, which is not read"
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
    """Write a file that has its name only once it is whole."""
    part = path.with_name(f"{path.name}.{os.getpid()}{files.PART}")
    try:
        with part.open("wb") as out:
            for piece in pieces:
                out.write(piece)
        part.replace(path)
    except OSError as error:
        if error.errno in files.FULL:
            raise BreakError(Status.DISK_FULL, f"{path.parent}: the disk is full") from error
        raise SourceError(f"{path.parent}: cannot be written to: {error.strerror}; give a folder that can") from error
    finally:
        part.unlink(missing_ok=True)
