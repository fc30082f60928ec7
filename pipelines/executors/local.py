"""Worker processes on this machine."""

from collections.abc import Callable
from pathlib import Path
from typing import Generic

from ..process_pool import SupervisedPool
from . import R, T


class Pool(SupervisedPool[T, R], Generic[T, R]):
    """`workers` processes, started by spawning."""

    def __init__(
        self, function: Callable[[T], R], *, workers: int, folder: Path | None = None, options: object = None
    ) -> None:
        """Processes start with the first task; `folder` and `options` are unused."""
        del folder, options
        super().__init__(function, workers=workers)
