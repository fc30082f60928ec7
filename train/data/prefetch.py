"""Prefetch the shards of a remote set into the cache, one shuffle window ahead."""

import logging
import threading
from collections.abc import Generator
from contextlib import contextmanager

from kinetics_sounds.errors import KineticsSoundsError
from kinetics_sounds.stream import Split

from .sampler import Order

log = logging.getLogger("kinetics_sounds")
SECONDS_BETWEEN_LOOKS = 0.5
"""Polling interval for the current window."""


@contextmanager
def prefetch(split: Split, order: Order) -> Generator[None]:
    """Download the next window of remote shards in a background thread for the duration of the block."""
    if split.cache is None:
        yield
        return
    over = threading.Event()

    def fetch() -> None:
        began = order.first_step
        for first_step, shards in order.windows():
            while order.reached < began:  # not before the previous window is read: the cache holds two windows
                if over.wait(SECONDS_BETWEEN_LOOKS):
                    return
            began = first_step
            for shard in shards:
                if over.is_set():
                    return
                try:
                    split.fetch(int(shard))
                except KineticsSoundsError as error:  # the reader of the shard gets the same error, and handles it
                    log.warning("loader: not fetched ahead: %s", error)

    thread = threading.Thread(target=fetch, name="fetch ahead", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
