"""Samples to batches, in the stream's own order, through worker processes that keep nothing."""

import dataclasses
import logging
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kinetics_sounds.errors import RunError

from . import prefetch, sampler
from .bad_samples import BadSampleLog
from .fetcher import Samples
from .sampler import Order, Request
from .shared_memory import Context, Shared, room
from .workers import BadRowError, Deadline, Times, Workers, start_method

log = logging.getLogger("kinetics_sounds")

ARRAYS = ("count_S", "key_N", "label_index_N", "offset_NP", "size_NP", "crc_NP")
"""Of a split: what workers map and do not copy."""
REMEMBERED = 4096
"""Samples whose times are kept for the percentiles."""
SECONDS_BETWEEN_WORDS = 60.0
"""How often we say that a batch does not come."""


@dataclass(frozen=True, slots=True)
class _Sent:
    """Samples on their way to a worker: their index is mapped there, not copied."""

    samples: Samples
    shared: dict[str, Shared]

    def __reduce__(self) -> tuple[Any, ...]:
        nothing: dict[str, Any] = {name: np.zeros(0) for name in ARRAYS}
        bare = dataclasses.replace(self.samples, split=dataclasses.replace(self.samples.split, **nothing))
        return _arrived, (bare, self.shared)

    def __call__(self, request: Request, out: Mapping[str, np.ndarray], clock: Deadline) -> Times:
        """As `Samples`."""
        return self.samples(request, out, clock)


def _arrived(bare: Samples, shared: dict[str, Shared]) -> Samples:
    """In a worker, which is one process of many and so has one thread."""
    torch.set_num_threads(1)
    mapped: dict[str, Any] = {name: each.array for name, each in shared.items()}
    return dataclasses.replace(bare, split=dataclasses.replace(bare.split, **mapped))


@dataclass(frozen=True, slots=True, kw_only=True)
class Loading:
    """How batches are loaded; what is in them does not depend on it."""

    workers: int
    """Processes; 0 loads in this one, where nothing watches over a decoder that hangs or crashes."""
    ahead: int = 4
    """Batches that are loaded before they are asked for."""
    sample_seconds: float = 60.0
    """A sample that takes longer has its worker killed."""
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    """Where batches go."""


