"""Read, decode and crop a sample with its view, in a worker or in the main process."""

import importlib
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from kinetics_sounds import stream
from kinetics_sounds.errors import BadSampleError, KineticsSoundsError, ShardError
from kinetics_sounds.stream import Split

from ..interface import Arrays, View
from .sampler import Request
from .workers import BadRowError, Deadline, Times


@dataclass(frozen=True, kw_only=True)
class Samples:
    """A split rendered by a view: fills the rows of a batch."""

    split: Split
    view: str
    """Name of the view's module."""
    settings: Any
    """Settings of the view."""
    seed: int = 0
    clips: int | None = None
    """Evenly spaced clips per sample for evaluation; None: training and validation views."""
    indices: range | None = None
    """Indices of the samples to evaluate on; None: the whole split."""

    @property
    def eval_indices(self) -> range:
        """Indices of the samples to evaluate on."""
        return range(len(self.split)) if self.indices is None else self.indices

    @property
    def module(self) -> View:
        """Module of the view."""
        return importlib.import_module(self.view)

    def describe(self, request: Request) -> str:
        """Location and key of a request's sample, for messages."""
        return f"{self.split.tars[self.split.shard(request.index)]}: sample {self.split.key(request.index)}"

    def arrays(self) -> Arrays:
        """Shape and dtype of a row's arrays."""
        return self.module.arrays(self.settings, self.clips)

    def __call__(self, request: Request, out: Mapping[str, np.ndarray], clock: Deadline) -> Times:
        """Write a sample's arrays into `out`; raises BadRowError for a bad sample, ShardError if the shard set is missing."""
        with stream.sample(self.split, request.index, fetching=clock.stopped) as sample:
            clock.start()
            start = time.perf_counter()
            try:
                made = self._made(sample, request.epoch)
            except MemoryError:
                raise
            except Exception as error:
                if isinstance(error, ShardError) and not isinstance(error, BadSampleError):
                    raise
                what = str(error) if isinstance(error, KineticsSoundsError) else f"{type(error).__name__}: {error}"
                raise BadRowError(what if isinstance(error, ShardError) else f"{sample}: {what}") from error
            for name, tensor in made.items():
                if tensor.is_floating_point() and not tensor.isfinite().all():
                    raise BadRowError(f"{sample}: its {name!r} contains non-finite values")
            for name, array in out.items():
                np.copyto(array, made[name].numpy().reshape(array.shape), casting="no")
            return Times(sample.read_seconds, time.perf_counter() - start - sample.read_seconds)

    def _made(self, sample: stream.Sample, epoch: int | None) -> dict[str, Tensor]:
        if epoch is not None:
            return self.module.train_view(sample, self.settings, stream.rng(self.seed, epoch, sample.key))
        if self.clips is None:
            return self.module.val_view(sample, self.settings)
        return self.module.eval_views(sample, self.settings, self.clips)
