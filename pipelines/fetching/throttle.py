"""What is asked when: at a polite rate, again after what may pass, and not at all while a source refuses.

All of it is the driver's, so it holds for every worker on every machine. Nothing here reads a clock or a file: times are
handed in, in seconds of one clock that never goes back.
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
"""A source that refuses is left alone this long, then asked for one task; twice as long before the next one, and so on."""
LONGEST_RETRY_SECONDS = 1800.0
OFFLINE = 10
"""So many outages without an answer in between are the line's or the host's doing, not the tasks'."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """How a source is asked."""

    attempts: int = 3
    """Tries of one task within a run, where trying again may help."""
    retry_seconds: float = 15.0
    """Wait before the second try; it trebles for the next, up to half an hour, each shortened or stretched by up to half."""
    patience_seconds: float = 7200.0
    """A source that refuses everything this long ends the run."""
    videos_per_hour: float | None = None
    """Tasks handed out; None for no limit."""
    requests_per_hour: float | None = None
    """Requests that the tasks turn out to have made."""


class RateLimiter:
    """At most so many an hour, evenly spread: what was used up moves the time of the next use."""

    def __init__(self, per_hour: float | None) -> None:
        """None: no limit."""
        self._seconds = 3600.0 / per_hour if per_hour else 0.0
        self.free_at = float("-inf")

    def charge(self, now: float, count: int = 1) -> None:
        """Use up `count` at a time."""
        self.free_at = max(self.free_at, now) + count * self._seconds


class CircuitBreaker:
    """Whether a source is asked at all. Once it refuses nothing is, but for one probe after each of growing waits."""

    def __init__(self, patience_seconds: float, lot: random.Random) -> None:
        """Give up when everything was refused for so long."""
        self.patience_seconds = patience_seconds
        self._lot = lot
        self._since: float | None = None
        self._wait = 0.0
        self.probe_at = float("-inf")
        """Paused until then; -inf while all is well."""
        self.gave_up = False

    @property
    def paused(self) -> bool:
        """Whether nothing but a probe may be asked."""
        return self._since is not None

    def refuse(self, now: float) -> None:
        """The source refused, or a probe failed: wait, longer each time."""
        if self._since is None:
            self._since = now
            self._wait = min(FIRST_PROBE_SECONDS, self.patience_seconds / 8)
        else:
            self._wait *= 2
        end = self._since + self.patience_seconds
        self.gave_up = now >= end
        self.probe_at = min(now + self._wait * self._lot.uniform(0.75, 1.25), max(end, now))

    def answer(self) -> None:
        """The source answers again."""
        self._since = None
        self.probe_at = float("-inf")


class Schedule(Generic[T]):
    """Which task is handed out next, if any may be now."""

    def __init__(self, tasks: Iterable[T], rules: RetryPolicy, *, seed: int | None = None) -> None:
        """Tasks are taken from the iterable as they are needed; they differ from each other."""
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
        """There is no room to write to."""

    @property
    def ended(self) -> bool:
        """Nothing will be handed out any more."""
        return self.full or self.breaker.gave_up

    @property
    def empty(self) -> bool:
        """Every task was handed out, and none that came back waits for another try."""
        return not (self._look() or self._again or self._refused)

    def add(self, task: T) -> None:
        """One more task, which goes before those that were not handed out yet."""
        self._waiting.append(task)

    def next(self, now: float) -> T | None:
        """The task to hand out now; None where there is none, or not yet."""
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
        """Whether there is a task that was never handed out."""
        if not self._waiting:
            self._waiting.extend(itertools.islice(self._fresh, 1))
        return bool(self._waiting)

    def _choose(self, now: float) -> T | None:
        """One that has waited for its next try; but a probe is rather one that has not failed yet."""
        due = bool(self._again) and self._again[0][0] <= now
        if due and not self.breaker.paused:
            return heapq.heappop(self._again)[2]
        if self._look():
            return self._waiting.popleft()
        if self._refused:
            return self._refused.popleft()
        return heapq.heappop(self._again)[2] if due else None

    def on_result(self, task: T, status: Status, now: float, *, requests: int = 0, reached: bool = False) -> bool:
        """Learn what became of a task that was handed out; whether that is its last word in this run.

        `reached`: the source gave what it was asked for, so whatever failed later is not its doing.
        """
        self._requests.charge(now, requests)
        probing = self._probe == task
        if probing:
            self._probe = None
        if status is Status.DISK_FULL:
            self.full = True
            return True
        if status.is_refusal:
            return self._took_refusal(task, now, probing=probing)
        if status.is_outage and not reached:
            self._offline += 1
        elif status is not Status.CRASHED:
            self._offline = 0
        if status.is_transient:
            if probing or (self._offline >= OFFLINE and not self.breaker.paused):
                self.breaker.refuse(now)
            return not self._try_again(task, now)
        if probing:
            self.breaker.answer()
        if not self.breaker.paused:  # else it was asked for before the source began to refuse
            self._answers += 1
        return True

    def _took_refusal(self, task: T, now: float, *, probing: bool) -> bool:
        """Refusals are the source's, and cost no try; unless it answered others since it refused this task before."""
        if not self.breaker.paused and self._refused_at.get(task, self._answers) < self._answers:
            return True
        if probing or not self.breaker.paused:
            self.breaker.refuse(now)
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
