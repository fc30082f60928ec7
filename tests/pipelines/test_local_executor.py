import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from kinetics_sounds.pipelines.executors import local

# Tasks must be importable by name in a spawned process, which test modules are not: the standard library's are.
from kinetics_sounds.pipelines.executors.local import Failed


def never() -> bool:
    return False


def test_ordered_results_come_in_the_order_of_the_tasks() -> None:
    waits = [0.4, 0.0, 0.2, 0.0, 0.1]

    results = list(local.run(time.sleep, waits, workers=2, timeout_seconds=20, stop=never, ordered=True))

    assert results == [(wait, None) for wait in waits]


def test_unordered_results_are_all_there() -> None:
    results = list(local.run(abs, range(-20, 0), workers=2, timeout_seconds=20, stop=never))

    assert sorted(results) == [(number, -number) for number in range(-20, 0)]


def test_a_hung_task_is_killed_and_the_others_go_on() -> None:
    results = dict(local.run(time.sleep, [60.0, 0.0, 0.01], workers=2, timeout_seconds=2, stop=never))

    assert isinstance(results[60.0], Failed)
    assert results[60.0].timed_out
    assert results[0.0] is None
    assert results[0.01] is None


def test_a_task_whose_process_dies_is_named_and_the_others_go_on() -> None:
    results = dict(local.run(os._exit, [3], workers=1, timeout_seconds=20, stop=never))

    failed = results[3]
    assert isinstance(failed, Failed)
    assert not failed.timed_out
    assert "exit code 3" in failed.detail


def test_what_a_task_raises_is_its_outcome() -> None:
    ((_, failed),) = local.run(int, ["x"], workers=1, timeout_seconds=20, stop=never)

    assert isinstance(failed, Failed)
    assert failed.detail.startswith("ValueError: invalid literal")


def test_a_request_to_stop_ends_it_soon() -> None:
    began = time.monotonic()

    results = local.run(
        time.sleep, [30.0] * 4, workers=2, timeout_seconds=60, stop=lambda: time.monotonic() > began + 2
    )

    assert list(results) == []
    assert time.monotonic() - began < 15


@pytest.mark.slow
def test_workers_go_when_the_driver_is_killed(tmp_path: Path) -> None:
    script = tmp_path / "driver.py"
    script.write_text(
        "import time\nfrom kinetics_sounds.pipelines.executors import local\n"
        "if __name__ == '__main__':\n"
        "    list(local.run(time.sleep, [60.0] * 4, workers=2, timeout_seconds=90, stop=lambda: False))\n"
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
