"""Sequential tar reader that tolerates damage."""

import contextlib
import itertools
import re
import time
import zlib
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path

from ..clip import Status
from . import common
from .common import BreakError

MAX_EXPANSION, FREE_EXPANSION_BYTES = 20, 64 << 20
"""Limits of gzip expansion: this factor, plus this many bytes. Videos hardly compress, so valid parts expand little."""
MEMBER_SECONDS = 3600.0
"""Maximum waiting time for one member in seconds; the largest clip of the mirror needs 150 kB/s, one of 8 GiB 2.4 MB/s."""

GZIP = b"\x1f\x8b"
BLOCK_BYTES = 512
_RECORDS = (b"L", b"K", b"x", b"X", b"g")
"""Record types that are not members: long names and links of the next member, pax headers of the next one or of all."""
_WITHOUT_BYTES = (b"1", b"2", b"3", b"4", b"5", b"6")
"""Links, devices, folders and pipes: no data follow, whatever size they claim."""
MAX_RECORD_BYTES = 1 << 20


def read_file(path: Path) -> Generator[bytes, None, None]:
    """Bytes of a file."""
    try:
        with path.open("rb", buffering=0) as data:
            while chunk := data.read(common.CHUNK_BYTES):
                yield chunk
    except OSError as error:
        status = Status.NOT_IN_SOURCE if isinstance(error, FileNotFoundError) else Status.TRUNCATED
        raise BreakError(status, f"cannot be read: {error.strerror}") from error


