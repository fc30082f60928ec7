"""What is told of a run's steps, and what becomes of it on a disk that fails."""

import errno
import threading
from pathlib import Path
from typing import Any

import pytest
from tensorboard.compat.tensorflow_stub.io.gfile import LocalFileSystem  # type: ignore[import-untyped]

from kinetics_sounds.train.engine.metrics import Metrics


def test_a_disk_that_fails_in_the_thread_of_tensorboard_is_one_error_without_its_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    real, failing = LocalFileSystem._write, threading.Event()

    def write(system: Any, name: Any, data: Any, mode: str) -> None:
        if failing.is_set() and threading.current_thread() is not threading.main_thread():
            raise OSError(errno.EIO, "Input/output error")
        real(system, name, data, mode)

    def learn() -> None:
        with Metrics(tmp_path, first_step=0) as metrics:
            failing.set()
            for thread in threading.enumerate():
                vars(thread)["_next_flush_time"] = 0.0  # the thread writes at once, not in two minutes
            for step in range(1, 1000):
                metrics.write(step, {"loss": 1.0})

    before = threading.excepthook
    monkeypatch.setattr(LocalFileSystem, "_write", write)
    with pytest.raises(OSError, match="Input/output error") as caught:
        learn()
    assert caught.value.filename == str(tmp_path / "tensorboard")
    assert capfd.readouterr().err == ""
    assert threading.excepthook is before
