"""Readers of files that take too much; in a file of its own, for processes import it by name."""

import os
import time
from pathlib import Path
from typing import BinaryIO


def spins(_file: BinaryIO, _out: Path) -> None:
    while True:
        pass


def waits(_file: BinaryIO, _out: Path) -> None:
    time.sleep(60)


def dies(_file: BinaryIO, _out: Path) -> None:
    os.abort()


def writes(_file: BinaryIO, out: Path) -> None:
    out.write_bytes(bytes(1 << 20))


def allocates(_file: BinaryIO, _out: Path) -> int:
    return len(bytearray(1 << 28))


def tells(_file: BinaryIO, _out: Path) -> str:
    return "x" * (5 << 20)
