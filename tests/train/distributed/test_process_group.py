"""Many ranks learn what one process learns: losses, gradients, statistics, whatever the slices.

`ranks.py` is run by one process, and by 2 and 4 that hold different samples: slices of 5, and of 2, 3, 2 and 3.
"""

import importlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import Tensor, nn

from kinetics_sounds.errors import RunError
from kinetics_sounds.train.data.workers import start_method
from kinetics_sounds.train.distributed import (
    collectives,
    consistency,
    gather,
    gradients,
    process_group,
    sync_batch_norm,
)
from kinetics_sounds.train.distributed.process_group import World

HERE = Path(__file__).parent
CPU = torch.device("cpu")
EXACT = 1e-10
AVCL = ("sigmoid/pool", "relu/pool", "sigmoid/conv3", "relu/conv5+pool")
"""Gate, and what CGRA correlates."""

Found = Mapping[str, Tensor]


@pytest.fixture(scope="module")
def ranks() -> Iterator[Any]:
    """The module that ranks run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(HERE))
        yield importlib.import_module("ranks")


@pytest.fixture(scope="module")
def alone(ranks: Any) -> Found:
    """What one process finds."""
    found: Found = ranks.everything(World(0, 1, CPU))
    return found


@pytest.fixture(
    scope="module", params=[2, pytest.param(4, marks=pytest.mark.slow_campaign)], ids=lambda size: f"ranks{size}"
)
def folder(ranks: Any, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Path:
    """What so many ranks left; the last of them died."""
    folder = tmp_path_factory.mktemp("ranks")
    codes = spawn(ranks.run, request.param, folder)
    assert codes == [0] * (request.param - 1) + [ranks.DIED]
    return folder


@pytest.fixture(scope="module")
def together(ranks: Any, folder: Path) -> list[Found]:
    """What each rank found."""
    return [load_file(folder / str(rank) / ranks.FOUND) for rank in range(len(list(folder.glob("[0-9]"))))]


def spawn(
    act: Callable[[int, int, Path], None], size: int, folder: Path, *, seconds: float = 200.0
) -> list[int | None]:
    """Run ranks to their ends; their exit codes, None for one that had not ended."""
    context: Any = start_method("torch")  # imported once for all of them
    processes = [context.Process(target=act, args=(rank, size, folder)) for rank in range(size)]
    for process in processes:
        process.start()
    until = time.monotonic() + seconds
    for process in processes:
        process.join(max(0.0, until - time.monotonic()))
    codes = [process.exitcode for process in processes]
    for process in processes:
        process.kill()
        process.join()
    return codes


def case(found: Found, name: str) -> dict[str, Tensor]:
    return {key.removeprefix(f"{name}:"): value for key, value in found.items() if key.startswith(f"{name}:")}


def assert_equal(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        said = f"{name}: ".__add__
        torch.testing.assert_close(found[name], value, rtol=EXACT, atol=EXACT, msg=said)


@pytest.mark.slow
def test_micro_batches_and_what_is_kept_of_them_are_those_of_one_process(alone: Found, together: list[Found]) -> None:
    """Rows meet within a micro-batch whatever the ranks; a method gets those of all ranks, in the order of places."""
    expected = case(alone, "accumulated")

    assert expected["kept row"].tolist() == list(range(100, 110))
    assert expected["kept micro"].tolist() == [0] * 5 + [1] * 5
    assert expected["kept big"].dtype == torch.bool
    for found in together:
        assert_equal(case(found, "accumulated"), expected)


@pytest.mark.slow
@pytest.mark.parametrize("name", AVCL)
def test_avcl_has_the_loss_and_the_gradients_of_one_process(alone: Found, together: list[Found], name: str) -> None:
    expected = case(alone, name)

    assert len(expected) > 50
    assert all(value.abs().max() > 1e-6 for value in expected.values())
    for found in together:
        assert_equal(case(found, name), expected)


@pytest.mark.slow
def test_a_gather_without_gradient_is_found_out(alone: Found, together: list[Found]) -> None:
    expected = case(alone, "plain")

    for found in together:
        wrong = case(found, "plain")
        torch.testing.assert_close(wrong["loss"], expected["loss"], rtol=EXACT, atol=0)
        with pytest.raises(AssertionError, match=r"^grad "):
            assert_equal(wrong, expected)
        short = ("grad video.", "grad audio.")  # every rank computes the whole of what lies behind the gather
        assert_equal(
            {name: value * (len(together) if name.startswith(short) else 1) for name, value in wrong.items()}, expected
        )


@pytest.mark.slow
@pytest.mark.parametrize("name", ["trained", "trained, shared"])
def test_three_steps_with_batch_norms_in_training_are_those_of_one_process(
    alone: Found, together: list[Found], name: str
) -> None:
    expected = case(alone, name)

    assert expected["state video.conv1.1.num_batches_tracked"] == 3
    same = [
        torch.equal(expected[f"state {side}.conv1.1.{what}"], expected[f"state video.conv1.1.{what}"])
        for side, what in (("audio", "weight"), ("audio", "running_mean"))
    ]
    assert same == [name == "trained, shared", False]
    for found in together:
        assert_equal(case(found, name), expected)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["norm1d", "norm3d", "bare", "untracked"])
def test_a_batch_norm_over_ranks_is_that_of_one_process(alone: Found, together: list[Found], name: str) -> None:
    expected = case(alone, name)

    rows = {key: torch.cat([case(found, name)[key] for found in together]) for key in expected if "rows" in key}
    for found in together:
        assert_equal({**case(found, name), **rows}, expected)


@pytest.mark.slow
def test_a_batch_norm_has_float32_statistics_of_bfloat16_values(alone: Found, together: list[Found]) -> None:
    expected = case(alone, "bf16")

    assert expected["rows output 0"].dtype == torch.bfloat16
    rows = {key: torch.cat([case(found, "bf16")[key] for found in together]) for key in expected if "rows" in key}
    for found in together:
        here = {**case(found, "bf16"), **rows}
        assert {name: value.dtype for name, value in here.items()} == {name: v.dtype for name, v in expected.items()}
        for name in expected:
            exact = name.startswith("state")
            torch.testing.assert_close(
                here[name], expected[name], rtol=1e-6 if exact else 2**-7, atol=1e-6 if exact else 2**-7
            )


@pytest.mark.slow
def test_a_batch_norm_in_evaluation_mode_asks_nobody(together: list[Found]) -> None:
    for found in together:
        torch.testing.assert_close(found["frozen:output"], torch.full((2, 3), 8.0).double(), rtol=1e-5, atol=0)


@pytest.mark.slow
def test_every_row_of_every_rank_is_gathered_once_in_order(together: list[Found]) -> None:
    for found in together:
        assert found["gathered:int64"].tolist() == [0, 1, 2]
        assert found["gathered:bool"].tolist() == [False, True, True]
        assert found["gathered:bfloat16"].tolist() == [[0], [1], [2]]
        assert found["gathered:transposed"].tolist() == [[0, 0], [1, 10], [2, 20]]
        assert found["gathered:objects"]
        assert found["gathered:no objects"] == 0


@pytest.mark.slow
def test_what_ranks_ask_of_bfloat16_rows_is_summed_in_float32(together: list[Found]) -> None:
    total = torch.tensor(1 + (len(together) - 1) / 512).bfloat16()  # added one by one in bfloat16, 1 / 512 is lost
    for found in together:
        assert found["gathered:bfloat16 gradient"].item() == total


@pytest.mark.slow
def test_gradients_are_averaged_and_absent_ones_are_zero_unless_all_are(together: list[Found]) -> None:
    size = len(together)
    mean = (size + 1) / 2  # of 1 … W
    for found in together:
        averaged = case(found, "averaged")
        assert averaged["used"].tolist() == [mean, 2 * mean]
        assert averaged["partly"].tolist() == [1, 1]
        assert averaged["low"].tolist() == [mean - 1, mean - 1]
        assert averaged["turned"].tolist() == [[0, 2 * mean, 4 * mean], [mean, 3 * mean, 5 * mean]]
        assert averaged["left alone"]


@pytest.mark.slow
def test_all_ranks_start_with_the_model_of_the_first(alone: Found, together: list[Found]) -> None:
    first = case(alone, "broadcast")
    for found in together:
        own = case(found, "broadcast")
        assert own["digests"].tolist() == [len(together), 1]
        assert own["same layout"]
        assert all(torch.equal(own[name], first[name]) for name in first if name.startswith("state"))


@pytest.mark.slow
def test_a_fact_that_ranks_do_not_share_is_named_without_its_secrets(together: list[Found]) -> None:
    said = [bytes(found["facts:error"].tolist()).decode() for found in together]
    wrong = (
        "rank 3 of 4: shards is s3://***@host/1, where rank 0 has s3://***@host/0; "
        "start every rank with the same command, code and data"
    )

    assert said == ([wrong] * 4 if len(together) == 4 else ["", ""])


@pytest.mark.slow
def test_ranks_say_that_another_is_lost(ranks: Any, folder: Path, together: list[Found]) -> None:
    size = len(together)
    for rank in range(size - 1):
        assert (
            (folder / str(rank) / ranks.SAID).read_text().startswith(f"rank {rank} of {size}: lost the other ranks (")
        )


@pytest.mark.slow
def test_a_rank_does_not_wait_longer_than_it_was_told(ranks: Any, tmp_path: Path) -> None:
    context: Any = start_method("torch")  # imported once for all of them
    first, second = (context.Process(target=ranks.stuck, args=(rank, 2, tmp_path)) for rank in range(2))
    first.start()
    second.start()
    first.join(100)
    still = second.is_alive()
    os.kill(second.pid or 0, signal.SIGKILL)
    second.join()

    assert (first.exitcode, still) == (0, True)
    assert (tmp_path / "0" / ranks.SAID).read_text().startswith("rank 0 of 2: lost the other ranks (")


PARTED = """
import sys, torch
from pathlib import Path
from kinetics_sounds.train.distributed import collectives, process_group
with process_group.start(torch.device("cpu"), init_method=sys.argv[1]) as world:
    import torch._dynamo, torch.distributed.nn.functional
    collectives.barrier()
