"""ks-train compare: recipes and seeds on one set of shards, judged alike beside their untrained encoders, in one table."""

import contextlib
import hashlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from kinetics_sounds import files, plugins
from kinetics_sounds.address import VARIABLE, Address
from kinetics_sounds.command import DONE, SOME_FAILED, STOPPED, Stop, stoppable
from kinetics_sounds.errors import RunError, SettingsError, StoppedError
from kinetics_sounds.settings import Parsed, parse
from kinetics_sounds.shards import reader

from . import evaluate
from .comparison import table
from .comparison.table import Row
from .config import recipes, run_folder
from .config.settings import PATHS, TrainSettings, chosen_settings, read_settings
from .data import dataset
from .engine import build, checkpoint

USAGE = "usage: ks-train compare RECIPE [RECIPE ...] [options] [-- options of every ks-train]"
CHECKPOINTS = 3
"""That a run keeps at most, the best one beside the last two."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Pretrain each recipe from each seed on the same shards, judge all runs and their untrained encoders, write one table.

    Examples:
      ks-train compare avcl_k32_recommended simclr_k32 byol_k32
      ks-train compare avcl_k32_table4_byol avcl_k32_table4_simclr --seeds 0 --protocols linear,crossmodal
      ks-train compare avcl_tiny mine.yaml --shards demo/build/shards --seeds 0,1,2 --out compared -- --steps 200 --batch 64
      ks-train compare avcl_k32 byol_k32 --plan

    Run it again to go on where it stopped. Words after -- are options of every ks-train, as --devices 8.

    exit code: 0 all rows are there; 1 some failed, and the others are; 2 misuse; 3 stopped, run again; 4 a bug.
    """

    shards: Address | None = None
    """Folder or URL of the shards; default: those of the first recipe's classes, or the only set under data/."""
    seeds: str = "0,1,2"
    """Seeds of each recipe, separated by commas."""
    protocols: str = "linear,knn,crossmodal"
    """What ks-eval is asked of each run, separated by commas: probes, and protocols such as finetune, for which a
    recipe of --method supervised votes with the classifier that it has."""
    out: Path = Path("compared")
    """Folder of the runs, their results and the table."""
    plan: bool = False
    """Only say what would be run, how long that may take and how much disk it needs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plan:
    """What is to be done."""

    recipes: tuple[str, ...]
    seeds: tuple[int, ...]
    protocols: tuple[str, ...]
    shards: Address
    out: Path
    more: tuple[str, ...]
    """Options of every ks-train."""

    def folder(self, recipe: str, seed: int) -> Path:
        """Of one row."""
        return self.out / Path(recipe).stem / f"seed-{seed}"


def compare(argv: Sequence[str]) -> int:
    """Do what argv says; returns the exit code."""
    words, more = _split(list(argv))
    asked = words[: next((place for place, word in enumerate(words) if word.startswith("-")), len(words))]
    settings = parse(Settings, words[len(asked) :], prog="ks-train compare").settings
    if not asked:
        raise SettingsError(f"no recipe is named; {USAGE}")
    plan = _planned(asked, settings, more)
    print(_forecast(plan), flush=True)
    if settings.plan:
        return DONE
    with files.exclusive(plan.out, command="ks-train compare"), stoppable(signal.SIGINT, signal.SIGTERM) as stop:
        _check_same(plan)
        failed = list(_all_rows(plan, stop))
        if stop:
            print("stopped: what was done is kept; run the same command to go on", file=sys.stderr)
            return STOPPED
        rows = [row for name in plan.recipes for row in _results(plan, name)]
        if rows:
            table.write(plan.out, rows, failed)
            print(table.markdown(rows, failed))
    return SOME_FAILED if failed else DONE


def _split(words: list[str]) -> tuple[list[str], tuple[str, ...]]:
    """The words before `--`, and those behind it."""
    place = words.index("--") if "--" in words else len(words)
    return words[:place], tuple(words[place + 1 :])


def _planned(asked: Sequence[str], settings: Settings, more: tuple[str, ...]) -> _Plan:
    names = [Path(recipe).stem for recipe in asked]
    if len(set(names)) < len(names):
        raise SettingsError(f"two recipes are called alike: {', '.join(names)}; give each a name of its own")
    try:
        seeds = tuple(dict.fromkeys(int(word) for word in settings.seeds.split(",") if word.strip()))
    except ValueError as error:
        raise SettingsError(f"--seeds {settings.seeds}: must be whole numbers, separated by commas") from error
    protocols = tuple(dict.fromkeys(word.strip() for word in settings.protocols.split(",") if word.strip()))
    for name in protocols:
        if name not in evaluate.names():
            raise SettingsError(
                f"--protocols: nothing is called {name!r}; there are: {', '.join(evaluate.names())}"
                f"{plugins.nearest(name, evaluate.names())}"
            )
    if not seeds or min(seeds) < 0 or not protocols:
        raise SettingsError("--seeds and --protocols: give at least one of each, seeds of 0 or more")
    for word in more:
        if word.partition("=")[0] in ("--seed", "--out", "--shards", "--config", "--init", "--resume"):
            raise SettingsError(f"{word} behind --: is this command's to say; leave it out")
    first = _parsed(asked[0], more)
    shards = settings.shards or run_folder.find_shards(first.settings, first.configs)
    return _Plan(recipes=tuple(asked), seeds=seeds, protocols=protocols, shards=shards, out=settings.out, more=more)


def _parsed(recipe: str, more: Sequence[str]) -> Parsed[TrainSettings]:
    """The settings of a recipe's runs."""
    return read_settings(["--config", recipe, *more])


