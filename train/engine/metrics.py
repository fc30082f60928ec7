"""metrics.jsonl and trackers: losses, throughput, device utilization and data-wait time."""

import contextlib
import json
import logging
import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from kinetics_sounds import files

from .. import tracking
from .flops import Utilization

DEAD_SHARE_ALARM = 0.5
"""Fraction of dead channels above which the model is collapsing (docs/decisions/0005)."""

log = logging.getLogger("kinetics_sounds")


@dataclass
class Metrics:
    """Writes the metrics of a run; on resume, drops lines written after the checkpoint."""

    out: Path | None
    """Run folder; None for ranks that do not write."""
    first_step: int
    track: str = "tensorboard"
    """Names of the trackers (`tracking.names`)."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """Facts about the run, for trackers."""
    utilization: Utilization | None = None
    """Converts samples per second to MFU; None if the device's peak is unknown."""
    note: str = ""
    """Latest losses, for the progress bar."""

    def __enter__(self) -> "Metrics":
        self._samples, self._waited, self._began = 0, 0.0, time.perf_counter()
        self._alarmed = False
        if self.out is None:
            return self
        path = self.out / "metrics.jsonl"
        kept = [line for line in _lines(path) if _step(line) < tracking.first_logged(self.first_step)]
        files.write_bytes(path, b"".join(kept))
        with contextlib.ExitStack() as stack:
            self._track = stack.enter_context(
                tracking.track(self.track, self.out, first_step=self.first_step, facts=self.facts)
            )
            stack.enter_context(files.named(path))
            self._file = stack.enter_context(path.open("ab"))
            self._open = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        if self.out is not None:
            self._open.close()

    def timed(self, batches: Iterator[dict[str, torch.Tensor]]) -> Iterator[dict[str, torch.Tensor]]:
        """Pass batches through; measure the time spent waiting for each."""
        while True:
            asked = time.perf_counter()
            batch = next(batches, None)
            if batch is None:
                return
            self._waited += time.perf_counter() - asked
            yield batch

    def count(self, samples: int) -> None:
        """Add to the number of trained samples."""
        self._samples += samples

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Write one line; speeds are averages since the previous line."""
        elapsed = time.perf_counter() - self._began
        speeds = {"samples_per_second": self._samples / elapsed, "data_wait_share": self._waited / elapsed}
        if self.utilization is not None:
            speeds["mfu"] = self.utilization.mfu(speeds["samples_per_second"])
        self._put({"step": step, **values, **speeds})
        self.note = f"loss={values['loss']:.4g} wait={speeds['data_wait_share']:.0%}"
        if values.get("dead_channels", 0.0) > DEAD_SHARE_ALARM and not self._alarmed and self.out is not None:
            self._alarmed = True
            log.warning(
                "step %d: %.0f%% of the channels are dead: the model is collapsing", step, 100 * values["dead_channels"]
            )
        self.restart()

    def validated(self, step: int, values: Mapping[str, float]) -> None:
        """Write a line with validation results; validation time does not count as training time."""
        self._put({"step": step, **values})
        self.restart()

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Exclude the time of the block from speeds."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self._began += time.perf_counter() - began

    def restart(self) -> None:
        """Restart the measurement of speeds."""
        self._samples, self._waited, self._began = 0, 0.0, time.perf_counter()

    def _put(self, line: Mapping[str, float]) -> None:
        if self.out is None:
            return
        with files.named(self.out / "metrics.jsonl"):
            self._file.write((json.dumps(line) + "\n").encode())
            self._file.flush()
        self._track(int(line["step"]), line)


def _lines(path: Path) -> list[bytes]:
    """Complete lines of a file whose last line may be truncated."""
    return (
        [line for line in path.read_bytes().splitlines(keepends=True) if line.endswith(b"\n")] if path.exists() else []
    )


def _step(line: bytes) -> float:
    """Step of a metrics line; infinite for a damaged line, which is then dropped."""
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return math.inf
