"""Weights & Biases (pip install 'kinetics-sounds[wandb]'): a run in project kinetics-sounds, or WANDB_PROJECT.

Uploads metrics, settings that affect results, and data fingerprints; no code, paths, host name or console output.
"""

import contextlib
import os
import secrets
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from kinetics_sounds import files
from kinetics_sounds.errors import SettingsError, first_line
from kinetics_sounds.extras import pip_install

from . import Write

PROJECT = "kinetics-sounds"
LONGEST_ID = 64


def check() -> None:
    """Raise SettingsError if the package is missing."""
    try:
        import wandb  # noqa: F401
    except ImportError as error:
        raise SettingsError(f"--track wandb: is not installed ({error}); {pip_install('wandb')}") from error


@contextlib.contextmanager
def track(out: Path, *, first_step: int, facts: Mapping[str, Any]) -> Iterator[Write]:
    """Resume the run whose id is in RUN/wandb_id, or create one; WANDB_MODE=offline keeps it on this machine.

    Values are plotted by step; values after `first_step` that were uploaded before remain. Raises SettingsError if the package
    is missing or the service refuses.
    """
    check()
    import wandb

    private = wandb.Settings(
        console="off",
        disable_git=True,
        save_code=False,
        silent=True,
        x_disable_machine_info=True,
        x_disable_meta=True,
        x_disable_stats=True,
    )
    try:
        run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            name=files.as_text(out.name),
            id=_id(out),
            resume="allow",
            dir=str(out),
            config=dict(facts),
            settings=private,
        )
    except wandb.errors.Error as error:
        raise SettingsError(
            f"--track wandb: cannot start ({first_line(error)}); log in with `wandb login`, or set WANDB_MODE=offline"
        ) from error
    with contextlib.ExitStack() as stack:
        stack.callback(run.finish)
        run.define_metric("*", step_metric="step")
        yield lambda step, values: run.log({"step": step, **values})


def _id(out: Path) -> str:
    """Run id, the same on every resume."""
    path = out / "wandb_id"
    if not path.is_file():
        files.write_bytes(path, f"{secrets.token_hex(8)}\n".encode())
    return path.read_text("utf-8").strip()[:LONGEST_ID]
