"""Model card of a published run: description, usage, training data, and scores compared with untrained encoders."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import yaml

from kinetics_sounds.eval_results import is_chosen
from kinetics_sounds.extras import pip_install
from kinetics_sounds.resumed import CHANGED, format_changes

from .markdown import escape, plain, table
from .result_settings import asked, baseline, differing, distinctions, other_set, summary
from .result_settings import told as told_settings
from .run_facts import Published

TITLES = {
    "fingerprint": "fingerprint (SHA-256 over the sorted keys)",
    "selection": "selection (keys, labels, splits)",
    "content": "content (the same with the SHA-256 of each clip)",
    "data_recipe": "recipe of the shards",
}
PARTS = ("_low", "_high", "_chance", "selected_on_test")
"""Suffixes of metrics that are shown beside a score."""


def card(found: Published, *, place: str, licence: str, dataset: str) -> str:
    """Contents of README.md, with the Hub's header.

    `place`: address to load it from; `dataset`: USER/NAME of its clips on the Hub, or empty.
    """
    config, facts = found.config, found.facts
    head: dict[str, Any] = {"library_name": "kinetics-sounds"}
    if licence:
        head["license"] = licence
    head["tags"] = ["kinetics-sounds", "audio-visual", "video", "audio"]
    chosen = (config.get(name) for name in ("method", "backbone", "audio_backbone"))
    head["tags"] += dict.fromkeys(str(name) for name in chosen if name)
    if dataset:
        head["datasets"] = [dataset]
    lines = [
        "---",
        yaml.safe_dump(head, sort_keys=False, allow_unicode=True).rstrip(),
        "---",
        "",
        f"# {escape(with_method(facts['recipe'], config.get('method')))}",
        "",
        _what(found),
        "",
        *_loading(place),
        *_data(facts, dataset),
        *_scores(found.results, facts),
        *_settings(config, facts.get(CHANGED, []), step=found.state["step"]),
    ]
    return "\n".join(lines) + "\n"


def with_method(recipe: str, method: object) -> str:
    """Name of a run's recipe, with the run's method unless the name begins with it, as those of all shipped recipes do."""
    return (
        recipe if not (recipe and method) or f"{recipe}_".startswith(f"{method}_") else f"{recipe} with method {method}"
    )


def _what(found: Published) -> str:
    """Description of the weights."""
    config, of_steps = found.config, found.state.get("of_steps")
    method, backbone, batch = (escape(str(config.get(name, "?"))) for name in ("method", "backbone", "batch"))
    version = escape(str(found.facts["versions"].get("kinetics-sounds", "")))
    audio = escape(str(config.get("audio_backbone") or ""))
    networks = (
        f"A video encoder ({backbone}) and an audio encoder ({audio})"
        if audio
        else f"A video and an audio encoder ({backbone})"
    )
    best = found.state.get("best")
    val_split = best and (best.get("split") or config.get("val_split"))
    selected = f" It is the best checkpoint on the split {escape(str(val_split))}, so its scores there are optimistic."
    return (
        f"{networks}, trained by {method} with kinetics-sounds {version}: {found.state['step']:,}"
        f"{f' of {of_steps:,}' if of_steps else ''} steps of {batch} clips; {found.parameters:,} weights (safetensors)."
        f"{selected if val_split else ''}"
    )


def _loading(place: str) -> list[str]:
    return [
        "## Load it",
        "",
        "```sh",
        pip_install("hub,train", comment=True),
        "```",
        "",
        "```python",
        "from kinetics_sounds import train",
        "",
        f'encoders = train.load("{place}")',
        "```",
        "",
        "`encoders.video` and `encoders.audio` are plain `nn.Module`s; `encoders.preprocess` prepares a clip for them.",
        "",
    ]


def _data(facts: Mapping[str, Any], dataset: str) -> list[str]:
    """Description of the training data."""
    data = facts["data"]
    rows: list[list[object]] = [
        ["clips", f"{data.get('samples', 0):,} of the split {escape(facts['train_split'])}"],
        ["classes", f"{data.get('classes', 0)} ({escape(facts['classes'])})"],
    ]
    if facts["note"]:
        rows.append(["note", escape(facts["note"])])
    if dataset:
        rows.append(["on the Hub", f"[{escape(dataset)}](https://huggingface.co/datasets/{dataset})"])
    rows += [[title, f"`{plain(facts[name]).replace('`', '')}`"] for name, title in TITLES.items() if facts[name]]
    return ["## Training data", "", *table(["", "training split"], rows), ""]


def _scores(results: Mapping[str, Mapping[str, Any]], facts: Mapping[str, Any]) -> list[str]:
    """A table per probe and dataset: each score with its confidence interval, the untrained encoders' score, and chance.

    The note of the training data is not repeated.
    """
    lines = ["## Results", ""]
    untrained = [each for each in results.values() if each.get("checkpoint") == "untrained"]
    trained: list[Mapping[str, Any]] = []
    for each in results.values():
        same = (other for other in trained if asked(other) == asked(each) and other["scores"] == each["scores"])
        if each.get("checkpoint") != "untrained" and not any(same):  # the same, in two folders
            trained.append(each)
    if not trained:
        others = "; those in `results/` are of untrained encoders" if untrained else ""
        return [*lines, f"No result of this checkpoint was published with it{others}.", ""]
    note = next((str(each["intervals"]) for each in trained if each.get("intervals")), "")
    note = f" Confidence intervals in brackets ({escape(note.removeprefix('_low and _high: '))})." if note else ""
    lines += [f"In percent, by `ks-eval`; files in `results/`.{note}", ""]
    for each, differs in zip(trained, distinctions([asked(each) for each in trained]), strict=True):
        beside = next((other for other in untrained if baseline(other) == baseline(each)), {})
        told = f"{each.get('probe', '')} on {_clips(each, facts)}{f', {differs}' if differs else ''}"
        lines += [f"### {escape(told)}", "", *_protocol(each)]
        scores, others = each["scores"], beside.get("scores", {})
        certain = tuple(name.removesuffix("_chance") for name in scores if _is_certain(scores, name))
        names = [name for name in scores if not name.endswith((*PARTS, *certain)) and not is_chosen(name)]
        rows: list[list[object]] = [
            [escape(name), _score(scores, name), _score(others, name), _chance(scores, name)] for name in names
        ]
        lines += [*table(["score", "this run", "untrained", "chance"], rows), "", *_folds(each.get("folds", {}), names)]
        lines += _how(each, names)
        if strengths := [f"{name} {scores[name]:g}" for name in scores if is_chosen(name) and name not in PARTS]:
            lines += [f"Chosen C of the SVM: {escape(', '.join(strengths))}.", ""]
        if said := str(each.get("note", "")).removeprefix(facts["note"]).removeprefix("; ").rstrip("."):
            lines += [f"Note: {escape(said)}.", ""]
        if seen := each.get("seen_in_training"):
            lines += [f"The run was trained on {escape(str(seen))} of these clips.", ""]
        if scores.get("selected_on_test"):
            lines += ["Selected on the evaluated split: the scores are optimistic.", ""]
        if not beside:
            lines += [_without(each, untrained, facts), ""]
    return lines


def _clips(result: Mapping[str, Any], facts: Mapping[str, Any]) -> str:
    """The clips that a result is of: `4 clips of test`, with the class list if the set is not the run's."""
    other = other_set(result, facts)
    return f"{result.get('samples', '?')} clips of {result.get('on_split', '')}{f' of {other}' if other else ''}"


