"""Run a paper's protocol: its evaluation on each fold, their mean with an interval, and the paper's scores beside ours."""

import contextlib
import dataclasses
import hashlib
import json
import math
import re
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kinetics_sounds import plugins
from kinetics_sounds.command import DONE
from kinetics_sounds.errors import SettingsError, ShardError
from kinetics_sounds.eval_results import is_chosen
from kinetics_sounds.settings import Parsed, parse
from kinetics_sounds.shards import reader

from ..config import run_folder
from ..config.recipes import flat
from ..distributed import launch, process_group
from ..distributed.devices import pick_device
from . import frozen, results
from .papers import PaperProtocol
from .protocols import sounds

_TRAIN = __package__.rpartition(".")[0]
PROBES = f"{_TRAIN}.probes"
PROTOCOLS = f"{__package__}.protocols"
WAIT_SECONDS = 6 * 3600.0
"""Seconds that torchrun's other ranks wait for the one that judges a fold."""
PLACES = (
    *("run", "checkpoint", "untrained", "shards", "folder", "cache", "cache_gb"),
    *("workers", "devices", "device", "out", "json"),
)
"""Options that say what is evaluated and where, not how."""

OF_ONE_FOLD = ("settings", "selection", "content", "fit_fingerprint")
"""What the results of a fold say of it alone."""


@dataclass(frozen=True, slots=True)
class _Evaluation:
    """A probe, or a protocol with options of its own, with its parsed options."""

    parsed: Parsed[Any]
    run: Callable[[Parsed[Any]], int]
    fits: bool
    """Whether it is fitted on a split."""


def evaluate(protocol: PaperProtocol, argv: Sequence[str]) -> int:
    """Run a protocol with further options of its evaluation; return the exit code.

    Writes `results.json` of each fold and one of all, whose scores are means over the folds. Raises SettingsError for invalid
    options, StoppedError after a signal: run it again to resume.
    """
    its = _evaluation(protocol, argv)
    settings = its.parsed.settings
    out, parts = results.folder(settings, protocol.name), _parts(protocol, argv, fits=its.fits)
    note = _checked_set(protocol, settings, parts)
    found: dict[str, dict[str, Any]] = {}
    with contextlib.ExitStack() as stack:
        if launch.is_rank():  # torchrun's ranks can meet only once
            stack.enter_context(process_group.start(pick_device(settings.device), timeout_seconds=WAIT_SECONDS))
        if settings.json:
            stack.enter_context(contextlib.redirect_stdout(sys.stderr))
        for name, splits in parts.items():
            part = dataclasses.replace(settings, out=out / name, json=False, **splits)
            code = its.run(dataclasses.replace(its.parsed, settings=part))
            if code != DONE:
                return code
            if launch.is_main():
                found[name] = json.loads((out / name / "results.json").read_text())
    if not launch.is_main():
        return DONE
    document = _document(protocol, found, given=_given(argv, its.parsed), note=note)
    results.write(out, document)
    print(json.dumps(document) if settings.json else _summary(protocol, document, out, note=note))
    return DONE


def _evaluation(protocol: PaperProtocol, argv: Sequence[str]) -> _Evaluation:
    """Parse the options of the protocol, overridden by those of the command line.

    Raises SettingsError for shards where a folder of sounds is needed, or the other way round.
    """
    if (other := "shards" if protocol.uses == "sounds" else "folder") in _named(argv):
        raise SettingsError(f"--{other}: {protocol.name} takes {protocol.needs}; as in: {protocol.command}")
    words, prog = [*protocol.words, *argv], f"ks-eval --protocol {protocol.name}"
    if protocol.uses in plugins.names(PROTOCOLS):
        module = plugins.load(PROTOCOLS, protocol.uses)
        parsed = parse(module.Settings, words, prog=prog, groups=getattr(module, "GROUPS", {}))
        return _Evaluation(parsed, module.evaluate, fits=hasattr(parsed.settings, "fit_split"))
    modules = {protocol.uses: plugins.load(PROBES, protocol.uses)}
    return _Evaluation(
        frozen.read(modules, words, prog=prog),
        lambda parsed: frozen.run(modules, parsed),
        fits=modules[protocol.uses].NEEDS_TRAIN_FEATURES,
    )


def _parts(protocol: PaperProtocol, argv: Sequence[str], *, fits: bool) -> dict[str, dict[str, str]]:
    """Names of the evaluations to run, and the splits of each: the folds, unless the command line names splits."""
    if not protocol.folds or _named(argv) & {"fit_split", "on_split"}:
        return {"all": {}}
    return {
        f"fold{fold}": {"on_split": f"fold{fold}_test", **({"fit_split": f"fold{fold}_train"} if fits else {})}
        for fold in protocol.folds
    }


def _checked_set(protocol: PaperProtocol, settings: Any, parts: Mapping[str, Mapping[str, str]]) -> str:  # noqa: ANN401
    """A note if the evaluated set is not the protocol's, else empty; raises ShardError if it lacks splits of the parts."""
    if isinstance(settings, sounds.Settings):
        labels = {each.label for each in sounds.read(settings.folder).recordings}
        return protocol.note_on(sounds.data_set(settings.folder) or "a list of your own", len(labels), sound=True)
    shards = run_folder.shards_to_evaluate(settings.shards, run_folder.read_facts(settings.run))
    dataset = reader.read_dataset(shards)
    needed = dict.fromkeys(name for part in parts.values() for name in part.values())
    if lacks := [name for name in needed if name not in dataset.every_split]:
        raise ShardError(
            f"{shards}: has no split {', '.join(lacks)}, and {protocol.name} takes {', '.join(needed)}; it has: "
            f"{', '.join(dataset.every_split)}; give shards with these folds ({protocol.needs}), or splits of your own with "
            "--on_split and, if the evaluation is fitted, --fit_split"
        )
    name = "".join(each for each in dataset.classes if each.isprintable())
    return protocol.note_on(name, len(dataset.labels), sound=dataset.modality != "video")


