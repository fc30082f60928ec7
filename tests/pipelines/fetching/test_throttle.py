"""What is asked when. Times are handed in, so that every number here can be checked by hand."""

import itertools
import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kinetics_sounds.clip import Kind, Status
from kinetics_sounds.pipelines.fetching.throttle import (
    FIRST_PROBE_SECONDS,
    LONGEST_RETRY_SECONDS,
    OFFLINE,
    CircuitBreaker,
    RateLimiter,
    RetryPolicy,
    Schedule,
)

HOUR = 3600.0
OK, GONE, BUSY, FAILED, OFF, FULL = (
    Status.OK,
    Status.PRIVATE,
    Status.RATE_LIMITED,
    Status.TRUNCATED,
    Status.NETWORK,
    Status.DISK_FULL,
)


def handed(schedule: Schedule[int], now: float) -> list[int]:
    """All that is handed out at one moment."""
    return list(iter(lambda: schedule.next(now), None))


# Rates.


def test_so_many_an_hour_are_spread_evenly() -> None:
    schedule = Schedule(range(10), RetryPolicy(videos_per_hour=300))

    times = [now for now in range(60) if handed(schedule, float(now))]

    assert times == [0, 12, 24, 36, 48]  # an hour in 300 parts


def test_no_limit_hands_out_everything_at_once() -> None:
    assert handed(Schedule(range(10), RetryPolicy()), 0.0) == list(range(10))


def test_time_spent_idling_is_not_made_up_for() -> None:
    schedule = Schedule(range(10), RetryPolicy(videos_per_hour=60))
    assert handed(schedule, 0.0) == [0]

    assert handed(schedule, 10 * HOUR) == [1]
    assert handed(schedule, 10 * HOUR + 59.9) == []
    assert handed(schedule, 10 * HOUR + 60) == [2]


def test_requests_are_paid_for_once_they_are_known() -> None:
    schedule = Schedule(range(10), RetryPolicy(requests_per_hour=3600))
    first = schedule.next(0.0)
    assert first == 0

    schedule.on_result(first, OK, 5.0, requests=7)

    assert schedule.next(11.9) is None  # seven requests, a second each
    assert schedule.next(12.0) == 1


def test_requests_of_several_tasks_add_up() -> None:
    pace = RateLimiter(3600)

    pace.charge(100.0, 3)
    pace.charge(101.0, 2)
    assert pace.free_at == 105.0
    pace.charge(200.0, 0)
    assert pace.free_at == 200.0


@given(st.lists(st.tuples(st.floats(0, 100), st.integers(1, 5)), min_size=1, max_size=60), st.integers(1, 1000))
def test_no_hour_holds_more_than_its_share(steps: list[tuple[float, int]], per_hour: int) -> None:
    schedule = Schedule(itertools.count(), RetryPolicy(videos_per_hour=per_hour))
    now, times = 0.0, list[float]()
    for wait, tries in steps:
        now += wait * 36
        times += [now for _ in range(tries) if schedule.next(now) is not None]

    for first in times:
        assert sum(first <= time < first + HOUR - 1e-6 for time in times) <= per_hour


# A source that refuses.


def breaker(patience_seconds: float = 7200.0) -> CircuitBreaker:
    return CircuitBreaker(patience_seconds, random.Random(0))


def test_waits_double_from_ten_minutes_and_are_jittered() -> None:
    waits = list[float]()
    for seed in range(100):
        each = CircuitBreaker(1e9, random.Random(seed))
        now = 1000.0
        for _ in range(4):
            each.record_failure(now)
            waits.append(each.probe_at - now)
            now = each.probe_at

    for number, middle in enumerate((600, 1200, 2400, 4800)):
        column = waits[number::4]
        assert 0.75 * middle <= min(column) < 0.9 * middle
        assert 1.1 * middle < max(column) <= 1.25 * middle
    assert FIRST_PROBE_SECONDS == 600


@given(st.floats(0, 1e6), st.integers(0, 2**32))
def test_a_source_is_given_up_once_the_patience_is_over_and_not_before(patience: float, seed: int) -> None:
    each, now, refusals = CircuitBreaker(patience, random.Random(seed)), 50.0, 0
    while not each.gave_up:
        each.record_failure(now)
        refusals += 1
        assert each.gave_up == (now >= 50.0 + patience)
        assert now <= each.probe_at <= 50.0 + patience
        now = each.probe_at

    assert now == 50.0 + patience
    assert refusals <= 1 + 5 + 12  # the waits double from an eighth of the patience, or from ten minutes


