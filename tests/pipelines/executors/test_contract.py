"""What holds whatever the executor.

Tasks must be importable by name in another process, which test modules are not: the standard library's functions are, and
`operator.call` makes a task of any of them.
"""

import operator
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest

from kinetics_sounds.pipelines.executors import Cause, Failed

from .conftest import ONE_SLURM

pytestmark = pytest.mark.slow
SECONDS = 2.0


def sleepers(mark: str) -> list[psutil.Process]:
    """Processes that sleep for exactly so long."""
    return [each for each in psutil.process_iter(["cmdline"]) if each.info["cmdline"] == ["sleep", mark]]


def is_agent(process: psutil.Process) -> bool:
    """Ray's own agent looks after its parent only every so many seconds."""
    try:
        return "runtime_env_agent" in " ".join(process.cmdline()) or "Agent" in process.name()
    except psutil.Error:
        return False


def soon(truth: Any, *, seconds: float = 15) -> bool:
    deadline = time.monotonic() + seconds
    while not truth() and time.monotonic() < deadline:
        time.sleep(0.05)
    return bool(truth())


def test_each_task_of_those_handed_in_together_has_its_outcome_once_and_closing_ends_what_runs(executor: Any) -> None:
    """One test for it all: starting a cluster takes longer than the tasks do."""
    one, two, three = (executor.seconds(number) for number in (611, 612, 613))
    tasks = {
        "hung": partial(time.sleep, 60.0),
        "hung with a child": partial(subprocess.run, ["sleep", one], start_new_session=True),
        "dies": partial(os._exit, 3),
        "is killed": partial(os.system, f"sleep {two} & kill -KILL $PPID"),
        "raises": partial(int, "x"),
        **{f"abs {number}": partial(abs, number) for number in range(-9, 0)},
    }
    names = {id(task): name for name, task in tasks.items()}
    found: list[tuple[str, Any]] = []
    with executor(operator.call) as pool:
        began = time.monotonic()
        assert pool.finished(0.2) == []
        assert time.monotonic() - began >= 0.2  # there is nothing to wait for, and it takes the time that was given
        for task in tasks.values():
            pool.submit(task, timeout_seconds=SECONDS)
        assert pool.busy == len(tasks)
        while pool.busy:
            found += [(names[id(task)], result) for task, result in pool.finished(1)]
        assert soon(lambda: not sleepers(one) and not sleepers(two), seconds=2)  # what a task started goes with it
        pool.submit(partial(subprocess.run, ["sleep", three], start_new_session=True), timeout_seconds=60)
        started = soon(lambda: pool.finished(0.1) or sleepers(three))

    assert started
    assert soon(lambda: not sleepers(three), seconds=5)
    assert len(found) == len(tasks)
    outcomes = dict(found)
    raised = outcomes.pop("raises")
    assert raised.cause is Cause.RAISED
    assert raised.detail.startswith("ValueError: invalid literal")
    assert "Traceback (most recent call last):" in raised.trace
    assert raised.trace.splitlines()[-1].startswith("ValueError: invalid literal")
    assert outcomes == {
        "hung": Failed(Cause.TIMED_OUT, "the task exceeded its time limit and was killed"),
        "hung with a child": Failed(Cause.TIMED_OUT, "the task exceeded its time limit and was killed"),
        "dies": Failed(Cause.DIED, "its process died with exit code 3"),
        "is killed": Failed(Cause.DIED, "its process died with exit code -9"),
        **{f"abs {number}": -number for number in range(-9, 0)},
    }


RAY_TOO = [
    "local",
    pytest.param("ray", marks=pytest.mark.slow_campaign),
    "jobs",
    pytest.param("slurm", marks=ONE_SLURM),
]


@pytest.mark.parametrize("executor", RAY_TOO, indirect=True)
def test_workers_go_when_the_driver_is_killed(executor: Any, tmp_path: Path) -> None:
    name, mark = executor.name, executor.seconds(614)
    script = tmp_path / "driver.py"
    script.write_text(
        "import operator, subprocess\nfrom functools import partial\nfrom pathlib import Path\n"
        "from kinetics_sounds.pipelines import executors\n"
        "from kinetics_sounds.pipelines.executors import slurm\n"
        "from kinetics_sounds.pipelines.executors.slurm import Options\n"
        "slurm.LEAST_PATIENCE = 0\n"
        "if __name__ == '__main__':\n"
        f"    folder, options = Path({str(tmp_path)!r}), {executor.options!r}\n"
        f"    pool = executors.start({name!r}, operator.call, workers=2, folder=folder, chosen=options)\n"
        "    for _ in range(4):\n"
        f"        pool.submit(partial(subprocess.run, ['sleep', {mark!r}], start_new_session=True), timeout_seconds=90)\n"
        "    while True:\n"
        "        pool.finished(60)\n"
    )
    environ = {key: value for key, value in os.environ.items() if not key.startswith("RAY_")}
    with subprocess.Popen([sys.executable, script], env=environ) as driver:
        started = soon(lambda: len(sleepers(mark)) == 2, seconds=120)
        below = [each for each in psutil.Process(driver.pid).children(recursive=True) if not is_agent(each)]
        driver.send_signal(signal.SIGKILL)

    assert started
    assert soon(lambda: not sleepers(mark))
    _, alive = psutil.wait_procs(below, timeout=10)
    assert alive == []
