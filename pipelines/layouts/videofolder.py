"""ks-export videofolder: clips for the `videofolder` loader of Hugging Face datasets.

`SPLIT/KEY.mp4` and, in each split's folder, `metadata.csv` with a row a clip: `load_dataset("videofolder", data_dir=OUT)` gives
splits train, validation and test with the columns of that table beside `video`.
"""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from kinetics_sounds import files
from kinetics_sounds.clip import SPLITS, labels_text
from kinetics_sounds.errors import MediaError

from . import CommonSettings, Entry, Exported, Source

SHARDS = False
SUFFIXES = {".mp4": ".mp4", ".mkv": ".mkv", ".webm": ".mkv", ".avi": ".avi", ".mpeg": ".mpeg", ".mpg": ".mpeg"} | {
    ".mov": ".mov",
    ".m4v": ".mp4",
}
"""File extensions that `videofolder` reads, and the exported extension (WebM is Matroska)."""
COLUMNS = ("file_name", "label", "label_index", "key", "youtube_id", "time_start", "time_end")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings(CommonSettings):
    """Export clips for Hugging Face datasets' videofolder: files, and a table of their labels. Run again to resume.

    Examples:
      ks-export videofolder --manifest data/k32/manifest.parquet --out /data/k32_videofolder
      ks-export videofolder --manifest data/k32/manifest.parquet --out /data/k32_videofolder --link

    exit code: 0 all ok clips exported; 1 done, some left out; 2 usage error, another export in the folder, or a clip that
    differs from the manifest; 3 stopped, run again; 4 a bug, or a failing disk.
    """

    link: bool = field(default=False, metadata={"same_bytes": True})
    """Hard-link the clips instead of copying them: no extra disk space, but a change to one changes both. Same file system
    only."""


def check(settings: Settings, entries: Sequence[Entry]) -> None:
    """Accepts any clip."""
    del settings, entries


def recipe(settings: Settings) -> dict[str, object]:
    """Empty: videos are the clips' own bytes."""
    del settings
    return {}


def _name(entry: Entry) -> str:
    return f"{entry.key}{SUFFIXES.get(entry.suffix, '.mp4')}"


def places(entry: Entry, settings: Settings) -> tuple[str, ...]:
    """The video file."""
    del settings
    return (f"{entry.clip.split}/{_name(entry)}",)


def counts(settings: Settings) -> tuple[str, ...]:
    """Empty: the table needs no numbers."""
    del settings
    return ()


def make(source: Source, folder: Path, settings: Settings) -> dict[str, int]:
    """Copy or link the clip; raises MediaError for a container that `videofolder` does not read."""
    if source.entry.suffix not in SUFFIXES:
        raise MediaError(f"is a {source.entry.suffix} file, which videofolder does not read")
    [place] = places(source.entry, settings)
    source.whole(folder / place, link=settings.link)
    return {}


def lists(done: Sequence[Exported], labels: Sequence[str], settings: Settings) -> dict[str, bytes]:
    """`metadata.csv` of each split with clips; a label that a spreadsheet would run as a formula is prefixed with `'`.

    Where clips have several labels, the column `labels` has all of each as a JSON array.
    """
    del labels, settings
    several = any(each.entry.clip.other_labels for each in done)
    found = {}
    for split in SPLITS:
        rows = [each.entry for each in done if each.entry.clip.split == split]
        out = io.StringIO()
        table = csv.writer(out, lineterminator="\n")
        table.writerow([*COLUMNS, "labels"] if several else COLUMNS)
        for entry in rows:
            clip = entry.clip
            label = files.for_people(clip.label)
            row = [_name(entry), label, entry.index, clip.key, clip.youtube_id, clip.time_start, clip.time_end]
            table.writerow([*row, labels_text(clip.labels)] if several else row)
        if rows:
            found[f"{split}/metadata.csv"] = out.getvalue().encode()
    return found
