"""Real clusters on one machine: a Ray of several nodes, and Slurm with its own daemons where they are installed."""

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from kinetics_sounds.pipelines import executors

BIN = Path(sys.executable).parent
PATIENCE_SECONDS = 2.0
os.environ.update(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN="ab" * 32)  # before Ray is imported, which reads it then
SOON_MISSED = {  # a Ray that is slow to answer is not taken for dead, but one that is gone is so within two seconds
    "RAY_health_check_initial_delay_ms": "500",
    "RAY_health_check_period_ms": "500",
    "RAY_health_check_failure_threshold": "4",
}
ONE_RAY, ONE_SLURM = pytest.mark.xdist_group("ray"), pytest.mark.xdist_group("slurm")
"""With `--dist loadgroup` each cluster is started once, whatever the number of processes that run tests."""
CAN_HIDE = (
    os.geteuid() == 0 and subprocess.run(["unshare", "-m", "true"], check=False, capture_output=True).returncode == 0
)


@dataclass(frozen=True)
class Cluster:
    """Of nodes that all see every folder, except one that sees something else at `hidden`."""

    options: Any
    hidden: Path
    add_node: Callable[[], "subprocess.Popen[bytes]"] | None = None


def argv_without(folder: Path, argv: list[str]) -> list[str]:
    """The same command where another, empty folder lies over this one; the command itself where that is not allowed."""
    script = 'mount --make-rprivate / && mount -t tmpfs none "$0" && exec "$@"'
    return ["unshare", "-m", "sh", "-c", script, str(folder), *argv] if CAN_HIDE else argv


def kill_tree(pid: int) -> None:
    """SIGKILL to a process and all that it started."""
    with contextlib.suppress(psutil.NoSuchProcess):
        root = psutil.Process(pid)
        for each in [root, *root.children(recursive=True)]:
            with contextlib.suppress(psutil.NoSuchProcess):
                each.kill()


def wait_for(truth: Callable[[], object], *, seconds: float = 20, pause: float = 0.05) -> bool:
    """Whether it becomes true in time; it is asked again after each pause, in seconds."""
    deadline = time.monotonic() + seconds
    while not truth():
        if time.monotonic() > deadline:
            return False
        time.sleep(pause)
    return True


def free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


@pytest.fixture(autouse=True)
def little_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests need not wait as long as a cluster must."""
    from kinetics_sounds.pipelines.executors import slurm

    monkeypatch.setattr(slurm, "LEAST_PATIENCE", PATIENCE_SECONDS)


@pytest.fixture(scope="session")
def ray_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    from kinetics_sounds.pipelines.executors import ray

    hidden = tmp_path_factory.mktemp("hidden")
    [port] = free_ports(1)
    address = f"127.0.0.1:{port}"
    small = ["--node-ip-address=127.0.0.1", "--num-cpus=1", f"--object-store-memory={80 * 2**20}", "--block"]
    head = ["--head", f"--port={port}", "--include-dashboard=false"]
    told = tmp_path_factory.mktemp("log") / "ray"
    log = told.open("wb")
    started: list[subprocess.Popen[bytes]] = []

    def node(*more: str, hide: bool = False) -> "subprocess.Popen[bytes]":
        argv = [str(BIN / "ray"), "start", *small, *more]
        environ = {**os.environ, "RAY_USAGE_STATS_ENABLED": "0", **SOON_MISSED}
        process = subprocess.Popen(argv_without(hidden, argv) if hide else argv, env=environ, stdout=log, stderr=log)
        started.append(process)
        return process

    node(*head)
    assert wait_for(lambda: _listens(port))
    node(f"--address={address}", hide=True)
    assert wait_for(
        lambda: told.read_bytes().count(b"Ray runtime started") == 2, seconds=60
    )  # or a test may find it not there yet
    yield Cluster(ray.Options(address=address), hidden, lambda: node(f"--address={address}"))
    for process in reversed(started):
        kill_tree(process.pid)
        process.wait()
    log.close()


def _listens(port: int) -> bool:
    with socket.socket() as tried:
        return tried.connect_ex(("127.0.0.1", port)) == 0


SLURM_CONF = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmctldPort={ports[0]}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/%n.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
ReturnToService=2
MpiDefault=none
KillWait=2
GresTypes=gpu
NodeName=sees NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[1]} CPUs=2 Gres=gpu:1 State=UNKNOWN
NodeName=blind NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[2]} CPUs=1 Gres=gpu:1 State=UNKNOWN
PartitionName=seeing Nodes=sees Default=YES
PartitionName=both Nodes=ALL
PartitionName=nowhere Nodes=sees State=DOWN
"""
GRES_CONF = "Name=gpu File={folder}/gpu\n"
"""What Slurm takes for a GPU of each node is an empty file."""
DAEMONS = ("munged", "slurmctld", "slurmd")


