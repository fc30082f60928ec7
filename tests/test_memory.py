"""Memory that a process may take, of a machine that is shared."""

from pathlib import Path

import pytest

from kinetics_sounds import memory

GB = 10**9


@pytest.mark.parametrize(
    ("mine", "limits", "total"),
    [
        ("0::/", {}, 16_000_000 * 1024),
        ("0::/job/step", {"job/memory.max": f"{4 * GB}", "job/step/memory.max": "max"}, 4 * GB),
        ("0::/job", {"job/memory.max": f"{99 * GB}"}, 16_000_000 * 1024),
        ("4:memory:/m\n1:cpu:/c", {"memory/m/memory.limit_in_bytes": f"{2 * GB}"}, 2 * GB),
        ("1:cpu:/c", {"cpu/c/memory.max": f"{GB}"}, 16_000_000 * 1024),
    ],
)
def test_it_is_the_machines_or_the_least_limit(mine: str, limits: dict[str, str], total: int, tmp_path: Path) -> None:
    (tmp_path / "meminfo").write_text("MemTotal:       16000000 kB\nMemFree:         1 kB\n")
    (tmp_path / "cgroup").write_text(mine + "\n")
    for name, text in limits.items():
        place = tmp_path / "groups" / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text + "\n")

    found = memory.total(meminfo=tmp_path / "meminfo", mine=tmp_path / "cgroup", groups=tmp_path / "groups")

    assert found == total


def test_a_system_that_does_not_say_has_no_limit(tmp_path: Path) -> None:
    assert memory.total(meminfo=tmp_path / "no", mine=tmp_path / "no", groups=tmp_path) == float("inf")