def _forecast(plan: _Plan) -> str:
    """What is to be run, how long heads say that it takes, and how much disk the checkpoints need."""
    count = len(plan.recipes) * len(plan.seeds)
    told = f"{len(plan.recipes)} recipes from {len(plan.seeds)} seeds on {plan.shards}"
    lines = [f"{count} runs: {told}; each judged by {', '.join(plan.protocols)}, and untrained"]
    size = 0
    for recipe in plan.recipes:
        parsed = _parsed(recipe, plan.more)
        split = dataset.open_split(parsed.settings, plan.shards, parsed.settings.train_split)
        data = run_folder.data_of(split, parsed.settings)
        if not data.steps_per_epoch:
            raise SettingsError(
                f"{recipe}: its batch of {parsed.settings.batch} is larger than the split, which has {len(split)} samples; give "
                "-- --batch N"
            )
        tensors = build.outline(parsed, data).state_dict().values()
        moments = {"sgd": 1, "lars": 1}.get(parsed.settings.optim.name, 2)
        size += sum(each.numel() for each in tensors) * 4 * (1 + moments) * CHECKPOINTS * len(plan.seeds)
        shipped = recipes.recipes().get(recipe)
        head = next((line for line in shipped.head if line.startswith("time:")), "") if shipped else ""
        lines.append(
            f"  {Path(recipe).stem}: {data.steps} steps a run{f'; of the recipe as it is, {head[5:].strip()}' if head else ''}"
        )
    return "\n".join([*lines, f"disk: up to {size / 1e9:.1f} GB of checkpoints in {plan.out}"])


def _check_same(plan: _Plan) -> None:
    """Write down what is compared; raises SettingsError where the folder holds runs of other shards, options or recipes."""
    path = plan.out / "compare.json"
    own = {Path(recipe).stem: _digest(_parsed(recipe, plan.more)) for recipe in plan.recipes}
    there: dict[str, Any] = _read(path) if path.is_file() else {}
    kept = there.get("recipes", {})
    if there.get("shards", shards := reader.read_dataset(plan.shards).recipe) != shards:
        raise SettingsError(f"{plan.out}: holds runs on other shards; choose another --out")
    if changed := [name for name, digest in own.items() if kept.get(name, digest) != digest]:
        raise SettingsError(
            f"{plan.out}: holds runs of {', '.join(changed)} with other settings; choose another --out, or delete their folders "
            "and compare.json"
        )
    files.write_bytes(path, (json.dumps({"shards": shards, "recipes": kept | own}) + "\n").encode())


def _digest(parsed: Parsed[TrainSettings]) -> str:
    """Of all settings of a recipe's runs but where they lie and their seed, which are this command's to say."""
    own = {name: value for name, value in chosen_settings(parsed).items() if name not in ("seed", *PATHS)}
    return hashlib.sha256(json.dumps(own, sort_keys=True).encode()).hexdigest()


def _all_rows(plan: _Plan, stop: Stop) -> Iterator[str]:
    """Do what is not done yet, seed by seed; yields the rows that failed, with the reason."""
    for seed in plan.seeds:
        for recipe in plan.recipes:
            if stop:
                return
            try:
                _row(plan, recipe, seed, stop)
            except RunError as error:
                if not stop:
                    print(f"failed: {error}", file=sys.stderr, flush=True)
                    yield str(error)


