"""A signal to this process while its main thread trains."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def sends(number: signal.Signals, when: Callable[[], object]) -> Iterator[None]:
    """Send this process a signal, once, as soon as `when` is true within the block."""
    over = threading.Event()

    def wait() -> None:
        try:
            while not (over.wait(0.05) or when()):
                pass
        finally:  # also if `when` raises: else the test would train on and on
            if not over.is_set():
                os.kill(os.getpid(), number)

    waiting = threading.Thread(target=wait)
    waiting.start()
    try:
        yield
    finally:
        over.set()
        waiting.join()
