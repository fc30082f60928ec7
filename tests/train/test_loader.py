"""The order of the samples, that it does not depend on who loads them, and what a user hears of a bad one."""

import dataclasses
import itertools
import multiprocessing
import os
import shutil
import signal
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kinetics_sounds.errors import RunError, ShardError
from kinetics_sounds.shards import index, layout
from kinetics_sounds.shards.writer import Sample, ShardWriter
from kinetics_sounds.stream import Split, open_split
from kinetics_sounds.train import loader
from kinetics_sounds.train.loader import Request
from kinetics_sounds.train.views import clip_and_mel

VIEW = clip_and_mel.Settings(frames=8, resize_height=36, resize_width=36, crop=32, mel_resize=16, mel_crop=12)
CPU = torch.device("cpu")


def samples(split: Split, **more: Any) -> loader.Samples:
    return loader.Samples(split=split, view=clip_and_mel.__name__, settings=VIEW, **more)


def sized(split: Split, counts: tuple[int, ...]) -> Split:
    """The same split as if its shards held so many samples: enough to order them, not to read them."""
    return dataclasses.replace(split, counts=np.array(counts), keys=tuple(map(str, range(sum(counts)))))


def numbers(batches: Iterable[list[Request]]) -> list[list[int]]:
    return [[request.number for request in batch] for batch in batches]


class TestTrainRequests:
    @given(
        counts=st.lists(st.integers(1, 9), min_size=1, max_size=5).map(tuple),
        batch=st.integers(1, 8),
        epochs=st.integers(1, 3),
        data=st.data(),
    )
    def test_an_epoch_repeats_nothing_and_a_run_goes_on_from_any_step(
        self, split: Split, counts: tuple[int, ...], batch: int, epochs: int, data: st.DataObject
    ) -> None:
        whole = sized(split, counts)
        batch = min(batch, len(whole))
        per_epoch = len(whole) // batch
        steps = per_epoch * epochs
        run = list(loader.train_requests(whole, batch=batch, seed=3, first_step=0, steps=steps))
        first = data.draw(st.integers(0, steps))

        assert len(run) == steps
        assert all(len(requests) == batch for requests in run)  # what does not fill a batch is left out
        for epoch in range(epochs):
            seen = [request for requests in run[epoch * per_epoch : (epoch + 1) * per_epoch] for request in requests]
            assert len({request.number for request in seen}) == len(seen)
            assert {request.epoch for request in seen} == {epoch}
            assert {request.number for request in seen} <= set(range(len(whole)))
        assert list(loader.train_requests(whole, batch=batch, seed=3, first_step=first, steps=steps)) == run[first:]

    def test_a_batch_that_divides_the_split_sees_every_sample_in_every_epoch(self, split: Split) -> None:
        run = numbers(loader.train_requests(split, batch=4, seed=0, first_step=0, steps=6))

        for epoch in (run[:3], run[3:]):
            assert sorted(itertools.chain(*epoch)) == list(range(12))
        assert run[:3] != run[3:]

    def test_what_an_epoch_leaves_out_changes(self, split: Split) -> None:
        run = numbers(loader.train_requests(split, batch=5, seed=0, first_step=0, steps=40))
        left = [set(range(12)) - set(run[step]) - set(run[step + 1]) for step in range(0, 40, 2)]

        assert all(len(each) == 2 for each in left)
        assert set.union(*left) == set(range(12))

    def test_another_seed_is_another_order(self, split: Split) -> None:
        first, other = (numbers(loader.train_requests(split, batch=4, seed=s, first_step=0, steps=3)) for s in (0, 1))

        assert first != other


class TestTestRequests:
    @given(batch=st.integers(1, 15))
    def test_every_sample_comes_once_and_in_order(self, split: Split, batch: int) -> None:
        run = list(loader.test_requests(split, batch=batch))

        assert list(itertools.chain(*numbers(run))) == list(range(12))
        assert all(len(requests) == batch for requests in run[:-1])
        assert all(request.epoch is None for requests in run for request in requests)

    def test_the_last_batch_may_be_small(self, split: Split) -> None:
        assert numbers(loader.test_requests(split, batch=5)) == [[0, 1, 2, 3, 4], [5, 6, 7, 8, 9], [10, 11]]