class Batches:
    """An iterator of batches on the device, in the order of the requests, and an account of what it took."""

    def __init__(
        self,
        samples: Samples,
        requests: Iterable[list[Request]],
        *,
        rows: int,
        loading: Loading,
        stand_ins: Callable[[Request], Iterator[int]],
        quarantine: BadSampleLog,
    ) -> None:
        """`rows` are the most that a batch has; `stand_ins` gives what may take the place of a bad sample."""
        self.samples, self.rows, self.loading = samples, rows, loading
        self._requests = iter(requests)
        self._stand_ins, self._quarantine = stand_ins, quarantine
        self._choices: dict[tuple[int | None, int], Iterator[int]] = {}
        self._times: deque[Times] = deque(maxlen=REMEMBERED)
        self._depths: deque[int] = deque(maxlen=REMEMBERED)

        self._found = self._in_workers() if loading.workers else self._in_this_process()

    def __iter__(self) -> "Batches":
        return self

    def __next__(self) -> dict[str, Tensor]:
        """The next batch: the view's arrays, `label`, `number` and `place` (in the global batch); they are the caller's to keep.

        Raises ShardError where the set cannot be read, and RunError where too many samples are bad or the workers die.
        """
        return next(self._found)

    def close(self) -> None:
        """End the workers."""
        self._found.close()

    def account(self) -> dict[str, float]:
        """Milliseconds a sample took to read and to decode (median and 95th percentile), and batches that stood ready."""
        spent = {"decode_ms": [each.decode for each in self._times], "read_ms": [each.read for each in self._times]}
        told = {
            f"{name}_p{q}": 1000 * float(np.percentile(seconds, q))
            for name, seconds in spent.items()
            if seconds
            for q in (50, 95)
        }
        return told | {
            "queue_depth": float(np.mean(self._depths)) if self._depths else 0.0,
            "bad_samples": float(len(self._quarantine.keys)),
        }

    def _in_this_process(self) -> Generator[dict[str, Tensor]]:
        shapes = self.samples.arrays()
        for requests in self._requests:
            arrays = {
                name: torch.empty((len(requests), *shape), dtype=dtype) for name, (shape, dtype) in shapes.items()
            }
            taken = [
                self._filled(request, {name: array[row].numpy() for name, array in arrays.items()})
                for row, request in enumerate(requests)
            ]
            self._depths.append(0)
            self._forget(taken)
            yield self._moved(arrays, taken)

    def _filled(self, request: Request, out: Mapping[str, np.ndarray]) -> Request:
        while True:
            try:
                self._times.append(self.samples(request, out, Deadline()))
            except BadRowError as error:
                request = self._instead(request, str(error))
            else:
                return request

    def _in_workers(self) -> Generator[dict[str, Tensor]]:
        context = start_method("torch", self.samples.view)
        ring = self._ring(context)
        index = {name: _shared(context, getattr(self.samples.split, name)) for name in ARRAYS}
        workers: Workers[Request] = Workers(
            _Sent(self.samples, index),
            ring,
            count=self.loading.workers,
            context=context,
            seconds=self.loading.sample_seconds,
        )
        try:
            yield from self._from(workers, ring)
        finally:
            workers.close()

    def _from(self, workers: Workers[Request], ring: Mapping[str, Shared]) -> Generator[dict[str, Tensor]]:
        free = deque(range(self.loading.ahead))
        pending: dict[int, _Pending] = {}
        sent = taken = 0
        while True:
            while free and (requests := next(self._requests, None)) is not None:
                pending[sent] = _Pending(free.popleft(), list(requests), len(requests))
                workers.submit(sent, pending[sent].slot, list(enumerate(requests)))
                sent += 1
            if taken == sent:
                return
            self._listen(workers, pending, 0.0)
            self._depths.append(sum(not each.left for each in pending.values()))
            spoke = time.monotonic()
            while pending[taken].left:
                self._listen(workers, pending, 1.0)
                if time.monotonic() - spoke > SECONDS_BETWEEN_WORDS:
                    spoke = time.monotonic()
                    log.warning("loader: waiting for %d samples of batch %d", pending[taken].left, taken)
            batch = pending.pop(taken)
            self._forget(batch.requests)
            taken += 1
            arrays = {
                name: torch.from_numpy(each.array[batch.slot, : len(batch.requests)]) for name, each in ring.items()
            }
            moved = self._moved({name: array.clone() for name, array in arrays.items()}, batch.requests)
            free.append(batch.slot)
            yield moved

    def _listen(self, workers: Workers[Request], pending: Mapping[int, "_Pending"], seconds: float) -> None:
        """Note the rows that ended; a bad one's stand-in is asked for in its place."""
        for done in workers.finished(seconds):
            batch = pending[done.batch]
            if done.times is None:
                where = self.samples.told(done.row)  # a crash does not say whose it is
                reason = done.reason if done.reason.startswith(where) else f"{where}: {done.reason}"
                batch.requests[done.place] = instead = self._instead(done.row, reason)
                workers.submit(done.batch, batch.slot, [(done.place, instead)])
            else:
                self._times.append(done.times)
                batch.left -= 1

    def _instead(self, request: Request, reason: str) -> Request:
        """The request that takes the place of one for a bad sample; raises RunError where there is none."""
        place = request.epoch, request.place
        if place not in self._choices:
            self._choices[place] = self._stand_ins(request)
        other = next(self._choices[place], None)
        if other is None and request.epoch is None:
            raise RunError(
                f"{reason}; a test leaves no sample out: mend the set (see ks-shard --verify DIR --verify_decode)"
            )
        log.warning("bad sample: %s", reason)
        self._quarantine.add(request.number, reason)
        if other is None:
            raise RunError(
                f"{reason}; and no other sample can take its place: mend the set "
                "(see ks-shard --verify DIR --verify_decode)"
            )
        return dataclasses.replace(request, number=other)

    def _forget(self, taken: list[Request]) -> None:
        """What else might have stood in this batch."""
        for request in taken:
            self._choices.pop((request.epoch, request.place), None)

    def _ring(self, context: Context) -> dict[str, Shared]:
        """Slots for the batches that are loaded ahead; says what memory that takes, raises RunError where it is not there."""
        shapes = {
            name: ((self.loading.ahead, self.rows, *shape), _numpy(dtype))
            for name, (shape, dtype) in self.samples.arrays().items()
        }
        needed = sum(int(np.prod(shape)) * dtype.itemsize for shape, dtype in shapes.values())
        folder, free = room()
        log.info(
            "loader: %d workers (%s), %d batches ahead: %.0f MB of shared memory, %.0f MB are free in %s",
            *(self.loading.workers, context.get_start_method(), self.loading.ahead, needed / 1e6, free / 1e6, folder),
        )
        if needed > free:
            raise RunError(
                f"{folder}: has {free / 1e6:.0f} MB free, and {self.loading.ahead} batches ahead take {needed / 1e6:.0f}; "
                "give fewer --ahead or --workers 0, or more memory (docker run --shm-size)"
            )
        return {name: Shared(context, shape, dtype) for name, (shape, dtype) in shapes.items()}

    def _moved(self, arrays: Mapping[str, Tensor], taken: list[Request]) -> dict[str, Tensor]:
        """The batch on the device."""
        numbers = torch.tensor([request.number for request in taken])
        labels = torch.from_numpy(self.samples.split.label_index_N[numbers.numpy()])
        places = torch.tensor([request.batch_place for request in taken])
        batch = {**arrays, "label": labels, "number": numbers, "place": places}
        device = self.loading.device
        if device.type == "cuda":
            return {name: array.pin_memory().to(device, non_blocking=True) for name, array in batch.items()}
        return {name: array.to(device) for name, array in batch.items()}


