"""ks-eval layerwise: train linear classifiers on several layers of a frozen encoder at once (AVID, Tables 1, 2).

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
from ...data.dataset import check_apart, default_cache, open_split
from ...data.loader import Loading
from ...distributed import devices, launch, process_group
from ...distributed.process_group import World
from ...engine import build, checkpoint
from ...interface import Data
from ...methods import layerwise
from ...optim.optimizer import Optim
from ...probes import bounded, chance, topk_hits
from .. import results, training
from ..encoders import Encoders, check_claims, load, of_pictures, selected_checkpoint
from ..eval_data import check_mel, note_selected, selected_on
from ..split_pass import over_split
from ..votes import How, labels_of, vote

VIDEOS = 16
"""Videos per batch in evaluation."""
METRICS = ("top1", "top5", "clip_top1", "clip_top5")
"""Metrics of each layer: accuracy of the vote, and of single clips."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Train a linear classifier on each of several layers of a run's frozen encoder; writes results.json and results.csv.

    Examples:
      ks-eval layerwise --run runs/avid --devices 8
      ks-eval layerwise --run runs/avid --untrained
      ks-eval layerwise --run runs/avid --modality audio --clips 25
      torchrun --nproc_per_node 8 -m -- kinetics_sounds.train.evaluate layerwise --run runs/avid

    The defaults are AVID's. Features are computed on the fly and not stored. The view is the run's own with random crops and
    flips only (clip_and_mel and clip_and_spectrogram support this). Run it again to resume after a kill.

    top1 and top5 are accuracies of the vote, clip_top1 and clip_top5 of single clips; best_... is the layer with the highest
    top1 on --val_split, or without one on the evaluated split (then selected_on_test is 1).

    exit code: 0 done; 2 usage error; 3 stopped by a signal or a full disk, run again; 4 a bug, or a failing disk.
    """

    run: Path
    """Folder of a training run."""
    checkpoint: str = "last"
    """Checkpoint of the encoders: last, best, or a name such as step-00000500."""
    untrained: bool = False
    """Evaluate the same encoders with their initial weights: the baseline."""
    modality: Literal["video", "audio"] = "video"
    """Encoder to evaluate."""
    layers: str = "conv2,conv3,conv4,conv5"
    """Comma-separated layers of the encoder."""
    features: int = 9216
    """Maximum features per layer: maps are max-pooled to the largest square grid within this limit."""
    shards: Address | None = None
    """Folder or URL of the shards. Default: the shards that the run was trained on, if they are a folder."""
    cache: Path = field(default_factory=default_cache)
    """Cache folder for remote shards, shared by all processes on this machine."""
    cache_gb: float = 100.0
    """Maximum cache size in gigabytes (1e9 bytes)."""
    fit_split: str = "train"
    """Split to train on."""
    val_split: str | None = None
    """Split to select the best layer on. Default: val, unless it is evaluated on or missing; then the evaluated split."""
    on_split: str | None = None
    """Split to evaluate on. Default: test, else val."""
    epochs: int = 12
    """Number of epochs."""
    batch: int = 128
    """Global batch size: samples per step over all devices."""
    optim: Optim = field(
        default_factory=lambda: Optim(
            name="adam", lr=1e-4, weight_decay=0.0, schedule="multistep", milestones=(0.5, 0.75)
        )
    )
    """Optimizer and schedule of the classifiers; the default milestones are after 6 and 9 of 12 epochs."""
    clips: int = 10
    """Evenly spaced clips per video that vote (25 in AVID's small study); 1 for audio that the view uses as a whole."""
    vote: How = "prob"
    """What is averaged over the clips: logit (logits: AVCL and the code it builds on) or prob (probabilities: AVID,
    CrissCross)."""
    seed: int | None = None
    """Seed of the classifiers' initial weights, sample order and augmentation, and with --untrained of the encoders. Default:
    the run's."""
    devices: int = 1
    """GPUs, or CPU processes, on this machine."""
    precision: Literal["float32", "bf16", "fp16"] = "float32"
    """Precision of the encoder during training."""
    workers: int | None = None
    """Data-loading processes per device. Default: as in ks-train."""
    device: str = "auto"
    """cpu, cuda, or auto (cuda if available)."""
    out: Path | None = None
    """Folder of the classifiers and results. Default: RUN/eval/layerwise, or layerwise_audio."""
    json: bool = False
    """Print the results as JSON on standard output."""


DEFAULTS = Settings(run=Path())
"""Default settings; the run is a placeholder."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    """Checked settings of the command."""

    facts: Mapping[str, Any]
    dataset: Dataset
    shards: Address
    first: Path | None
    """Checkpoint of the encoders."""
    val: str | None
    on: str
    out: Path
    clips: int
    tuning: Parsed[TrainSettings]
    """ks-train settings."""


def evaluate(parsed: Parsed[Settings]) -> int:
    """Train and evaluate the classifiers on all devices; return the exit code. Raises StoppedError after a signal."""
    settings = parsed.settings
    its = _asked(settings)
    selected = selected_on(settings, its.first, its.facts, its.dataset)
    keep_secret([its.shards.real])
    if settings.devices > 1 and not launch.is_rank():
        devices.check_devices(settings.devices, settings.device)
        return launch.ranks(evaluate, parsed, devices=settings.devices, prog="ks-eval")
    with process_group.start(devices.pick_device(settings.device)) as world:
        with contextlib.redirect_stdout(sys.stderr) if settings.json else contextlib.nullcontext():
            code = pretrain.train_as_rank(its.tuning, world)
        if code == STOPPED:
            raise StoppedError(f"the classifiers are saved in {its.out}; run again to resume")
        # All collective operations come before what rank 0 does alone.
        encoders = load(its.out)
        hit_NLM = {name: _hits(settings, its, encoders, name, world) for name in (its.on, its.val) if name is not None}
    if not world.is_main:
        return DONE
    found = _found(settings, its, encoders, hit_NLM)
    if selected == its.on:
        found["scores"]["selected_on_test"] = 1.0
    results.write(its.out, found)
    lines = [results.format_scores(found, its.out), *note_selected(selected, its.on)]
    print(json.dumps(found) if settings.json else "\n".join(lines))
    if found["best_on"] == its.on and not settings.json:
        told = f"{found['best']} was selected as the best layer on the split {its.on!r}, which it is evaluated on"
        print(f"note: {told}; see --val_split and --on_split")
    return DONE


def _asked(settings: Settings) -> _Asked:
    """Check everything that can be checked before training; raises SettingsError, RunError or ShardError."""
    at_least(settings, epochs=1, batch=2, clips=1, seed=0, devices=1, workers=0)
    facts = run_folder.read_facts(settings.run)
    shards = run_folder.shards_to_evaluate(settings.shards, facts)
    dataset = reader.read_dataset(shards)
    val, on = training.val_and_on(settings, dataset.every_split, shards=shards)
    check_apart(settings, shards, dataset, (settings.fit_split, val, on))
    check_mel(settings.run, facts, dataset, shards=shards)
    name = selected_checkpoint(settings)
    first = None if name is None else checkpoint.find(settings.run / "checkpoints", name)
    check_claims(settings.run, first)
    out = results.folder(settings, "layerwise" if settings.modality == "video" else "layerwise_audio")
    before = run_folder.model_of(settings.run)
    tuning = training.of_run(
        settings,
        before,
        "layerwise",
        _groups(settings, before, dataset),
        shards=shards,
        out=out,
        train_split=settings.fit_split,
        init_from=first,
        seed=before.settings.seed if settings.seed is None else settings.seed,
        sync_bn="on",  # of the classifiers, so that results do not depend on the number of devices
    )
    fit = dataset.every_split[settings.fit_split]
    build.build_meta(tuning, Data(classes=len(dataset.labels), samples=fit.samples))
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
    """Default ks-train settings for a run's model."""
    return training.of_run(DEFAULTS, before, "layerwise", _groups(DEFAULTS, before), train_split=DEFAULTS.fit_split)


def _groups(settings: Settings, before: Parsed[TrainSettings], dataset: Dataset | None = None) -> dict[str, Any]:
    """Module options of a run for training the classifiers; raises SettingsError if invalid."""
    try:
        options = layerwise.Settings(modality=settings.modality, layers=settings.layers, features=settings.features)
    except ValueError as error:
        raise SettingsError(str(error)) from error
    view = training.one_view(before, plain=True)
    view = view if dataset is None else of_pictures(view, dataset)
    return {**before.groups, before.settings.view: view, "layerwise": options}


def _clips(settings: Settings, tuning: Parsed[TrainSettings]) -> int:
    """Evaluation views per sample of the modality; raises SettingsError if the run's view does not have the modality."""
    view, view_settings = training.view_of(tuning)
    if getattr(view.inputs(view_settings), settings.modality) is None:
        raise SettingsError(f"--modality {settings.modality}: the run's view, {tuning.settings.view}, gives none")
    shape, _ = view.arrays(view_settings, settings.clips)[settings.modality]
    return int(shape[0])


def _hits(settings: Settings, its: _Asked, encoders: Encoders, name: str, world: World) -> Tensor:
    """Accuracy of each layer's classifier for every video of a split, by all ranks: values in [0, 1], (N, L, M).

    Raises RunError for non-finite scores.
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
    """Logits of each layer, one clip at a time to limit memory: (K, B, L, C)."""
    method = cast("layerwise.Layerwise", encoders.method)
    logits = []
    for clip in range(arrays[modality].shape[1]):
        first = {name: clip if name == modality else 0 for name in ("video", "audio") if name in arrays}
        views = {name: arrays[name][:, place : place + 1] for name, place in first.items()}
        inputs = encoders.view.augment(views, encoders.view_settings)
        logits.append(method.layer_logits(inputs[modality][:, 0]))
    return torch.stack(logits)


def hits(logit_KBLC: Tensor, label_B: Tensor, how: How) -> Tensor:
    """Accuracy of the vote, and mean accuracy of single clips, per video: values in [0, 1], (B, L, M) as in `METRICS`."""
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
    """Results from the accuracies on the evaluated split and on the split for selection."""
    method = cast("layerwise.Layerwise", encoders.method)
    layers = method.settings.layer_names
    chosen_on = its.on if its.val is None else its.val
    top1 = [float(each) for each in hit_NLM[chosen_on][:, :, 0].mean(dim=0)]
    best = top1.index(max(top1))
    scores: dict[str, float] = {}
    for name, place in (("best", best), *((layer, place) for place, layer in enumerate(layers))):
        for number, metric in enumerate(METRICS):
            scores |= bounded(f"{name}_{metric}", hit_NLM[its.on][:, place, number])
    label_N, fit_M = (labels_of(open_split(settings, its.shards, name)) for name in (its.on, settings.fit_split))
    scores |= chance(label_N, fit_M)
    tuned = its.tuning.settings
    of_split = results.of_split(settings, its.shards, its.dataset, its.on, its.facts)
    return {
        **results.head("layerwise", settings.run, its.facts, its.first, **of_split),
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
        "fit_fingerprint": its.dataset.every_split[settings.fit_split].fingerprint,
        "classes": its.dataset.classes,
        "note": its.dataset.note,
        "settings": {"seed": tuned.seed, "optim": asdict(tuned.optim), "view": asdict(encoders.view_settings)},
        "scores": {**scores, "selected_on_test": float(chosen_on == its.on)},
    }
