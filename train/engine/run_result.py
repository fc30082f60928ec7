"""What a run has come to, as `ks-train --json` prints it."""

import json
from pathlib import Path
from typing import Any

from ..config import run_folder
from . import checkpoint, checkpoint_state


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
