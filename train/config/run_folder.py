"""The run folder and the facts that it records.

RUN/config.yaml         all settings that the run uses; reproduce it with `ks-train --config RUN/config.yaml`
RUN/run.json            data (folder, split, fingerprints), recipe name, versions
RUN/metrics.jsonl       one line every `log_every` steps and at every checkpoint
RUN/tensorboard/        the same for TensorBoard
RUN/checkpoints/        see `engine/checkpoint.py`
"""

import dataclasses
import functools
import subprocess
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from kinetics_sounds import files, remote
from kinetics_sounds.address import Address
from kinetics_sounds.config_text import read_config
from kinetics_sounds.errors import RunError
from kinetics_sounds.quantities import first_of
from kinetics_sounds.settings import Parsed, only_one
from kinetics_sounds.shards.index import FINGERPRINTS
from kinetics_sounds.stream import Split

from ..interface import Data
from . import recipes
from .settings import TrainSettings, chosen_groups, read_run

MOST_BYTES = 1 << 20
"""Maximum size of run.json."""
MOST_CLASSES, MOST_SAMPLES = 1 << 20, 1 << 40
"""Maximum values accepted from run.json."""
MOST_NAMED = 20
"""Maximum number of runs named in a message."""
ENCODERS = ("video", "audio")
"""Modules of the encoders in every method."""
CODE = ("kinetics_sounds", "pipelines", "train", "manifests")
"""Folders of a checkout whose files can affect a run."""
MODEL = ("method", "backbone", "audio_backbone", "encoders", "view", "seed")
"""Settings that determine, with the options of the chosen modules, a run's model, initial weights and view."""


def recipe_name(config: Path) -> str:
    """Name of a recipe: the file's or row's name, or for the config.yaml of a run, the recipe recorded in run.json."""
    if recipes.is_of_a_run(config):
        return str(read_facts(config.parent)["recipe"])
    return config.stem


def config_text(parsed: Parsed[TrainSettings]) -> str:
    """Contents of `config.yaml`: the settings, with the options of the modules that the run uses."""
    used = {name: parsed.groups[name] for name in chosen_groups(parsed.settings)}
    text = dataclasses.replace(parsed, groups=used).text
    return text.replace("\nresume: anyway\n", "\nresume: auto\n")


def find_shards(settings: TrainSettings, configs: Sequence[Path] = ()) -> Address:
    """Folder or URL of the shards: --shards, else the default folder of the recipe's classes, else the only set under data/."""
    if settings.shards is not None:
        return Address(settings.shards.real)
    own = recipes.classes_of(recipe_name(configs[-1])) if configs else None
    if own is not None and Path("data", own, "shards", "dataset.json").is_file():
        return Address(str(Path("data", own, "shards")))
    return Address(str(only_one("data/*/shards/dataset.json", option="--shards", make="ks-shard").parent))


def out_of(parsed: Parsed[TrainSettings]) -> Path:
    """Run folder of parsed settings, which include a config."""
    return parsed.settings.out or Path("runs") / recipe_name(parsed.configs[-1])


def facts(split: Split, data: Data, *, recipe: str, shards: Address, versions: Mapping[str, str]) -> dict[str, Any]:
    """Contents of `run.json`. Selection and content fingerprints are empty for shard sets of schema 1."""
    of_split = split.dataset.every_split[split.name]
    return {
        "recipe": recipe,
        "shards": recorded(shards),
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
        "git": git_state(Path(__file__).parents[2]),
    }


def recorded(shards: Address) -> str:
    """The place of shards as run.json and results.json have it: a masked URL, or an absolute path."""
    return str(shards) if remote.is_url(shards) else str(Path(shards.real).absolute())


def data_of(split: Split, settings: TrainSettings) -> Data:
    """Facts about a split and a run that a method may depend on."""
    per_epoch = len(split) // settings.batch * settings.clips_per_video
    return Data(
        classes=len(split.dataset.labels),
        samples=len(split),
        steps=settings.steps or settings.epochs * per_epoch,
        steps_per_epoch=per_epoch,
        batch=settings.batch,
    )


def data_for_evaluation(facts: Mapping[str, Any]) -> Data:
    """The recorded `Data` of a run with `samples=0`: no memory bank is allocated for evaluation."""
    return Data(**facts["data"])._replace(samples=0)


def git_state(root: Path) -> dict[str, Any] | None:
    """Commit of the code and whether it has uncommitted changes or new files; None outside a git checkout."""
    if not (root / ".git").exists():
        return None
    told = []
    untracked = ["ls-files", "--others", "--exclude-standard", "--", *CODE]
    for words in (["rev-parse", "HEAD"], ["status", "--porcelain", "--untracked-files=no"], untracked):
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
    return {"commit": told[0], "changed": bool(told[1] or told[2])}


