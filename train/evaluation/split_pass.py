"""Run a run's encoders over all samples of a split, by one process or several ranks."""

from collections.abc import Callable

import torch
from torch import Tensor

from kinetics_sounds import progress, stream

from ..data import fetcher, loader
from ..data.loader import Loading
from ..distributed import gather
from ..distributed.process_group import World
from .encoders import Encoders


def over_split(
    encoders: Encoders,
    split: stream.Split,
    of_batch: Callable[[dict[str, Tensor]], tuple[Tensor, ...]],
    *,
    clips: int,
    batch: int,
    loading: Loading,
    world: World | None,
    title: str,
) -> tuple[Tensor, ...]:
    """Apply `of_batch` to the arrays of every sample, in stored order; returns its tensors (N, ...) on the CPU.

    With a `world`, each rank processes a slice, and all ranks return everything. Raises ShardError if the shard set does not
    suit the view, RunError for an unreadable sample or a lost rank.
    """
    encoders.view.check(split.dataset, encoders.view_settings)
    encoders.method.to(loading.device).eval()
    world = world or World(0, 1, loading.device)
    share = world.local_slice(len(split))
    # A rank without samples still runs one, to know the shapes.
    seen = share or range(1)
    samples = fetcher.Samples(
        split=split, view=encoders.view.__name__, settings=encoders.view_settings, clips=clips, indices=seen
    )
    found: list[tuple[Tensor, ...]] = []
    with (
        loader.eval_batches(samples, batch=batch, loading=loading) as batches,
        progress.bar(title, -(-len(seen) // batch), shown=world.is_main) as bar,
    ):
        for each in batches:
            found.append(tuple(made.cpu() for made in of_batch(each)))
            bar.advance()
    return tuple(gather.gather(torch.cat(parts)[: len(share)]) for parts in zip(*found, strict=True))