def _row(plan: _Plan, recipe: str, seed: int, stop: Stop) -> None:
    """Pretrain from one seed, and judge; raises RunError."""
    folder = plan.folder(recipe, seed)
    run = folder / "run"
    words = ["--config", recipe, "--shards", str(plan.shards), "--seed", str(seed), "--out", str(run), *plan.more]
    if not (folder / "trained").exists():
        print(f"{Path(recipe).stem}, seed {seed}: training", flush=True)
        _do("kinetics_sounds.train", words, plan.shards, stop)
        files.write_bytes(folder / "trained", b"")
    last = checkpoint.find(run / "checkpoints", "last").name
    asked = dict.fromkeys(_asked(plan, recipe).values())
    probes = [name for name in asked if name in plugins.names(evaluate.PROBES)]
    for together in ([probes] if probes else []) + [[name] for name in asked if name not in probes]:
        for untrained in (False, True) if _has_untrained(together[0]) else (False,):
            wanted = "untrained" if untrained else last
            missing = [
                name for name in together if _checkpoint_of(_result(folder, name, untrained=untrained)) != wanted
            ]
            for each in [missing] if len(missing) == len(together) else [[name] for name in missing]:
                out = folder / ("untrained" if untrained else "results")
                out = out if len(each) > 1 else out / each[0]
                print(
                    f"{Path(recipe).stem}, seed {seed}: {', '.join(each)}{' untrained' if untrained else ''}",
                    flush=True,
                )
                words = ["--run", str(run), "--shards", str(plan.shards), "--out", str(out)]
                _do(
                    "kinetics_sounds.train.evaluate",
                    [*each, *words, *(["--untrained"] if untrained else [])],
                    plan.shards,
                    stop,
                )


def _asked(plan: _Plan, recipe: str) -> dict[str, str]:
    """By protocol of the table, what ks-eval is asked: where others are fine-tuned, a supervised run votes as it is."""
    supervised = _parsed(recipe, plan.more).settings.method == "supervised"
    return {name: "vote" if supervised and name == "finetune" else name for name in plan.protocols}


def _has_untrained(name: str) -> bool:
    """Whether untrained encoders can be judged so: they have no classifier that could vote."""
    if name in plugins.names(evaluate.PROBES):
        return True
    return "untrained" in {each.name for each in fields(plugins.load(evaluate.PROTOCOLS, name).Settings)}


def _result(folder: Path, protocol: str, *, untrained: bool) -> Path:
    return folder / ("untrained" if untrained else "results") / protocol / "results.json"


def _checkpoint_of(path: Path) -> str:
    """Which checkpoint results are of; empty where there are none."""
    return str(_read(path).get("checkpoint", "")) if path.is_file() else ""


def _scores(path: Path) -> dict[str, float]:
    """The scores of results of ks-eval; raises RunError for what is none."""
    scores = _read(path).get("scores")
    if not isinstance(scores, dict) or not scores:
        raise RunError(f"{path}: is no result of ks-eval; delete it and run again")
    return scores


def _read(path: Path) -> dict[str, Any]:
    """A file of JSON; raises RunError for what is none."""
    try:
        found = files.read_json(path, most_bytes=1 << 24)
    except ValueError as error:
        raise RunError(f"{path}: is damaged ({error}); delete it and run again") from error
    if not isinstance(found, dict):
        raise RunError(f"{path}: is damaged; delete it and run again")
    return found


def _do(module: str, words: Sequence[str], shards: Address, stop: Stop) -> None:
    """One command in a process of its own, so that nothing of it stays; raises RunError where it fails.

    Its words have the shards' address without what is secret of it, which is in a file that only this user can read.
    """
    command = [sys.executable, "-m", module, *words]
    with tempfile.NamedTemporaryFile("w", encoding="utf-8") as secret:
        environ = dict(os.environ)
        if shards.secrets:
            secret.write(f"{shards.real}\n")
            secret.flush()
            environ[VARIABLE] = secret.name
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, env=environ) as process:
            while process.poll() is None:
                try:
                    process.wait(timeout=0.5)
                except subprocess.TimeoutExpired:
                    if stop and stop.by is not None:
                        process.send_signal(signal.SIGTERM)
                        process.wait()
    if process.returncode == STOPPED and not stop:
        raise StoppedError(
            f"{module} {' '.join(words)} was stopped; see its words above, and run the same command again"
        )
    if process.returncode != DONE:
        raise RunError(f"{module} {' '.join(words)} ended with {process.returncode}; see its words above")


def _results(plan: _Plan, recipe: str) -> Iterator[Row]:
    """What was found of a recipe, a row a seed and protocol."""
    for seed in plan.seeds:
        folder = plan.folder(recipe, seed)
        for protocol, name in _asked(plan, recipe).items():
            found: dict[bool, Mapping[str, Any]] = {} if _has_untrained(name) else {True: {}}
            for untrained in (False, True):
                path = _result(folder, name, untrained=untrained)
                with contextlib.suppress(RunError):  # of damaged results, which is told among what failed
                    found |= {untrained: _scores(path)} if path.is_file() else {}
            if len(found) == 2:
                yield Row(
                    recipe=Path(recipe).stem, seed=seed, protocol=protocol, scores=found[False], untrained=found[True]
                )
