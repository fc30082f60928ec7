"""Worker processes in the jobs of a Slurm array; survives requeueing, and short jobs are replaced by new ones.

Each job takes tasks from a mailbox (see `mailbox.py`) while there are any. The driver submits them one by one, so its rate limit
and circuit breaker apply to the whole array.
"""

import logging
import secrets
import shlex
import shutil
import socket
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic

from kinetics_sounds.errors import SettingsError
from kinetics_sounds.extras import pip_install
from kinetics_sounds.plugins import ignore_working_folder

from ...process_pool import MAX_ATTEMPTS, forget_main
from .. import Cause, Failed, R, T
from . import jobs
from .jobs import GONE, WAITING, State, ask, one_line
from .mailbox import Claim, Heart, Hello, Mailbox, serve

SECONDS_TO_GREET = 180.0
"""Time limit for a started job to report: Python may load slowly from a shared disk."""
SECONDS_BETWEEN_NEWS = 60.0
"""Interval of the message that jobs are still queued."""
SECONDS_TO_RETRY = 300.0
"""Wait before jobs are submitted again if new ones all died at once while others run."""
SECONDS_TO_END = 30.0
"""Time limit for jobs to exit at the end."""
LEAST_PATIENCE = 10.0
"""Minimum of `patience`: with less, a busy driver or a slow disk would look dead."""
SECONDS_BETWEEN_LOOKS = 0.1
"""Polling interval of the mailbox by the driver."""
SECONDS_AFTER_TROUBLE = 1.0
_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Options:
    """Tasks in the jobs of a Slurm array, one CPU per job, `--workers` jobs."""

    partition: str = ""
    """Partition of the jobs; empty: the cluster's default."""
    account: str = ""
    """Account to charge the jobs to; empty: the user's default."""
    qos: str = ""
    """Quality of service; empty: the user's default."""
    minutes: int = 240
    """Time limit of a job in minutes; new jobs follow while work is left."""
    memory_gb: int = 4
    """Memory of a job in GiB; 0: the cluster's default."""
    setup: str = ""
    """Shell commands that each job runs first, such as `module load python`."""
    patience: float = 120.0
    """Seconds without a heartbeat of the driver after which jobs exit."""
    cluster: str = "slurm"
    """`slurm`, or `local` to try it out with processes on this machine."""


