"""ks-eval layerwise: a linear classifier on each of several layers of a frozen encoder, all trained at once (AVID, Tables 1, 2).

Shape suffixes: N videos, K clips a video, L layers, C classes, B videos of a batch, M metrics.
"""

import contextlib
import json
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, cast

import torch
from torch import Tensor

from kinetics_sounds.address import Address
from kinetics_sounds.command import DONE, STOPPED, keep_secret
from kinetics_sounds.errors import RunError, SettingsError, StoppedError
from kinetics_sounds.settings import Parsed
from kinetics_sounds.shards import reader
from kinetics_sounds.shards.index import Dataset

from ... import pretrain
from ...config import run_folder
from ...config.settings import TrainSettings, at_least
from ...data.dataset import default_cache, open_split
from ...data.loader import Loading
from ...distributed import devices, launch, process_group
from ...distributed.process_group import World
from ...engine import build, checkpoint
from ...interface import Data
from ...methods import layerwise
from ...optim.optimizer import Optim
from ...probes import bounded, topk_hits
from .. import results, training
from ..encoders import Encoders, asked, check_claims, load
from ..judged import check_like
from ..split_pass import over_split
from ..votes import How, vote

VIDEOS = 16
"""Whose clips are loaded together where the classifiers are judged."""
METRICS = ("top1", "top5", "clip_top1", "clip_top5")
"""Of each layer: what the vote of a video's clips hits, and what they do one by one."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Train a linear classifier on each of several layers of a run's frozen encoder; writes results.json and results.csv.

    Examples:
      ks-eval layerwise --run runs/avid --devices 8
      ks-eval layerwise --run runs/avid --untrained
      ks-eval layerwise --run runs/avid --modality audio --clips 25
      torchrun --nproc_per_node 8 -m -- kinetics_sounds.train.evaluate layerwise --run runs/avid

    The defaults are AVID's. Batches are streamed, and no features are kept. The view is the run's own, with random crops and
    flips and no other change where it knows how (clip_and_mel and clip_and_spectrogram do). Killed, it goes on where it was.

    top1 and top5 are those of the clips' vote, clip_top1 and clip_top5 those of the clips one by one; best_... is the layer
    with the greatest top1 on --val_split, or where there is none on the judged split (selected_on_test is 1 then).

    exit code: 0 done; 2 misuse; 3 stopped by a signal or a full disk, run again; 4 a bug, or a disk that fails.
    """

    run: Path
    """Folder of a training run."""
    checkpoint: str = "last"
    """Checkpoint whose encoders are judged: last, best, or a name such as step-00000500."""
    untrained: bool = False
    """Judge the same encoders with their initial weights instead: what a score must beat."""
    modality: Literal["video", "audio"] = "video"
    """Whose encoder is judged."""
    layers: str = "conv2,conv3,conv4,conv5"
    """Layers of it, separated by commas."""
    features: int = 9216
    """At most so many of a layer: its maps are max-pooled to the largest square grid whose cells make no more."""
    shards: Address | None = None
    """Folder or URL of the shards; default: the run's own, where that is a folder."""
    cache: Path = field(default_factory=default_cache)
    """Folder that keeps the shards of a remote set, shared by every process of this machine."""
    cache_gb: float = 100.0
    """Gigabytes (1e9 bytes) that the cache may take."""
    fit_split: str = "train"
    """Split to learn from."""
    val_split: str | None = None
    """Split that chooses the best layer; default: val, unless that is judged or missing: then the judged one does."""
    on_split: str | None = None
    """Split to be judged on; default: test, else val."""
    epochs: int = 12
    """Times through the split."""
    batch: int = 128
    """Samples a step, of all devices together."""
    optim: Optim = field(
        default_factory=lambda: Optim(
            name="adam", lr=1e-4, weight_decay=0.0, schedule="multistep", milestones=(0.5, 0.75)
        )
    )
    """How the classifiers' weights move; the milestones are those after 6 and 9 of 12 epochs."""
    clips: int = 10
    """Evenly spaced clips of a video that vote (AVID's small study: 25); of a sound that the view gives whole there is one."""
    vote: How = "prob"
    """What is averaged over the clips: logits (AVCL and its ancestors) or probabilities (AVID, CrissCross)."""
    seed: int | None = None
    """Of the classifiers' initial weights, the order and every view, and with --untrained of the encoders; default: the run's."""
    devices: int = 1
    """GPUs of this machine, or processes on its CPUs, that learn and judge together."""
    precision: Literal["float32", "bf16", "fp16"] = "float32"
    """Of the encoder's arithmetic while the classifiers learn."""
    workers: int | None = None
    """Loading processes of each device; default: as ks-train."""
    device: str = "auto"
    """cpu, cuda, or auto: cuda where there is one."""
    out: Path | None = None
    """Folder of the trained classifiers and the results; default: RUN/eval/layerwise, or layerwise_audio."""
    json: bool = False
    """Print the results as JSON on standard output."""


