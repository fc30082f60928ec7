"""Summarize several runs in a table and a plot, and mark differences that may be noise."""

import csv
import io
import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path

from kinetics_sounds import files

INTERVALS = (
    "95% interval of a mean: the root of the sum of two squares, the half-width of Student's t interval over the seeds and that "
    "of the bootstrap interval over the clips. A difference has both sides' half-widths as if independent; it is within noise "
    "if it is not larger than that."
)
"""Explanation below the tables."""
DISAGREE = "chance: left out, as rows of the same clips disagree: it is of another classifier, or of an earlier version"
"""What stands in place of chance where rows of the same clips disagree."""
PERCENT = (0.0, 100.0)
"""Range of scores, and of their intervals."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """Result of one protocol on one run."""

    recipe: str
    seed: int
    protocol: str
    scores: Mapping[str, float]
    untrained: Mapping[str, float]
    modality: str = "both"
    """Modality that the run trained; scores of the other modality do not count."""
    facts: Mapping[str, str] = field(default_factory=dict)
    """What the row is of, see `row_facts`."""

    @property
    def metric(self) -> str | None:
        """Main score of the row; None if the protocol has no score of the trained modality."""
        name = main_metric(self.scores)
        if self.modality != "both":
            name = f"{self.modality}_{name}"
        return name if name in self.scores else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One metric of a recipe over its seeds."""

    recipe: str
    modality: str
    metric: str
    values: tuple[float, ...]
    """One value per seed."""
    untrained: "Entry | None"
    """The same of the untrained encoders; None if they were not evaluated."""
    clip_half: float | None
    """Half-width of the 95 % bootstrap interval over clips; None if the protocol reports none."""

    @property
    def mean(self) -> float:
        """Mean over seeds."""
        return statistics.fmean(self.values)

    @property
    def sources(self) -> str:
        """What the interval covers (seeds, clips); empty if there is no interval."""
        if len(self.values) < 2:
            return "" if self.clip_half is None else "clips only"
        return "seeds only" if self.clip_half is None else "seeds and clips"

    def half(self, best_of: int = 2) -> float:
        """Half-width of a 95 % interval of the mean, over seeds (Student's t) and clips, as far as available.

        It is wider when the best of several recipes is compared with the others: see `quantile`.
        """
        count = len(self.values)
        clips = (self.clip_half or 0.0) * quantile(best_of, math.inf) / quantile(2, math.inf)
        if count < 2:
            return clips
        seeds = quantile(best_of, count - 1) * statistics.stdev(self.values) / math.sqrt(count)
        return math.hypot(seeds, clips)

    @property
    def interval(self) -> tuple[float, float]:
        """Mean minus and plus `half`, clipped to the range of scores."""
        return max(self.mean - self.half(), PERCENT[0]), min(self.mean + self.half(), PERCENT[1])


@cache
def quantile(best_of: int, freedom: float) -> float:
    """95 % quantile of the difference between the best of several equal recipes and another, in standard errors.

    Tukey's studentised range divided by the root of 2 (Games & Howell 1976, for unequal variances), with the degrees of freedom
    of one variance, which is conservative; for two recipes it is Student's t. The best is selected after looking at the data,
    so any pair may be compared: a Bonferroni correction by the number of other recipes is too small for many seeds.
    """
    from scipy import stats

    if best_of <= 2:
        return float(stats.norm.ppf(0.975) if math.isinf(freedom) else stats.t.ppf(0.975, freedom))
    return float(stats.studentized_range.ppf(0.95, best_of, freedom)) / math.sqrt(2)


def main_metric(scores: Mapping[str, float]) -> str:
    """Name of the protocol's main metric: its first score."""
    return next(iter(scores))