def test_without_patience_the_first_refusal_ends_it() -> None:
    schedule = Schedule(range(3), RetryPolicy(patience_seconds=0))
    schedule.next(0.0)

    assert schedule.on_result(0, BUSY, 1.0) is False  # its last word is still to come
    assert schedule.ended
    assert not schedule.empty
    assert schedule.next(1e9) is None


def test_an_answer_makes_the_next_refusal_the_first_one_again() -> None:
    each = breaker()
    each.record_failure(0.0)
    each.record_failure(700.0)
    each.record_success()
    assert not each.paused

    each.record_failure(10_000.0)

    assert not each.gave_up
    assert 10_000 + 450 <= each.probe_at <= 10_000 + 750


def test_a_refusal_pauses_all_but_one_probe() -> None:
    schedule = Schedule(range(10), RetryPolicy())
    assert [schedule.next(0.0) for _ in range(3)] == [0, 1, 2]
    schedule.on_result(0, BUSY, 1.0)
    probe_at = schedule.breaker.probe_at

    assert schedule.next(probe_at - 1) is None
    assert handed(schedule, probe_at) == [3]
    schedule.on_result(3, BUSY, probe_at + 1)
    assert schedule.next(probe_at + 2) is None  # and waits longer
    assert schedule.breaker.probe_at - probe_at > 750
    assert handed(schedule, schedule.breaker.probe_at) == [4]
    schedule.on_result(4, GONE, schedule.breaker.probe_at)  # a word on a clip is an answer too
    assert not schedule.breaker.paused
    assert handed(schedule, 5000.0) == [5, 6, 7, 8, 9, 0, 3]  # nothing is burnt


def test_what_was_asked_before_the_refusal_does_not_end_the_pause() -> None:
    schedule = Schedule(range(10), RetryPolicy())
    assert [schedule.next(0.0) for _ in range(4)] == [0, 1, 2, 3]
    schedule.on_result(0, BUSY, 1.0)
    probe_at = schedule.breaker.probe_at

    assert schedule.on_result(1, OK, 2.0) is True
    assert schedule.on_result(2, BUSY, 3.0) is False  # nor does it prolong it
    assert schedule.on_result(3, FAILED, 4.0) is False

    assert schedule.breaker.paused
    assert schedule.breaker.probe_at == probe_at
    assert schedule.next(probe_at - 1) is None


def test_a_refused_task_is_not_to_blame_for_what_was_answered_before() -> None:
    schedule = Schedule(range(2), RetryPolicy())
    assert handed(schedule, 0.0) == [0, 1]
    schedule.on_result(0, BUSY, 1.0)
    schedule.on_result(1, OK, 2.0)  # asked before

    assert schedule.next(schedule.breaker.probe_at) == 0
    assert schedule.on_result(0, BUSY, schedule.breaker.probe_at) is False
    assert schedule.breaker.paused
    assert not schedule.empty


def test_a_probe_that_fails_prolongs_the_pause() -> None:
    schedule = Schedule(range(3), RetryPolicy())
    schedule.next(0.0)
    schedule.on_result(0, BUSY, 0.0)
    before = schedule.breaker.probe_at
    assert schedule.next(before) == 1

    schedule.on_result(1, Status.TIMEOUT, before + 60)

    assert schedule.breaker.paused
    assert schedule.breaker.probe_at > before + 60 + 750
    assert schedule.next(schedule.breaker.probe_at) == 2  # rather than one that has failed
    schedule.on_result(2, BUSY, schedule.breaker.probe_at)
    assert schedule.next(schedule.breaker.probe_at) == 0


def test_a_task_that_is_refused_while_others_are_answered_is_left_and_stops_nobody() -> None:
    schedule = Schedule(range(6), RetryPolicy())
    schedule.next(0.0)
    schedule.on_result(0, BUSY, 0.0)
    now = schedule.breaker.probe_at
    assert schedule.next(now) == 1
    schedule.on_result(1, OK, now)
    assert handed(schedule, now) == [2, 3, 4, 5, 0]
    schedule.on_result(2, OK, now)

    assert schedule.on_result(0, BUSY, now) is True

    assert not schedule.breaker.paused
    for task in (3, 4, 5):
        assert schedule.on_result(task, OK, now)
    assert schedule.empty


