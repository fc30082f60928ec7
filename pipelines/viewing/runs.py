"""Read the results of a training run: curves, scores with those of untrained encoders, maps, neighbours, bad samples."""

import json
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

from kinetics_sounds import files
from kinetics_sounds.errors import RunError
from kinetics_sounds.resumed import CHANGED, are_changes, format_changes

from ..publishing import result_settings, run_facts
from ..publishing.contents import SUMS
from ..publishing.result_settings import Asked
from . import run_settings

MOST_POINTS = 2_000
"""Maximum number of points of a curve; longer ones are thinned out."""
MOST_BYTES = 1 << 30
"""Maximum size of metrics.jsonl in bytes."""
MOST_JSON = 1 << 26
"""Maximum size of any other file in bytes."""
MOST_BAD = 500
"""Maximum number of bad samples that are listed."""
MOST_MAPS = 24
"""Maximum number of embedded Grad-CAM pictures."""
MOST_NAMED = 3
"""Maximum number of runs in a message."""
PROBES = ("linear", "knn", "crossmodal")
"""Probes whose results come first, in this order."""
MAIN = {"crossmodal": "video_to_audio_r10"}
"""Main metric of a probe where that is not its first one."""
NEIGHBOURS = "neighbours.json"
METRICS, FACTS, BAD = "metrics.jsonl", "run.json", "quarantine.jsonl"


@dataclass(frozen=True, slots=True)
class Curve:
    """A metric over the course of a run; None for values that are not finite."""

    steps: tuple[float, ...]
    values: tuple[float | None, ...]
    every: int
    """Number of lines of the file per point."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """Scores of a probe or protocol for a run's encoders."""

    probe: str
    split: str
    untrained: bool
    scores: Mapping[str, float]
    main: str
    """Name of the main metric, which is shown first; empty without scores."""
    clips: int | None
    """Number of evaluated clips; None if the file does not tell."""
    asked: Asked
    """What was evaluated, and how: only scores of the same may be compared."""
    baseline: Asked
    """The same of its untrained encoders."""
    old_step: int | None
    """Step of the checkpoint, if the run has a later one."""


@dataclass(frozen=True, slots=True)
class UsedSplit:
    """The clips that scores are of, or that a run was trained on: a whole split of a shard set."""

    shards: str
    """Path or URL of the shard set as recorded."""
    split: str
    selection: str
    """`fingerprints.selection` of the split."""
    clips: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Map:
    """A Grad-CAM picture of one clip."""

    key: str
    label: str
    score: float | None
    jpeg: bytes


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Run:
    """A training run, possibly unfinished."""

    name: str
    """The path as given."""
    published: bool
    """Whether it is a folder made by `ks-publish run`, which has neither curves nor a list of bad samples."""
    facts: Mapping[str, str]
    """Contents of run.json: recipe, classes, split, steps, versions."""
    settings: Mapping[str, str]
    """Settings of config.yaml that affect training, by dotted name."""
    curves: Mapping[str, Curve]
    results: Sequence[Result]
    evaluated: Sequence[UsedSplit]
    """What the results with scores are of, where they tell it."""
    trained: UsedSplit | None
    """What the run was trained on, if it is recorded."""
    bad: Sequence[Mapping[str, str]]
    """Samples that could not be read: key and reason."""
    bad_count: int
    maps: Sequence[Map]
    map_count: int
    neighbours: Sequence[Mapping[str, Any]] | None
    """For each query clip: its key and label, and those of the nearest `sounds` and `pictures` with their cosines; None without
    results of `ks-eval crossmodal`."""


def is_run(path: Path) -> bool:
    """Whether a folder is a training run, or a published one."""
    return (path / FACTS).is_file() and ((path / METRICS).is_file() or is_published(path))


def is_published(path: Path) -> bool:
    """Whether a folder is a run that was published with `ks-publish run`."""
    return (path / FACTS).is_file() and (path / SUMS).is_file() and not (path / METRICS).exists()


