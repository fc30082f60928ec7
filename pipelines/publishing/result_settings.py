"""What a results.json of ks-eval is of, and what tells it from other results of the same probe."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from kinetics_sounds.eval_results import without_gate

BASIS = (
    *("fingerprint", "clips", "features", "fit_split", "fit_fingerprint", "modality", "epochs", "batch"),
    *("clips_per_video", "best_on", "vote", "windows", "seconds", "view_seconds", "fit_clips", "layer"),
    *("settings", "options", "given"),
)
"""Fields that results have in common whose scores may be compared, besides probe, split and number of clips."""
NAMES = {
    "clips": "clips per video",
    "clips_per_video": "clips per video in training",
    "best_on": "selected on",
    "fit_split": "fitted on",
    "fit_fingerprint": "fitted on fingerprint",
}
"""Fields by other names than theirs."""
MOST_DEPTH = 6
"""Maximum depth of nested settings that get dotted names; deeper tables are compared as one value."""
MOST_NAMED = 6
"""Maximum number of settings that are named."""
MOST_IN_SUMMARY = 20
"""Maximum number of settings in a summary."""
MOST_LETTERS = 60
"""Maximum length of a setting's value."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What was evaluated, and how."""

    probe: str
    split: str
    samples: str
    settings: Mapping[str, str]
    """Settings by dotted name."""

    @property
    def title(self) -> tuple[str, str, str]:
        """What a table of results says anyway."""
        return self.probe, self.split, self.samples

    @property
    def digest(self) -> str:
        """Digest of all of it."""
        return hashlib.sha256(json.dumps([self.title, self.settings], sort_keys=True).encode()).hexdigest()[:16]


def baseline(result: Mapping[str, Any]) -> Asked:
    """What a results.json and that of untrained encoders have in common."""
    return asked(without_gate(result))


def asked(result: Mapping[str, Any]) -> Asked:
    """What a results.json is of."""
    return Asked(
        probe=str(result.get("probe", "")),
        split=str(result.get("on_split", "")),
        samples=str(result.get("samples", "?")),
        settings=dict(flat({name: result[name] for name in BASIS if name in result})),
    )


def flat(table: Mapping[str, Any], before: str = "", depth: int = 0) -> Iterator[tuple[str, str]]:
    """Each value by its dotted name."""
    for name, value in table.items():
        if isinstance(value, dict) and depth < MOST_DEPTH:
            yield from flat(value, f"{before}{name}.", depth + 1)
        else:
            yield f"{before}{name}", str(value)


def differing(results: Sequence[Asked]) -> list[str]:
    """Names of the settings in which results differ."""
    names = dict.fromkeys(name for one in results for name in one.settings)
    return [name for name in names if len({one.settings.get(name) for one in results}) > 1]


def told(one: Asked, names: Sequence[str], *, most: int = MOST_NAMED) -> str:
    """These settings with their values, such as `clips per video 2, no svm.cs`."""
    values = [_told(one, name) for name in names[:most]]
    return ", ".join([*values, *([f"{len(names) - most} more settings"] if len(names) > most else [])])


def summary(one: Asked) -> str:
    """All settings but a paper's options, such as `clips per video 10, fitted on train, k 20`; empty if there are none."""
    own = {
        name.removeprefix("settings."): value
        for name, value in one.settings.items()
        if value != "None" and not name.endswith("fingerprint") and not name.startswith(("options.", "given."))
    }
    return told(replace(one, settings=own), list(own), most=MOST_IN_SUMMARY)


def other_set(result: Mapping[str, Any], run: Mapping[str, Any]) -> str:
    """Class list of a results.json if it is not the run's, or the set is another one of this class list; else empty.

    `run`: contents of run.json, which knows only the split that the run was trained on.
    """
    classes, selection = (str(result.get(name) or "") for name in ("classes", "selection"))
    if _differ(classes, run.get("classes")):
        return classes
    trained_on = run.get("train_split")
    evaluated = result.get("on_split") == trained_on and _differ(selection, run.get("selection"))
    fitted = result.get("fit_split") == trained_on and _differ(result.get("fit_fingerprint"), run.get("fingerprint"))
    return f"{classes} (selection {selection[:12]})" if selection and (evaluated or fitted) else ""


def _differ(one: object, other: object) -> bool:
    """Whether both are known and unequal."""
    return bool(one and other and one != other)


def _told(one: Asked, name: str) -> str:
    title = NAMES.get(name, name)
    if name not in one.settings:
        return f"no {title}"
    return f"{title} {one.settings[name][: 12 if name.endswith('fingerprint') else MOST_LETTERS]}"


def distinctions(results: Sequence[Asked]) -> list[str]:
    """Of each result, the settings in which it differs from others of the same title; empty if in none."""
    groups: dict[tuple[str, str, str], list[Asked]] = {}
    for one in results:
        groups.setdefault(one.title, []).append(one)
    names = {title: differing(group) for title, group in groups.items()}
    return [told(one, names[one.title]) for one in results]