def trace(split: Split, *, workers: int) -> list[tuple[list[int], list[int], int, int]]:
    """Of every batch of two epochs: its samples, their labels, and checksums of what the model would see."""
    requests = loader.train_requests(split, batch=5, seed=7, first_step=0, steps=4)
    with loader.load(samples(split, seed=7), requests, workers=workers, device=CPU) as batches:
        return [
            (
                batch["number"].tolist(),
                batch["label"].tolist(),
                zlib.crc32(batch["video"].numpy().tobytes()),
                zlib.crc32(batch["audio"].numpy().tobytes()),
            )
            for batch in batches
        ]


class TestLoad:
    def test_a_batch_holds_what_was_asked_for(self, split: Split) -> None:
        requests = [[Request(11, 0), Request(2, 0), Request(7, 1)]]

        with loader.load(samples(split), iter(requests), workers=0, device=CPU) as batches:
            (batch,) = batches

        assert batch["number"].tolist() == [11, 2, 7]
        assert batch["label"].tolist() == [1, 0, 1]  # sample n is of class n % 2
        assert (batch["video"].shape, batch["video"].dtype) == ((3, 8, 32, 32, 3), torch.uint8)
        assert (batch["audio"].shape, batch["audio"].dtype) == ((3, 12, 12), torch.float32)

    def test_a_view_depends_on_seed_epoch_and_sample_and_on_nothing_else(self, split: Split) -> None:
        def view(number: int, epoch: int, seed: int) -> torch.Tensor:
            video: torch.Tensor = samples(split, seed=seed)[Request(number, epoch)]["video"]
            return video

        assert torch.equal(view(3, 2, 1), view(3, 2, 1))
        assert not torch.equal(view(3, 2, 1), view(3, 3, 1))
        assert not torch.equal(view(3, 2, 1), view(3, 2, 2))

    def test_a_test_has_so_many_clips(self, split: Split) -> None:
        requests = loader.test_requests(split, batch=8)

        with loader.load(samples(split, clips=3), requests, workers=0, device=CPU) as batches:
            shapes = [tuple(batch["video"].shape) for batch in batches]

        assert shapes == [(8, 3, 8, 32, 32, 3), (4, 3, 8, 32, 32, 3)]

    def test_batches_do_not_depend_on_the_number_of_workers(self, split: Split) -> None:
        """One worker is held to the same by the trainer's own test."""
        assert trace(split, workers=2) == trace(split, workers=0)
        assert multiprocessing.active_children() == []

    def test_a_worker_outlives_what_stops_the_trainer_and_its_own_end_is_told(self, split: Split) -> None:
        requests = loader.train_requests(split, batch=2, seed=0, first_step=0, steps=1000)
        got: list[int] = []

        with pytest.raises(RunError, match=r"^a loading process died \(.+\); it may want memory.*--workers"):
            _kill_while_loading(samples(split), requests, got)

        assert max(got) >= 30
        assert multiprocessing.active_children() == []