def test_however_many_are_refused_again_after_others_were_answered_the_run_does_not_wait_for_them() -> None:
    count = 5
    schedule = Schedule(range(count + 1), RetryPolicy())
    now = 0.0
    assert len(handed(schedule, now)) == count + 1
    for task in range(count):
        schedule.on_result(task, BUSY, now)
    schedule.on_result(count, FAILED, now)
    now = schedule.breaker.probe_at
    assert schedule.next(now) == 0
    schedule.on_result(0, OK, now)

    rest = [task for task in handed(schedule, now) if task != count]
    assert rest == list(range(1, count))
    last_words = [schedule.on_result(task, BUSY, now) for task in rest]

    assert last_words == [True] * (count - 1)
    assert not schedule.breaker.paused


# Trying again.


def test_a_task_that_fails_is_tried_again_after_growing_waits_and_then_left() -> None:
    waits = list[list[float]]()
    for seed in range(100):
        schedule = Schedule([7], RetryPolicy(attempts=9), seed=seed)
        now, tried = 0.0, list[float]()
        while not schedule.empty:
            while schedule.next(now) is None:
                now += 0.5
            tried.append(now)
            schedule.on_result(7, FAILED, now)
        waits.append([later - earlier for earlier, later in itertools.pairwise(tried)])

    for column, middle in zip(zip(*waits, strict=True), (15, 45, 135, 405, 1215, 1800, 1800, 1800), strict=True):
        assert 0.5 * middle <= min(column) < 0.7 * middle
        assert 1.3 * middle < max(column) <= 1.5 * middle + 0.5
    assert LONGEST_RETRY_SECONDS == 1800


@pytest.mark.parametrize("attempts", [1, 2, 5, 1000])
def test_tries_are_counted_for_each_task_by_itself(attempts: int) -> None:
    schedule = Schedule(range(3), RetryPolicy(attempts=attempts, retry_seconds=0))
    tries, finals = Counter[int](), Counter[int]()
    while (task := schedule.next(0.0)) is not None:
        tries[task] += 1
        finals[task] += schedule.on_result(task, FAILED, 0.0)

    assert tries == dict.fromkeys(range(3), attempts)
    assert finals == dict.fromkeys(range(3), 1)
    assert schedule.empty


def test_a_refusal_costs_no_try() -> None:
    schedule = Schedule([0], RetryPolicy(attempts=1, patience_seconds=1e9))
    now = 0.0
    for _ in range(5):
        assert schedule.next(now) == 0
        assert schedule.on_result(0, BUSY, now) is False
        now = schedule.breaker.probe_at

    assert schedule.next(now) == 0
    assert schedule.on_result(0, FAILED, now) is True


def test_a_task_that_waits_for_its_next_try_holds_up_no_other() -> None:
    schedule = Schedule(range(4), RetryPolicy(attempts=2))
    assert schedule.next(0.0) == 0
    schedule.on_result(0, FAILED, 0.0)

    assert [schedule.next(1.0), schedule.next(1.0)] == [1, 2]
    assert schedule.next(30.0) == 0  # its time has come
    assert schedule.on_result(0, FAILED, 31.0) is True
    assert schedule.next(31.0) == 3


def test_what_is_added_goes_before_what_was_not_begun() -> None:
    schedule = Schedule(range(3), RetryPolicy())
    assert schedule.next(0.0) == 0

    schedule.add(10)
    schedule.add(11)

    assert handed(schedule, 0.0) == [10, 11, 1, 2]


def test_tasks_are_taken_from_their_iterable_as_they_are_needed() -> None:
    tasks = iter(range(1000))
    schedule = Schedule(tasks, RetryPolicy())

    assert not schedule.empty
    assert [schedule.next(0.0), schedule.next(0.0)] == [0, 1]

    assert next(tasks) == 2


@pytest.mark.parametrize("status", [status for status in Status if status.kind is Kind.PERMANENT] + [OK])
def test_what_is_final_is_not_tried_again(status: Status) -> None:
    schedule = Schedule([0], RetryPolicy())
    schedule.next(0.0)

    assert schedule.on_result(0, status, 0.0) is True
    assert schedule.empty


# Network and disk.


def test_a_network_that_fails_for_everything_is_a_refusal() -> None:
    schedule = Schedule(range(100), RetryPolicy())
    for task in range(OFFLINE - 1):
        assert schedule.next(0.0) == task
        schedule.on_result(task, OFF, 0.0)
    assert not schedule.breaker.paused

    assert schedule.next(0.0) == OFFLINE - 1
    schedule.on_result(OFFLINE - 1, OFF, 0.0)

    assert schedule.breaker.paused
    assert schedule.next(400.0) is None


