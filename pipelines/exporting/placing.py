"""Move finished files of a clip into place, and verify them against the record."""

import errno
import hashlib
import os
import secrets
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from kinetics_sounds import files
from kinetics_sounds.errors import SettingsError

MOST_FILES = 1_000_000
"""Maximum number of files in one folder of a clip."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A file or a folder of files of a clip."""

    files: int
    bytes: int
    sha256: str
    """SHA-256 of a file; of a folder, over the sorted lines `sha256 TAB name` of its files."""


def describe(path: Path) -> Place:
    """Describe the file or folder at a path; raises OSError if there is none."""
    if not path.is_dir():
        return Place(files=1, bytes=path.stat().st_size, sha256=files.sha256(path))
    found = dict(_below(path))
    lines = "".join(f"{files.sha256(path / name)}\t{name}\n" for name in sorted(found))
    return Place(files=len(found), bytes=sum(found.values()), sha256=hashlib.sha256(lines.encode()).hexdigest())


def _below(folder: Path) -> Iterator[tuple[str, int]]:
    """Name and size of each file of a folder; a link or subfolder has size -1, which never matches."""
    with os.scandir(folder) as entries:
        for entry in entries:
            found = entry.stat(follow_symlinks=False)
            yield entry.name, found.st_size if stat.S_ISREG(found.st_mode) else -1


def difference(path: Path, recorded: Place, *, check_bytes: bool) -> str:
    """How a file or folder differs from its record; empty if it does not.

    Raises OSError if the disk fails.
    """
    try:
        if path.is_dir():
            sizes = [size for _, size in _below(path)]
            if (len(sizes), sum(sizes)) != (recorded.files, recorded.bytes) or -1 in sizes:
                return f"has {len(sizes)} files of {sum(sizes)} bytes instead of {recorded.files} of {recorded.bytes}"
        elif recorded.files != 1 or path.stat().st_size != recorded.bytes:
            return f"is not a file of {recorded.bytes} bytes"
        return "its bytes are others" if check_bytes and describe(path) != recorded else ""
    except (FileNotFoundError, NotADirectoryError):
        return "is missing"


def put(staged: Path, target: Path, *, trash: Path) -> None:
    """Move a finished file or folder into place and sync it; an existing one moves to `trash`, a folder on the same disk.

    Raises SettingsError if a folder in the target path is on another disk, to which files cannot be renamed.
    """
    for path in [*staged.iterdir(), staged] if staged.is_dir() else [staged]:
        if path.is_dir():
            files.sync_folder(path)
        else:
            with path.open("rb") as written, files.named(path):
                os.fsync(written.fileno())
    files.make_folder(target.parent)
    try:
        if target.is_dir() or (staged.is_dir() and target.exists()):
            target.rename(trash / f"replaced-{secrets.token_hex(8)}")
        staged.replace(target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        raise SettingsError(
            f"{target.parent}: is on another disk than its export, so finished files cannot be moved there; "
            "put the whole export on one disk: choose another --out, or take away the link or mount"
        ) from error
    files.sync_folder(target.parent)


def foreign_files(out: Path, places: set[str]) -> list[str]:
    """Files among the clips' that belong to none of them, relative to `out`, sorted; hidden files are ignored.

    Only folders that contain clips of `places` are examined, not the clips' own folders.
    """
    tops = {place.partition("/")[0] for place in places}
    found: list[str] = []
    folders = [out / top for top in tops if (out / top).is_dir()]
    inner = {
        "/".join(parts[:depth]) for place in places for parts in [place.split("/")] for depth in range(1, len(parts))
    }
    while folders:
        folder = folders.pop()
        for path in folder.iterdir():
            name = path.relative_to(out).as_posix()
            if name in places or path.name.startswith("."):
                continue
            if name in inner and path.is_dir():
                folders.append(path)
            else:
                found.append(name)
    return sorted(found)
