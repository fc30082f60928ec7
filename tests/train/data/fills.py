"""What workers of `test_workers` do; in a file of its own, for processes import it by name."""

import errno
import os
import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from kinetics_sounds.errors import ShardError
from kinetics_sounds.train.data.workers import BadRowError, Deadline, Times


@dataclass(frozen=True)
class Double:
    """Write twice the row's number; some rows fare worse."""

    bad: int = -1
    hangs: int = -1
    crashes: int = -1
    raises: int = -1
    breaks: int = -1
    fetches: int = -1
    pause: float = 0.0

    def __call__(self, row: int, out: Mapping[str, np.ndarray], clock: Deadline) -> Times:
        clock.start()
        if row == self.fetches:
            with clock.stopped():
                time.sleep(2 * self.pause)
        else:
            time.sleep(self.pause)
        if row == self.bad:
            raise BadRowError(f"row {row} is bad")
        if row == self.hangs:
            time.sleep(600)
        if row == self.crashes:
            os.kill(os.getpid(), signal.SIGSEGV)
        if row == self.raises:
            raise ShardError("the set is gone") from OSError(errno.EIO, "Input/output error", "/data/a")
        if row == self.breaks:
            raise ZeroDivisionError("a bug")
        out["twice"][...] = 2 * row
        return Times(read=0.25, decode=0.75)


@dataclass(frozen=True)
class Dies:
    """Die before a row has begun: nobody's fault but the machine's."""

    def __call__(self, row: int, out: Mapping[str, np.ndarray], clock: Deadline) -> Times:
        os._exit(9)


@dataclass(frozen=True)
class Environment:
    """Write what a variable says."""

    name: str

    def __call__(self, row: int, out: Mapping[str, np.ndarray], clock: Deadline) -> Times:
        out["twice"][...] = int(os.environ[self.name])
        return Times(read=0.0, decode=0.0)
