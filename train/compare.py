"""ks-train compare: train recipes with several seeds on one shard set, evaluate all of them, and write one table."""

import contextlib
import dataclasses
import hashlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kinetics_sounds import files
from kinetics_sounds.address import VARIABLE, Address
from kinetics_sounds.command import DONE, SOME_FAILED, STOPPED, Stop, stoppable
from kinetics_sounds.errors import RunError, SettingsError, StoppedError
from kinetics_sounds.extras import pip_install
from kinetics_sounds.quantities import first_of
from kinetics_sounds.renamed import current
from kinetics_sounds.settings import Parsed, parse
from kinetics_sounds.shards import reader

from . import evaluate
from .comparison import table
from .comparison.facts import row_facts
from .comparison.forecast import forecast
from .comparison.plan import OWN, Plan, has_untrained, is_probe, is_seeded, planned
from .comparison.table import Row
from .config.settings import PATHS, TrainSettings, chosen_settings, groups
from .engine import checkpoint, checkpoint_state

PROG = "ks-train compare RECIPE [RECIPE ...]"
MOST_NAMED = 6
"""Maximum number of runs listed at the end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CompareSettings:
    """Pretrain each recipe with each seed on the same shards, evaluate runs and untrained encoders, and write one table.

    Examples:
      ks-train compare avcl_k32_recommended simclr_k32 byol_k32
      ks-train compare avcl_k32_table4_byol avcl_k32_table4_simclr --seeds 0 --protocols linear,crossmodal
      ks-train compare avcl_tiny mine.yaml --shards demo/build/shards --seeds 0,1,2 --out compared -- --steps 200 --batch 64
      ks-train compare avcl_k32 byol_k32 --plan

    Run it again to continue where it stopped. Options after -- are passed to every ks-train, for example -- --devices 8;
    those of a method, backbone or view only where it is used.

    exit code: 0 all rows done; 1 some rows failed; 2 usage error; 3 stopped, run again; 4 a bug.
    """

    shards: Address | None = None
    """Folder or URL of the shards. Default: those of the first recipe's classes, or the only set under data/."""
    seeds: str = "0,1,2"
    """Comma-separated seeds; each recipe is trained once per seed."""
    protocols: str = "linear,knn,crossmodal"
    """Comma-separated ks-eval probes and protocols to run on each run. With finetune, recipes of --method supervised vote with
    their own classifier (of the best checkpoint if they have a --val_split)."""
    out: Path = Path("compared")
    """Folder of the runs and the table; results of each run are in its eval/compare, where ks-view and ks-publish find them."""
    plan: bool = False
    """Print the plan and exit: steps, disk space, and the time of shipped recipes."""


def compare(argv: Sequence[str]) -> int:
    """Run `ks-train compare`; return the exit code."""
    words, more = _split(list(argv))
    asked = words[: next((place for place, word in enumerate(words) if word.startswith("-")), len(words))]
    _refuse_of_train(words)
    settings = parse(CompareSettings, words[len(asked) :], prog=PROG).settings
    if not asked:
        raise SettingsError(f"no recipe given; usage: {PROG} [options] [-- options of every ks-train]")
    plan = planned(
        asked,
        seeds=settings.seeds,
        protocols=settings.protocols,
        shards=settings.shards,
        out=settings.out,
        more=more,
    )
    print(forecast(plan), flush=True)
    if settings.plan:
        return DONE
    with files.exclusive(plan.out, command="ks-train compare"), stoppable(signal.SIGINT, signal.SIGTERM) as stop:
        kept = _check_same(plan)
        failed = list(_all_rows(plan, stop))
        if stop:
            print(f"stopped by {stop}: finished work is kept; run the same command to resume", file=sys.stderr)
            return STOPPED
        known = dataclasses.replace(plan, protocols=kept)
        rows = [row for name in plan.recipes for row in _results(known, name)]
        if rows:
            table.write(plan.out, rows, failed)
            print(table.markdown(rows, failed))
            print("\n".join(_places(plan)))
    return SOME_FAILED if failed else DONE


def _split(words: list[str]) -> tuple[list[str], tuple[str, ...]]:
    """Split the arguments at `--`."""
    place = words.index("--") if "--" in words else len(words)
    return words[:place], tuple(words[place + 1 :])


