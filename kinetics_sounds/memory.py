"""Memory that this process may take, on machines that are shared too."""

import math
from pathlib import Path

from . import cores


def total(
    *,
    meminfo: Path = Path("/proc/meminfo"),
    mine: Path = Path("/proc/self/cgroup"),
    groups: Path = Path("/sys/fs/cgroup"),
) -> float:
    """Bytes of the machine, at most the limit of its control groups (v1 or v2; docker --memory, Slurm); infinite if unknown."""
    least = math.inf
    if meminfo.is_file():
        found = next((line for line in meminfo.read_text().splitlines() if line.startswith("MemTotal:")), None)
        least = least if found is None else 1024.0 * int(found.split()[1])
    for folder in cores.control_groups("memory", mine=mine, groups=groups):
        for name in ("memory.max", "memory.limit_in_bytes"):
            try:
                limit = (folder / name).read_text().strip()
            except OSError:
                continue
            least = least if limit == "max" else min(least, float(limit))
    return least
