"""ks-export ogm_vggsound: a dataset for OGM-GE's VGGSound loader.

`train-videos/train-set-img/Image-01-FPS/ID_START.mp4/00000.jpg` (a folder of that name; one frame a second, called as their
script calls those of a video of 30 frames a second: 00000, 00030 …), `train-audios/train-set/ID_START.wav` (16 kHz), the same
for `test`, and `vggsound.csv` without a header: `ID,START,LABEL,train or test`. Their loader numbers the classes as they come
among the rows of `train`, so the rows are sorted by label.
"""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Literal

from kinetics_sounds import files
from kinetics_sounds.media import extract

from . import CommonSettings, Entry, Exported, Source, check_names, check_rate, check_side, media_tools

SHARDS = True
LEAST = 4
"""Minimum number of frames of a clip: their loader skips clips with three or fewer."""
STEP = 30
"""Difference between the numbers of consecutive frames."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings(CommonSettings):
    """Export a dataset for OGM-GE's VGGSound loader: one frame per second, and WAV files. Run again to resume.

    Examples:
      ks-export ogm_vggsound --manifest data/k31/manifest.parquet --out /data/VGGsound
      ks-export ogm_vggsound --manifest data/k31/manifest.parquet --out /data/VGGsound --test_split val

    exit code: 0 all ok clips exported; 1 done, some left out; 2 usage error, another export in the folder, or a clip that
    differs from the manifest; 3 stopped, run again; 4 a bug, or a failing disk.
    """

    test_split: Literal["test", "val"] = "test"
    """Split of the manifest exported as their `test`; the other of the two is exported as `val`, which they skip."""
    sample_rate: int = 16_000
    """Sample rate of the audio (16-bit mono) in hertz. Their scripts use 16000."""
    short_side: int = 0
    """Shorter side of the frames in pixels, even; 0: as in the clip. Their loader crops 224 x 224."""


def check(settings: Settings, entries: Sequence[Entry]) -> None:
    """Raise SettingsError for invalid sizes and rates, and for two clips of a video that start at the same second."""
    check_side(settings.short_side)
    check_rate(settings.sample_rate)
    check_names(entries, _name)


def recipe(settings: Settings) -> dict[str, object]:
    """Parameters and tool versions."""
    del settings
    return {"tools": media_tools(), "frames": extract.recipe(), "least": LEAST, "step": STEP}


def _name(entry: Entry) -> str:
    return f"{entry.clip.youtube_id}_{entry.clip.time_start}"


def _split(entry: Entry, settings: Settings) -> str:
    split = entry.clip.split
    return split if split == "train" else "test" if split == settings.test_split else "val"


def places(entry: Entry, settings: Settings) -> tuple[str, ...]:
    """The folder of frames and the audio file."""
    split, name = _split(entry, settings), _name(entry)
    return (
        f"{split}-videos/{split}-set-img/Image-01-FPS/{name}.mp4",
        f"{split}-audios/{split}-set/{name}.wav",
    )


def counts(settings: Settings) -> tuple[str, ...]:
    """The number of frames."""
    del settings
    return ("frames",)


def make(source: Source, folder: Path, settings: Settings) -> dict[str, int]:
    """Extract frames and audio; raises TooFewFramesError if their loader would skip the clip."""
    pictures, sound = (folder / place for place in places(source.entry, settings))
    count = source.frames(pictures, name="made_%05d.jpg", fps=Fraction(1), short_side=settings.short_side)
    if count < LEAST:
        raise extract.TooFewFramesError(f"has {count} frames at one per second; their loader needs {LEAST}")
    for number in range(count):
        (pictures / f"made_{number + 1:05d}.jpg").rename(pictures / f"{number * STEP:05d}.jpg")
    source.wav(sound, rate=settings.sample_rate)
    return {"frames": count}


def lists(done: Sequence[Exported], labels: Sequence[str], settings: Settings) -> dict[str, bytes]:
    """`vggsound.csv`; a label that a spreadsheet would run as a formula is prefixed with `'`."""
    del labels
    out = io.StringIO()
    table = csv.writer(out, lineterminator="\n")
    for each in sorted(done, key=lambda each: (each.entry.clip.label, each.entry.clip.split, each.entry.key)):
        clip = each.entry.clip
        label = files.for_people(clip.label)
        table.writerow([clip.youtube_id, clip.time_start, label, _split(each.entry, settings)])
    return {"vggsound.csv": out.getvalue().encode()}
