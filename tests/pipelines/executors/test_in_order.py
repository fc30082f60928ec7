import contextlib
import time
from collections.abc import Iterator
from typing import Any

from kinetics_sounds.pipelines.executors import in_order, local

# Tasks must be importable by name in a spawned process, which test modules are not: the standard library's are.


def never() -> bool:
    return False


@contextlib.contextmanager
def pool(function: Any, *, workers: int = 2) -> Iterator["local.Pool[Any, Any]"]:
    with contextlib.closing(local.Pool(function, workers=workers)) as opened:
        yield opened


def test_results_come_in_the_order_of_the_tasks_where_that_is_asked_for() -> None:
    waits = [0.4, 0.0, 0.2, 0.01, 0.1]

    with pool(time.sleep) as opened:
        assert list(in_order(opened, waits, timeout_seconds=20, stop=never)) == [(wait, None) for wait in waits]


def test_a_slow_first_task_does_not_let_the_others_run_far_ahead() -> None:
    taken = []

    def tasks() -> Iterator[float]:
        for number in range(100):
            taken.append(number)
            yield 1.5 if number == 0 else number / 1e6

    with pool(time.sleep) as opened:
        first = next(in_order(opened, tasks(), timeout_seconds=20, stop=never))

    assert first == (1.5, None)
    assert len(taken) == 4  # two workers, two tasks ahead each


def test_a_request_to_stop_ends_it_soon() -> None:
    began = time.monotonic()

    with pool(time.sleep) as opened:
        found = list(
            in_order(opened, [30.0, 31.0, 32.0], timeout_seconds=60, stop=lambda: time.monotonic() > began + 2)
        )

    assert found == []
    assert time.monotonic() - began < 15
