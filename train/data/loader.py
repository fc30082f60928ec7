"""Load batches in a deterministic order through stateless worker processes."""

import dataclasses
import logging
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from kinetics_sounds.errors import RunError
from kinetics_sounds.quantities import byte_size, plural

from . import prefetch, sampler
from .bad_samples import BadSampleLog
from .fetcher import Samples
from .page_lock import CopiedSlots, page_locked
from .sampler import Order, Request
from .shared_memory import Context, Shared, room
from .workers import BadRowError, Deadline, Times, Workers, start_method

log = logging.getLogger("kinetics_sounds")

ARRAYS = ("count_S", "key_N", "label_index_N", "offset_NP", "size_NP", "crc_NP")
"""Arrays of a split that workers map instead of copying."""
REMEMBERED = 4096
"""Number of latest samples whose times are used for percentiles."""
SECONDS_BETWEEN_WORDS = 60.0
"""Seconds between warnings about a batch that does not arrive."""


@dataclass(frozen=True, slots=True)
class _Sent:
    """Samples as pickled for a worker: the index is memory-mapped there, not copied."""

    samples: Samples
    shared: dict[str, Shared]

    def __reduce__(self) -> tuple[Any, ...]:
        nothing: dict[str, Any] = {name: np.zeros(0) for name in ARRAYS} | {"label_sets": None}
        bare = dataclasses.replace(self.samples, split=dataclasses.replace(self.samples.split, **nothing))
        return _unpickle_samples, (bare, self.shared)

    def __call__(self, request: Request, out: Mapping[str, np.ndarray], clock: Deadline) -> Times:
        """Fill a row, like `Samples`."""
        return self.samples(request, out, clock)


def _unpickle_samples(bare: Samples, shared: dict[str, Shared]) -> Samples:
    """Unpickle in a worker, and limit it to one thread."""
    torch.set_num_threads(1)
    mapped: dict[str, Any] = {name: each.array for name, each in shared.items()}
    return dataclasses.replace(bare, split=dataclasses.replace(bare.split, **mapped))


@dataclass(frozen=True, slots=True, kw_only=True)
class Loading:
    """Options of data loading; they do not affect the contents of batches."""

    workers: int
    """Worker processes; 0 loads in the main process, without protection from decoders that hang or crash."""
    prefetch_batches: int = 4
    """Batches to load in advance."""
    sample_timeout: float = 60.0
    """Seconds per sample after which its worker is killed."""
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    """Device to move batches to."""


