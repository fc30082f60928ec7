"""Weights & Biases (pip install 'kinetics-sounds[wandb]'): a run of the project kinetics-sounds, or of WANDB_PROJECT.

What goes there: metrics, settings that decide what is learnt, and the fingerprints of the data; no code, paths, host or console.
"""

import contextlib
import os
import secrets
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from kinetics_sounds import files
from kinetics_sounds.errors import SettingsError, first_line

from . import Write

PROJECT = "kinetics-sounds"
LONGEST_ID = 64


def check() -> None:
    """Raise SettingsError where the package is missing."""
    try:
        import wandb  # noqa: F401
    except ImportError as error:
        raise SettingsError(
            f"--track wandb: is not installed ({error}); pip install 'kinetics-sounds[wandb]'"
        ) from error


@contextlib.contextmanager
def track(out: Path, *, first_step: int, facts: Mapping[str, Any]) -> Iterator[Write]:
    """Go on with the run whose id lies in RUN/wandb_id, or begin one; WANDB_MODE=offline keeps it on this machine.

    Values have the step beside them, by which they are plotted: those after `first_step` that were sent before stay there.
    Raises SettingsError where the package is missing or the service refuses.
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
            f"--track wandb: cannot begin ({first_line(error)}); log in with `wandb login`, or set WANDB_MODE=offline"
        ) from error
    with contextlib.ExitStack() as stack:
        stack.callback(run.finish)
        run.define_metric("*", step_metric="step")
        yield lambda step, values: run.log({"step": step, **values})


def _id(out: Path) -> str:
    """The same each time a run goes on."""
    path = out / "wandb_id"
    if not path.is_file():
        files.write_bytes(path, f"{secrets.token_hex(8)}\n".encode())
    return path.read_text("utf-8").strip()[:LONGEST_ID]
