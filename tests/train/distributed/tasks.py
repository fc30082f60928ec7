"""What ranks of `test_launch` do; in a file of its own, for processes import it by name."""

import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from kinetics_sounds.command import DONE, STOPPED, stoppable
from kinetics_sounds.errors import LostRanksError, SettingsError

Argv = Sequence[str]


def rank() -> int:
    return int(os.environ["RANK"])


def writes_its_place(argv: Argv) -> int:
    place = [os.environ[name] for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE")]
    (Path(argv[0]) / place[0]).write_text(" ".join([*place, *argv[1:]]))
    (Path(argv[0]) / f"{place[0]}.threads").write_text(str(torch.get_num_threads()))
    return DONE


def all_refuse(argv: Argv) -> int:
    raise SettingsError("--batch 1: is too small")


def second_fails(argv: Argv) -> int:
    """The others see no more than that it is gone."""
    if rank() == 1:
        raise SettingsError("the cause")
    time.sleep(0.5)
    raise LostRanksError(f"rank {rank()} lost the others")


def second_is_killed(argv: Argv) -> int:
    if rank() == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(600)
    return DONE


def waits_for_a_signal(argv: Argv) -> int:
    folder = Path(argv[0])
    with stoppable(signal.SIGINT, signal.SIGTERM, signal.SIGUSR1) as stop:
        (folder / f"{rank()}.ready").touch()
        while not stop:
            time.sleep(0.02)
        (folder / f"{rank()}.stopped").write_text(stop.by.name if stop.by else "")
    return STOPPED


def second_has_a_bug(argv: Argv) -> int:
    """The other notices, and ends first."""
    if rank() == 1:
        try:
            raise ZeroDivisionError("the bug")
        finally:
            (Path(argv[0]) / "raised").touch()
            time.sleep(0.5)
    while not (Path(argv[0]) / "raised").exists():
        time.sleep(0.01)
    raise LostRanksError("rank 0 lost the others")