class Batches:
    """Iterator over batches on the device, in the order of the requests, with loading statistics."""

    memory_logged: ClassVar[bool] = False
    """Whether this process has logged its loader's memory: once is enough, though each validation has a loader."""

    def __init__(
        self,
        samples: Samples,
        requests: Iterable[list[Request]],
        *,
        rows: int,
        loading: Loading,
        replacements: Callable[[Request], Iterator[int]],
        bad_log: BadSampleLog,
    ) -> None:
        """Start loading batches of at most `rows` rows; `replacements` yields candidates to replace a bad sample."""
        self.samples, self.rows, self.loading = samples, rows, loading
        self._requests = iter(requests)
        self._replacements, self._bad_log = replacements, bad_log
        self._choices: dict[tuple[int | None, int], Iterator[int]] = {}
        self._times: deque[Times] = deque(maxlen=REMEMBERED)
        self._depths: deque[int] = deque(maxlen=REMEMBERED)

        self._found = self._in_workers() if loading.workers else self._in_this_process()

    def __iter__(self) -> "Batches":
        return self

    def __next__(self) -> dict[str, Tensor]:
        """Next batch: arrays of the view, `label`, `index` (of the sample) and `place` (position in the global batch).

        The caller owns the tensors. Raises ShardError if the shard set cannot be read, and RunError if too many samples are bad
        or the workers die.
        """
        return next(self._found)

    def close(self) -> None:
        """Stop the workers."""
        self._found.close()

    def account(self) -> dict[str, float]:
        """Milliseconds to read and to decode a sample (median and 95th percentile), and batches ready in the queue."""
        spent = {"decode_ms": [each.decode for each in self._times], "read_ms": [each.read for each in self._times]}
        told = {
            f"{name}_p{q}": 1000 * float(np.percentile(seconds, q))
            for name, seconds in spent.items()
            if seconds
            for q in (50, 95)
        }
        return told | {
            "queue_depth": float(np.mean(self._depths)) if self._depths else 0.0,
            "bad_samples": float(len(self._bad_log.keys)),
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
            yield self._to_device(arrays, taken)

    def _filled(self, request: Request, out: Mapping[str, np.ndarray]) -> Request:
        while True:
            try:
                self._times.append(self.samples(request, out, Deadline()))
            except BadRowError as error:
                request = self._replacement(request, str(error))
            else:
                return request

    def _in_workers(self) -> Generator[dict[str, Tensor]]:
        context = start_method("torch", self.samples.view)
        ring = self._allocate(context)
        index = {name: _shared(context, getattr(self.samples.split, name)) for name in ARRAYS}
        workers: Workers[Request] = Workers(
            _Sent(self.samples, index),
            ring,
            count=self.loading.workers,
            context=context,
            seconds=self.loading.sample_timeout,
        )
        try:
            with page_locked(ring, self.loading.device):
                yield from self._from(workers, ring)
        finally:
            workers.close()

    def _from(self, workers: Workers[Request], ring: Mapping[str, Shared]) -> Generator[dict[str, Tensor]]:
        free = deque(range(self.loading.prefetch_batches))
        pending: dict[int, _Pending] = {}
        sent = taken = 0
        copied = CopiedSlots(self.loading.device)
        while True:
            free.extend(copied.slots())
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
            if self.loading.device.type != "cuda":  # only CUDA's copies are waited for before a slot is filled again
                arrays = {name: array.clone() for name, array in arrays.items()}
            moved = self._to_device(arrays, batch.requests)
            copied.begin(batch.slot)
            yield moved

    def _listen(self, workers: Workers[Request], pending: Mapping[int, "_Pending"], seconds: float) -> None:
        """Process finished rows; request a replacement for each bad one."""
        for done in workers.finished(seconds):
            batch = pending[done.batch]
            if done.times is None:
                where = self.samples.describe(done.row)  # a crash does not name its sample
                reason = done.reason if done.reason.startswith(where) else f"{where}: {done.reason}"
                batch.requests[done.place] = instead = self._replacement(done.row, reason)
                workers.submit(done.batch, batch.slot, [(done.place, instead)])
            else:
                self._times.append(done.times)
                batch.left -= 1

    def _replacement(self, request: Request, reason: str) -> Request:
        """Replacement request for a bad sample; raises RunError if there is no candidate."""
        place = request.epoch, request.place
        if place not in self._choices:
            self._choices[place] = self._replacements(request)
        other = next(self._choices[place], None)
        if other is None and request.epoch is None:
            raise RunError(
                f"{reason}; an evaluation must not skip samples: repair the shards (see ks-shard --verify DIR --verify_decode)"
            )
        log.warning("bad sample: %s", reason)
        self._bad_log.add(request.index, reason)
        if other is None:
            raise RunError(
                f"{reason}; and no other sample can replace it: repair the shards "
                "(see ks-shard --verify DIR --verify_decode)"
            )
        return dataclasses.replace(request, index=other)

    def _forget(self, taken: list[Request]) -> None:
        """Discard the replacement candidates of a finished batch."""
        for request in taken:
            self._choices.pop((request.epoch, request.place), None)

    def _allocate(self, context: Context) -> dict[str, Shared]:
        """Allocate shared memory for the prefetched batches and raise RunError if there is too little."""
        shapes = {
            name: ((self.loading.prefetch_batches, self.rows, *shape), _numpy(dtype))
            for name, (shape, dtype) in self.samples.arrays().items()
        }
        needed = sum(int(np.prod(shape)) * dtype.itemsize for shape, dtype in shapes.values())
        folder, free = room()
        log.log(
            logging.DEBUG if Batches.memory_logged else logging.INFO,
            "loader: %s (%s), %d prefetched batches: %s of shared memory, %s free in %s",
            *(
                plural(self.loading.workers, "worker"),
                context.get_start_method(),
                self.loading.prefetch_batches,
                byte_size(needed),
                byte_size(free),
                folder,
            ),
        )
        Batches.memory_logged = True
        if needed > free:
            raise RunError(
                f"{folder}: has {byte_size(free)} free, but {self.loading.prefetch_batches} prefetched batches need "
                f"{byte_size(needed)}; use fewer --prefetch_batches or --workers 0, or more memory (docker run --shm-size)"
            )
        return {name: Shared(context, shape, dtype) for name, (shape, dtype) in shapes.items()}

    def _to_device(self, arrays: Mapping[str, Tensor], taken: list[Request]) -> dict[str, Tensor]:
        """Batch on the device."""
        numbers = torch.tensor([request.index for request in taken])
        labels = torch.from_numpy(self.samples.split.label_index_N[numbers.numpy()])
        places = torch.tensor([request.batch_place for request in taken])
        batch = {**arrays, "label": labels, "index": numbers, "place": places}
        return {name: array.to(self.loading.device, non_blocking=True) for name, array in batch.items()}


@dataclass(slots=True)
class _Pending:
    """A batch that workers are filling."""

    slot: int
    requests: list[Request]
    """Request of each row."""
    left: int
    """Number of unfilled rows."""


def _shared(context: Context, array: np.ndarray) -> Shared:
    shared = Shared(context, array.shape, array.dtype)
    shared.array[...] = array
    return shared


def _numpy(dtype: torch.dtype) -> np.dtype[Any]:
    return torch.empty(0, dtype=dtype).numpy().dtype


@contextmanager
def train_batches(samples: Samples, order: Order, *, loading: Loading, bad_log: BadSampleLog) -> Generator[Batches]:
    """Batches of a rank's training steps; bad samples are replaced and logged.

    Remote shards are prefetched. Everything started here ends with the block.
    """
    batches = Batches(
        samples,
        order,
        rows=len(order.places),
        loading=loading,
        replacements=order.replacements,
        bad_log=bad_log,
    )
    with closing(batches), prefetch.prefetch(samples.split, order):
        yield batches


@contextmanager
def eval_batches(samples: Samples, *, batch: int, loading: Loading) -> Generator[Batches]:
    """Batches of every sample once, in stored order; raises RunError for the first bad sample."""
    with listed_batches(
        samples, list(sampler.eval_requests(samples.eval_indices, batch=batch)), loading=loading
    ) as batches:
        yield batches


@contextmanager
def listed_batches(
    samples: Samples,
    requests: Sequence[list[Request]],
    *,
    loading: Loading,
    replacements: Callable[[Request], Iterator[int]] = lambda _: iter(()),
    max_bad_fraction: float = 0.0,
) -> Generator[Batches]:
    """Batches of these requests; raises RunError for a bad sample that cannot be replaced.

    `replacements` yields candidates for a bad sample; at most a fraction `max_bad_fraction` of the split may be bad.
    """
    batches = Batches(
        samples,
        requests,
        rows=max(map(len, requests), default=0),
        loading=loading,
        replacements=replacements,
        bad_log=BadSampleLog(None, samples.split, max_bad_fraction=max_bad_fraction),
    )
    with closing(batches):
        yield batches
