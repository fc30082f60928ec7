"""Secrets that are looked for in all that a command leaves behind: canaries."""

import io
import multiprocessing.util
import subprocess
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest

WORD = "CANARY"
"""Every secret begins so."""


ODD = "'\"<> "
"""Where a reader may take a URL to end."""


def spoiled(url: str, *, user: bool = True, odd: str = "") -> str:
    """A URL with a secret in each part that may hold one; some that a tool may cut at a dot, a slash or `odd`, or unquote."""
    at = f"{WORD}u1:{WORD}p1{odd}{WORD}p2@" if user else ""
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{at}{rest}?sig={WORD}q1{odd}/{WORD}r1.{WORD}s1%2F{WORD}t1#{WORD}f1{odd}{WORD}g1"


@dataclass
class Argv:
    """The command lines of the processes that were started."""

    words: list[str] = field(default_factory=list)


@pytest.fixture
def argv(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Argv:
    """Of every child of this process, however it is started; in a folder of its own, where a URL may be taken for a path."""
    monkeypatch.chdir(tmp_path)
    seen = Argv()
    start, spawn = subprocess.Popen.__init__, multiprocessing.util.spawnv_passfds

    def popen(self: Any, args: Any, *more: Any, **named: Any) -> None:
        seen.words += [str(args)] if isinstance(args, str | bytes | Path) else map(str, args)
        start(self, args, *more, **named)

    def spawned(path: Any, args: Any, passed: Any) -> Any:
        seen.words += map(str, args)
        return spawn(path, args, passed)

    monkeypatch.setattr(subprocess.Popen, "__init__", popen)
    monkeypatch.setattr(multiprocessing.util, "spawnv_passfds", spawned)
    return seen


def told(folder: Path) -> Iterator[tuple[str, str]]:
    """What each file below a folder says and is called: of a table its cells, of an archive its members."""
    for path in sorted(folder.rglob("*")):
        yield f"the name {path}", path.name
        if not path.is_file():
            continue
        yield str(path), path.read_bytes().decode("latin-1")  # SQLite's and TensorBoard's hold texts as they are
        if path.suffix == ".parquet":
            table = pyarrow.parquet.read_table(path)
            yield f"{path} as a table", f"{table.to_pylist()} {table.schema.metadata}"
        if path.suffix == ".tar":
            with tarfile.open(fileobj=io.BytesIO(path.read_bytes())) as archive:
                yield f"{path} as an archive", str(archive.getnames())


def sing(folder: Path, argv: Argv, capture: pytest.CaptureFixture[str]) -> list[str]:
    """Where a secret was told: an output, the log, a command line, or a file below a folder."""
    out, err = capture.readouterr()
    said = {"standard output": out, "standard error": err, "a command line": "\n".join(argv.words)}
    texts = [*said.items(), *told(folder)]
    return [f"{place}: {_around(text)}" for place, text in texts if WORD in text]


def _around(text: str) -> str:
    at = text.index(WORD)
    return text[max(0, at - 80) : at + 80]
