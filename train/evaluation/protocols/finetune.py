"""ks-eval finetune: all weights of a run's encoders learn the labels, and many clips a video vote (AVCL, section III.B)."""

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
from ...data.dataset import default_cache, open_split
from ...data.loader import Loading
from ...distributed import launch
from ...distributed.devices import pick_device
from ...engine import checkpoint
from ...methods import supervised
from ...models.heads import AmfmSettings
from ...optim.optimizer import Optim
from .. import results, training, votes
from ..encoders import asked, check_claims, load
from ..judged import check_like
from ..votes import How


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Fine-tune a run's encoders with a classifier, then let many clips a video vote; writes results.json and .csv.

    Examples:
      ks-eval finetune --run runs/avcl_k32
      ks-eval finetune --run runs/avcl_k32 --untrained
      ks-eval finetune --run runs/avcl_k32 --epochs 50 --devices 8 --supervised.modalities video

    The defaults are AVCL's. The checkpoint that was best on the validation split is judged. Killed, it goes on where it was.

    exit code: 0 done; 2 misuse; 3 stopped by a signal or a full disk, run again; 4 a bug, or a disk that fails.
    """

    run: Path
    """Folder of a training run."""
    checkpoint: str = "last"
    """Checkpoint to begin with: last, best, or a name such as step-00000500."""
    untrained: bool = False
    """Begin with initial weights instead, without AMFM: the same encoders (separate, or shared), supervised from scratch."""
    shards: Address | None = None
    """Folder or URL of the shards; default: the run's own, where that is a folder."""
    cache: Path = field(default_factory=default_cache)
    """Folder that keeps the shards of a remote set, shared by every process of this machine."""
    cache_gb: float = 100.0
    """Gigabytes (1e9 bytes) that the cache may take."""
    fit_split: str = "train"
    """Split to learn from."""
    val_split: str | None = None
    """Split that chooses the checkpoint; default: val, unless that is judged or missing: then the last one is taken."""
    on_split: str | None = None
    """Split to be judged on; default: test, else val."""
    epochs: int = 150
    """Times through the split."""
    batch: int = 16
    """Samples a step, of all devices together."""
    optim: Optim = field(default_factory=lambda: Optim(weight_decay=5e-3))
    """How weights move."""
    gate: Literal["auto", "on", "off"] = "auto"
    """AMFM before the classifier, as the run has it; auto: where its AVCL has it in pretraining or asks for it in fine-tuning."""
    clips: int = 10
    """Evenly spaced clips of a video that vote."""
    vote: How = "logit"
    """What is averaged over the clips: logits (AVCL and its ancestors) or probabilities (AVID, CrissCross)."""
    seed: int = 0
    """Of the classifier's initial weights, the order, every view and dropout."""
    devices: int = 1
    """GPUs of this machine, or processes on its CPUs, that learn together."""
    precision: Literal["float32", "bf16", "fp16"] = "float32"
    """Of the encoders' arithmetic."""
    workers: int | None = None
    """Loading processes of each device; default: as ks-train."""
    device: str = "auto"
    """cpu, cuda, or auto: cuda where there is one."""
    out: Path | None = None
    """Folder of the fine-tuned run and its results; default: RUN/eval/finetune."""
    json: bool = False
    """Print the results as JSON on standard output."""


GROUPS = {"supervised": supervised.Settings}
DEFAULTS = Settings(run=Path())
"""What is done where nothing is asked for; of no run."""


