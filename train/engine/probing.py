"""Probes during training: accuracy of frozen features, because a falling loss does not prove that features improve.

Shape suffixes: N samples of a split, D feature channels.
"""

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from kinetics_sounds import plugins
from kinetics_sounds.errors import RunError
from kinetics_sounds.stream import Split

from .. import losses, probes
from ..data import fetcher, loader
from ..data.sampler import Request
from ..distributed import collectives, gather
from ..distributed.process_group import World
from ..probes import Features
from .build import ModelBundle
from .step import TrainStep

log = logging.getLogger("kinetics_sounds")

SCORES = ("video_top1", "audio_top1", "top1_chance")
ROUNDING = 1e-6
"""Singular values below this fraction of the feature norm are float32 rounding error."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Probing:
    """Settings of the probe."""

    name: str
    """A probe (module of probes/) that is fitted on training features."""
    fit: Split
    on: Split
    samples: int
    """Maximum samples per split, evenly spaced."""
    batch: int
    max_bad_fraction: float
    """Maximum fraction of bad samples per split; each is replaced by the next good one."""


@torch.no_grad()
def probe(
    built: ModelBundle, its: Probing, *, train_step: TrainStep, loading: loader.Loading, world: World
) -> dict[str, float]:
    """Accuracy in percent as "probe_…": of each modality, of both with a 95 % interval, and of chance.

    For a method that trains one modality, "probe_top1" and its interval are of that modality. Also, per modality on the probed
    split: "…_rank", the effective rank of the features, and "…_dead", the fraction of channels that are zero for all samples.
    All ranks return the same values; the model is not changed.
    """
    built.method.eval()
    try:
        fit, on = (
            _features(built, split, its, train_step=train_step, loading=loading, world=world)
            for split in (its.fit, its.on)
        )
    finally:
        built.method.train()
    module = plugins.load(probes.__name__, its.name)
    found = module.evaluate(on, fit, module.Settings())
    modalities = getattr(getattr(built.method, "settings", None), "modalities", "both")
    own = "top1" if modalities == "both" else f"{modalities}_top1"
    told = {f"probe_top1{end}": found[f"{own}{end}"] for end in ("", "_low", "_high")}
    told |= {f"probe_{name}": found[name] for name in SCORES}
    for modality, features_ND in (("video", on.video_ND), ("audio", on.audio_ND)):
        told[f"{modality}_rank"] = effective_rank(features_ND)
        told[f"{modality}_dead"] = float(losses.dead_share(features_ND))
    values = collectives.broadcast_from_main(list(told.values()))  # different devices round differently
    return dict(zip(told, values, strict=True))


def effective_rank(features_ND: Tensor) -> float:
    """Effective rank of features (N, D): exp of the entropy of the normalized singular values (Roy & Vetterli 2007).

    Computed after subtracting the mean: 1 if all features lie on a line, D if they vary equally in all directions, 0 if they
    are all equal. Directions below `ROUNDING` of the feature norm are ignored.
    """
    features_ND = features_ND.double()
    values = torch.linalg.svdvals(features_ND - features_ND.mean(dim=0))
    values = values[values > ROUNDING * features_ND.norm()]
    if not values.numel():
        return 0.0
    share = values / values.sum()
    return float(torch.special.entr(share).sum().exp())


def report(step: int, now: Mapping[str, float], first: Mapping[str, float] | None, world: World) -> None:
    """Print probe results, and warn if features are no better than before training, if that is known."""
    top1, chance = now["probe_top1"], now["probe_top1_chance"]
    before = f"before training {first['probe_top1']:.1f}%, " if first else ""
    world.print_main(
        f"step {step}: probe top-1 {top1:.1f}% ({before}chance {chance:.1f}%); effective rank: video {now['video_rank']:.0f}, "
        f"audio {now['audio_rank']:.0f}"
    )
    if step and first and world.is_main and top1 <= first["probe_top1_high"]:
        log.warning(
            "step %d: features separate classes no better than before training (%.1f%%; before %.1f%%, 95%% interval up to "
            "%.1f%%): a falling loss alone is no progress",
            *(step, top1, first["probe_top1"], first["probe_top1_high"]),
        )


def _features(
    built: ModelBundle,
    split: Split,
    its: Probing,
    *,
    train_step: TrainStep,
    loading: loader.Loading,
    world: World,
) -> Features:
    """Pooled features of the center clip and the whole audio of each selected sample, in stored order."""
    numbers = np.unique(np.linspace(0, len(split) - 1, min(its.samples, len(split))).round().astype(int))
    samples = fetcher.Samples(split=split, view=built.view.__name__, settings=built.view_settings, clips=1)
    count = min(-(-len(numbers) // its.batch), len(numbers) // world.size)  # each rank has a sample of every piece
    pieces = np.array_split(numbers, max(1, count))
    requests = [
        [Request(int(piece[place]), None, int(piece[place]), place) for place in world.local_slice(len(piece))]
        for piece in pieces
    ]
    found: list[tuple[Tensor, ...]] = []

    def replacements(request: Request) -> Iterator[int]:
        return ((request.index + step) % len(split) for step in range(1, len(split)))

    with loader.listed_batches(
        samples, requests, loading=loading, replacements=replacements, max_bad_fraction=its.max_bad_fraction
    ) as batches:
        for arrays in batches:
            inputs = built.view.augment(arrays, built.view_settings)
            with train_step.autocast():
                local = (
                    encoder(inputs[name][:, 0]).float()
                    for name, encoder in (("video", built.method.video), ("audio", built.method.audio))
                )
                features = [gather.gather(each).cpu() for each in local]
            found.append((*features, gather.gather(arrays["index"]).cpu()))
    video_ND, audio_ND, number_N = (torch.cat(parts) for parts in zip(*found, strict=True))
    try:
        return Features(
            video_ND=video_ND,
            audio_ND=audio_ND,
            label_N=torch.from_numpy(split.label_index_N[number_N.numpy()]),
            keys=tuple(map(split.key, number_N.tolist())),
        )
    except ValueError as error:
        raise RunError(f"probe of {split.name}: {error}") from error
