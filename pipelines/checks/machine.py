"""Checks of the machine: clock, cores, open files, shared memory."""

import math
import os
import re
import resource
import shutil
import sys
import sysconfig
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from importlib import metadata
from pathlib import Path

from kinetics_sounds import cores as usable_cores

from . import GIGABYTE, Asked, Finding, Verdict

SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - looked at, not written to
FEW_FILES = 1024
"""Number of open files that a loader with many workers soon needs."""
_CALENDAR = re.compile(r"(20\d\d)\.(\d{1,2})\.(\d{1,2})(?!\d)")
"""A version that is a date, as those of yt-dlp and certifi."""


def clock(_asked: Asked) -> Iterator[Finding]:
    """Whether the clock is later than what is installed; TLS fails with a wrong clock."""
    now = datetime.now(UTC)
    newest, what = max(_releases())
    found = f"{now:%Y-%m-%d %H:%M} UTC"
    if now + timedelta(days=1) < newest:
        found += f"; before {what} on {newest:%Y-%m-%d}"
        remedy = (
            "set the clock (timedatectl set-ntp true; of a container: its host's); downloads fail with a wrong clock"
        )
        yield Finding("clock", Verdict.MISSING, found, remedy)
    else:
        yield Finding("clock", Verdict.OK, found)


def _releases() -> Iterator[tuple[datetime, str]]:
    """Dates that are surely past: when packages were installed, and release dates of packages versioned by date."""
    installed = Path(sysconfig.get_path("purelib")).stat().st_mtime
    yield datetime.fromtimestamp(installed, UTC), "packages were last installed"
    for distribution in metadata.distributions():
        day = calendar_version(distribution.version or "")
        if day is not None:
            yield day, f"{distribution.name} {distribution.version} came out"


def calendar_version(version: str) -> datetime | None:
    """Date of a version such as 2026.7.4; None for other versions."""
    found = _CALENDAR.match(version)
    try:
        return datetime(int(found[1]), int(found[2]), int(found[3]), tzinfo=UTC) if found else None
    except ValueError:
        return None


def cores(_asked: Asked) -> Iterator[Finding]:
    """Cores that this process may use, which is what commands count."""
    there, bound, granted = os.cpu_count() or 1, usable_cores.of_affinity(), usable_cores.quota()
    usable = usable_cores.usable()
    if usable == there:
        yield Finding("cores", Verdict.OK, f"{there}")
        return
    why = f"affinity allows {bound}" + (f", control groups grant {granted:g}" if math.isfinite(granted) else "")
    yield Finding("cores", Verdict.OK, f"{usable} of {there} may be used ({why})")


def open_files(_asked: Asked) -> Iterator[Finding]:
    """Maximum number of open files of a process."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = "no limit" if hard == resource.RLIM_INFINITY else f"at most {hard}"
    if soft == resource.RLIM_INFINITY or soft >= FEW_FILES:
        yield Finding("open files", Verdict.OK, "no limit" if soft == resource.RLIM_INFINITY else f"{soft}")
    else:
        remedy = f"ulimit -n {FEW_FILES * 64 if hard == resource.RLIM_INFINITY else hard} before the command"
        if 0 <= hard < FEW_FILES:
            remedy = "raise the hard limit (/etc/security/limits.conf, or docker run --ulimit nofile=65536)"
        yield Finding("open files", Verdict.WARNING, f"{soft} a process ({most})", remedy)


def shared_memory(_asked: Asked) -> Iterator[Finding]:
    """Free space in /dev/shm, used by loaders to pass batches: if it is full, they die of a bus error."""
    remedy = (
        "docker run --shm-size=8g (Kubernetes: an emptyDir of medium Memory at /dev/shm), or train with --workers 0"
    )
    if not SHARED_MEMORY.is_dir():
        verdict, told = (Verdict.WARNING, remedy) if sys.platform == "linux" else (Verdict.OK, "")
        yield Finding("shared memory", verdict, f"there is no {SHARED_MEMORY}", told)
        return
    usage = shutil.disk_usage(SHARED_MEMORY)
    found = f"{usage.free / GIGABYTE:.1f} GB free of {usage.total / GIGABYTE:.1f} GB at {SHARED_MEMORY}"
    if not os.access(SHARED_MEMORY, os.W_OK):
        yield Finding("shared memory", Verdict.WARNING, f"{SHARED_MEMORY} may not be written to", remedy)
    elif usage.free < GIGABYTE:
        yield Finding("shared memory", Verdict.WARNING, found, remedy)
    else:
        yield Finding("shared memory", Verdict.OK, found)