print(*(path.read_text().strip() for path in Path("/proc/self/task").glob("*/comm")))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_ranks_that_parted_have_no_thread_of_gloo_left(tmp_path: Path) -> None:
    """One that is left as Python ends may abort the process: seen as exit code -6 of a run that was done."""
    ranks = [
        subprocess.Popen(
            [sys.executable, "-c", PARTED, f"file://{tmp_path}/meet"],
            env={**os.environ, "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2"},
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    told = [rank.communicate(timeout=120)[0] for rank in ranks]

    assert [rank.returncode for rank in ranks] == [0, 0]
    assert all(threads.split() for threads in told)
    assert not any("gloo" in threads for threads in told)


class TestAlone:
    def test_a_process_that_nobody_started_as_a_rank_is_alone(self) -> None:
        with process_group.start(CPU, environ={}) as world:
            assert world == World(0, 1, CPU)
            assert world.is_main
            assert not torch.distributed.is_initialized()

    def test_one_rank_needs_no_others(self) -> None:
        with process_group.start(CPU, environ={"RANK": "0", "WORLD_SIZE": "1"}) as world:
            assert world.size == 1
            assert not torch.distributed.is_initialized()

    def test_everything_is_what_it_would_be_without_ranks(self) -> None:
        linear = nn.Linear(2, 2)
        linear.weight.grad = torch.ones(2, 2)
        local_BD = torch.ones(3, 2)

        gradients.average_gradients(linear.parameters())
        collectives.broadcast_buffers(linear)
        consistency.check_equal({"seed": "1"})

        assert gather.gather(local_BD) is local_BD
        assert linear.weight.grad.tolist() == [[1, 1], [1, 1]]
        assert linear.bias.grad is None
        assert gather.gather_objects([(1, 2.5), None]) == [[1, 2.5], None]

    def test_a_synchronised_model_is_the_same_to_the_bit(self) -> None:
        torch.manual_seed(0)
        norm = nn.BatchNorm1d(3)
        model = nn.Sequential(norm, nn.Linear(3, 3), norm)
        parameters, names = list(model.parameters()), list(model.state_dict())
        twin = nn.Sequential(nn.BatchNorm1d(3), nn.Linear(3, 3), nn.BatchNorm1d(3))
        twin.load_state_dict(model.state_dict())
        twin[2] = twin[0]
        values_BD = torch.randn(5, 3)

        sync_batch_norm.convert_sync_batchnorm(model)

        assert isinstance(model[0], sync_batch_norm.SyncBatchNorm)
        assert model[0] is model[2]
        assert all(now is then for now, then in zip(model.parameters(), parameters, strict=True))
        assert list(model.state_dict()) == names
        assert torch.equal(model(values_BD), twin(values_BD))
        assert all(torch.equal(now, then) for now, then in zip(model.buffers(), twin.buffers(), strict=True))

    def test_a_digest_knows_names_types_shapes_and_values(self) -> None:
        def digest(**tensors: Tensor) -> str:
            module = nn.Module()
            for name, tensor in tensors.items():
                module.register_buffer(name, tensor)
            told: str = consistency.digest(module)
            return told

        zero = digest(a=torch.zeros(2, 3))

        assert zero == digest(a=torch.zeros(3, 2).T)
        others = [torch.zeros(3, 2), torch.zeros(2, 3, dtype=torch.int32), torch.zeros(2, 3) - 1e-9]
        assert len({zero, digest(b=torch.zeros(2, 3)), *(digest(a=other) for other in others)}) == 5


def test_a_batch_norm_without_a_sample_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collectives, "ranks", lambda: 4)

    with pytest.raises(ValueError, match=r"^batch norm: a rank has no sample; give a batch of at least 4,"):
        sync_batch_norm.SyncBatchNorm(3)(torch.zeros(0, 3))


def test_a_batch_norm_needs_channels() -> None:
    with pytest.raises(ValueError, match=r"must be given \(B, C, ...\), got \(3,\)"):
        sync_batch_norm.SyncBatchNorm(3)(torch.zeros(3))


@given(total=st.integers(0, 100), size=st.integers(1, 16))
def test_parts_are_all_and_differ_by_one_at_most(total: int, size: int) -> None:
    parts = [World(rank, size, CPU).local_slice(total) for rank in range(size)]

    assert [each for part in parts for each in part] == list(range(total))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


@pytest.mark.parametrize(
    ("environ", "told"),
    [
        ({"WORLD_SIZE": "2"}, "WORLD_SIZE=2"),
        ({"RANK": "2", "WORLD_SIZE": "2", "LOCAL_RANK": "0"}, "RANK=2 WORLD_SIZE=2 LOCAL_RANK=0"),
        ({"RANK": "-1", "WORLD_SIZE": "2", "LOCAL_RANK": "0"}, "RANK=-1 WORLD_SIZE=2 LOCAL_RANK=0"),
        ({"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "1"}, "RANK=0 WORLD_SIZE=2 LOCAL_RANK=1"),
        ({"RANK": "1", "WORLD_SIZE": "two", "LOCAL_RANK": "1"}, "RANK=1 WORLD_SIZE=two LOCAL_RANK=1"),
    ],
)
def test_an_environment_that_is_no_ranks_place_is_told(environ: dict[str, str], told: str) -> None:
    with (
        pytest.raises(RunError, match=rf"^environment: {told} does not describe a rank; start the ranks with torchrun"),
        process_group.start(CPU, environ=environ),
    ):
        pass


def test_a_rank_without_a_device_of_its_own_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    environ = {"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "3"}

    with (
        pytest.raises(RunError, match=r"^LOCAL_RANK 3: this machine has 2 CUDA devices; .* --device cpu$"),
        process_group.start(torch.device("cuda"), environ=environ),
    ):
        pass


@pytest.mark.parametrize("init_method", ["env://", "file"])
def test_a_rank_that_meets_nobody_says_so(tmp_path: Path, init_method: str) -> None:
    meet = f"file://{tmp_path / 'meet'}" if init_method == "file" else init_method
    environ = {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0"}

    with (
        pytest.raises(RunError, match=r"^rank 0 of 2: cannot reach the other ranks with gloo \(.*GLOO_SOCKET_IFNAME"),
        process_group.start(CPU, environ=environ, init_method=meet, timeout_seconds=1.0),
    ):
        pass
    assert not torch.distributed.is_initialized()
