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
import math
import os
import re
import time
import urllib.error
import urllib.parse
import zlib
from collections.abc import Container, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import stamina

from .. import files, web
from ..clip import SPLITS, Fetched, Kind, Status, parse_key
from ..errors import SourceError
from . import Part, PartError, UnreachableError, readable_folder, walk

OFFICIAL = "https://s3.amazonaws.com/kinetics/400"
SUFFIXES = (".mp4", ".mkv", ".webm", ".avi")
"""Containers that count; a clip's file gets the one it was stored under, in lower case."""
ARCHIVES = (".tar", ".tar.gz", ".tgz")
"""What a folder's parts end in; how a part is packed is told by its first bytes."""

MAX_CLIP_BYTES = 512 << 20
MAX_CLIPS = 1_000_000
"""A part that names more is none: there are three in ten of that in all. Their keys are kept in memory."""
MAX_EXPANSION, FREE_EXPANSION_BYTES = 20, 64 << 20
"""A gzip may grow this many times, and by this many bytes more. Videos do not shrink, so ours grow by next to nothing."""
CHUNK_BYTES = 256 << 10
MAX_PART_BYTES = 1 << 40
"""Bytes of a part, packed or unpacked: twice what all parts have together."""
MEMBER_SECONDS = 3600.0
"""Waiting for one member of a part, after which the part is given up: the largest clip needs 150 kB/s."""
LIST_SECONDS = 60.0
"""A list of parts has some thousand bytes: what takes longer is given up."""
ATTEMPTS = 6
"""Connections in a row that break before they bring `web.SLOW_BYTES`; then the part is given up."""
WAIT_SECONDS, MAX_WAIT_SECONDS = 1.0, 30.0
"""Before the second try; it doubles up to the other, with up to the first of jitter added."""
RESTARTS = 3
"""How often a part is begun again because its file changed before it gave a clip."""

GZIP = b"\x1f\x8b"
BLOCK_BYTES = 512
_RECORDS = (b"L", b"K", b"x", b"X", b"g")
"""Types of what is no member: long names and links of the next one, pax records of the next one or of all."""
_WITHOUT_BYTES = (b"1", b"2", b"3", b"4", b"5", b"6")
"""Links, devices, folders and pipes: no bytes follow them, whatever size they claim."""
_REPLACEMENT = "replacement_for_corrupted"
_PASSING = (Status.NETWORK, Status.TIMEOUT, Status.TRUNCATED, Status.HTTP_5XX, Status.RATE_LIMITED)
"""Why a list may be read later."""
_MAX_LIST_BYTES = _MAX_RECORD_BYTES = 1 << 20
_NOTICE = (
    "The mirror's parts hold clips of all classes: every part of the splits asked for is streamed whole (the official "
    "three splits are 436 GB together) and only the wanted clips are kept."
)


class _BreakError(Exception):
    """Why bytes stop, for whoever knows the part's name."""

    def __init__(self, status: Status, text: str) -> None:
        super().__init__(text)
        self.status = status


class _ChangedError(_BreakError):
    """The bytes from here on belong to another file than those before."""


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
        if re.match(r"[a-z][a-z0-9+.-]*://", argument, flags=re.IGNORECASE):
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

    def parts(self, splits: Iterable[str]) -> list[Part]:
        """The replacement archive where there is one, then the parts of these splits in the order of their lists.

        Raises SourceError for a list or folder that cannot be read or names no part, UnreachableError where waiting may help.
        """
        wanted = list(splits)
        found = _on_disk(self.folder, wanted) if self.folder else _listed(self.base, wanted, named=self.named)
        return sorted(found, key=lambda part: not part.replacement)

    def stream(self, part: Part, wanted: Container[str], folder: Path) -> Iterator[tuple[str, Fetched | None]]:
        """Read a part once and yield the key of each clip in it, with its file in `folder` where it is wanted.

        A file is whole when it is yielded, and then the caller's, to be deleted before the next is asked for if the disk
        is small. A key comes once. An empty or oversized clip has status corrupt and no file, unless the part holds
        a sound one too. Raises PartError when the part breaks off, after the clips before the break.
        """
        given: set[str] = set()
        try:
            for restart in itertools.count(1):
                chunks = self._download(part.place) if "://" in part.place else _read(Path(part.place))
                try:
                    with contextlib.closing(chunks):
                        yield from _clips(_Tape(_unpacked(chunks)), wanted, folder, given)
                    return
                except _ChangedError:
                    if given or restart > RESTARTS:
                        raise
        except _BreakError as error:
            remedy = "its other clips are still to come: run again"
            if error.status.kind is Kind.PERMANENT:
                remedy = "once it is mended there, build again with --retry retry,corrupt"
            raise PartError(error.status, f"part {part.name} ({_shown(part.place)}): {error}; {remedy}") from error

    def _download(self, url: str) -> Generator[bytes, None, None]:
        """The bytes of a URL; all that came is counted, also what came twice."""
        download = _Download(url, named=self.named)
        try:
            yield from download
        finally:
            self.downloaded += download.received