def read_facts(folder: Path) -> dict[str, Any]:
    """Read `run.json`; raise RunError if the folder is not a run. `FINGERPRINTS` are empty for runs before 0.2.0."""
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
            if runs := _runs_below(folder):
                raise RunError(f"{folder}: is a folder of training runs; give one of them: {runs}") from error
            raise RunError(f"{folder}: is not a training run ({error}); give the --out of a ks-train") from error
        raise RunError(
            f"{folder / 'run.json'}: cannot be read: {error.strerror}; check that the disk is available"
        ) from error
    except (ValueError, TypeError) as error:
        raise RunError(f"{folder}: is not a training run ({error}); give the --out of a ks-train") from error
    return document


def _runs_below(folder: Path) -> str:
    """The first runs in a folder of them, or of a comparison; empty if there is none."""
    found = [path.parent for below in ("*", "*/*/*") for path in sorted(folder.glob(f"{below}/run.json"))]
    return first_of(map(files.as_text, found), MOST_NAMED)


def _check_facts(document: Mapping[str, Any]) -> None:
    """Raise ValueError or TypeError for values that `facts` would not write."""
    for name in ("shards", "train_split", "fingerprint", "recipe", *FINGERPRINTS):
        if not isinstance(document[name], str):
            raise TypeError(f"run.json: {name} is not a string")
    if not isinstance(document.get("mel", {}), dict):
        raise TypeError("run.json: mel is not an object")
    lacks = lacks_of(document)
    if not all(isinstance(name, str) and name.isidentifier() and name not in ENCODERS for name in lacks):
        raise ValueError("run.json: published: lacks are not names of modules besides the encoders")
    data = Data(**document["data"])
    for name, value in data._asdict().items():
        least, most = (1, MOST_CLASSES) if name == "classes" else (0, MOST_SAMPLES)
        if type(value) is not int or not least <= value <= most:
            raise ValueError(f"run.json: data: {name} {str(value)[:40]} is not an integer from {least} to {most}")


def lacks_of(facts: Mapping[str, Any]) -> list[str]:
    """Modules that converted weights of other authors lack (see `convert_weights`); empty for our own runs.

    Raises TypeError for other kinds of values than a list of them.
    """
    published = facts.get("published", {})
    lacks = published.get("lacks", []) if isinstance(published, dict) else None
    if not isinstance(lacks, list):
        raise TypeError("run.json: published: lacks is not a list")
    return lacks


def reopen(folder: Path) -> Parsed[TrainSettings]:
    """Read the settings of a run, for comparison only; see `model_of` for what is safe to use.

    Its method need not be installed, and then has no options.
    """
    read_facts(folder)
    path = folder / "config.yaml"
    try:
        text = read_config(path)
    except ValueError:
        text = ""  # which `read_run` explains
    return _read(path, text)


@functools.lru_cache(maxsize=16)
def _read(path: Path, _text: str) -> Parsed[TrainSettings]:
    """Read a config, once for each content: a command asks several times, and a read takes a tenth of a second."""
    return read_run(path)


def model_of(folder: Path) -> Parsed[TrainSettings]:
    """Read the settings of a run that determine its model and view, with defaults for all others.

    A run may come from an untrusted source, so its paths and machine settings are ignored.
    """
    return model_only(reopen(folder))


def model_only(parsed: Parsed[TrainSettings]) -> Parsed[TrainSettings]:
    """Keep the settings that determine model and view; reset all others to their defaults."""
    kept: dict[str, Any] = {name: getattr(parsed.settings, name) for name in MODEL}
    return dataclasses.replace(parsed, settings=TrainSettings(**kept))


def shards_of(facts: Mapping[str, Any]) -> Address:
    """Shards that a run was trained on; raises RunError for a URL, which is only opened if the user gives it, or for none."""
    if not facts["shards"]:
        raise RunError("the run has no shards of its own (its weights were converted); give those to use with --shards")
    shards = Address(str(facts["shards"]))
    if remote.is_url(shards):
        raise RunError(f"the run was trained on {shards}, a URL that is opened only if you give it with --shards")
    return shards


def shards_to_evaluate(given: Address | None, facts: Mapping[str, Any]) -> Address:
    """`--shards`, else those that the run was trained on; raises RunError if these are not there, and like `shards_of`."""
    if given is not None:
        return given
    shards = shards_of(facts)
    if not Path(shards.real).is_dir():
        raise RunError(f"the run was trained on {shards}, which is not there; give the shards with --shards")
    return shards


def split_of_best(folder: Path, best: Mapping[str, Any]) -> str | None:
    """Split that the best checkpoint of a run was chosen on; runs of 0.2.0 have it only as the last `val_split`."""
    return best.get("split") or reopen(folder).settings.val_split


def default_eval_split(splits: Collection[str]) -> str | None:
    """Default split to evaluate on: test, else val, else None."""
    return next((split for split in ("test", "val") if split in splits), None)
