"""Read the publishable facts of a training run, by allow-lists, so that nothing about this machine is published."""

import contextlib
import itertools
import json
import math
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from kinetics_sounds import config_text, files, redact
from kinetics_sounds.classes import shipped_note
from kinetics_sounds.errors import RunError
from kinetics_sounds.renamed import rename_keys
from kinetics_sounds.resumed import CHANGED, are_changes

MOST_BYTES = 1 << 20
"""Maximum size of a JSON file in bytes."""
MOST_HEADER_BYTES = 16 << 20
"""Maximum size of a safetensors header in bytes."""
MOST_RESULTS = 200
AGAIN = "make it again with ks-eval, or remove it"
"""What to do about wrong results."""
MOST_LETTERS = 500
"""Maximum length of a text."""
TEXTS = ("recipe", "train_split", "fingerprint", "selection", "content", "data_recipe", "classes", "note")
"""Fields of run.json; the first three are in every run."""
DATA = ("classes", "samples", "steps", "steps_per_epoch", "batch")
STATE = ("schema", "step", "of_steps")
CONFIG = (
    *("train_split", "val_split", "method", "backbone", "audio_backbone", "encoders", "view"),
    *("batch", "epochs", "clips_per_video"),
    *("steps", "optim", "seed", "max_grad_norm"),
    *("sync_bn", "precision", "grad_accum_steps", "compile", "activation_checkpointing", "channels_last"),
    *("max_bad_fraction", "window"),
)
"""Settings in config.yaml that affect training, together with those of the run's method, backbones and view."""
RESULT = (
    *("probe", "recipe", "checkpoint", "intervals", "on_split", "fingerprint", "selection", "content", "trained_on"),
    *("versions", "fit_split", "fit_fingerprint", "samples", "clips", "features"),
    *("settings", "classes", "note", "scores"),
    *("tuned", "best_on", "epochs", "batch", "clips_per_video", "vote", "modality", "layers", "best", "best_on_top1"),
    *("clusters", "windows", "seconds", "view_seconds", "fit_clips", "layer", "seen_in_training"),
    *("uses", "options", "given", "folds", "papers", CHANGED),
)
"""Fields of a results.json."""

