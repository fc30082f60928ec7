"""Settings of training runs that a page shows: some of every run, and those in which several runs differ."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import yaml

from kinetics_sounds import config_text
from kinetics_sounds.errors import RunError
from kinetics_sounds.renamed import rename_keys

from ..publishing.run_facts import CONFIG

CONFIG_FILE = "config.yaml"
MAIN = ("method", "seed", "optim.lr")
"""Settings that are shown of every run."""
IN_FACTS = ("train_split", "batch", "steps")
"""Settings that run.json tells too."""
MODULES = ("method", "backbone", "audio_backbone", "view")
"""Settings that name a group of settings."""
MOST_SHOWN = 10
"""Maximum number of settings in which runs differ that are shown."""
MOST_LETTERS = 100
"""Maximum length of a value."""


def read(run: Path) -> dict[str, str]:
    """Settings of a run that affect training, by dotted name; none without config.yaml. Raises RunError if it is damaged."""
    path = run / CONFIG_FILE
    if not path.is_file():
        return {}
    try:
        text = config_text.read_config(path)
        config_text.check_bounds(text)
        found = yaml.safe_load(text)
        found = rename_keys(found, place=path) if isinstance(found, dict) else {}
    except (ValueError, yaml.YAMLError) as error:
        raise RunError(f"{path}: cannot be read ({str(error).partition(chr(10))[0]}); repair or remove it") from error
    chosen = [str(found.get(name)) for name in MODULES]
    return dict(_flat({name: found[name] for name in (*CONFIG, *chosen) if name in found}))


def _flat(table: Mapping[str, object], before: str = "") -> Iterator[tuple[str, str]]:
    for name, value in table.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{before}{name}.")
        else:
            text = value if isinstance(value, str) else json.dumps(value, default=str)
            yield f"{before}{name}", text[:MOST_LETTERS]


def shown(settings: Sequence[Mapping[str, str]]) -> tuple[list[str], int]:
    """Names of the settings to show of these runs, and how many more of those that all have differ."""
    names = list(dict.fromkeys(name for each in settings for name in each))
    differ = [
        name
        for name in names
        if name not in (*MAIN, *IN_FACTS)
        and all(name in each for each in settings)
        and len({each[name] for each in settings}) > 1
    ]
    return [name for name in MAIN if name in names] + differ[:MOST_SHOWN], len(differ[MOST_SHOWN:])
