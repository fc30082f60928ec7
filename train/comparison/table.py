"""What several runs were worth, in one table and one plot, and which differences are more than noise."""

import csv
import io
import itertools
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from kinetics_sounds import files

NORMAL_95 = 1.96
"""Standard errors on either side of a mean that hold 95 %."""
BESIDE = ("_low", "_high", "_chance")
"""How the scores end that stand beside another one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What one protocol found of one run."""

    recipe: str
    seed: int
    protocol: str
    scores: Mapping[str, float]
    untrained: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A metric of a recipe over its seeds."""

    recipe: str
    protocol: str
    metric: str
    values: tuple[float, ...]
    """By seed."""
    untrained: tuple[float, ...]
    clip_error: float
    """Standard error that the judged clips give, from their 95 % interval."""

    @property
    def mean(self) -> float:
        """Over the seeds."""
        return statistics.fmean(self.values)

    @property
    def error(self) -> float:
        """Standard error of the mean, over seeds and clips; over the clips alone where there is one seed."""
        seeds = statistics.stdev(self.values) / math.sqrt(len(self.values)) if len(self.values) > 1 else 0.0
        return math.hypot(seeds, self.clip_error)


def main_metric(scores: Mapping[str, float]) -> str:
    """What a protocol is named by: its first score."""
    return next(iter(scores))


def entries(rows: Sequence[Row], *, every_metric: bool = False) -> list[Entry]:
    """The main metric of each protocol, or every metric, of each recipe, in the order of the rows."""
    found: list[Entry] = []
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row.protocol, row.recipe), []).append(row)
    for (protocol, recipe), group in groups.items():
        first = group[0].scores
        metrics = [name for name in first if not name.endswith(BESIDE)] if every_metric else [main_metric(first)]
        for metric in metrics:
            low, high = (
                statistics.fmean(row.scores.get(f"{metric}_{end}", row.scores[metric]) for row in group)
                for end in ("low", "high")
            )
            found.append(
                Entry(
                    recipe=recipe,
                    protocol=protocol,
                    metric=metric,
                    values=tuple(row.scores[metric] for row in group),
                    untrained=tuple(row.untrained[metric] for row in group if metric in row.untrained),
                    clip_error=(high - low) / (2 * NORMAL_95),
                )
            )
    return found


def difference(one: Entry, other: Entry) -> tuple[float, float]:
    """How much better the first is, and the half of a 95 % interval about that; where it holds 0 the two do not differ.

    Errors of seeds and clips are added as if independent: both are judged on the same clips, so the interval is wide rather
    than narrow.
    """
    return one.mean - other.mean, NORMAL_95 * math.hypot(one.error, other.error)


def markdown(rows: Sequence[Row], failed: Sequence[str] = ()) -> str:
    """A table a protocol, best first, and which of its recipes the best one is not told from."""
    parts: list[str] = []
    for protocol, group in itertools.groupby(entries(rows), key=lambda entry: entry.protocol):
        ranked = sorted(group, key=lambda entry: -entry.mean)
        best = ranked[0]
        lines = [
            f"### {protocol}: {best.metric} in %",
            "",
            "| recipe | mean | 95% interval (seeds and clips) | seeds | untrained | from the best |",
            "|---|---|---|---|---|---|",
        ]
        for each in ranked:
            gap, half = difference(best, each)
            told = "" if each is best else f"-{gap:.1f} ± {half:.1f}" + (": within noise" if gap <= half else "")
            untrained = f"{statistics.fmean(each.untrained):.1f}" if each.untrained else ""
            name = each.recipe.replace("|", "\\|")
            lines.append(
                f"| {name} | {each.mean:.1f} | {each.mean - NORMAL_95 * each.error:.1f} to "
                f"{each.mean + NORMAL_95 * each.error:.1f} | {', '.join(f'{value:.1f}' for value in each.values)} | "
                f"{untrained} | {told} |"
            )
        parts.append("\n".join(lines))
    if failed:
        parts.append("\n".join(["Failed:", *(f"- {each}" for each in failed)]))
    return "\n\n".join(parts) + "\n"


def table_csv(rows: Sequence[Row]) -> str:
    """Every metric of every run, a row each."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["recipe", "seed", "protocol", "metric", "value", "untrained"])
    for row in rows:
        for metric, value in row.scores.items():
            writer.writerow(
                [files.for_people(row.recipe), row.seed, row.protocol, metric, value, row.untrained.get(metric, "")]
            )
    return out.getvalue()


def plot_svg(rows: Sequence[Row]) -> bytes | None:
    """The main metrics with their intervals beside the untrained ones; None where matplotlib is not installed."""
    try:
        import matplotlib
    except ImportError:
        return None
    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "kinetics-sounds"  # the same bytes each time
    from matplotlib import pyplot

    found = entries(rows)
    protocols = list(dict.fromkeys(entry.protocol for entry in found))
    names = list(dict.fromkeys(entry.recipe for entry in found))
    figure, axes = pyplot.subplots(
        1, len(protocols), figsize=(4 * len(protocols), 1.5 + 0.4 * len(names)), squeeze=False, sharey=True
    )
    for axis, protocol in zip(axes[0], protocols, strict=True):
        own = [entry for entry in found if entry.protocol == protocol]
        places = [names.index(entry.recipe) for entry in own]
        spread = [NORMAL_95 * entry.error for entry in own]
        axis.errorbar([entry.mean for entry in own], places, xerr=spread, fmt="o", label="trained")
        before = [
            (statistics.fmean(entry.untrained), place)
            for entry, place in zip(own, places, strict=True)
            if entry.untrained
        ]
        axis.plot([value for value, _ in before], [place for _, place in before], "x", color="grey", label="untrained")
        axis.set(title=f"{protocol}: {own[0].metric}, %", yticks=range(len(names)), yticklabels=names)
        axis.grid(axis="x", alpha=0.3)
    axes[0][0].legend(loc="best")
    axes[0][0].invert_yaxis()
    figure.tight_layout()
    out = io.BytesIO()
    figure.savefig(out, format="svg", metadata={"Date": None})
    pyplot.close(figure)
    return out.getvalue()


def write(folder: Path, rows: Sequence[Row], failed: Sequence[str] = ()) -> None:
    """`table.md`, `table.csv`, and `plot.svg` where matplotlib is installed."""
    files.write_bytes(folder / "table.md", markdown(rows, failed).encode())
    files.write_bytes(folder / "table.csv", table_csv(rows).encode())
    if (plot := plot_svg(rows)) is not None:
        files.write_bytes(folder / "plot.svg", plot)
