"""Settings of a training run, read from the command line, a recipe or config.yaml."""

import logging
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, TypeVar

import yaml

from kinetics_sounds import cores, plugins
from kinetics_sounds.address import Address
from kinetics_sounds.config_text import dump_config, load_config, read_config
from kinetics_sounds.errors import SettingsError
from kinetics_sounds.quantities import first_of
from kinetics_sounds.renamed import current
from kinetics_sounds.settings import Layers, Parsed, parse

from .. import tracking
from ..data import dataset
from ..optim.optimizer import Optim
from . import recipes

log = logging.getLogger("kinetics_sounds")
_TRAIN = __package__.rpartition(".")[0]
PLUGINS = {
    "method": f"{_TRAIN}.methods",
    "backbone": f"{_TRAIN}.models.backbones",
    "view": f"{_TRAIN}.data.views",
}
"""Package of the modules that each setting selects by name."""
MODULES = ("method", "backbone", "audio_backbone", "view")
"""Settings that select a module by name."""
PATHS = ("shards", "out", "init_from", "cache")
"""Settings that are paths or addresses."""


@dataclass(frozen=True, kw_only=True)
class TrainSettings:
    """Pretrain encoders on shards. Run the same command again to resume from the last checkpoint.

    A --config file may contain `base: NAME` (a shipped recipe, or a file in the same folder) and only the settings that differ.

    Examples:
      ks-train
      ks-train --config avcl_k32 --shards data/k32/shards --out runs/first
      ks-train --config avcl_tiny --train_split val --batch 4 --steps 20
      ks-train --config avcl_k32 --devices 8 --precision bf16 --val_split val
      ks-train --list
      ks-train bench --help
      ks-train compare --help

    exit code: 0 trained; 2 usage error; 3 stopped by a signal or a full disk after saving, run again; 4 a bug,
    or a failing disk.
    """

    shards: Address | None = None
    """Folder of the shards (with dataset.json), or its URL (s3://, gs://, hf://, https://). Default: the only set under data/."""
    out: Path | None = None
    """Run folder. Default: runs/RECIPE."""
    train_split: str = "train"
    """Split to train on."""
    val_split: str | None = None
    """Split to validate on after every epoch; the best checkpoint is kept as well. Default: no validation."""
    probe_every: int | None = None
    """Steps between probes of the frozen features on --val_split, fitted on the training split; the first probe runs before
    training. Logged as probe_..., with the effective rank of the features; for methods that train one modality, probe_top1
    is of that one. Default: no probes."""
    probe: Literal["knn", "linear"] = "knn"
    """Probe to run."""
    probe_samples: int = 2000
    """Maximum samples per split for a probe, evenly spaced, one clip each."""
    init_from: Path | None = None
    """Run or checkpoint to initialize the encoders from, and gate or heads if their shapes are equal."""
    method: str = field(default="avcl", metadata={"package": PLUGINS["method"]})
    """Self-supervised method. Its options begin with its name."""
    backbone: str = field(default="r3d", metadata={"package": PLUGINS["backbone"]})
    """Encoder architecture. Its options begin with its name."""
    audio_backbone: str | None = field(default=None, metadata={"package": PLUGINS["backbone"]})
    """Architecture of the audio encoder. Default: same as --backbone."""
    encoders: Literal["separate", "shared"] = "separate"
    """separate: one encoder per modality. shared: shared weights, with batch-norm statistics per modality (Table I, "one
    model")."""
    view: str = field(default="clip_and_mel", metadata={"package": PLUGINS["view"]})
    """Preprocessing and augmentation of the encoders' inputs. Its options begin with its name."""
    batch: int = 16
    """Global batch size: samples per step over all devices, at least 2."""
    epochs: int = 300
    """Number of epochs. On the command line, and in a config with a base, it replaces the steps of the config or base."""
    clips_per_video: int = 1
    """Passes through the split per epoch, each with its own order and random clips (10 in AVID, 5 in CrissCross)."""
    steps: int | None = None
    """Number of optimizer steps, instead of epochs; of a config that has both, it is the one that counts."""
    optim: Optim = field(default_factory=Optim)
    """Optimizer and learning-rate schedule."""
    seed: int = 0
    """Seed of initial weights, sample order, augmentation and dropout."""
    devices: int = 1
    """GPUs, or CPU processes, on this machine. Results do not depend on it. Use torchrun for several machines."""
    sync_bn: Literal["auto", "on", "off"] = "auto"
    """Synchronize batch norm across devices; auto: if one device has fewer than 16 samples."""
    precision: Literal["float32", "bf16", "fp16"] = "float32"
    """Precision of the encoders; losses and weights stay float32. bf16 needs an Ampere or newer GPU, fp16 works on older ones."""
    grad_accum_steps: int = 1
    """Gradient accumulation steps. Contrastive negatives stay within a micro-batch."""
    max_grad_norm: float | None = None
    """Clip gradients to this global L2 norm; logged as grad_norm. Default: no clipping."""
    compile: bool = False
    """Compile the encoders with torch.compile: the first steps take minutes, later ones are faster."""
    activation_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, about a third more time."""
    workers: int = field(default_factory=lambda: min(8, max(1, cores.usable() - 1)))
    """Data-loading processes per device; 0 loads in the main process. Results do not depend on it."""
    prefetch_batches: int = 4
    """Batches to load in advance, in shared memory."""
    sample_timeout: float = 60.0
    """Seconds to decode one sample. A worker that takes longer is killed; the second time, the sample counts as bad."""
    max_bad_fraction: float = 0.01
    """Stop if more than this fraction of the split is bad. A bad sample is replaced and listed in RUN/quarantine.jsonl."""
    window: int | None = None
    """Shards to shuffle together. Default: all, or as many as fill half the cache for remote shards."""
    cache: Path = field(default_factory=lambda: dataset.default_cache())
    """Cache folder for remote shards, shared by all processes on this machine."""
    cache_gb: float = 100.0
    """Maximum cache size in gigabytes (1e9 bytes)."""
    device: str = "auto"
    """cpu, cuda, or auto (cuda if available)."""
    channels_last: bool = True
    """Use the channels-last memory format, which makes convolutions faster."""
    log_every: int = 10
    """Steps between metric lines; every checkpoint logs one too."""
    peak_tflops: float | None = None
    """Peak dense TFLOP/s of one device at this precision, to log model FLOPs utilization (mfu); 0: do not log it. Default:
    known for common GPUs."""
    track: str = "tensorboard"
    """Comma-separated metric trackers besides RUN/metrics.jsonl: tensorboard, wandb (pip install '.[wandb]'), none."""
    save_every: int = 500
    """Steps between checkpoints; one is always saved at the end."""
    keep: int = 2
    """Number of latest checkpoints to keep."""
    resume: Literal["auto", "none", "anyway"] = "auto"
    """auto: resume from the last checkpoint in --out. none: refuse a folder with checkpoints. anyway: resume even if settings
    or data changed."""
    list: bool = False
    """List all recipes, or those of --config, with command, hardware, time and score."""
    json: bool = False
    """Print the result (step, checkpoint, best validation, last metrics) as JSON on standard output; all else goes to standard
    error."""


SomeSettings = TypeVar("SomeSettings", bound=TrainSettings)


def backbones_of(settings: TrainSettings) -> tuple[str, str]:
    """Names of the video backbone and the audio backbone."""
    return settings.backbone, settings.backbone if settings.audio_backbone is None else settings.audio_backbone


def chosen_groups(settings: TrainSettings) -> tuple[str, ...]:
    """Names of the option groups that a run uses: method, backbones (each once) and view."""
    return settings.method, *dict.fromkeys(backbones_of(settings)), settings.view


def chosen_settings(parsed: Parsed[SomeSettings]) -> dict[str, Any]:
    """All settings of a run by option name, without unused groups.

    `audio_backbone` is left out if it equals `backbone`, its default.
    """
    video, audio = backbones_of(parsed.settings)
    idle = set(parsed.groups).difference(chosen_groups(parsed.settings))
    if video == audio:
        idle.add("audio_backbone")
    told = recipes.flat(parsed.values)
    return {name: value for name, value in told.items() if name.partition(".")[0] not in idle}


def groups() -> dict[str, type]:
    """Settings class of every method, backbone and view, by module name."""
    found: dict[str, type] = {}
    for package in PLUGINS.values():
        found |= {name: plugins.load(package, name).Settings for name in plugins.names(package)}
    return found


def read_settings(argv: Sequence[str] | None) -> Parsed[TrainSettings]:
    """Read the settings of ks-train from the command line and its recipe."""
    return read_settings_as(TrainSettings, argv, prog="ks-train")


def read_settings_as(kind: type[SomeSettings], argv: Sequence[str] | None, *, prog: str) -> Parsed[SomeSettings]:
    """Read the settings of a command that builds the same model as ks-train.

    `--epochs` without `--steps` unsets the steps of a config, so that it has an effect.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    if named(words, "epochs") and not named(words, "steps"):
        words.append("--steps=null")
    parsed = parse(kind, words, prog=prog, groups=groups(), find_config=lambda name: _find_config(name, argv))
    if named(words, "epochs") and parsed.settings.steps is not None:
        raise SettingsError("--epochs and --steps: both say how long to train; give one of them")
    if parsed.settings.resume == "anyway" and not named(argv, "resume"):
        raise SettingsError(
            f"{parsed.configs[-1]}: sets resume: anyway, which is allowed on the command line only; remove it, or give "
            "--resume anyway"
        )
    check(parsed.settings)
    return parsed


