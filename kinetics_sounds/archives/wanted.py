"""Requested clips by the names of their files in archives."""

import functools
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Self

from ..clip_names import tail

_WORDS: dict[bool | None, str] = {True: "trimmed", False: "whole", None: "unknown"}
_VALUES = {word: trimmed for trimmed, word in _WORDS.items()}


class Wanted:
    """Requested clips by name; contains a name if it is that of a requested clip's file."""

    def __init__(self, names: Iterable[tuple[str, Mapping[str, bool | None]]], *, depth: int) -> None:
        """`names`: each clip's key with the names of its file, and whether that would be trimmed; `depth`: their components."""
        self.depth = depth
        self._clips: dict[str, list[tuple[str, bool | None]]] = {}
        for key, its_names in names:
            for name, trimmed in its_names.items():
                self._clips.setdefault(name, []).append((key, trimmed))

    def __contains__(self, name: object) -> bool:
        return name in self._clips

    def clips(self, member: str) -> Iterator[tuple[str, bool | None]]:
        """Keys of the clips in a file by the name of its member in an archive, each with whether it is trimmed for that clip."""
        yield from self._clips.get(tail(member, self.depth), ())

    def write(self, path: Path) -> None:
        """Write all of it to a file, one name and clip per line."""
        with path.open("w", encoding="utf-8") as out:
            for name, clips in self._clips.items():
                out.writelines(f"{name}\t{key}\t{_WORDS[trimmed]}\n" for key, trimmed in clips)

    @classmethod
    def read(cls, path: Path, *, depth: int) -> Self:
        """Read what `write` wrote."""
        with path.open(encoding="utf-8") as lines:
            words = (line.rstrip("\n").split("\t") for line in lines)
            return cls(((sys.intern(key), {name: _VALUES[trimmed]}) for name, key, trimmed in words), depth=depth)


@functools.lru_cache(maxsize=1)
def read_once(path: Path, *, depth: int) -> Wanted:
    """Same as `Wanted.read`; the last file is kept in memory, since a worker reads many parts with one, which never changes."""
    return Wanted.read(path, depth=depth)
