"""Plan of a comparison: recipes, seeds and protocols. Rejects what cannot produce a row before anything is trained."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from kinetics_sounds import plugins
from kinetics_sounds.address import Address
from kinetics_sounds.errors import SettingsError
from kinetics_sounds.renamed import current
from kinetics_sounds.settings import Parsed
from kinetics_sounds.shards import reader

from .. import evaluate
from ..config import run_folder
from ..config.settings import TrainSettings, check_used, chosen_groups, read_settings

OWN = ("seed", "out", "shards", "config", "init_from", "resume")
"""ks-train options that the comparison sets itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Recipes, seeds and protocols to run."""

    recipes: Mapping[str, Parsed[TrainSettings]]
    """Settings by recipe, in the order of the table."""
    seeds: tuple[int, ...]
    protocols: tuple[str, ...]
    shards: Address
    out: Path
    more: tuple[str, ...]
    """Options given for every ks-train."""

    def folder(self, recipe: str, seed: int) -> Path:
        """Folder of one row."""
        return self.out / Path(recipe).stem / f"seed-{seed}"

    def options(self, recipe: str) -> list[str]:
        """Options passed to ks-train for a recipe: all but those of a method, backbone or view that only other recipes have."""
        parsed = self.recipes[recipe]
        idle = set(parsed.groups).difference(chosen_groups(parsed.settings))
        kept: list[str] = []
        keeps = True
        for word in self.more:
            if word.startswith("--"):
                keeps = word[2:].partition("=")[0].partition(".")[0] not in idle
            kept += [word] if keeps else []
        return kept

    def supervised(self, recipe: str) -> bool:
        """Whether a recipe trains a classifier."""
        return self.recipes[recipe].settings.method == "supervised"

    def modality(self, recipe: str) -> str:
        """Modality that a recipe trains: both, video or audio."""
        parsed = self.recipes[recipe]
        return str(getattr(parsed.groups[parsed.settings.method], "modalities", "both"))

    def asked(self, recipe: str) -> dict[str, str]:
        """ks-eval command by table protocol: supervised runs use vote instead of finetune.

        Protocols that evaluate only a modality that the recipe does not train are left out.
        """
        supervised, seen = self.supervised(recipe), self.modality(recipe)
        names = [
            name for name in self.protocols if seen in ("both", _modality_of(name)) or _modality_of(name) == "both"
        ]
        return {name: "vote" if supervised and name == "finetune" else name for name in names}

    def chosen(self, recipe: str) -> bool:
        """Whether a recipe's runs have a best checkpoint, selected on another split than the one evaluated on.

        As in fine-tuning, selecting on the evaluated clips would inflate the score.
        """
        val = self.recipes[recipe].settings.val_split
        return val is not None and val != run_folder.default_eval_split(reader.read_dataset(self.shards).splits)


def planned(
    asked: Sequence[str],
    *,
    seeds: str,
    protocols: str,
    shards: Address | None,
    out: Path,
    more: tuple[str, ...],
) -> Plan:
    """Build the plan; raise SettingsError for anything that cannot be compared."""
    names = [Path(recipe).stem for recipe in asked]
    if len(set(names)) < len(names):
        raise SettingsError(f"two recipes have the same name: {', '.join(names)}; rename one")
    try:
        numbers = tuple(int(word) for word in seeds.split(",") if word.strip())
    except ValueError as error:
        raise SettingsError(f"--seeds {seeds}: must be integers, separated by commas") from error
    if len(set(numbers)) < len(numbers):
        raise SettingsError(f"--seeds {seeds}: contains a seed twice, which would give the same run")
    judges = tuple(dict.fromkeys(word.strip() for word in protocols.split(",") if word.strip()))
    for name in judges:
        _check_protocol(name)
    if not numbers or min(numbers) < 0 or not judges:
        raise SettingsError("--seeds and --protocols: give at least one of each, seeds of 0 or more")
    for word in more:
        if word.startswith("--") and current(word[2:].partition("=")[0]) in OWN:
            raise SettingsError(f"{word} after --: is set by this command; leave it out")
    parsed = {recipe: read_settings(["--config", recipe, *more]) for recipe in asked}
    check_used(more, *parsed.values())
    first = parsed[asked[0]]
    found = shards or run_folder.find_shards(first.settings, first.configs)
    plan = Plan(recipes=parsed, seeds=numbers, protocols=judges, shards=found, out=out, more=more)
    for recipe in asked if "vote" in judges else ():
        if not plan.supervised(recipe):
            raise SettingsError(
                f"--protocols vote: {recipe} has no classifier; use finetune, which trains one "
                "(recipes of --method supervised vote with their own)"
            )
    return plan


def has_untrained(name: str) -> bool:
    """Whether a protocol can evaluate untrained encoders, which have no classifier to vote with."""
    return is_probe(name) or "untrained" in _options(name)


def is_seeded(name: str) -> bool:
    """Whether a protocol has a --seed option; it is set to the seed of the run."""
    return not is_probe(name) and "seed" in _options(name)


def is_probe(name: str) -> bool:
    """Whether a name is a probe of frozen features; ks-eval runs several of them at once."""
    return name in plugins.names(evaluate.PROBES)


def _check_protocol(name: str) -> None:
    """Raise SettingsError for an unknown protocol, or one that cannot produce a table row."""
    if name not in evaluate.names():
        raise SettingsError(
            f"--protocols: there is no {name!r}; available: {', '.join(evaluate.names())}"
            f"{plugins.nearest(name, evaluate.names())}"
        )
    if is_probe(name):
        return
    needs = [option for option, optional in _options(name).items() if not optional and option != "run"]
    why = "gives no score"
    if getattr(plugins.load(evaluate.PROTOCOLS, name), "SCORES", True):
        why = f"needs --{', --'.join(needs)}, which this command does not set" if needs else ""
    if why:
        raise SettingsError(f"--protocols {name}: {why}; leave it out, and run ks-eval {name} on each run afterwards")


def _modality_of(name: str) -> str:
    """Modality that a protocol evaluates by default; "both" if it has no such option."""
    if is_probe(name):
        return "both"
    return next((str(each.default) for each in _fields(name) if each.name == "modality"), "both")


def _fields(name: str) -> tuple[dataclasses.Field[Any], ...]:
    """Options of a protocol."""
    return fields(plugins.load(evaluate.PROTOCOLS, name).Settings)


def _options(name: str) -> dict[str, bool]:
    """Options of a protocol, and whether each is optional."""
    missing = dataclasses.MISSING
    return {each.name: each.default is not missing or each.default_factory is not missing for each in _fields(name)}
