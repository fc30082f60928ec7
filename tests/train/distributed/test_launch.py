"""Ranks that one command starts: each knows its place, one word of an error, a signal reaches all, none is left behind."""

import importlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

from kinetics_sounds import cores
from kinetics_sounds.train.distributed import devices, launch

from ..signals import sends

HERE = Path(__file__).parent

pytestmark = pytest.mark.slow


@pytest.fixture
def tasks(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(HERE))
    return importlib.import_module("tasks")


def test_each_rank_knows_its_place_and_the_words_and_takes_its_share_of_the_cores(
    tasks: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert launch.ranks(tasks.writes_its_place, [str(tmp_path), "--x"], devices=2, prog="ks-train") == 0
    told = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert (told["0"], told["1"]) == ("0 0 2 --x", "1 1 2 --x")
    assert int(told["0.threads"]) == int(told["1.threads"]) <= max(1, len(os.sched_getaffinity(0)) // 2)
    assert "RANK" not in os.environ


@pytest.mark.parametrize(("cores_there", "ranks", "threads"), [(1, 1, 1), (2, 1, 2), (2, 2, 1), (1, 4, 1)])
def test_threads_are_no_more_than_the_cores_that_the_quota_grants(
    cores_there: int, ranks: int, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen: list[int] = []
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(cores, "usable", lambda: cores_there)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    monkeypatch.setattr(torch, "set_num_threads", chosen.append)

    devices.limit_threads(ranks)

    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    devices.limit_threads(ranks)

    assert chosen == [threads]


@pytest.mark.usefixtures("forked_ranks")
@pytest.mark.parametrize(
    ("task", "told"),
    [("all_refuse", "ks-train: error: --batch 1: is too small\n"), ("second_fails", "ks-train: error: the cause\n")],
)
def test_the_cause_of_an_error_is_told_once(
    task: str, told: str, tasks: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    assert launch.ranks(getattr(tasks, task), [], devices=2, prog="ks-train") == 2
    assert capsys.readouterr().err == told


@pytest.mark.usefixtures("forked_ranks")
def test_a_bug_in_one_rank_is_told_with_its_traceback(
    tasks: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert launch.ranks(tasks.second_has_a_bug, [str(tmp_path)], devices=2, prog="ks-train") == 4
    told = capsys.readouterr().err
    assert told.startswith("rank 1 of 2:\nTraceback")
    assert "ZeroDivisionError: the bug" in told
    assert told.endswith("ks-train: this is a bug; please report it with the lines above\n")
    assert "lost the others" not in told


@pytest.mark.usefixtures("forked_ranks")
def test_a_rank_that_is_killed_is_named_and_ends_the_others(tasks: Any, capsys: pytest.CaptureFixture[str]) -> None:
    began = time.monotonic()
    assert launch.ranks(tasks.second_is_killed, [], devices=2, prog="ks-train") == 4
    assert "rank 1 of 2 ended: killed by SIGKILL" in capsys.readouterr().err
    assert time.monotonic() - began < 40


@pytest.mark.usefixtures("forked_ranks")
def test_a_signal_reaches_every_rank_and_the_code_is_theirs(tasks: Any, tmp_path: Path) -> None:
    with sends(signal.SIGTERM, lambda: len(list(tmp_path.glob("*.ready"))) == 2):
        assert launch.ranks(tasks.waits_for_a_signal, [str(tmp_path)], devices=2, prog="ks-train") == 3
    assert [(tmp_path / f"{rank}.stopped").read_text() for rank in range(2)] == ["SIGTERM", "SIGTERM"]


STARTER = """
import sys
sys.path.insert(0, sys.argv[1])
import tasks
from kinetics_sounds.train.distributed import launch
if __name__ == "__main__":
    sys.exit(launch.ranks(tasks.waits_for_a_signal, [sys.argv[2]], devices=2, prog="ks-train"))
"""


@pytest.fixture
def waiting(tmp_path: Path) -> Iterator[Callable[[], tuple[subprocess.Popen[bytes], list[psutil.Process]]]]:
    """A function that starts two ranks which wait for a signal: the starting process, and the ranks."""
    script = tmp_path / "starter.py"
    script.write_text(STARTER)

    started: list[subprocess.Popen[bytes]] = []

    def start() -> tuple[subprocess.Popen[bytes], list[psutil.Process]]:
        process = subprocess.Popen([sys.executable, script, HERE, tmp_path])
        started.append(process)
        until = time.monotonic() + 200
        while len(list(tmp_path.glob("*.ready"))) < 2:
            assert time.monotonic() < until
            time.sleep(0.05)
        return process, psutil.Process(process.pid).children(recursive=True)

    yield start
    for process in started:
        process.kill()
        process.wait()


def test_ranks_do_not_outlive_whoever_started_them(waiting: Any) -> None:
    process, ranks = waiting()
    process.kill()
    process.wait()

    _, alive = psutil.wait_procs(ranks, timeout=30)
    assert alive == []