@pytest.mark.parametrize("status", [OFF, Status.HTTP_5XX, Status.TIMEOUT])
def test_a_host_that_fails_everything_is_left_alone_however_it_fails(status: Status) -> None:
    schedule = Schedule(range(10 * OFFLINE), RetryPolicy())
    handed_out = 0
    while (task := schedule.next(0.0)) is not None:
        schedule.on_result(task, (OFF, status, Status.CRASHED)[handed_out % 3], 0.0)
        handed_out += 1

    assert schedule.breaker.paused
    assert handed_out <= 2 * OFFLINE


def test_what_fails_here_after_the_source_gave_its_file_is_no_outage() -> None:
    schedule = Schedule(range(10 * OFFLINE), RetryPolicy())
    while (task := schedule.next(0.0)) is not None:
        schedule.on_result(task, Status.TIMEOUT, 0.0, reached=True)

    assert not schedule.breaker.paused


@pytest.mark.parametrize("other", [OK, FAILED, GONE])
def test_failures_of_the_network_among_others_are_the_clips(other: Status) -> None:
    schedule = Schedule(range(10 * OFFLINE), RetryPolicy())
    for number in range(10 * OFFLINE):
        task = schedule.next(0.0)
        assert task is not None
        schedule.on_result(task, other if number % OFFLINE == OFFLINE - 1 else OFF, 0.0)

    assert not schedule.breaker.paused


def test_a_full_disk_ends_everything_at_once() -> None:
    schedule = Schedule(range(5), RetryPolicy())
    assert [schedule.next(0.0) for _ in range(2)] == [0, 1]

    assert schedule.on_result(0, FULL, 0.0) is True

    assert schedule.ended
    assert schedule.next(1e9) is None
    assert schedule.on_result(1, OK, 1.0) is True


# Nothing is lost, whatever the source says.

ANSWERS: list[Status] = [OK, GONE, BUSY, Status.NO_FORMATS, *(each for each in Status if each.is_transient)]
MOODS = st.sampled_from(["answers", "refuses", "offline", "anything"])


@settings(max_examples=150, deadline=None)
@given(
    count=st.integers(0, 30),
    workers=st.integers(1, 8),
    rate=st.one_of(st.none(), st.integers(1, 2000)),
    patience=st.sampled_from([0.0, 100.0, 7200.0, 1e7]),
    moods=st.lists(st.tuples(MOODS, st.floats(1, 20_000)), max_size=8),
    disk=st.one_of(st.none(), st.integers(0, 60)),
    seed=st.integers(0, 2**32),
)
def test_every_task_ends_once_or_is_left_when_the_schedule_ended(
    count: int,
    workers: int,
    rate: int | None,
    patience: float,
    moods: list[tuple[str, float]],
    disk: int | None,
    seed: int,
) -> None:
    """A source whose mood changes with time, asked by several workers that take random whiles."""
    rules = RetryPolicy(attempts=3, patience_seconds=patience, videos_per_hour=rate)
    schedule = Schedule(range(count), rules, seed=count)
    lots = random.Random(seed)
    ends = list(itertools.accumulate((seconds for _, seconds in moods), initial=0.0))[1:]
    now, running, asked, ended, tries = (
        0.0,
        list[tuple[float, int, Status]](),
        list[float](),
        Counter[int](),
        Counter[int](),
    )

    def answer(at: float) -> Status:
        mood = next((mood for (mood, _), end in zip(moods, ends, strict=True) if at < end), "answers")
        if mood == "anything":
            return lots.choice(ANSWERS)
        return {"answers": OK, "refuses": BUSY, "offline": OFF}[mood]

    for _ in range(20_000):
        while len(running) < workers and (task := schedule.next(now)) is not None:
            assert task not in [each for _, each, _ in running]
            assert not ended[task]
            paused = schedule.breaker.paused
            assert not paused or now >= schedule.breaker.probe_at
            if paused:
                assert schedule.next(now) is None  # one probe and no more
            asked.append(now)
            tries[task] += 1
            status = FULL if len(asked) == disk else answer(now)
            running.append((now + lots.uniform(0.1, 300), task, status))
        if not running and (schedule.empty or schedule.ended):
            break
        if running:
            running.sort()
            at, task, status = running.pop(0)
            now = max(now, at)
            ended[task] += schedule.on_result(task, status, now)
        else:
            now += lots.uniform(1, 100)
    else:
        pytest.fail("it does not come to an end")

    assert all(times == 1 for times in ended.values() if times)
    if not schedule.ended:
        assert [task for task in range(count) if ended[task]] == list(range(count))
    if rate:
        assert all(sum(first <= each < first + HOUR - 1e-6 for each in asked) <= rate for first in asked)
    if all(mood == "answers" for mood, _ in moods) and disk is None:
        assert tries == dict.fromkeys(range(count), 1)
