"""TensorBoard: event files in RUN/tensorboard."""

import contextlib
import threading
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from kinetics_sounds import files

from . import Write, first_logged


@contextlib.contextmanager
def track(out: Path, *, first_step: int, facts: Mapping[str, Any]) -> Iterator[Write]:
    """Write values as scalars; on resume, earlier values of repeated steps are purged."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TensorBoard's imports emit warnings about dependencies
        from torch.utils.tensorboard import SummaryWriter
    folder = out / "tensorboard"
    with _silent(), files.named(folder), contextlib.ExitStack() as stack:
        board: Any = SummaryWriter(str(folder), purge_step=first_logged(first_step))
        stack.callback(board.close)

        def write(step: int, values: Mapping[str, float]) -> None:
            with files.named(folder):
                for name, value in values.items():
                    board.add_scalar(name, value, step)
                board.flush()

        yield write


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Suppress the traceback of TensorBoard's thread; its error is raised at the next write."""
    before = threading.excepthook

    def call(failed: threading.ExceptHookArgs) -> None:
        if type(failed.thread).__module__ != "tensorboard.summary.writer.event_file_writer":
            before(failed)

    threading.excepthook = call
    try:
        yield
    finally:
        threading.excepthook = before
