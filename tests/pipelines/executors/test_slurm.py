"""What Slurm adds: jobs wait, are requeued, killed and followed by others, and not every node sees every folder."""

import contextlib
import dataclasses
import errno
import logging
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from kinetics_sounds.errors import SettingsError
from kinetics_sounds.pipelines.executors import Cause, slurm
from kinetics_sounds.pipelines.executors.slurm.jobs import State

from .conftest import CAN_HIDE, ONE_SLURM, PATIENCE_SECONDS, Cluster, wait_for

pytestmark = [pytest.mark.slow, ONE_SLURM]
PROCESSES = slurm.Options(cluster="local", patience=PATIENCE_SECONDS)
LEAST_PATIENCE = slurm.LEAST_PATIENCE
TASKS = [0.5 + number / 1000 for number in range(8)]


def opened(function: Any, folder: Path, options: slurm.Options, *, workers: int = 2) -> Any:
    return contextlib.closing(slurm.Pool(function, workers=workers, folder=folder, options=options))


def drain(pool: Any) -> list[Any]:
    found: list[Any] = []
    while pool.busy:
        found += pool.finished(0.5)
    return found


def test_tasks_survive_a_requeue_and_a_kill_and_give_their_result_once(slurm_cluster: Cluster, tmp_path: Path) -> None:
    with opened(time.sleep, tmp_path, slurm_cluster.options) as pool:
        for task in TASKS:
            pool.submit(task, timeout_seconds=30)
        found: list[Any] = []
        while len(found) < 2:
            found += pool.finished(1)
        requeued, killed = pool._jobs
        subprocess.run(["scontrol", "requeue", requeued], check=True)
        subprocess.run(["scancel", "--full", "--signal=KILL", killed], check=True)
        found += drain(pool)
        jobs = list(pool._jobs)

    assert sorted(found) == [(task, None) for task in TASKS]
    assert len(jobs) > 2  # the killed one was followed by another
    queue = ["squeue", "--noheader", "--states=PENDING,RUNNING,COMPLETING"]
    assert wait_for(lambda: subprocess.run(queue, check=True, capture_output=True).stdout == b"")


@pytest.mark.skipif(not CAN_HIDE, reason="only root can give a node another view of the disk")
def test_a_node_that_does_not_see_the_folder_is_named(slurm_cluster: Cluster) -> None:
    options = dataclasses.replace(slurm_cluster.options, partition="both")
    with opened(time.sleep, slurm_cluster.hidden, options, workers=3) as pool:
        for task in TASKS:
            pool.submit(task, timeout_seconds=30)
        with pytest.raises(SettingsError, match="blind") as raised:
            drain(pool)

    assert "give an --out below a folder that every node sees" in str(raised.value)


def test_jobs_that_wait_are_told_of(
    slurm_cluster: Cluster, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(slurm, "SECONDS_BETWEEN_NEWS", 0.5)
    with opened(abs, tmp_path, dataclasses.replace(slurm_cluster.options, partition="nowhere")) as pool:
        pool.submit(-1, timeout_seconds=9)
        assert pool.finished(2) == []

    assert "slurm: 2 jobs have been queued for 0 minutes (PartitionDown)" in caplog.messages


def test_what_slurm_refuses_is_told(slurm_cluster: Cluster, tmp_path: Path) -> None:
    options = dataclasses.replace(slurm_cluster.options, partition="none")
    with opened(abs, tmp_path, options) as pool, pytest.raises(SettingsError, match="invalid partition"):
        pool.submit(-1, timeout_seconds=9)


def test_a_job_that_is_killed_is_followed_by_another_and_its_task_is_run_again(tmp_path: Path) -> None:
    with opened(time.sleep, tmp_path, PROCESSES) as pool:
        for task in TASKS[:4]:
            pool.submit(task, timeout_seconds=30)
        found: list[Any] = []
        while not found:
            found += pool.finished(1)
        first = next(iter(pool._jobs.values()))
        for each in psutil.Process(first._process.pid).children(recursive=True):
            each.kill()
        found += drain(pool)

        assert sorted(found) == [(task, None) for task in TASKS[:4]]
        assert len(pool._jobs) > 2


def test_a_task_that_takes_its_job_with_it_is_not_run_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The task kills its process's parent, which is the job."""
    monkeypatch.setattr(slurm, "MAX_ATTEMPTS", 2)
    with opened(os.system, tmp_path, PROCESSES, workers=1) as pool:
        pool.submit("kill -KILL $(ps -o ppid= $PPID)", timeout_seconds=30)
        [(_, failed)] = drain(pool)

    assert failed.cause is Cause.DIED
    assert failed.detail.startswith("the job that ran it ended 2 times, last ")


def test_jobs_that_die_at_once_are_told_of_with_their_last_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slurm, "_work", os._exit)  # called with another number of arguments: it raises
    with opened(abs, tmp_path, PROCESSES) as pool:
        pool.submit(-1, timeout_seconds=9)
        with pytest.raises(SettingsError, match=r"ended before it took a task \(COMPLETED on .*TypeError"):
            drain(pool)


