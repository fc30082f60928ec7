"""`state.json` of a checkpoint: progress, and the settings that must not change. Types are checked: it may be untrusted."""

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from kinetics_sounds import files
from kinetics_sounds.errors import RunError
from kinetics_sounds.renamed import rename_keys
from kinetics_sounds.resumed import CHANGED, are_changes

SCHEMA = 1
"""Schema version, raised when the meaning of the file changes; other versions are refused."""

MOST_BYTES = 1 << 20
"""Maximum size of state.json."""
REMEDY = "delete that folder to use the previous checkpoint"
SEE = "check that the disk is available and that you may read it"


def read_state(path: Path) -> dict[str, Any]:
    """Read the state of a checkpoint, with current names of renamed settings; raise RunError if damaged or of another schema."""
    try:
        state = files.read_json(path / "state.json", most_bytes=MOST_BYTES)
    except (OSError, ValueError) as error:
        raise unreadable(path / "state.json", error) from error
    schema = state.get("schema") if isinstance(state, dict) else None
    if not isinstance(state, dict) or schema != SCHEMA:
        raise RunError(
            f"{path}: is of schema {schema}, where this version reads {SCHEMA}; use the version that wrote it"
        )
    try:
        state = rename_keys(state, place=path / "state.json")
    except ValueError as error:
        raise RunError(f"{path / 'state.json'}: {error}; {REMEDY}") from error
    for name, (holds, what) in _KINDS.items():
        if not holds(state.get(name)):
            raise RunError(
                f"{path / 'state.json'}: its {name} is {str(state.get(name))[:80]}, which is no {what}; {REMEDY}"
            )
    return state


def _is_count(value: object, least: int = 0) -> bool:
    return type(value) is int and least <= value < 1 << 53


def _is_number(value: object) -> bool:
    return type(value) in (int, float) and math.isfinite(value)  # type: ignore[arg-type]


def _is_best(value: object) -> bool:
    return (
        isinstance(value, dict)
        and value.keys() | {"split"} == {"step", "value", "split"}
        and isinstance(value.get("split"), str | None)
        and _is_count(value["step"])
        and _is_number(value["value"])
    )


def _is_plateau(value: object) -> bool:
    return isinstance(value, dict) and all(
        (name == "best" and (each is None or _is_number(each))) or (name in ("cuts", "waited") and _is_count(each))
        for name, each in value.items()
    )


def _is_scaler(value: object) -> bool:
    return isinstance(value, dict) and all(map(_is_number, value.values())) and (not value or value.keys() == _SCALER)


def _are_names(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(each, str) for each in value)


_SCALER = {"scale", "growth_factor", "backoff_factor", "growth_interval", "_growth_tracker"}
_KINDS: Mapping[str, tuple[Callable[[object], bool], str]] = {
    "step": (_is_count, "number of steps"),
    "of_steps": (lambda value: value is None or _is_count(value), "number of steps"),
    "window": (lambda value: value is None or _is_count(value, 1), "number of shards"),
    "norm_samples": (lambda value: value is None or _is_count(value, 1), "number of samples"),
    "best": (lambda value: value is None or _is_best(value), "best validation"),
    "plateau": (lambda value: value is None or _is_plateau(value), "count of validations"),
    "scaler": (lambda value: value is None or _is_scaler(value), "state of a gradient scaler"),
    "computed_on": (lambda value: value is None or _are_names(value), "list of devices"),
    CHANGED: (lambda value: value is None or are_changes(value), "list of changes"),
}
"""Validator and description of each value of state.json that describes progress."""


def unreadable(path: Path, error: Exception) -> RunError:
    """RunError for an unreadable file, with a remedy: do not delete a checkpoint because of a failing disk."""
    fault = isinstance(error, OSError) and not isinstance(error, FileNotFoundError)
    return RunError(f"{path}: cannot be read ({error}); {SEE if fault else REMEDY}")
