"""What a training run left of itself: curves, results beside those of its untrained encoders, maps, neighbours, bad samples."""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kinetics_sounds import files
from kinetics_sounds.errors import RunError

MOST_POINTS = 2_000
"""Of a curve; of a longer one every second line is drawn, or every third, and so on."""
MOST_BYTES = 1 << 30
"""Of metrics.jsonl."""
MOST_JSON = 1 << 26
"""Bytes of any other file."""
MOST_BAD = 500
"""Bad samples that are named."""
MOST_MAPS = 24
"""Pictures of Grad-CAM that are embedded."""
NEIGHBOURS = "neighbours.json"
METRICS, FACTS, BAD = "metrics.jsonl", "run.json", "quarantine.jsonl"


@dataclass(frozen=True, slots=True)
class Curve:
    """One number followed over a run; None where it was not finite."""

    steps: tuple[float, ...]
    values: tuple[float | None, ...]
    every: int
    """Lines of the file for each point."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What one probe or protocol found of a run's encoders."""

    probe: str
    split: str
    untrained: bool
    scores: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Map:
    """A picture of what the encoders look at in one clip."""

    key: str
    label: str
    score: float | None
    jpeg: bytes


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Run:
    """A training run, as far as it has come."""

    name: str
    """The path, as it was given."""
    facts: Mapping[str, str]
    """What run.json says: recipe, classes, split, steps, versions."""
    curves: Mapping[str, Curve]
    results: Sequence[Result]
    bad: Sequence[Mapping[str, str]]
    """Samples that could not be read: key and reason."""
    bad_count: int
    maps: Sequence[Map]
    map_count: int
    neighbours: Sequence[Mapping[str, Any]] | None
    """Of each clip that queries its key and label, and those of the nearest `sounds` and `pictures` with their cosines; None
    where `ks-eval crossmodal` wrote none."""


def is_run(path: Path) -> bool:
    """Whether a folder is a training run."""
    return (path / FACTS).is_file() and (path / METRICS).is_file()


def read(run: Path, *, results: Iterable[Path] = ()) -> Run:
    """Read a run, and the results in its `eval/` and in other folders; raises RunError where it is none, or is damaged."""
    if not is_run(run):
        raise RunError(f"{run}: is no training run ({FACTS} or {METRICS} is missing); give the --out of a ks-train")
    bad = list(_lines(run / BAD)) if (run / BAD).is_file() else []
    told = {path: _json(path) for place in (run / "eval", *results) for path in sorted(place.glob("**/results.json"))}
    found = [result for each in told.values() if (result := _result(each))]
    maps = [(path, each) for path, each in told.items() if each.get("probe") == "cam"]
    pictures = [(path.parent, clip) for path, each in maps for clip in each.get("clips", []) if isinstance(clip, dict)]
    near = [each for path in sorted((run / "eval").glob(f"**/{NEIGHBOURS}")) if (each := _neighbours(path))]
    return Run(
        name=files.as_text(run),
        facts=_facts(_json(run / FACTS)),
        curves=_curves(list(_lines(run / METRICS))),
        results=found,
        bad=[{name: str(line.get(name, "")) for name in ("key", "reason")} for line in bad[:MOST_BAD]],
        bad_count=len(bad),
        maps=[_map(folder, clip) for folder, clip in pictures[:MOST_MAPS]],
        map_count=len(pictures),
        neighbours=near[0] if near else None,
    )


def _facts(told: Mapping[str, Any]) -> dict[str, str]:
    data = told.get("data") if isinstance(told.get("data"), dict) else {}
    facts = {name: told.get(name, "") for name in ("recipe", "classes", "train_split", "note")}
    facts |= {name: (data or {}).get(name, "") for name in ("samples", "steps", "batch")}
    return {name: str(value) for name, value in facts.items() if value not in ("", None)}


