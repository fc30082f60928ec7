"""The order of the samples, that it does not depend on who loads them, and what becomes of a bad one."""

import dataclasses
import itertools
import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kinetics_sounds import stream
from kinetics_sounds.errors import RunError, ShardError
from kinetics_sounds.shards import index, layout
from kinetics_sounds.shards.writer import Sample, ShardWriter
from kinetics_sounds.stream import Split, open_split
from kinetics_sounds.train.data import fetcher, loader, sampler
from kinetics_sounds.train.data.bad_samples import BadSampleLog
from kinetics_sounds.train.data.loader import Loading
from kinetics_sounds.train.data.sampler import Order, Request
from kinetics_sounds.train.data.views import clip_and_mel
from kinetics_sounds.train.data.workers import Deadline

VIEW = clip_and_mel.Settings(frames=8, resize_height=36, resize_width=36, crop=32, mel_resize=16, mel_crop=12)
HERE = Loading(workers=0)
SEED = 3


def samples(split: Split, **more: Any) -> fetcher.Samples:
    return fetcher.Samples(split=split, view=clip_and_mel.__name__, settings=VIEW, **more)


def order(split: Split, *, batch: int, steps: int, first_step: int = 0, **more: Any) -> Order:
    return Order(split=split, batch=batch, seed=more.pop("seed", SEED), first_step=first_step, steps=steps, **more)


def sized(split: Split, counts: tuple[int, ...]) -> Split:
    """The same split as if its shards held so many samples: enough to order them, not to read them."""
    keys = np.array([f"k{number}".encode() for number in range(sum(counts))])
    return dataclasses.replace(split, count_S=np.array(counts), key_N=keys)


def numbers(batches: Iterable[list[Request]]) -> list[list[int]]:
    return [[request.index for request in batch] for batch in batches]


class TestOrder:
    @given(
        counts=st.lists(st.integers(0, 9), min_size=1, max_size=5).map(tuple).filter(any),
        batch=st.integers(1, 8),
        epochs=st.integers(1, 3),
        window=st.none() | st.integers(1, 6),
        ranks=st.integers(1, 4),
        data=st.data(),
    )
    def test_an_epoch_repeats_nothing_and_a_run_goes_on_from_any_step_on_any_number_of_ranks(
        self,
        split: Split,
        counts: tuple[int, ...],
        batch: int,
        epochs: int,
        window: int | None,
        ranks: int,
        data: st.DataObject,
    ) -> None:
        whole = sized(split, counts)
        batch = min(batch, len(whole))
        per_epoch = len(whole) // batch
        steps = per_epoch * epochs
        run = list(order(whole, batch=batch, steps=steps, window=window))
        first = data.draw(st.integers(0, steps))
        slices = [
            order(whole, batch=batch, steps=steps, first_step=first, window=window, rank=rank, ranks=ranks)
            for rank in range(ranks)
        ]

        assert len(run) == steps
        assert all(len(requests) == batch for requests in run)  # what does not fill a batch is left out
        for epoch in range(epochs):
            seen = [request for requests in run[epoch * per_epoch : (epoch + 1) * per_epoch] for request in requests]
            assert len({request.index for request in seen}) == len(seen)
            assert {request.epoch for request in seen} == {epoch}
            assert {request.index for request in seen} <= set(range(len(whole)))
        together = [list(itertools.chain(*parts)) for parts in zip(*slices, strict=True)]  # as many steps on every rank
        assert together == run[first:]

    @given(
        counts=st.lists(st.integers(0, 9), min_size=1, max_size=6).map(tuple).filter(any),
        batch=st.integers(1, 5),
        window=st.integers(1, 7),
        first=st.integers(0, 9),
    )
    def test_its_windows_name_the_shards_of_every_step_before_they_are_needed(
        self, split: Split, counts: tuple[int, ...], batch: int, window: int, first: int
    ) -> None:
        whole = sized(split, counts)
        batch = min(batch, len(whole))
        run = order(whole, batch=batch, steps=12, first_step=first, window=window)
        windows = list(run.windows())

        assert [step for step, _ in windows] == sorted(step for step, _ in windows)
        assert all(len(shards) <= window for _, shards in windows)
        for step, requests in enumerate(run, start=first):
            needed = {whole.shard(request.index) for request in requests}
            fetched = [shards.tolist() for began, shards in windows if began <= step]
            assert needed <= set(itertools.chain(*fetched))

    def test_a_batch_that_divides_the_split_sees_every_sample_in_every_epoch(self, split: Split) -> None:
        run = numbers(order(split, batch=4, steps=6))

        for epoch in (run[:3], run[3:]):
            assert sorted(itertools.chain(*epoch)) == list(range(12))
        assert run[:3] != run[3:]

    def test_what_an_epoch_leaves_out_changes(self, split: Split) -> None:
        run = numbers(order(split, batch=5, steps=40))
        left = [set(range(12)) - set(run[step]) - set(run[step + 1]) for step in range(0, 40, 2)]

        assert all(len(each) == 2 for each in left)
        assert set.union(*left) == set(range(12))

    def test_another_seed_is_another_order(self, split: Split) -> None:
        first, other = (numbers(order(split, batch=4, steps=3, seed=seed)) for seed in (0, 1))

        assert first != other


