"""Judge a model by its own method on a split that it does not learn from."""

from collections import defaultdict

import torch

from kinetics_sounds.stream import Split

from . import distributed, loader
from .distributed import World
from .run import Built
from .updates import Updates


@torch.no_grad()
def validate(
    built: Built, split: Split, *, batch: int, updates: Updates, loading: loader.Loading, world: World
) -> dict[str, float]:
    """The method's logs as "val_…": means over the samples, each once, in evaluation mode, one centred clip a sample.

    A loss that compares samples with each other does so within even batches of `batch` or a few more, of all ranks together,
    in the stored order. Every rank returns the same.
    """
    samples = loader.Samples(split=split, view=built.view.__name__, settings=built.view_settings, clips=1)
    requests = loader.shared_requests(split, batch=batch, share=world.share)
    sums: dict[str, float] = defaultdict(float)
    built.model.eval()
    try:
        with loader.listed_batches(samples, requests, loading=loading) as batches:
            for arrays in batches:
                arrays["video"] = arrays["video"][:, 0]
                with updates.autocast():
                    logs = built.step(arrays).logs
                count = len(distributed.gather(arrays["number"]))
                for name, value in logs.items():
                    sums[f"val_{name}"] += float(value) * count
    finally:
        built.model.train()
    means = {name: total / len(split) for name, total in sums.items()}
    return dict(zip(means, distributed.of_first(list(means.values())), strict=True))  # unlike devices round unlike
