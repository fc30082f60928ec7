"""Processes that fill rows: whatever becomes of one, every row ends once, and says how."""

import errno
import importlib
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from kinetics_sounds.errors import FaultError, RunError, ShardError
from kinetics_sounds.train.data.shared_memory import Shared
from kinetics_sounds.train.data.workers import Done, Workers, start_method

HERE = Path(__file__).parent
ROWS = 8
SLOTS = 2


@pytest.fixture
def fills(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(HERE))
    return importlib.import_module("fills")


@pytest.fixture
def start(fills: Any) -> Iterator[Callable[..., tuple[Workers[int], Shared]]]:
    started: list[Workers[int]] = []

    def make(fill: Any, *, count: int = 2, seconds: float = 60.0) -> tuple[Workers[int], Shared]:
        context = start_method("torch")
        ring = Shared(context, (SLOTS, ROWS), np.dtype(np.int64))
        workers: Workers[int] = Workers(fill, {"twice": ring}, count=count, context=context, seconds=seconds)
        started.append(workers)
        return workers, ring

    yield make
    for each in started:
        each.close()
    assert multiprocessing.active_children() == []


def collect(workers: Workers[int], count: int) -> list[Done[int]]:
    ended: list[Done[int]] = []
    until = time.monotonic() + 60
    while len(ended) < count and time.monotonic() < until:
        ended += workers.finished(1.0)
    assert len(ended) == count
    assert workers.finished(0.0) == []
    return sorted(ended, key=lambda done: (done.batch, done.place))


def submit(workers: Workers[int], *, batch: int = 0, slot: int = 0, first: int = 0) -> None:
    workers.submit(batch, slot, [(place, first + place) for place in range(ROWS)])


@pytest.mark.parametrize("count", [1, 2, 3])
def test_every_row_is_filled_in_its_place(count: int, start: Any, fills: Any) -> None:
    workers, ring = start(fills.Double(), count=count)
    submit(workers, batch=0, slot=0, first=0)
    submit(workers, batch=1, slot=1, first=100)

    ended = collect(workers, 2 * ROWS)

    assert ring.array.tolist() == [[0, 2, 4, 6, 8, 10, 12, 14], [200, 202, 204, 206, 208, 210, 212, 214]]
    assert [(done.batch, done.place, done.row) for done in ended[:2]] == [(0, 0, 0), (0, 1, 1)]
    assert all(done.times and (done.times.read, done.times.decode) == (0.25, 0.75) for done in ended)


def test_a_bad_row_is_told_with_its_reason_and_the_others_are_filled(start: Any, fills: Any) -> None:
    workers, ring = start(fills.Double(bad=3))
    submit(workers)

    ended = collect(workers, ROWS)

    assert [(done.row, done.reason) for done in ended if done.times is None] == [(3, "row 3 is bad")]
    assert ring.array[0].tolist() == [0, 2, 4, 0, 8, 10, 12, 14]


def test_a_row_that_crashes_its_worker_twice_is_bad_and_costs_no_other(start: Any, fills: Any) -> None:
    workers, ring = start(fills.Double(crashes=5))
    submit(workers)

    ended = collect(workers, ROWS)

    assert [(done.row, done.reason) for done in ended if done.times is None] == [
        (5, "loading it died of SIGSEGV, 2 times")
    ]
    assert ring.array[0].tolist() == [0, 2, 4, 6, 8, 0, 12, 14]


def test_a_row_that_hangs_is_killed_twice_and_then_bad(start: Any, fills: Any) -> None:
    workers, ring = start(fills.Double(hangs=1), seconds=0.5)
    submit(workers)

    ended = collect(workers, ROWS)

    assert [(done.row, done.reason) for done in ended if done.times is None] == [
        (1, "loading it did not end within 0.5 s, 2 times")
    ]
    assert ring.array[0].tolist() == [0, 0, 4, 6, 8, 10, 12, 14]


def test_time_in_which_the_clock_stands_does_not_count(start: Any, fills: Any) -> None:
    """Rows take 0.7 s each, of the 1 s that they have, and one fetches for 1.4 s."""
    workers, ring = start(fills.Double(pause=0.7, fetches=1), seconds=1.0)
    submit(workers)

    assert all(done.times for done in collect(workers, ROWS))
    assert ring.array[0].tolist() == [0, 2, 4, 6, 8, 10, 12, 14]