def evaluate(parsed: Parsed[Settings]) -> int:
    """Fine-tune and judge as the settings say; returns the exit code. Raises StoppedError after a signal and a save."""
    settings, classifier = parsed.settings, parsed.groups["supervised"]
    at_least(settings, epochs=1, batch=2, clips=1, seed=0, devices=1, workers=0)
    facts = run_folder.read_facts(settings.run)
    shards = settings.shards or run_folder.shards_of(facts)
    dataset = reader.read_dataset(shards)
    val, on = training.val_and_on(settings, dataset.splits, shards=shards)
    check_like(settings.run, facts, dataset, shards=shards)
    name = asked(settings)
    first = None if name is None else checkpoint.find(settings.run / "checkpoints", name)
    check_claims(settings.run, first)
    out = results.folder(settings, "finetune")
    before = run_folder.model_of(settings.run)
    tuning = training.of_run(
        settings,
        before,
        "supervised",
        _groups(settings, classifier, before),
        shards=shards,
        out=out,
        train_split=settings.fit_split,
        val_split=val,
        init=first,
        seed=settings.seed,
    )
    fingerprint = dataset.splits[settings.fit_split].fingerprint
    training.check_same(out, tuning, fingerprint=fingerprint, done="fine-tuned")
    code = pretrain.train(tuning, prog="ks-eval", to_stderr=settings.json)
    if code == STOPPED:
        raise StoppedError(f"fine-tuning is saved in {out}; run again to go on")
    if code != DONE or not launch.leads():
        return code
    head = results.head("finetune", settings.run, facts, first, **results.of_split(dataset, on))
    found = {**head, **_judged(settings, dataset, shards, workers=tuning.settings.workers, val=val, on=on)}
    results.write(out, found)
    print(json.dumps(found) if settings.json else results.told(found, out))
    if on == val and not settings.json:
        print(
            f"note: {found['tuned']} was chosen on the split {on!r}, which it is judged on; see --val_split and --on_split"
        )
    return DONE


def by_default(before: Parsed[TrainSettings]) -> Parsed[TrainSettings]:
    """What ks-train is to do by a run's model where nothing else is asked for."""
    groups = _groups(DEFAULTS, supervised.Settings(), before)
    return training.of_run(DEFAULTS, before, "supervised", groups, train_split=DEFAULTS.fit_split)


def _groups(settings: Settings, classifier: supervised.Settings, before: Parsed[TrainSettings]) -> dict[str, Any]:
    """The options of a run's modules, as its fine-tuning has them; raises SettingsError where they cannot be."""
    own = _classifier(settings, classifier, before)
    return {**before.groups, before.settings.view: training.one_view(before), "supervised": own}


def _classifier(
    settings: Settings, classifier: supervised.Settings, before: Parsed[TrainSettings]
) -> supervised.Settings:
    """The classifier, with the gate that the run has before it; raises SettingsError where it cannot be."""
    gate, amfm = classifier.gate, classifier.amfm
    if settings.gate != "auto":
        gate = settings.gate == "on"
    elif before.settings.method == "avcl" and classifier.modalities == "both" and not settings.untrained:
        gate = before.groups["avcl"].amfm_stage != "off"
    if gate and before.settings.method == "avcl":
        if amfm not in (AmfmSettings(), before.groups["avcl"].amfm):
            raise SettingsError("--supervised.amfm: the gate is the run's own, as its AVCL has it; leave these out")
        amfm = before.groups["avcl"].amfm
    try:
        return replace(classifier, gate=gate, amfm=amfm)
    except ValueError as error:
        raise SettingsError(f"--gate {settings.gate}: {error}") from error


def _judged(
    settings: Settings, dataset: Dataset, shards: Address, *, workers: int, val: str | None, on: str
) -> dict[str, Any]:
    """What the results say of the fine-tuned run besides their head."""
    out = results.folder(settings, "finetune")
    encoders = load(out, "best" if val else "last")
    loading = Loading(workers=workers, device=pick_device(settings.device))
    tuned = run_folder.reopen(out)
    split = open_split(settings, shards, on)
    logit_NKC, label_N = votes.clip_logits(encoders, split, clips=settings.clips, batch=settings.batch, loading=loading)
    return {
        "tuned": None if encoders.checkpoint is None else encoders.checkpoint.name,
        "best_on": val,
        "epochs": settings.epochs,
        "fit_split": settings.fit_split,
        "samples": len(split),
        "clips": settings.clips,
        "vote": settings.vote,
        "fit_fingerprint": dataset.splits[settings.fit_split].fingerprint,
        "classes": dataset.classes,
        "note": dataset.note,
        "settings": {
            "seed": tuned.settings.seed,
            "optim": asdict(tuned.settings.optim),
            **asdict(tuned.groups["supervised"]),
        },
        "scores": {
            **votes.accuracies(votes.vote(logit_NKC, settings.vote), label_N),
            "selected_on_test": float(on == val),
        },
    }
