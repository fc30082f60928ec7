"""Ctrl-C (SIGINT) while modules are imported and while processes are started."""

import contextlib
import signal
from collections.abc import Iterator


@contextlib.contextmanager
def ended_by_interrupt() -> Iterator[None]:
    """While modules are imported, Ctrl-C ends the process at once, in silence.

    A KeyboardInterrupt would print a traceback, or be swallowed by a package that tries to import another.
    """
    before = signal.getsignal(signal.SIGINT)
    if before is signal.default_int_handler:  # neither ignored, as below nohup, nor handled
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextlib.contextmanager
def interrupts_blocked() -> Iterator[None]:
    """Start processes and threads for which Ctrl-C is not meant: they inherit the blocked SIGINT. Ours waits meanwhile."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