@pytest.fixture(scope="session")
def slurm_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    from kinetics_sounds.pipelines.executors import slurm

    if missing := [name for name in DAEMONS if shutil.which(name) is None]:
        pytest.skip(f"no {', '.join(missing)} here (apt-get install slurm-wlm)")
    if os.geteuid():
        pytest.skip("Slurm's daemons need root")
    hidden, folder = tmp_path_factory.mktemp("hidden"), tmp_path_factory.mktemp("slurm")
    folder.chmod(0o755)
    (folder / "state").mkdir()
    (folder / "key").write_bytes(os.urandom(1024))
    (folder / "key").chmod(0o600)
    conf = folder / "slurm.conf"
    conf.write_text(SLURM_CONF.format(host=socket.gethostname().partition(".")[0], ports=free_ports(3), folder=folder))
    (folder / "gres.conf").write_text(GRES_CONF.format(folder=folder))
    (folder / "gpu").touch()
    before = os.environ.get("SLURM_CONF")
    os.environ["SLURM_CONF"] = str(conf)
    munge = [f"--{name}={folder}/munge.{name}" for name in ("socket", "pid-file", "log-file", "seed-file")]
    commands = [
        ["munged", "--foreground", "--force", f"--key-file={folder}/key", *munge],
        ["slurmctld", "-D", "-c"],
        ["slurmd", "-D", "-N", "sees"],
        argv_without(hidden, ["slurmd", "-D", "-N", "blind"]),
    ]
    with (folder / "log").open("wb") as log:
        started = [subprocess.Popen(argv, stdout=log, stderr=log) for argv in commands]
        idle = ["sinfo", "--noheader", "--format=%T", "--partition=both"]
        ready = wait_for(lambda: subprocess.run(idle, check=False, capture_output=True).stdout == b"idle\n")
        if ready:
            yield Cluster(slurm.Options(memory_gb=0, patience=PATIENCE_SECONDS), hidden)
            subprocess.run(["scancel", f"--user={os.getuid()}"], check=False)
            queue = ["squeue", "--noheader"]  # the daemons of a job's steps are no children of ours
            wait_for(lambda: subprocess.run(queue, check=False, capture_output=True).stdout == b"", seconds=10)
        for process in reversed(started):
            kill_tree(process.pid)
            process.wait()
    if before is None:
        del os.environ["SLURM_CONF"]
    else:
        os.environ["SLURM_CONF"] = before
    assert ready, (folder / "log").read_text()[-3000:]


@dataclass(frozen=True)
class Opener:
    """Opens pools of one executor, each with a folder of its own."""

    name: str
    options: Any
    folders: pytest.TempPathFactory
    title: str

    def seconds(self, number: int) -> str:
        """How long `sleep` sleeps: no other executor's does so for exactly as long, though tests run side by side."""
        return f"{number}.{['local', 'ray', 'jobs', 'slurm'].index(self.title) + 1}"

    @contextlib.contextmanager
    def __call__(self, function: Any, *, workers: int = 2) -> Iterator[Any]:
        folder = self.folders.mktemp("folder")
        with contextlib.closing(
            executors.start(self.name, function, workers=workers, folder=folder, chosen=self.options)
        ) as pool:
            yield pool


@pytest.fixture(params=["local", "ray", "jobs", pytest.param("slurm", marks=ONE_SLURM)])
def executor(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Opener:
    """Opens a pool of each executor; `ray` is one that we start, `jobs` is Slurm's with processes in place of its jobs."""
    from kinetics_sounds.pipelines.executors import slurm

    name, options = request.param, None
    if name == "jobs":
        name, options = "slurm", slurm.Options(cluster="local", patience=PATIENCE_SECONDS)
    elif name == "slurm":
        options = request.getfixturevalue("slurm_cluster").options
    return Opener(name, options, tmp_path_factory, request.param)
