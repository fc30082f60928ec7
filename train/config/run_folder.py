"""The folder of a run, and what it says of the run.

RUN/config.yaml         every setting; `ks-train --config RUN/config.yaml` says the same again
RUN/run.json            the data (folder, split, fingerprints), the recipe's name, versions
RUN/metrics.jsonl       a line every `log_every` steps and at every checkpoint
RUN/tensorboard/        the same for TensorBoard
RUN/checkpoints/        see `engine/checkpoint.py`
"""

import dataclasses
import subprocess
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from kinetics_sounds import files, remote
from kinetics_sounds.address import Address
from kinetics_sounds.errors import RunError
from kinetics_sounds.settings import Parsed, only_one
from kinetics_sounds.shards.index import FINGERPRINTS
from kinetics_sounds.stream import Split

from ..interface import Data
from . import recipes
from .settings import TrainSettings, read_settings

MOST_BYTES = 1 << 20
"""run.json is not larger."""
MOST_CLASSES, MOST_SAMPLES = 1 << 20, 1 << 40
"""Of the data that a run says it learnt from."""
MODEL = ("method", "backbone", "audio_backbone", "encoders", "view", "seed")
"""Settings that decide, with the options of these modules, a run's model, its initial weights and its view."""


def recipe_name(config: Path) -> str:
    """What a recipe is called: like its file or row, or like the recipe of the run whose config.yaml it is."""
    if recipes.is_of_a_run(config):
        return str(read_facts(config.parent)["recipe"])
    return config.stem


def find_shards(settings: TrainSettings, configs: Sequence[Path] = ()) -> Address:
    """The folder or URL of the shards as it was given, or those of the recipe's classes, or the only ones there are."""
    if settings.shards is not None:
        return Address(settings.shards.real)
    own = recipes.classes_of(recipe_name(configs[-1])) if configs else None
    if own is not None and Path("data", own, "shards", "dataset.json").is_file():
        return Address(str(Path("data", own, "shards")))
    return Address(str(only_one("data/*/shards/dataset.json", option="shards", make="ks-shard").parent))


def facts(split: Split, data: Data, *, recipe: str, shards: Address, versions: Mapping[str, str]) -> dict[str, Any]:
    """What `run.json` says; selection and content are empty where the set is of schema 1."""
    of_split = split.dataset.splits[split.name]
    return {
        "recipe": recipe,
        "shards": str(shards) if remote.is_url(shards) else str(Path(shards.real).absolute()),
        "train_split": split.name,
        "fingerprint": of_split.fingerprint,
        "selection": of_split.selection,
        "content": of_split.content,
        "data_recipe": split.dataset.recipe,
        "classes": split.dataset.classes,
        "data": data._asdict(),
        "mel": split.dataset.mel,
        "note": split.dataset.note,
        "versions": dict(versions),
        "git": _git(),
    }


def data_of(split: Split, settings: TrainSettings) -> Data:
    """What a method may know of a run on a split."""
    per_epoch = len(split) // settings.batch * settings.clips_per_video
    return Data(
        classes=len(split.dataset.labels),
        samples=len(split),
        steps=settings.steps or settings.epochs * per_epoch,
        steps_per_epoch=per_epoch,
        batch=settings.batch,
    )


def evaluated(facts: Mapping[str, Any]) -> Data:
    """What a method is told that is built to be evaluated: as in training, without rows that a memory bank would have."""
    return Data(**facts["data"])._replace(samples=0)


def _git() -> dict[str, Any] | None:
    """The commit of the code, and whether it was changed since; None where it is no checkout of ours."""
    root = Path(__file__).parents[2]
    if not (root / ".git").exists():
        return None
    told = []
    for words in (["rev-parse", "HEAD"], ["status", "--porcelain", "--untracked-files=no"]):
        try:
            done = subprocess.run(
                ["git", "-C", str(root), *words],
                capture_output=True,
                text=True,
                check=True,
                timeout=10,
            )
        except (OSError, subprocess.SubprocessError):
            return None
        told.append(done.stdout.strip())
    return {"commit": told[0], "changed": bool(told[1])}


def read_facts(folder: Path) -> dict[str, Any]:
    """`run.json` of a run; raises RunError where the folder is none. Runs before 0.2.0 have empty `FINGERPRINTS`."""
    try:
        document = files.read_json(folder / "run.json", most_bytes=MOST_BYTES)
        if not isinstance(document, dict):
            raise TypeError("run.json holds no table")
        if missing := {"shards", "train_split", "fingerprint", "recipe", "data"}.difference(document):
            raise ValueError(f"run.json lacks {', '.join(sorted(missing))}")
        document = dict.fromkeys(FINGERPRINTS, "") | document
        _check_facts(document)
    except OSError as error:
        if isinstance(error, FileNotFoundError | NotADirectoryError):
            raise RunError(f"{folder}: is no training run ({error}); give the --out of a ks-train") from error
        raise RunError(
            f"{folder / 'run.json'}: cannot be read: {error.strerror}; see that the disk is there"
        ) from error
    except (ValueError, TypeError) as error:
        raise RunError(f"{folder}: is no training run ({error}); give the --out of a ks-train") from error
    return document


def _check_facts(document: Mapping[str, Any]) -> None:
    """Raise ValueError or TypeError for facts of another kind than `facts` writes."""
    for name in ("shards", "train_split", "fingerprint", "recipe", *FINGERPRINTS):
        if not isinstance(document[name], str):
            raise TypeError(f"run.json: {name} is no text")
    if not isinstance(document.get("mel", {}), dict):
        raise TypeError("run.json: mel is no table")
    data = Data(**document["data"])
    for name, value in data._asdict().items():
        least, most = (1, MOST_CLASSES) if name == "classes" else (0, MOST_SAMPLES)
        if type(value) is not int or not least <= value <= most:
            raise ValueError(f"run.json: data: {name} {str(value)[:40]} is no number from {least} to {most}")


def reopen(folder: Path) -> Parsed[TrainSettings]:
    """The settings that a run was made with; to be compared, and not to be done: see `model_of`."""
    read_facts(folder)
    return read_settings(["--config", str(folder / "config.yaml"), "--resume=auto"])


def model_of(folder: Path) -> Parsed[TrainSettings]:
    """What of a run's settings decides its model and view; the others are the defaults.

    A run may come from a stranger: where things lie and how this machine works is not for it to say.
    """
    return model_only(reopen(folder))


def model_only(parsed: Parsed[TrainSettings]) -> Parsed[TrainSettings]:
    """What of settings decides the model and its view; the others are the defaults."""
    kept: dict[str, Any] = {name: getattr(parsed.settings, name) for name in MODEL}
    return dataclasses.replace(parsed, settings=TrainSettings(**kept))


def shards_of(facts: Mapping[str, Any]) -> Address:
    """The folder that a run learnt from; raises RunError for a URL, which a run may not have us ask unless the user names it."""
    shards = Address(str(facts["shards"]))
    if remote.is_url(shards):
        raise RunError(f"the run learnt from {shards}, which is not asked unless you name it: give it with --shards")
    return shards


def judged_split(splits: Collection[str]) -> str | None:
    """The split to be judged on where none is named: test, else val, else None."""
    return next((split for split in ("test", "val") if split in splits), None)
