"""What the processes survive whatever the executor: workers that are killed while no task of theirs runs."""

import contextlib
import operator
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import psutil
import pytest

from kinetics_sounds.pipelines import process_pool
from kinetics_sounds.pipelines.process_pool import Cause, Failed, SupervisedPool

from .conftest import wait_for


@contextlib.contextmanager
def started(function: Any, *, workers: int) -> Iterator["SupervisedPool[Any, Any]"]:
    with contextlib.closing(SupervisedPool[Any, Any](function, workers=workers)) as processes:
        yield processes


def drain(processes: "SupervisedPool[Any, Any]", *, seconds: float = 30) -> list[Any]:
    found: list[Any] = []
    deadline = time.monotonic() + seconds
    while processes.busy and time.monotonic() < deadline:
        found += processes.finished(0.2)
    return found


def cmdline(process: psutil.Process) -> list[str]:
    """Nothing of one that has just ended."""
    with contextlib.suppress(psutil.Error):
        return process.cmdline()
    return []


def workers_of_this_process() -> list[psutil.Process]:
    """Not pebble's own list: one that starts is in there only when it is through with it."""
    return [each for each in psutil.Process().children() if "spawn_main" in " ".join(cmdline(each))]


def test_a_task_past_its_time_is_killed() -> None:
    with started(time.sleep, workers=1) as processes:
        processes.submit(4.0, timeout_seconds=0.5)

        assert drain(processes) == [(4.0, Failed(Cause.TIMED_OUT, "the task exceeded its time limit and was killed"))]


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("seconds_until_the_next_task", [0.0, 0.5])
def test_a_worker_that_is_killed_between_tasks_costs_none(workers: int, seconds_until_the_next_task: float) -> None:
    with started(abs, workers=workers) as processes:
        processes.submit(-1, timeout_seconds=20)
        assert drain(processes) == [(-1, 1)]
        workers_of_this_process()[0].kill()
        time.sleep(seconds_until_the_next_task)
        for task in (-2, -3):
            processes.submit(task, timeout_seconds=20)

        assert sorted(drain(processes)) == [(-3, 3), (-2, 2)]


def test_a_worker_that_is_killed_as_it_starts_costs_no_task() -> None:
    with started(abs, workers=1) as processes:
        for task in (-1, -2):
            processes.submit(task, timeout_seconds=20)
        assert wait_for(workers_of_this_process)
        workers_of_this_process()[0].kill()

        assert sorted(drain(processes)) == [(-2, 2), (-1, 1)]


def test_a_task_whose_workers_never_start_is_not_handed_in_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its function's module is found here and nowhere else."""
    here = ModuleType("found_here_only")
    exec("def function(task): return task", vars(here))
    monkeypatch.setitem(sys.modules, here.__name__, here)

    with started(here.function, workers=1) as processes:
        processes.submit(1, timeout_seconds=20)
        [(task, failed)] = drain(processes)

    assert task == 1
    assert failed.cause is Cause.DIED
    assert failed.detail.startswith("it was lost 3 times with the pool of workers: ")


def test_a_pool_that_is_stuck_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    """As when a worker is killed while it takes a task: its locks are never given back."""
    monkeypatch.setattr(process_pool, "SECONDS_TO_STALL", 0.5)
    with started(abs, workers=1) as processes:
        processes.submit(-1, timeout_seconds=20)
        assert drain(processes) == [(-1, 1)]
        locks = processes._pool._pool_manager.worker_manager.workers_channel.mutex
        assert locks.acquire(timeout=5)
        processes.submit(-2, timeout_seconds=1)

        assert drain(processes) == [(-2, 2)]


def test_a_task_that_is_slow_but_in_time_is_not_taken_for_a_stall(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process_pool, "SECONDS_TO_STALL", 0.0)
    monkeypatch.setattr(SupervisedPool, "_replace", None)
    with started(time.sleep, workers=1) as processes:
        processes.submit(1.0, timeout_seconds=20)
        assert drain(processes) == [(1.0, None)]
        time.sleep(0.5)
        processes._moved -= 100  # nothing was to be done for long
        processes.submit(0.1, timeout_seconds=20)

        assert drain(processes) == [(0.1, None)]


