"""A run that tells classes apart, and sets with folds."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest

from kinetics_sounds.clip import ALL
from kinetics_sounds.shards import index, layout
from kinetics_sounds.shards.index import Dataset, SplitFacts
from kinetics_sounds.shards.writer import ShardWriter
from kinetics_sounds.train import pretrain

from ..conftest import LENGTHS, RECIPE, SIDE, sample


@pytest.fixture(scope="session")
def classified(small: Callable[..., list[str]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A supervised run of three steps, with a validation; not to be changed."""
    out = tmp_path_factory.mktemp("runs") / "classified"
    assert pretrain.main(small(out, "--method=supervised", "--steps=3", "--val_split=test")) == 0
    return out


def write_folds(
    folder: Path, films: dict[int, bytes], *, samples: int = 12, folds: int = 3, pictures: bool = False
) -> Path:
    """A set whose sample number n is tested in fold 1 + n // 2 % folds and trains in the others; with pictures alone if asked."""
    names = [f"fold{fold}" for fold in range(1, folds + 1)]
    tested = {number: names[number // 2 % folds] for number in range(samples)}
    with ShardWriter(layout.tar_path(folder, ALL, 0), recipe=RECIPE) as writer:
        for number in range(samples):
            made = sample(number, films, LENGTHS[number % len(LENGTHS)], sound=False)
            parts = {name: part for name, part in made.parts.items() if not pictures or name != layout.MEL}
            own = {name: "test" if tested[number] == name else "train" for name in names}
            writer.write(dataclasses.replace(made, parts=parts, folds=own))
        stored = writer.close()

    def facts(count: int, name: str) -> SplitFacts:
        return SplitFacts(shards=1, samples=count, bytes=1, left=0, fingerprint=f"{count} of {name}")

    each = {f"{name}_test": sum(own == name for own in tested.values()) for name in names}
    each |= {f"{name}_train": samples - each[f"{name}_test"] for name in names}
    dataset = Dataset(
        recipe=RECIPE,
        fingerprint="all",
        classes="folded",
        note="made by tests",
        labels=("even", "odd"),
        parts=stored.parts,
        splits={ALL: facts(samples, ALL)},
        folds={name: facts(count, name) for name, count in each.items()},
        frames={"short_side": SIDE},
        mel={} if pictures else {"preset": "paper", "bands": 256, "columns": 256},
        audio={},
        shuffle_seed=0,
        shard_bytes=1,
        versions={},
        schema=layout.FOLDS_SCHEMA,
    )
    index.write(folder / layout.DATASET, dataset)
    return folder


@pytest.fixture(scope="session")
def folded(tmp_path_factory: pytest.TempPathFactory, films: dict[int, bytes]) -> Path:
    """12 samples of two classes in three folds: 8 to train on and 4 to test on in each; not to be changed."""
    return write_folds(tmp_path_factory.mktemp("folded") / "shards", films)
