"""ks-export ogm: Kinetics-Sounds for the code of OGM-GE and the papers that follow it.

`visual/SPLIT/KEY/frame_00001.jpg` and on, one frame a second from the middle of each; `audio/SPLIT/KEY.wav` or `.npy`. Their
loaders build the name of a frame from `frame_0000` and one digit, so no clip has more than ten, and they pass over a clip
that has not more than three. `my_SPLIT.txt` is OGM-GE's own list (`KEY,frames,class`), `SPLIT_1fps_path.txt` that of
BalanceBenchmark and others (`KEY class`). A class is the label's place among the sorted labels of the class list.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Literal

import numpy as np

from kinetics_sounds import files
from kinetics_sounds.clip import SPLITS
from kinetics_sounds.media import extract, fbank

from . import CommonSettings, Entry, Exported, Source, check_rate, check_side, media_tools, one_line, text

SHARDS = True
LEAST, MOST = 4, 10
"""Minimum and maximum number of frames of a clip."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings(CommonSettings):
    """Export Kinetics-Sounds for OGM-GE and the papers that follow it: one frame per second, and audio. Run again to resume.

    Examples:
      ks-export ogm --manifest data/k31/manifest.parquet --out /data/ks
      ks-export ogm --manifest data/k31/manifest.parquet --out /data/ks_fbank --audio fbank
      ks-export ogm --shards data/k31/shards --out /data/ks_small

    exit code: 0 all ok clips exported; 1 done, some left out; 2 usage error, another export in the folder, or a clip that
    differs from the manifest; 3 stopped, run again; 4 a bug, or a failing disk.
    """

    audio: Literal["wav", "fbank", "both"] = "wav"
    """Audio format: 16-bit mono WAV, or Kaldi's log-mel filter bank, float32 (1024, 128), which BalanceBenchmark reads."""
    sample_rate: int = 16_000
    """Sample rate of the audio in hertz. Their scripts use 16000; so does the filter bank."""
    short_side: int = 0
    """Shorter side of the frames in pixels, even; 0: as in the clip. Their loaders crop 224 x 224."""


def check(settings: Settings, entries: Sequence[Entry]) -> None:
    """Raise SettingsError for invalid sizes and sample rates."""
    del entries  # any clip can be tried
    check_side(settings.short_side)
    check_rate(settings.sample_rate)


def recipe(settings: Settings) -> dict[str, object]:
    """Parameters and tool versions."""
    bank = {} if settings.audio == "wav" else {"fbank": fbank.versions()}
    return {"tools": media_tools(), "frames": extract.recipe(), "least": LEAST, "most": MOST, **bank}


def places(entry: Entry, settings: Settings) -> tuple[str, ...]:
    """The folder of frames, and the audio file or files."""
    split = entry.clip.split
    suffixes = {"wav": (".wav",), "fbank": (".npy",), "both": (".wav", ".npy")}[settings.audio]
    return (f"visual/{split}/{entry.key}", *(f"audio/{split}/{entry.key}{suffix}" for suffix in suffixes))


def counts(settings: Settings) -> tuple[str, ...]:
    """The number of frames."""
    del settings
    return ("frames",)


def make(source: Source, folder: Path, settings: Settings) -> dict[str, int]:
    """Extract frames and audio; raises TooFewFramesError if their loaders would skip the clip."""
    pictures, *sounds = (folder / place for place in places(source.entry, settings))
    count = source.frames(pictures, name="frame_%05d.jpg", fps=Fraction(1), short_side=settings.short_side)
    for number in range(MOST + 1, count + 1):
        (pictures / f"frame_{number:05d}.jpg").unlink()
    if count < LEAST:
        raise extract.TooFewFramesError(f"has {count} frames at one per second; their loaders need {LEAST}")
    wav = sounds[0].with_suffix(".wav")
    source.wav(wav, rate=settings.sample_rate)
    for path in sounds:
        if path.suffix == ".npy":
            with path.open("wb") as out, files.named(path):
                np.save(out, fbank.of_wav(wav), allow_pickle=False)
    return {"frames": min(count, MOST)}


def lists(done: Sequence[Exported], labels: Sequence[str], settings: Settings) -> dict[str, bytes]:
    """Both lists of each split, and `classes.txt`, whose line n (from 0) is class n."""
    del settings
    found = {"classes.txt": text([one_line(label) for label in labels])}
    for split in SPLITS:
        rows = [each for each in done if each.entry.clip.split == split]
        commas = [f"{each.entry.key},{each.counts['frames']},{each.entry.index}" for each in rows]
        found[f"my_{split}.txt"] = text(commas)
        found[f"{split}_1fps_path.txt"] = text([f"{each.entry.key} {each.entry.index}" for each in rows])
    return found
