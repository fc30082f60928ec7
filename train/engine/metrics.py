"""metrics.jsonl and TensorBoard: losses, samples a second, and the share of time spent waiting for data."""

import contextlib
import json
import logging
import math
import threading
import time
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from kinetics_sounds import files

DEAD_SHARE_ALARM = 0.5
"""Above this share of dead channels the model is collapsing (docs/decisions/0005)."""

log = logging.getLogger("kinetics_sounds")


@dataclass
class Metrics:
    """What a run tells of its steps; a run that goes on drops what was written after its checkpoint."""

    out: Path | None
    """The run's folder; None for a rank that does not write."""
    first_step: int
    note: str = ""
    """The last losses, for the progress bar."""

    def __enter__(self) -> "Metrics":
        self._samples, self._waited, self._began = 0, 0.0, time.perf_counter()
        self._alarmed = False
        if self.out is None:
            return self
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # TensorBoard's own imports warn of their dependencies
            from torch.utils.tensorboard import SummaryWriter
        path = self.out / "metrics.jsonl"
        kept = [line for line in _lines(path) if _step(line) <= self.first_step]
        files.write_bytes(path, b"".join(kept))
        with contextlib.ExitStack() as stack:
            stack.enter_context(_silent_tensorboard())
            stack.enter_context(files.named(self.out / "tensorboard"))
            self._board = SummaryWriter(str(self.out / "tensorboard"), purge_step=self.first_step + 1)
            stack.callback(self._board.close)
            stack.enter_context(files.named(path))
            self._file = stack.enter_context(path.open("ab"))
            self._open = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        if self.out is not None:
            self._open.close()

    def timed(self, batches: Iterator[dict[str, torch.Tensor]]) -> Iterator[dict[str, torch.Tensor]]:
        """The same batches; the time until each one comes is counted as waiting."""
        while True:
            asked = time.perf_counter()
            batch = next(batches, None)
            if batch is None:
                return
            self._waited += time.perf_counter() - asked
            yield batch

    def count(self, samples: int) -> None:
        """So many samples were learnt from."""
        self._samples += samples

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """One line; speeds are those since the last."""
        elapsed = time.perf_counter() - self._began
        speeds = {"samples_per_second": self._samples / elapsed, "data_wait_share": self._waited / elapsed}
        self._put({"step": step, **values, **speeds})
        self.note = f"loss={values['loss']:.4g} wait={speeds['data_wait_share']:.0%}"
        if values.get("dead_channels", 0.0) > DEAD_SHARE_ALARM and not self._alarmed and self.out is not None:
            self._alarmed = True
            log.warning(
                "step %d: %.0f%% of the channels are dead: the model is collapsing", step, 100 * values["dead_channels"]
            )
        self.restart()

    def validated(self, step: int, values: Mapping[str, float]) -> None:
        """A line of what a validation found; its time is no step's."""
        self._put({"step": step, **values})
        self.restart()

    def restart(self) -> None:
        """Count speeds from now on."""
        self._samples, self._waited, self._began = 0, 0.0, time.perf_counter()

    def _put(self, line: Mapping[str, float]) -> None:
        if self.out is None:
            return
        with files.named(self.out / "metrics.jsonl"):
            self._file.write((json.dumps(line) + "\n").encode())
            self._file.flush()
        with files.named(self.out / "tensorboard"):
            for name, value in line.items():
                self._board.add_scalar(name, value, line["step"])
            self._board.flush()


@contextlib.contextmanager
def _silent_tensorboard() -> Iterator[None]:
    """Print no traceback of TensorBoard's thread within the block: what it raises is raised where the next value is written."""
    before = threading.excepthook

    def call(failed: threading.ExceptHookArgs) -> None:
        if type(failed.thread).__module__ != "tensorboard.summary.writer.event_file_writer":
            before(failed)

    threading.excepthook = call
    try:
        yield
    finally:
        threading.excepthook = before


def _lines(path: Path) -> list[bytes]:
    """Whole lines of a file that may have been cut off in its last."""
    return (
        [line for line in path.read_bytes().splitlines(keepends=True) if line.endswith(b"\n")] if path.exists() else []
    )


def _step(line: bytes) -> float:
    """The step that a line of metrics tells of; infinite for a damaged line, which is dropped."""
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return math.inf
