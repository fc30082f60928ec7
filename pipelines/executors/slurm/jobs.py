"""States of Slurm jobs, by Slurm's own commands."""

import logging
import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

SECONDS_TO_ANSWER = 60.0
"""Time limit of Slurm's commands in seconds."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class State:
    """State of a job."""

    word: str
    node: str = ""
    reason: str = ""

    @property
    def ended(self) -> bool:
        """Whether it has ended for good."""
        return self.word in ENDED

    @property
    def working(self) -> bool:
        """Whether it runs, or is about to end."""
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
"""States of waiting jobs, Slurm's and two of our own: a job unknown to Slurm, and one that runs but does not report."""
GONE = State("GONE")


def states() -> Mapping[str, State] | None:
    """States of the user's jobs by name; None while Slurm does not respond."""
    said = ask(["squeue", "--noheader", "--array", "--states=all", f"--user={os.getuid()}", "--format=%i|%T|%N|%r"])
    if said is None:
        return None
    rows = (line.strip().split("|") for line in said.splitlines())
    return {row[0]: State(*row[1:]) for row in rows if len(row) == 4}


def ask(argv: Sequence[str]) -> str | None:
    """Output of a Slurm command; None, with a log line, if it fails: the controller may be down."""
    try:
        return subprocess.run(argv, capture_output=True, text=True, check=True, timeout=SECONDS_TO_ANSWER).stdout
    except subprocess.CalledProcessError as error:
        why = one_line(error.stderr)
    except (OSError, subprocess.TimeoutExpired) as error:
        why = str(error)
    _log.warning("slurm: %s does not answer: %s", argv[0], why)
    return None


def one_line(text: str) -> str:
    """Text on one line."""
    return " ".join(text.split())
