"""`local:DIR`: a folder of videos on disk, flat or in class folders.

Finds trimmed clips (`{id}_{start:06d}_{end:06d}.mp4`, the mirror's naming) and whole videos (`{id}.mp4`).
"""

import functools
import os
from collections.abc import Mapping
from pathlib import Path

from ..clip import SPLITS, YOUTUBE_ID, Clip, Fetched, Status, parse_key
from ..errors import SourceError
from . import readable_folder, walk

SUFFIXES = (".mp4", ".mkv", ".webm", ".avi", ".mov", ".m4v", ".flv", ".ts", ".mpg", ".mpeg", ".wmv", ".3gp", ".ogv")
"""Containers that count, best first where a clip is there twice."""


class Source:
    """Files below one folder."""

    notice = ""
    versions = ""
    videos_per_hour = requests_per_hour = None
    share: Mapping[str, float] = dict.fromkeys(SPLITS, 1.0)

    def __init__(self, argument: str) -> None:
        """Raise SourceError unless `argument` is a folder that can be read."""
        if not argument:
            raise SourceError("--source local needs a folder: --source local:DIR")
        self.folder = readable_folder(argument, spec=f"local:{argument}")

    @functools.cached_property
    def _files(self) -> dict[str, str]:
        """Path of each key and each video id found, scanned once, by the driver only."""
        found: dict[str, str] = {}
        rank: dict[str, tuple[int, str]] = {}
        for folder, names in walk(self.folder):
            for name in names:
                stem, suffix = os.path.splitext(name)  # noqa: PTH122
                if suffix.lower() not in SUFFIXES or not (YOUTUBE_ID.fullmatch(stem) or parse_key(stem)):
                    continue
                path = os.path.join(folder, name)  # noqa: PTH118 - half a million of them: no objects
                place = (SUFFIXES.index(suffix.lower()), path)
                if stem not in rank or place < rank[stem]:
                    rank[stem], found[stem] = place, path
        return found

    def locate(self, clip: Clip) -> str | None:
        """The clip's own file, else the whole video."""
        return self._files.get(clip.key) or self._files.get(clip.youtube_id)

    def first(self) -> str | None:
        """Some file that is here, the same in every run; None where there is none."""
        return min(self._files.values(), default=None)

    def fetch(self, clip: Clip, location: str, folder: Path) -> Fetched:
        """Hand over the file where it lies; nothing is copied."""
        path = Path(location)
        if not path.is_file():
            return Fetched(status=Status.NOT_IN_SOURCE, detail=f"{path} is gone since the folder was read")
        return Fetched(status=Status.OK, path=path, trimmed=path.stem == clip.key)
