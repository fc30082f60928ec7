"""ks-eval finetune: fine-tune a run's encoders with labels, and evaluate by a vote of many clips (AVCL, section III.B)."""

import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from kinetics_sounds.address import Address
from kinetics_sounds.command import DONE, STOPPED
from kinetics_sounds.errors import SettingsError, StoppedError
from kinetics_sounds.settings import Parsed
from kinetics_sounds.shards import reader
from kinetics_sounds.shards.index import Dataset

from ... import pretrain
from ...config import run_folder
from ...config.settings import TrainSettings, at_least
from ...data.dataset import check_apart, default_cache, open_split
from ...data.loader import Loading
from ...distributed import launch
from ...distributed.devices import pick_device
from ...engine import checkpoint
from ...methods import supervised
from ...models.heads import AmfmSettings
from ...optim.optimizer import Optim
from .. import results, training, votes
from ..encoders import check_claims, load, of_pictures, selected_checkpoint
from ..eval_data import check_mel, note_selected, selected_on
from ..votes import How


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Fine-tune a run's encoders with a classifier, and evaluate by a vote of many clips per video; writes results.json and .csv.

    Examples:
      ks-eval finetune --run runs/avcl_k32
      ks-eval finetune --run runs/avcl_k32 --untrained
      ks-eval finetune --run runs/avcl_k32 --epochs 50 --devices 8 --supervised.modalities video
      ks-eval finetune --run runs/avid_k400 --shards data/ucf101/shards --fit_split fold1_train --on_split fold1_test
        --supervised.modalities video --frames 32 --val_split none

    The defaults are AVCL's; ks-eval --list has other papers' as protocols. The best checkpoint on the validation split is
    evaluated. Run it again to resume after a kill.

    exit code: 0 done; 2 usage error; 3 stopped by a signal or a full disk, run again; 4 a bug, or a failing disk.
    """

    run: Path
    """Folder of a training run."""
    checkpoint: str = "last"
    """Checkpoint to start from: last, best, or a name such as step-00000500."""
    untrained: bool = False
    """Start from initial weights, without AMFM: the same encoders, supervised from scratch."""
    shards: Address | None = None
    """Folder or URL of the shards. Default: the shards that the run was trained on, if they are a folder."""
    cache: Path = field(default_factory=default_cache)
    """Cache folder for remote shards, shared by all processes on this machine."""
    cache_gb: float = 100.0
    """Maximum cache size in gigabytes (1e9 bytes)."""
    fit_split: str = "train"
    """Split to train on."""
    val_split: str | None = None
    """Split to select the checkpoint on, or none for the last checkpoint. Default: val, unless it is evaluated on or missing."""
    on_split: str | None = None
    """Split to evaluate on. Default: test, else val."""
    epochs: int = 150
    """Number of epochs; see --supervised.head_epochs for those of the classifier alone."""
    clips_per_video: int = 1
    """Passes through the training split per epoch, each with random clips (10 in AVID and CrissCross, 25 for HMDB51 in AVID)."""
    batch: int = 16
    """Global batch size: samples per step over all devices."""
    optim: Optim = field(default_factory=lambda: Optim(weight_decay=5e-3))
    """Optimizer and learning-rate schedule."""
    gate: Literal["auto", "on", "off"] = "auto"
    """AMFM before the classifier. auto: if the AVCL run has it in pretraining, or requests it for fine-tuning."""
    frames: int | None = None
    """Frames per clip. Default: the run's."""
    crop: int | None = None
    """Side of the square crop in pixels; frames are resized in proportion. Default: the run's."""
    video_augment: str | None = None
    """Comma-separated video augmentations in training. Default: the run's."""
    pool: Literal["run", "max", "mean"] = "run"
    """Pooling of the video encoder's last maps, for backbones that have the choice; run: the run's own."""
    clips: int = 10
    """Evenly spaced clips per video that vote."""
    vote: How = "logit"
    """What is averaged over the clips: logit (logits: AVCL and the code it builds on) or prob (probabilities: AVID,
    CrissCross)."""
    seed: int = 0
    """Seed of the classifier's initial weights, sample order, augmentation and dropout."""
    devices: int = 1
    """GPUs, or CPU processes, on this machine."""
    precision: Literal["float32", "bf16", "fp16"] = "float32"
    """Precision of the encoders."""
    workers: int | None = None
    """Data-loading processes per device. Default: as in ks-train."""
    device: str = "auto"
    """cpu, cuda, or auto (cuda if available)."""
    out: Path | None = None
    """Folder of the fine-tuned run and its results. Default: RUN/eval/finetune."""
    json: bool = False
    """Print the results as JSON on standard output."""


GROUPS = {"supervised": supervised.Settings}
DEFAULTS = Settings(run=Path())
"""Default settings; the run is a placeholder."""


