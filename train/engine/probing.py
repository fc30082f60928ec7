"""A probe while training: what frozen features are worth, beside a loss that may fall without that anything is learnt.

Shape suffixes: N samples of a split, D feature channels.
"""

import logging
from collections.abc import Mapping
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

SCORES = ("top1", "video_top1", "audio_top1")


@dataclass(frozen=True, slots=True, kw_only=True)
class Probing:
    """What is probed, and how."""

    name: str
    """A module of probes/ that learns from features of the training split."""
    fit: Split
    on: Split
    samples: int
    """Of each split, evenly spread; all where there are fewer."""
    batch: int


@torch.no_grad()
def probe(
    built: ModelBundle, its: Probing, *, updates: TrainStep, loading: loader.Loading, world: World
) -> dict[str, float]:
    """The probe's accuracies in percent as "probe_…", with chance and the interval of both modalities together.

    With them, for each modality on the probed split: "…_rank", the effective rank of its features, and "…_dead", the share of
    channels that are zero for all of it. Every rank returns the same; the model is as it was.
    """
    built.method.eval()
    try:
        fit, on = (
            _features(built, split, its, updates=updates, loading=loading, world=world) for split in (its.fit, its.on)
        )
    finally:
        built.method.train()
    module = plugins.load(probes.__name__, its.name)
    found = module.evaluate(on, fit, module.Settings())
    told = {f"probe_{name}": found[name] for name in (*SCORES, "top1_low", "top1_high", "top1_chance")}
    for modality, features_ND in (("video", on.video_ND), ("audio", on.audio_ND)):
        told[f"{modality}_rank"] = effective_rank(features_ND)
        told[f"{modality}_dead"] = float(losses.dead_share(features_ND))
    values = collectives.broadcast_from_main(list(told.values()))  # unlike devices round unlike
    return dict(zip(told, values, strict=True))


def effective_rank(features_ND: Tensor) -> float:
    """In how many directions features vary: e to the entropy of the singular values' shares (Roy & Vetterli 2007).

    Of features (N, D) about their mean: 1 where all lie on a line, D where they vary alike in all directions, 0 where all are
    equal.
    """
    centred_ND = (features_ND - features_ND.mean(dim=0)).double()
    values = torch.linalg.svdvals(centred_ND)
    if not values.numel() or values[0] <= 1e-9 * features_ND.double().norm():
        return 0.0
    share = values / values.sum()
    return float(torch.special.entr(share).sum().exp())


def say(step: int, now: Mapping[str, float], untrained: Mapping[str, float], world: World) -> None:
    """Tell what a probe found, and warn where the features are worth no more than before training."""
    top1, before, chance = now["probe_top1"], untrained["probe_top1"], now["probe_top1_chance"]
    world.say(
        f"step {step}: probe top-1 {top1:.1f}% (untrained {before:.1f}%, chance {chance:.1f}%); effective rank: video "
        f"{now['video_rank']:.0f}, audio {now['audio_rank']:.0f}"
    )
    if step and world.leads and top1 <= untrained["probe_top1_high"]:
        log.warning(
            "step %d: the features tell classes no better than before training (%.1f%%, untrained %.1f%%, its 95%% interval up "
            "to %.1f%%): a loss that falls is not learning yet",
            *(step, top1, before, untrained["probe_top1_high"]),
        )


def _features(
    built: ModelBundle,
    split: Split,
    its: Probing,
    *,
    updates: TrainStep,
    loading: loader.Loading,
    world: World,
) -> Features:
    """Pooled features of one centred clip and the whole sound of each chosen sample, in the stored order."""
    numbers = np.unique(np.linspace(0, len(split) - 1, min(its.samples, len(split))).round().astype(int))
    samples = fetcher.Samples(split=split, view=built.view.__name__, settings=built.view_settings, clips=1)
    pieces = np.array_split(numbers, max(1, len(numbers) // max(its.batch, world.size)))
    requests = [
        [Request(int(piece[place]), None, int(piece[place]), place) for place in world.share(len(piece))]
        for piece in pieces
    ]
    found: list[tuple[Tensor, Tensor]] = []
    with loader.listed_batches(samples, requests, loading=loading) as batches:
        for arrays in batches:
            inputs = built.view.augment(arrays, built.view_settings)
            with updates.autocast():
                local = (
                    encoder(inputs[name][:, 0]).float()
                    for name, encoder in (("video", built.method.video), ("audio", built.method.audio))
                )
                video_ND, audio_ND = (gather.gather(each).cpu() for each in local)
            found.append((video_ND, audio_ND))
    video_ND, audio_ND = (torch.cat(parts) for parts in zip(*found, strict=True))
    try:
        return Features(
            video_ND=video_ND,
            audio_ND=audio_ND,
            label_N=torch.from_numpy(split.label_index_N[numbers].copy()),
            keys=tuple(map(split.key, numbers.tolist())),
        )
    except ValueError as error:
        raise RunError(f"probe of {split.name}: {error}") from error
