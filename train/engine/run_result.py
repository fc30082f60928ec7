"""What a run has come to, as `ks-train --json` prints it."""

import contextlib
import json
import sys
from pathlib import Path
from typing import Any

from kinetics_sounds.errors import RunError

from ..config import run_folder
from . import checkpoint, checkpoint_state


def tell_unfinished(out: Path) -> None:
    """Say on standard error if the last checkpoint of a run, which may have none, is not of its last step."""
    with contextlib.suppress(RunError):
        state = checkpoint_state.read_state(checkpoint.find(out / "checkpoints", "last"))
        if state["step"] < (steps := state.get("of_steps") or 0):
            told = f"its last checkpoint is of step {state['step']} of {steps}"
            print(f"note: the run is not finished: {told}", file=sys.stderr)


def read(out: Path) -> dict[str, Any]:
    """Step, last checkpoint, best validation and last metrics of a run folder; raises RunError if it is not one."""
    facts = run_folder.read_facts(out)
    last = checkpoint.find(out / "checkpoints", "last")
    state = checkpoint_state.read_state(last)
    lines = (out / "metrics.jsonl").read_text().splitlines()
    return {
        "run": str(out),
        "recipe": facts["recipe"],
        "step": state["step"],
        "steps": state["of_steps"],
        "finished": state["step"] == state["of_steps"],
        "checkpoint": str(last),
        "best": state.get("best"),
        "metrics": json.loads(lines[-1]) if lines else {},
    }
