"""What Ray adds: nodes come and go, and not every one sees every folder."""

import contextlib
import operator
import os
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from kinetics_sounds.errors import SettingsError
from kinetics_sounds.extras import pip_install
from kinetics_sounds.pipelines.executors import Cause, ray

from .conftest import CAN_HIDE, ONE_RAY, Cluster, kill_tree, wait_for

pytestmark = [pytest.mark.slow, ONE_RAY]


@pytest.fixture
def cluster(ray_cluster: Cluster) -> Cluster:
    return ray_cluster


def nodes_alive() -> int:
    import ray as tool

    return sum(node["Alive"] for node in tool.nodes())


@pytest.mark.slow_campaign
def test_tasks_survive_the_loss_of_a_node_and_give_their_result_once(cluster: Cluster, tmp_path: Path) -> None:
    assert cluster.add_node is not None
    found: list[Any] = []
    with contextlib.closing(ray.Pool(time.sleep, workers=3, folder=tmp_path, options=cluster.options)) as pool:
        node = cluster.add_node()
        assert wait_for(lambda: nodes_alive() == 3)
        tasks = [0.8 + number / 1000 for number in range(6)]
        for task in tasks:
            pool.submit(task, timeout_seconds=30)
        found += pool.finished(10)
        assert wait_for(lambda: watched_below(node.pid))
        kill_tree(node.pid)
        while pool.busy:
            found += pool.finished(1)

    assert sorted(found) == [(task, None) for task in tasks]


def test_no_worker_has_the_working_folder_on_its_path(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with contextlib.closing(ray.Pool(eval, workers=1, folder=tmp_path, options=cluster.options)) as pool:
        pool.submit("__import__('sys').path", timeout_seconds=30)
        found: list[Any] = []
        while pool.busy:
            found += pool.finished(1)

    [(_, path)] = found
    assert not {"", str(tmp_path)}.intersection(path)


def watched_below(pid: int) -> list[psutil.Process]:
    """A node's processes that run tasks."""
    with contextlib.suppress(psutil.NoSuchProcess):
        below = psutil.Process(pid).children(recursive=True)
        return [each for each in below if "spawn_main" in " ".join(each.cmdline())]
    return []


@pytest.mark.slow_campaign
def test_a_task_that_takes_its_ray_worker_with_it_is_not_run_for_ever(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray, "MAX_ATTEMPTS", 2)
    kill = partial(os.system, "kill -KILL $(ps -o ppid= $PPID)")
    with contextlib.closing(ray.Pool(operator.call, workers=1, folder=tmp_path, options=cluster.options)) as pool:
        pool.submit(kill, timeout_seconds=30)
        found: list[Any] = []
        while pool.busy:
            found += pool.finished(1)

    [(_, failed)] = found
    assert failed.cause is Cause.DIED
    assert failed.detail.startswith("it was lost 2 times with the Ray worker that ran it, last: ")


@pytest.mark.skipif(not CAN_HIDE, reason="only root can give a node another view of the disk")
def test_a_node_that_does_not_see_the_folder_is_named_before_the_work(cluster: Cluster) -> None:
    began = time.monotonic()

    with pytest.raises(
        SettingsError, match=r"node \S+ \(\S+\) does not see .*; give an --out below a folder that every"
    ):
        ray.Pool(abs, workers=1, folder=cluster.hidden, options=cluster.options)

    assert time.monotonic() - began < 20


@pytest.mark.skipif(not CAN_HIDE, reason="only root can give a node another view of the disk")
def test_a_node_that_joins_later_and_does_not_see_the_folder_gets_no_more_tasks(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(ray, "_probe", lambda *_: None)  # it came after that
    tasks = [0.3 + number / 1000 for number in range(4)]
    with contextlib.closing(ray.Pool(time.sleep, workers=2, folder=cluster.hidden, options=cluster.options)) as pool:
        for task in tasks:
            pool.submit(task, timeout_seconds=30)
        found = drain(pool)

    assert sorted(found) == [(task, None) for task in tasks]
    [warning] = caplog.messages
    assert "does not see" in warning
    assert warning.endswith(": it gets no more tasks")


def test_where_no_node_is_left_that_can_take_part_all_are_named(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray, "_probe", lambda *_: None)
    monkeypatch.setattr(ray, "__version__", "9.9")  # that of the driver alone
    with contextlib.closing(ray.Pool(abs, workers=2, folder=tmp_path, options=cluster.options)) as pool:
        for task in (-1, -2, -3):
            pool.submit(task, timeout_seconds=30)
        with pytest.raises(SettingsError, match=r"not 9\.9.*not 9\.9; give an --out"):
            drain(pool)


def test_results_come_before_the_refusal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A node's word that it is unfit is no reason to drop what came with it."""
    answers = {-1: 1, -2: ray.Unfit("n1", "does not see it", "id"), -3: 3}
    remote: Any = SimpleNamespace(remote=lambda _function, task, *_: task, options=lambda **_: remote)
    node = {"NodeID": "id", "NodeManagerHostname": "n1", "Alive": True, "Resources": {"CPU": 1.0}}
    tool = SimpleNamespace(
        remote=lambda **_: lambda _function: remote,
        wait=lambda references, **_: (references, []),
        get=answers.__getitem__,
        nodes=lambda: [node],
        exceptions=SimpleNamespace(RayTaskError=ArithmeticError, RayError=LookupError),
    )
    monkeypatch.setattr(ray, "_connect", lambda *_: tool)
    monkeypatch.setattr(ray, "_probe", lambda *_: None)
    pool = ray.Pool(abs, workers=3, folder=tmp_path)
    for task in answers:
        pool.submit(task, timeout_seconds=9)

    assert pool.finished(1) == [(-1, 1), (-3, 3)]
    assert pool.busy == 1
    with pytest.raises(SettingsError, match="node n1 does not see it"):
        pool.finished(1)


def test_a_node_without_a_cpu_to_give_need_not_see_the_folder() -> None:
    nodes = [
        {"NodeID": "head", "Alive": True, "Resources": {"memory": 1.0}},
        {"NodeID": "works", "Alive": True, "Resources": {"CPU": 2.0}},
        {"NodeID": "gone", "Alive": False, "Resources": {"CPU": 2.0}},
    ]

    assert ray.nodes_with_cpus(SimpleNamespace(nodes=lambda: nodes)) == [nodes[1]]


def drain(pool: Any) -> list[Any]:
    found: list[Any] = []
    while pool.busy:
        found += pool.finished(1)
    return found


def test_a_node_with_another_version_or_another_folder_is_unfit(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("mine")

    assert ray.why_unfit(ray.Token(path, "mine", ray.__version__)) == ""
    assert ray.why_unfit(ray.Token(path, "yours", ray.__version__)) == f"has another folder at {tmp_path}"
    assert ray.why_unfit(ray.Token(path, "mine", "9.9")).endswith(", not 9.9")


def test_an_address_where_no_ray_is_is_named_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"--ray.address ray://head:10001: is not HOST:PORT"):
        ray.Pool(abs, workers=1, folder=tmp_path, options=ray.Options(address="ray://head:10001"))


def test_where_ray_is_not_installed_the_remedy_is(tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['ray'] = None\n"
        "from pathlib import Path\nfrom kinetics_sounds.pipelines.executors import ray\n"
        "try:\n    ray.Pool(abs, workers=1, folder=Path('.'))\n"
        "except Exception as error:\n    print(type(error).__name__, error)\n"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path).stdout

    assert said == f"SettingsError --executor ray: Ray is not installed; {pip_install('ray')}\n"
