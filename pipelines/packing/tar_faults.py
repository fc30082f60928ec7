"""Contradictions between a tar, its headers and its index, member by member."""

import re
import zlib
from collections.abc import Iterator
from itertools import chain, islice
from pathlib import Path
from typing import IO

from kinetics_sounds import files
from kinetics_sounds.shards.index import Index
from kinetics_sounds.shards.writer import BLOCK

MOST_FOREIGN = 20
"""Maximum number of foreign members listed per tar: each 512 bytes of garbage may be one."""

_OCTAL = re.compile(rb"([0-7]+)[ \0]*")


def tar_faults(path: Path, made: Index) -> Iterator[tuple[str, str]]:
    """Contradictions between a tar's headers, its bytes and the index."""
    size = path.stat().st_size
    if size != made.bytes:
        fault = "cut short" if size < made.bytes else "too long"
        yield "", f"is {fault}: {size} bytes, but {made.bytes} according to its index"
    whole = True
    with path.open("rb") as file:
        for key, what in _member_faults(file, size, made):
            whole = False
            yield key, what
    if whole and size == made.bytes and files.sha256(path) != made.sha256:
        yield "", "was changed between or after its samples: its SHA-256 differs from its index"


def _member_faults(file: IO[bytes], size: int, made: Index) -> Iterator[tuple[str, str]]:
    """Faults of the members: position, name, content, and foreign data."""
    rows = zip(made.keys, made.offsets, made.sizes, made.crcs, strict=True)
    places = ((key, *each) for key, *row in rows for each in zip(made.parts, *row, strict=True))
    position, gaps = 0, list[tuple[int, int]]()
    for key, part, offset, length, crc in sorted(places, key=lambda place: place[2]):
        if offset - BLOCK < position:
            yield key, f"its {part} overlaps the part before it, according to its index"
            continue
        gaps.append((position, min(offset - BLOCK, size)))
        position = offset + -(-length // BLOCK) * BLOCK
        if offset + length > size:
            yield key, f"its {part} is truncated"
            continue
        file.seek(offset - BLOCK)
        header, data = file.read(BLOCK), file.read(length)
        if wrong := _wrong(header, f"{key}.{part}", length):
            yield key, f"the header of its {part} {wrong}"
        elif zlib.crc32(data) != crc:
            yield key, f"its {part} is damaged"
    strangers = chain.from_iterable(_foreign_members(file, *gap) for gap in (*gaps, (position, size)))
    for name in islice(strangers, MOST_FOREIGN):
        yield "", f"contains {name!r}, which is not in its index: do not open it"
    if next(strangers, None) is not None:
        yield "", "contains further data that are not in its index"


def _foreign_members(file: IO[bytes], position: int, end: int) -> Iterator[str]:
    """Names of members between two positions of a tar that should hold only zeros."""
    while position < end:
        file.seek(position)
        header = file.read(BLOCK)
        position += BLOCK
        if header.strip(b"\0"):
            length = _OCTAL.match(header[124:136])
            position += -(-int(length[1], 8) // BLOCK) * BLOCK if length else 0
            yield _name(header)


def _wrong(header: bytes, name: str, size: int) -> str:
    """What is wrong with a USTAR header, for a regular file of this name and size."""
    length = _OCTAL.match(header[124:136])
    if header[148:156] != b"%06o\0 " % (sum(header[:148]) + 8 * ord(" ") + sum(header[156:])):
        return "is damaged"
    if _name(header) != name:
        return f"has the name {_name(header)!r}"
    if header[156:157] != b"0" or header[157:257].strip(b"\0") or header[257:265] != b"ustar\x0000":
        return "is not that of a regular USTAR file"
    return "" if length and int(length[1], 8) == size else f"does not give {size} bytes"


def _name(header: bytes) -> str:
    folder, name = (
        field.rstrip(b"\0").decode("ascii", "backslashreplace") for field in (header[345:500], header[:100])
    )
    return f"{folder}/{name}" if folder else name
