"""Results of ks-eval: `results.json`, `results.csv` and a summary on standard output."""

import csv
import io
import json
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch

from kinetics_sounds import __version__, files, remote
from kinetics_sounds.address import Address
from kinetics_sounds.eval_results import without_gate
from kinetics_sounds.resumed import CHANGED, format_changes
from kinetics_sounds.shards.index import Dataset

from ..config import run_folder
from ..data.dataset import Cached
from ..engine import checkpoint_state
from .eval_data import seen_in_training

COLUMNS = ("probe", "run", "checkpoint", "on_split", "fingerprint")
"""Columns of the CSV besides metric and value."""
INTERVALS = (
    "_low and _high: 95%, percentile bootstrap over the judged items, 1,000 resamples, seed 0; Wilson's score interval where "
    "all items are right or all wrong"
)
"""What `_low` and `_high` of a metric are."""
MOST_BYTES = 1 << 20
"""Maximum size of an earlier results.json in bytes."""
OUTCOMES = {
    *("scores", "folds", "best", "best_on_top1", "tuned", "seen_in_training", "shards"),
    *("intervals", "papers", "note", "versions"),
}
"""Fields of results.json that may differ between two evaluations of the same clips with the same options."""


class Placed(Protocol):
    """Settings of a command that writes results."""

    @property
    def run(self) -> Path:
        """Run folder."""
        ...

    @property
    def untrained(self) -> bool:
        """Whether the initial weights are evaluated."""
        ...

    @property
    def out(self) -> Path | None:
        """Folder of the results; None: the default."""
        ...


class Judged(Placed, Protocol):
    """Settings of a command that evaluates a checkpoint."""

    @property
    def checkpoint(self) -> str:
        """Name of the checkpoint."""
        ...


def head(
    probe: str,
    run: Path,
    facts: Mapping[str, Any],
    checkpoint: Path | None,
    *,
    on_split: str,
    fingerprint: str,
    selection: str = "",
    content: str = "",
    seen: int | None = None,
    shards: str = "",
) -> dict[str, Any]:
    """Common header of all results: probe or protocol, run, and evaluated data.

    `facts` are those of the run; without a checkpoint it is untrained. The fingerprints are those of `on_split`, and `seen` is
    how many of its samples the run was trained on, None if that is unknown; `shards` is where it lies; see `of_split`.
    """
    return {
        "probe": probe,
        "run": files.as_text(run),
        "recipe": facts["recipe"],
        "checkpoint": "untrained" if checkpoint is None else checkpoint.name,
        "intervals": INTERVALS,
        "shards": shards,
        "on_split": on_split,
        "fingerprint": fingerprint,
        "selection": selection,
        "content": content,
        "trained_on": {"split": facts["train_split"]}
        | {name: facts[name] for name in ("fingerprint", "selection", "content")},
        "seen_in_training": 0 if checkpoint is None else seen,
        **({} if checkpoint is None else _changed_on_resume(checkpoint)),
        "versions": {"kinetics-sounds": __version__, "torch": torch.__version__},
    }


def _changed_on_resume(checkpoint: Path) -> dict[str, Any]:
    """What was changed when the run was resumed before this checkpoint; empty if nothing was."""
    changes = checkpoint_state.read_state(checkpoint).get(CHANGED)
    return {CHANGED: changes} if changes else {}


def note_changed(results: Mapping[str, Any]) -> list[str]:
    """A line for users if the run was resumed with other settings, data or steps, else none."""
    changes = results.get(CHANGED)
    return [f"note: the run was resumed with {format_changes(changes)}"] if changes else []


def of_split(
    settings: Cached, shards: Address, dataset: Dataset, name: str, facts: Mapping[str, Any]
) -> dict[str, Any]:
    """Arguments of `head` about the evaluated split; selection and content may be empty. `facts` are those of the run."""
    split = dataset.every_split[name]
    return {
        "on_split": name,
        "fingerprint": split.fingerprint,
        "selection": split.selection,
        "content": split.content,
        "seen": seen_in_training(settings, shards, dataset, facts, name),
        "shards": run_folder.recorded(shards),
    }


def note_seen(results: Mapping[str, Any], samples: int) -> list[str]:
    """A line for users if the run was trained on some of the evaluated samples, or that is not known, else none."""
    if (seen := results["seen_in_training"]) is None and results.get("shards"):
        own = results["trained_on"]["fingerprint"][:12]
        return [f"note: not known whether the run was trained on these clips: it was trained on another set ({own}…)"]
    if not seen:
        return []
    how_many = "these" if seen == samples else f"{seen} of these {samples}"
    return [f"note: the run was trained on {how_many} clips ({results['trained_on']['split']})"]


def folder(settings: Placed, name: str) -> Path:
    """Folder for the results of a probe or protocol."""
    return settings.out or settings.run / "eval" / (f"{name}_untrained" if settings.untrained else name)


def write(out: Path, results: dict[str, Any]) -> None:
    """Write `results`, whose "scores" are numbers by name, to the folder `out`.

    Says so on standard error if they replace results of other clips, another checkpoint, or other options.
    """
    tell_replaced(out / "results.json", results)
    files.write_bytes(out / "results.json", (json.dumps(results, indent=2) + "\n").encode())
    table = io.StringIO()
    rows = csv.writer(table, lineterminator="\n")
    rows.writerow([*COLUMNS, "metric", "value"])
    for metric, value in results["scores"].items():
        rows.writerow([*(files.for_people(str(results[column])) for column in COLUMNS), metric, value])
    files.write_bytes(out / "results.csv", table.getvalue().encode())


def tell_replaced(path: Path, results: Mapping[str, Any]) -> None:
    """Say on standard error if `path` has results of something else than `results`, which will replace them."""
    if said := _replaced(path, results):
        print(said, file=sys.stderr)


