"""Start local ranks for `--devices N`; several machines need torchrun.

Ranks rendezvous through a file, so no port is opened. A signal is forwarded to all ranks. If one rank fails, the others are
stopped and the first cause is reported.
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
from .process_group import RENDEZVOUS

GRACE_SECONDS = 10.0
"""Seconds for ranks to exit by themselves after another has failed."""
FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)

Told = TypeVar("Told")


def is_rank() -> bool:
    """Whether this process was started as one of several ranks."""
    return os.environ.get("WORLD_SIZE", "1") != "1"


def is_main() -> bool:
    """Whether this process is rank 0 or the only one."""
    return not is_rank() or os.environ.get("RANK") == "0"


def ranks(task: Callable[[Told], int], told: Told, *, devices: int, prog: str) -> int:
    """Run `task(told)` in `devices` ranks; return the common exit code. `task` and `told` must be picklable.

    Stop signals are forwarded to every rank. If the starting process is killed, the ranks are interrupted.
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
                return _failure(folder, devices, error)
        return max(int((folder / f"{rank}.code").read_text()) for rank in range(devices))


def _rank(rank: int, task: Callable[[Told], int], told: Told, size: int, folder: str, prog: str) -> None:
    """Entry point of a rank: run the task, and write an error to a file for the starting process to report."""
    os.environ.update(
        RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(size), **{RENDEZVOUS: f"file://{folder}/meet"}
    )
    limit_threads(size)  # else each would use all cores, and they would compete
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


def _failure(folder: Path, size: int, error: ProcessException) -> int:
    """Report what ended the ranks: root causes if known, else consequences."""
    told = {rank: (folder / f"{rank}.error") for rank in range(size) if (folder / f"{rank}.error").exists()}
    causes = {rank: path for rank, path in told.items() if not (folder / f"{rank}.lost").exists()}
    for text in dict.fromkeys(path.read_text() for path in (causes or told).values()):
        print(text, file=sys.stderr)
    if not causes:
        print(f"ks: rank {error.error_index} of {size} ended: {_ending(error)}; see its output above", file=sys.stderr)
    first = next(iter(causes), None)
    code = folder / f"{first}.code"
    return int(code.read_text()) if code.exists() else FAULT


def _ending(error: ProcessException) -> str:
    """Describe how a process ended."""
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