def _named(argv: Sequence[str]) -> set[str]:
    """Names of the options of a command line."""
    return {word[2:].partition("=")[0] for word in argv if word.startswith("--")}


def _given(argv: Sequence[str], parsed: Parsed[Any]) -> dict[str, Any]:
    """Options of the command line that say how to evaluate, by name."""
    values, named = flat(parsed.values), _named(argv) - set(PLACES)
    return {
        name: values[name] for name in sorted(values) if any(f"{name}.".startswith(f"{each}.") for each in named)
    }  # a group may be given as a whole: --optim '{"lr": 0.1}'


def _document(
    protocol: PaperProtocol, found: Mapping[str, Mapping[str, Any]], *, given: Mapping[str, Any], note: str
) -> dict[str, Any]:
    """Contents of results.json: those of the first fold, with what concerns all folds."""
    first = next(iter(found.values()))
    told = [each["fingerprint"] for each in found.values()]
    kept = {name: value for name, value in first.items() if name not in OF_ONE_FOLD}
    scores = means([each["scores"] for each in found.values()])
    inner = [value for name, value in scores.items() if re.fullmatch(r"fold\d+_top1", name)]  # of ks-eval sounds
    if len(found) == 1 and len(inner) > 1:
        scores |= _bounds("top1", inner)
    folds = max(len(found), len(inner))
    seen = [each["seen_in_training"] for each in found.values()]
    return {
        **kept,
        "probe": protocol.name,
        "uses": protocol.uses,
        "options": dict(protocol.options),
        "given": dict(given),
        "intervals": first["intervals"]
        if folds < 2
        else f"_low and _high: 95%, Student's t over {folds} folds, whose training clips overlap; none where all are equal",
        **{
            name: ", ".join(str(each[name]) for each in found.values())
            for name in ("fit_split", "on_split")
            if first.get(name)
        },
        "fingerprint": told[0] if len(told) == 1 else hashlib.sha256("\n".join(told).encode()).hexdigest(),
        "seen_in_training": None if None in seen else sum(seen),
        "samples": sum(each["samples"] for each in found.values()),
        "folds": {name: each["scores"] for name, each in found.items()},
        "note": "; ".join(each for each in (first.get("note"), note) if each),
        "papers": [dataclasses.asdict(row) for row in protocol.papers],
        "scores": scores,
    }


def means(folds: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Mean of each score over the folds; scores with an interval get Student's t of 95 % over the folds instead.

    A single fold is returned as it is; equal folds get no interval. The selected C is left out of a mean, and "selected_on_test"
    is the largest.
    """
    if len(folds) == 1:
        return dict(folds[0])
    found: dict[str, float] = {}
    for name in folds[0]:
        if name.endswith(("_low", "_high")) or is_chosen(name):
            continue
        values = [each[name] for each in folds]
        found[name] = statistics.fmean(values)
        if f"{name}_low" in folds[0]:
            found |= _bounds(name, values)
    if any("selected_on_test" in each for each in folds):
        found["selected_on_test"] = max(each.get("selected_on_test", 0.0) for each in folds)
    return found


def _bounds(name: str, values: Sequence[float]) -> dict[str, float]:
    """Lower and upper bound of a score; none if all folds are equal, from which t would conclude that it is certain."""
    if min(values) == max(values):
        return {}
    return dict(zip((f"{name}_low", f"{name}_high"), interval(values), strict=True))


def interval(values: Sequence[float]) -> tuple[float, float]:
    """Student's t interval of 95 % of the mean of two or more percentages, within 0 and 100: (low, high)."""
    from scipy import stats

    half = float(stats.t.ppf(0.975, len(values) - 1)) * statistics.stdev(values) / math.sqrt(len(values))
    return max(0.0, statistics.fmean(values) - half), min(100.0, statistics.fmean(values) + half)


def _summary(protocol: PaperProtocol, document: dict[str, Any], out: Path, *, note: str) -> str:
    """Our scores, the papers', and those of the untrained encoders where they have been evaluated in the same way."""
    lines = [results.format_scores(document, out, what="samples")]
    if protocol.papers:
        lines += ["as published:", *(f"  {row}" for row in protocol.papers)]
    if note:
        lines.append(f"note: {note}")
    untrained = out.with_name(f"{protocol.name}_untrained") / "results.json"
    if document["checkpoint"] != "untrained" and untrained.is_file():
        other = json.loads(untrained.read_text())
        scores = other["scores"]
        judged = dict.fromkeys(metric for row in protocol.papers for metric in row.scores if metric in scores)
        if any(other[name] != document[name] for name in ("fingerprint", "options", "given")):
            return "\n".join([*lines, "untrained: evaluated on other clips or with other options; run it again"])
        lines.append(f"untrained: {', '.join(f'{metric} {results.number(scores[metric])}' for metric in judged)}")
    return "\n".join(lines)
