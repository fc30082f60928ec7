"""Entry points of the console scripts: import a command and run it, or name the package that is missing.

Imports nothing but the standard library before that, so that an incomplete installation is told in one line.
"""

import importlib
from collections.abc import Mapping, Sequence
from functools import partial
from typing import NoReturn

from .interrupts import ended_by_interrupt

COMMANDS: Mapping[str, str] = {
    "ks-build": "pipelines.build",
    "ks-shard": "pipelines.shard",
    "ks-export": "pipelines.export",
    "ks-train": "train.__main__",
    "ks-eval": "train.evaluate",
    "ks-publish": "pipelines.publish",
    "ks-demo": "pipelines.demo",
    "ks-view": "pipelines.view",
    "ks-doctor": "pipelines.doctor",
}
"""Module of each command, below `kinetics_sounds`; its `main` takes the arguments and returns the exit code."""


def run(prog: str, argv: Sequence[str] | None = None) -> int:
    """Run a command with these arguments (default: those of the process); returns its exit code, 2 if it lacks a package."""
    try:
        with ended_by_interrupt():
            from .command import command  # which imports more

            module = importlib.import_module(f"kinetics_sounds.{COMMANDS[prog]}")
    except ModuleNotFoundError as error:
        return command(prog, partial(_raise, error))
    code: int = module.main(argv)
    return code


def _raise(error: ModuleNotFoundError) -> NoReturn:
    raise error


build = partial(run, "ks-build")
shard = partial(run, "ks-shard")
export = partial(run, "ks-export")
train = partial(run, "ks-train")
evaluate = partial(run, "ks-eval")
publish = partial(run, "ks-publish")
demo = partial(run, "ks-demo")
view = partial(run, "ks-view")
doctor = partial(run, "ks-doctor")
