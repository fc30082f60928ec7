"""What ks-eval found: `results.json`, `results.csv`, and a few lines for whoever watches."""

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch

from kinetics_sounds import __version__, files
from kinetics_sounds.shards.index import Dataset

COLUMNS = ("probe", "run", "checkpoint", "on_split", "fingerprint")
"""What a row of the CSV says besides its metric and value."""


class Placed(Protocol):
    """Settings of a command that judges a run."""

    @property
    def run(self) -> Path:
        """Its folder."""
        ...

    @property
    def untrained(self) -> bool:
        """Whether the initial weights are judged."""
        ...

    @property
    def out(self) -> Path | None:
        """Folder of the results, where the user names one."""
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
) -> dict[str, Any]:
    """What all results begin with: the probe or protocol, the run, and the data that it is judged on.

    `facts` are those of the run; without a checkpoint it is untrained. The fingerprints are those of `on_split`,
    see `of_split`.
    """
    return {
        "probe": probe,
        "run": files.as_text(run),
        "recipe": facts["recipe"],
        "checkpoint": "untrained" if checkpoint is None else checkpoint.name,
        "intervals": "_low and _high: 95%, percentile bootstrap over the judged items, 1,000 resamples, seed 0",
        "on_split": on_split,
        "fingerprint": fingerprint,
        "selection": selection,
        "content": content,
        "trained_on": {"split": facts["train_split"]}
        | {name: facts[name] for name in ("fingerprint", "selection", "content")},
        "versions": {"kinetics-sounds": __version__, "torch": torch.__version__},
    }


def of_split(dataset: Dataset, name: str) -> dict[str, str]:
    """The arguments of `head` that say which data a split of a set is; selection and content may be empty."""
    facts = dataset.splits[name]
    return {
        "on_split": name,
        "fingerprint": facts.fingerprint,
        "selection": facts.selection,
        "content": facts.content,
    }


def folder(settings: Placed, name: str) -> Path:
    """Where the results of a probe or protocol lie."""
    return settings.out or settings.run / "eval" / (f"{name}_untrained" if settings.untrained else name)


def write(out: Path, results: dict[str, Any]) -> None:
    """Write `results`, whose "scores" are numbers by name, into the folder `out`."""
    files.write_bytes(out / "results.json", (json.dumps(results, indent=2) + "\n").encode())
    table = io.StringIO()
    rows = csv.writer(table, lineterminator="\n")
    rows.writerow([*COLUMNS, "metric", "value"])
    for metric, value in results["scores"].items():
        rows.writerow([*(files.for_people(str(results[column])) for column in COLUMNS), metric, value])
    files.write_bytes(out / "results.csv", table.getvalue().encode())


class Near(Protocol):
    """Rows near to one row, with their cosines, nearest first."""

    @property
    def row(self) -> int:
        """The clip that queries."""
        ...

    @property
    def sounds(self) -> Sequence[tuple[int, float]]:
        """Nearest to its picture."""
        ...

    @property
    def pictures(self) -> Sequence[tuple[int, float]]:
        """Nearest to its sound."""
        ...


def write_neighbours(
    out: Path, head: Mapping[str, Any], near: Sequence[Near], *, keys: Sequence[str], labels: Sequence[str]
) -> None:
    """Write `neighbours.json`, which ks-view shows: of each clip the keys, labels and cosines of what lies nearest to it."""

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


def told(results: dict[str, Any], out: Path, *, what: str = "clips") -> str:
    """The scores as lines, each with its interval beside it where there is one, and where they lie."""
    return table([(results, out)], what=what)


def table(found: Sequence[tuple[dict[str, Any], Path]], *, what: str = "clips") -> str:
    """One table of the results of probes on the same data, each with its folder; without what is 100% for any features."""
    first = found[0][0]
    probes = ", ".join(results["probe"] for results, _ in found)
    lines = [f"{probes} of {first['checkpoint']} on {first['samples']} {what} of {first['on_split']}:"]
    for results, _ in found:
        before = f"{results['probe']} " if len(found) > 1 else ""
        lines += [f"  {before + metric:28} {rest}" for metric, rest in _lines(results["scores"])]
    return "\n".join([*lines, *(f"results: {out / 'results.json'}" for _, out in found)])


def _lines(scores: Mapping[str, float]) -> Iterator[tuple[str, str]]:
    """Each metric that says something, with its value and interval: not top5 of five classes or fewer, which chance reaches."""
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
    """Two decimals, or three digits of what would vanish in them."""
    return f"{value:.2f}" if value == 0 or abs(value) >= 0.1 else f"{value:.3g}"