def _kill_while_loading(some: loader.Samples, requests: Iterable[list[Request]], got: list[int]) -> None:
    with loader.load(some, requests, workers=1, device=CPU) as batches:
        for number, _ in enumerate(batches):
            if number == 0:
                _signal_worker(signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
            if number == 30:  # more than were loaded ahead
                _signal_worker(signal.SIGKILL)
            got.append(number)
            assert number < 900


def _signal_worker(*signals: signal.Signals) -> None:
    (worker,) = multiprocessing.active_children()
    assert worker.pid is not None
    for each in signals:
        os.kill(worker.pid, each)


@pytest.fixture
def copy(shards: Path, tmp_path: Path) -> Path:
    """The set, to be damaged; samples 6 to 11 lie in its train-000002.tar."""
    return Path(shutil.copytree(shards, tmp_path / "set"))


class TestBadSample:
    @pytest.mark.parametrize("part", [layout.FRAMES, layout.MEL, layout.META])
    def test_a_flipped_byte_is_told_with_its_tar_and_sample(self, part: str, copy: Path) -> None:
        split, tar = open_split(copy, "train"), copy / "train" / "train-000002.tar"
        _flip(split, 8, part, tar)

        with pytest.raises(ShardError) as caught:
            samples(split)[Request(8, 0)]

        assert str(caught.value) == f"{tar}: is damaged within {split.keys[8]}.{part}; copy or make it again"
        samples(split)[Request(9, 0)]

    def test_a_tar_that_is_cut_short_is_told(self, copy: Path) -> None:
        split, tar = open_split(copy, "train"), copy / "train" / "train-000002.tar"
        os.truncate(tar, 2000)

        with pytest.raises(ShardError, match=rf"{tar}: is cut short within {split.keys[9]}\."):
            samples(split)[Request(9, None)]

    def test_a_tar_that_is_gone_is_told(self, copy: Path) -> None:
        split, tar = open_split(copy, "train"), copy / "train" / "train-000002.tar"
        tar.unlink()

        with pytest.raises(ShardError, match=rf"{tar}: cannot be read: No such file"):
            samples(split)[Request(9, 0)]

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
    def test_a_sample_that_was_packed_wrongly_is_told(
        self, part: str, data: bytes, epoch: int | None, split: Split, tmp_path: Path
    ) -> None:
        wrong = _alone(split, tmp_path, {part: data})

        with pytest.raises(RunError) as caught:
            samples(wrong)[Request(0, epoch)]

        assert str(caught.value).startswith(f"{tmp_path}/train/train-000000.tar: sample alone is bad: ")
        assert str(caught.value).endswith("; make the set again with ks-shard")

    def test_a_mel_that_is_no_plane_is_told(
        self, split: Split, tmp_path: Path, npy: Callable[[npt.NDArray[Any]], bytes]
    ) -> None:
        with pytest.raises(RunError, match="sample alone is bad"):
            samples(_alone(split, tmp_path, {layout.MEL: npy(np.zeros(5))}))[Request(0, 0)]

    @pytest.mark.parametrize("workers", [0, 1])
    def test_a_worker_tells_it_in_the_same_words_and_without_a_traceback(self, workers: int, copy: Path) -> None:
        split, tar = open_split(copy, "train"), copy / "train" / "train-000002.tar"
        _flip(split, 8, layout.FRAMES, tar)
        got: list[list[int]] = []

        with (
            pytest.raises(ShardError) as caught,
            loader.load(samples(split), loader.test_requests(split, batch=3), workers=workers, device=CPU) as batches,
        ):
            got.extend(batch["number"].tolist() for batch in batches)

        assert str(caught.value) == f"{tar}: is damaged within {split.keys[8]}.mp4; copy or make it again"
        assert got == [[0, 1, 2], [3, 4, 5]]
        assert multiprocessing.active_children() == []


def _flip(split: Split, number: int, part: str, tar: Path) -> None:
    offset = int(split.offset_NP[number, split.dataset.parts.index(part)])
    data = bytearray(tar.read_bytes())
    data[offset + 5] ^= 1
    tar.write_bytes(data)


def _alone(split: Split, folder: Path, change: dict[str, bytes]) -> Split:
    """A set of one sample with wrong parts, written as it should be."""
    parts = split.read(0, split.dataset.parts) | change
    with ShardWriter(layout.tar_path(folder, "train", 0), recipe=split.dataset.recipe) as writer:
        writer.write(Sample(key="alone", label_index=0, parts=parts))
        writer.close()
    facts = dataclasses.replace(split.dataset.splits["train"], shards=1, samples=1)
    index.write(folder / layout.DATASET, dataclasses.replace(split.dataset, splits={"train": facts}))
    return open_split(folder, "train")