def _on_disk(folder: Path, splits: Sequence[str]) -> list[Part]:
    """The archives below a folder, sorted by path; a folder that is called as a split holds clips of that alone."""
    found: list[Part] = []
    for place, names in walk(folder):
        for path in (Path(place, name) for name in sorted(names) if name.lower().endswith(ARCHIVES)):
            inside = path.relative_to(folder)
            split = next((name for name in reversed(inside.parts[:-1]) if name in SPLITS), None)
            replacement = path.name.startswith(_REPLACEMENT)
            if path.is_file() and (replacement or split is None or split in splits):
                found.append(Part(files.as_text(inside), str(path), None if replacement else split, replacement))
    if not found:
        raise SourceError(
            f"{folder}: holds no part of {', '.join(splits)} (a file named *.tar, *.tar.gz or *.tgz); give the folder that "
            "the mirror's parts were downloaded to"
        )
    return found


def _listed(base: str, splits: Sequence[str], *, named: str) -> Iterator[Part]:
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
        yield from (Part(name, url, split, replacement=False) for name, url in urls.items())
    mended = f"{base}/{_REPLACEMENT}_k400.tgz"
    if not _absent(mended, named=named):
        yield Part(f"{_REPLACEMENT}_k400.tgz", mended, None, replacement=True)


def _urls_in(place: str, *, named: str) -> Iterator[str]:
    """The absolute URL on each line of a list; nothing for a line that has none."""
    data = b""
    try:
        for chunk in web.told(place, _Download(place, named=named, ends=time.monotonic() + LIST_SECONDS)):
            data += chunk
            if len(data) > _MAX_LIST_BYTES:
                raise _BreakError(Status.CORRUPT, f"is larger than {_MAX_LIST_BYTES >> 20} MiB")
        lines = [line.strip() for line in data.decode("utf-8-sig").splitlines()]
        if any(line.startswith("<") for line in lines):
            raise _BreakError(Status.CORRUPT, "is a web page")
    except (_BreakError, UnicodeDecodeError) as error:
        text = (
            f"{_shown(place)}: the list of parts cannot be read: {error}; see that the address is right and the server "
            "answers, or download the parts and give their folder with --source cvdf:DIR"
        )
        if isinstance(error, _BreakError) and error.status in _PASSING:
            raise UnreachableError(error.status, text) from error
        raise SourceError(text) from error
    for line in lines:
        try:
            yield urllib.parse.urljoin(place, _quoted(line)) if line and not line.startswith("#") else ""
        except ValueError:
            yield line


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


