"""Shard sets made by tests."""

import dataclasses
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from kinetics_sounds import remote
from kinetics_sounds.shards import index, layout
from kinetics_sounds.shards.index import Dataset, SplitFacts
from kinetics_sounds.shards.writer import Sample, ShardWriter

LABELS = ("humming", "clapping", "singing")


def parts(number: int) -> dict[str, bytes]:
    """Of sample `number`: each part tells whose it is."""
    made = {part: f"{part} of {number} ".encode() * (number + 1) for part in (layout.FRAMES, layout.MEL, layout.AUDIO)}
    return made | {layout.META: json.dumps({"number": number}).encode()}


def make(
    folder: Path,
    counts: tuple[int, ...],
    *,
    recipe: str = "a recipe",
    parts: Callable[[int], Mapping[str, bytes]] = parts,
    **facts_of_set: Any,
) -> Path:
    """A set of one split, `train`, of so many samples a shard: `k_0`, `k_1` and so on, whose labels alternate.

    `facts_of_set` are what `dataset.json` says otherwise.
    """
    made, number = [], 0
    for shard, count in enumerate(counts):
        with ShardWriter(layout.tar_path(folder, "train", shard), recipe=recipe) as writer:
            for _ in range(count):
                writer.write(Sample(key=f"k_{number}", label_index=number % 3, parts=parts(number)))
                number += 1
            made.append(writer.close())
    facts = SplitFacts(
        shards=len(counts), samples=number, bytes=sum(each.bytes for each in made), left=0, fingerprint=""
    )
    told = {"parts": next((each.parts for each in made if each.parts), ()), "splits": {"train": facts}}
    describe(folder, recipe=recipe, **told | facts_of_set)
    return folder


def describe(folder: Path, **facts_of_set: Any) -> None:
    """Write the `dataset.json` of a set, which says these facts and otherwise as little as it can."""
    least = Dataset(
        recipe="a recipe",
        fingerprint="",
        classes="three",
        note="",
        labels=LABELS,
        parts=(),
        splits={},
        frames={},
        mel={},
        audio={},
        shuffle_seed=0,
        shard_bytes=1,
        versions={},
    )
    index.write(folder / layout.DATASET, dataclasses.replace(least, **facts_of_set))


def upload(folder: Path, url: str) -> str:
    """A set's copy at a URL."""
    for path in folder.rglob("*.*"):
        remote.upload(path, remote.join(url, *path.relative_to(folder).parts))
    return url
