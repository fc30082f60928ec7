"""Samples to batches, in the stream's own order, through worker processes that keep nothing."""

import signal
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import ModuleType
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, default_collate

from kinetics_sounds import stream
from kinetics_sounds.errors import KineticsSoundsError, RunError

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Request:
    """Which sample, and in which epoch (None: a test)."""

    number: int
    epoch: int | None


@dataclass(frozen=True, kw_only=True)
class Samples(Dataset[dict[str, Tensor]]):
    """A split seen through a view; what a worker process is given."""

    split: stream.Split
    view: ModuleType | str
    """The view's module, by name where it travels to another process."""
    settings: Any
    """The view's own settings."""
    seed: int = 0
    clips: int = 1
    """Evenly spaced clips a sample in a test."""

    def __getitem__(self, request: Request) -> dict[str, Tensor]:
        """The sample's arrays, with its `label` and `number`; raises ShardError or RunError that names a bad one."""
        import importlib

        view = importlib.import_module(self.view) if isinstance(self.view, str) else self.view
        number = request.number
        key = self.split.keys[number]
        parts = self.split.read(number, view.PARTS)
        try:
            if request.epoch is None:
                arrays = view.test_views(parts, self.settings, self.clips)
            else:
                generator = stream.rng(self.seed, request.epoch, key)
                arrays = view.train_view(parts, self.settings, generator)
        except Exception as error:  # what was packed wrongly breaks a view anywhere
            tar = self.split.tars[int(self.split.tar_N[number])]
            what = str(error) if isinstance(error, KineticsSoundsError) else f"{type(error).__name__}: {error}"
            raise RunError(f"{tar}: sample {key} is bad: {what}; make the set again with ks-shard") from error
        label = torch.tensor(int(self.split.label_index_N[number]))
        return {**arrays, "label": label, "number": torch.tensor(number)}

    def __getitems__(self, requests: list[Request]) -> dict[str, Tensor] | KineticsSoundsError:
        """A batch, or what is wrong with it: of an error that a worker raises, DataLoader makes a traceback."""
        try:
            batch: dict[str, Tensor] = default_collate([self[request] for request in requests])
        except KineticsSoundsError as error:
            return error
        return batch


def train_requests(
    split: stream.Split, *, batch: int, seed: int, first_step: int, steps: int
) -> Iterator[list[Request]]:
    """The requests of steps `first_step` to `steps`: step s of an epoch takes `order[s * batch : (s + 1) * batch]`."""
    per_epoch = len(split) // batch
    epoch, order = -1, None
    for step in range(first_step, steps):
        if step // per_epoch != epoch or order is None:
            epoch = step // per_epoch
            order = stream.order(split.counts, seed=seed, epoch=epoch)
        place = (step % per_epoch) * batch
        yield [Request(int(number), epoch) for number in order[place : place + batch]]


def test_requests(split: stream.Split, *, batch: int) -> Iterator[list[Request]]:
    """Every sample once, in the stored order; the last batch may be smaller."""
    for first in range(0, len(split), batch):
        yield [Request(number, None) for number in range(first, min(first + batch, len(split)))]


@contextmanager
def load(
    samples: Samples, requests: Iterable[list[Request]], *, workers: int, device: torch.device
) -> Generator[Iterator[dict[str, Tensor]]]:
    """Batches in the order of the requests, on the device; `workers` 0 loads in this process.

    Within the block the first bad sample's error is raised, or RunError where a worker is killed. Its end ends the workers.
    """
    # Spawned, not forked: FFmpeg and CUDA do not survive a fork.
    how: dict[str, Any] = {"multiprocessing_context": "spawn", "prefetch_factor": 4} if workers else {}
    found: Any = iter(
        DataLoader(
            samples,
            batch_sampler=requests,
            num_workers=workers,
            collate_fn=_unchanged,
            pin_memory=device.type == "cuda",
            worker_init_fn=_leave_signals_to_the_trainer,
            **how,
        )
    )
    try:
        yield _moved(found, device)
    except (RuntimeError, EOFError, ConnectionRefusedError, ConnectionResetError) as error:
        if isinstance(error, RuntimeError) and not str(error).startswith("DataLoader worker"):
            raise
        what = " ".join(str(error).split()) or type(error).__name__
        raise RunError(
            f"a loading process died ({what}); it may want memory, or a sample may crash it: give fewer --workers, or 0"
        ) from error
    finally:
        if workers:
            found._shutdown_workers()  # an error's traceback keeps `found` alive, and Python waits for workers at exit


def _moved(
    found: Iterator[dict[str, Tensor] | KineticsSoundsError], device: torch.device
) -> Iterator[dict[str, Tensor]]:
    for batch in found:
        if isinstance(batch, KineticsSoundsError):
            raise batch
        yield {name: array.to(device, non_blocking=True) for name, array in batch.items()}


def _unchanged(batch: T) -> T:
    return batch


def _leave_signals_to_the_trainer(_worker: int) -> None:
    """A terminal and a scheduler signal every process, but the trainer wants its batches until it has saved."""
    for each in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
        signal.signal(each, signal.SIG_IGN)