def entries(rows: Sequence[Row]) -> dict[str, list[Entry]]:
    """Main metric of each recipe, by protocol, in the order of the rows."""
    groups: dict[str, dict[str, list[Row]]] = {}
    for row in rows:
        if row.metric is not None:
            groups.setdefault(row.protocol, {}).setdefault(row.recipe, []).append(row)
    return {
        protocol: [_entry(recipe, group, str(group[0].metric)) for recipe, group in of.items()]
        for protocol, of in groups.items()
    }


def _entry(recipe: str, group: Sequence[Row], metric: str) -> Entry:
    """A metric of a recipe over its seeds."""
    bounds = [
        row.scores[f"{metric}_high"] - row.scores[f"{metric}_low"]
        for row in group
        if {f"{metric}_low", f"{metric}_high"} <= row.scores.keys()
    ]
    before = [replace(row, scores=row.untrained, untrained={}) for row in group if metric in row.untrained]
    return Entry(
        recipe=recipe,
        modality=group[0].modality,
        metric=metric,
        values=tuple(row.scores[metric] for row in group),
        untrained=_entry(recipe, before, metric) if before else None,
        clip_half=statistics.fmean(bounds) / 2 if len(bounds) == len(group) else None,
    )


def difference(one: Entry, other: Entry, *, best_of: int = 2) -> tuple[float, float]:
    """Mean difference between two entries, and the half-width of its 95 % interval; 0 inside means no difference.

    If the first is the best of `best_of` recipes, all intervals of its differences hold simultaneously in 95 % of cases. The
    half-widths are added as if independent, although both are evaluated on the same clips, and Student's t is used for few
    seeds, so the interval is conservative.
    """
    return one.mean - other.mean, math.hypot(one.half(best_of), other.half(best_of))


def verdict(best: Entry, other: Entry, *, best_of: int) -> str:
    """Distance of an entry from the best (or the untrained), and whether it may be noise; empty for the best itself.

    With one seed the spread over seeds is unknown, and without an interval the spread over clips.
    """
    if other is best:
        return ""
    gap, half = difference(best, other, best_of=best_of)
    if min(len(best.values), len(other.values)) < 2:
        return f"{-gap or 0.0:.1f} (not tested: one seed)"
    if best.clip_half is None or other.clip_half is None:
        return f"{-gap or 0.0:.1f} (not tested: no interval over clips)"
    return f"{-gap or 0.0:.1f} ± {half:.1f}" + (": within noise" if abs(gap) <= half else "")


def markdown(rows: Sequence[Row], failed: Sequence[str] = ()) -> str:
    """One Markdown table per protocol, best recipe first, with the recipes that do not differ from the best."""
    parts = [
        "\n".join(_table(protocol, group, [row for row in rows if row.protocol == protocol]))
        for protocol, group in entries(rows).items()
    ]
    if any(len(entry.values) > 1 for group in entries(rows).values() for entry in group):
        parts.append(INTERVALS)
    if left_out := list(dict.fromkeys(_left_out(rows))):
        parts.append("\n".join(["Left out:", *left_out]))
    if failed:
        parts.append("\n".join(["Failed:", *(f"- {each}" for each in failed)]))
    return "\n\n".join(parts) + "\n"


def _table(protocol: str, group: Sequence[Entry], rows: Sequence[Row]) -> Iterator[str]:
    """Lines of a protocol's table, and notes."""
    ranked = sorted(group, key=lambda entry: -entry.mean)
    alike = len({entry.sources for entry in ranked}) == 1
    over = f"95% interval ({ranked[0].sources or 'none'})" if alike else "95% interval"
    yield f"### {protocol}: {main_metric(rows[0].scores)} in %"
    yield ""
    yield f"| recipe | mean | {over} | seeds | untrained | minus untrained | from the best |"
    yield "|---|---|---|---|---|---|---|"
    for each in ranked:
        name = _name(each.recipe) + (f" ({each.modality} only)" if each.modality != "both" else "")
        between = _between(each) + (f" ({each.sources})" if each.sources and not alike else "")
        seeds = ", ".join(f"{value:.1f}" for value in each.values)
        untrained, gain = "", ""
        if each.untrained is not None:
            own = _between(each.untrained)
            untrained = f"{each.untrained.mean:.1f}" + (f" ({own})" if own else "")
            gain = verdict(each.untrained, each, best_of=2)
        told = verdict(ranked[0], each, best_of=len(ranked))
        yield f"| {name} | {each.mean:.1f} | {between} | {seeds} | {untrained} | {gain} | {told} |"
    yield from _caption([row for row in rows if row.metric is not None])
    if len(ranked) > 2:
        yield ""
        yield f"Differences from the best of {len(ranked)}: simultaneous 95% intervals (Tukey's range)."
    for modality, metric in dict.fromkeys((each.modality, each.metric) for each in ranked if each.modality != "both"):
        yield ""
        yield f"({modality} only): the recipe trains {modality} only, and is evaluated by its {metric}."