class _Download:
    """The bytes of a URL in order, over as many connections as that takes.

    A broken connection is taken up at the byte where it broke, if the server names the file's version (a strong ETag) and
    still has that version. Otherwise the file is read from its start again and what was had before is compared by
    its digest, so that a file that changed is never joined to what it was.
    """

    def __init__(self, url: str, *, named: str, ends: float = math.inf) -> None:
        self.url, self.named, self.ends = url, named, ends
        self.offset = 0  # bytes handed on
        self.digest = hashlib.sha256()  # of them
        self.position = 0  # of the connection in the file: less than offset where it is read again
        self.again = hashlib.sha256()  # of what it has read again
        self.total: int | None = None
        self.etag = ""
        self.barren, self.broken_at = 0, 0  # broken connections in a row that brought little, and where the last broke
        self.received = 0
        self.answer: http.client.HTTPResponse | None = None

    def __iter__(self) -> Generator[bytes, None, None]:
        """Raises _BreakError where the file cannot be had to its end."""
        try:
            while chunk := self._next():
                self.digest.update(chunk)
                self.offset += len(chunk)
                if self.offset > MAX_PART_BYTES:
                    raise _BreakError(Status.CORRUPT, f"it has more than {MAX_PART_BYTES} bytes, as no part does")
                yield chunk
        finally:
            self._hang_up()

    def _next(self) -> bytes:
        """The next bytes, none at the end."""
        chunk = b""
        try:
            for attempt in stamina.retry_context(
                on=self._may_pass,
                attempts=None,
                timeout=None,
                wait_initial=WAIT_SECONDS,
                wait_max=MAX_WAIT_SECONDS,
                wait_jitter=WAIT_SECONDS,
            ):
                with attempt:
                    try:
                        chunk = self._receive()
                    except Exception:
                        self._hang_up()
                        raise
        except (OSError, http.client.HTTPException) as error:
            raise _classified(error) from error
        return chunk

    def _may_pass(self, error: Exception) -> bool:
        """Whether another try may help."""
        self.barren = self.barren + 1 if self.offset - self.broken_at < web.SLOW_BYTES else 1
        self.broken_at = self.offset
        if isinstance(error, web.RefusedError) or time.monotonic() >= self.ends:
            return False
        if isinstance(error, urllib.error.HTTPError) and error.code == 416:
            self.etag = ""  # there is no such byte, so this is another file: read it again and see
        elif isinstance(error, urllib.error.HTTPError) and error.code not in (408, 429) and error.code < 500:
            return False
        return isinstance(error, (OSError, http.client.HTTPException, _BreakError)) and (
            not isinstance(error, _ChangedError) and self.barren < ATTEMPTS
        )

    def _hang_up(self) -> None:
        if self.answer is not None:
            self.answer.close()
            self.answer = None

    def _connect(self) -> http.client.HTTPResponse:
        resume = {"Range": f"bytes={self.offset}-", "If-Range": self.etag} if self.offset and self.etag else {}
        answer = self.answer = web.open_url(self.url, named=self.named, headers=resume, ends=self.ends)
        etag = answer.headers.get("ETag", "")
        if answer.status == http.HTTPStatus.PARTIAL_CONTENT:
            span = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", answer.headers.get("Content-Range", ""))
            total = int(span[2]) if span and span[2] != "*" else self.total
            if not resume or not span or (int(span[1]), etag, self.total or total) != (self.offset, self.etag, total):
                self.etag = ""  # a server that does not know what it sends: do not ask it for ranges again
                raise ConnectionError("the server answered another range than the one asked for")
            self.position, self.total = self.offset, total
        else:
            self.position, self.again = 0, hashlib.sha256()
            self.total = answer.length
            self.etag = etag if etag.startswith('"') else ""
        return answer

    def _receive(self) -> bytes:
        """Bytes from the connection that were not handed on before; none at the end of the file."""
        while True:
            answer = self.answer or self._connect()
            chunk = answer.read1(CHUNK_BYTES)
            self.received += len(chunk)
            known = min(len(chunk), self.offset - self.position)
            self.position += len(chunk)
            if not chunk and self.total is not None and self.position < self.total:
                raise _BreakError(Status.TRUNCATED, f"ends after {self.position} of {self.total} bytes")
            if known:
                self.again.update(memoryview(chunk)[:known])
                chunk = chunk[known:]
                if self.position >= self.offset and self.again.digest() != self.digest.digest():
                    raise _ChangedError(Status.TRUNCATED, "the file changed on the server while it was read")
            elif not chunk and self.position < self.offset:
                raise _ChangedError(Status.TRUNCATED, "the file became shorter on the server while it was read")
            if chunk or not known:
                return chunk


def _classified(error: OSError | http.client.HTTPException) -> _BreakError:
    """The status of what a server did; its own words are left out, since they may hold anything."""
    if isinstance(error, urllib.error.HTTPError):
        status = Status.HTTP_5XX if error.code >= 500 else Status.HTTP_4XX
        return _BreakError(
            Status.RATE_LIMITED if error.code == 429 else status, f"the server answers HTTP {error.code}"
        )
    if isinstance(error, web.RefusedError):
        return _BreakError(Status.HTTP_4XX, str(error))
    reason = getattr(error, "reason", error)
    if isinstance(reason, web.SlowError):
        return _BreakError(Status.TIMEOUT, f"the server is too slow: {reason}")
    if isinstance(reason, TimeoutError):
        return _BreakError(Status.TIMEOUT, "the server fell silent")
    return _BreakError(Status.NETWORK, f"the connection failed ({reason!r:.200})")