def _how(result: Mapping[str, Any], names: Sequence[str]) -> list[str]:
    """The settings of a result, and which scores are of both modalities together."""
    scores, settings = result["scores"], summary(asked(result))
    both = [name for name in names if f"video_{name}" in scores and f"audio_{name}" in scores]
    told = [
        *([f"Settings: {escape(settings)}."] if settings else []),
        *([f"Of both modalities together: {escape(', '.join(both))}."] if both else []),
    ]
    return [" ".join(told), ""] if told else []


def _without(result: Mapping[str, Any], untrained: Sequence[Mapping[str, Any]], facts: Mapping[str, Any]) -> str:
    """Why a result stands without untrained encoders: of another evaluation, if there is one, it names the settings."""
    own = baseline(result)
    for each in untrained:
        if (other := baseline(each)).probe == own.probe:
            settings = told_settings(other, differing([other, own]))
            clips = "" if other.title == own.title else _clips(each, facts)
            told = ", ".join(part for part in (clips, settings) if part)
            return f"Untrained encoders were evaluated otherwise, and are not shown: {escape(told)}."
    return "Untrained encoders were not evaluated (`ks-eval … --untrained`)."


def _protocol(result: Mapping[str, Any]) -> list[str]:
    """The evaluation and options of a paper's protocol, and those that were given beside it."""
    if not result.get("uses"):
        return []
    told = [f"A paper's protocol: {escape(str(result['uses']))}"]
    for name, what in (("options", "with"), ("given", "and, unlike the paper, with")):
        if options := escape(", ".join(_options(result.get(name, {})))):
            told.append(f"{what} {options}")
    return [f"{' '.join(told)}.", ""]


