"""What was changed when a training run was resumed: a list in its state.json and run.json, and in results."""

import reprlib
from collections.abc import Mapping, Sequence
from typing import Any, TypeGuard

CHANGED = "changed_on_resume"
"""Key of the list: one table a change, with the step, the setting, and its value before and after."""
DATA = ("fingerprint", "data_recipe")
"""Facts that say which clips a set has, and how they were packed: hashes."""
_NAMES = {"step", "setting", "before", "after"}


def are_changes(value: object) -> TypeGuard[list[dict[str, Any]]]:
    """Whether a value is a list of changes, as ks-train writes it."""
    return isinstance(value, list) and all(
        isinstance(each, dict)
        and each.keys() == _NAMES
        and type(each["step"]) is int
        and isinstance(each["setting"], str)
        for each in value
    )


def format_changes(changes: Sequence[Mapping[str, Any]]) -> str:
    """Changes in words: `optim.lr 0.2 from step 30 on (was 0.1), steps 60 from step 40 on (was 40)`."""
    return ", ".join(
        f"{each['setting']} {_short(each, 'after')} from step {each['step']} on (was {_short(each, 'before')})"
        for each in changes
    )


def _short(change: Mapping[str, Any], name: str) -> str:
    value = change[name]
    if isinstance(value, str):
        return value[:12] if change["setting"] in DATA else value
    return reprlib.repr(value)
