"""Checks of this machine: functions that yield findings, each run in its own process by `apart`.

Modules here import their tools within the functions, so that a missing or broken one is a finding instead of a traceback.
"""

import contextlib
import importlib
import json
import math
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum

from kinetics_sounds.address import Address
from kinetics_sounds.command import missing_package
from kinetics_sounds.redact import of_url, redact

PYTHON = (sys.executable, "-P")
"""This interpreter, without the working directory on its path: a `torch.py` there is not torch."""
GIGABYTE = 1e9
_CHILD = f"from {__name__} import answer; answer()"


class Verdict(StrEnum):
    """Severity of a finding."""

    OK = "ok"
    WARNING = "warning"
    """Something works only partly, or less well than it could."""
    MISSING = "missing"
    """Something required is missing or broken."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report."""

    name: str
    verdict: Verdict
    found: str
    remedy: str = ""
    """How to fix it; empty if all is well."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """Parameters of a check; plain values, because they are passed between processes."""

    out: str = "."
    """Data folder; it need not exist."""
    timeout_seconds: float = 120.0
    """Time limit of a check in seconds; it is then killed."""
    subject: str = ""
    """Decoder or source to check, for checks that cover one of several."""
    live_id: str = ""
    """ID of the video to fetch."""


Check = Callable[[Asked], Iterable[Finding]]
"""Yields findings; importable by name."""


def apart(check: Check, asked: Asked) -> list[Finding]:
    """Run a check in its own process; an exception, crash or hang becomes a finding."""
    name = _name(check.__name__, asked)
    argv = [*PYTHON, "-c", _CHILD, check.__module__, check.__name__]
    pipe = subprocess.PIPE
    try:
        child = subprocess.Popen(argv, stdin=pipe, stdout=pipe, stderr=pipe, start_new_session=True)
    except OSError as error:
        remedy = "end other processes, or raise the limit of processes or memory (ulimit -u, docker run --pids-limit)"
        return [Finding(name, Verdict.MISSING, f"no process can be started: {error}", remedy)]
    with child:
        try:
            output, noise = child.communicate(json.dumps(asdict(asked)).encode(), timeout=asked.timeout_seconds)
        except subprocess.TimeoutExpired as error:
            _kill(child)
            return [*_read(error.stdout or b""), _hung(name, asked.timeout_seconds)]
        except BaseException:
            _kill(child)
            raise
    found = _read(output)
    if child.returncode != 0:
        found.append(_died(name, child.returncode, noise, of_url(asked.subject)))
    elif not found:
        found.append(Finding(name, Verdict.MISSING, "the check found nothing", "this is a bug: report it"))
    return found


def answer() -> None:
    """In the child process: run the check named in argv, and print each finding as a line of JSON.

    Parameters come by standard input: others may read a command line, and an address may contain a secret.
    """
    module, name = sys.argv[1:]
    asked = Asked(**json.loads(sys.stdin.buffer.read()))
    signal.alarm(math.ceil(asked.timeout_seconds) + 1)  # should whoever waits be killed first
    ours = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what libraries print is no finding
    try:
        for finding in getattr(importlib.import_module(module), name)(asked):
            print(json.dumps(asdict(finding)), file=ours, flush=True)
    except Exception as error:  # noqa: BLE001 - whatever a check raises is what it found
        print(json.dumps(asdict(_raised(_name(name, asked), error, of_url(asked.subject)))), file=ours, flush=True)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    os.killpg(0, signal.SIGTERM)  # what a killed tool left behind: this process leads a group of its own


def last_words(noise: str) -> str:
    """Last line of a program's output, with an introduction; or nothing."""
    lines = [line.strip() for line in noise.splitlines() if line.strip()]
    return f": {lines[-1][:300]}" if lines else ""


def ending(code: int) -> str:
    """Describe how a process ended, by its return code."""
    if code >= 0:
        return f"its process ended with exit code {code}"
    try:
        return f"its process was killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"its process was killed by signal {-code}"


def _name(check: str, asked: Asked) -> str:
    """Name of a failed check in the report."""
    return f"{check.replace('_', ' ')} {Address(asked.subject)}".strip()


def _read(output: bytes) -> list[Finding]:
    """Findings of complete lines; a line truncated by a kill is ignored."""
    lines = output.decode("utf-8", "replace").splitlines(keepends=True)
    rows = (json.loads(line) for line in lines if line.endswith("\n"))
    return [Finding(row["name"], Verdict(row["verdict"]), row["found"], row["remedy"]) for row in rows]


def _kill(child: "subprocess.Popen[bytes]") -> None:
    """Kill a running child process with its process group."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)


def _hung(name: str, seconds: float) -> Finding:
    remedy = f"try again with nothing else running, or a longer --timeout; if it hangs again, do not use {name} here"
    return Finding(name, Verdict.MISSING, f"took more than {seconds:g} s and was killed", remedy)


def _died(name: str, code: int, noise: bytes, secrets: Sequence[str]) -> Finding:
    found = redact(ending(code) + last_words(noise.decode("utf-8", "replace")), secrets)
    return Finding(name, Verdict.MISSING, found, "reinstall the named package; if that does not help, report it")


def _raised(name: str, error: Exception, secrets: Sequence[str]) -> Finding:
    if isinstance(error, ModuleNotFoundError) and (missing := missing_package(error)):
        return Finding(name, Verdict.MISSING, *missing)
    found = redact(f"{type(error).__name__}: {error}", secrets)
    return Finding(name, Verdict.MISSING, found, "fix or reinstall the named package; if that does not help, report it")