class TestMicroBatches:
    @given(batch=st.integers(1, 60), parts=st.integers(1, 8), ranks=st.integers(1, 8))
    def test_ranks_share_each_micro_batch_in_order_and_its_span_does_not_depend_on_them(
        self, batch: int, parts: int, ranks: int
    ) -> None:
        (*alone,) = sampler.micro_batches(batch, grad_accum_steps=parts, rank=0, ranks=1)
        shares = [sampler.micro_batches(batch, grad_accum_steps=parts, rank=rank, ranks=ranks) for rank in range(ranks)]

        assert [*itertools.chain(*alone)] == list(range(batch))
        assert max(map(len, alone)) - min(map(len, alone)) <= 1
        for micro, span in enumerate(alone):
            sizes = [len(share[micro]) for share in shares]
            assert [*itertools.chain(*(share[micro] for share in shares))] == list(span)
            assert max(sizes) - min(sizes) <= 1

    def test_ten_samples_in_two_micro_batches_on_two_ranks(self) -> None:
        first, second = (sampler.micro_batches(10, grad_accum_steps=2, rank=rank, ranks=2) for rank in range(2))

        assert [list(places) for places in first] == [[0, 1], [5, 6]]
        assert [list(places) for places in second] == [[2, 3, 4], [7, 8, 9]]

    def test_a_ranks_requests_are_its_places_of_each_step_micro_batch_by_micro_batch(self, split: Split) -> None:
        whole = numbers(order(split, batch=5, steps=3))
        part = list(order(split, batch=5, steps=3, grad_accum_steps=2, rank=1, ranks=2))

        assert [[request.batch_place for request in requests] for requests in part] == [[1, 3, 4]] * 3
        assert numbers(part) == [[step[place] for place in (1, 3, 4)] for step in whole]
        assert [[request.place for request in requests] for requests in part] == [[1, 3, 4], [6, 8, 9], [1, 3, 4]]

    def test_a_batch_says_which_places_of_the_steps_global_batch_it_holds(self, split: Split) -> None:
        steps = order(split, batch=5, steps=3, grad_accum_steps=2, rank=1, ranks=2)
        bad_log = BadSampleLog(None, split, max_bad_fraction=0.0)
        with loader.train_batches(samples(split), steps, loading=HERE, bad_log=bad_log) as batches:
            found = [batch["place"].tolist() for batch in batches]

        assert found == [[1, 3, 4]] * 3


