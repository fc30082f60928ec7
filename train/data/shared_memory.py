"""Arrays in shared memory that worker processes fill."""

import ctypes
import mmap
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
    """Zero-initialized array that processes map instead of copying; freed with the last of them.

    It has pages of its own, which can be page-locked.
    """

    def __init__(self, context: Context, shape: Sequence[int], dtype: np.dtype[Any]) -> None:
        """Allocate the array for processes of this multiprocessing `context`."""
        self.shape, self.dtype = tuple(shape), dtype
        self.bytes = int(np.prod(self.shape, dtype=np.int64)) * dtype.itemsize
        self._memory = context.RawArray(ctypes.c_uint8, (self.bytes // mmap.PAGESIZE + 2) * mmap.PAGESIZE)

    @property
    def array(self) -> np.ndarray:
        """View of the memory as an array."""
        first = -ctypes.addressof(self._memory) % mmap.PAGESIZE  # the same in all processes, which map whole pages
        return np.ndarray(self.shape, dtype=self.dtype, buffer=memoryview(self._memory), offset=first)


def room() -> tuple[Path, int]:
    """Folder of shared memory, and its free bytes."""
    folder = SHARED_MEMORY if SHARED_MEMORY.is_dir() else Path(tempfile.gettempdir())
    return folder, shutil.disk_usage(folder).free