def read(run: Path) -> Run:
    """Read a run, with the results in its `eval/` (of a published one also in `results/`).

    Raises RunError if it is not a run, or damaged.
    """
    if not is_run(run):
        raise RunError(
            f"{run}: is not a training run ({FACTS} or {METRICS} is missing); give the --out folder of ks-train or "
            f"ks-publish run{_runs_below(run)}"
        )
    bad = list(_lines(run / BAD)) if (run / BAD).is_file() else []
    paths = sorted((run / "eval").glob("**/results.json"))
    paths += sorted((run / "results").glob("*.json")) if is_published(run) else []
    told = {path: _json(_inside(path, run)) for path in paths}
    steps = [_step(each.name) for each in (run / "checkpoints").glob("step-*")]
    newest = max([*steps, *(_step(each.get("checkpoint")) for each in told.values())], default=0)
    found = [result for each in told.values() if (result := _result(each, newest=newest))]
    found.sort(key=lambda each: PROBES.index(each.probe) if each.probe in PROBES else len(PROBES))
    maps = [(path, each) for path, each in told.items() if each.get("probe") == "cam"]
    pictures = [(path.parent, clip) for path, each in maps for clip in _tables(each.get("clips"))]
    near_paths = sorted((run / "eval").glob(f"**/{NEIGHBOURS}"))
    near = [each for path in near_paths if (each := _neighbours(_inside(path, run)))]
    facts, (settings, note) = _json(run / FACTS), run_settings.read_with_note(run)
    return Run(
        name=files.as_text(run),
        published=is_published(run),
        facts=_facts(facts) | note,
        settings=settings,
        curves={} if is_published(run) else _curves(list(_lines(run / METRICS))),
        results=found,
        evaluated=_evaluated(told.values()),
        trained=_used(facts, split=facts.get("train_split"), clips=_data(facts).get("samples")),
        bad=[{name: str(line.get(name, "")) for name in ("key", "reason")} for line in bad[:MOST_BAD]],
        bad_count=len(bad),
        maps=[_map(folder, clip, run) for folder, clip in pictures[:MOST_MAPS]],
        map_count=len(pictures),
        neighbours=near[0] if near else None,
    )


def _runs_below(folder: Path) -> str:
    """A hint with some runs in a folder of runs, or of `ks-train compare`; empty if there are none."""
    paths = (path for pattern in ("*", "seed-*/run", "*/seed-*/run") for path in sorted(folder.glob(pattern)))
    found = [files.as_text(path) for path in paths if is_run(path)]
    more = f" and {len(found) - MOST_NAMED} more" if len(found) > MOST_NAMED else ""
    return f"; runs in it: {', '.join(found[:MOST_NAMED])}{more}" if found else ""


def _data(told: Mapping[str, Any]) -> Mapping[str, Any]:
    data = told.get("data")
    return data if isinstance(data, dict) else {}


def _facts(told: Mapping[str, Any]) -> dict[str, str]:
    facts = {name: told.get(name, "") for name in ("recipe", "classes", "train_split", "note")}
    facts |= {name: _data(told).get(name, "") for name in ("samples", "steps", "batch")}
    if are_changes(changes := told.get(CHANGED)) and changes:
        facts["resumed_with"] = format_changes(run_facts.clean(changes))
    return {name: str(value) for name, value in facts.items() if value not in ("", None)}


def _curves(lines: Sequence[Mapping[str, Any]]) -> dict[str, Curve]:
    points: dict[str, list[tuple[float, float | None]]] = {}
    for line in lines:
        step = line.get("step")
        if not _is_finite(step):
            continue
        for name, value in line.items():
            if name != "step" and isinstance(value, int | float):
                points.setdefault(name, []).append((step, _digits(value) if _is_finite(value) else None))
    return {name: _curve(each) for name, each in points.items()}


