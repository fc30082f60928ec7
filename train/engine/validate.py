"""Validation: the method's own metrics on a held-out split."""

from collections import defaultdict

import torch

from kinetics_sounds.stream import Split

from ..data import fetcher, loader, sampler
from ..distributed import collectives, gather
from ..distributed.process_group import World
from ..interface import Moment
from .build import ModelBundle
from .step import TrainStep


@torch.no_grad()
def validate(
    built: ModelBundle,
    split: Split,
    moment: Moment,
    *,
    batch: int,
    train_step: TrainStep,
    loading: loader.Loading,
    world: World,
) -> dict[str, float]:
    """Mean of the method's logs as "val_…" over all samples, in evaluation mode, with the center clip of each.

    Contrastive losses compare samples within equal batches of `batch` or slightly more samples over all ranks, in stored order.
    All ranks return the same values.
    """
    samples = fetcher.Samples(split=split, view=built.view.__name__, settings=built.view_settings)
    requests = sampler.shared_requests(split, batch=batch, local_slice=world.local_slice)
    sums: dict[str, float] = defaultdict(float)
    built.method.eval()
    try:
        with loader.listed_batches(samples, requests, loading=loading) as batches:
            for arrays in batches:
                with train_step.autocast():
                    logs = built.output(arrays, moment, trains=False).logs
                count = len(gather.gather(arrays["index"]))
                for name, value in logs.items():
                    sums[f"val_{name}"] += float(value) * count
    finally:
        built.method.train()
    means = {name: total / len(split) for name, total in sums.items()}
    return dict(
        zip(means, collectives.broadcast_from_main(list(means.values())), strict=True)
    )  # different devices round differently
