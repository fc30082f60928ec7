import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from kinetics_sounds.pipelines.executors import Cause, Failed, in_order, local

# Tasks must be importable by name in a spawned process, which test modules are not: the standard library's are.


def never() -> bool:
    return False


@contextlib.contextmanager
def pool(function: Any, *, workers: int = 2) -> Iterator["local.Pool[Any, Any]"]:
    with contextlib.closing(local.Pool(function, workers=workers)) as opened:
        yield opened


def results(function: Any, tasks: list[Any], *, seconds: float = 20, workers: int = 2) -> dict[Any, Any]:
    """What every task gave, in whatever order they ended."""
    found: dict[Any, Any] = {}
    with pool(function, workers=workers) as opened:
        for task in tasks:
            opened.submit(task, timeout_seconds=seconds)
        assert opened.busy == len(tasks)
        while opened.busy:
            found.update(opened.finished(1))
    return found


def test_every_task_gives_its_result() -> None:
    assert results(abs, list(range(-20, 0))) == {number: -number for number in range(-20, 0)}


def test_results_come_in_the_order_of_the_tasks_where_that_is_asked_for() -> None:
    waits = [0.4, 0.0, 0.2, 0.01, 0.1]

    with pool(time.sleep) as opened:
        assert list(in_order(opened, waits, timeout_seconds=20, stop=never)) == [(wait, None) for wait in waits]


def test_a_slow_first_task_does_not_let_the_others_run_far_ahead() -> None:
    taken = []

    def tasks() -> Iterator[float]:
        for number in range(100):
            taken.append(number)
            yield 1.5 if number == 0 else number / 1e6

    with pool(time.sleep) as opened:
        first = next(in_order(opened, tasks(), timeout_seconds=20, stop=never))

    assert first == (1.5, None)
    assert len(taken) == 4  # two workers, two tasks ahead each


def test_a_hung_task_is_killed_and_the_others_go_on() -> None:
    found = results(time.sleep, [60.0, 0.0, 0.01], seconds=2)

    assert found[60.0].cause is Cause.TIMED_OUT
    assert found[0.0] is None
    assert found[0.01] is None


def test_a_task_whose_process_dies_is_named_and_the_others_go_on() -> None:
    failed = results(os._exit, [3], workers=1)[3]

    assert failed == Failed(Cause.DIED, "its process died with exit code 3")


def test_what_a_task_raises_is_its_outcome() -> None:
    failed = results(int, ["x"], workers=1)["x"]

    assert failed.cause is Cause.RAISED
    assert failed.detail.startswith("ValueError: invalid literal")


def test_a_request_to_stop_ends_it_soon() -> None:
    began = time.monotonic()

    with pool(time.sleep) as opened:
        found = list(
            in_order(opened, [30.0, 31.0, 32.0], timeout_seconds=60, stop=lambda: time.monotonic() > began + 2)
        )

    assert found == []
    assert time.monotonic() - began < 15


def test_waiting_for_nothing_takes_the_time_that_was_given() -> None:
    began = time.monotonic()

    with pool(abs) as opened:
        assert opened.finished(0.2) == []

    assert time.monotonic() - began >= 0.2


@pytest.mark.slow
def test_workers_go_when_the_driver_is_killed(tmp_path: Path) -> None:
    script = tmp_path / "driver.py"
    script.write_text(
        "import time\nfrom kinetics_sounds.pipelines.executors import local\n"
        "if __name__ == '__main__':\n"
        "    pool = local.Pool(time.sleep, workers=2)\n"
        "    for seconds in (60.0, 61.0, 62.0):\n"
        "        pool.submit(seconds, timeout_seconds=90)\n"
        "    pool.finished(60)\n"
    )
    with subprocess.Popen([sys.executable, script]) as driver:
        deadline = time.monotonic() + 20
        workers: list[psutil.Process] = []
        while len(workers) < 2 and time.monotonic() < deadline:
            time.sleep(0.2)
            children = psutil.Process(driver.pid).children(recursive=True)
            with contextlib.suppress(psutil.NoSuchProcess):
                workers = [child for child in children if "spawn_main" in " ".join(child.cmdline())]
        time.sleep(1)  # past the workers' start
        driver.send_signal(signal.SIGKILL)

    _, alive = psutil.wait_procs(workers, timeout=10)
    assert len(workers) >= 2
    assert alive == []
