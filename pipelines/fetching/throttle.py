"""Rate limit, retries and circuit breaker of a source.

They run in the driver, so they apply to all workers on all machines. Nothing here reads a clock or a file: times are arguments,
in seconds of a monotonic clock.
"""

import heapq
import itertools
import random
from collections import Counter, deque
from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

from kinetics_sounds.clip import Status

T = TypeVar("T", bound=Hashable)

FIRST_PROBE_SECONDS = 600.0
"""Wait before a refusing source is probed with a single task; doubled for each further probe."""
LONGEST_RETRY_SECONDS = 1800.0
OFFLINE = 10
"""Number of consecutive outages without an answer that are attributed to the network or the host instead of the tasks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """Retries and rate limits of a source."""

    attempts: int = 3
    """Maximum attempts per task within a run, for transient errors."""
    retry_seconds: float = 15.0
    """Wait before the second attempt; tripled for each further one, up to half an hour, with jitter of up to half."""
    patience_seconds: float = 7200.0
    """A source that refuses everything for this long ends the run."""
    videos_per_hour: float | None = None
    """Rate limit of submitted tasks; None for no limit."""
    requests_per_hour: float | None = None
    """Rate limit of requests made by the tasks."""


class RateLimiter:
    """Rate limiter: at most `per_hour` uses, evenly spaced; each use delays the next one."""

    def __init__(self, per_hour: float | None) -> None:
        """None: no limit."""
        self._seconds = 3600.0 / per_hour if per_hour else 0.0
        self.free_at = float("-inf")

    def charge(self, now: float, count: int = 1) -> None:
        """Record `count` uses at a time."""
        self.free_at = max(self.free_at, now) + count * self._seconds


class CircuitBreaker:
    """Circuit breaker: while a source refuses, only a single probe is sent after each of growing waits."""

    def __init__(self, patience_seconds: float, lot: random.Random) -> None:
        """Gives up when everything was refused for this long."""
        self.patience_seconds = patience_seconds
        self._lot = lot
        self._since: float | None = None
        self._wait = 0.0
        self.probe_at = float("-inf")
        """Paused until this time; -inf while closed."""
        self.gave_up = False

    @property
    def paused(self) -> bool:
        """Whether only probes may be sent."""
        return self._since is not None

    def record_failure(self, now: float) -> None:
        """Record a refusal or a failed probe: wait, longer each time."""
        if self._since is None:
            self._since = now
            self._wait = min(FIRST_PROBE_SECONDS, self.patience_seconds / 8)
        else:
            self._wait *= 2
        end = self._since + self.patience_seconds
        self.gave_up = now >= end
        self.probe_at = min(now + self._wait * self._lot.uniform(0.75, 1.25), max(end, now))

    def record_success(self) -> None:
        """Record an answer: the source works again."""
        self._since = None
        self.probe_at = float("-inf")


class Schedule(Generic[T]):
    """Decides which task to submit next, and when."""

    def __init__(self, tasks: Iterable[T], rules: RetryPolicy, *, seed: int | None = None) -> None:
        """Tasks are taken from the iterable as needed; they must be distinct."""
        self.rules = rules
        self._lot = random.Random(seed)  # noqa: S311 - jitter, not a secret
        self.breaker = CircuitBreaker(rules.patience_seconds, self._lot)
        self._videos, self._requests = RateLimiter(rules.videos_per_hour), RateLimiter(rules.requests_per_hour)
        self._fresh = iter(tasks)
        self._waiting: deque[T] = deque()  # before the fresh ones
        self._again: list[tuple[float, int, T]] = []  # a heap by time
        self._refused: deque[T] = deque()
        self._count = itertools.count()
        self._tries: Counter[T] = Counter()
        self._refused_at: dict[T, int] = {}  # how many answers there had been
        self._answers = 0
        self._offline = 0  # in a row
        self._probe: T | None = None
        self.full = False
        """Whether the disk is full."""

    @property
    def ended(self) -> bool:
        """Whether no further task will be submitted."""
        return self.full or self.breaker.gave_up

    @property
    def empty(self) -> bool:
        """Whether all tasks were submitted and none waits for a retry."""
        return not (self._look() or self._again or self._refused)

    def add(self, task: T) -> None:
        """Add a task, ahead of those that were not submitted yet."""
        self._waiting.append(task)

    def next(self, now: float) -> T | None:
        """The task to submit now; None if there is none, or not yet."""
        free_at = max(self._videos.free_at, self._requests.free_at, self.breaker.probe_at)
        if self.ended or free_at > now or self._probe is not None:
            return None
        task = self._choose(now)
        if task is not None:
            self._videos.charge(now)
            if self.breaker.paused:
                self._probe = task
        return task

    def _look(self) -> bool:
        """Whether there is a task that was never submitted."""
        if not self._waiting:
            self._waiting.extend(itertools.islice(self._fresh, 1))
        return bool(self._waiting)

    def _choose(self, now: float) -> T | None:
        """A task due for a retry, or a new one; a probe prefers a task that has not failed yet."""
        due = bool(self._again) and self._again[0][0] <= now
        if due and not self.breaker.paused:
            return heapq.heappop(self._again)[2]
        if self._look():
            return self._waiting.popleft()
        if self._refused:
            return self._refused.popleft()
        return heapq.heappop(self._again)[2] if due else None

    def on_result(self, task: T, status: Status, now: float, *, requests: int = 0, reached: bool = False) -> bool:
        """Record the status of a submitted task; returns whether it is final for this run.

        `reached`: the source answered, so a later failure is not its fault.
        """
        self._requests.charge(now, requests)
        probing = self._probe == task
        if probing:
            self._probe = None
        if status is Status.DISK_FULL:
            self.full = True
            return True
        if status.is_refusal:
            return self._on_refusal(task, now, probing=probing)
        if status.is_outage and not reached:
            self._offline += 1
        elif status is not Status.CRASHED:
            self._offline = 0
        if status.is_transient:
            if probing or (self._offline >= OFFLINE and not self.breaker.paused):
                self.breaker.record_failure(now)
            return not self._try_again(task, now)
        if probing:
            self.breaker.record_success()
        if not self.breaker.paused:  # else it was asked for before the source began to refuse
            self._answers += 1
        return True

    def _on_refusal(self, task: T, now: float, *, probing: bool) -> bool:
        """Process a refusal: it costs no attempt, unless the source answered other tasks since it last refused this one."""
        if not self.breaker.paused and self._refused_at.get(task, self._answers) < self._answers:
            return True
        if probing or not self.breaker.paused:
            self.breaker.record_failure(now)
        self._refused_at[task] = self._answers
        self._refused.append(task)
        return False

    def _try_again(self, task: T, now: float) -> bool:
        self._tries[task] += 1
        if self._tries[task] >= self.rules.attempts:
            del self._tries[task]
            return False
        wait = min(self.rules.retry_seconds * 3.0 ** min(self._tries[task] - 1, 99), LONGEST_RETRY_SECONDS)
        heapq.heappush(self._again, (now + wait * self._lot.uniform(0.5, 1.5), next(self._count), task))
        return True