class TestTestRequests:
    @given(batch=st.integers(1, 15))
    def test_every_sample_comes_once_and_in_order(self, split: Split, batch: int) -> None:
        run = list(sampler.eval_requests(range(len(split)), batch=batch))

        assert list(itertools.chain(*numbers(run))) == list(range(12))
        assert all(len(requests) == batch for requests in run[:-1])
        assert all(request.epoch is None for requests in run for request in requests)

    def test_the_last_batch_may_be_small(self, split: Split) -> None:
        assert numbers(sampler.eval_requests(range(12), batch=5)) == [[0, 1, 2, 3, 4], [5, 6, 7, 8, 9], [10, 11]]


Row = tuple[int, int, int, int]
"""Of one row of one batch: step, sample, and checksums of the crops that the model would see."""


def rows(step: int, batch: dict[str, torch.Tensor]) -> list[Row]:
    parts = zip(batch["index"].tolist(), batch["video"], batch["audio"], strict=True)
    return [
        (step, number, zlib.crc32(video.numpy().tobytes()), zlib.crc32(audio.numpy().tobytes()))
        for number, video, audio in parts
    ]


def trace(split: Split, steps: Order, *, workers: int, most_bad: float = 0.0, prefetch: int = 3) -> list[Row]:
    """Every row of a rank's batches."""
    bad_log = BadSampleLog(None, split, max_bad_fraction=most_bad)
    loading = Loading(workers=workers, prefetch_batches=prefetch)
    with loader.train_batches(samples(split, seed=SEED), steps, loading=loading, bad_log=bad_log) as batches:
        return [row for step, batch in enumerate(batches, start=steps.first_step) for row in rows(step, batch)]


def world(
    split: Split, *, ranks: int, workers: int, batch: int = 10, first_step: int = 0, steps: int = 7, **more: Any
) -> list[Row]:
    """The rows of every rank, put together step by step in the order of the ranks."""
    each = [
        trace(
            split,
            order(split, batch=batch, steps=steps, first_step=first_step, window=3, rank=rank, ranks=ranks),
            workers=workers,
            **more,
        )
        for rank in range(ranks)
    ]
    return sorted(itertools.chain(*each), key=lambda row: row[0])  # stable: ranks stay in their order within a step


@pytest.fixture(scope="module")
def seven_split(seven: Path) -> Split:
    return open_split(seven, "train")


@pytest.fixture(scope="module")
def alone(seven_split: Split) -> list[Row]:
    """What one rank without workers sees in seven steps, which is two epochs of three batches and one batch."""
    return world(seven_split, ranks=1, workers=0)


class TestTrace:
    @pytest.mark.parametrize("workers", [0, 1, 2, 3])
    @pytest.mark.parametrize("ranks", [1, 2, 3, 4])
    def test_keys_and_crops_are_the_same_on_any_number_of_ranks_and_workers(
        self, ranks: int, workers: int, seven_split: Split, alone: list[Row]
    ) -> None:
        """Of seven shards of unequal size, in batches of 10 that three and four ranks cannot share evenly."""
        assert world(seven_split, ranks=ranks, workers=workers) == alone
        assert len({row[1] for row in alone[:30]}) == 30
        assert multiprocessing.active_children() == []

    @pytest.mark.parametrize(("ranks", "workers", "first_step"), [(2, 3, 4), (4, 0, 1), (3, 1, 6)])
    def test_a_run_goes_on_in_another_world(
        self, ranks: int, workers: int, first_step: int, seven_split: Split, alone: list[Row]
    ) -> None:
        went_on = world(seven_split, ranks=ranks, workers=workers, first_step=first_step)

        assert went_on == [row for row in alone if row[0] >= first_step]

    def test_a_window_smaller_than_the_set_reads_few_shards_at_a_time(self, seven_split: Split) -> None:
        run = order(seven_split, batch=5, steps=6, window=2)
        begun = [{seven_split.shard(request.index) for request in requests} for requests in run]

        assert all(len(shards) <= 4 for shards in begun)  # of two windows where a batch lies across their border
        assert sorted(itertools.chain(*numbers(run))) == list(range(30))

    @pytest.mark.slow
    @pytest.mark.parametrize("killed_after", [2])
    def test_a_world_that_was_killed_goes_on_in_another_one(
        self, killed_after: int, seven: Path, seven_split: Split, alone: list[Row], tmp_path: Path
    ) -> None:
        """Real ranks of two workers each, all killed at once; three others with one worker each go on, here."""
        first = _ranks(seven, tmp_path / "first", ranks=2, workers=2)
        _wait_for(tmp_path / "first", ranks=2, steps=killed_after)
        for each in first:
            each.kill()
            each.wait()
        done = min(_steps(tmp_path / "first" / str(rank)) for rank in range(2))
        before = [row for row in _told(tmp_path / "first", ranks=2) if row[0] < done]

        assert killed_after <= done < 7
        assert before + world(seven_split, ranks=3, workers=1, first_step=done) == alone


