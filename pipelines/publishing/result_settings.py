"""What a results.json of ks-eval is of, and what tells it from other results of the same probe."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

BASIS = (
    *("fingerprint", "clips", "features", "fit_split", "fit_fingerprint", "modality", "epochs", "batch"),
    *("clips_per_video", "vote", "windows", "seconds", "view_seconds", "fit_clips", "layer"),
    *("settings", "options", "given"),
)
"""Fields that results have in common whose scores may be compared, besides probe, split and number of clips."""
NAMES = {"clips": "clips per video", "fit_split": "fitted on", "fit_fingerprint": "fitted on fingerprint"}
"""Fields by other names than theirs."""
MOST_DEPTH = 6
"""Maximum depth of tables whose settings are told apart."""
MOST_NAMED = 6
"""Maximum number of settings that are named."""
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


def asked(result: Mapping[str, Any]) -> Asked:
    """What a results.json is of."""
    return Asked(
        probe=str(result.get("probe", "")),
        split=str(result.get("on_split", "")),
        samples=str(result.get("samples", "?")),
        settings=dict(_flat({name: result[name] for name in BASIS if name in result})),
    )


def _flat(table: Mapping[str, Any], before: str = "", depth: int = 0) -> Iterator[tuple[str, str]]:
    """Each value by its dotted name, without that of the field."""
    for name, value in table.items():
        if isinstance(value, dict) and depth < MOST_DEPTH:
            inside = before if depth == 0 else f"{before}{name}."
            yield from _flat(value, inside, depth + 1)
        else:
            yield f"{before}{name}", str(value)


def differing(one: Asked, other: Asked) -> list[str]:
    """Names of the settings in which two results differ."""
    names = dict.fromkeys([*one.settings, *other.settings])
    return [name for name in names if one.settings.get(name) != other.settings.get(name)]


def told(one: Asked, names: Sequence[str]) -> str:
    """These settings with their values, such as `clips per video 2, no svm.cs`."""
    values = [_told(one, name) for name in names[:MOST_NAMED]]
    return ", ".join([*values, *([f"{len(names) - MOST_NAMED} more settings"] if len(names) > MOST_NAMED else [])])


def _told(one: Asked, name: str) -> str:
    title = NAMES.get(name, name)
    if name not in one.settings:
        return f"no {title}"
    return f"{title} {one.settings[name][: 12 if name.endswith('fingerprint') else MOST_LETTERS]}"


def distinctions(results: Sequence[Asked]) -> list[str]:
    """Of each result, the settings in which it differs from others of the same title; empty if in none."""
    found = []
    for one in results:
        others = [other for other in results if other.title == one.title]
        found.append(told(one, list(dict.fromkeys(name for other in others for name in differing(one, other)))))
    return found
