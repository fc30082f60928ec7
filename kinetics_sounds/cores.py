"""Number of processor cores that this process may use, on machines that are shared too."""

import math
import os
from collections.abc import Iterator, MutableMapping
from pathlib import Path

GPU_DEVICES = ("nvidiactl", "kfd", "dxg")
"""Device files of GPUs: NVIDIA's driver, AMD's, and either's under WSL."""


def usable() -> int:
    """Number of cores that this process may use: those of its affinity, at most the quota of its control groups; at least 1."""
    return max(1, math.floor(min(of_affinity(), quota())))


def of_affinity() -> int:
    """Number of cores that this process may run on (sched_setaffinity: taskset, Slurm, docker --cpuset-cpus)."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def quota(*, mine: Path = Path("/proc/self/cgroup"), groups: Path = Path("/sys/fs/cgroup")) -> float:
    """Cores granted to this process by its control groups (v1 or v2; docker --cpus); infinite without a limit."""
    return min(map(_granted, control_groups("cpu", mine=mine, groups=groups)), default=math.inf)


def control_groups(controller: str, *, mine: Path, groups: Path) -> Iterator[Path]:
    """Folders in which limits of a controller on this process may stand: of its control groups (v1 or v2), innermost first."""
    for line in mine.read_text().splitlines() if mine.is_file() else ():
        _, controllers, place = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        for mount in (groups, groups / "unified", groups / controllers, groups / controller):
            inner = mount / place.lstrip("/")
            for folder in (inner, *inner.parents):
                if folder.is_relative_to(mount):
                    yield folder


def _granted(folder: Path) -> float:
    """Cores granted by one control group."""
    try:
        limit, period = (folder / "cpu.max").read_text().split()
    except (OSError, ValueError):
        try:
            limit, period = ((folder / f"cpu.cfs_{name}_us").read_text().strip() for name in ("quota", "period"))
        except OSError:
            return math.inf
    return int(limit) / int(period) if limit != "max" and int(limit) > 0 else math.inf


def wait_passively(environ: MutableMapping[str, str] = os.environ, *, devices: Path = Path("/dev")) -> None:
    """Have OpenMP's threads sleep while they wait for each other rather than spin, unless the user chose or there is a GPU.

    To be called before torch is imported. Spinning threads take the cores from loading processes and from other jobs of a
    shared machine.
    """
    if not any((devices / name).exists() for name in GPU_DEVICES):
        environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
