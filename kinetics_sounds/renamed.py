"""Names of options and keys that changed since 0.1.0: the old ones are accepted, with a warning, throughout 0.2.

The command line, configs (recipes, `config.yaml` of a run) and `state.json` of a checkpoint go through this one table. All names
are dotted, as on the command line.
"""

import functools
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import yaml

log = logging.getLogger("kinetics_sounds")

RENAMED: Mapping[str, str] = {
    "accumulate": "grad_accum_steps",
    "ahead": "prefetch_batches",
    "clip_norm": "max_grad_norm",
    "init": "init_from",
    "max_bad_share": "max_bad_fraction",
    "optim.cut": "optim.factor",
    "optim.factors": "optim.lr_multipliers",
    "optim.final_share": "optim.min_lr_ratio",
    "optim.least_lr": "optim.min_lr",
    "recompute": "activation_checkpointing",
    "sample_seconds": "sample_timeout",
}
"""Old name -> new name, in the same group."""
UNTIL = "0.3"
"""First version that refuses the old names."""
_GROUPS = {name.partition(".")[0] for name in RENAMED if "." in name}
"""Groups of settings that have renamed ones."""


def current(name: str) -> str:
    """Return the current name of a dotted name: `optim.factors.*.bias` -> `optim.lr_multipliers.*.bias`."""
    for old, new in RENAMED.items():
        if name == old or name.startswith(f"{old}."):
            return new + name[len(old) :]
    return name


def rename_options(argv: Sequence[str], accepts: Callable[[str], bool]) -> list[str]:
    """Replace old option names in `argv`, each with a warning, where a command `accepts` the new name and not the old one.

    Raises ValueError where the old and the new name are both given.
    """
    given = {word[2:].partition("=")[0] for word in argv if word.startswith("--")}
    renamed: list[str] = []
    last = ""
    for word in argv:
        if not word.startswith("--"):
            renamed.append(_rename_group(last, word, accepts))
            continue
        old, equals, value = word[2:].partition("=")
        last = _new_name(old, accepts)
        if last != old:
            if last in given:
                raise ValueError(f"--{old} and --{last} are the same option; give --{last} only")
            _warn(f"--{old} is now --{last}; the old name is accepted until {UNTIL}")
        renamed.append(f"--{last}{equals}{_rename_group(last, value, accepts)}")
    return renamed


def _rename_group(option: str, value: str, accepts: Callable[[str], bool]) -> str:
    """Replace old keys where `value` is a table in braces for a whole group, as in `--optim '{"cut": 0.5}'`."""
    if option not in _GROUPS or not value.startswith("{"):
        return value
    table = {option: yaml.safe_load(value)}
    renamed = rename_keys(table, place=f"--{option}", accepts=accepts)
    return value if renamed == table else json.dumps(renamed[option])


def _new_name(name: str, accepts: Callable[[str], bool]) -> str:
    """Return the current name, if a command `accepts` it and not the old one; else `name`."""
    new = current(name)
    return name if accepts(name) or not accepts(new) else new


def rename_keys(
    table: Mapping[str, Any], *, place: object, accepts: Callable[[str], bool] = lambda name: name == current(name)
) -> dict[str, Any]:
    """Replace old keys of `table`, nested by group or flat with dotted keys, with one warning that names them all.

    `place` is the file, for the warning. Only keys of which a command `accepts` the new name and not the old one are replaced.
    Raises ValueError where a table has an old key and its new one.
    """
    found: dict[str, str] = {}
    renamed = _rename(table, "", accepts, found)
    if found:
        names = ", ".join(f"{old} is now {new}" for old, new in sorted(found.items()))
        _warn(f"{place}: {names}; old names are accepted until {UNTIL}")
    return renamed


def _rename(
    table: Mapping[str, Any], prefix: str, accepts: Callable[[str], bool], found: dict[str, str]
) -> dict[str, Any]:
    """Return `table` with current keys, in the same order; add each replaced name to `found`."""
    renamed: dict[str, Any] = {}
    for key, value in table.items():
        old = f"{prefix}{key}"
        new = _new_name(old, accepts)
        if new == old:
            renamed[key] = (
                _rename(value, f"{old}.", accepts, found) if isinstance(value, dict) and key in _GROUPS else value
            )
            continue
        name = new[len(prefix) :]
        if name in table:
            raise ValueError(f"{old} and {new} are the same setting; keep {new} only")
        found[old], renamed[name] = new, value
    return renamed


@functools.cache  # a command reads some files several times
def _warn(message: str) -> None:
    log.warning("%s", message)