class Pool(Generic[T, R]):
    """One job per worker."""

    def __init__(self, function: Callable[[T], R], *, workers: int, folder: Path, options: object = None) -> None:
        """Jobs are submitted with the first task.

        Raises SettingsError for an invalid option, or if Slurm is not installed.
        """
        self.workers = workers
        self._function = function
        self._options = options if isinstance(options, Options) else Options()
        _check(self._options)
        self._mailbox = Mailbox(folder.absolute() / f"slurm-{secrets.token_hex(4)}")
        self._token = self._mailbox.make()
        self._executor = _executor(self._options, self._mailbox.folder / "jobs", workers)
        self._heart = Heart(self._mailbox, patience_seconds=self._options.patience)
        self._tasks: dict[int, T] = {}
        self._given = 0
        self._jobs: dict[str, Any] = {}
        self._newest: list[str] = []
        self._lost: Counter[int] = Counter()
        self._failed: dict[int, Failed] = {}
        self._greet_by: dict[str, float] = {}
        self._silent: set[str] = set()
        self._submitted = self._told = self._tended = 0.0

    @property
    def busy(self) -> int:
        """Number of tasks submitted whose results were not collected yet."""
        return len(self._tasks)

    def submit(self, task: T, *, timeout_seconds: float) -> None:
        """Submit a task; it is killed once it has run this long."""
        self._given += 1
        self._tasks[self._given] = task
        self._mailbox.put(self._given, task, timeout_seconds=timeout_seconds)
        if not self._jobs:
            self._submit(self.workers)

    def finished(self, seconds: float) -> list[tuple[T, R | Failed]]:
        """Tasks that ended since the last call, with their results; waits at most `seconds` for the first.

        Raises SettingsError if no job can work.
        """
        deadline = time.monotonic() + seconds
        while True:
            found: dict[int, R | Failed] = {}
            try:
                if time.monotonic() >= self._tended + min(10.0, self._options.patience / 10):
                    self._tended = time.monotonic()
                    self._tend()
                found = self._mailbox.take(self._tasks)
            except (
                OSError
            ) as error:  # of the folder, on a disk that is away for a moment; Slurm's own are told by `_ask`
                _log.warning("slurm: %s cannot be used now: %s", self._mailbox.folder, error)
                time.sleep(SECONDS_AFTER_TROUBLE)
            found.update(self._failed)
            self._failed.clear()
            if found or time.monotonic() >= deadline:
                return [(self._tasks.pop(number), result) for number, result in found.items()]
            time.sleep(SECONDS_BETWEEN_LOOKS)

    def close(self) -> None:
        """End the jobs and their child processes."""
        self._heart.stop()
        if self._jobs and self._options.cluster == "slurm":
            ask(["scancel", *sorted({name.partition("_")[0] for name in self._jobs})])
        deadline = time.monotonic() + SECONDS_TO_END
        while time.monotonic() < deadline:
            states = self._states()
            if states is not None and all(states.get(name, GONE).ended for name in self._jobs):
                break
            time.sleep(0.3)
        shutil.rmtree(self._mailbox.folder, ignore_errors=True)

    def _submit(self, count: int) -> None:
        arguments = (self._mailbox, self._function, self._options.patience)
        try:
            submitted = self._executor.map_array(_work, *zip(*[arguments] * count, strict=True))
        except (OSError, RuntimeError, ValueError) as error:
            raise SettingsError(f"--executor slurm: the jobs were rejected: {one_line(str(error))}") from error
        self._newest = [job.job_id for job in submitted]
        self._jobs.update(zip(self._newest, submitted, strict=True))
        self._submitted = self._told = time.monotonic()
        _log.info(
            "slurm: %d jobs submitted: %s", count, ", ".join(sorted({name.partition("_")[0] for name in self._newest}))
        )

    def _states(self) -> Mapping[str, State] | None:
        """States of the jobs by name; None while Slurm does not respond."""
        if self._options.cluster != "slurm":
            node = socket.gethostname()
            return {
                name: State("RUNNING" if job.state == "RUNNING" else "COMPLETED", node)
                for name, job in self._jobs.items()
            }
        return jobs.states()

    def _tend(self) -> None:
        """Put back the tasks of ended jobs, and replace these jobs."""
        claims = self._mailbox.claims()  # before the states: what a job begins after that is not taken from it
        states = self._states()
        if states is None or not self._jobs:
            return
        greetings = self._mailbox.greetings()
        now = self._checked({name: states.get(name, GONE) for name in self._jobs}, greetings)
        for claim in claims:
            state = now.get(claim.job, GONE)
            if not state.working and self._mailbox.put_back(claim) and state.ended:
                self._count(claim, state)
        self._replace(now, greetings)
        waiting = [state for state in now.values() if state.word in WAITING]
        if waiting and not greetings and time.monotonic() > self._told + SECONDS_BETWEEN_NEWS:
            self._told = time.monotonic()
            why = ", ".join(sorted({state.reason for state in waiting}))
            minutes = (self._told - self._submitted) / 60
            _log.info("slurm: %d jobs have been queued for %.0f minutes (%s)", len(waiting), minutes, why)

    def _count(self, claim: Claim, state: State) -> None:
        """Count the losses of a task, to fail it after `MAX_ATTEMPTS`."""
        self._lost[claim.number] += 1
        _log.warning("slurm: job %s ended (%s) while running a task", claim.job, state.word)
        if self._lost[claim.number] >= MAX_ATTEMPTS and self._mailbox.withdraw(claim.number):
            detail = f"the job that ran it ended {MAX_ATTEMPTS} times, last {claim.job} ({state.word})"
            self._failed[claim.number] = Failed(Cause.DIED, detail)

    def _checked(self, now: Mapping[str, State], greetings: Mapping[str, Hello]) -> dict[str, State]:
        """States of the jobs, with running jobs that do not report counted as ended.

        Raises SettingsError for a node that cannot see the folder; if others can, a silent node only loses its job.
        """
        checked = dict(now)
        folder = self._mailbox.folder.parent
        remedy = "give an --out below a folder that every node sees under the same path"
        for name, hello in greetings.items():
            if hello.token != self._token:
                raise SettingsError(
                    f"--executor slurm: node {hello.node} has another folder at {folder} (job {name}); {remedy}"
                )
        for name, state in now.items():
            if state.word != "RUNNING":
                self._greet_by.pop(name, None)  # a job that was requeued has its time from its next start
            if name in greetings:
                continue
            if state.word == "FAILED" and not Path(self._jobs[name].paths.stderr).exists():
                raise SettingsError(
                    f"--executor slurm: node {state.node} does not see {folder}: job {name} left no log; {remedy}"
                )
            if state.word == "RUNNING" and time.monotonic() > self._greet_by.setdefault(
                name, time.monotonic() + SECONDS_TO_GREET
            ):
                told = (
                    f"node {state.node} runs job {name}, but it did not report in {folder} within "
                    f"{SECONDS_TO_GREET:g} s"
                )
                if not greetings:
                    raise SettingsError(f"--executor slurm: {told}; {remedy}{self._last_words(name)}")
                checked[name] = State("SILENT", state.node)
                self._give_up(name, told)
        return checked

    def _give_up(self, name: str, told: str) -> None:
        if name in self._silent:
            return
        self._silent.add(name)
        _log.warning("slurm: %s: cancelled%s", told, self._last_words(name))
        if self._options.cluster == "slurm":
            ask(["scancel", name])

    def _replace(self, now: Mapping[str, State], greetings: Mapping[str, Hello]) -> None:
        """Replace ended jobs while work is left; raises SettingsError if the newest ones died at once."""
        living = sum(not state.ended for state in now.values())
        missing = min(self.workers, self.busy) - living
        if missing <= 0:
            return
        if all(now[name].ended and name not in greetings for name in self._newest):
            name = self._newest[0]
            told = f"job {name} ended before it took a task ({now[name].word}{f' on {now[name].node}' if now[name].node else ''})"
            if not living:
                raise SettingsError(f"--executor slurm: {told}{self._last_words(name)}")
            if time.monotonic() < self._submitted + SECONDS_TO_RETRY:
                return
            _log.warning("slurm: %s%s", told, self._last_words(name))
        self._submit(missing)

    def _last_words(self, name: str) -> str:
        """The end of a job's log, or a hint if there is no log, as a clause for a message."""
        path = Path(self._jobs[name].paths.stderr)
        try:
            words = path.read_text(errors="replace").strip()
        except OSError:
            return f"; it left no log: its node may not see {self._mailbox.folder.parent}"
        return f"; end of its log: {one_line(words[-400:])}" if words else ""


