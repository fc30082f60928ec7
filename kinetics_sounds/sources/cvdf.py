"""`cvdf`: the public Kinetics-400 mirror, streamed as tar files (parts).

`cvdf` is the official location, `cvdf:URL` another server with the same layout below that URL, `cvdf:DIR` a folder of parts.
"""

import http.client
import os
import time
import urllib.error
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from .. import files, redact, web
from ..archives import TarPart, listing
from ..archives.reader import ArchiveReader, Layout
from ..clip import Clip, parse_key
from ..errors import SourceError
from ..folders import readable_folder

OFFICIAL = "https://s3.amazonaws.com/kinetics/400"
SUFFIXES = (".mp4", ".mkv", ".webm", ".avi")
"""Accepted containers; a clip's file keeps its extension, in lower case."""
MAX_CLIP_BYTES = 512 << 20
_REPLACEMENT = "replacement_for_corrupted"
_NOTICE = (
    "The mirror's parts hold clips of all classes: every part of the requested splits is streamed completely (the official "
    "three splits are 436 GB together) and only the wanted clips are kept."
)


absolute = listing.absolute


class Source(ArchiveReader):
    """The parts of one location."""

    part_bytes = 436 * 10**9 // 301
    """Mean size of the official parts in bytes."""
    share: Mapping[str, float] = {"train": 240_258 / 246_534, "val": 19_881 / 19_906, "test": 38_685 / 39_805}
    """Fraction of the annotated clips that the official mirror holds."""
    patterns: Sequence[str] = ("ID_000027_000037.mp4",)

    def __init__(self, argument: str) -> None:
        """`argument`: empty, an http(s) URL or a folder; raises SourceError for another URL or if it is not a folder."""
        self.base, self.notice = OFFICIAL, _NOTICE
        self.folder: Path | None = None
        named = web.host(OFFICIAL)
        if listing.is_url(argument):
            self.base = listing.quoted(argument.rstrip("/"))
            named = listing.host_of(self.base)
            refusal = web.refusal(self.base, named=named)
            if refusal or self.base != redact.bare(self.base):
                refusal = refusal or "has a query or fragment (?… or #…), which a mirror's parts cannot have"
                raise SourceError(
                    f"--source cvdf:{redact.bare(argument)}: {refusal}; give the http(s) URL above the mirror's folders "
                    "train, val and test, or a folder on disk"
                )
        elif argument:
            self.notice = ""
            self.folder = readable_folder(argument, spec=f"cvdf:{argument}")
        super().__init__(Layout(member=_member, max_bytes=MAX_CLIP_BYTES), host=named)

    def names(self, clip: Clip) -> dict[str, bool | None]:
        """The clip's key: all files are trimmed."""
        return {clip.key: True}

    def near(self, _clip: Clip) -> dict[str, str]:
        """Nothing: all files of the mirror are named alike."""
        return {}

    def parts(self, splits: Iterable[str]) -> list[TarPart]:
        """The replacement archive if there is one, then the parts of these splits in the order of their lists.

        Raises SourceError for a list or folder that cannot be read or names no parts, UnreachableError if waiting may help.
        """
        wanted = list(splits)
        found = _on_disk(self.folder, wanted) if self.folder else _listed(self.base, wanted, named=self.host)
        return sorted(found, key=lambda part: not part.replacement)


def _member(path: bytes) -> tuple[str, str] | None:
    """Key and extension of a clip, by the last component of its path."""
    key, suffix = os.path.splitext(path.rpartition(b"/")[2].decode("ascii", "replace"))  # noqa: PTH122
    return None if suffix.lower() not in SUFFIXES or parse_key(key) is None else (key, suffix)


def _on_disk(folder: Path, splits: Sequence[str]) -> list[TarPart]:
    """Archives below a folder, sorted by path; a folder named after a split holds clips of that split only."""
    found: list[TarPart] = []
    for path in listing.below(folder):
        inside = path.relative_to(folder)
        split = listing.split_of(inside.parts[:-1])
        replacement = path.name.startswith(_REPLACEMENT)
        if replacement or split is None or split in splits:
            found.append(TarPart(files.as_text(inside), str(path), None if replacement else split, replacement))
    if not found:
        raise SourceError(
            f"{folder}: has no part of {', '.join(splits)} (a file named *.tar, *.tar.gz or *.tgz); give the folder that "
            "the mirror's parts were downloaded to"
        )
    return found


def _listed(base: str, splits: Sequence[str], *, named: str) -> Iterator[TarPart]:
    """Parts named by each split's list, and the replacement archive."""
    remedy = "download the parts and give their folder with --source cvdf:DIR"
    for split in splits:
        place = f"{base}/{split}/k400_{split}_path.txt"
        urls = _by_name(listing.listed(place, named=named, remedy=remedy), base=f"{base}/{split}/")
        if not urls:
            raise SourceError(
                f"{redact.bare(place)}: lists no part; leave {split} out with --splits, or use another mirror"
            )
        yield from (TarPart(f"{split}/{name}", url, split, replacement=False) for name, url in urls.items())
    mended = f"{base}/{_REPLACEMENT}_k400.tgz"
    if not _absent(mended, named=named):
        yield TarPart(f"{_REPLACEMENT}_k400.tgz", mended, None, replacement=True)


def _by_name(urls: Iterable[str], *, base: str) -> dict[str, str]:
    """URLs by unique names without secrets; a query is no part of a name unless the name has been given to another URL."""
    found: dict[str, str] = {}
    for url in urls:
        name = redact.bare(url).removeprefix(base)
        if found.setdefault(name, url) != url:
            found[f"{name}?{redact.digest(url)}"] = url
    return found


def _absent(url: str, *, named: str) -> bool:
    """Whether the server says that there is no such file; if unsure, streaming it will show."""
    try:
        web.open_url(url, named=named, method="HEAD", ends=time.monotonic() + listing.LIST_SECONDS).close()
    except urllib.error.HTTPError as error:
        return error.code in (404, 410)
    except (OSError, http.client.HTTPException):
        pass
    return False