def test_the_function_s_module_is_imported_before_a_worker_takes_a_task(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Imported by the task itself it would be so with the pool's locks held."""
    (tmp_path / "says_who_imports.py").write_text(
        "import traceback\nwho = ''.join(traceback.format_stack())\ndef function(task): return who\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    import says_who_imports  # type: ignore[import-not-found]

    with started(says_who_imports.function, workers=1) as processes:
        processes.submit(1, timeout_seconds=20)
        [(_, who)] = drain(processes)

    assert "in _begin" in who
    assert "in task_transaction" not in who


def test_a_worker_that_is_told_to_leave_does_so_quietly_between_tasks(capfd: pytest.CaptureFixture[str]) -> None:
    with started(abs, workers=1) as processes:
        processes.submit(-1, timeout_seconds=20)
        assert drain(processes) == [(-1, 1)]
        [worker] = workers_of_this_process()
        worker.terminate()
        assert wait_for(lambda: worker not in workers_of_this_process(), seconds=5)
        processes.submit(-2, timeout_seconds=20)
        assert drain(processes) == [(-2, 2)]

    assert "Traceback" not in capfd.readouterr().err


def test_a_worker_that_is_told_to_leave_in_mid_task_ends_it_first() -> None:
    """`subprocess.run` kills what it runs on its way out."""
    with started(operator.call, workers=1) as processes:
        processes.submit(partial(subprocess.run, ["sleep", "623.7"]), timeout_seconds=20)
        assert wait_for(lambda: any(each.children() for each in workers_of_this_process() if is_asleep(each)))
        workers_of_this_process()[0].terminate()

        assert [result for _, result in drain(processes)] == [
            Failed(Cause.DIED, f"its process died with exit code {128 + signal.SIGTERM}")
        ]


def is_asleep(worker: psutil.Process) -> bool:
    return any(cmdline(each) == ["sleep", "623.7"] for each in worker.children())


def test_a_task_that_leaves_without_a_word_has_died() -> None:
    with started(operator.call, workers=1) as processes:
        processes.submit(partial(sys.exit, 0), timeout_seconds=20)

        assert [result for _, result in drain(processes)] == [Failed(Cause.DIED, "its process died with exit code 1")]


@pytest.mark.parametrize(("said", "taken"), [(-1, 256), (1024, 1024), (2**30, 65536)])
def test_the_guard_counts_on_no_more_descriptors_than_there_can_be(
    said: int, taken: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sysconf", lambda _name: said)

    assert process_pool.most_descriptors() == taken


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="the guard reads /proc")
def test_the_guard_notices_the_end_where_the_system_knows_no_limit(tmp_path: Path) -> None:
    code = (
        "import os, subprocess\nfrom kinetics_sounds.pipelines import process_pool\n"
        "process_pool.most_descriptors = lambda: 3\n"  # as if the pipe were beyond the last that it closes
        "process_pool._leave_a_guard(b'GUARDED=623')\n"
        "subprocess.Popen(['sleep', '623.8'], env={'GUARDED': '623'}, close_fds=True)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path, timeout=30)

    assert wait_for(
        lambda: not any(each.info["cmdline"] == ["sleep", "623.8"] for each in psutil.process_iter(["cmdline"])),
        seconds=5,
    )


@pytest.mark.slow
def test_a_terminals_interrupt_leaves_workers_that_are_still_starting() -> None:
    code = """
import operator, os, signal, time
from kinetics_sounds.pipelines.process_pool import SupervisedPool
if __name__ == "__main__":
    signal.signal(signal.SIGINT, lambda *_: None)
    pool = SupervisedPool(operator.neg, workers=2)
    pool.submit(3, timeout_seconds=60)
    os.killpg(0, signal.SIGINT)
    while pool.busy:
        print(*pool.finished(1), end="")
    pool.close()
"""
    words = [sys.executable, "-c", code]
    done = subprocess.run(words, capture_output=True, text=True, check=False, start_new_session=True, timeout=60)

    assert (done.returncode, done.stdout, done.stderr) == (0, "(3, -3)", "")
