"""ks-eval vote: evaluate a run's classifier by single clips and by a vote of ten clips per video."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from kinetics_sounds.address import Address
from kinetics_sounds.command import DONE
from kinetics_sounds.errors import RunError
from kinetics_sounds.settings import Parsed
from kinetics_sounds.shards.index import Dataset

from ...config.settings import at_least
from ...data.dataset import default_cache
from ...data.loader import Loading
from ...distributed import consistency, devices, process_group
from .. import results, votes
from ..encoders import load
from ..eval_data import note_selected, open_eval_data, selected_on
from ..votes import How


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Evaluate a run that has a classifier by the vote of many clips per video; writes results.json and results.csv.

    Examples:
      ks-eval vote --run runs/supervised
      ks-eval vote --run runs/avcl_k32/eval/finetune --checkpoint best --vote prob
      torchrun --nproc_per_node 8 -m -- kinetics_sounds.train.evaluate vote --run runs/supervised

    top1 and top5 are accuracies of the vote, clip_top1 and clip_top5 of single clips.

    exit code: 0 done; 2 usage error; 3 stopped by a signal or a full disk, run again; 4 a bug, or a failing disk.
    """

    run: Path
    """Folder of a training run with a classifier: of --method supervised, or of ks-eval finetune."""
    checkpoint: str = "last"
    """Checkpoint: last, best, or a name such as step-00000500."""
    shards: Address | None = None
    """Folder or URL of the shards. Default: the shards that the run was trained on, if they are a folder."""
    cache: Path = field(default_factory=default_cache)
    """Cache folder for remote shards, shared by all processes on this machine."""
    cache_gb: float = 100.0
    """Maximum cache size in gigabytes (1e9 bytes)."""
    on_split: str | None = None
    """Split to evaluate on. Default: test, else val, else the run's training split."""
    clips: int = 10
    """Evenly spaced clips per video that vote."""
    vote: How = "logit"
    """What is averaged over the clips: logit (logits: AVCL and the code it builds on) or prob (probabilities: AVID,
    CrissCross)."""
    batch: int = 16
    """Videos per forward pass, one clip of each at a time."""
    workers: int = 1
    """Data-loading processes; 0 loads in the main process."""
    device: str = "auto"
    """cpu, cuda, or auto (cuda if available)."""
    out: Path | None = None
    """Folder of the results. Default: RUN/eval/vote."""
    json: bool = False
    """Print the results as JSON on standard output."""


def evaluate(parsed: Parsed[Settings]) -> int:
    """Evaluate by voting, with all ranks that torchrun started; return the exit code."""
    settings = parsed.settings
    at_least(settings, clips=1, batch=1, workers=0)
    its = open_eval_data(settings)
    facts, dataset, on, split = its.facts, its.dataset, its.on, its.split
    encoders = load(settings.run, settings.checkpoint)
    selected = selected_on(settings, encoders.checkpoint, facts, dataset)
    votes.classifier_of(encoders)
    _check_classes(facts, dataset, shards=its.shards)
    fingerprint = dataset.every_split[on].fingerprint
    with process_group.start(devices.pick_device(settings.device)) as world:
        told = {"checkpoint": str(encoders.checkpoint), "clips": f"{fingerprint} {on} {settings.clips}"}
        consistency.check_equal(told)
        loading = Loading(workers=settings.workers, device=world.device)
        logit_NKC, label_N = votes.clip_logits(
            encoders, split, clips=settings.clips, batch=settings.batch, loading=loading, world=world
        )
        if not world.is_main:
            return DONE
    of_split = results.of_split(settings, its.shards, dataset, on, facts)
    found = {
        **results.head("vote", settings.run, facts, encoders.checkpoint, **of_split),
        "samples": len(split),
        "clips": settings.clips,
        "vote": settings.vote,
        "classes": dataset.classes,
        "note": dataset.note,
        "scores": {
            **votes.accuracies(votes.vote(logit_NKC, settings.vote), label_N, fit_M=torch.arange(len(dataset.labels))),
            **votes.clip_accuracies(logit_NKC, label_N),
            "selected_on_test": float(selected == on),
        },
    }
    out = settings.out or settings.run / "eval" / "vote"
    results.write(out, found)
    lines = [results.format_scores(found, out), *note_selected(selected, on)]
    print(json.dumps(found) if settings.json else "\n".join(lines))
    return DONE


def _check_classes(facts: Mapping[str, Any], dataset: Dataset, *, shards: Address) -> None:
    """Raise RunError if the shard set's classes differ from those of the run's classifier."""
    own = (facts.get("classes", dataset.classes), facts["data"]["classes"])
    theirs = (dataset.classes, len(dataset.labels))
    if own != theirs:
        raise RunError(
            f"{shards}: is of {theirs[1]} classes ({theirs[0]}), and the run's classifier tells {own[1]} apart ({own[0]}); "
            "give the shards of the run's own classes with --shards"
        )
