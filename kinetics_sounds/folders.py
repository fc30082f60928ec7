"""Folders given by the user: absolute paths, walks through a tree, and names that are free."""

import itertools
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from . import files, redact
from .errors import SourceError


def absolute_folder(argument: str) -> str:
    """Absolute path of a folder given by the user; raises SourceError for an address with a user part but no scheme."""
    path = files.user_path(argument).absolute()
    masked = redact.redact_url(argument)
    if masked != argument and not os.path.lexists(path):
        raise SourceError(f"{masked}: there is no such folder, and a URL begins with its scheme, such as https://")
    return str(path)


def readable_folder(argument: str, *, spec: str) -> Path:
    """Folder given by the user; raises SourceError if it cannot be read."""
    folder = Path(absolute_folder(argument))
    try:
        with os.scandir(folder):
            pass
    except OSError as error:
        raise SourceError(f"--source {spec}: the folder cannot be read: {error.strerror}") from error
    return folder


def is_of_build(place: str) -> bool:
    """Whether a folder has the clips that ks-build made: `clips` beside a ledger."""
    return os.path.basename(place) == "clips" and Path(place).with_name("ledger.sqlite").is_file()  # noqa: PTH119


def walk(folder: Path, *, skip: Callable[[str], bool] | None = None) -> Iterator[tuple[str, list[str]]]:
    """Walk a folder tree: each folder with its file names; links are followed, cycles are not.

    `skip`: whether to leave out a folder below it. Raises SourceError for a folder that cannot be read.
    """
    seen: set[tuple[int, int]] = set()
    for place, folders, names in os.walk(folder, followlinks=True, onerror=_refuse):
        status = os.stat(place)  # noqa: PTH116
        if (status.st_dev, status.st_ino) in seen:  # a link back into the tree
            folders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        folders[:] = sorted(each for each in folders if skip is None or not skip(os.path.join(place, each)))  # noqa: PTH118
        yield place, names


def first_free(path: Path, is_free: Callable[[Path], bool]) -> Path:
    """The path, else the first of `NAME_2`, `NAME_3` and so on beside it that is free."""
    numbered = (path.with_name(f"{path.name}_{number}") for number in itertools.count(2))
    return next(each for each in itertools.chain([path], numbered) if is_free(each))


def _refuse(error: OSError) -> None:
    raise SourceError(f"{error.filename}: the folder cannot be read: {error.strerror}") from error
