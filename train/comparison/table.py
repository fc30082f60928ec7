"""What several runs were worth, in one table and one plot, and which differences are more than noise."""

import csv
import io
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from scipy import stats

from kinetics_sounds import files

PERCENT = (0.0, 100.0)
"""Scores lie between these, and so do their intervals."""


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
    metric: str
    values: tuple[float, ...]
    """By seed."""
    untrained: tuple[float, ...]
    clip_half: float
    """Half of the 95 % interval that the judged clips give."""

    @property
    def mean(self) -> float:
        """Over the seeds."""
        return statistics.fmean(self.values)

    @property
    def half(self) -> float:
        """Half of a 95 % interval about the mean, over seeds (Student's t) and clips; of one seed over clips alone."""
        count = len(self.values)
        if count < 2:
            return self.clip_half
        seeds = float(stats.t.ppf(0.975, count - 1)) * statistics.stdev(self.values) / math.sqrt(count)
        return math.hypot(seeds, self.clip_half)

    @property
    def interval(self) -> tuple[float, float]:
        """The mean less and more that, within what a score can be."""
        return max(self.mean - self.half, PERCENT[0]), min(self.mean + self.half, PERCENT[1])


def main_metric(scores: Mapping[str, float]) -> str:
    """What a protocol is named by: its first score."""
    return next(iter(scores))


def entries(rows: Sequence[Row]) -> dict[str, list[Entry]]:
    """By protocol, its main metric of each recipe, in the order of the rows."""
    groups: dict[str, dict[str, list[Row]]] = {}
    for row in rows:
        groups.setdefault(row.protocol, {}).setdefault(row.recipe, []).append(row)
    return {protocol: [_entry(recipe, group) for recipe, group in of.items()] for protocol, of in groups.items()}


def _entry(recipe: str, group: Sequence[Row]) -> Entry:
    """The main metric of a recipe's seeds."""
    metric = main_metric(group[0].scores)
    low, high = (
        statistics.fmean(row.scores.get(f"{metric}_{end}", row.scores[metric]) for row in group)
        for end in ("low", "high")
    )
    return Entry(
        recipe=recipe,
        metric=metric,
        values=tuple(row.scores[metric] for row in group),
        untrained=tuple(row.untrained[metric] for row in group if metric in row.untrained),
        clip_half=(high - low) / 2,
    )


def difference(one: Entry, other: Entry) -> tuple[float, float]:
    """How much better the first is, and half of a 95 % interval about that: where it holds 0 the two do not differ.

    Both halves are added as if independent, though the same clips judge both, and of few seeds each is Student's: so the
    interval is rather too wide than too narrow.
    """
    return one.mean - other.mean, math.hypot(one.half, other.half)


def markdown(rows: Sequence[Row], failed: Sequence[str] = ()) -> str:
    """A table a protocol, best first, and which of its recipes the best one is not told from."""
    parts: list[str] = []
    for protocol, group in entries(rows).items():
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
            told = "" if each is best else f"{-gap or 0.0:.1f} ± {half:.1f}" + (": within noise" if gap <= half else "")
            untrained = f"{statistics.fmean(each.untrained):.1f}" if each.untrained else ""
            name = each.recipe.replace("|", "\\|")
            low, high = each.interval
            seeds = ", ".join(f"{value:.1f}" for value in each.values)
            lines.append(f"| {name} | {each.mean:.1f} | {low:.1f} to {high:.1f} | {seeds} | {untrained} | {told} |")
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
    names = list(dict.fromkeys(row.recipe for row in rows))
    size = (4 * len(found), 1.5 + 0.4 * len(names))
    figure, axes = pyplot.subplots(1, len(found), figsize=size, squeeze=False, sharey=True)
    for axis, (protocol, own) in zip(axes[0], found.items(), strict=True):
        places = [names.index(entry.recipe) for entry in own]
        spread = [[entry.mean - entry.interval[0] for entry in own], [entry.interval[1] - entry.mean for entry in own]]
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