def _curve(points: Sequence[tuple[float, float | None]]) -> Curve:
    every = -(-len(points) // MOST_POINTS)
    kept = [point for number, point in enumerate(points) if (len(points) - 1 - number) % every == 0]
    steps, values = zip(*kept, strict=True)
    return Curve(steps, values, every)


def _is_finite(value: object) -> TypeGuard[float]:
    """Whether it is a number that a float can hold: neither NaN nor infinite, nor an integer of hundreds of digits."""
    return isinstance(value, int | float) and abs(value) <= sys.float_info.max


def _tables(value: object) -> list[Mapping[str, Any]]:
    """The tables of a list; none of anything else."""
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def _text(value: object) -> str:
    """A value as text, without halves of UTF-16 pairs, of which a browser makes no link."""
    return str(value).encode(errors="replace").decode()


def _digits(value: float) -> float:
    """A number with five significant digits."""
    return float(f"{value:.5g}")


def _step(checkpoint: object) -> int:
    """Step of a checkpoint's name, such as 400 of `step-00000400`; 0 of the untrained encoders, and of any other name."""
    found = re.fullmatch(r"step-(\d{1,15})", str(checkpoint))
    return int(found[1]) if found else 0


def _result(told: Mapping[str, Any], *, newest: int) -> Result | None:
    """Scores of one probe; None for a file without scores, as that of `ks-eval cam`."""
    scores = told.get("scores")
    if not isinstance(scores, dict):
        return None
    clips, step = told.get("samples"), _step(told.get("checkpoint"))
    probe, kept = str(told.get("probe", "")), {name: value for name, value in scores.items() if _is_finite(value)}
    main = MAIN.get(probe, "")
    return Result(
        clips=clips if isinstance(clips, int) else None,
        asked=result_settings.asked(told),
        baseline=result_settings.baseline(told),
        old_step=step if 0 < step < newest else None,
        probe=probe,
        split=str(told.get("on_split", "")),
        untrained=told.get("checkpoint") == "untrained",
        scores=kept,
        main=main if main in kept else next(iter(kept), ""),
    )


def _evaluated(results: Iterable[Mapping[str, Any]]) -> list[UsedSplit]:
    told = [each for each in results if isinstance(each.get("scores"), dict)]
    found = [_used(each, split=each.get("on_split"), clips=each.get("samples")) for each in told]
    return list(dict.fromkeys(each for each in found if each))


def _used(told: Mapping[str, Any], *, split: object, clips: object) -> UsedSplit | None:
    """A split of a results.json or run.json; None if the file does not tell all of it."""
    shards, selection = (str(told.get(name) or "") for name in ("shards", "selection"))
    if not isinstance(clips, int) or not shards or not selection:
        return None
    return UsedSplit(shards, str(split or ""), selection, clips)


def _neighbours(path: Path) -> list[Mapping[str, Any]]:
    """What trained encoders find nearest to some clips; nothing where the encoders are untrained."""
    told = _json(path)
    if told.get("checkpoint") == "untrained":
        return []

    def clip(each: Mapping[str, Any]) -> dict[str, Any]:
        if not _is_finite(each["cosine"]):
            raise ValueError(f"a cosine of {str(each['cosine'])[:20]}")
        return {"key": _text(each["key"]), "label": str(each["label"]), "cosine": _digits(each["cosine"])}

    try:
        return [
            {
                "key": _text(query["key"]),
                "label": str(query["label"]),
                "sounds": [clip(each) for each in query["sounds"]],
                "pictures": [clip(each) for each in query["pictures"]],
            }
            for query in told["queries"]
        ]
    except (KeyError, TypeError, ValueError) as error:
        raise RunError(f"{path}: tells of no neighbours ({error!r}); make it anew with ks-eval crossmodal") from error


def _inside(path: Path, run: Path) -> Path:
    """The path; raises RunError if links lead it out of the run, for the page may be passed on."""
    if not path.resolve().is_relative_to(run.resolve()):
        raise RunError(f"{path}: leads out of the run's folder; put a copy in its place")
    return path


def _map(folder: Path, clip: Mapping[str, Any], run: Path) -> Map:
    path = _inside(folder / Path(str(clip.get("file", ""))).name, run)
    try:
        if path.stat().st_size > MOST_JSON:
            raise RunError(f"{path}: is larger than any picture of ks-eval cam; make it again")
        jpeg = path.read_bytes()
    except OSError as error:
        raise RunError(f"{path}: cannot be read ({error.strerror}); make it again with ks-eval cam") from error
    score = clip.get("score")
    return Map(
        key=_text(clip.get("key", "")),
        label=str(clip.get("label", "")),
        score=score if _is_finite(score) else None,
        jpeg=jpeg,
    )


def _json(path: Path) -> dict[str, Any]:
    try:
        told = files.read_json(path, most_bytes=MOST_JSON)
    except (OSError, ValueError) as error:
        raise RunError(f"{path}: cannot be read ({error}); make it again, or remove it") from error
    if not isinstance(told, dict):
        raise RunError(f"{path}: is not a table; make it again, or remove it")
    return told


def _lines(path: Path) -> Iterable[Mapping[str, Any]]:
    """Complete lines of a file that a run may still be writing."""
    if path.stat().st_size > MOST_BYTES:
        raise RunError(f"{path}: is larger than {MOST_BYTES} bytes, which no run of ours writes")
    for number, line in enumerate(path.read_bytes().splitlines(keepends=True), start=1):
        if not line.endswith(b"\n"):
            return
        try:
            told = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise RunError(f"{path}:{number}: is not JSON ({error}); remove the line") from error
        if isinstance(told, dict):
            yield told