@dataclass(slots=True)
class _Pending:
    """A batch that workers fill."""

    slot: int
    requests: list[Request]
    """What stands, or will stand, in each of its rows."""
    left: int
    """Rows that are not filled yet."""


def _shared(context: Context, array: np.ndarray) -> Shared:
    shared = Shared(context, array.shape, array.dtype)
    shared.array[...] = array
    return shared


def _numpy(dtype: torch.dtype) -> np.dtype[Any]:
    return torch.empty(0, dtype=dtype).numpy().dtype


@contextmanager
def train_batches(samples: Samples, order: Order, *, loading: Loading, quarantine: BadSampleLog) -> Generator[Batches]:
    """The batches of a rank's steps; a bad sample gives way to another and is put in quarantine.

    Of a remote set the shards are fetched before they are read. All that this starts ends with the block.
    """
    batches = Batches(
        samples, order, rows=len(order.places), loading=loading, stand_ins=order.stand_ins, quarantine=quarantine
    )
    with closing(batches), prefetch.prefetch(samples.split, order):
        yield batches


@contextmanager
def test_batches(samples: Samples, *, batch: int, loading: Loading) -> Generator[Batches]:
    """Every sample that a test looks at once, in the stored order; RunError is raised for the first bad one."""
    with listed_batches(samples, list(sampler.test_requests(samples.tested, batch=batch)), loading=loading) as batches:
        yield batches


@contextmanager
def listed_batches(
    samples: Samples,
    requests: Sequence[list[Request]],
    *,
    loading: Loading,
    stand_ins: Callable[[Request], Iterator[int]] = lambda _: iter(()),
    most_share: float = 0.0,
) -> Generator[Batches]:
    """The batches of these requests; RunError is raised for the first bad sample that nothing can take the place of.

    That is the first one, unless `stand_ins` names others, and no more than `most_share` of the split are bad.
    """
    batches = Batches(
        samples,
        requests,
        rows=max(map(len, requests), default=0),
        loading=loading,
        stand_ins=stand_ins,
        quarantine=BadSampleLog(None, samples.split, most_share=most_share),
    )
    with closing(batches):
        yield batches