def test_a_worker_knows_what_its_trainer_does(start: Any, fills: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The fork server is older than the variable: another test's workers, or the first of these, have started it."""
    for value in ("1", "2"):
        monkeypatch.setenv("OF_THIS_TEST", value)
        workers, ring = start(fills.Environment("OF_THIS_TEST"))
        submit(workers)
        assert all(done.times for done in collect(workers, ROWS))
        assert ring.array[0].tolist() == [int(value)] * ROWS


def test_a_worker_that_is_killed_from_outside_is_replaced_and_nothing_is_bad(start: Any, fills: Any) -> None:
    workers, ring = start(fills.Double(pause=0.1))
    submit(workers)
    time.sleep(0.3)
    os.kill(multiprocessing.active_children()[0].pid or 0, signal.SIGKILL)

    assert all(done.times for done in collect(workers, ROWS))
    assert ring.array[0].tolist() == [0, 2, 4, 6, 8, 10, 12, 14]


def test_workers_that_die_of_nothing_that_they_do_end_the_work(start: Any, fills: Any) -> None:
    workers, _ = start(fills.Dies(), count=1)
    submit(workers)

    with pytest.raises(RunError, match=r"^3 loading processes in a row died with exit code 9; .* fewer --workers"):
        collect(workers, ROWS)


def test_an_error_of_the_set_is_raised_as_it_is(start: Any, fills: Any) -> None:
    workers, _ = start(fills.Double(raises=2))
    submit(workers)

    with pytest.raises(ShardError, match=r"^the set is gone$") as caught:
        collect(workers, ROWS)
    cause = caught.value.__cause__  # by which the command knows that it is no misuse
    assert isinstance(cause, OSError)
    assert (cause.errno, cause.filename) == (errno.EIO, "/data/a")


def test_a_bug_is_told_by_its_name(start: Any, fills: Any) -> None:
    workers, _ = start(fills.Double(breaks=2))
    submit(workers)

    with pytest.raises(FaultError) as caught:
        collect(workers, ROWS)
    said, *lines = str(caught.value).splitlines()
    assert (
        said == "a loading process raised ZeroDivisionError: a bug; this is a bug; please report it with these lines:"
    )
    assert lines[0] == "Traceback (most recent call last):"
    assert any(line.endswith("in __call__") and "fills.py" in line for line in lines)
    assert lines[-1] == "ZeroDivisionError: a bug"


def test_signals_that_stop_a_trainer_do_not_stop_a_worker(start: Any, fills: Any) -> None:
    workers, ring = start(fills.Double(pause=0.1), count=1)
    submit(workers)
    while not workers.finished(0.5):
        pass
    (worker,) = multiprocessing.active_children()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
        os.kill(worker.pid or 0, number)

    until = time.monotonic() + 30
    while ring.array[0, -1] != 14 and time.monotonic() < until:
        workers.finished(0.2)

    assert ring.array[0].tolist() == [0, 2, 4, 6, 8, 10, 12, 14]
    assert worker.is_alive()


ABANDONED = """
import multiprocessing, numpy, sys, time
from kinetics_sounds.train.data.workers import Shared, Workers, start_method
sys.path.insert(0, sys.argv[1])
import fills
context = start_method()
workers = Workers(fills.Double(hangs=0), {"twice": Shared(context, (1, 1), numpy.dtype("int64"))},
                  count=2, context=context, seconds=0.5)
workers.submit(0, 0, [(0, 0)])
while not workers._progress.array[:, 2].any():  # one hangs, the other waits
    time.sleep(0.05)
print(*(child.pid for child in multiprocessing.active_children()), flush=True)
time.sleep(600)
"""


@pytest.mark.slow
def test_workers_go_with_a_trainer_that_is_killed_even_those_that_hang() -> None:
    argv = [sys.executable, "-c", ABANDONED, str(HERE)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as trainer:
        assert trainer.stdout is not None
        pids = [int(word) for word in trainer.stdout.readline().split()]
        trainer.kill()

    assert len(pids) == 2
    until = time.monotonic() + 20
    while any(map(_lives, pids)) and time.monotonic() < until:
        time.sleep(0.05)
    assert not any(map(_lives, pids))


def _lives(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


@pytest.mark.slow
def test_a_terminals_interrupt_leaves_a_fork_server_that_is_still_importing(tmp_path: Path) -> None:
    (tmp_path / "long_to_import.py").write_text("import time\ntime.sleep(0.5)\n")
    code = """
import os, signal, sys
from kinetics_sounds.train.data.workers import start_method
signal.signal(signal.SIGINT, lambda *_: None)
context = start_method("long_to_import")
os.killpg(0, signal.SIGINT)
process = context.Process(target=print, args=("served",))
process.start()
process.join()
"""
    words = [sys.executable, "-c", code]
    done = subprocess.run(
        words,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
        start_new_session=True,
        timeout=60,
    )

    assert (done.returncode, done.stdout, done.stderr) == (0, "served\n", "")
