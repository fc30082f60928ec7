"""ks-eval finetune: all weights of a run's encoders learn the labels, and many clips a video vote (AVCL, section III.B)."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from kinetics_sounds.address import Address
from kinetics_sounds.command import DONE, STOPPED
from kinetics_sounds.errors import RunError, SettingsError, StoppedError
from kinetics_sounds.settings import Parsed
from kinetics_sounds.shards import reader
from kinetics_sounds.shards.index import Dataset, SplitFacts

from ... import pretrain
from ...config import run_folder
from ...config.settings import TrainSettings, at_least, check, chosen_settings
from ...data.dataset import default_cache, open_split
from ...data.loader import Loading
from ...distributed import launch
from ...distributed.devices import pick_device
from ...engine import checkpoint, resume
from ...methods import supervised
from ...models.heads import AmfmSettings
from ...optim.optimizer import Optim
from .. import results, votes
from ..encoders import asked, check_claims, load
from ..votes import How

HOW = frozenset(resume.FREE) - {"init", "val_split", "epochs", "steps"} | {"window"}
"""Settings of ks-train that one fine-tuning may have different each time it goes on."""


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
    val, on = _val_and_on(settings, dataset.splits, shards=shards)
    run_folder.check_like(facts, dataset, shards=shards)
    name = asked(settings)
    first = None if name is None else checkpoint.find(settings.run / "checkpoints", name)
    check_claims(settings.run, first)
    out = results.folder(settings, "finetune")
    tuning = _tuning(settings, classifier, first=first, shards=shards, val=val, out=out)
    _check_same(out, tuning, fingerprint=dataset.splits[settings.fit_split].fingerprint)
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


def _val_and_on(settings: Settings, splits: Mapping[str, SplitFacts], *, shards: Address) -> tuple[str | None, str]:
    """The split that chooses the checkpoint, where one does, and the one to be judged on.

    Raises SettingsError where one is missing, empty, or the one that is learnt from.
    """
    on = settings.on_split or run_folder.judged_split(splits) or "test"
    spare = "val" in splits and "val" not in (on, settings.fit_split)
    val = settings.val_split or ("val" if spare else None)
    for option, name in (("on_split", on), ("val_split", val)):
        if name == settings.fit_split:
            raise SettingsError(f"--{option} {name}: is the split to learn from (--fit_split); name another")
    for option, needed in (("on_split", on), ("fit_split", settings.fit_split)):
        if needed not in splits or not splits[needed].samples:
            raise SettingsError(f"--{option} {needed}: is not there; {shards} has: {', '.join(splits)}")
    return val, on


def _tuning(
    settings: Settings,
    classifier: supervised.Settings,
    *,
    first: Path | None,
    shards: Address,
    val: str | None,
    out: Path,
) -> Parsed[TrainSettings]:
    """What ks-train is to do: a run's model and view, and else its defaults rather than the run's settings.

    Raises SettingsError where it cannot be.
    """
    before = run_folder.model_of(settings.run)
    tuning = replace(
        before.settings,
        shards=shards,
        out=out,
        train_split=settings.fit_split,
        val_split=val,
        init=first,
        method="supervised",
        epochs=settings.epochs,
        batch=settings.batch,
        optim=settings.optim,
        seed=settings.seed,
        devices=settings.devices,
        device=settings.device,
        precision=settings.precision,
        cache=settings.cache,
        cache_gb=settings.cache_gb,
        keep=1,
        workers=before.settings.workers if settings.workers is None else settings.workers,
    )
    check(tuning)
    return replace(before, settings=tuning, groups=model_groups(settings, before, classifier))


def model_groups(
    settings: Settings, before: Parsed[TrainSettings], classifier: supervised.Settings | None = None
) -> dict[str, Any]:
    """The options of a run's modules, as its fine-tuning has them; raises SettingsError where they cannot be."""
    view = before.groups[before.settings.view]
    if getattr(view, "views", 1) != 1:  # a run that compares views of a sample; the classifier sees one
        view = replace(view, views=1)
    own = _classifier(settings, classifier or supervised.Settings(), before)
    return {**before.groups, before.settings.view: view, "supervised": own}


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


def _check_same(out: Path, tuning: Parsed[TrainSettings], *, fingerprint: str) -> None:
    """Raise RunError where `out` holds another fine-tuning: its scores would be told as this one's."""
    if checkpoint.latest(out / "checkpoints") is None:
        return
    if (was := run_folder.read_facts(out)["fingerprint"]) != fingerprint:
        raise RunError(
            f"{out}: is fine-tuned on other clips ({was}, not {fingerprint}); choose another --out, or remove it"
        )
    before, now = (_decisive(each) for each in (run_folder.reopen(out), tuning))
    for name in sorted({*before, *now}):
        was, is_ = before.get(name), now.get(name)
        if was != is_ and not (name == "init" and was and is_ and Path(was).resolve() == Path(is_).resolve()):
            raise RunError(f"{out}: is fine-tuned with {name} {was}, not {is_}; choose another --out, or remove it")


def _decisive(tuning: Parsed[TrainSettings]) -> dict[str, Any]:
    """What of a fine-tuning's settings decides its scores, by name."""
    return {name: value for name, value in chosen_settings(tuning).items() if name not in HOW}


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
