"""Shipped recipes: a YAML file each, or a row of a table that says what it sets otherwise."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from kinetics_sounds import plugins
from kinetics_sounds.errors import SettingsError
from kinetics_sounds.settings import Layers

RECIPES = Path(__file__).parents[1] / "recipes"
TABLES = "_tables"
"""How the name of a file ends that holds many recipes."""
FALLBACK = "avcl_k32_recommended"
"""The recipe for a class list that has none of its own."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A shipped recipe: a file of its own, or a row of a table: another recipe and what is set otherwise."""

    config: Path | Layers
    head: tuple[str, ...]
    """Its command, hardware, time and score, and what else is to be known: a line each."""


@cache
def recipes() -> Mapping[str, Recipe]:
    """Every shipped recipe by name: those of a file each, then the rows of the tables in their order."""
    tables = sorted(RECIPES.glob(f"*{TABLES}.yaml"))
    found: dict[str, Recipe] = {}
    for path in sorted({*RECIPES.glob("*.yaml")}.difference(tables)):
        lines = path.read_text("utf-8").splitlines()
        found[path.stem] = Recipe(config=path, head=tuple(line[1:].strip() for line in lines if line.startswith("#")))
    for path in tables:
        for table in yaml.safe_load(path.read_text("utf-8")):
            found |= {name: _row(path, table, name) for name in table["recipes"]}
    return found


def _row(path: Path, table: Mapping[str, Any], name: str) -> Recipe:
    """One recipe of a table of `path`."""
    row, base = table["recipes"][name], table["base"]
    its = {**table, **row}
    score = "none in the paper, none at full size yet"
    if "score" in row:
        score = f"the paper's {row['score']}% {its['judged']}, {its['note']}"
    where = f" --shards {its['shards']}" if "shards" in its else ""
    begins = f" --init runs/{its['init']}" if "init" in its else ""
    changed = yaml.safe_dump(row["set"], default_flow_style=True, width=math.inf).strip()
    return Recipe(
        config=Layers(path / name, (RECIPES / f"{base}.yaml", changed)),
        head=(
            f"{row['is']}.",
            f"command:  ks-train --config {name}{where}{begins}",
            f"hardware: {its['hardware']}",
            f"time:     {its['time']}",
            f"score:    {score}",
            f"changes:  {f'{base} with {changed}' if row['set'] else f'none, it is {base}'}",
        ),
    )


def find_recipe(name: str) -> Path | Layers:
    """What `--config` names: a path, else a shipped recipe; raises SettingsError that lists the names."""
    path, shipped = Path(name), recipes()
    if path.is_file():
        return path
    if name not in shipped:
        raise SettingsError(
            f"--config {name}: is neither a file nor a recipe; recipes: {', '.join(shipped)}{plugins.nearest(name, shipped)}"
        )
    return shipped[name].config


def recipe_for(classes: str) -> str:
    """The recommended recipe for a class list."""
    own = f"avcl_{classes}_recommended"
    return own if own in recipes() else FALLBACK


def classes_of(recipe: str) -> str | None:
    """The class list that a recipe's name speaks of, k32 of avcl_k32_recommended; None where it speaks of none."""
    found = re.search(r"_(k\d+)(_|$)", recipe)
    return found[1] if found else None