def _refuse_of_train(words: Sequence[str]) -> None:
    """Raise SettingsError for an option of ks-train that is not after --."""
    own = {"config", "help", "version", *(each.name for each in dataclasses.fields(CompareSettings))}
    theirs = {each.name for each in dataclasses.fields(TrainSettings)} | set(groups())
    for word in words:
        name = current(word.partition("=")[0].removeprefix("--"))
        if word.startswith("--") and name.partition(".")[0] in theirs - own - set(OWN):
            raise SettingsError(f"--{name}: is an option of ks-train; give it after --, as in: {PROG} -- --{name} ...")


def _places(plan: Plan) -> Iterator[str]:
    """Where the table, the plot and the runs are, and earlier runs that the table does not have."""
    plot = plan.out / "plot.svg"
    yield f"table: {plan.out / 'table.md'} (all metrics: table.csv)"
    yield f"plot: {plot}" if plot.is_file() else f"plot: none; install matplotlib with: {pip_install('eval')}"
    own = [plan.folder(recipe, seed) for recipe in plan.recipes for seed in plan.seeds]
    yield f"runs: {first_of((str(each / 'run') for each in own), MOST_NAMED)}"
    recorded = (plan.out / Path(name).name for name in _read(plan.out / "compare.json")["recipes"])
    others = [each for folder in recorded for each in sorted(folder.glob("seed-*")) if each not in own]
    if others:
        told = ", ".join(map(str, others))
        yield f"not in the table, from earlier runs of this command: {told}; give their recipes and --seeds too"


def _check_same(plan: Plan) -> tuple[str, ...]:
    """Record what is compared in compare.json; return all protocols recorded there, of this and earlier runs.

    Raises SettingsError if the folder holds runs of other shards or settings.
    """
    path = plan.out / "compare.json"
    own = {Path(recipe).stem: _digest(parsed) for recipe, parsed in plan.recipes.items()}
    there: dict[str, Any] = _read(path) if path.is_file() else {}
    kept = there.get("recipes", {})
    if there.get("shards", shards := reader.read_dataset(plan.shards).recipe) != shards:
        raise SettingsError(f"{plan.out}: contains runs on other shards; choose another --out")
    if changed := [name for name, digest in own.items() if kept.get(name, digest) != digest]:
        raise SettingsError(
            f"{plan.out}: contains runs of {', '.join(changed)} with other settings; choose another --out, or delete their "
            "folders and compare.json"
        )
    before = [name for name in there.get("protocols", ()) if name in evaluate.names() and name not in plan.protocols]
    protocols = (*plan.protocols, *before)
    document = {"shards": shards, "recipes": kept | own, "protocols": protocols}
    files.write_bytes(path, (json.dumps(document) + "\n").encode())
    return protocols


def _digest(parsed: Parsed[TrainSettings]) -> str:
    """SHA-256 of a recipe's settings, without paths and seed, which this command sets itself."""
    own = {name: value for name, value in chosen_settings(parsed).items() if name not in ("seed", *PATHS)}
    return hashlib.sha256(json.dumps(own, sort_keys=True).encode()).hexdigest()


def _all_rows(plan: Plan, stop: Stop) -> Iterator[str]:
    """Run everything that is not done yet, seed by seed; yield a message for each row that failed."""
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


def _row(plan: Plan, recipe: str, seed: int, stop: Stop) -> None:
    """Pretrain one recipe with one seed, and evaluate it; raises RunError."""
    folder = plan.folder(recipe, seed)
    run = folder / "run"
    _move_results(folder)
    words = ["--config", recipe, "--shards", str(plan.shards), "--seed", str(seed), "--out", str(run)]
    words += plan.options(recipe)
    if not (folder / "trained").exists():
        print(f"{Path(recipe).stem}, seed {seed}: training", flush=True)
        _do("kinetics_sounds.train", words, plan.shards, stop)
        files.write_bytes(folder / "trained", b"")
    asked = dict.fromkeys(plan.asked(recipe).values())
    probes = [name for name in asked if is_probe(name)]
    for together in ([probes] if probes else []) + [[name] for name in asked if not is_probe(name)]:
        for untrained in (False, True) if has_untrained(together[0]) else (False,):
            _evaluate(plan, recipe, seed, together, untrained=untrained, stop=stop)


