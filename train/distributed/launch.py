"""Start the ranks of this machine for whoever asks for `--devices N`; several machines need torchrun.

The ranks meet in a file, so no port is opened and none can be taken. What one of them is told to do, all are; where one
fails the others are ended, and the first cause is what the user reads.
"""

import os
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, TypeVar

from torch.multiprocessing.spawn import ProcessException, ProcessExitedException, start_processes

from kinetics_sounds.command import FAULT, command
from kinetics_sounds.errors import LostRanksError

from .devices import limit_threads
from .process_group import MEETING

GRACE_SECONDS = 10.0
"""For ranks to end by themselves when another has failed."""
FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)

Told = TypeVar("Told")


def is_rank() -> bool:
    """Whether this process was started as one of several."""
    return os.environ.get("WORLD_SIZE", "1") != "1"


def leads() -> bool:
    """Whether this process is the only one, or the first of several: the one that speaks for all."""
    return not is_rank() or os.environ.get("RANK") == "0"


def ranks(task: Callable[[Told], int], told: Told, *, devices: int, prog: str) -> int:
    """Run `task(told)` in so many ranks, both of which can be pickled; returns the exit code of all of them.

    A signal that asks to stop goes to every rank. Where the starting process is killed the ranks are interrupted.
    """
    with tempfile.TemporaryDirectory(prefix="ks-ranks-") as name:
        folder = Path(name)
        started: Any = start_processes(  # type: ignore[no-untyped-call]
            _rank, args=(task, told, devices, name, prog), nprocs=devices, join=False, start_method="spawn"
        )
        with _forwarding(started):
            try:
                while not started.join(grace_period=GRACE_SECONDS):
                    pass
            except ProcessException as error:
                return _told(folder, devices, error)
        return max(int((folder / f"{rank}.code").read_text()) for rank in range(devices))


def _rank(rank: int, task: Callable[[Told], int], told: Told, size: int, folder: str, prog: str) -> None:
    """In a rank: do the task; an error is left in a file for the starting process to tell."""
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(size), **{MEETING: f"file://{folder}/meet"})
    limit_threads(size)  # else each would take all cores, and they would wait for each other
    place = Path(folder)

    def run() -> int:
        try:
            return task(told)
        except LostRanksError:
            (place / f"{rank}.lost").touch()
            raise

    errors: list[str] = []
    code = command(prog, run, tell=errors.append)
    (place / f"{rank}.code").write_text(str(code))
    if errors:
        (place / f"{rank}.error").write_text("\n".join([f"rank {rank} of {size}:"] * (code == FAULT) + errors))
        sys.exit(code)


def _told(folder: Path, size: int, error: ProcessException) -> int:
    """Say once what ended the ranks: the causes, or what they led to where nothing else is known."""
    told = {rank: (folder / f"{rank}.error") for rank in range(size) if (folder / f"{rank}.error").exists()}
    causes = {rank: path for rank, path in told.items() if not (folder / f"{rank}.lost").exists()}
    for text in dict.fromkeys(path.read_text() for path in (causes or told).values()):
        print(text, file=sys.stderr)
    if not causes:
        print(
            f"ks: rank {error.error_index} of {size} ended: {_ending(error)}; see what it wrote above", file=sys.stderr
        )
    first = next(iter(causes), None)
    code = folder / f"{first}.code"
    return int(code.read_text()) if code.exists() else FAULT


def _ending(error: ProcessException) -> str:
    """How a process ended, in words."""
    if not isinstance(error, ProcessExitedException):
        return "it raised an error"
    return f"killed by {error.signal_name}" if error.signal_name else f"exit code {error.exit_code}"


@contextmanager
def _forwarding(started: Any) -> Iterator[None]:  # noqa: ANN401 - a ProcessContext, or whatever has its processes
    def forward(number: int, _frame: FrameType | None) -> None:
        for process in started.processes:
            if process.is_alive():
                os.kill(process.pid, number)

    before = {each: signal.signal(each, forward) for each in FORWARDED}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