def _curves(lines: Sequence[Mapping[str, Any]]) -> dict[str, Curve]:
    points: dict[str, list[tuple[float, float | None]]] = {}
    for line in lines:
        step = line.get("step")
        if not isinstance(step, int | float):
            continue
        for name, value in line.items():
            if name != "step" and isinstance(value, int | float):
                points.setdefault(name, []).append((step, _digits(value) if math.isfinite(value) else None))
    return {name: _curve(each) for name, each in points.items()}


def _curve(points: Sequence[tuple[float, float | None]]) -> Curve:
    every = -(-len(points) // MOST_POINTS)
    kept = [point for number, point in enumerate(points) if (len(points) - 1 - number) % every == 0]
    steps, values = zip(*kept, strict=True)
    return Curve(steps, values, every)


def _digits(value: float) -> float:
    """Five digits, which is more than a screen shows."""
    return float(f"{value:.5g}")


def _result(told: Mapping[str, Any]) -> Result | None:
    """Scores of one probe; None where a file says none, as that of `ks-eval cam`."""
    scores = told.get("scores")
    if not isinstance(scores, dict):
        return None
    return Result(
        probe=str(told.get("probe", "")),
        split=str(told.get("on_split", "")),
        untrained=told.get("checkpoint") == "untrained",
        scores={
            name: value for name, value in scores.items() if isinstance(value, int | float) and math.isfinite(value)
        },
    )


def _neighbours(path: Path) -> list[Mapping[str, Any]]:
    """What trained encoders find nearest to some clips; nothing where the encoders are untrained."""
    told = _json(path)
    if told.get("checkpoint") == "untrained":
        return []

    def clip(each: Mapping[str, Any]) -> dict[str, Any]:
        return {"key": str(each["key"]), "label": str(each["label"]), "cosine": _digits(float(each["cosine"]))}

    try:
        return [
            {
                "key": str(query["key"]),
                "label": str(query["label"]),
                "sounds": [clip(each) for each in query["sounds"]],
                "pictures": [clip(each) for each in query["pictures"]],
            }
            for query in told["queries"]
        ]
    except (KeyError, TypeError, ValueError) as error:
        raise RunError(f"{path}: tells of no neighbours ({error!r}); make it anew with ks-eval crossmodal") from error


def _map(folder: Path, clip: Mapping[str, Any]) -> Map:
    path = folder / Path(str(clip.get("file", ""))).name
    try:
        if path.stat().st_size > MOST_JSON:
            raise RunError(f"{path}: is larger than any picture of ks-eval cam; make it anew")
        jpeg = path.read_bytes()
    except OSError as error:
        raise RunError(f"{path}: cannot be read ({error.strerror}); make it anew with ks-eval cam") from error
    score = clip.get("score")
    return Map(
        key=str(clip.get("key", "")),
        label=str(clip.get("label", "")),
        score=score if isinstance(score, int | float) and math.isfinite(score) else None,
        jpeg=jpeg,
    )


def _json(path: Path) -> dict[str, Any]:
    try:
        told = files.read_json(path, most_bytes=MOST_JSON)
    except (OSError, ValueError) as error:
        raise RunError(f"{path}: cannot be read ({error}); make it anew, or remove it") from error
    if not isinstance(told, dict):
        raise RunError(f"{path}: is no table; make it anew, or remove it")
    return told


def _lines(path: Path) -> Iterable[Mapping[str, Any]]:
    """The whole lines of a file that a run may be writing to."""
    if path.stat().st_size > MOST_BYTES:
        raise RunError(f"{path}: is larger than {MOST_BYTES} bytes, which no run of ours writes")
    for number, line in enumerate(path.read_bytes().splitlines(keepends=True), start=1):
        if not line.endswith(b"\n"):
            return
        try:
            told = json.loads(line)
        except ValueError as error:
            raise RunError(f"{path}:{number}: is no JSON ({error}); remove the line") from error
        if isinstance(told, dict):
            yield told
