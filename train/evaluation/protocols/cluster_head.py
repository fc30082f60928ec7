"""ks-eval cluster_head: compare the clusters of a run's own cluster head with the classes."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, cast, runtime_checkable

import torch
from torch import Tensor

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
from ...engine import checkpoint_state
from ...probes import cluster
from .. import results
from ..encoders import Encoders, load
from ..eval_data import note_selected, open_eval_data, selected_on
from ..features import mean_over_clips
from ..split_pass import over_split


@runtime_checkable
class Assigning(Protocol):
    """A method with a cluster head, such as iicl."""

    def assign(self, modality: str, feature_BD: Tensor, /) -> Tensor:
        """Cluster probabilities of pooled features of "video" or "audio": (B, C)."""
        ...

    def first_clusters(self, steps_per_epoch: int, /) -> int | None:
        """Step at which training of the cluster head starts; None if never."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Compare the clusters of a run's own cluster head with the classes: NMI and ACC (IICL's Table II).

    Examples:
      ks-eval cluster_head --run runs/iicl_k400
      torchrun --nproc_per_node 8 -m -- kinetics_sounds.train.evaluate cluster_head --run runs/iicl_k400

    The head takes the pooled features of each modality, without co-attention, so that neither sees the other. A sample's cluster
    is the argmax of its probabilities, averaged over its clips; scores are of both modalities (averaged too), and of each alone.
    ACC pairs clusters and classes one to one, so train with --iicl.clusters set to the number of classes. ks-eval cluster finds
    clusters by k-means, for any run.

    exit code: 0 done; 2 usage error; 3 stopped by a signal or a full disk, run again; 4 a bug, or a failing disk.
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
    """Samples per forward pass, with all their clips."""
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
    selected = selected_on(settings, encoders.checkpoint, facts, dataset)
    method = encoders.whole_method()
    if not isinstance(method, Assigning):
        raise RunError(
            f"{settings.run}: its method has no cluster head; take ks-eval cluster, which finds clusters by k-means"
        )
    if encoders.checkpoint is not None:
        _check_trained(method, encoders.checkpoint, facts["data"].get("steps_per_epoch", 0))
    with process_group.start(devices.pick_device(settings.device)) as world:
        told = {
            "checkpoint": str(encoders.checkpoint),
            "clips": f"{dataset.every_split[on].fingerprint} {on} {settings.clips}",
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
    of_split = results.of_split(settings, its.shards, dataset, on, facts)
    document = {
        **results.head("cluster_head", settings.run, facts, encoders.checkpoint, **of_split),
        "samples": len(split),
        "clips": settings.clips,
        "clusters": sides[0].shape[1],
        "classes": dataset.classes,
        "note": dataset.note,
        "scores": scores,
    }
    if selected == on:
        scores["selected_on_test"] = 1.0
    out = results.folder(settings, "cluster_head")
    results.write(out, document)
    lines = [results.format_scores(document, out), *note_selected(selected, on)]
    print(json.dumps(document) if settings.json else "\n".join(lines))
    return DONE


def _check_trained(method: Assigning, checkpoint: Path, steps_per_epoch: int) -> None:
    """Raise RunError if the checkpoint's cluster head still has its initial weights."""
    first, step = method.first_clusters(steps_per_epoch), checkpoint_state.read_state(checkpoint)["step"]
    if first is None or step <= first:
        when = "never learns in this run (--iicl.cluster_weight 0)" if first is None else f"learns from step {first} on"
        raise RunError(
            f"{checkpoint}: its cluster head {when}, and this checkpoint is of step {step}; take a later checkpoint, or ks-eval "
            "cluster, which finds clusters by k-means"
        )


@torch.inference_mode()
def _assigned(
    encoders: Encoders, split: Split, settings: Settings, loading: Loading, world: World
) -> tuple[Tensor, Tensor]:
    """Cluster probabilities of video and of audio, averaged over the clips: (N, C) each."""
    method = cast("Assigning", encoders.method)
    sides = {"video": encoders.video, "audio": encoders.audio}

    def of_batch(arrays: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        inputs = encoders.view.augment(arrays, encoders.view_settings)
        made = []
        for name, encoder in sides.items():
            each_BC = method.assign(name, encoder(inputs[name].flatten(0, 1)))
            made.append(mean_over_clips(each_BC, clips=inputs[name].shape[1]))
        video_BC, audio_BC = made
        return video_BC, audio_BC

    title = f"ks-eval clusters of {split.name}"
    video_NC, audio_NC = over_split(
        encoders, split, of_batch, clips=settings.clips, batch=settings.batch, loading=loading, world=world, title=title
    )
    if not (video_NC.isfinite().all() and audio_NC.isfinite().all()):
        raise RunError(f"{encoders.checkpoint}: its assignments are not finite; train again with a lower --optim.lr")
    return video_NC, audio_NC
