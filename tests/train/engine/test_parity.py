"""Any number of ranks, and any number of micro-batches among them, learn what one process learns."""

import importlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from kinetics_sounds.train.data.workers import start_method
from kinetics_sounds.train.distributed.process_group import World

from . import steps as _types

pytestmark = pytest.mark.slow

ALONE = World(0, 1, torch.device("cpu"))
RESUMED = ("avcl-2-3", "moco-2-3", "avid-1-3", "cma-2-3")
"""Cases that are saved in mid-epoch and go on in another world."""

Found = dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def steps() -> Iterator[Any]:
    """The module that ranks run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(Path(__file__).parent))
        yield importlib.import_module("steps")


def spawn(steps: Any, size: int, folder: Path, cases: tuple[_types.Case, ...]) -> Found:
    """What so many ranks find."""
    context: Any = start_method("torch")
    processes = [context.Process(target=steps.run, args=(rank, size, folder, cases)) for rank in range(size)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(200)
    codes = [process.exitcode for process in processes]
    for process in processes:
        process.kill()
    assert codes == [0] * size
    return load_file(folder / f"{size}-{steps.FOUND}")


@pytest.fixture(scope="module")
def folder(steps: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where one process has saved some cases in mid-epoch."""
    folder = tmp_path_factory.mktemp("parity")
    for case in steps.CASES:
        if str(case) in RESUMED:
            steps.saved(case, ALONE, folder / "alone" / str(case))
    return folder


@pytest.fixture(scope="module")
def alone(steps: Any) -> Callable[[Any], Found]:
    """What one process finds of a case."""
    kept: dict[str, Found] = {}

    def found(case: Any) -> Found:
        if str(case) not in kept:
            kept[str(case)] = steps.trained(case, ALONE)
        return kept[str(case)]

    return found


@pytest.fixture(
    scope="module",
    params=(2, pytest.param(4, marks=pytest.mark.slow_campaign)),  # 4 ranks take 40 s of two cores
    ids=lambda size: f"ranks{size}",
)
def together(steps: Any, folder: Path, request: pytest.FixtureRequest) -> tuple[int, Found]:
    """How many ranks there are, and what they find."""
    return request.param, spawn(steps, request.param, folder, steps.CASES)


def of(found: Found, name: str) -> Found:
    return {key.removeprefix(f"{name}:"): value for key, value in found.items() if key.startswith(f"{name}:")}


def assert_close(found: Found, expected: Found, *, tolerance: float) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(
            found[name].double(), value.double(), rtol=tolerance, atol=tolerance, msg=f"{name}: ".__add__
        )


@pytest.mark.parametrize("case", [str(case) for case in _types.CASES])
def test_ranks_and_micro_batches_learn_what_one_process_does(
    steps: Any, alone: Callable[[Any], Found], together: tuple[int, Found], case: str
) -> None:
    """Losses, gradients, weights, running statistics, banks and queues, after three steps."""
    chosen = next(each for each in steps.CASES if str(each) == case)
    expected = alone(chosen)
    first = {name: value for name, value in expected.items() if name == "loss 0" or name.startswith("grad ")}

    assert len(first) > 30
    found = of(together[1], case)
    assert_close({name: found[name] for name in first}, first, tolerance=1e-10)
    assert_close(found, expected, tolerance=1e-8)


@pytest.mark.parametrize("case", RESUMED)
def test_a_run_goes_on_in_another_world_from_the_middle_of_an_epoch(
    steps: Any, folder: Path, together: tuple[int, Found], case: str
) -> None:
    chosen = next(each for each in steps.CASES if str(each) == case)
    training = steps.Training(chosen, ALONE)
    training.learn(0, 3)
    expected = training.learn(3, 5) | training.state()

    assert_close(of(together[1], f"resumed {case}"), expected, tolerance=1e-8)
    back = steps.resumed(chosen, ALONE, folder / str(together[0]) / case)
    assert_close(back, expected, tolerance=1e-8)


@pytest.mark.slow_campaign
@pytest.mark.parametrize("size", [2, 4])
def test_so_do_all_other_methods_and_numbers(
    steps: Any, alone: Callable[[Any], Found], tmp_path: Path, size: int
) -> None:
    found = spawn(steps, size, tmp_path, steps.OTHERS)
    for case in steps.OTHERS:
        assert_close(of(found, str(case)), alone(case), tolerance=1e-8)


@pytest.mark.slow_campaign
@pytest.mark.parametrize("long", ["avcl-2-50", "moco-1-50"])
def test_fifty_steps_differ_by_rounding_alone(
    steps: Any, alone: Callable[[Any], Found], tmp_path: Path, long: str
) -> None:
    case = next(each for each in steps.LONG if str(each) == long)
    for size in (2, 4):
        assert_close(of(spawn(steps, size, tmp_path, (case,)), long), alone(case), tolerance=1e-6)


@pytest.mark.slow_campaign
@pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::UserWarning"
)  # of torch's compiler, which would fail on them
@pytest.mark.parametrize("compiled", ["avcl-2-3-compiled", "moco-1-3-recomputed-compiled"])
def test_compiled_encoders_learn_the_same(
    steps: Any, alone: Callable[[Any], Found], tmp_path: Path, compiled: str
) -> None:
    case = next(each for each in steps.COMPILED if str(each) == compiled)
    plain = alone(steps.Case(method=case.method, accumulate=case.accumulate))

    assert_close(alone(case), plain, tolerance=1e-8)
    assert_close(of(spawn(steps, 2, tmp_path, (case,)), compiled), plain, tolerance=1e-8)