DEFAULTS = Settings(run=Path())
"""What is done where nothing is asked for; of no run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    """What the settings come to, once they are checked."""

    facts: Mapping[str, Any]
    dataset: Dataset
    shards: Address
    first: Path | None
    """The checkpoint whose encoders are judged."""
    val: str | None
    on: str
    out: Path
    clips: int
    tuning: Parsed[TrainSettings]
    """What ks-train is to do."""


def evaluate(parsed: Parsed[Settings]) -> int:
    """Train the classifiers and judge them, on as many devices; returns the exit code. Raises StoppedError after a signal."""
    settings = parsed.settings
    its = _asked(settings)
    keep_secret([its.shards.real])
    if settings.devices > 1 and not launch.is_rank():
        devices.check_devices(settings.devices, settings.device)
        return launch.ranks(evaluate, parsed, devices=settings.devices, prog="ks-eval")
    with process_group.start(devices.pick_device(settings.device)) as world:
        with contextlib.redirect_stdout(sys.stderr) if settings.json else contextlib.nullcontext():
            code = pretrain.train_as_rank(its.tuning, world)
        if code == STOPPED:
            raise StoppedError(f"the classifiers are saved in {its.out}; run again to go on")
        # All that ranks do together comes before what one does alone.
        encoders = load(its.out)
        hit_NLM = {name: _hits(settings, its, encoders, name, world) for name in (its.on, its.val) if name is not None}
    if not world.leads:
        return DONE
    found = _found(settings, its, encoders, hit_NLM)
    results.write(its.out, found)
    print(json.dumps(found) if settings.json else results.told(found, its.out))
    if found["scores"]["selected_on_test"] and not settings.json:
        told = f"{found['best']} was chosen as the best layer on the split {its.on!r}, which it is judged on"
        print(f"note: {told}; see --val_split and --on_split")
    return DONE


def _asked(settings: Settings) -> _Asked:
    """All that can be refused before anything is trained; raises SettingsError, RunError or ShardError."""
    at_least(settings, epochs=1, batch=2, clips=1, seed=0, devices=1, workers=0)
    facts = run_folder.read_facts(settings.run)
    shards = settings.shards or run_folder.shards_of(facts)
    dataset = reader.read_dataset(shards)
    val, on = training.val_and_on(settings, dataset.splits, shards=shards)
    check_like(settings.run, facts, dataset, shards=shards)
    name = asked(settings)
    first = None if name is None else checkpoint.find(settings.run / "checkpoints", name)
    check_claims(settings.run, first)
    out = results.folder(settings, "layerwise" if settings.modality == "video" else "layerwise_audio")
    before = run_folder.model_of(settings.run)
    tuning = training.of_run(
        settings,
        before,
        "layerwise",
        _groups(settings, before),
        shards=shards,
        out=out,
        train_split=settings.fit_split,
        init=first,
        seed=before.settings.seed if settings.seed is None else settings.seed,
        sync_bn="on",  # of the classifiers: any number of devices learns what one would
    )
    fit = dataset.splits[settings.fit_split]
    build.outline(tuning, Data(classes=len(dataset.labels), samples=fit.samples))
    training.check_same(out, tuning, fingerprint=fit.fingerprint, done="trained")
    return _Asked(
        facts=facts,
        dataset=dataset,
        shards=shards,
        first=first,
        val=val,
        on=on,
        out=out,
        clips=_clips(settings, tuning),
        tuning=tuning,
    )


def by_default(before: Parsed[TrainSettings]) -> Parsed[TrainSettings]:
    """What ks-train is to do by a run's model where nothing else is asked for."""
    return training.of_run(DEFAULTS, before, "layerwise", _groups(DEFAULTS, before), train_split=DEFAULTS.fit_split)


def _groups(settings: Settings, before: Parsed[TrainSettings]) -> dict[str, Any]:
    """The options of a run's modules, as the classifiers' training has them; raises SettingsError where they cannot be."""
    try:
        options = layerwise.Settings(modality=settings.modality, layers=settings.layers, features=settings.features)
    except ValueError as error:
        raise SettingsError(str(error)) from error
    return {**before.groups, before.settings.view: training.one_view(before, plain=True), "layerwise": options}


def _clips(settings: Settings, tuning: Parsed[TrainSettings]) -> int:
    """How many views of the modality a sample has in a test; raises SettingsError where the run's view gives none of it."""
    view, view_settings = training.view_of(tuning)
    if getattr(view.inputs(view_settings), settings.modality) is None:
        raise SettingsError(f"--modality {settings.modality}: the run's view, {tuning.settings.view}, gives none")
    shape, _ = view.arrays(view_settings, settings.clips)[settings.modality]
    return int(shape[0])


