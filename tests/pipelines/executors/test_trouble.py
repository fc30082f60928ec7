"""A mailbox on a disk that is away for a moment, as NFS is: what is read is stale, or cannot be read at all."""

import errno
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kinetics_sounds.pipelines.executors.slurm import mailbox as module
from kinetics_sounds.pipelines.executors.slurm.mailbox import Mailbox, serve


class Stale:
    """Stands for a function that says so the first few times that the path has this in it, and then works."""

    def __init__(self, function: Callable[..., Any], part: str, times: int, *, late: bool = False) -> None:
        self.function, self.part, self.left, self.late = function, part, times, late

    def __call__(self, path: Any, *arguments: Any, **more: Any) -> Any:
        if self.left == 0 or self.part not in str(path):
            return self.function(path, *arguments, **more)
        self.left -= 1
        if self.late:  # carried out, but its answer was lost
            self.function(path, *arguments, **more)
        raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))


@pytest.fixture
def box(tmp_path: Path) -> Mailbox:
    box = Mailbox(tmp_path / "box")
    box.make()
    box.beat(0)
    return box


def test_no_news_of_the_driver_is_not_its_death(box: Mailbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.signal, "signal", lambda *_: None)
    leave = module.Leave(box, patience_seconds=0.3)
    assert not leave
    monkeypatch.setattr(Path, "read_bytes", method(Stale(Path.read_bytes, "alive", 1000)))

    assert box.pulse() is None
    assert not leave
    assert not leave
    time.sleep(0.4)
    assert leave  # patience has its end


def method(stale: Stale) -> Callable[..., Any]:
    return lambda self, *arguments, **more: stale(self, *arguments, **more)


def test_a_greeting_that_is_replaced_while_it_is_read_comes_with_the_next_look(
    box: Mailbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    for job in ("7_0", "7_1"):
        box.greet(job)
    monkeypatch.setattr(Path, "read_bytes", method(Stale(Path.read_bytes, "hello/7_0", 1)))

    assert list(box.greetings()) == ["7_1"]
    assert sorted(box.greetings()) == ["7_0", "7_1"]


def test_a_result_that_cannot_be_read_stays_for_the_next_look(box: Mailbox, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in (1, 2):
        box.put(number, None, timeout_seconds=9)
        claim = box.claim("7_0", "a")
        assert claim is not None
        box.answer(claim, -number)
    monkeypatch.setattr(os, "open", Stale(os.open, "results/000000000001", 1))

    assert box.take({1, 2}) == {2: -2}
    assert box.take({1}) == {1: -1}


def test_what_nfs_leaves_behind_of_a_removed_file_is_no_task_and_no_job(box: Mailbox) -> None:
    for kind in ("tasks", "claimed", "results", "hello"):
        (box.folder / kind / ".nfs00000000001").touch()

    assert box.claim("7_0", "a") is None
    assert (box.claims(), box.take({1}), box.greetings()) == ([], {}, {})


@pytest.mark.parametrize(
    ("owner", "name", "part", "late"),
    [
        (os, "utime", "tasks", False),
        (Path, "rename", "tasks/000000000001", True),
        (os, "open", "claimed/000000000001", False),
        (Path, "write_bytes", "results/000000000001", False),
        (Path, "read_text", "token", False),
    ],
)
def test_a_job_outlives_a_disk_that_is_away_and_does_every_task_once(
    owner: Any, name: str, part: str, late: bool, box: Mailbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SECONDS_BETWEEN_LOOKS", 0.05)
    monkeypatch.setattr(module.signal, "signal", lambda *_: None)
    stale = Stale(getattr(owner, name), part, 1, late=late)
    monkeypatch.setattr(owner, name, stale if owner is os else method(stale))
    for number in (1, 2):
        box.put(number, -number, timeout_seconds=9)
    job = threading.Thread(target=serve, args=(box, abs), kwargs={"job": "7_0", "patience_seconds": 20}, daemon=True)
    job.start()
    found: dict[int, Any] = {}
    deadline = time.monotonic() + 15
    while len(found) < 2 and time.monotonic() < deadline:
        found.update(box.take({1, 2}))
        time.sleep(0.05)
    box.dismiss()
    job.join(15)

    assert found == {1: 1, 2: 2}
    assert (stale.left, job.is_alive(), box.claims()) == (0, False, [])
