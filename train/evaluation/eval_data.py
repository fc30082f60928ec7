"""Data that a run is evaluated on."""

import contextlib
import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from kinetics_sounds import plugins, remote
from kinetics_sounds.address import Address
from kinetics_sounds.errors import RunError, ShardError
from kinetics_sounds.shards import reader
from kinetics_sounds.shards.index import Dataset
from kinetics_sounds.stream import Split

from ..config import run_folder
from ..config.settings import PLUGINS
from ..data.dataset import Cached, open_split, shared_samples
from ..engine import checkpoint, checkpoint_state
from .encoders import Encoders, of_pictures


class EvalDataSettings(Cached, Protocol):
    """Settings of a command that evaluates a run."""

    @property
    def run(self) -> Path:
        """Run folder."""
        ...

    @property
    def shards(self) -> Address | None:
        """Shard set; None: the run's own."""
        ...

    @property
    def on_split(self) -> str | None:
        """Split to evaluate on; None: the default split."""
        ...


class Selected(Protocol):
    """Settings of a command that evaluates a checkpoint of a run."""

    @property
    def run(self) -> Path:
        """Run folder."""
        ...

    @property
    def checkpoint(self) -> str:
        """Name of the checkpoint."""
        ...


@dataclass(frozen=True, slots=True)
class EvalData:
    """Facts of a run, and the split to evaluate it on."""

    facts: dict[str, Any]
    shards: Address
    dataset: Dataset
    on: str
    split: Split


def open_eval_data(settings: EvalDataSettings) -> EvalData:
    """Open the data that the settings select. Default: test, else val, else the training split of the run's own shards.

    Raises RunError if the folder is not a run, or the run reads mel-spectrograms and those of the shard set differ.
    """
    facts = run_folder.read_facts(settings.run)
    shards = run_folder.shards_to_evaluate(settings.shards, facts)
    dataset = reader.read_dataset(shards)
    on = settings.on_split or run_folder.default_eval_split(dataset.splits) or facts["train_split"]
    check_mel(settings.run, facts, dataset, shards=shards)
    return EvalData(facts, shards, dataset, on, open_split(settings, shards, on))


def suited(encoders: Encoders, dataset: Dataset) -> Encoders:
    """Encoders whose view reads what the set has: see `of_pictures`."""
    return dataclasses.replace(encoders, view_settings=of_pictures(encoders.view_settings, dataset))


def check_mel(run: Path, facts: Mapping[str, Any], dataset: Dataset, *, shards: Address) -> None:
    """Raise RunError if a run reads mel-spectrograms and the shard set made them with other parameters."""
    parsed = run_folder.model_of(run)
    name = parsed.settings.view
    if not plugins.load(PLUGINS["view"], name).inputs(of_pictures(parsed.groups[name], dataset)).reads_mel:
        return
    if dataset.modality == "video":
        return  # there are none, and a view that needs them refuses the set
    own = facts.get("mel") or dataset.mel
    if differ := [name for name in {**own, **dataset.mel} if own.get(name) != dataset.mel.get(name)]:
        told = ", ".join(f"{name} {dataset.mel.get(name)} rather than {own.get(name)}" for name in differ)
        raise RunError(
            f"{shards}: its mel-spectrograms are not like those that the run was trained on: {told}; pack that set with "
            "the ks-shard settings of the run's own"
        )


def seen_in_training(
    settings: Cached, shards: Address, dataset: Dataset, facts: Mapping[str, Any], on: str
) -> int | None:
    """How many samples of the split `on` the run was trained on, by their keys; None if its own set cannot be read any more.

    Where the run was trained on no split of this set, its own is read if it is a folder that still holds that split.
    """
    own = next((name for name, each in dataset.every_split.items() if each.fingerprint == facts["fingerprint"]), None)
    if own is None:
        return _seen_of_another_set(settings, shards, facts, on)
    if own == on:
        return dataset.every_split[on].samples
    return shared_samples(settings, shards, dataset, own, on)


def selected_on(settings: Selected, path: Path | None, facts: Mapping[str, Any], dataset: Dataset) -> str | None:
    """Split that the checkpoint `path` was selected on, if it is the best one and the run was trained on this set, else None.

    The last one of a run was not selected, even if it is the best; that of a published run was if its state says so. Ask before
    the work: a run that goes on training may have another best one at its end.
    """
    its_set = any(each.fingerprint == facts["fingerprint"] for each in dataset.every_split.values())
    published = not (settings.run / "metrics.jsonl").is_file()
    if path is None or not its_set or (settings.checkpoint == "last" and not published):
        return None
    state = checkpoint_state.read_state(path)
    best = state.get("best")
    with contextlib.suppress(RunError):  # a damaged last one is no reason not to evaluate another
        best = checkpoint_state.read_state(checkpoint.find(settings.run / "checkpoints", "last")).get("best")
    if best is None or best["step"] != state["step"]:
        return None
    return run_folder.split_of_best(settings.run, best)


def note_selected(selected: str | None, on: str) -> list[str]:
    """A line for users if the checkpoint was selected on the split that it is evaluated on, else none."""
    if selected != on:
        return []
    return [f"note: the checkpoint was selected on the split {on!r}, which it is evaluated on: scores are optimistic"]


def _seen_of_another_set(settings: Cached, shards: Address, facts: Mapping[str, Any], on: str) -> int | None:
    """How many samples of the split `on` have a key of the run's training split, which is in another set; None if unreadable."""
    name, place = facts["train_split"], facts["shards"]
    if not place or remote.is_url(place):
        return None
    try:
        its = reader.read_dataset(place).every_split
        if name not in its or its[name].fingerprint != facts["fingerprint"]:
            return None
        taught_M = open_split(settings, Address(place), name).key_N
    except ShardError:
        return None
    return len(np.intersect1d(taught_M, open_split(settings, shards, on).key_N))
