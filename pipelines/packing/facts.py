"""What `dataset.json` says of a packed set."""

import dataclasses
import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from kinetics_sounds import files, fingerprints, manifest
from kinetics_sounds.clip import ALL, SPLITS, Outcome
from kinetics_sounds.folders import first_free
from kinetics_sounds.media import encode
from kinetics_sounds.shards import layout
from kinetics_sounds.shards.index import Dataset, Index, SplitFacts

from .encode_sample import Packing
from .job import Job

BATCH = 64
"""Batch of the recommended recipes."""
SMALL = "avcl_tiny"
"""Recipe for less than a batch."""
MOST_BYTES = 1 << 20
"""Maximum size of a run.json."""

Packed = tuple[str, str, str, str]
"""Key, label, split and the clip's SHA-256 of a sample."""


def dataset(done: Mapping[str, Sequence[Index]], job: Job, *, preset: str, shuffle_seed: int) -> Dataset:
    """Contents of `dataset.json` after all shards of each split are done; `preset` names the mel-spectrogram's parameters."""
    keys = {split: [key for each in indices for key in each.keys] for split, indices in done.items()}
    packed = {split: _packed(job.orders[split], keys[split]) for split in done}
    classes, packing = job.made.classes, job.packing
    folds = _folds(job, done.get(ALL, ()), packed.get(ALL, {}))
    return Dataset(
        recipe=job.recipe,
        fingerprint=manifest.fingerprint(key for each in keys.values() for key in each),
        classes=classes.name,
        note=classes.note,
        labels=classes.labels,
        parts=next((each.parts for indices in done.values() for each in indices if each.parts), ()),
        splits={
            split: SplitFacts(
                shards=len(indices),
                samples=len(keys[split]),
                bytes=sum(each.bytes for each in indices),
                left=sum(len(each.left) for each in indices),
                fingerprint=manifest.fingerprint(keys[split]),
                **fingerprints.both(packed[split].values()),
            )
            for split, indices in done.items()
        },
        **_parts(job, preset),
        shuffle_seed=shuffle_seed,
        shard_bytes=job.shard_bytes,
        versions=dict(each.split(" ", 1) for each in packing.versions.split("; ")),
        **fingerprints.both([row for rows in packed.values() for row in rows.values()]),
        folds=folds,
        schema=_schema(job.packing, folds),
    )


def _schema(packing: Packing, folds: Mapping[str, SplitFacts]) -> int:
    if folds:
        return layout.FOLDS_SCHEMA
    return layout.LABELS_SCHEMA if packing.several_labels else layout.DATASET_SCHEMA


def _parts(job: Job, preset: str) -> dict[str, dict[str, Any]]:
    """Parameters of frames, mel-spectrogram and audio; empty for a part that the set does not have."""
    packing = job.packing
    frames = {} if packing.modality == "audio" else encode.recipe(packing.encoding)
    if packing.modality == "video":
        return {"frames": frames, "mel": {}, "audio": {}}
    mel = dataclasses.asdict(packing.mel) | {"preset": preset}
    codec = "flac" if packing.audio else "none"
    return {"frames": frames, "mel": mel, "audio": {"codec": codec, "sample_rate": encode.SAMPLE_RATE, "channels": 1}}


def _packed(outcomes: Sequence[Outcome], keys: Iterable[str]) -> dict[str, Packed]:
    """All outcomes with a sample, in new or existing shards, by key."""
    keys = set(keys)
    return {
        each.clip.key: (each.clip.key, each.clip.label, each.clip.split, each.media.sha256)
        for each in outcomes
        if each.media is not None and each.clip.key in keys
    }


def _folds(job: Job, indices: Sequence[Index], packed: Mapping[str, Packed]) -> dict[str, SplitFacts]:
    """Facts of each split of each fold that has a clip: `fold1_train`, `fold1_test`, `fold2_train` and so on."""
    sizes = {key: sum(size) for each in indices for key, size in zip(each.keys, each.sizes, strict=True)}
    found: dict[str, SplitFacts] = {}
    for place, fold in enumerate(job.packing.folds or ()):
        for part in SPLITS:
            own = [each.clip for each in job.orders.get(ALL, ()) if each.clip.folds[place] == part]
            if not own:
                continue
            there = [clip for clip in own if clip.key in packed]
            rows = [(clip.key, clip.label, part, packed[clip.key][3]) for clip in there]
            found[f"{fold}_{part}"] = SplitFacts(
                shards=len(indices),
                samples=len(there),
                bytes=sum(sizes[clip.key] for clip in there),
                left=len(own) - len(there),
                fingerprint=manifest.fingerprint(clip.key for clip in there),
                **fingerprints.both(rows),
            )
    return found


def train_command(made: Dataset, shards: str) -> str:
    """Command that trains on a set: with its recommended recipe, or the smallest one if the set is smaller than a batch."""
    samples = made.splits["train"].samples if "train" in made.splits else 0
    small = 2 <= samples < BATCH
    options = ["--config", SMALL, "--batch", str(samples)] if small else []
    default = Path("runs", SMALL if small else recommended_recipe(made.classes))
    out = first_free(default, lambda each: not _has_run_of_other_data(each, made))
    return shlex.join(["ks-train", "--shards", shards, *options, *([] if out == default else ["--out", str(out)])])


def recommended_recipe(classes: str) -> str:
    """Recipe that ks-train takes for a class list."""
    return f"avcl_{classes if classes == 'k100' else 'k32'}_recommended"


def _has_run_of_other_data(folder: Path, made: Dataset) -> bool:
    """Whether a folder has a run that ks-train does not resume on this set."""
    try:
        run = files.read_json(folder / "run.json", most_bytes=MOST_BYTES)
    except (OSError, ValueError):
        return False
    train = made.splits["train"].fingerprint if "train" in made.splits else ""
    return isinstance(run, dict) and (run.get("fingerprint"), run.get("data_recipe")) != (train, made.recipe)