def _evaluate(plan: Plan, recipe: str, seed: int, together: Sequence[str], *, untrained: bool, stop: Stop) -> None:
    """Run ks-eval for the missing results of several probes or of one protocol; raises RunError."""
    run = plan.folder(recipe, seed) / "run"
    votes = not has_untrained(together[0])
    which, name = _checkpoint(run, best=votes and plan.chosen(recipe))
    wanted = "untrained" if untrained else name
    missing = [name for name in together if _checkpoint_of(_result(run, name, untrained=untrained)) != wanted]
    how = ["--untrained"] if untrained else ["--checkpoint", which]
    if is_seeded(together[0]):  # then untrained encoders have the run's initial weights
        how += ["--seed", str(seed)]
    for each in [missing] if len(missing) == len(together) else [[name] for name in missing]:
        out = _results_folder(run, untrained=untrained)
        out = out if len(each) > 1 else out / each[0]
        print(f"{Path(recipe).stem}, seed {seed}: {', '.join(each)}{' untrained' if untrained else ''}", flush=True)
        words = [*each, "--run", str(run), "--shards", str(plan.shards), "--out", str(out), *how]
        _do("kinetics_sounds.train.evaluate", words, plan.shards, stop)


def _checkpoint(run: Path, *, best: bool) -> tuple[str, str]:
    """Which checkpoint to evaluate, as ks-eval's option and by name: the best if asked for and present, else the last."""
    last = checkpoint.find(run / "checkpoints", "last")
    if best and checkpoint_state.read_state(last).get("best") is not None:
        return "best", checkpoint.find(run / "checkpoints", "best").name
    return "last", last.name


def _results_folder(run: Path, *, untrained: bool) -> Path:
    """Folder of a run's results, apart from those that the user makes with other options."""
    return run / "eval" / ("compare_untrained" if untrained else "compare")


def _result(run: Path, protocol: str, *, untrained: bool) -> Path:
    return _results_folder(run, untrained=untrained) / protocol / "results.json"


def _move_results(folder: Path) -> None:
    """Move results that 0.2.0 wrote beside the run into it."""
    for name, untrained in (("results", False), ("untrained", True)):
        place = _results_folder(folder / "run", untrained=untrained)
        if (folder / name).is_dir() and not place.exists():
            place.parent.mkdir(parents=True, exist_ok=True)
            (folder / name).rename(place)


def _checkpoint_of(path: Path) -> str:
    """Name of the checkpoint that results belong to; empty if there are none."""
    return str(_read(path).get("checkpoint", "")) if path.is_file() else ""


def _read_result(path: Path) -> dict[str, Any]:
    """Read a results.json; raise RunError if it is not one."""
    found = _read(path)
    if not isinstance(found.get("scores"), dict) or not found["scores"]:
        raise RunError(f"{path}: is not a result of ks-eval; delete it and run again")
    return found


def _read(path: Path) -> dict[str, Any]:
    """Read a JSON object; raise RunError if the file is damaged."""
    try:
        found = files.read_json(path, most_bytes=1 << 24)
    except ValueError as error:
        raise RunError(f"{path}: is damaged ({error}); delete it and run again") from error
    if not isinstance(found, dict):
        raise RunError(f"{path}: is damaged; delete it and run again")
    return found


def _do(module: str, words: Sequence[str], shards: Address, stop: Stop) -> None:
    """Run one command in its own process, so that it leaves no state behind; raise RunError if it fails.

    The command line contains the shards' address without its secrets; those are in a file that only this user can read.
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
            f"{module} {' '.join(words)} was stopped; see its output above, and run the same command again"
        )
    if process.returncode != DONE:
        raise RunError(f"{module} {' '.join(words)} ended with {process.returncode}; see its output above")


def _results(plan: Plan, recipe: str) -> Iterator[Row]:
    """Yield one row per seed and protocol of a recipe."""
    asked, modality = plan.asked(recipe), plan.modality(recipe)
    for seed in plan.seeds:
        run = plan.folder(recipe, seed) / "run"
        facts: dict[str, Any] = {}
        with contextlib.suppress(RunError):
            facts = _read(run / "run.json") if (run / "run.json").is_file() else {}
        for protocol, name in asked.items():
            found: dict[bool, Mapping[str, Any]] = {} if has_untrained(name) else {True: {}}
            for untrained in (False, True):
                path = _result(run, name, untrained=untrained)
                with contextlib.suppress(RunError):  # damaged results are reported among the failures
                    found |= {untrained: _read_result(path)} if path.is_file() else {}
            if len(found) == 2:
                yield Row(
                    recipe=Path(recipe).stem,
                    seed=seed,
                    protocol=protocol,
                    scores=found[False]["scores"],
                    untrained=found[True].get("scores", {}),
                    modality=modality if is_probe(name) else "both",
                    facts=row_facts(found[False], facts),
                )
