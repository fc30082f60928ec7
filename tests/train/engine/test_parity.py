"""Any number of ranks, and any number of micro-batches among them, learn what one process learns."""

import importlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from kinetics_sounds import plugins
from kinetics_sounds.train import methods
from kinetics_sounds.train.data.workers import start_method
from kinetics_sounds.train.distributed.process_group import World

from ..methods.special import METHODS, special

pytestmark = pytest.mark.slow

ALONE = World(0, 1, torch.device("cpu"))
STEPS = dict.fromkeys(METHODS, 3) | {"iicl": 5}
"""Of a case; IICL's second stage begins with the third epoch, which is step 4."""
CHEAP = tuple(f"{method}-2-{STEPS[method]}" for method in METHODS)
"""Every method of the folder, in two micro-batches: one that forgets to gather fails here."""
CASES = (*CHEAP, "avcl-1-3", "avid-4-3", "moco-2-3-recomputed")
OTHERS = tuple(
    name for method in METHODS for parts in (1, 2, 4) if (name := f"{method}-{parts}-{STEPS[method]}") not in CASES
)
RESUMED = ("avcl-2-3", "moco-2-3", "avid-2-3", "cma-2-3", "crisscross-2-3", "iicl-2-5")
"""Cases that are saved in mid-epoch, after step 2, and go on in another world; IICL's to its second stage."""

Found = dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def steps() -> Iterator[Any]:
    """The module that ranks run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(Path(__file__).parent))
        yield importlib.import_module("steps")


@pytest.fixture(scope="module")
def case_of(steps: Any) -> Callable[[str], Any]:
    """The case of a name: METHOD-MICRO_BATCHES-STEPS, and what is done to its encoders."""

    def case(name: str) -> Any:
        method, grad_accum_steps, count, *more = name.split("-")
        its = special(method)
        return steps.Case(
            method=method,
            settings=its.small,
            buffers=its.buffers,
            grad_accum_steps=int(grad_accum_steps),
            steps=int(count),
            recomputed="recomputed" in more,
            compiled="compiled" in more,
        )

    return case


def spawn(steps: Any, size: int, folder: Path, cases: Sequence[Any]) -> Found:
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
def folder(steps: Any, case_of: Callable[[str], Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where one process has saved some cases in mid-epoch."""
    folder = tmp_path_factory.mktemp("parity")
    for name in RESUMED:
        steps.saved(case_of(name), ALONE, folder / "alone" / name)
    return folder


@pytest.fixture(scope="module")
def alone(steps: Any, case_of: Callable[[str], Any]) -> Callable[[str], Found]:
    """What one process finds of a case."""
    kept: dict[str, Found] = {}

    def found(name: str) -> Found:
        if name not in kept:
            kept[name] = steps.trained(case_of(name), ALONE)
        return kept[name]

    return found


@pytest.fixture(
    scope="module",
    params=(2, pytest.param(4, marks=pytest.mark.slow_campaign)),  # 4 ranks take 40 s of two cores
    ids=lambda size: f"ranks{size}",
)
def together(
    steps: Any, case_of: Callable[[str], Any], folder: Path, request: pytest.FixtureRequest
) -> tuple[int, Found]:
    """How many ranks there are, and what they find."""
    return request.param, spawn(steps, request.param, folder, [case_of(name) for name in CASES])


def of(found: Found, name: str) -> Found:
    return {key.removeprefix(f"{name}:"): value for key, value in found.items() if key.startswith(f"{name}:")}


def assert_close(found: Found, expected: Found, *, tolerance: float) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(
            found[name].double(), value.double(), rtol=tolerance, atol=tolerance, msg=f"{name}: ".__add__
        )


def test_every_method_is_trained_here() -> None:
    """Its own test file says how (`SMALL`), or nothing."""
    assert {name.partition("-")[0] for name in CASES} == set(plugins.names(methods.__name__))


@pytest.mark.parametrize("case", CASES)
def test_ranks_and_micro_batches_learn_what_one_process_does(
    alone: Callable[[str], Found], together: tuple[int, Found], case: str
) -> None:
    """Losses, gradients, weights, running statistics, banks and queues, after all steps."""
    expected = alone(case)
    first = {name: value for name, value in expected.items() if name == "loss 0" or name.startswith("grad ")}

    assert len(first) > 10  # the loss, and gradients
    found = of(together[1], case)
    assert_close({name: found[name] for name in first}, first, tolerance=1e-10)
    assert_close(found, expected, tolerance=1e-8)


@pytest.mark.parametrize("case", RESUMED)
def test_a_run_goes_on_in_another_world_from_the_middle_of_an_epoch(
    steps: Any, case_of: Callable[[str], Any], folder: Path, together: tuple[int, Found], case: str
) -> None:
    chosen = case_of(case)
    training = steps.Training(chosen, ALONE)
    training.learn(0, 3)
    expected = training.learn(3, 5) | training.state()

    assert_close(of(together[1], f"resumed {case}"), expected, tolerance=1e-8)
    back = steps.resumed(chosen, ALONE, folder / str(together[0]) / case)
    assert_close(back, expected, tolerance=1e-8)


@pytest.mark.slow_campaign
@pytest.mark.parametrize("size", [2, 4])
def test_so_do_all_other_methods_and_numbers(
    steps: Any, case_of: Callable[[str], Any], alone: Callable[[str], Found], tmp_path: Path, size: int
) -> None:
    found = spawn(steps, size, tmp_path, [case_of(name) for name in OTHERS])
    for name in OTHERS:
        assert_close(of(found, name), alone(name), tolerance=1e-8)


@pytest.mark.slow_campaign
@pytest.mark.parametrize("long", ["avcl-2-50", "moco-1-50"])
def test_fifty_steps_differ_by_rounding_alone(
    steps: Any, case_of: Callable[[str], Any], alone: Callable[[str], Found], tmp_path: Path, long: str
) -> None:
    for size in (2, 4):
        assert_close(of(spawn(steps, size, tmp_path, [case_of(long)]), long), alone(long), tolerance=1e-6)


@pytest.mark.slow_campaign
@pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::UserWarning"
)  # of torch's compiler, which would fail on them
@pytest.mark.parametrize("compiled", ["avcl-2-3-compiled", "moco-1-3-recomputed-compiled"])
def test_compiled_encoders_learn_the_same(
    steps: Any, case_of: Callable[[str], Any], alone: Callable[[str], Found], tmp_path: Path, compiled: str
) -> None:
    plain = alone(compiled.partition("-3")[0] + "-3")

    assert_close(alone(compiled), plain, tolerance=1e-8)
    assert_close(of(spawn(steps, 2, tmp_path, [case_of(compiled)]), compiled), plain, tolerance=1e-8)
