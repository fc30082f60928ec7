"""`archives:PLACE`: tar archives of videos anywhere, each streamed once; what a video is called is told by a pattern.

PLACE is a folder of archives, an archive, or a text file of URLs; braces stand for several archives. Archives may lie on
this disk, at http(s)://, on the Hugging Face Hub (`hf://`), or at s3:// and gs://.
"""

import itertools
import posixpath
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from braceexpand import braceexpand

from .. import clip_names, files, redact, web
from ..address import Address
from ..archives import TarPart, listing, remote_stream
from ..archives.reader import ArchiveReader, Layout
from ..clip import SPLITS, Clip
from ..clip_names import ClipNames, Trimmed
from ..errors import SourceError
from ..folders import absolute_folder, readable_folder, walk

MAX_CLIP_BYTES = 8 << 30
"""Maximum size of a video in bytes, as for any source."""
MAX_COPIES = 4
"""Maximum number of files of one name that are tried in an archive."""
MAX_PARTS = 100_000
"""Maximum number of archives that braces may stand for."""
OTHERS = (".zip", ".rar", ".7z", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar.zst", ".tzst")
"""Archives that cannot be read."""
_RANGE = re.compile(r"\{(-?\d+)\.\.(-?\d+)(?:\.\.(-?\d+))?\}", flags=re.ASCII)
"""A range of numbers in braces: `{00..19}`, `{0..100..10}`."""
_KINDS = ", ".join(listing.ARCHIVES)
_UNPACK = "unpack it and give the folder with --source local:DIR"
_ONE_BY_ONE = "name its archives, such as .../part_{00..19}.tar.gz, or give a .txt file with one URL per line"
_NOTICE = "Every archive is streamed completely, and only the wanted clips are kept."


@dataclass(frozen=True)
class Options:
    """Options of the archives source."""

    names: str = ""
    """Pattern of the files' names in the archives, without extension; as --local.names."""
    trimmed: Trimmed = "auto"
    """Whether files named without times (ID.mp4) hold only the annotated span; as --local.trimmed."""


absolute = listing.absolute


class Source(ArchiveReader):
    """The archives at one place."""

    part_bytes: int | None = None
    share: Mapping[str, float] = dict.fromkeys(SPLITS, 1.0)

    def __init__(self, argument: str, options: Options | None = None) -> None:
        """Raises SourceError for a place where no archives can be, SettingsError for a pattern that names no clips."""
        chosen = options or Options()
        self.naming = ClipNames(chosen.names, trimmed=chosen.trimmed, option="--archives.names")
        self.patterns: Sequence[str] = self.naming.examples
        self.argument = argument = listing.lower_scheme(argument)
        self.folder: Path | None = None
        self.places: tuple[str, ...] = ()
        host = ""
        if listing.is_url(argument):
            self.places = _expanded(argument)
            host = self._check_urls()
        elif not argument:
            raise SourceError("--source archives needs a place: archives:DIR, archives:FILE.tar or archives:URL")
        elif Path(absolute_folder(argument)).is_dir():
            self.folder = readable_folder(argument, spec=f"archives:{argument}")
        else:
            self.places = self._files(absolute_folder(argument))
        self.notice = _NOTICE if listing.is_url(argument) or any(map(_is_list, self.places)) else ""
        super().__init__(
            Layout(member=_member, depth=self.naming.depth, max_bytes=MAX_CLIP_BYTES, copies=MAX_COPIES), host=host
        )

    def _files(self, path: str) -> tuple[str, ...]:
        """The archives on this disk that a path stands for."""
        places = (path,) if Path(path).exists() else _expanded(path)
        for place in places:
            _check_kind(place)
            if not Path(place).is_file():
                what = "is not a file" if Path(place).exists() else "does not exist"
                raise self._error(f"{place} {what}; give a folder, an archive ({_KINDS}) or a URL")
        return places

    def _check_urls(self) -> str:
        """The host named by the user, of http(s) URLs; raises SourceError for a URL that cannot be an archive."""
        host = ""
        for place in self.places:
            _check_kind(place)
            if remote_stream.is_remote(place):
                if Address(place).has_user:
                    raise self._error("contains a password; give the keys in the environment")
                continue
            host = host or listing.host_of(place)
            if refusal := web.refusal(place, named=host):
                raise self._error(f"{redact.bare(place)} {refusal}; give http(s)://, hf://, s3:// or gs://, or a path")
            if redact.bare(place).endswith("/"):
                raise self._error(f"{redact.bare(place)} is a folder of a server; {_ONE_BY_ONE}")
        return host

    def _error(self, text: str) -> SourceError:
        return SourceError(f"--source archives:{Address(self.argument)}: {text}")

    def names(self, clip: Clip) -> Mapping[str, bool | None]:
        """Names by the pattern."""
        return self.naming.of(clip)

    def near(self, clip: Clip) -> Mapping[str, str]:
        """Names with the clip's start alone."""
        return self.naming.near(clip)

    def parts(self, splits: Iterable[str]) -> list[TarPart]:
        """The archives, but those in a folder named after another split; sorted by name, or as they are listed.

        Raises SourceError if there are none or they cannot be listed, UnreachableError if waiting may help.
        """
        wanted = list(splits)
        found = self._in_folder(self.folder) if self.folder else self._at_places()
        parts = [part for part in found if part.split is None or part.split in wanted]
        if not parts:
            for place, names in walk(self.folder) if self.folder and not found else ():
                for name in sorted(names):
                    _check_kind(str(Path(place, name)))
            raise self._error(f"has no archive ({_KINDS}) of {', '.join(wanted)}; check the place, and --splits")
        return parts

    def _in_folder(self, folder: Path) -> list[TarPart]:
        return [_part(files.as_text(path.relative_to(folder)), str(path)) for path in listing.below(folder)]

    def _at_places(self) -> list[TarPart]:
        """Archives that are named one by one, listed in a text file, or below a folder of a remote store."""
        base = _quoted(absolute(self.argument).partition("{")[0].rpartition("/")[0] + "/")
        alone: list[str] = []
        told: list[str] = []
        parts: list[TarPart] = []
        listings: remote_stream.Listings = {}
        for place in self.places:
            if remote_stream.is_remote(place):
                inside = place.removeprefix(base) if "{" in self.argument else ""
                folder = posixpath.dirname(inside) if listing.is_archive(inside) else inside
                for name, (url, size) in remote_stream.find(place, listings).items():
                    parts.append(_part(posixpath.join(folder, name), url, size))
            elif _is_list(place):
                told += listing.listed(place, named=self.host, remedy="download the archives and give their folder")
            else:
                alone.append(place)
        for name, place in listing.by_name([*alone, *told], base=base).items():
            parts.append(_part(name, place) if place in alone else TarPart(name, place, None, replacement=False))
        return parts


def _is_list(place: str) -> bool:
    """Whether a path or URL is that of a list of URLs."""
    return redact.bare(place).lower().endswith(".txt")


def _part(name: str, place: str, size: int | None = None) -> TarPart:
    """An archive in a folder, which may be named after a split."""
    return TarPart(name, place, listing.split_of(name.split("/")[:-1]), replacement=False, size=size)


def _member(path: bytes) -> tuple[str, str] | None:
    """Name and extension of a video; the folders of its path are part of the name."""
    return clip_names.of_file(path.decode("utf-8", "replace"))


def _check_kind(place: str) -> None:
    """Raise SourceError for an archive that cannot be read."""
    name = redact.bare(place)
    if name.lower().endswith(OTHERS):
        raise SourceError(f"--source archives:{name}: only {_KINDS} can be streamed; {_UNPACK}")


def _expanded(place: str) -> tuple[str, ...]:
    """The places that braces stand for; in a URL, those before its query."""
    start, mark, query = place.partition("?") if "://" in place else (place, "", "")
    try:
        large = any(
            _count(*ends.groups()) > MAX_PARTS for ends in _RANGE.finditer(start)
        )  # which braceexpand would keep
        found = () if large else tuple(itertools.islice(braceexpand(start, escape=False), MAX_PARTS + 1))
    except ValueError as error:
        raise SourceError(f"--source archives:{redact.bare(place)}: has unbalanced braces; {_ONE_BY_ONE}") from error
    if large or len(found) > MAX_PARTS:
        raise SourceError(f"--source archives:{redact.bare(place)}: stands for more than {MAX_PARTS} archives")
    return tuple(_quoted(f"{each}{mark}{query}") for each in found)


def _count(first: str, last: str, step: str | None) -> int:
    """How many numbers a range in braces has."""
    return abs(int(last) - int(first)) // max(1, abs(int(step or 1))) + 1


def _quoted(place: str) -> str:
    """An http(s) URL in ASCII; paths, and names in stores and on the Hub, are what they are."""
    return listing.quoted(place) if "://" in place and not remote_stream.is_remote(place) else place
