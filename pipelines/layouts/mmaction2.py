"""ks-export mmaction2: clips for mmaction2's VideoDataset, or their frames for RawframeDataset.

`videos_SPLIT/CLASS/KEY.mp4` with `SPLIT_list_videos.txt` (`CLASS/KEY.mp4 class`), or `rawframes_SPLIT/CLASS/KEY/img_00001.jpg`
and on with `SPLIT_list_rawframes.txt` (`CLASS/KEY frames class`); paths are relative to the folder of the split, which is their
`data_prefix`. Its lists are split at blanks, so a class folder has `_` for a blank and `-` for a bracket, as its own script names
them. `label_map.txt` has the labels, sorted.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from kinetics_sounds.clip import SPLITS, label_folder
from kinetics_sounds.errors import SettingsError
from kinetics_sounds.media import extract

from . import CommonSettings, Entry, Exported, Source, check_folders, check_side, media_tools, one_line, text

SHARDS = True
_RENAMED = str.maketrans(" ()", "_--")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings(CommonSettings):
    """Export clips for mmaction2: videos with their lists, or raw frames. Run again to resume.

    Examples:
      ks-export mmaction2 --manifest data/k32/manifest.parquet --out /data/k32_mmaction2
      ks-export mmaction2 --manifest data/k32/manifest.parquet --out /data/k32_mmaction2 --link
      ks-export mmaction2 --manifest data/k32/manifest.parquet --out /data/k32_frames --rawframes --short_side 256

    exit code: 0 all ok clips exported; 1 done, some left out; 2 usage error, another export in the folder, or a clip that
    differs from the manifest; 3 stopped, run again; 4 a bug, or a failing disk.
    """

    rawframes: bool = False
    """Write every frame as a JPEG instead of the videos."""
    short_side: int = 0
    """With --rawframes: shorter side in pixels, even; 0: as in the clip."""
    link: bool = field(default=False, metadata={"same_bytes": True})
    """Hard-link the clips instead of copying them: no extra disk space, but a change to one changes both. Same file system
    only."""


def check(settings: Settings, entries: Sequence[Entry]) -> None:
    """Raise SettingsError for options without effect, and for labels that would have the same folder."""
    check_side(settings.short_side)
    if settings.short_side and not settings.rawframes:
        raise SettingsError("--short_side: only applies to frames; add --rawframes, or leave it out")
    if settings.link and (settings.rawframes or settings.shards):
        raise SettingsError("--link: only whole clips can be linked; leave out --rawframes and --shards, or --link")
    check_folders(sorted({entry.clip.label for entry in entries}), class_folder)


def recipe(settings: Settings) -> dict[str, object]:
    """Parameters and tool versions for frames; videos are the clips' own bytes."""
    return {"tools": media_tools(), "frames": extract.recipe()} if settings.rawframes else {}


def class_folder(label: str) -> str:
    """Folder name of a label in mmaction2, safe whatever the label contains."""
    return label_folder(label).translate(_RENAMED)


def _path(entry: Entry, settings: Settings) -> str:
    return f"{class_folder(entry.clip.label)}/{entry.key}{'' if settings.rawframes else entry.suffix}"


def places(entry: Entry, settings: Settings) -> tuple[str, ...]:
    """The video, or the folder of frames."""
    return (f"{'rawframes' if settings.rawframes else 'videos'}_{entry.clip.split}/{_path(entry, settings)}",)


def counts(settings: Settings) -> tuple[str, ...]:
    """The number of frames, with --rawframes."""
    return ("frames",) if settings.rawframes else ()


def make(source: Source, folder: Path, settings: Settings) -> dict[str, int]:
    """Copy or link the clip, or extract its frames."""
    [place] = places(source.entry, settings)
    if not settings.rawframes:
        source.whole(folder / place, link=settings.link)
        return {}
    count = source.frames(folder / place, name="img_%05d.jpg", short_side=settings.short_side)
    if not count:
        raise extract.TooFewFramesError("has no frame that can be decoded")
    return {"frames": count}


def lists(done: Sequence[Exported], labels: Sequence[str], settings: Settings) -> dict[str, bytes]:
    """The list of each split, and the label map."""
    found = {"label_map.txt": text([one_line(label) for label in labels])}
    for split in SPLITS:
        rows = [each for each in done if each.entry.clip.split == split]
        counts = [f" {each.counts['frames']}" if settings.rawframes else "" for each in rows]
        lines = [
            f"{_path(each.entry, settings)}{count} {each.entry.index}" for each, count in zip(rows, counts, strict=True)
        ]
        found[f"{split}_list_{'rawframes' if settings.rawframes else 'videos'}.txt"] = text(lines)
    return found