def _read(path: Path) -> Generator[bytes, None, None]:
    """The bytes of a file."""
    try:
        with path.open("rb", buffering=0) as data:
            while chunk := data.read(CHUNK_BYTES):
                yield chunk
    except OSError as error:
        status = Status.NOT_IN_SOURCE if isinstance(error, FileNotFoundError) else Status.TRUNCATED
        raise _BreakError(status, f"cannot be read: {error.strerror}") from error


def _unpacked(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """The bytes as they are, or unpacked where they begin as a gzip does."""
    head = b""
    for chunk in chunks:
        head += chunk
        if len(head) >= 2:
            break
    chunks = itertools.chain([head], chunks)
    return _gunzip(chunks) if head[:2] == GZIP else chunks


def _gunzip(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Unpack gzip members one after the other; what follows them and is none is passed over."""
    engine, data, taken, made = zlib.decompressobj(wbits=31), b"", 0, 0
    for chunk in chunks:
        taken += len(chunk)
        data += chunk
        while data:
            if engine.eof:
                if len(data) < 2:
                    break
                if data[:2] != GZIP:
                    for _ in chunks:  # to the end: a download that breaks here has still broken
                        pass
                    return
                engine = zlib.decompressobj(wbits=31)
            before = engine.copy()
            try:
                out = engine.decompress(data, CHUNK_BYTES)
            except zlib.error as error:
                yield _salvaged(before, data)
                raise _BreakError(Status.CORRUPT, f"the gzip is damaged ({error})") from error
            made += len(out)
            if made > MAX_EXPANSION * taken + FREE_EXPANSION_BYTES:
                raise _BreakError(Status.CORRUPT, f"the gzip grows more than {MAX_EXPANSION} times, as a bomb does")
            yield out
            data = engine.unused_data if engine.eof else engine.unconsumed_tail
    if not engine.eof:
        raise _BreakError(Status.TRUNCATED, "the gzip is cut off")


def _salvaged(engine: "zlib._Decompress", data: bytes) -> bytes:
    """What data unpacks to before its first fault."""
    out = bytearray()
    with contextlib.suppress(zlib.error):
        for at in range(len(data)):
            out += engine.decompress(data[at : at + 1])
    return bytes(out)


class _Tape:
    """Exact reads over chunks."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self.chunks = chunks
        self.chunk = memoryview(b"")
        self.position = 0
        self.waited = 0.0
        """Seconds since this was last set to 0; what the reader does between two reads is not counted."""

    def more(self) -> bool:
        """Whether any bytes follow; raises _BreakError where they are waited for longer than any member may take."""
        while not self.chunk:
            began = time.monotonic()
            chunk = next(self.chunks, None)
            self.waited += time.monotonic() - began
            if chunk and self.waited > MEMBER_SECONDS:
                raise _BreakError(
                    Status.TIMEOUT,
                    f"a member of the tar was not over after {self.waited:.0f} seconds, {self.position} bytes in",
                )
            if chunk is None:
                return False
            self.chunk = memoryview(chunk)
        return True

    def take(self, count: int) -> Iterator[memoryview]:
        """The next `count` bytes in pieces; raises _BreakError where there are fewer."""
        while count:
            if not self.more():
                raise _BreakError(Status.TRUNCATED, f"the tar is cut off after {self.position} bytes")
            piece, self.chunk = self.chunk[:count], self.chunk[count:]
            self.position += len(piece)
            count -= len(piece)
            yield piece

    def read(self, count: int) -> bytes:
        """The next `count` bytes."""
        return b"".join(self.take(count))

    def skip(self, count: int) -> None:
        """Pass over the next `count` bytes."""
        for _ in self.take(count):
            pass

    def drain(self) -> None:
        """Pass over all that follows."""
        while self.more():
            self.chunk = memoryview(b"")


@dataclass(frozen=True, slots=True)
class _Member:
    """A regular file in a tar."""

    name: bytes
    size: int
    sparse: bool
    """Stored without its holes, so its bytes are not the file's."""


def _members(tape: _Tape) -> Iterator[_Member]:
    """The regular files of a V7, ustar, GNU or pax tar; each may be taken from the tape, in whole or in part, or not.

    Raises _BreakError for a header that is none and for a tar without an end mark.
    """
    name, records = b"", dict[bytes, bytes]()
    while (header := tape.read(BLOCK_BYTES)) != bytes(BLOCK_BYTES):
        _check(header, tape.position - BLOCK_BYTES)
        kind, size = header[156:157], _number(header[124:136])
        if kind in _WITHOUT_BYTES:
            size = 0
        elif kind not in _RECORDS and b"size" in records:
            size = int(records[b"size"]) if re.fullmatch(rb"[0-9]{1,19}", records[b"size"]) else -1
        if size < 0 or (kind in _RECORDS and size > _MAX_RECORD_BYTES):
            raise _BreakError(Status.CORRUPT, f"the tar is damaged at byte {tape.position - BLOCK_BYTES}")
        more_holes = kind == b"S" and header[482]
        while more_holes:
            more_holes = tape.read(BLOCK_BYTES)[504]
        end = tape.position + size + -size % BLOCK_BYTES
        if end > MAX_PART_BYTES:
            raise _BreakError(
                Status.CORRUPT,
                f"a member claims {size} bytes at byte {tape.position - BLOCK_BYTES}, more than a part may have",
            )
        tape.waited = 0.0
        if kind == b"L":
            name = tape.read(size).partition(b"\0")[0]
        elif kind in (b"x", b"X"):
            records = _records(tape.read(size))
        elif kind not in _RECORDS:
            if kind in (b"0", b"\0", b"7", b"S"):
                sparse = kind == b"S" or any(key.startswith(b"GNU.sparse") for key in records)
                long_name = records.get(b"GNU.sparse.name") or records.get(b"path") or name
                yield _Member(long_name or header[:100].partition(b"\0")[0], size, sparse)
            name, records = b"", {}
        tape.skip(end - tape.position)
    if tape.more() and tape.read(BLOCK_BYTES) != bytes(BLOCK_BYTES):
        raise _BreakError(Status.CORRUPT, "the tar goes on after its end mark")
    tape.drain()


def _check(header: bytes, position: int) -> None:
    """Raise _BreakError unless the header's checksum is right, summed as unsigned or, as some old tars did, signed."""
    blank = header[:148] + b" " * 8 + header[156:]
    stored, total = _number(header[148:156]), sum(blank)
    if stored not in (total, total - 256 * sum(byte > 127 for byte in blank)):
        what = "is neither a tar nor a gzip of one" if position == 0 else f"the tar is damaged at byte {position}"
        raise _BreakError(Status.CORRUPT, what)


def _number(field: bytes) -> int:
    """A header's number: octal, or in base 256 where it begins with the byte 0x80; -1 where it is none."""
    if field[:1] == b"\x80":
        return int.from_bytes(field[1:], "big")
    digits = field.partition(b"\0")[0].strip() or b"0"
    return int(digits, 8) if re.fullmatch(rb"[0-7]+", digits) else -1


def _records(data: bytes) -> dict[bytes, bytes]:
    """The records of a pax header, `LENGTH KEY=VALUE` and a line feed each."""
    records, at = dict[bytes, bytes](), 0
    while at < len(data) and data[at]:
        found = re.compile(rb"([0-9]{1,7}) ([^=\n]+)=").match(data, at)
        end = at + int(found[1]) if found else 0
        if found is None or end <= found.end() or data[end - 1 : end] != b"\n":
            raise _BreakError(Status.CORRUPT, "a pax header is damaged")
        records[found[2]], at = data[found.end() : end - 1], end
    return records


def _clips(tape: _Tape, wanted: Container[str], folder: Path, given: set[str]) -> Iterator[tuple[str, Fetched | None]]:
    """Write and yield the wanted clips that are not given yet, sound ones as they come and broken ones at the end.

    The others' keys come without a file.
    """
    broken: dict[str, Fetched] = {}
    count = 0
    for member in _members(tape):
        key, suffix = os.path.splitext(member.name.rpartition(b"/")[2].decode("ascii", "replace"))  # noqa: PTH122
        if suffix.lower() not in SUFFIXES or parse_key(key) is None or key in given:
            continue
        count += 1
        if count > MAX_CLIPS:
            raise _BreakError(Status.CORRUPT, f"it names more than {MAX_CLIPS} clips, as no part does")
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
            broken[key] = Fetched(status=Status.CORRUPT, detail=f"{key}{suffix} {fault}")
            continue
        path = folder / f"{key}{suffix.lower()}"
        _write(path, tape.take(member.size))
        given.add(key)
        yield key, Fetched(status=Status.OK, path=path, trimmed=True)
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
            raise _BreakError(Status.DISK_FULL, f"{path.parent}: the disk is full") from error
        raise SourceError(f"{path.parent}: cannot be written to: {error.strerror}; give a folder that can") from error
    finally:
        part.unlink(missing_ok=True)