def _check(options: Options) -> None:
    """Raise SettingsError for options that no job could work with."""
    least = {"patience": LEAST_PATIENCE, "minutes": 1, "memory_gb": 0}
    for name, number in least.items():
        if not getattr(options, name) >= number:  # nor is that which is no number
            raise SettingsError(f"--slurm.{name} {getattr(options, name)}: must be {number:g} or more")
    if options.cluster not in ("slurm", "local"):
        raise SettingsError(f"--slurm.cluster {options.cluster}: must be slurm or local")


def _work(mailbox: Mailbox, function: Callable[[Any], Any], patience_seconds: float) -> None:
    """Entry point of a job."""
    forget_main()
    serve(mailbox, function, job=_submitit().JobEnvironment().job_id, patience_seconds=patience_seconds)


def _submitit() -> Any:  # noqa: ANN401 - a module
    try:
        import submitit  # late: few have it
    except ImportError as error:
        raise SettingsError(f"--executor slurm: submitit is not installed; {pip_install('slurm')}") from error
    return submitit


def _executor(options: Options, folder: Path, workers: int) -> Any:  # noqa: ANN401 - submitit is imported late
    chosen = {
        "mem_gb": options.memory_gb,
        "slurm_partition": options.partition,
        "slurm_account": options.account,
        "slurm_qos": options.qos,
        "slurm_setup": options.setup.splitlines(),
    }
    submitit = _submitit()
    ignore_working_folder()  # and -P beside it, for not every cluster hands the environment on
    try:
        python = f"{shlex.quote(sys.executable)} -P"
        executor = submitit.AutoExecutor(
            folder=folder, cluster=options.cluster, slurm_python=python, local_python=python
        )
        executor.update_parameters(
            name="kinetics-sounds",
            timeout_min=options.minutes,
            cpus_per_task=1,
            slurm_array_parallelism=workers,
            slurm_additional_parameters={"requeue": True},
            **{name: value for name, value in chosen.items() if value},
        )
    except (RuntimeError, ValueError) as error:
        raise SettingsError(f"--executor slurm: {one_line(str(error))}") from error
    return executor
