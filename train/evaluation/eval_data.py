"""Data that a run is evaluated on."""

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from kinetics_sounds import plugins
from kinetics_sounds.address import Address
from kinetics_sounds.errors import RunError, SettingsError
from kinetics_sounds.shards import reader
from kinetics_sounds.shards.index import Dataset
from kinetics_sounds.stream import Split

from ..config import run_folder
from ..config.settings import PLUGINS
from ..data.dataset import Cached, open_split
from .encoders import Encoders


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
    shards = settings.shards or run_folder.shards_of(facts)
    dataset = reader.read_dataset(shards)
    on = settings.on_split or run_folder.default_eval_split(dataset.splits) or facts["train_split"]
    check_mel(settings.run, facts, dataset, shards=shards)
    return EvalData(facts, shards, dataset, on, open_split(settings, shards, on))


def of_pictures(view_settings: Any, dataset: Dataset) -> Any:  # noqa: ANN401 - the view's own Settings
    """Settings of a view without sound, if the set has pictures alone and the view can do without."""
    if dataset.modality == "video" and hasattr(view_settings, "modality"):
        return dataclasses.replace(view_settings, modality="video")
    return view_settings


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


def check_apart(settings: Cached, shards: Address, dataset: Dataset, names: Sequence[str | None]) -> None:
    """Raise SettingsError if two of these splits (None: not used) share clips, as splits of different folds do.

    Other splits never share any.
    """
    fold_of = {name: name.partition("_")[0] for name in names if name is not None}
    for one, other in itertools.combinations(fold_of, 2):
        if fold_of[one] != fold_of[other] and not dataset.folds.keys().isdisjoint((one, other)):
            key_M, key_N = (open_split(settings, shards, name).key_N for name in (one, other))
            if shared := len(np.intersect1d(key_M, key_N)):
                raise SettingsError(
                    f"{one} and {other}: share {shared} clips, so that scores would be too high; choose splits of one fold"
                )


def note_trained_on(settings: Cached, shards: Address, dataset: Dataset, facts: Mapping[str, Any], on: str) -> str:
    """A line for users if the run was trained on clips of the split `on`: all, or some where it was on another fold's split.

    Empty if it was not, or on clips that are no split of this set.
    """
    own = next((name for name, each in dataset.every_split.items() if each.fingerprint == facts["fingerprint"]), None)
    if own is None or dataset.folds.keys().isdisjoint((own, on)):
        return "note: the encoders were trained on these clips" if own == on else ""
    key_M, key_N = (open_split(settings, shards, name).key_N for name in (own, on))
    shared = len(np.intersect1d(key_M, key_N))
    return f"note: the encoders were trained on {shared} of these {len(key_N)} clips ({own})" if shared else ""