def _options(told: Mapping[str, Any], before: str = "") -> Iterator[str]:
    """Each option with its value; those of a group by its name and theirs."""
    for name, value in told.items():
        if isinstance(value, dict):
            yield from _options(value, f"{before}{name}.")
        else:
            yield f"{before}{name} {value}"


def _folds(folds: Mapping[str, Mapping[str, float]], names: list[str]) -> list[str]:
    """A table of the scores of each of several folds."""
    if len(folds) < 2:
        return []
    rows: list[list[object]] = [[escape(name), *(_score(each, name) for each in folds.values())] for name in names]
    return [*table(["score", *(escape(fold) for fold in folds)], rows), ""]


def _score(scores: Mapping[str, float], name: str) -> str:
    if name not in scores:
        return ""
    low, high = scores.get(f"{name}_low"), scores.get(f"{name}_high")
    return f"{scores[name]:.2f}" + ("" if low is None or high is None else f" ({low:.2f} to {high:.2f})")


def _chance(scores: Mapping[str, float], name: str) -> str:
    """What guessing reaches: `top1_chance` of `top1` and `video_top1`, `r10_chance` of `video_to_audio_r10`, as in ks-view."""
    names = (f"{each}_chance" for each in (name, name.rpartition("_")[2]))
    return next((_score(scores, each) for each in names if each in scores), "")


def _is_certain(scores: Mapping[str, float], name: str) -> bool:
    """Whether a metric is the chance of a score that is always 100, such as top 5 of four classes; ks-eval hides it too."""
    return name.endswith("_chance") and scores[name] >= 100


def _settings(config: Mapping[str, Any], changes: Sequence[Mapping[str, Any]], *, step: int) -> list[str]:
    """The main settings, and what was changed when the run was resumed, before the published step and after it."""
    named = [
        f"{name} {escape(str(config[name]))}" for name in ("view", "encoders", "precision", "seed") if name in config
    ]
    before, later = ([each for each in changes if (each["step"] >= step) is after] for after in (False, True))
    told = [f"the run was resumed with {escape(format_changes(before))}"] if before else []
    if later:
        told.append(f"`config.yaml` has the settings of a later resume: {escape(format_changes(later))}")
    elif before:
        told.append("`config.yaml` has the settings of its end")
    else:
        told.append("all settings that affect training are in `config.yaml`")
    return ["## Settings", "", f"{'; '.join([', '.join(named), *told])}.", ""]