def _hits(settings: Settings, its: _Asked, encoders: Encoders, name: str, world: World) -> Tensor:
    """What each layer's classifier hits of every video of a split, by all ranks: values from 0 to 1, (N, L, M).

    Raises RunError for scores that are not finite.
    """

    def of_batch(arrays: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        logit_KBLC = clip_logits(encoders, arrays, settings.modality)
        finite_B = logit_KBLC.isfinite().all(dim=3).all(dim=2).all(dim=0)
        return hits(logit_KBLC.nan_to_num(), arrays["label"], settings.vote), finite_B

    with torch.inference_mode():
        hit_NLM, finite_N = over_split(
            encoders,
            open_split(settings, its.shards, name),
            of_batch,
            clips=its.clips,
            batch=VIDEOS,
            loading=Loading(workers=its.tuning.settings.workers, device=world.device),
            world=world,
            title=f"ks-eval layers of {name}",
        )
    if not finite_N.all():
        raise RunError(f"{its.out}: its scores are not finite; choose another --out and a lower --optim.lr")
    return hit_NLM


def clip_logits(encoders: Encoders, arrays: Mapping[str, Tensor], modality: str) -> Tensor:
    """What the layers say of each clip, one after another, for as many at once as training had would not fit: (K, B, L, C)."""
    method = cast("layerwise.Layerwise", encoders.method)
    logits = []
    for clip in range(arrays[modality].shape[1]):
        first = {name: clip if name == modality else 0 for name in ("video", "audio")}
        views = {name: arrays[name][:, place : place + 1] for name, place in first.items()}
        inputs = encoders.view.augment(views, encoders.view_settings)
        logits.append(method.layer_logits(inputs[modality][:, 0]))
    return torch.stack(logits)


def hits(logit_KBLC: Tensor, label_B: Tensor, how: How) -> Tensor:
    """What the vote of a video's clips hits, and what its clips do on average: values from 0 to 1, (B, L, M) as `METRICS`."""
    clips, _, layers, classes = logit_KBLC.shape
    right_BC = label_B[:, None] == torch.arange(classes, device=label_B.device)
    found = []
    for layer in range(layers):
        logit_KBC = logit_KBLC[:, :, layer]
        voted_BC = vote(logit_KBC.transpose(0, 1), how)
        voted = [topk_hits(voted_BC, right_BC, k=k) for k in (1, 5)]
        alone = [
            topk_hits(logit_KBC.flatten(0, 1), right_BC.repeat(clips, 1), k=k).view(clips, -1).mean(dim=0)
            for k in (1, 5)
        ]
        found.append(torch.stack([*voted, *alone], dim=1))
    return torch.stack(found, dim=1)


def _found(settings: Settings, its: _Asked, encoders: Encoders, hit_NLM: Mapping[str, Tensor]) -> dict[str, Any]:
    """The results, from what was hit of the judged split and of the one that chooses."""
    method = cast("layerwise.Layerwise", encoders.method)
    layers = method.settings.layer_names
    chosen_on = its.on if its.val is None else its.val
    top1 = [float(each) for each in hit_NLM[chosen_on][:, :, 0].mean(dim=0)]
    best = top1.index(max(top1))
    scores: dict[str, float] = {}
    for name, place in (("best", best), *((layer, place) for place, layer in enumerate(layers))):
        for number, metric in enumerate(METRICS):
            scores |= bounded(f"{name}_{metric}", hit_NLM[its.on][:, place, number])
    classes, tuned = len(its.dataset.labels), its.tuning.settings
    scores |= {f"top{k}_chance": 100 * min(1.0, k / classes) for k in (1, 5)}
    return {
        **results.head("layerwise", settings.run, its.facts, its.first, **results.of_split(its.dataset, its.on)),
        "modality": settings.modality,
        "layers": method.widths,
        "best": layers[best],
        "best_on": chosen_on,
        "best_on_top1": {layer: 100 * value for layer, value in zip(layers, top1, strict=True)},
        "tuned": None if encoders.checkpoint is None else encoders.checkpoint.name,
        "epochs": settings.epochs,
        "batch": settings.batch,
        "fit_split": settings.fit_split,
        "samples": len(hit_NLM[its.on]),
        "clips": its.clips,
        "vote": settings.vote,
        "fit_fingerprint": its.dataset.splits[settings.fit_split].fingerprint,
        "classes": its.dataset.classes,
        "note": its.dataset.note,
        "settings": {"seed": tuned.seed, "optim": asdict(tuned.optim), "view": asdict(encoders.view_settings)},
        "scores": {**scores, "selected_on_test": float(chosen_on == its.on)},
    }
