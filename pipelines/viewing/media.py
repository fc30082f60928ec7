"""Embedded clips of the page: a seeded sample of small previews, each with its mel-spectrogram."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from kinetics_sounds import files, progress, stream
from kinetics_sounds.errors import KineticsSoundsError
from kinetics_sounds.media import encode, preview
from kinetics_sounds.media.preview import Preview
from kinetics_sounds.shards import layout

from .sets import OK, Row, Set


def choose(sets: Sequence[Set], count: int, *, seed: int) -> list[tuple[int, Path, Row]]:
    """Up to `count` random clips with a file or sample on disk: row index in the page's table, folder of the dataset, clip.

    They are in the order of the table. Every label is drawn once before any is drawn twice, so that a small sample covers as many
    classes as possible.
    """
    every = enumerate((its.folder, row) for its in sets for row in its.rows)
    there = [
        (number, folder, row)
        for number, (folder, row) in every
        if folder is not None and row.status == OK and (row.file or row.sample >= 0)
    ]
    turns: dict[str, int] = {}
    ranked: list[tuple[int, int]] = []
    for place in np.random.default_rng(seed).permutation(len(there)).tolist():
        label = there[place][2].label
        turns[label] = turns.get(label, 0) + 1
        ranked.append((turns[label], place))
    ranked.sort(key=lambda each: each[0])
    return [there[place] for place in sorted(place for _, place in ranked[:count])]


def embed(
    chosen: Sequence[tuple[int, Path, Row]], *, timeout_seconds: float
) -> Iterator[tuple[int, Row, Preview | str]]:
    """Preview of each chosen clip, or why there is none."""
    splits: dict[tuple[Path, str], stream.Split] = {}
    for _, folder, row in chosen:
        if row.sample >= 0 and (folder, row.split) not in splits:
            splits[folder, row.split] = stream.open_split(folder, row.split)

    def made(each: tuple[int, Path, Row]) -> Preview | str:
        _, folder, row = each
        try:
            if row.sample >= 0:
                return _of_sample(splits[folder, row.split], row.sample)
            return preview.of_clip(folder / row.file, channel=row.channel, timeout_seconds=timeout_seconds)
        except (KineticsSoundsError, OSError) as error:
            return str(error)

    with progress.bar("ks-view clips", len(chosen)) as bar:
        for (number, _, row), result in files.in_threads(made, chosen):
            bar.advance("failed" if isinstance(result, str) else "embedded")
            yield number, row, result


def _of_sample(split: stream.Split, number: int) -> Preview:
    with stream.sample(split, number) as sample:
        parts, fps = split.dataset.parts, sample.meta.fps or preview.FPS
        shown = range(min(sample.meta.num_frames, round(preview.MOST_SECONDS * fps)))
        most = round(preview.MOST_SECONDS * encode.SAMPLE_RATE)
        count = most if sample.meta.audio_samples > most else None
        wave = sample.waveform(count=count) if layout.AUDIO in parts else None
        mel_FT = sample.mel() if layout.MEL in parts else None
        return preview.of_arrays(sample.frames(shown) if shown else None, wave, mel_FT, fps=fps)