def _replaced(path: Path, results: Mapping[str, Any]) -> str:
    """A line for users if `path` has results of something else than `results`, else empty."""
    if not path.is_file():
        return ""
    if (before := _read(path)) is None:
        return f"note: replaces {path}, which was damaged"
    differ = _differing(before, results)
    clips = f"{before.get('samples', '?')} clips of {before.get('shards') or before.get('on_split')}"
    told = f"{clips}, {before.get('checkpoint')} (other {', '.join(differ)})"
    said = f"note: {path} replaces the result of {told}; keep both with --out"
    return "".join(each for each in said if each.isprintable()) if differ else ""


def _read(path: Path) -> dict[str, Any] | None:
    """An earlier results.json; None if it is damaged."""
    try:
        found = files.read_json(path, most_bytes=MOST_BYTES)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def _differing(before: Mapping[str, Any], results: Mapping[str, Any]) -> list[str]:
    """Names of the fields of two results that differ, besides `OUTCOMES`."""
    now = json.loads(json.dumps(results))  # tuples are lists there
    return [name for name in now if name not in OUTCOMES and before.get(name, now[name]) != now[name]]


class Near(Protocol):
    """Nearest neighbors of one row, with their cosines, nearest first."""

    @property
    def row(self) -> int:
        """Row of the query clip."""
        ...

    @property
    def sounds(self) -> Sequence[tuple[int, float]]:
        """Nearest audio rows to the query's video."""
        ...

    @property
    def pictures(self) -> Sequence[tuple[int, float]]:
        """Nearest video rows to the query's audio."""
        ...


def write_neighbours(
    out: Path, head: Mapping[str, Any], near: Sequence[Near], *, keys: Sequence[str], labels: Sequence[str]
) -> None:
    """Write `neighbours.json` for ks-view: keys, labels and cosines of the nearest neighbors of each clip."""

    def clips(rows: Sequence[tuple[int, float]]) -> list[dict[str, Any]]:
        return [{"key": keys[row], "label": labels[row], "cosine": round(cosine, 4)} for row, cosine in rows]

    queries = [
        {
            "key": keys[each.row],
            "label": labels[each.row],
            "sounds": clips(each.sounds),
            "pictures": clips(each.pictures),
        }
        for each in near
    ]
    document = {name: head[name] for name in ("probe", "recipe", "checkpoint", "on_split", "fingerprint")}
    files.write_bytes(out / "neighbours.json", (json.dumps(document | {"queries": queries}, indent=2) + "\n").encode())


def next_steps(settings: Judged, found: Sequence[Mapping[str, Any]]) -> list[str]:
    """Lines on what follows results in their default folders: the baseline, unless it is there, and the page of their clips.

    There is no "same command" with --untrained for another checkpoint than the last.
    """
    if settings.out is not None:
        return []
    there = settings.checkpoint != "last" or all(_has_baseline(settings.run, results) for results in found)
    untrained = [] if there else ["next: the same command with --untrained, for the baseline"]
    shards = str(found[0]["shards"])
    place, run = Path(shards).absolute(), files.as_text(settings.run)
    if place.is_relative_to(Path.cwd()):
        place = place.relative_to(Path.cwd())
    words = [run] if remote.is_url(shards) else [files.as_text(place), "--run", run]  # a URL is masked
    return [*untrained, f"next: {shlex.join(['ks-view', *words])}"]


def _has_baseline(run: Path, results: Mapping[str, Any]) -> bool:
    """Whether the untrained encoders were evaluated by this probe on the same clips with the same options."""
    path = run / f"eval/{results['probe']}_untrained/results.json"
    before = _read(path) if path.is_file() else None
    return before is not None and set(_differing(without_gate(before), without_gate(results))) <= {"run", "checkpoint"}


def format_scores(results: dict[str, Any], out: Path, *, what: str = "clips") -> str:
    """Format scores, one per line with their intervals, and the folder of the results."""
    return format_table([(results, out)], what=what)


def format_table(found: Sequence[tuple[dict[str, Any], Path]], *, what: str = "clips") -> str:
    """Format the results of probes on the same data as one table, then the folder of each, and `note_seen`."""
    first = found[0][0]
    probes = ", ".join(results["probe"] for results, _ in found)
    lines = [f"{probes} of {first['checkpoint']} on {first['samples']} {what} of {first['on_split']}:"]
    for results, _ in found:
        before = f"{results['probe']} " if len(found) > 1 else ""
        lines += [f"  {before + metric:28} {rest}" for metric, rest in _rows(results["scores"])]
    places = (f"results: {out / 'results.json'}" for _, out in found)
    return "\n".join([*lines, *places, *note_seen(first, first["samples"]), *note_changed(first)])


def _rows(scores: Mapping[str, float]) -> Iterator[tuple[str, str]]:
    """Each metric with its value and interval, without top-k accuracy where k is at least the number of classes."""
    certain = tuple(
        name.removesuffix("_chance") for name, value in scores.items() if name.endswith("_chance") and value >= 100
    )
    for metric, value in scores.items():
        name, _, end = metric.rpartition("_")
        if (end in ("low", "high") and name in scores) or (metric == "selected_on_test" and not value):
            continue
        if certain and metric.removesuffix("_chance").endswith(certain):
            continue
        low, high = scores.get(f"{metric}_low"), scores.get(f"{metric}_high")
        between = "" if low is None or high is None else f"  95%: {low:.2f} to {high:.2f}"
        yield metric, f"{number(value):>7}{between}"


def number(value: float) -> str:
    """Format with two decimals, or three significant digits if small."""
    return f"{value:.2f}" if value == 0 or abs(value) >= 0.1 else f"{value:.3g}"