RANK = """
import json, sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import tests.train.data.test_loader as here
seven, out, rank, ranks, workers = sys.argv[2:]
split = here.open_split(seven, "train")
steps = here.order(split, batch=10, steps=7, window=3, rank=int(rank), ranks=int(ranks))
bad_log = here.BadSampleLog(None, split, max_bad_fraction=0.0)
loading = here.Loading(workers=int(workers), prefetch_batches=2)
with (
    open(out, "w") as told,
    here.loader.train_batches(here.samples(split, seed=3), steps, loading=loading, bad_log=bad_log) as batches,
):
    for step, batch in enumerate(batches):
        print(json.dumps(here.rows(step, batch)), file=told, flush=True)
        time.sleep(0.5)
"""


def _ranks(seven: Path, out: Path, *, ranks: int, workers: int) -> list[subprocess.Popen[bytes]]:
    out.mkdir()
    root = Path(__file__).parents[3]
    return [
        subprocess.Popen(
            [
                sys.executable,
                "-c",
                RANK,
                root,
                seven,
                out / str(rank),
                *map(str, (rank, ranks, workers)),
            ]
        )
        for rank in range(ranks)
    ]


def _steps(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


def _wait_for(out: Path, *, ranks: int, steps: int) -> None:
    until = time.monotonic() + 120
    while any(_steps(out / str(rank)) < steps for rank in range(ranks)):
        assert time.monotonic() < until
        time.sleep(0.02)


def _told(out: Path, *, ranks: int) -> list[Row]:
    lines = [(out / str(rank)).read_text().splitlines() for rank in range(ranks)]
    return [tuple(row) for step in zip(*lines, strict=False) for line in step for row in json.loads(line)]


class TestBatches:
    @pytest.mark.parametrize("workers", [0, 2])
    def test_a_batch_holds_what_was_asked_for_and_is_the_callers_to_keep(self, workers: int, split: Split) -> None:
        with loader.eval_batches(samples(split, clips=3), batch=8, loading=Loading(workers=workers)) as batches:
            first, second = batches

        assert first["index"].tolist() == list(range(8))
        assert second["index"].tolist() == [8, 9, 10, 11]
        assert first["label"].tolist() == [0, 1, 0, 1, 0, 1, 0, 1]  # sample n is of class n % 2
        assert (first["place"].tolist(), second["place"].tolist()) == ([*range(8)], [0, 1, 2, 3])
        assert (first["video"].shape, first["video"].dtype) == ((8, 3, 8, 32, 32, 3), torch.uint8)
        assert (second["audio"].shape, second["audio"].dtype) == ((4, 1, 12, 12), torch.float32)
        with stream.sample(split, 2) as sample:
            assert torch.equal(first["video"][2], clip_and_mel.eval_views(sample, VIEW, 3)["video"])

    def test_a_view_depends_on_seed_epoch_and_sample_and_on_nothing_else(self, split: Split) -> None:
        def view(number: int, epoch: int, seed: int) -> npt.NDArray[np.uint8]:
            some = samples(split, seed=seed)
            made = {name: np.zeros(shape, _numpy(dtype)) for name, (shape, dtype) in some.arrays().items()}
            some(Request(number, epoch, 0, 0), made, Deadline())
            return made["video"]

        assert (view(3, 2, 1) == view(3, 2, 1)).all()
        assert (view(3, 2, 1) != view(3, 3, 1)).any()
        assert (view(3, 2, 1) != view(3, 2, 2)).any()

    def test_it_gives_an_account(self, split: Split) -> None:
        steps = order(split, batch=4, steps=6)
        bad_log = BadSampleLog(None, split, max_bad_fraction=0.0)
        with loader.train_batches(samples(split), steps, loading=Loading(workers=1), bad_log=bad_log) as batches:
            list(batches)
            account = batches.account()

        assert 0 < account["decode_ms_p50"] <= account["decode_ms_p95"]
        assert 0 < account["read_ms_p50"] <= account["read_ms_p95"]
        assert 0 <= account["queue_depth"] <= 4
        assert account["bad_samples"] == 0

    def test_a_set_that_is_taken_away_is_told_as_it_is(self, copy: Path) -> None:
        split = open_split(copy, "train")
        (copy / "train" / "train-000002.tar").unlink()

        with pytest.raises(ShardError, match=r"train-000002\.tar: cannot be read: No such file"):
            trace(split, order(split, batch=4, steps=9), workers=1)
        assert multiprocessing.active_children() == []

    def test_memory_that_is_not_there_is_told_with_what_helps(
        self, split: Split, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(loader, "room", lambda: (Path("/dev/shm"), 1000))

        with pytest.raises(RunError, match=r"^/dev/shm: has 1\.0 kB free.*--prefetch_batches.*--workers 0.*--shm-size"):
            trace(split, order(split, batch=4, steps=9), workers=1)

    def test_what_memory_it_takes_is_said_once_a_process(
        self, split: Split, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Of evaluation too, which reads one split after another."""
        monkeypatch.setattr(loader.Batches, "memory_logged", False)
        with caplog.at_level("INFO", logger="kinetics_sounds"):
            for _ in range(2):
                trace(split, order(split, batch=4, steps=1), workers=1)

        (message,) = caplog.messages
        assert "1 worker (forkserver), 3 prefetched batches: 0.3 MB of shared memory" in message


def _numpy(dtype: torch.dtype) -> npt.DTypeLike:
    return torch.empty(0, dtype=dtype).numpy().dtype


@pytest.fixture
def copy(shards: Path, tmp_path: Path) -> Path:
    """The set, to be damaged; samples 6 to 11 lie in its train-000002.tar."""
    return Path(shutil.copytree(shards, tmp_path / "set"))


def flip(split: Split, number: int, part: str = layout.FRAMES) -> None:
    """Change one bit of a part of a sample on disk."""
    tar = Path(str(split.tars[split.shard(number)].place))
    offset = int(split.offset_NP[number, split.dataset.parts.index(part)])
    data = bytearray(tar.read_bytes())
    data[offset + 5] ^= 1
    tar.write_bytes(data)


class TestBadSamples:
    @pytest.mark.parametrize("workers", [0, 2])
    def test_one_gives_way_to_the_same_other_on_any_number_of_ranks_and_workers(
        self, workers: int, seven: Path, alone: list[Row], tmp_path: Path
    ) -> None:
        folder = Path(shutil.copytree(seven, tmp_path / "set"))
        split = open_split(folder, "train")
        for number, part in ((4, layout.FRAMES), (17, layout.MEL), (29, layout.META)):
            flip(split, number, part)

        one, three = (world(split, ranks=ranks, workers=workers if ranks > 1 else 0, most_bad=0.2) for ranks in (1, 3))

        assert one == three
        for old, new in zip(alone, one, strict=True):
            assert (old == new) == (old[1] not in (4, 17, 29))
        for step in range(7):
            batch = [row[1] for row in one if row[0] == step]
            assert len(set(batch)) == 10  # nothing twice in a batch
            assert not {4, 17, 29}.intersection(batch)

    def test_it_is_written_once_with_tar_and_reason_and_remembered(self, copy: Path, tmp_path: Path) -> None:
        split = open_split(copy, "train")
        flip(split, 8)
        path = tmp_path / "quarantine.jsonl"
        for _ in range(2):  # the second run finds it in the file
            bad_log = BadSampleLog(path, split, max_bad_fraction=0.1)
            steps = order(split, batch=4, steps=9)
            with loader.train_batches(samples(split), steps, loading=HERE, bad_log=bad_log) as batches:
                list(batches)
                assert batches.account()["bad_samples"] == 1

        (line,) = path.read_text().splitlines()
        tar = copy / "train" / "train-000002.tar"
        assert json.loads(line) == {
            "key": split.key(8),
            "tar": str(tar),
            "reason": f"{tar}: sample {split.key(8)}: its mp4 is damaged; copy the tar again, or run ks-shard --verify",
        }

    def test_too_many_end_the_run(self, copy: Path, tmp_path: Path) -> None:
        split = open_split(copy, "train")
        flip(split, 6)
        flip(split, 9)
        path = tmp_path / "quarantine.jsonl"
        bad_log = BadSampleLog(path, split, max_bad_fraction=0.1)

        with (
            pytest.raises(
                RunError, match=r"^2 of the 12 samples of 'train' are bad, more than --max_bad_fraction allows"
            ),
            loader.train_batches(
                samples(split), order(split, batch=4, steps=9), loading=HERE, bad_log=bad_log
            ) as batches,
        ):
            list(batches)
        assert len(path.read_text().splitlines()) == 2

        again = BadSampleLog(path, split, max_bad_fraction=0.1)
        with pytest.raises(RunError, match=r"^2 of the 12 samples"):  # a run that is begun again does not go on either
            again.add(6, "why")

    def test_a_last_line_that_a_kill_cut_off_is_dropped(self, split: Split, tmp_path: Path) -> None:
        path = tmp_path / "quarantine.jsonl"
        path.write_bytes(b'{"key": "one", "tar": "", "reason": ""}\n{"key": "tw')

        bad_log = BadSampleLog(path, split, max_bad_fraction=1.0)
        bad_log.add(3, "why")

        assert bad_log.keys == {"one", split.key(3)}
        assert [json.loads(line)["key"] for line in path.read_text().splitlines()] == ["one", split.key(3)]

    def test_a_quarantine_that_is_none_is_told(self, split: Split, tmp_path: Path) -> None:
        path = tmp_path / "quarantine.jsonl"
        path.write_text("hello\n")

        with pytest.raises(RunError, match=rf"^{path}: is not a list of bad samples"):
            BadSampleLog(path, split, max_bad_fraction=1.0)

    @pytest.mark.parametrize("workers", [0, 1])
    def test_a_test_leaves_none_out(self, workers: int, copy: Path) -> None:
        split = open_split(copy, "train")
        flip(split, 8)
        got: list[list[int]] = []

        with (
            pytest.raises(RunError) as caught,
            loader.eval_batches(samples(split, clips=1), batch=3, loading=Loading(workers=workers)) as batches,
        ):
            got.extend(batch["index"].tolist() for batch in batches)

        assert f"sample {split.key(8)}: its mp4 is damaged" in str(caught.value)
        assert str(caught.value).endswith(
            "an evaluation must not skip samples: repair the shards (see ks-shard --verify DIR --verify_decode)"
        )
        assert got == [[0, 1, 2], [3, 4, 5]] or workers  # workers may meet it before the batches ahead of it are taken
        assert multiprocessing.active_children() == []

    @pytest.mark.parametrize(
        ("part", "data"),
        [
            (layout.FRAMES, b"no film"),
            (layout.MEL, b""),
            (layout.MEL, b"\x93NUMPY\x01\x00\x06\x00{(\n'''"),
            (layout.META, b"{}"),
            (layout.META, b"\xff"),
            (layout.META, b'{"num_frames": null}'),
            (layout.META, b'{"num_frames": 0}'),
            (layout.META, b'{"num_frames": 999999}'),
        ],
    )
    @pytest.mark.parametrize("epoch", [0, None])
    def test_one_that_was_packed_wrongly_is_told(
        self, part: str, data: bytes, epoch: int | None, split: Split, tmp_path: Path
    ) -> None:
        wrong = samples(_alone(split, tmp_path, {part: data}), clips=None if epoch == 0 else 1)
        made = {name: np.zeros(shape, _numpy(dtype)) for name, (shape, dtype) in wrong.arrays().items()}

        with pytest.raises(loader.BadRowError, match=rf"^{tmp_path}/train/train-000000.tar: sample alone"):
            wrong(Request(0, epoch, 0, 0), made, Deadline())

    def test_a_mel_that_is_no_plane_is_told(
        self, split: Split, tmp_path: Path, npy: Callable[[npt.NDArray[Any]], bytes]
    ) -> None:
        wrong = samples(_alone(split, tmp_path, {layout.MEL: npy(np.zeros(5))}))
        made = {name: np.zeros(shape, _numpy(dtype)) for name, (shape, dtype) in wrong.arrays().items()}

        with pytest.raises(loader.BadRowError, match="sample alone: its mel-spectrogram cannot be read"):
            wrong(Request(0, 0, 0, 0), made, Deadline())

    def test_a_whole_batch_of_bad_ones_is_replaced_while_there_are_others(self, copy: Path) -> None:
        split = open_split(copy, "train")
        bad = [request.index for request in next(iter(order(split, batch=4, steps=1)))]
        for number in bad:
            flip(split, number)

        seen = trace(split, order(split, batch=4, steps=3), workers=0, most_bad=1.0)

        assert not set(bad).intersection(row[1] for row in seen)
        assert all(len({row[1] for row in seen if row[0] == step}) == 4 for step in range(3))

    def test_where_nothing_good_is_left_the_run_ends(self, copy: Path) -> None:
        split = open_split(copy, "train")
        for number in range(12):
            flip(split, number)

        with pytest.raises(RunError, match="no other sample can replace it"):
            trace(split, order(split, batch=4, steps=3), workers=0, most_bad=1.0)


def _alone(split: Split, folder: Path, change: dict[str, bytes]) -> Split:
    """A set of one sample with wrong parts, written as it should be."""
    with split.open(0) as parts:
        whole = {name: parts.read(name) for name in split.dataset.parts}
    with ShardWriter(layout.tar_path(folder, "train", 0), recipe=split.dataset.recipe) as writer:
        writer.write(Sample(key="alone", label_index=0, parts=whole | change))
        writer.close()
    facts = dataclasses.replace(split.dataset.splits["train"], shards=1, samples=1)
    index.write(folder / layout.DATASET, dataclasses.replace(split.dataset, splits={"train": facts}))
    return open_split(folder, "train")


@pytest.mark.parametrize("signals", [(signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)])
def test_a_worker_outlives_what_stops_the_trainer_and_is_replaced_when_it_is_killed(
    signals: tuple[signal.Signals, ...], split: Split
) -> None:
    steps = order(split, batch=2, steps=200)
    bad_log = BadSampleLog(None, split, max_bad_fraction=0.0)
    with loader.train_batches(samples(split), steps, loading=Loading(workers=1), bad_log=bad_log) as batches:
        taken: Iterator[dict[str, torch.Tensor]] = iter(batches)
        next(taken)
        (worker,) = multiprocessing.active_children()
        for each in (*signals, signal.SIGKILL):
            os.kill(worker.pid or 0, each)
        rest = list(taken)

    assert len(rest) == 199
    assert [batch["index"].tolist() for batch in rest] == numbers(steps)[1:]