def read_run(config: Path) -> Parsed[TrainSettings]:
    """Read the config.yaml of a run, to evaluate it: its method need not be installed, and then has no options."""
    argv, method = [f"--config={config}", "--resume=auto"], _document(config).get("method")
    if missing_module("method", method):
        parsed = read_settings([*argv, f"--method={TrainSettings.method}"])
        return replace(parsed, settings=replace(parsed.settings, method=str(method)))
    return read_settings(argv)


def missing_module(setting: str, name: object) -> str:
    """What to do about a module that a run uses and that is not installed; empty for any other name."""
    package = PLUGINS[setting.removeprefix("audio_")]
    if not isinstance(name, str) or not name.isidentifier() or name in plugins.names(package):
        return ""
    return f"--{setting} {name} is not installed here; put its file back: {'/'.join(package.split('.')[1:])}/{name}.py"


def _document(config: Path) -> dict[str, Any]:
    """Contents of a config; nothing of an invalid one, which is reported when it is parsed."""
    try:
        document = load_config(read_config(config))
    except (ValueError, yaml.YAMLError):
        return {}
    return document if isinstance(document, dict) else {}


def _find_config(name: str, argv: Sequence[str] | None) -> Path | Layers:
    """Resolve `--config`; of a run's config.yaml, pass over the options of modules that neither it nor `argv` chooses.

    Warns of groups that are of no module here: of one that is not installed, or a typo. Raises SettingsError if a module that
    it uses is not installed, unless `argv` names another.
    """
    found = recipes.find_recipe(name)
    if isinstance(found, Layers) or not recipes.is_of_a_run(found) or not (document := _document(found)):
        return found
    for each in MODULES:
        if not named(argv, each) and (missing := missing_module(each, document.get(each))):
            raise SettingsError(f"{found}: {missing}")
    chosen = [document.get(each, getattr(TrainSettings, each)) for each in MODULES]
    chosen += [word.rpartition("=")[2] for word in (sys.argv[1:] if argv is None else argv)]
    known = {*TrainSettings.__dataclass_fields__, *groups()}
    used = {*TrainSettings.__dataclass_fields__, *(each for each in known if each in chosen)}
    kept = {each: value for each, value in document.items() if each in used or not isinstance(value, dict)}
    if strange := [each for each in document if each not in (*kept, *known, *chosen)]:
        told = first_of(f"{each!r:.80}{plugins.nearest(str(each), known, cutoff=0.7)}" for each in strange)
        log.warning("%s: ignores the options of %s: no method, backbone or view here has that name", found, told)
    return found if len(kept) == len(document) else Layers(found, (dump_config(kept),))


