"""What a row of the table is of: class list, splits, number of clips, steps, versions."""

from collections.abc import Mapping
from typing import Any

SHORT = 12
"""Digits of a fingerprint that are shown."""


def row_facts(result: Mapping[str, Any], run: Mapping[str, Any]) -> dict[str, str]:
    """Facts of a row by name, from its results.json and the run.json of its run; what these do not say is left out."""
    data, trained_on = run.get("data", {}), result.get("trained_on", {})
    found = {
        "class list": result.get("classes"),
        "evaluated on": _clips(result.get("samples"), result.get("on_split"), result.get("selection")),
        "fitted on": result.get("fit_split"),
        "fitted for": f"{result['epochs']} epochs" if "epochs" in result else "",
        "clips per video": result.get("clips"),
        "trained on": _clips(data.get("samples"), trained_on.get("split"), trained_on.get("selection")),
        "steps": data.get("steps"),
        "batch": data.get("batch"),
        "checkpoint": result.get("checkpoint"),
        "kinetics-sounds": result.get("versions", {}).get("kinetics-sounds"),
    }
    return {name: _printable(value) for name, value in found.items() if value not in (None, "")}


def _clips(count: object, split: object, selection: object) -> str:
    """Clips of a split with the fingerprint of their selection: `60 of test (selection 0123456789ab)`."""
    if count is None or not split:
        return ""
    return f"{count} clips of {split}" + (f" (selection {str(selection)[:SHORT]})" if selection else "")


def _printable(value: object) -> str:
    return "".join(each for each in str(value) if each.isprintable())