def unpacked(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """The bytes, decompressed if they begin like a gzip file."""
    head = b""
    for chunk in chunks:
        head += chunk
        if len(head) >= 2:
            break
    chunks = itertools.chain([head], chunks)
    return _gunzip(chunks) if head[:2] == GZIP else chunks


def _gunzip(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Decompress consecutive gzip members; trailing data are ignored."""
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
                out = engine.decompress(data, common.CHUNK_BYTES)
            except zlib.error as error:
                yield _salvaged(before, data)
                raise BreakError(Status.CORRUPT, f"the gzip is damaged ({error})") from error
            made += len(out)
            if made > MAX_EXPANSION * taken + FREE_EXPANSION_BYTES:
                raise BreakError(
                    Status.CORRUPT, f"the gzip expands more than {MAX_EXPANSION} times, like a decompression bomb"
                )
            yield out
            data = engine.unused_data if engine.eof else engine.unconsumed_tail
    if not engine.eof:
        raise BreakError(Status.TRUNCATED, "the gzip is cut off")


def _salvaged(engine: "zlib._Decompress", data: bytes) -> bytes:
    """Data decompressed before the first error."""
    out = bytearray()
    with contextlib.suppress(zlib.error):
        for at in range(len(data)):
            out += engine.decompress(data[at : at + 1])
    return bytes(out)


class Tape:
    """Exact reads over an iterator of chunks."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self.chunks = chunks
        self.chunk = memoryview(b"")
        self.position = 0
        self.waited = 0.0
        """Seconds of waiting since this was last set to 0, without the reader's own time between two reads."""

    def more(self) -> bool:
        """Whether any bytes follow; raises BreakError after `MEMBER_SECONDS` of waiting."""
        while not self.chunk:
            began = time.monotonic()
            chunk = next(self.chunks, None)
            self.waited += time.monotonic() - began
            if chunk and self.waited > MEMBER_SECONDS:
                raise BreakError(
                    Status.TIMEOUT,
                    f"a member of the tar was incomplete after {self.waited:.0f} seconds, {self.position} bytes in",
                )
            if chunk is None:
                return False
            self.chunk = memoryview(chunk)
        return True

    def take(self, count: int) -> Iterator[memoryview]:
        """The next `count` bytes in pieces; raises BreakError if there are fewer."""
        while count:
            if not self.more():
                raise BreakError(Status.TRUNCATED, f"the tar is truncated after {self.position} bytes")
            piece, self.chunk = self.chunk[:count], self.chunk[count:]
            self.position += len(piece)
            count -= len(piece)
            yield piece

    def read(self, count: int) -> bytes:
        """The next `count` bytes."""
        return b"".join(self.take(count))

    def skip(self, count: int) -> None:
        """Skip the next `count` bytes."""
        for _ in self.take(count):
            pass

    def drain(self) -> None:
        """Skip the rest."""
        while self.more():
            self.chunk = memoryview(b"")


@dataclass(frozen=True, slots=True)
class Member:
    """A regular file in a tar."""

    name: bytes
    size: int
    sparse: bool
    """Whether it is stored as a sparse file, so that the stored bytes are not the file's."""


def members(tape: Tape) -> Iterator[Member]:
    """Regular files of a V7, ustar, GNU or pax tar; the caller may read each completely, partly or not at all.

    Raises BreakError for an invalid header and for a tar without an end mark.
    """
    name, records = b"", dict[bytes, bytes]()
    while (header := tape.read(BLOCK_BYTES)) != bytes(BLOCK_BYTES):
        _check(header, tape.position - BLOCK_BYTES)
        kind, size = header[156:157], _number(header[124:136])
        if kind in _WITHOUT_BYTES:
            size = 0
        elif kind not in _RECORDS and b"size" in records:
            size = int(records[b"size"]) if re.fullmatch(rb"[0-9]{1,19}", records[b"size"]) else -1
        if size < 0 or (kind in _RECORDS and size > MAX_RECORD_BYTES):
            raise BreakError(Status.CORRUPT, f"the tar is damaged at byte {tape.position - BLOCK_BYTES}")
        more_holes = kind == b"S" and header[482]
        while more_holes:
            more_holes = tape.read(BLOCK_BYTES)[504]
        end = tape.position + size + -size % BLOCK_BYTES
        if end > common.MAX_PART_BYTES:
            raise BreakError(
                Status.CORRUPT,
                f"a member claims {size} bytes at byte {tape.position - BLOCK_BYTES}, more than is accepted",
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
                yield Member(long_name or header[:100].partition(b"\0")[0], size, sparse)
            name, records = b"", {}
        tape.skip(end - tape.position)
    if tape.more() and tape.read(BLOCK_BYTES) != bytes(BLOCK_BYTES):
        raise BreakError(Status.CORRUPT, "the tar continues after its end mark")
    tape.drain()


def _check(header: bytes, position: int) -> None:
    """Raise BreakError unless the header's checksum is right, summed as unsigned or, as some old tars did, signed bytes."""
    blank = header[:148] + b" " * 8 + header[156:]
    stored, total = _number(header[148:156]), sum(blank)
    if stored not in (total, total - 256 * sum(byte > 127 for byte in blank)):
        what = "is neither a tar nor a gzip of one" if position == 0 else f"the tar is damaged at byte {position}"
        raise BreakError(Status.CORRUPT, what)


def _number(field: bytes) -> int:
    """Number in a header field: octal, or base 256 if it begins with the byte 0x80; -1 if invalid."""
    if field[:1] == b"\x80":
        return int.from_bytes(field[1:], "big")
    digits = field.partition(b"\0")[0].strip() or b"0"
    return int(digits, 8) if re.fullmatch(rb"[0-7]+", digits) else -1


def _records(data: bytes) -> dict[bytes, bytes]:
    """Records of a pax header, `LENGTH KEY=VALUE` and a line feed each."""
    records, at = dict[bytes, bytes](), 0
    while at < len(data) and data[at]:
        found = re.compile(rb"([0-9]{1,7}) ([^=\n]+)=").match(data, at)
        end = at + int(found[1]) if found else 0
        if found is None or end <= found.end() or data[end - 1 : end] != b"\n":
            raise BreakError(Status.CORRUPT, "a pax header is damaged")
        records[found[2]], at = data[found.end() : end - 1], end
    return records