def evaluate(parsed: Parsed[Settings]) -> int:
    """Fine-tune and evaluate; return the exit code. Raises StoppedError after a signal and a save."""
    settings, classifier = parsed.settings, parsed.groups["supervised"]
    at_least(settings, epochs=1, clips_per_video=1, batch=2, clips=1, seed=0, devices=1, workers=0)
    facts = run_folder.read_facts(settings.run)
    shards = run_folder.shards_to_evaluate(settings.shards, facts)
    dataset = reader.read_dataset(shards)
    val, on = training.val_and_on(settings, dataset.every_split, shards=shards)
    check_apart(settings, shards, dataset, (settings.fit_split, val, on))
    check_mel(settings.run, facts, dataset, shards=shards)
    name = selected_checkpoint(settings)
    first = None if name is None else checkpoint.find(settings.run / "checkpoints", name)
    selected = selected_on(settings, first, facts, dataset)
    check_claims(settings.run, first)
    out = results.folder(settings, "finetune")
    before = run_folder.model_of(settings.run)
    tuning = training.of_run(
        settings,
        before,
        "supervised",
        _groups(settings, classifier, before, dataset),
        shards=shards,
        out=out,
        train_split=settings.fit_split,
        clips_per_video=settings.clips_per_video,
        val_split=val,
        init_from=first,
        seed=settings.seed,
    )
    fingerprint = dataset.every_split[settings.fit_split].fingerprint
    training.check_same(out, tuning, fingerprint=fingerprint, done="fine-tuned")
    code = pretrain.train(tuning, prog="ks-eval", to_stderr=settings.json)
    if code == STOPPED:
        raise StoppedError(f"fine-tuning is saved in {out}; run again to resume")
    if code != DONE or not launch.is_main():
        return code
    of_split = results.of_split(settings, shards, dataset, on, facts)
    head = results.head("finetune", settings.run, facts, first, **of_split)
    found = {**head, **_body(settings, dataset, shards, workers=tuning.settings.workers, val=val, on=on)}
    if selected == on:
        found["scores"]["selected_on_test"] = 1.0
    results.write(out, found)
    lines = [results.format_scores(found, out), *note_selected(selected, on)]
    if on == val:
        lines.append(
            f"note: {found['tuned']} was selected on the split {on!r}, which it is evaluated on; see --val_split and --on_split"
        )
    print(json.dumps(found) if settings.json else "\n".join([*lines, *results.next_steps(settings, [found])]))
    return DONE


def by_default(before: Parsed[TrainSettings]) -> Parsed[TrainSettings]:
    """Default ks-train settings for fine-tuning a run's model."""
    groups = _groups(DEFAULTS, supervised.Settings(), before)
    return training.of_run(DEFAULTS, before, "supervised", groups, train_split=DEFAULTS.fit_split)


def _groups(
    settings: Settings, classifier: supervised.Settings, before: Parsed[TrainSettings], dataset: Dataset | None = None
) -> dict[str, Any]:
    """Module options of a run for fine-tuning on a set; raises SettingsError if invalid."""
    view = training.rescaled(
        training.one_view(before), frames=settings.frames, crop=settings.crop, video_augment=settings.video_augment
    )
    view = view if dataset is None else of_pictures(view, dataset)
    groups = training.pooled(before.groups, before.settings.backbone, settings.pool)
    return {**groups, before.settings.view: view, "supervised": _classifier(settings, classifier, before)}


def _classifier(
    settings: Settings, classifier: supervised.Settings, before: Parsed[TrainSettings]
) -> supervised.Settings:
    """The classifier, with the run's gate; raises SettingsError if invalid."""
    gate, amfm = classifier.gate, classifier.amfm
    if settings.gate != "auto":
        gate = settings.gate == "on"
    elif before.settings.method == "avcl" and classifier.modalities == "both" and not settings.untrained:
        gate = before.groups["avcl"].amfm_stage != "off"
    if gate and before.settings.method == "avcl":
        if amfm not in (AmfmSettings(), before.groups["avcl"].amfm):
            raise SettingsError("--supervised.amfm: the gate is taken from the run; leave these options out")
        amfm = before.groups["avcl"].amfm
    try:
        return replace(classifier, gate=gate, amfm=amfm)
    except ValueError as error:
        raise SettingsError(f"--gate {settings.gate}: {error}") from error


def _body(
    settings: Settings, dataset: Dataset, shards: Address, *, workers: int, val: str | None, on: str
) -> dict[str, Any]:
    """Body of the results of the fine-tuned run."""
    out = results.folder(settings, "finetune")
    encoders = load(out, "best" if val else "last")
    loading = Loading(workers=workers, device=pick_device(settings.device))
    tuned = run_folder.reopen(out)
    split = open_split(settings, shards, on)
    logit_NKC, label_N = votes.clip_logits(encoders, split, clips=settings.clips, batch=settings.batch, loading=loading)
    fit_M = votes.labels_of(open_split(settings, shards, settings.fit_split))
    return {
        "tuned": None if encoders.checkpoint is None else encoders.checkpoint.name,
        "best_on": val,
        "epochs": settings.epochs,
        "clips_per_video": settings.clips_per_video,
        "fit_split": settings.fit_split,
        "samples": len(split),
        "clips": settings.clips,
        "vote": settings.vote,
        "fit_fingerprint": dataset.every_split[settings.fit_split].fingerprint,
        "classes": dataset.classes,
        "note": dataset.note,
        "settings": {
            "seed": tuned.settings.seed,
            "optim": asdict(tuned.settings.optim),
            **asdict(tuned.groups["supervised"]),
            "view": asdict(encoders.view_settings),
        },
        "scores": {
            **votes.accuracies(votes.vote(logit_NKC, settings.vote), label_N, fit_M=fit_M),
            **votes.clip_accuracies(logit_NKC, label_N),
            "selected_on_test": float(on == val),
        },
    }