def test_jobs_of_a_folder_that_was_emptied_leave(tmp_path: Path) -> None:
    """As when the driver was killed and is started again."""
    pool = slurm.Pool(time.sleep, workers=2, folder=tmp_path, options=dataclasses.replace(PROCESSES, patience=600.0))
    pool.submit(60.0, timeout_seconds=90)
    assert wait_for(lambda: not pool.finished(0.1) and len(pool._mailbox.greetings()) == 2 and pool._mailbox.claims())
    pool._mailbox.folder.rename(tmp_path / "emptied")

    assert wait_for(lambda: all(state.ended for state in (pool._states() or {}).values()))
    assert not pool._mailbox.folder.exists()
    (tmp_path / "emptied").rename(pool._mailbox.folder)
    pool.close()


class Job:
    """As submitit's, of a job that wrote no log."""

    state = "RUNNING"
    paths = SimpleNamespace(stderr="/nowhere")


@contextlib.contextmanager
def silent(folder: Path, *jobs: str) -> Iterator["slurm.Pool[Any, Any]"]:
    """A pool that believes it has these jobs."""
    pool = slurm.Pool[Any, Any](abs, workers=len(jobs), folder=folder, options=PROCESSES)
    pool._jobs = {name: Job() for name in jobs}
    yield pool
    pool._jobs = {}
    pool.close()


RUNNING, PENDING = State("RUNNING", "n1"), State("PENDING")


def test_a_job_that_is_requeued_before_its_first_word_has_its_time_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slurm, "SECONDS_TO_GREET", 0.05)
    with silent(tmp_path, "1_0") as pool:
        for state in (RUNNING, PENDING):
            pool._checked({"1_0": state}, {})
        time.sleep(0.1)
        assert pool._checked({"1_0": RUNNING}, {}) == {"1_0": RUNNING}
        time.sleep(0.1)
        with pytest.raises(SettingsError, match="node n1 runs job 1_0, but it did not report in"):
            pool._checked({"1_0": RUNNING}, {})


def test_a_silent_job_among_others_that_work_is_warned_of_once_and_followed_by_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(slurm, "SECONDS_TO_GREET", 0.0)
    submitted: list[int] = []
    monkeypatch.setattr(slurm.Pool, "_submit", lambda _self, count: submitted.append(count))
    with silent(tmp_path, "1_0", "1_1") as pool:
        pool._tasks = {1: -1, 2: -2}
        pool._newest = ["1_0", "1_1"]
        greetings = {"1_0": slurm.Hello("n1", pool._token)}
        for _ in range(3):
            states = pool._checked({"1_0": RUNNING, "1_1": RUNNING}, greetings)
            time.sleep(0.01)
        pool._replace(states, greetings)

    assert {name: state.word for name, state in states.items()} == {"1_0": "RUNNING", "1_1": "SILENT"}
    assert submitted == [1]
    [warning] = caplog.messages
    assert warning.startswith("slurm: node n1 runs job 1_1, but it did not report in ")


def test_a_folder_that_cannot_be_read_for_a_moment_ends_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(slurm, "SECONDS_AFTER_TROUBLE", 0.0)
    with silent(tmp_path, "1_0") as pool:
        with monkeypatch.context() as patched:
            patched.setattr(os, "utime", stale)
            assert pool.finished(0.01) == []
        assert pool.finished(0.01) == []

    assert "Stale file handle" in caplog.text


def stale(*_arguments: object, **_more: object) -> None:
    raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"patience": 9.9}, "--slurm.patience 9.9: must be 10 or more"),
        ({"patience": float("nan")}, "--slurm.patience nan: must be 10 or more"),
        ({"minutes": 0}, "--slurm.minutes 0: must be 1 or more"),
        ({"memory_gb": -1}, "--slurm.memory_gb -1: must be 0 or more"),
        ({"cluster": "pbs"}, "--slurm.cluster pbs: must be slurm or local"),
    ],
)
def test_an_option_that_cannot_be_is_named(
    changed: dict[str, Any], told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slurm, "LEAST_PATIENCE", LEAST_PATIENCE)

    with pytest.raises(SettingsError) as raised:
        slurm.Pool(abs, workers=1, folder=tmp_path, options=slurm.Options(**{"cluster": "local", **changed}))

    assert str(raised.value) == told
    assert list(tmp_path.iterdir()) == []


def test_where_there_is_no_slurm_the_error_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(SettingsError, match='--executor slurm: Could not detect "srun"'):
        slurm.Pool(abs, workers=1, folder=tmp_path)


def test_where_submitit_is_not_installed_the_remedy_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "submitit", None)

    with pytest.raises(SettingsError, match=r"pip install 'kinetics-sounds\[slurm\]'"):
        slurm.Pool(abs, workers=1, folder=tmp_path)