def _between(entry: Entry) -> str:
    """The interval of an entry; empty if it has none."""
    return f"{entry.interval[0]:.1f} to {entry.interval[1]:.1f}" if entry.sources else ""


def _caption(rows: Sequence[Row]) -> Iterator[str]:
    """What is the same for all rows in one line, then a line for each fact that differs."""
    disagree = _chances_disagree(rows)
    found: dict[str, dict[str, list[str]]] = {}
    for row in rows:
        for name, value in {**row.facts, **({} if disagree else _chance(row))}.items():
            found.setdefault(name, {}).setdefault(value, []).append(row.recipe)
    same, differing = [], []
    for name, by_value in found.items():
        if [len(each) for each in by_value.values()] == [len(rows)]:
            same.append(f"{name}: {next(iter(by_value))}")
        else:
            told = (f"{value} ({', '.join(dict.fromkeys(recipes))})" for value, recipes in by_value.items())
            differing.append(f"{name}: {', '.join(told)}")
    if disagree:
        differing.append(DISAGREE)
    for line in (["; ".join(same)] if same else []) + differing:
        yield ""
        yield f"{line}."


def _chance(row: Row) -> dict[str, str]:
    """What guessing reaches in the main metric, as a fact: `top1_chance` of `video_top1`, `r1_chance` of `video_to_audio_r1`."""
    names = (f"{row.metric}_chance", f"{str(row.metric).rpartition('_')[2]}_chance")
    return next(({"chance": f"{row.scores[name]:.1f}%"} for name in names if name in row.scores), {})


def _chances_disagree(rows: Sequence[Row]) -> bool:
    """Whether rows of the same clips have different chances of top1; that of clusters is each run's own."""
    told = {(row.facts.get("evaluated on"), *_chance(row).values()) for row in rows if "top1_chance" in row.scores}
    return len(told) > len({clips for clips, *_ in told})


def _left_out(rows: Sequence[Row]) -> Iterator[str]:
    """Rows that are not in the tables, one line each."""
    for row in rows:
        if row.metric is None:
            why = f"it trains {row.modality} only, for which {row.protocol} has no score"
            yield f"- {_name(row.recipe)}, {row.protocol}: {why}"


def _name(recipe: str) -> str:
    """Recipe name as shown in the table."""
    return recipe.replace("|", "\\|")


def table_csv(rows: Sequence[Row]) -> str:
    """All metrics of all runs as CSV, one row each."""
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
    """Plot the main metrics with intervals beside the untrained encoders; None without data or matplotlib."""
    try:
        import matplotlib
    except ImportError:
        return None
    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "kinetics-sounds"  # deterministic bytes
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
            (entry.untrained.mean, place)
            for entry, place in zip(own, places, strict=True)
            if entry.untrained is not None
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
    """Write `table.md`, `table.csv`, and `plot.svg` if matplotlib is installed."""
    files.write_bytes(folder / "table.md", markdown(rows, failed).encode())
    files.write_bytes(folder / "table.csv", table_csv(rows).encode())
    if (plot := plot_svg(rows)) is not None:
        files.write_bytes(folder / "plot.svg", plot)
