"""ks-train: pretrain encoders on shards, with checkpoints and exact resume after a kill."""

import contextlib
import dataclasses
import functools
import json
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from kinetics_sounds import files, plugins, stream
from kinetics_sounds.address import Address
from kinetics_sounds.command import DONE, answering, command, keep_secret
from kinetics_sounds.errors import SettingsError
from kinetics_sounds.settings import Parsed
from kinetics_sounds.shards import reader

from . import tracking
from .config import recipes, run_folder
from .config.settings import (
    PLUGINS,
    TrainSettings,
    at_least,
    check_used,
    named,
    paths_from_config,
    read_settings,
)
from .data import dataset
from .distributed import devices, launch, process_group
from .distributed.process_group import World
from .engine import bench, build, resume, run_result, trainer

log = logging.getLogger("kinetics_sounds")


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of `ks-train`."""
    words = sys.argv[1:] if argv is None else argv
    if words and words[0] == "bench":
        return command("ks-train bench", lambda: bench.bench(words[1:]))
    return command("ks-train", lambda: pretrain(words))


def pretrain(argv: Sequence[str]) -> int:
    """Train with the settings of `argv` and its recipe, on all requested devices; return the exit code."""
    if named(argv, "print_config") and not named(argv, "config"):
        print("note: these are without a recipe; a run takes the recommended one, or --config NAME", file=sys.stderr)
    parsed = read_settings(argv)
    if parsed.settings.list:
        with answering():
            print(list_recipes(parsed.configs))
        return DONE
    told = paths_from_config(argv, parsed)
    if not parsed.configs:
        recipe = recipes.recipe_for(reader.read_dataset(run_folder.find_shards(parsed.settings)).classes)
        told += f"recipe: {recipe} (the recommended one; see --list)\n"
        if recipe != recipes.SMALL and devices.is_cpu(parsed.settings.device):
            told += f"device: cpu, on which all of this recipe takes days; a small one: --config {recipes.SMALL}\n"
        parsed = read_settings(["--config", recipe, *argv])
    check_used(argv, parsed)
    as_json = parsed.settings.json
    if launch.is_main():
        print(told, end="", flush=True, file=sys.stderr if as_json else sys.stdout)  # before ranks print
    parsed = dataclasses.replace(parsed, settings=dataclasses.replace(parsed.settings, json=False))
    code = train(parsed, to_stderr=as_json)
    if as_json and launch.is_main():
        print(json.dumps(run_result.read(run_folder.out_of(parsed))))
    return code


def train(parsed: Parsed[TrainSettings], *, prog: str = "ks-train", to_stderr: bool = False) -> int:
    """Train with these settings, which include a config, on all requested devices; return the exit code.

    `prog` is the command name in error messages of ranks. `to_stderr` sends all output to standard error.
    """
    settings = parsed.settings
    if settings.shards is not None:
        keep_secret([settings.shards.real])
    if settings.devices > 1 and not launch.is_rank():
        devices.check_devices(settings.devices, settings.device)
        task = functools.partial(train, prog=prog, to_stderr=to_stderr)
        return launch.ranks(task, parsed, devices=settings.devices, prog=prog)
    with contextlib.ExitStack() as stack:
        if to_stderr:
            stack.enter_context(contextlib.redirect_stdout(sys.stderr))
        return train_as_rank(parsed, stack.enter_context(process_group.start(devices.pick_device(settings.device))))


def train_as_rank(parsed: Parsed[TrainSettings], world: World) -> int:
    """Train as one rank of an initialized process group."""
    settings = parsed.settings
    shards = run_folder.find_shards(settings, parsed.configs)
    split = dataset.open_split(settings, shards, settings.train_split)
    name = run_folder.recipe_name(parsed.configs[-1])
    asked, there = recipes.classes_of(name), split.dataset.classes
    recommended = name == recipes.recipe_for(there)
    if world.is_main and settings.init_from is None and asked not in (None, there) and not recommended:
        log.warning("the recipe %s is for %s, but these shards are of %s", name, asked, there)
    out = run_folder.out_of(parsed)
    # Record resolved values, so that config.yaml reproduces the run.
    settings = dataclasses.replace(settings, shards=shards, out=out, window=resume.window(settings, split, out))
    at_least(settings, window=1)
    val = dataset.open_split(settings, shards, settings.val_split) if settings.val_split else None
    dataset.check_apart(settings, shards, split.dataset, (settings.train_split, settings.val_split))
    _check(settings, split, val, shards, world)
    _check_parts(parsed, split)
    _say(settings, split, world)
    with files.exclusive(out, command="ks-train") if world.is_main else contextlib.nullcontext():
        if world.is_main:
            files.clear(out, "config.yaml", "run.json", "metrics.jsonl", "quarantine.jsonl")
        parsed = resume.complete_view(dataclasses.replace(parsed, settings=settings), shards, split, out)
        return trainer.train(parsed, split, val, world, shards=shards, out=out, recipe=name)


def _say(settings: TrainSettings, split: stream.Split, world: World) -> None:
    """Print data, run folder and shuffle window."""
    note = f" ({split.dataset.note})" if split.dataset.note else ""
    of = f"{split.name}: {len(split)} samples of {split.dataset.classes}{note}"
    world.print_main(f"shards: {settings.shards}, {of}\nout: {settings.out}")
    if not split.dataset.every_split[split.name].selection:
        world.print_main(
            "note: the shards have no selection and content fingerprints; run ks-shard again to add them (it keeps the tars)"
        )
    if settings.val_split is not None and settings.val_split.rpartition("_")[2] == "test":
        world.print_main(
            f"note: --val_split {settings.val_split}: the best checkpoint is selected on it, so its scores there are optimistic; "
            "select on another split to evaluate on this one"
        )
    if settings.window is not None:
        world.print_main(
            f"window: samples are shuffled among {settings.window} shards at a time (--window, --cache_gb)"
        )


def _check_parts(parsed: Parsed[TrainSettings], split: stream.Split) -> None:
    """Raise SettingsError or ShardError for a model, view or tracker that cannot work, before the run folder is created."""
    settings = parsed.settings
    build.build_meta(parsed, run_folder.data_of(split, settings))
    plugins.load(PLUGINS["view"], settings.view).check(split.dataset, parsed.groups[settings.view])
    tracking.check(settings.track)


def _check(
    settings: TrainSettings, split: stream.Split, val: stream.Split | None, shards: Address, world: World
) -> None:
    """Raise SettingsError for settings that do not fit the split or the number of ranks."""
    if settings.batch > len(split):
        raise SettingsError(
            f"--batch {settings.batch}: is larger than the split {split.name!r} of {shards}, "
            f"which has {len(split)} samples; give --batch {len(split)} or less"
        )
    if settings.batch < max(world.size, 2) * settings.grad_accum_steps:
        raise SettingsError(
            f"--batch {settings.batch}: is too small for {world.size} ranks and --grad_accum_steps {settings.grad_accum_steps}: "
            "each micro-batch needs a sample of each rank, and at least two"
        )
    if val is not None and len(val) < max(world.size, 2):
        raise SettingsError(
            f"--val_split {settings.val_split}: has {len(val)} samples, fewer than {max(world.size, 2)} to compare; name another"
        )
    if "plateau" in (settings.optim.schedule, *settings.optim.schedules.values()) and settings.val_split is None:
        raise SettingsError("--optim.schedule plateau: needs validation; give a --val_split")
    if settings.precision != "float32" and world.device.type == "cpu":
        raise SettingsError(
            f"--precision {settings.precision}: is for GPUs only, because some CPUs compute wrong convolutions in it; use float32"
        )


def list_recipes(only: Sequence[Path] = ()) -> str:
    """List the shipped recipes with their headers, or only the recipes of the given configs."""
    return recipes.format_recipes(dict(map(_head, only))) if only else recipes.list_every()


def _head(config: Path) -> tuple[str, tuple[str, ...]]:
    """Name and header of a config; the header of a user's file is its lines that begin with #, and its changes."""
    name = run_folder.recipe_name(config)
    shipped = recipes.recipes().get(name)
    if shipped and (recipes.is_of_a_run(config) or not config.is_file() or config.parent == recipes.RECIPES):
        return name, shipped.head
    none = ("has no header; add lines that begin with # for command, hardware, time and score",)
    return str(config), (*(recipes.head_of(config) or none), *recipes.changes_of(config))


if __name__ == "__main__":
    sys.exit(main())
