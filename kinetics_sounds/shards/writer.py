"""Write samples to tars of bounded size, reproducibly to the byte."""

import contextlib
import functools
import hashlib
import sys
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from .. import files
from . import index, layout
from .index import Index, SkippedClip

BLOCK = 512
"""Block size of tar: the size of a header; data are padded to it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """Parts of a clip, ready to be written."""

    key: str
    label_index: int
    parts: Mapping[str, bytes]
    """By their names in `layout`; all samples of a set have the same parts."""
    folds: Mapping[str, str] = field(default_factory=dict)
    """Its split in each fold of the set; all samples of a set have the same folds."""
    label_indices: tuple[int, ...] = ()
    """Of several labels, the indices of those in the class list, `label_index` first; empty in a set of one label a sample."""


class _Hashed:
    """File wrapper that counts and hashes the bytes written to it."""

    def __init__(self, out: IO[bytes]) -> None:
        self.out, self.digest, self.bytes = out, hashlib.sha256(), 0

    def write(self, data: bytes) -> int:
        self.digest.update(data)
        self.bytes += len(data)
        return self.out.write(data)


@functools.cache
def _tar_writer() -> Any:  # noqa: ANN401 - webdataset has no types
    """The TarWriter of webdataset, without torch, which the package imports for its readers (docs/decisions/0020).

    What was imported without torch is forgotten again, so that webdataset is whole for whoever imports it later.
    """
    if "torch" in sys.modules or "webdataset" in sys.modules:
        from webdataset.writer import TarWriter

        return TarWriter
    sys.modules["torch"] = None  # type: ignore[assignment]  # so that to import it fails, as where it is not installed
    try:
        from webdataset.writer import TarWriter
    finally:
        for name in [each for each in sys.modules if each == "torch" or each.split(".")[0] == "webdataset"]:
            del sys.modules[name]
    return TarWriter


class ShardWriter:
    """Writer of a tar; the tar and then its index appear when `close` returns."""

    def __init__(self, tar: Path, *, recipe: str) -> None:
        """Open `tar` under a temporary name."""
        self.tar, self.recipe = tar, recipe
        files.make_folder(tar.parent)
        self._part = files.part_of(tar)
        self._file = self._part.open("wb")
        self._hashed = _Hashed(self._file)
        self._writer = _tar_writer()(self._hashed, encoder=False, mtime=0, user="", group="")
        self._position = 0
        self._parts: tuple[str, ...] = ()
        self._rows: list[tuple[str, int, tuple[int, ...], tuple[int, ...], tuple[int, ...]]] = []
        self._folds: list[Mapping[str, str]] = []
        self._label_sets: list[tuple[int, ...]] = []
        self._left: list[SkippedClip] = []

    @property
    def bytes(self) -> int:
        """Size so far in bytes, without the end of the tar."""
        return self._position

    def write(self, sample: Sample) -> None:
        """Append a sample; raises ValueError if its parts differ from those of the samples before it."""
        names = tuple(sorted(sample.parts))
        if self._rows and names != self._parts:
            raise ValueError(f"{sample.key} has the parts {names}, but the set has {self._parts}")
        self._parts = names
        offsets: list[int] = []
        for name in names:
            offsets.append(self._position + BLOCK)
            self._position += BLOCK + -(-len(sample.parts[name]) // BLOCK) * BLOCK
        with files.named(self._part, needed=sum(map(len, sample.parts.values()))):
            self._writer.write({"__key__": sample.key, **sample.parts})
        sizes = tuple(len(sample.parts[name]) for name in names)
        crcs = tuple(zlib.crc32(sample.parts[name]) for name in names)
        self._folds.append(sample.folds)
        self._label_sets.append(sample.label_indices)
        self._rows.append((sample.key, sample.label_index, tuple(offsets), sizes, crcs))

    def leave(self, left: SkippedClip) -> None:
        """Record a skipped clip, so that a resumed run does not try it again."""
        self._left.append(left)

    def close(self) -> Index:
        """Finish: sync and rename the tar, then its index."""
        with files.named(self._part):
            self._writer.close()
            self._file.close()
        files.replace_atomically(self._part, self.tar)
        keys, labels, offsets, sizes, crcs = zip(*self._rows, strict=True) if self._rows else ((),) * 5
        made = Index(
            recipe=self.recipe,
            bytes=self._hashed.bytes,
            sha256=self._hashed.digest.hexdigest(),
            parts=self._parts,
            keys=keys,
            label_indices=labels,
            offsets=offsets,
            sizes=sizes,
            crcs=crcs,
            left=tuple(self._left),
            folds={name: tuple(each[name] for each in self._folds) for name in self._folds[0]} if self._folds else {},
            label_sets=tuple(self._label_sets) if any(self._label_sets) else (),
        )
        index.write(layout.index_path(self.tar), made)
        return made

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Discard an unfinished tar."""
        with contextlib.suppress(OSError):
            self._writer.close()  # or tarfile would write to the closed file when it is collected
        with contextlib.suppress(OSError):  # what is still to be written may not fit, and is not wanted
            self._file.close()
        self._part.unlink(missing_ok=True)
