import logging
import mmap
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from kinetics_sounds.stream import Split
from kinetics_sounds.train.data import fetcher, loader, page_lock
from kinetics_sounds.train.data.bad_samples import BadSampleLog
from kinetics_sounds.train.data.sampler import Order
from kinetics_sounds.train.data.shared_memory import Shared
from kinetics_sounds.train.data.views import clip_and_mel
from kinetics_sounds.train.data.workers import start_method

CPU = torch.device("cpu")
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


@pytest.mark.parametrize("length", [0, 1, mmap.PAGESIZE, mmap.PAGESIZE + 1])
def test_arrays_of_a_ring_share_no_page(length: int) -> None:
    context = start_method()
    arrays = [Shared(context, (length,), np.dtype(np.uint8)).array for _ in range(3)]
    pages = [set(range(first := array.ctypes.data, first + max(length, 1), mmap.PAGESIZE)) for array in arrays]
    assert all(array.ctypes.data % mmap.PAGESIZE == 0 for array in arrays)
    assert len(set().union(*pages)) == sum(map(len, pages))


def test_memory_that_the_driver_does_not_lock_is_told_and_not_unlocked(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    asked: list[int] = []

    def refuse(address: int, *_: int) -> int:
        asked.append(address)
        return 712

    def raise_last(*_: object, **__: object) -> None:
        raise RuntimeError("CUDA error: part or all of the requested memory range is already mapped")

    monkeypatch.setattr(torch.cuda, "cudart", lambda: SimpleNamespace(cudaHostRegister=refuse))
    monkeypatch.setattr(torch, "zeros", raise_last)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda _: None)
    ring = {"video": Shared(start_method(), (10,), np.dtype(np.uint8))}
    with caplog.at_level(logging.WARNING), page_lock.page_locked(ring, torch.device("cuda")):
        assert asked == [ring["video"].array.ctypes.data]
    assert caplog.messages == ["loader: cannot page-lock 10 bytes (CUDA error 712): copies to the GPU are slower"]


def test_memory_is_unlocked_once_no_copy_is_under_way(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    driver = SimpleNamespace(cudaHostRegister=lambda *_: 0, cudaHostUnregister=lambda _: done.append("unlocked"))
    monkeypatch.setattr(torch.cuda, "cudart", lambda: driver)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: done.append(f"waited for {device}"))

    with page_lock.page_locked({"video": Shared(start_method(), (10,), np.dtype(np.uint8))}, torch.device("cuda:1")):
        assert done == []

    assert done == ["waited for cuda:1", "unlocked"]


def test_a_slot_is_given_back_after_the_copies_on_its_own_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """The current device may be another."""
    done: list[str] = []
    event = SimpleNamespace(
        record=lambda stream: done.append(f"recorded on {stream}"), synchronize=lambda: done.append("waited")
    )
    monkeypatch.setattr(torch.cuda, "Event", lambda: event)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: f"the stream of {device}")

    copied = page_lock.CopiedSlots(torch.device("cuda:1"))
    copied.begin(3)
    assert done == ["recorded on the stream of cuda:1"]
    assert copied.slots() == [3]
    assert done[1:] == ["waited"]


def test_a_slot_is_given_back_once() -> None:
    copied = page_lock.CopiedSlots(CPU)
    copied.begin(3)
    assert (copied.slots(), copied.slots()) == ([3], [])


def loaded(split: Split, device: torch.device) -> list[dict[str, torch.Tensor]]:
    view = clip_and_mel.Settings(frames=8, resize_height=36, resize_width=36, crop=32, mel_resize=16, mel_crop=12)
    samples = fetcher.Samples(split=split, view=clip_and_mel.__name__, settings=view)
    order = Order(split=split, batch=4, seed=0, first_step=0, steps=12)
    loading = loader.Loading(workers=2, prefetch_batches=2, device=device)
    with loader.train_batches(samples, order, loading=loading, bad_log=BadSampleLog(None, split)) as batches:
        return list(batches)


@needs_gpu
def test_a_gpu_gets_what_a_cpu_gets(split: Split) -> None:
    for there, here in zip(loaded(split, torch.device("cuda")), loaded(split, CPU), strict=True):
        assert all(torch.equal(array.cpu(), here[name]) for name, array in there.items())


@needs_gpu
def test_what_is_locked_already_is_no_fault(caplog: pytest.LogCaptureFixture) -> None:
    ring, device = {"video": Shared(start_method(), (10,), np.dtype(np.uint8))}, torch.device("cuda")
    with page_lock.page_locked(ring, device), page_lock.page_locked(ring, device):
        assert torch.from_numpy(ring["video"].array).to(device).sum().item() == 0
    assert ["cannot page-lock" in each for each in caplog.messages] == [True]
