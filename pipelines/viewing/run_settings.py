"""Settings of training runs that a page shows: some of every run, and those in which several runs differ."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from kinetics_sounds import progress
from kinetics_sounds.errors import RunError

from ..publishing import result_settings, run_facts

CONFIG_FILE = "config.yaml"
MAIN = ("method", "seed", "optim.lr")
"""Settings that are shown of every run."""
IN_FACTS = ("train_split", "batch", "steps")
"""Settings that run.json tells too."""
MOST_SHOWN = 10
"""Maximum number of settings in which runs differ that are shown."""


def read(run: Path) -> dict[str, str]:
    """Settings of a run that affect training, by dotted name; none without config.yaml.

    Raises RunError if it is damaged, or has values that ks-train never writes, such as paths.
    """
    if not (run / CONFIG_FILE).is_file():
        return {}
    return dict(result_settings.flat(run_facts.read_config(run)))


def read_with_note(run: Path) -> tuple[dict[str, str], dict[str, str]]:
    """Settings of a run as of `read`; none, and a fact for the page that says so, where it would raise RunError."""
    try:
        return read(run), {}
    except RunError as error:
        progress.log.warning("settings are not shown: %s", error)
        return {}, {"settings": "not shown: config.yaml has what ks-train does not write"}


def shown(settings: Sequence[Mapping[str, str]]) -> tuple[list[str], int]:
    """Names of the settings to show of these runs, and how many more of those that all have differ.

    Runs without any setting are left out.
    """
    having = [each for each in settings if each]
    names = list(dict.fromkeys(name for each in having for name in each))
    differ = [
        name
        for name in names
        if name not in (*MAIN, *IN_FACTS)
        and all(name in each for each in having)
        and len({each[name] for each in having}) > 1
    ]
    return [name for name in MAIN if name in names] + differ[:MOST_SHOWN], len(differ[MOST_SHOWN:])
