"""Cores that a process may use, of a machine that is shared."""

import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

from kinetics_sounds import cores
from kinetics_sounds.pipelines import shard
from kinetics_sounds.pipelines.fetching.build_settings import BuildSettings
from kinetics_sounds.train.config.settings import TrainSettings


@pytest.mark.parametrize(
    ("bound", "granted", "usable"), [(8, math.inf, 8), (3, math.inf, 3), (3, 8, 3), (8, 2.5, 2), (8, 0.5, 1)]
)
def test_the_smaller_of_affinity_and_quota_is_used_and_one_at_least(
    bound: int, granted: float, usable: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(bound)))
    monkeypatch.setattr(cores, "quota", lambda: granted)

    assert cores.usable() == usable


def test_workers_are_counted_by_the_cores_that_may_be_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2})
    monkeypatch.setattr(cores, "quota", lambda: math.inf)

    assert (BuildSettings().workers, shard.ShardSettings().workers, TrainSettings().workers) == (3, 3, 2)


@pytest.mark.parametrize(
    ("mine", "settings", "granted"),
    [
        ("0::/", {"cpu.max": "150000 100000"}, 1.5),
        ("0::/", {"cpu.max": "max 100000"}, float("inf")),
        ("0::/job/step", {"job/cpu.max": "400000 100000", "job/step/cpu.max": "max 100000"}, 4),
        ("0::/job/step", {"job/cpu.max": "400000 100000", "job/step/cpu.max": "200000 100000"}, 2),
        ("4:memory:/m\n1:cpu,cpuacct:/d/1", {"cpu,cpuacct/d/1/cpu.cfs": "300000 100000"}, 3),
        ("1:cpu:/docker/1", {"cpu/cpu.cfs": "50000 100000"}, 0.5),  # a container sees its own group as the root
        ("1:cpu:/", {"cpu/cpu.cfs": "-1 100000"}, float("inf")),
        ("4:memory:/m", {"cpu.max": "100000 100000"}, float("inf")),
    ],
)
def test_control_groups_of_both_versions_are_read(
    mine: str, settings: dict[str, str], granted: float, tmp_path: Path
) -> None:
    groups = tmp_path / "groups"
    for name, text in settings.items():
        place = groups / name
        place.parent.mkdir(parents=True, exist_ok=True)
        if place.name == "cpu.max":
            place.write_text(text + "\n")
        else:
            for suffix, number in zip(("quota_us", "period_us"), text.split(), strict=True):
                place.with_name(f"cpu.cfs_{suffix}").write_text(number + "\n")
    (tmp_path / "mine").write_text(mine + "\n")

    assert cores.quota(mine=tmp_path / "mine", groups=groups) == granted


@pytest.mark.parametrize(
    ("device", "environ", "policy"),
    [
        (None, {}, "PASSIVE"),
        (None, {"OMP_WAIT_POLICY": "ACTIVE"}, "ACTIVE"),
        ("nvidiactl", {}, None),
        ("kfd", {}, None),
    ],
)
def test_threads_wait_passively_where_there_is_no_gpu_and_the_user_has_not_chosen(
    device: str | None, environ: dict[str, str], policy: str | None, tmp_path: Path
) -> None:
    if device:
        (tmp_path / device).touch()

    cores.wait_passively(environ, devices=tmp_path)

    assert environ.get("OMP_WAIT_POLICY") == policy


def test_openmp_of_a_command_reads_the_policy(tmp_path: Path) -> None:
    """Set before torch is imported, or its OpenMP would not see it."""
    told = subprocess.run(
        [sys.executable, "-m", "kinetics_sounds.train", "--config", "nowhere"],
        check=False,
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={"PATH": "/usr/bin:/bin", "OMP_DISPLAY_ENV": "TRUE"},
        timeout=120,
    ).stderr

    wanted = "ACTIVE" if any((Path("/dev") / name).exists() for name in cores.GPU_DEVICES) else "PASSIVE"
    assert f"OMP_WAIT_POLICY = '{wanted}'" in told