def check(settings: TrainSettings) -> None:
    """Raise SettingsError for values out of range or settings that contradict each other."""
    at_least(
        settings, batch=2, epochs=1, clips_per_video=1, steps=1, seed=0, workers=0, log_every=1, save_every=1, keep=1
    )
    at_least(settings, probe_every=1, probe_samples=2)
    at_least(settings, prefetch_batches=1, window=1, max_bad_fraction=0, devices=1, grad_accum_steps=1)
    if settings.batch // settings.devices < settings.grad_accum_steps:
        raise SettingsError(
            f"--batch {settings.batch}: is too small for {settings.devices} devices and --grad_accum_steps "
            f"{settings.grad_accum_steps}; each micro-batch needs a sample"
        )
    tracking.names(settings.track)
    if settings.probe_every is not None and settings.val_split is None:
        raise SettingsError("--probe_every: needs a --val_split to evaluate on")
    for name in ("sample_timeout", "cache_gb"):
        if not 0 < getattr(settings, name) < float("inf"):
            raise SettingsError(f"--{name} {getattr(settings, name)}: must be more than 0")
    if settings.peak_tflops is not None and not 0 <= settings.peak_tflops < float("inf"):
        raise SettingsError(f"--peak_tflops {settings.peak_tflops}: must be 0 or more")


def check_used(argv: Sequence[str], *runs: Parsed[SomeSettings]) -> None:
    """Raise SettingsError for an option on the command line of a method, backbone or view that none of the runs has."""
    used = {name for run in runs for name in chosen_groups(run.settings)}
    for word in argv:
        option = word[2:].partition("=")[0] if word.startswith("--") else ""
        group = option.partition(".")[0]
        if group in runs[0].groups and group not in used:
            kind = next(kind for kind, package in PLUGINS.items() if group in plugins.names(package))
            has = sorted(used.intersection(plugins.names(PLUGINS[kind])))
            raise SettingsError(
                f"--{option}: is of the {kind} {group}, and the {kind} is {' and '.join(has)}; leave it out, or give --{kind} "
                f"{group}"
            )


def named(argv: Sequence[str] | None, option: str) -> bool:
    """Whether the command line gives this option, by its current or its old name."""
    words = sys.argv[1:] if argv is None else argv
    return any(word.startswith("--") and current(word[2:].partition("=")[0]) == option for word in words)


def paths_from_config(argv: Sequence[str], parsed: Parsed[SomeSettings]) -> str:
    """List the paths set by a config and not by the command line, one per line, so that the user sees them before use."""
    plain, settings = TrainSettings(), parsed.settings
    return "".join(
        f"{name}: {getattr(settings, name)} (from {parsed.configs[-1]})\n"
        for name in PATHS
        if not named(argv, name) and getattr(settings, name) != getattr(plain, name)
    )


def at_least(settings: object, **lowest: int) -> None:
    """Raise SettingsError if a field is below its minimum; None is accepted."""
    for name, least in lowest.items():
        value = getattr(settings, name)
        if value is not None and value < least:
            raise SettingsError(f"--{name} {value}: must be at least {least}")
