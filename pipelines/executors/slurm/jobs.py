"""What Slurm says of jobs, by its own commands."""

import logging
import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

SECONDS_TO_ANSWER = 60.0
"""What Slurm's own commands have."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class State:
    """What Slurm says of a job."""

    word: str
    node: str = ""
    reason: str = ""

    @property
    def ended(self) -> bool:
        """It will not run again."""
        return self.word in ENDED

    @property
    def working(self) -> bool:
        """It runs, or is about to end."""
        return not self.ended and self.word not in WAITING


ENDED = {
    *(
        "BOOT_FAIL",
        "CANCELLED",
        "COMPLETED",
        "DEADLINE",
        "FAILED",
        "NODE_FAIL",
        "OUT_OF_MEMORY",
        "PREEMPTED",
        "TIMEOUT",
    ),
    *("REVOKED", "GONE", "SILENT"),
}
WAITING = {"PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "SPECIAL_EXIT"}
"""States of Slurm's and two of ours: a job that Slurm knows no more, and one that runs but says nothing."""
GONE = State("GONE")


def states() -> Mapping[str, State] | None:
    """Of the user's jobs by name; None while Slurm does not answer."""
    said = ask(["squeue", "--noheader", "--array", "--states=all", f"--user={os.getuid()}", "--format=%i|%T|%N|%r"])
    if said is None:
        return None
    rows = (line.strip().split("|") for line in said.splitlines())
    return {row[0]: State(*row[1:]) for row in rows if len(row) == 4}


def ask(argv: Sequence[str]) -> str | None:
    """What a command of Slurm's says; None, with a line on the log, where it fails: its controller may be away."""
    try:
        return subprocess.run(argv, capture_output=True, text=True, check=True, timeout=SECONDS_TO_ANSWER).stdout
    except subprocess.CalledProcessError as error:
        why = one_line(error.stderr)
    except (OSError, subprocess.TimeoutExpired) as error:
        why = str(error)
    _log.warning("slurm: %s does not answer: %s", argv[0], why)
    return None


def one_line(text: str) -> str:
    """The same words on one line."""
    return " ".join(text.split())