_STEP = re.compile(r"(step-\d{8,})(?:\.old)?")
_NOT_THE_PAPERS = re.compile(r"(?:^|; )(this is [^;]{1,300}: the paper's scores are not comparable)$")
"""End of the note of a paper's protocol on another set, see `PaperProtocol.note_on`."""
_KEY = re.compile(r"[\w.*?!+\[\]-]{1,100}", flags=re.ASCII)
_WORD = re.compile(r"[\w.*+-]{0,100}", flags=re.ASCII)
_WORDS = re.compile(rf"{_WORD.pattern}(, ?[\w.*+-]{{1,100}}){{0,50}}", flags=re.ASCII)
"""Value of a setting: a word, or several separated by commas."""
_ADDRESS = re.compile(
    r"((?<![\w+.-])(?!(?:[\w.-]+\+)?file:)[a-z][a-z0-9+.-]*://[^/\\\s]\S*)", flags=re.ASCII | re.IGNORECASE
)
"""Address of another machine; `file:` and URLs without a host are local."""
_PATH = re.compile(
    r"""(?<!\w)(?:
      (?:[\w+.@-]+:)? (?: ~[\w.-]*[/\\] | \.{1,2}[/\\] | [/\\]+(?=\S) ) (?:[^/\\\n]+[/\\]+)* [^/\\\s]*  # from a root or here
      | ~[^\W\d][\w.-]*  # somebody's home
      | [\w+@-][\w+.@-]*\\ (?:[^/\\\n]+[/\\]+)* [^/\\\s]*  # of Windows, from here
      | (?:home|users|root)/ [^/\s]+ (?:/[^/\s]+)*
      | (?=[\w+.@/-]*[^\W\d]) [\w+@-][\w+.@-]* (?:/[\w+.@-]+){2,} /?  # two folders or more, without blanks
    )""",
    flags=re.VERBOSE | re.IGNORECASE,
)
"""A path within a text; quoted folder names may contain blanks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """Publishable facts of a run."""

    name: str
    """Name of the checkpoint."""
    weights: Path
    facts: dict[str, Any]
    """Contents of run.json."""
    config: dict[str, Any]
    state: dict[str, Any]
    results: dict[str, dict[str, Any]]
    """By file name."""
    parameters: int
    """Number of parameters."""
    left_out: list[str]
    """Results of other checkpoints, each with the reason for leaving it out."""
    unfinished: str
    """Step of the last checkpoint, as `step 1 of 300`; empty of a finished run."""


def collect(run: Path, checkpoint: str) -> Published:
    """Read a run; raises RunError if it is not a run, lacks the checkpoint, or has invalid contents."""
    facts, config = _facts(run), read_config(run)
    path = _checkpoint(run, checkpoint)
    state = _state(path)
    if checkpoint != "last":
        state |= _best(run, path, state["step"])
    name = path.name.removesuffix(".old")
    results, left_out = _results(run, name, facts)
    return Published(
        name=name,
        weights=path / "model.safetensors",
        facts=facts,
        config=config,
        state=state,
        results=results,
        parameters=_parameters(path / "model.safetensors"),
        left_out=left_out,
        unfinished=_unfinished(run),
    )


def _unfinished(run: Path) -> str:
    with contextlib.suppress(RunError):
        last = _state(_checkpoint(run, "last"))
        return f"step {last['step']} of {last['of_steps']}" if last["step"] < last.get("of_steps", 0) else ""
    return ""


def _facts(run: Path) -> dict[str, Any]:
    told = _read(run / "run.json", "give the --out folder of a ks-train run")
    if "published" in told:
        raise RunError(f"{run}: has weights of other authors, under their license; point to where they published them")
    facts: dict[str, Any] = {}
    for name in TEXTS:
        if not isinstance(value := told.get(name, None if name in TEXTS[:3] else ""), str):
            raise RunError(f"{run / 'run.json'}: its {name} is not text; give the --out folder of a ks-train run")
        facts[name] = _text(shipped_note(value) if name == "note" else value)
    facts["recipe"] = Path(facts["recipe"]).name or "run"
    data = told.get("data")
    if not isinstance(data, dict) or not all(type(data.get(name, 0)) is int for name in DATA):
        raise RunError(
            f"{run / 'run.json'}: its data is not a table of numbers; give the --out folder of a ks-train run"
        )
    classes = facts["classes"] if _WORD.fullmatch(facts["classes"]) and facts["classes"] else "NAME"
    facts["shards"] = f"data/{classes}/shards"  # where ks-shard packs such a set unless told otherwise
    facts["data"] = {name: data[name] for name in DATA if name in data}
    for name in ("mel", "versions"):
        facts[name] = clean(told[name]) if isinstance(told.get(name), dict) else {}
    git = told.get("git")
    if (
        isinstance(git, dict)
        and git.get("changed") is False
        and re.fullmatch(r"[0-9a-f]{40,64}", str(git.get("commit")))
    ):
        facts["git"] = {"commit": git["commit"], "changed": False}
    return facts | _changed(told)


def read_config(run: Path) -> dict[str, Any]:
    """Settings that affect training; raises RunError for values that we never write."""
    path = run / "config.yaml"
    try:
        text = config_text.read_config(path)
        config_text.check_bounds(text)
        told = yaml.safe_load(text)
        if isinstance(told, dict):
            told = rename_keys(told, place=path)
    except (ValueError, yaml.YAMLError) as error:
        raise RunError(
            f"{path}: cannot be read: {str(error).partition(chr(10))[0]}; give the --out folder of a ks-train run"
        ) from error
    if not isinstance(told, dict):
        raise RunError(f"{path}: is not a mapping of settings; give the --out folder of a ks-train run")
    chosen = [str(told.get(name)) for name in ("method", "backbone", "audio_backbone", "view")]
    kept = {name: told[name] for name in (*CONFIG, *chosen) if name in told}
    if (strange := _strange(kept)) is not None:
        raise RunError(f"{path}: has {strange[:80]!r}, which is not a valid setting; it is neither published nor shown")
    return kept


def _strange(value: object, depth: int = 0) -> str | None:
    """The invalid part of a setting, such as a text other than words, or deep nesting; None if it is valid."""
    if isinstance(value, dict) and depth < 6:
        keys = (str(key) for key in value if not (isinstance(key, str) and _KEY.fullmatch(key)))
        return next(keys, None) or next(
            (found for each in value.values() if (found := _strange(each, depth + 1))), None
        )
    if isinstance(value, list) and depth < 6:
        return next((found for each in value if (found := _strange(each, depth + 1))), None)
    if isinstance(value, str):
        return None if _WORDS.fullmatch(value) else value
    return None if value is None or isinstance(value, bool | int | float) else str(value)


def _state(path: Path) -> dict[str, Any]:
    told = _read(path / "state.json", "use another --checkpoint")
    if not all(type(told.get(name)) is int for name in STATE[:2]):
        raise RunError(f"{path / 'state.json'}: lacks its schema and step; use another --checkpoint")
    kept = {name: told[name] for name in STATE if type(told.get(name)) is int}
    return kept | _changed(told)


def _changed(told: Mapping[str, Any]) -> dict[str, Any]:
    """What was changed on resume; nothing if nothing was."""
    return {CHANGED: clean(changes)} if are_changes(changes := told.get(CHANGED)) and changes else {}


def _best(run: Path, path: Path, step: int) -> dict[str, Any]:
    """The best validation of a run if it was at `step`, by its last checkpoint, or by this one if that is damaged."""
    best = _read(path / "state.json", "use another --checkpoint").get("best")
    with contextlib.suppress(RunError):
        best = _read(_checkpoint(run, "last") / "state.json", "").get("best")
    if not isinstance(best, dict) or best.get("step") != step or not _is_number(best.get("value")):
        return {}
    return {"best": {name: clean(best[name]) for name in ("step", "value", "split") if name in best}}


def _checkpoint(run: Path, name: str) -> Path:
    """Folder of a checkpoint; if its saving was interrupted, the previous version of it."""
    found: dict[str, Path] = {}
    for path in sorted((run / "checkpoints").glob("step-*"), reverse=True):  # step-….old comes before step-…
        named = _STEP.fullmatch(path.name)
        if named and (path / "state.json").is_file() and (path / "model.safetensors").is_file():
            found[named[1]] = path
    wanted = max(found, default="") if name in ("last", "best") else name
    if name == "best" and found:
        best = _read(found[wanted] / "state.json", "take --checkpoint last").get("best")
        step = best.get("step") if isinstance(best, dict) else None
        if type(step) is not int:
            raise RunError(
                f"{run}: has no best checkpoint: no validation on a --val_split was done; use --checkpoint last"
            )
        wanted = f"step-{step:08d}"
    if wanted not in found:
        there = ", ".join(sorted(found)) or "none"
        raise RunError(f"{run}: has no checkpoint {name!r}; available: {there}; train first with ks-train")
    return found[wanted]


def _parameters(path: Path) -> int:
    """Number of parameters, from the header alone; raises RunError if the file is invalid."""
    damaged = f"{path}: is damaged; use another --checkpoint"
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if not 2 <= length <= MOST_HEADER_BYTES:
            raise RunError(damaged)
        data = file.read(length)
    try:
        header = json.loads(data)
        if header.pop("__metadata__", {}) not in ({}, {"format": "pt"}):
            raise RunError(f"{path}: has metadata that ks-train does not write; it is not published")
        shapes = [each["shape"] for each in header.values()]
        ends = max((each["data_offsets"][1] for each in header.values()), default=0)
        counts = [math.prod(shape) for shape in shapes]
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError) as error:
        raise RunError(damaged) from error
    if path.stat().st_size != 8 + length + ends:
        raise RunError(damaged)
    return sum(counts)


def _results(run: Path, checkpoint: str, facts: Mapping[str, Any]) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """Results of ks-eval for a checkpoint and for untrained encoders; and the ones left out, with the reason."""
    found: dict[str, dict[str, Any]] = {}
    left_out = []
    paths = sorted(run.glob("eval/**/results.json"))
    for path in paths[:MOST_RESULTS]:
        told = _read(path, AGAIN)
        place = files.as_text(path.relative_to(run))
        if not isinstance(told.get("scores"), dict):  # pictures of what a score comes from
            continue
        learnt = told.get("trained_on")
        if not isinstance(learnt, dict) or learnt.get("fingerprint") != facts["fingerprint"]:
            left_out.append(f"{place}: belongs to another run")
        elif told.get("checkpoint") not in (checkpoint, "untrained"):
            left_out.append(f"{place}: belongs to {str(told.get('checkpoint'))[:40]}, but {checkpoint} is published")
        else:
            found[_free(path.parent.relative_to(run / "eval"), found)] = _result(told, path)
    if more := paths[MOST_RESULTS:]:
        first = files.as_text(more[0].relative_to(run))
        left_out.append(f"{len(more)} results from {first} on: at most {MOST_RESULTS} are read; remove some")
    return found, left_out


def _free(path: Path, taken: Collection[str]) -> str:
    """Unique name for the results of a folder below eval/, case-insensitively."""
    name = re.sub(r"[^\w.-]+", "-", "-".join(path.parts), flags=re.ASCII).strip(".-") or "results"
    names = itertools.chain([name], (f"{name}-{number}" for number in itertools.count(2)))
    lower = {each.lower() for each in taken}
    return next(each for each in names if each.lower() not in lower)


def _result(told: Mapping[str, Any], place: Path) -> dict[str, Any]:
    kept: dict[str, Any] = clean({name: told[name] for name in RESULT if name in told})
    if "note" in kept:
        kept["note"] = _note(str(told["note"]))
    kept["on_split"] = Path(str(told.get("on_split", ""))).name  # of sounds it is their folder
    kept["scores"] = _numbers(kept["scores"])
    for name in ("options", "given", "folds"):
        if not isinstance(kept.get(name, {}), dict):
            raise RunError(f"{place}: its {name} is not a table; {AGAIN}")
    if "folds" in kept:
        kept["folds"] = {fold: _numbers(each) for fold, each in kept["folds"].items() if isinstance(each, dict)}
    return kept


def _note(note: str) -> str:
    """What is published of an evaluation's note: that of a shipped class list, and that the set is not the paper's."""
    of_set = _NOT_THE_PAPERS.search(note)
    ours, other = (note[: of_set.start()], of_set[1]) if of_set else (note, "")
    return "; ".join(each for each in (shipped_note(ours), _text(other)) if each)


def _numbers(scores: Mapping[str, Any]) -> dict[str, float]:
    return {name: value for name, value in scores.items() if _is_number(value)}


def clean(value: Any, depth: int = 0) -> Any:  # noqa: ANN401 - JSON
    """A JSON value without paths and secrets in its texts, and with only words as keys."""
    if isinstance(value, dict) and depth < 6:
        return {key: clean(each, depth + 1) for key, each in value.items() if _KEY.fullmatch(str(key))}
    if isinstance(value, list) and depth < 6:
        return [clean(each, depth + 1) for each in value[:1000]]
    if isinstance(value, str):
        return _text(value)
    return value if value is None or isinstance(value, bool) or _is_number(value) else ""


def _text(text: str) -> str:
    """Text on one line, with `PATH` for paths (which may contain a user name) and without the secrets of addresses."""
    line = "".join(each if each.isprintable() else " " for each in redact.redact(text[: 4 * MOST_LETTERS]))
    parts = _ADDRESS.split(line)
    return "".join(part if number % 2 else _PATH.sub("PATH", part) for number, part in enumerate(parts))[:MOST_LETTERS]


def _is_number(value: object) -> bool:
    return type(value) in (int, float) and math.isfinite(value)  # type: ignore[arg-type]


def _read(path: Path, remedy: str) -> dict[str, Any]:
    """Read a JSON object; raises RunError if it is invalid."""
    try:
        told = files.read_json(path, most_bytes=MOST_BYTES)
    except FileNotFoundError as error:
        raise RunError(f"{path}: does not exist; {remedy}") from error
    except ValueError as error:
        raise RunError(f"{path}: cannot be read ({error}); {remedy}") from error
    if not isinstance(told, dict):
        raise RunError(f"{path}: is not a table; {remedy}")
    return told
