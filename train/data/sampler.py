"""Order of samples: which sample a rank reads at which step, a pure function of seed, epoch and step."""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np

from kinetics_sounds import stream
from kinetics_sounds.stream import Split


@dataclass(frozen=True, slots=True)
class Request:
    """Which sample, in which epoch (None: a test), at which place of the epoch's order and of its global batch."""

    number: int
    epoch: int | None
    place: int
    batch_place: int


def micro_batches(batch: int, *, accumulate: int, rank: int, ranks: int) -> tuple[range, ...]:
    """Places in a step's global batch that a rank takes, micro-batch by micro-batch.

    Micro-batch m is the places from batch * m // accumulate to batch * (m + 1) // accumulate, and the rank takes its slice of
    those: so the samples that meet in a micro-batch do not depend on the number of ranks.
    """
    ends = [batch * micro // accumulate for micro in range(accumulate + 1)]
    spans = [(first, last - first) for first, last in itertools.pairwise(ends)]
    return tuple(range(first + size * rank // ranks, first + size * (rank + 1) // ranks) for first, size in spans)


@dataclass(slots=True, kw_only=True)
class Order:
    """The requests of one rank, step by step: step s of an epoch takes `order[s * batch : (s + 1) * batch]`, rank r its places.

    Every rank has the same number of steps; what does not fill a batch is left out of an epoch.
    """

    split: Split
    batch: int
    """Of all ranks together."""
    seed: int
    first_step: int
    steps: int
    """Of the whole run."""
    window: int | None = None
    """Shards that are shuffled together; None: all."""
    accumulate: int = 1
    """Micro-batches of a step, of each of which a rank takes its slice."""
    rank: int = 0
    ranks: int = 1
    reached: int = field(default=-1, init=False)
    """The last step whose requests were asked for."""

    @property
    def places(self) -> list[int]:
        """Places in a step's global batch that the rank takes."""
        micros = micro_batches(self.batch, accumulate=self.accumulate, rank=self.rank, ranks=self.ranks)
        return [*itertools.chain(*micros)]

    def __iter__(self) -> Iterator[list[Request]]:
        """The rank's requests of every step that is left."""
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
        """The shards that are shuffled together, in the order that they are needed, each with the first step that needs it."""
        per_epoch = len(self.split) // self.batch
        for epoch in range(self.first_step // per_epoch, -(-self.steps // per_epoch)):
            place = 0
            for shards in stream.windows(self.split.count_S, seed=self.seed, epoch=epoch, window=self.window):
                first = epoch * per_epoch + place // self.batch
                place += int(self.split.count_S[shards].sum())
                if epoch * per_epoch + -(-place // self.batch) > self.first_step:
                    yield first, shards

    def stand_ins(self, request: Request) -> Iterator[int]:
        """Samples that may take the place of a bad one, the first choice first."""
        if request.epoch is None:
            return iter(())
        key = self.split.key(request.number)
        order = self._order(request.epoch)
        return stream.replacements(
            order, place=request.place, batch=self.batch, seed=self.seed, epoch=request.epoch, key=key
        )

    def _order(self, epoch: int) -> np.ndarray:
        return stream.order(self.split.count_S, seed=self.seed, epoch=epoch, window=self.window)


def test_requests(numbers: range, *, batch: int) -> Iterator[list[Request]]:
    """Each of these samples once; the last batch may be smaller."""
    for first in range(0, len(numbers), batch):
        yield [Request(number, None, number, place) for place, number in enumerate(numbers[first : first + batch])]


def shared_requests(split: Split, *, batch: int, share: Callable[[int], range]) -> list[list[Request]]:
    """Every sample once, in the stored order, in even batches of `batch` or a few more; of each what `share` says.

    So no batch is left with fewer samples than can be compared, on any number of ranks.
    """
    pieces = np.array_split(np.arange(len(split)), max(1, len(split) // batch))
    return [
        [Request(int(piece[place]), None, int(piece[place]), place) for place in share(len(piece))] for piece in pieces
    ]
