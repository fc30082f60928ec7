"""Shipped recipes: one YAML file each, or one row of a table that lists changes to a base recipe."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from kinetics_sounds import plugins
from kinetics_sounds.config_text import read_config, split_base
from kinetics_sounds.errors import SettingsError
from kinetics_sounds.settings import Layers

RECIPES = Path(__file__).parents[1] / "recipes"
TABLES = "_tables"
"""Suffix of files that contain many recipes."""
FALLBACK = "avcl_k32_recommended"
"""Recipe for class lists without a recipe of their own."""
SMALL = "avcl_tiny"
"""Recipe that trains in minutes on CPU cores."""
UNTRIED = "Of these, only avcl_tiny has been run at full size here; scores of papers are as published."
MOST_BASES = 8
"""Maximum length of a chain of `base:` configs."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A shipped recipe: a file, or a row of a table (a base recipe and its changes)."""

    config: Path | Layers
    head: tuple[str, ...]
    """Header lines: command, hardware, time, score and further notes."""


@cache
def recipes() -> Mapping[str, Recipe]:
    """All shipped recipes by name: first the files, then the rows of tables in order."""
    tables = sorted(RECIPES.glob(f"*{TABLES}.yaml"))
    found: dict[str, Recipe] = {}
    for path in sorted({*RECIPES.glob("*.yaml")}.difference(tables)):
        found[path.stem] = Recipe(config=path, head=head_of(path))
    for path in tables:
        for table in yaml.safe_load(path.read_text("utf-8")):
            found |= {name: _row(path, table, name) for name in table["recipes"]}
    return found


def _row(path: Path, table: Mapping[str, Any], name: str) -> Recipe:
    """Build one recipe from a row of the table in `path`."""
    row, base = table["recipes"][name], table["base"]
    its = {**table, **row}
    score = "none in the paper, none at full size yet"
    if row.get("score") == "illegible":
        score = "the paper's is not legible in our copy, none at full size yet"
    elif "score" in row:
        score = f"the paper's {row['score']}% {its['judged']}, {its['note']}"
    where = f" --shards {its['shards']}" if "shards" in its else ""
    begins = f" --init_from runs/{its['init_from']}" if "init_from" in its else ""
    changed = _on_one_line(row["set"])
    return Recipe(
        config=Layers(path / name, (RECIPES / f"{base}.yaml", changed)),
        head=(
            f"{row['is']}.",
            f"command:  ks-train --config {name}{where}{begins}",
            f"hardware: {its['hardware']}",
            f"time:     {its['time']}",
            f"score:    {score}",
            *(line for line in head_of(RECIPES / f"{base}.yaml") if line.startswith("shards:")),
            _changes(base, changed),
        ),
    )


def _changes(base: object, changed: str) -> str:
    """Header line: what a recipe changes of its base."""
    return f"changes:  {f'{base} with {changed}' if changed != '{}' else f'none, it is {base}'}"


def changes_of(path: Path) -> tuple[str, ...]:
    """Header line of what a file with a `base` changes of it; none without a base."""
    base, own = _split(path)
    return () if base is None else (_changes(base, _on_one_line(yaml.safe_load(own))),)


def _on_one_line(settings: Mapping[str, Any]) -> str:
    return yaml.safe_dump(settings, default_flow_style=True, width=math.inf).strip()


def head_of(path: Path) -> tuple[str, ...]:
    """Lines of a recipe file that begin with #, without the #."""
    return tuple(line[1:].strip() for line in path.read_text("utf-8").splitlines() if line.startswith("#"))


def format_recipes(heads: Mapping[str, Sequence[str]]) -> str:
    """Format recipes by name with their headers, as `--list` shows them."""
    shown = ["\n".join([name, *(f"    {line}" for line in head)]) for name, head in heads.items()]
    return "\n\n".join([*shown, UNTRIED] if recipes().keys() & heads.keys() else shown)


def list_every() -> str:
    """Format all shipped recipes with their headers."""
    return format_recipes({name: recipe.head for name, recipe in recipes().items()})


def find_recipe(name: str) -> Path | Layers:
    """Resolve `--config`: a path, else the name of a shipped recipe; raise SettingsError that suggests similar names.

    A config with `base:` is returned as layers: the base, then its own settings. The config.yaml of a run is never layered: it
    contains all settings and may come from an untrusted source.
    """
    path, shipped = Path(name), recipes()
    if path.is_file():
        return _layered(path)
    if name not in shipped:
        raise SettingsError(
            f"--config {name}: is neither a file nor a recipe{plugins.nearest(name, shipped)}; list them with: ks-train --list"
        )
    return _layered(shipped[name].config)


def is_of_a_run(config: Path) -> bool:
    """Whether a config is the config.yaml of a run folder."""
    return config.name == "config.yaml" and (config.parent / "run.json").is_file()


def _layered(config: Path | Layers, above: tuple[Path, ...] = ()) -> Path | Layers:
    """Resolve the chain of `base:` configs; `above` are the configs that led to this one."""
    if isinstance(config, Layers):
        whole, changed = config.parts
        below = _layered(Path(whole), above)
        return Layers(config.name, (*_parts(below), changed), (*_places(below), None))
    base, own = _split(config)
    if base is None:
        return config
    if not isinstance(base, str):
        raise SettingsError(
            f"{config}: base: {base!r} is not a name; give that of a recipe, or of a file in the same folder"
        )
    if len(above) == MOST_BASES or config.resolve() in above:
        why = "in a circle" if config.resolve() in above else f"on more than {MOST_BASES} others"
        raise SettingsError(f"{config}: base: {base}: recipes build {why}; write the settings out")
    shipped, beside = recipes(), config.parent / base
    if not beside.is_file() and base not in shipped:
        there = (config.parent / f"{base}.yaml").is_file()
        hint = f" (did you mean '{base}.yaml'?)" if there else plugins.nearest(base, shipped)
        raise SettingsError(
            f"{config}: base: {base} is neither a file (there is no {beside}) nor a recipe{hint}; list them with: "
            "ks-train --list"
        )
    below = _layered(beside if beside.is_file() else shipped[base].config, (*above, config.resolve()))
    settings = yaml.safe_load(own)
    if "epochs" in settings and "steps" not in settings:
        own += "steps: null\n"  # those of the base, which would override the epochs
    return Layers(config, (*_parts(below), own), (*_places(below), None))


def _parts(config: Path | Layers) -> tuple[Path | str, ...]:
    return config.parts if isinstance(config, Layers) else (config,)


def _places(config: Path | Layers) -> tuple[Path | None, ...]:
    """Names of a config's layers for error messages."""
    if isinstance(config, Layers):
        return tuple(place or config.name for place in config.places or (None,) * len(config.parts))
    return (config,)


def _split(path: Path) -> tuple[object, str]:
    """Split off `base:`; None if there is none or the file is not a valid config, which is reported when it is parsed."""
    if is_of_a_run(path):
        return None, ""
    try:
        return split_base(read_config(path))
    except (ValueError, yaml.YAMLError):
        return None, ""


def recipe_for(classes: str) -> str:
    """Recommended recipe for a class list."""
    own = f"avcl_{classes}_recommended"
    return own if own in recipes() else FALLBACK


def classes_of(recipe: str) -> str | None:
    """Class list in a recipe's name (k32 for avcl_k32_recommended), or None."""
    found = re.search(r"_(k\d+)(_|$)", recipe)
    return found[1] if found else None


def flat(document: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flatten nested settings to option names such as `optim.lr`."""
    found: dict[str, Any] = {}
    for name, value in document.items():
        found |= flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return found
