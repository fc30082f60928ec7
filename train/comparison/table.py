"""What several runs were worth, in one table and one plot, and which differences are more than noise."""

import csv
import io
import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

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
    modality: str = "both"
    """What the run learnt from, where the protocol judges each: of one alone (video or audio) its own scores count."""

    @property
    def metric(self) -> str | None:
        """The score that stands for the run; None where the protocol has none of the one modality that learnt."""
        name = main_metric(self.scores)
        if self.modality != "both":
            name = f"{self.modality}_{name}"
        return name if name in self.scores else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A metric of a recipe over its seeds."""

    recipe: str
    modality: str
    metric: str
    values: tuple[float, ...]
    """By seed."""
    untrained: tuple[float, ...]
    clip_half: float | None
    """Half of the 95 % interval that the judged clips give; None where the protocol says none."""

    @property
    def mean(self) -> float:
        """Over the seeds."""
        return statistics.fmean(self.values)

    @property
    def sources(self) -> str:
        """What the interval is over; empty where there is none."""
        if len(self.values) < 2:
            return "" if self.clip_half is None else "clips only"
        return "seeds only" if self.clip_half is None else "seeds and clips"

    def half(self, best_of: int = 2) -> float:
        """Half of a 95 % interval about the mean, over seeds (Student's t) and clips, as far as there are any.

        To compare the best of so many recipes with each of them it is wider: see `quantile`.
        """
        count = len(self.values)
        clips = (self.clip_half or 0.0) * quantile(best_of, math.inf) / quantile(2, math.inf)
        if count < 2:
            return clips
        seeds = quantile(best_of, count - 1) * statistics.stdev(self.values) / math.sqrt(count)
        return math.hypot(seeds, clips)

    @property
    def interval(self) -> tuple[float, float]:
        """The mean less and more `half`, within what a score can be."""
        return max(self.mean - self.half(), PERCENT[0]), min(self.mean + self.half(), PERCENT[1])


@cache
def quantile(best_of: int, freedom: float) -> float:
    """How many standard errors a difference from the best of so many equals exceeds in 5 % of cases.

    Tukey's studentised range over the root of 2 (Games & Howell 1976, for variances that differ), with the degrees of freedom
    of one variance, which is rather too wide: of two it is Student's t. The best is chosen after a look, so that any two of
    all may be compared: Bonferroni's correction by the others alone is too small for many seeds.
    """
    from scipy import stats

    if best_of <= 2:
        return float(stats.norm.ppf(0.975) if math.isinf(freedom) else stats.t.ppf(0.975, freedom))
    return float(stats.studentized_range.ppf(0.95, best_of, freedom)) / math.sqrt(2)


def main_metric(scores: Mapping[str, float]) -> str:
    """What a protocol is named by: its first score."""
    return next(iter(scores))


def entries(rows: Sequence[Row]) -> dict[str, list[Entry]]:
    """By protocol, its main metric of each recipe that it judges, in the order of the rows."""
    groups: dict[str, dict[str, list[Row]]] = {}
    for row in rows:
        if row.metric is not None:
            groups.setdefault(row.protocol, {}).setdefault(row.recipe, []).append(row)
    return {protocol: [_entry(recipe, group) for recipe, group in of.items()] for protocol, of in groups.items()}


def _entry(recipe: str, group: Sequence[Row]) -> Entry:
    """The main metric of a recipe's seeds."""
    metric = str(group[0].metric)
    bounds = [
        row.scores[f"{metric}_high"] - row.scores[f"{metric}_low"]
        for row in group
        if {f"{metric}_low", f"{metric}_high"} <= row.scores.keys()
    ]
    return Entry(
        recipe=recipe,
        modality=group[0].modality,
        metric=metric,
        values=tuple(row.scores[metric] for row in group),
        untrained=tuple(row.untrained[metric] for row in group if metric in row.untrained),
        clip_half=statistics.fmean(bounds) / 2 if len(bounds) == len(group) else None,
    )


def difference(one: Entry, other: Entry, *, best_of: int = 2) -> tuple[float, float]:
    """How much better the first is, and half of a 95 % interval about that: where it holds 0 the two do not differ.

    The first may be the best of `best_of` recipes: then in 95 % of cases all intervals about the differences from it are right.
    Both halves are added as if independent, though the same clips judge both, and of few seeds each is Student's: so the
    interval is rather too wide than too narrow.
    """
    return one.mean - other.mean, math.hypot(one.half(best_of), other.half(best_of))


def verdict(best: Entry, other: Entry, *, best_of: int) -> str:
    """Of a recipe, how far it is from the best of so many, and whether that may be noise; empty for the best itself.

    One seed says nothing of how much seeds differ, and a metric without an interval nothing of how much clips do.
    """
    if other is best:
        return ""
    gap, half = difference(best, other, best_of=best_of)
    if min(len(best.values), len(other.values)) < 2:
        return f"{-gap or 0.0:.1f} (not judged: one seed)"
    if best.clip_half is None or other.clip_half is None:
        return f"{-gap or 0.0:.1f} (not judged: no interval over clips)"
    return f"{-gap or 0.0:.1f} ± {half:.1f}" + (": within noise" if gap <= half else "")


def markdown(rows: Sequence[Row], failed: Sequence[str] = ()) -> str:
    """A table a protocol, best first, and which of its recipes the best one is not told from."""
    parts = [
        "\n".join(_table(protocol, group, [row for row in rows if row.protocol == protocol]))
        for protocol, group in entries(rows).items()
    ]
    if left_out := list(dict.fromkeys(_left_out(rows))):
        parts.append("\n".join(["Left out:", *left_out]))
    if failed:
        parts.append("\n".join(["Failed:", *(f"- {each}" for each in failed)]))
    return "\n\n".join(parts) + "\n"


def _table(protocol: str, group: Sequence[Entry], rows: Sequence[Row]) -> Iterator[str]:
    """The lines of a protocol's table, and what is to be known of it."""
    ranked = sorted(group, key=lambda entry: -entry.mean)
    alike = len({entry.sources for entry in ranked}) == 1
    over = f"95% interval ({ranked[0].sources or 'none'})" if alike else "95% interval"
    yield f"### {protocol}: {main_metric(rows[0].scores)} in %"
    yield ""
    yield f"| recipe | mean | {over} | seeds | untrained | from the best |"
    yield "|---|---|---|---|---|---|"
    for each in ranked:
        untrained = f"{statistics.fmean(each.untrained):.1f}" if each.untrained else ""
        name = _name(each.recipe) + (f" ({each.modality} alone)" if each.modality != "both" else "")
        between = f"{each.interval[0]:.1f} to {each.interval[1]:.1f}" if each.sources else ""
        if each.sources and not alike:
            between += f" ({each.sources})"
        seeds = ", ".join(f"{value:.1f}" for value in each.values)
        told = verdict(ranked[0], each, best_of=len(ranked))
        yield f"| {name} | {each.mean:.1f} | {between} | {seeds} | {untrained} | {told} |"
    if len(ranked) > 2:
        yield ""
        yield f"From the best of {len(ranked)}: intervals that hold together in 95% of cases (Tukey's range)."
    for modality, metric in dict.fromkeys((each.modality, each.metric) for each in ranked if each.modality != "both"):
        yield ""
        yield f"({modality} alone): the recipe learns from {modality} alone, and is judged by its {metric}."


def _left_out(rows: Sequence[Row]) -> Iterator[str]:
    """What has no place in the tables, a line each."""
    for row in rows:
        if row.metric is None:
            why = f"it learns from {row.modality} alone, of which {row.protocol} has no score"
            yield f"- {_name(row.recipe)}, {row.protocol}: {why}"


def _name(recipe: str) -> str:
    """As it stands in a table."""
    return recipe.replace("|", "\\|")


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
    """The main metrics with their intervals beside the untrained ones; None where there are none, or no matplotlib."""
    try:
        import matplotlib
    except ImportError:
        return None
    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "kinetics-sounds"  # the same bytes each time
    from matplotlib import pyplot

    found = entries(rows)
    if not found:
        return None
    metrics = {row.protocol: main_metric(row.scores) for row in rows}
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
        axis.set(title=f"{protocol}: {metrics[protocol]}, %", yticks=range(len(names)), yticklabels=names)
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
