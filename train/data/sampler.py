"""Sample order: which sample a rank reads at which step, a pure function of seed, epoch and step."""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np

from kinetics_sounds import stream
from kinetics_sounds.stream import Split


@dataclass(frozen=True, slots=True)
class Request:
    """One sample to load: its index, epoch (None: evaluation), position in the epoch's order and in the global batch."""

    index: int
    epoch: int | None
    place: int
    batch_place: int


def micro_batches(batch: int, *, grad_accum_steps: int, rank: int, ranks: int) -> tuple[range, ...]:
    """Positions in the global batch that a rank takes, for each micro-batch.

    With A accumulation steps, micro-batch m is the positions from batch * m // A to batch * (m + 1) // A, and each rank takes
    its slice of those, so the samples of a micro-batch do not depend on the number of ranks.
    """
    ends = [batch * micro // grad_accum_steps for micro in range(grad_accum_steps + 1)]
    spans = [(first, last - first) for first, last in itertools.pairwise(ends)]
    return tuple(range(first + size * rank // ranks, first + size * (rank + 1) // ranks) for first, size in spans)


@dataclass(slots=True, kw_only=True)
class Order:
    """Requests of one rank, step by step: step s of an epoch takes `order[s * batch : (s + 1) * batch]`.

    All ranks have equally many steps; an incomplete last batch of an epoch is dropped.
    """

    split: Split
    batch: int
    """Global batch size."""
    seed: int
    first_step: int
    steps: int
    """Steps of the whole run."""
    window: int | None = None
    """Shards to shuffle together; None: all."""
    grad_accum_steps: int = 1
    """Micro-batches per step."""
    rank: int = 0
    ranks: int = 1
    reached: int = field(default=-1, init=False)
    """Last step whose requests were generated."""

    @property
    def places(self) -> list[int]:
        """Positions in the global batch that this rank takes."""
        micros = micro_batches(self.batch, grad_accum_steps=self.grad_accum_steps, rank=self.rank, ranks=self.ranks)
        return [*itertools.chain(*micros)]

    def __iter__(self) -> Iterator[list[Request]]:
        """Yield this rank's requests of each remaining step."""
        per_epoch, places = len(self.split) // self.batch, self.places
        epoch, order = -1, np.zeros(0, dtype=np.int64)
        for step in range(self.first_step, self.steps):
            if step // per_epoch != epoch:
                epoch = step // per_epoch
                order = self._order(epoch)
            place = (step % per_epoch) * self.batch
            self.reached = step
            yield [Request(int(order[place + each]), epoch, place + each, each) for each in places]

    def windows(self) -> Iterator[tuple[int, np.ndarray]]:
        """Shuffle windows in order of use, each with the first step that reads it."""
        per_epoch = len(self.split) // self.batch
        for epoch in range(self.first_step // per_epoch, -(-self.steps // per_epoch)):
            place = 0
            for shards in stream.windows(self.split.count_S, seed=self.seed, epoch=epoch, window=self.window):
                first = epoch * per_epoch + place // self.batch
                place += int(self.split.count_S[shards].sum())
                if epoch * per_epoch + -(-place // self.batch) > self.first_step:
                    yield first, shards

    def replacements(self, request: Request) -> Iterator[int]:
        """Candidates to replace a bad sample, best first."""
        if request.epoch is None:
            return iter(())
        key = self.split.key(request.index)
        order = self._order(request.epoch)
        return stream.replacements(
            order, place=request.place, batch=self.batch, seed=self.seed, epoch=request.epoch, key=key
        )

    def _order(self, epoch: int) -> np.ndarray:
        return stream.order(self.split.count_S, seed=self.seed, epoch=epoch, window=self.window)


def eval_requests(numbers: range, *, batch: int) -> Iterator[list[Request]]:
    """Yield requests for each sample once, in batches; the last batch may be smaller."""
    for first in range(0, len(numbers), batch):
        yield [Request(number, None, number, place) for place, number in enumerate(numbers[first : first + batch])]


def shared_requests(split: Split, *, batch: int, local_slice: Callable[[int], range]) -> list[list[Request]]:
    """Yield requests for every sample once, in stored order, in equal batches of `batch` or slightly more.

    Equal batches leave enough samples to compare on any number of ranks; `local_slice` selects this rank's slice of each.
    """
    pieces = np.array_split(np.arange(len(split)), max(1, len(split) // batch))
    return [
        [Request(int(piece[place]), None, int(piece[place]), place) for place in local_slice(len(piece))]
        for piece in pieces
    ]
