"""Worker processes on the nodes of a Ray cluster; tasks survive the loss of a node.

Ray chooses the node of a task and reports lost nodes. It neither limits a task's run time nor ends a task's child processes, so
each Ray worker keeps a supervised process that runs the function, as with every executor. A Ray worker that disappears was
therefore not killed by its task but lost with its node, or killed by Ray for lack of memory: its task is submitted again, at most
`MAX_ATTEMPTS` times, and Ray's own retries (unlimited if memory is short) are off.
"""

import functools
import logging
import os
import secrets
import shutil
import socket
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic

from kinetics_sounds import __version__, files
from kinetics_sounds.errors import SettingsError
from kinetics_sounds.extras import pip_install

from ..process_pool import MAX_ATTEMPTS, SupervisedPool, forget_main
from . import Cause, Failed, R, T

NOTICE_SECONDS = 20.0
"""Time until Ray reports a lost node as dead, after its tasks failed."""
PROBE_SECONDS = 60.0
"""Time limit for a node to start a worker and read the token."""
STORE_BYTES = 2**27
"""Size of Ray's object store if we start Ray: tasks and results are small."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Options:
    """Tasks on the nodes of a Ray cluster, one CPU per task."""

    address: str = ""
    """HOST:PORT of a running Ray cluster that this machine is a node of, or `auto` to detect it; empty: start one on this
    machine."""


@dataclass(frozen=True, slots=True)
class Token:
    """File that a node must be able to read, and the version that it must have installed."""

    path: Path
    text: str
    version: str


@dataclass(frozen=True, slots=True)
class Unfit:
    """A node that cannot be used."""

    node: str
    why: str
    node_id: str = ""


class Pool(Generic[T, R]):
    """At most `workers` tasks at once, on any free CPU of the cluster."""

    def __init__(self, function: Callable[[T], R], *, workers: int, folder: Path, options: object = None) -> None:
        """Connect to Ray, or start it; raises SettingsError if a node cannot see the folder or lacks this package."""
        self.workers = workers
        self._function = function
        self._ray = _connect(options.address if isinstance(options, Options) else "", workers)
        try:
            self._token = Token(folder.absolute() / f"token-{secrets.token_hex(8)}", secrets.token_hex(16), __version__)
            files.write_bytes(self._token.path, self._token.text.encode())
            self._remote = self._ray.remote(num_cpus=1, max_retries=0)(_carry_out)
            _probe(self._ray, self._token)
        except BaseException:
            self._ray.shutdown()
            raise
        self._waiting: deque[_Job[T]] = deque()
        self._running: dict[Any, _Job[T]] = {}
        self._unfit: dict[str, Unfit] = {}

    @property
    def busy(self) -> int:
        """Number of tasks submitted whose results were not collected yet."""
        return len(self._waiting) + len(self._running)

    def submit(self, task: T, *, timeout_seconds: float) -> None:
        """Submit a task; it is killed once it has run this long."""
        self._waiting.append(_Job(task, timeout_seconds, MAX_ATTEMPTS))
        self._hand_out()

    def finished(self, seconds: float) -> list[tuple[T, R | Failed]]:
        """Tasks that ended since the last call, with their results; waits at most `seconds` for the first.

        Raises SettingsError once no usable node is left.
        """
        if self._unfit and not self._fit():
            raise _refusal(self._unfit.values(), self._token)
        if not self._running:
            time.sleep(seconds)
            return []
        self._ray.wait(list(self._running), timeout=seconds)
        done, _ = self._ray.wait(list(self._running), num_returns=len(self._running), timeout=0)
        ended = [(self._running.pop(each), each) for each in done]
        results = [(job.task, result) for job, each in ended for result in self._results(job, each)]
        self._hand_out()
        return results

    def close(self) -> None:
        """End the processes and their child processes, and Ray if it was started here."""
        for each in self._running:
            self._ray.cancel(each, force=True)
        self._ray.shutdown()
        self._token.path.unlink(missing_ok=True)

    def _hand_out(self) -> None:
        while self._waiting and len(self._running) < self.workers:
            job = self._waiting.popleft()
            remote = self._remote
            if self._unfit:
                remote = remote.options(label_selector={"ray.io/node-id": f"!in({','.join(self._unfit)})"})
            self._running[remote.remote(self._function, job.task, job.timeout_seconds, self._token)] = job

    def _fit(self) -> set[str]:
        """The nodes known to be usable."""
        return {node["NodeID"] for node in nodes_with_cpus(self._ray)} - set(self._unfit)

    def _results(self, job: "_Job[T]", reference: Any) -> list[R | Failed]:  # noqa: ANN401 - Ray is imported late
        """Result of a job; empty if it was lost and submitted again."""
        try:
            found: R | Failed | Unfit = self._ray.get(reference)
        except self._ray.exceptions.RayTaskError as error:  # of our own lines there, or of a package that is missing
            return [Failed(Cause.RAISED, _last_line(error), str(error))]
        except self._ray.exceptions.RayError as error:
            return self._again(job, f"{type(error).__name__}: {_last_line(error)}")
        if isinstance(found, Unfit):  # a node that joined after the probe
            if found.node_id not in self._unfit:
                _log.warning("ray: node %s %s: it gets no more tasks", found.node, found.why)
            self._unfit[found.node_id] = found
            self._waiting.appendleft(job)
            return []
        return [found]

    def _again(self, job: "_Job[T]", why: str) -> list[R | Failed]:
        if job.lives == 1:
            return [
                Failed(Cause.DIED, f"it was lost {MAX_ATTEMPTS} times with the Ray worker that ran it, last: {why}")
            ]
        _log.warning("ray: a task was lost and is run again: %s", why)
        self._waiting.appendleft(_Job(job.task, job.timeout_seconds, job.lives - 1))
        return []


@dataclass(frozen=True, slots=True)
class _Job(Generic[T]):
    """A submitted task."""

    task: T
    timeout_seconds: float
    lives: int


def _connect(address: str, workers: int) -> Any:  # noqa: ANN401 - a module
    if "://" in address:
        raise SettingsError(
            f"--ray.address {address}: is not HOST:PORT; run this on a node of the cluster and give its head"
        )
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    if not address:
        _keep_to_ourselves()
    try:
        import ray  # late: it takes a while, and few have it
    except ImportError as error:
        raise SettingsError(f"--executor ray: Ray is not installed; {pip_install('ray')}") from error
    quiet = {"log_to_driver": False, "logging_level": logging.ERROR}
    # Else Ray puts our working folder first on its workers' path, and files there would be imported.
    job = ray.job_config.JobConfig(_client_job=True)
    try:
        if ":" in address:
            _check_reachable(address)
        if address:
            ray.init(address=address, job_config=job, **quiet)
        else:
            own = {"num_cpus": workers, "include_dashboard": False, "object_store_memory": _store_bytes()}
            ray.init("local", job_config=job, **own, **quiet)
    except (OSError, RuntimeError, ValueError) as error:
        raise SettingsError(
            f"--ray.address {address or '(empty)'}: Ray is unavailable: {_last_line(error)}; "
            "start one on each node with `ray start` (and set RAY_AUTH_MODE=token if it requires a token), or leave the "
            "address empty"
        ) from error
    cpus = int(ray.cluster_resources().get("CPU", 0))
    if not cpus:
        ray.shutdown()
        raise SettingsError(f"--ray.address {address}: this cluster has no CPUs; start a node with --num-cpus")
    if cpus < workers:
        _log.warning(
            "ray: %d workers were requested; the cluster has %d CPUs, which limits the tasks run at once", workers, cpus
        )
    return ray


def _check_reachable(address: str) -> None:
    """Check that the head is reachable: Ray itself would wait a quarter of an hour for it, ignoring signals."""
    host, _, port = address.rpartition(":")
    socket.create_connection((host.strip("[]"), int(port)), timeout=PROBE_SECONDS).close()


def _keep_to_ourselves() -> None:
    """Protect a Ray started here with a token: it listens on all interfaces and runs what it is sent.

    Ray reads it at import, so a program that imported Ray before made its own choice.
    """
    if "RAY_AUTH_MODE" not in os.environ and "ray" not in sys.modules:
        os.environ.update(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=secrets.token_hex(32))


def _store_bytes() -> int:
    """Size of the object store, limited by the shared memory, which may be scarce in a container."""
    shared = Path("/dev/shm")  # noqa: S108 - where Ray puts it
    return min(STORE_BYTES, shutil.disk_usage(shared).free // 2) if shared.is_dir() else STORE_BYTES


def _probe(ray: Any, token: Token) -> None:  # noqa: ANN401 - a module
    """Check that every node can read the token, before any work is submitted."""
    alive = {
        node["NodeID"]: f"{node['NodeManagerHostname']} ({node['NodeManagerAddress']})" for node in nodes_with_cpus(ray)
    }
    affinity = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy
    look = ray.remote(num_cpus=0, max_retries=0)(why_unfit)
    asked = {look.options(scheduling_strategy=affinity(each, soft=False)).remote(token): each for each in alive}
    done, silent = ray.wait(list(asked), num_returns=len(asked), timeout=PROBE_SECONDS)
    unfit = [
        Unfit(alive[asked[each]], f"started no worker within {PROBE_SECONDS:g} s")
        for each in silent
        if not _is_lost(ray, asked[each], seconds=0)
    ]
    for each in done:
        try:
            why = ray.get(each)
        except ray.exceptions.RayError as error:
            if not _is_lost(ray, asked[each], seconds=NOTICE_SECONDS):
                unfit.append(Unfit(alive[asked[each]], f"could not be queried: {_last_line(error)}"))
        else:
            unfit += [Unfit(alive[asked[each]], why)] if why else []
    if unfit:
        raise _refusal(unfit, token)


def _is_lost(ray: Any, node: str, *, seconds: float) -> bool:  # noqa: ANN401 - a module
    """Whether a node is lost; Ray may learn this later than its tasks fail."""
    deadline = time.monotonic() + seconds
    while any(each["NodeID"] == node and each["Alive"] for each in ray.nodes()):
        if time.monotonic() >= deadline:
            return False
        time.sleep(0.5)
    return True


def nodes_with_cpus(ray: Any) -> list[dict[str, Any]]:  # noqa: ANN401 - a module
    """Nodes with CPUs: a cluster's head may have none, and then need not see the folder."""
    return [node for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU", 0)]


def _refusal(unfit: Iterable[Unfit], token: Token) -> SettingsError:
    told = "; ".join(f"node {each.node} {each.why}" for each in unfit)
    return SettingsError(
        f"--executor ray: {told}; give an --out below a folder that every node sees under the same path, and install "
        f"kinetics-sounds {token.version} in the same place on each"
    )


def why_unfit(token: Token) -> str:
    """Runs on a node: why it cannot be used; empty if it can."""
    if __version__ != token.version:
        return f"has kinetics-sounds {__version__}, not {token.version}"
    try:
        seen = token.path.read_text()
    except OSError as error:
        return f"does not see {token.path.parent} ({error.strerror})"
    return "" if seen == token.text else f"has another folder at {token.path.parent}"


@functools.cache
def _checked(token: Token) -> str:
    return why_unfit(token)


@functools.cache
def _process(function: Callable[[T], R]) -> SupervisedPool[T, R]:
    """The supervised process of a Ray worker, reused for all its tasks."""
    forget_main()
    return SupervisedPool(function, workers=1)


def _carry_out(function: Callable[[T], R], task: T, timeout_seconds: float, token: Token) -> "R | Failed | Unfit":
    """Runs in a Ray worker: run the task in the supervised process."""
    if why := _checked(token):
        return Unfit(socket.gethostname(), why, _node_id())
    process = _process(function)
    process.submit(task, timeout_seconds=timeout_seconds)
    while not (ended := process.finished(60)):
        pass
    return ended[0][1]


def _node_id() -> str:
    import ray

    return str(ray.get_runtime_context().get_node_id())


def _last_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[-1]
