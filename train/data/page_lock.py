"""Copies from the loader's ring to a GPU, by the GPU itself: the cores are busy decoding."""

import contextlib
import logging
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import Any

import torch

from .shared_memory import Shared

log = logging.getLogger("kinetics_sounds")


@contextmanager
def page_locked(ring: Mapping[str, Shared], device: torch.device) -> Generator[None]:
    """Page-lock the ring for the block: a GPU then reads it itself, without a copy by this process, whose cores decode.

    Where the driver refuses, copies go through the driver's own buffers: slower, with the same result.
    """
    if device.type != "cuda":
        yield
        return
    arrays = [each.array for each in ring.values()]
    locked = [array.ctypes.data for array in arrays if _register(array.ctypes.data, array.nbytes, device)]
    try:
        yield
    finally:
        torch.cuda.synchronize(device)  # no copy is under way
        for address in locked:
            _driver().cudaHostUnregister(address)


def _register(address: int, size: int, device: torch.device) -> bool:
    """Page-lock memory; False, and a warning, if the driver refuses."""
    code = int(_driver().cudaHostRegister(address, size, 0))
    if code:
        with contextlib.suppress(RuntimeError):  # the driver's last error, which the next operation would raise
            torch.zeros(1, device=device)
        log.warning("loader: cannot page-lock %d bytes (CUDA error %d): copies to the GPU are slower", size, code)
    return not code


def _driver() -> Any:  # noqa: ANN401 - CUDA's runtime has no types
    return torch.cuda.cudart()  # type: ignore[no-untyped-call]


class CopiedSlots:
    """Slot of the ring that is being copied to the device, and may be filled again when that is done."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._event = torch.cuda.Event() if device.type == "cuda" else None  # type: ignore[no-untyped-call]
        self._slots: list[int] = []

    def begin(self, slot: int) -> None:
        """Note that the copies of this slot have been asked for."""
        self._slots.append(slot)
        if self._event is not None:
            self._event.record(torch.cuda.current_stream(self._device))  # which need not be the current device's

    def slots(self) -> list[int]:
        """Wait for the copies, and return their slots."""
        if self._event is not None:
            self._event.synchronize()
        slots, self._slots = self._slots, []
        return slots
