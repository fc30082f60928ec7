"""Arrays in shared memory that worker processes fill."""

import ctypes
import shutil
import tempfile
from collections.abc import Sequence
from multiprocessing.context import ForkServerContext, SpawnContext
from pathlib import Path
from typing import Any

import numpy as np

Context = ForkServerContext | SpawnContext

SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - where Linux keeps it, not a temporary file of ours


class Shared:
    """Zero-initialized array that processes map instead of copying; freed with the last of them."""

    def __init__(self, context: Context, shape: Sequence[int], dtype: np.dtype[Any]) -> None:
        """Allocate the array for processes of this multiprocessing `context`."""
        self.shape, self.dtype = tuple(shape), dtype
        self.bytes = int(np.prod(self.shape, dtype=np.int64)) * dtype.itemsize
        self._memory = context.RawArray(ctypes.c_uint8, max(self.bytes, 1))

    @property
    def array(self) -> np.ndarray:
        """View of the memory as an array."""
        return np.ndarray(self.shape, dtype=self.dtype, buffer=memoryview(self._memory))


def room() -> tuple[Path, int]:
    """Folder of shared memory, and its free bytes."""
    folder = SHARED_MEMORY if SHARED_MEMORY.is_dir() else Path(tempfile.gettempdir())
    return folder, shutil.disk_usage(folder).free
