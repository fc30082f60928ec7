"""ks-eval cluster_head: compare the clusters of a run's own cluster head with the classes."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, cast, runtime_checkable

import torch
from torch import Tensor, nn

from kinetics_sounds.address import Address
from kinetics_sounds.command import DONE
from kinetics_sounds.errors import RunError
from kinetics_sounds.settings import Parsed
from kinetics_sounds.stream import Split

from ...config.settings import at_least
from ...data.dataset import default_cache
from ...data.loader import Loading
from ...distributed import consistency, devices, process_group
from ...distributed.process_group import World
from ...probes import cluster
from .. import results
from ..encoders import Encoders, load
from ..eval_data import open_eval_data
from ..split_pass import over_split


@runtime_checkable
class Assigning(Protocol):
    """A method with a cluster head, such as iicl."""

    cluster: nn.Module

    def assignments(self, video_BCTHW: Tensor, audio_BCTHW: Tensor, /) -> tuple[Tensor, Tensor]:
        """Cluster probabilities by video and by audio: (B, C) each."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Compare a run's own clusters with the classes: NMI and ACC, of both modalities together and of each (IICL, Table II).

    Examples:
      ks-eval cluster_head --run runs/iicl_k400
      torchrun --nproc_per_node 8 -m -- kinetics_sounds.train.evaluate cluster_head --run runs/iicl_k400

    A sample's cluster is its most likely one, with probabilities averaged over clips (and modalities). ACC assigns each cluster
    to at most one class, so it is meant for as many clusters as classes (--iicl.clusters). For k-means clusters of any run, use
    ks-eval cluster.

    exit code: 0 done; 2 misuse; 3 stopped by a signal or a full disk, run again; 4 a bug, or a failing disk.
    """

    run: Path
    """Folder of a training run whose method has a cluster head (--method iicl)."""
    checkpoint: str = "last"
    """Checkpoint: last, best, or a name such as step-00000500."""
    untrained: bool = False
    """Evaluate the initial weights instead: the baseline."""
    shards: Address | None = None
    """Folder or URL of the shards. Default: the shards that the run was trained on, if they are a folder."""
    cache: Path = field(default_factory=default_cache)
    """Cache folder for remote shards, shared by all processes on this machine."""
    cache_gb: float = 100.0
    """Maximum cache size in gigabytes (1e9 bytes)."""
    on_split: str | None = None
    """Split to evaluate on. Default: test, else val, else the run's training split."""
    clips: int = 1
    """Evenly spaced clips per sample; their probabilities are averaged."""
    batch: int = 16
    """Samples per forward pass, one clip of each at a time."""
    workers: int = 1
    """Data-loading processes; 0 loads in the main process."""
    device: str = "auto"
    """cpu, cuda, or auto (cuda if available)."""
    out: Path | None = None
    """Folder of the results. Default: RUN/eval/cluster_head."""
    json: bool = False
    """Print the results as JSON on standard output."""


def evaluate(parsed: Parsed[Settings]) -> int:
    """Assign every sample, with all ranks that torchrun started; return the exit code."""
    settings = parsed.settings
    at_least(settings, clips=1, batch=1, workers=0)
    its = open_eval_data(settings)
    facts, dataset, on, split = its.facts, its.dataset, its.on, its.split
    encoders = load(settings.run, None if settings.untrained else settings.checkpoint)
    if not isinstance(encoders.method, Assigning):
        raise RunError(
            f"{settings.run}: its method has no cluster head; take ks-eval cluster, which finds clusters by k-means"
        )
    with process_group.start(devices.pick_device(settings.device)) as world:
        told = {
            "checkpoint": str(encoders.checkpoint),
            "clips": f"{dataset.splits[on].fingerprint} {on} {settings.clips}",
        }
        consistency.check_equal(told)
        loading = Loading(workers=settings.workers, device=world.device)
        sides = _assigned(encoders, split, settings, loading, world)
        if not world.is_main:
            return DONE
    label_N = split.label_index_N
    scores: dict[str, float] = {}
    for prefix, probability_NC in (("", (sides[0] + sides[1]) / 2), ("video_", sides[0]), ("audio_", sides[1])):
        found = cluster.agreement(label_N, probability_NC.argmax(dim=1).numpy(), seed=0)
        scores |= {f"{prefix}{name}": value for name, value in found.items()}
    document = {
        **results.head("cluster_head", settings.run, facts, encoders.checkpoint, **results.of_split(dataset, on)),
        "samples": len(split),
        "clips": settings.clips,
        "clusters": sides[0].shape[1],
        "classes": dataset.classes,
        "note": dataset.note,
        "scores": scores,
    }
    out = results.folder(settings, "cluster_head")
    results.write(out, document)
    print(json.dumps(document) if settings.json else results.format_scores(document, out))
    return DONE


@torch.inference_mode()
def _assigned(
    encoders: Encoders, split: Split, settings: Settings, loading: Loading, world: World
) -> tuple[Tensor, Tensor]:
    """Cluster probabilities by video and by audio, averaged over the clips: (N, C) each."""
    method = cast("Assigning", encoders.method)

    def of_batch(arrays: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        inputs = encoders.view.augment(arrays, encoders.view_settings)
        video, audio = inputs["video"], inputs["audio"].expand(-1, settings.clips, -1, -1, -1, -1)
        made = [method.assignments(video[:, clip], audio[:, clip]) for clip in range(settings.clips)]
        seen, heard = (torch.stack(each).mean(dim=0) for each in zip(*made, strict=True))
        return seen, heard

    title = f"ks-eval clusters of {split.name}"
    seen_NC, heard_NC = over_split(
        encoders, split, of_batch, clips=settings.clips, batch=settings.batch, loading=loading, world=world, title=title
    )
    if not (seen_NC.isfinite().all() and heard_NC.isfinite().all()):
        raise RunError(f"{encoders.checkpoint}: its assignments are not finite; train again with a lower --optim.lr")
    return seen_NC, heard_NC
