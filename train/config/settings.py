"""Settings of a training run: what ks-train, its bench and its probes read from argv, recipe and config.yaml."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

import yaml

from kinetics_sounds import cores, plugins
from kinetics_sounds.address import Address
from kinetics_sounds.errors import SettingsError
from kinetics_sounds.settings import Parsed, parse

from .. import tracking
from ..data import dataset
from ..optim.optimizer import Optim
from . import recipes

_TRAIN = __package__.rpartition(".")[0]
PLUGINS = {
    "method": f"{_TRAIN}.methods",
    "backbone": f"{_TRAIN}.models.backbones",
    "view": f"{_TRAIN}.data.views",
}
"""Packages whose modules a run chooses by name: of a setting, its package."""
PROBES = ("knn", "linear")
"""Probes that may be asked while a run learns."""
PATHS = ("shards", "out", "init", "cache")
"""Settings that say where something lies."""


@dataclass(frozen=True, kw_only=True)
class TrainSettings:
    """Pretrain encoders on shards. Run it again to go on from the last checkpoint.

    A file for --config may say `base: NAME` (a shipped recipe, or a file beside it) and then only what it sets otherwise.

    Examples:
      ks-train
      ks-train --config avcl_k32 --shards data/k32/shards --out runs/first
      ks-train --config avcl_tiny --train_split val --batch 4 --steps 20
      ks-train --config avcl_k32 --devices 8 --precision bf16 --val_split val
      ks-train --list
      ks-train bench --help
      ks-train compare --help

    exit code: 0 trained; 2 misuse; 3 stopped by a signal or a full disk after saving, run again; 4 a bug,
    or a disk that fails.
    """

    shards: Address | None = None
    """Folder of the shards (with dataset.json), or its URL (s3://, gs://, hf://, https://); default: the only set under data/."""
    out: Path | None = None
    """Folder of the run; default: runs/RECIPE."""
    train_split: str = "train"
    """Split to train on."""
    val_split: str | None = None
    """Split that is judged at the end of every epoch, in evaluation mode; the best checkpoint is kept beside the last ones."""
    probe_every: int | None = None
    """Steps between two looks at what frozen features are worth, on --val_split after a fit on the training split; also before
    the first step. Logged as probe_..., with the features' effective rank; of a run that learns from one modality, probe_top1 is
    that one's. Default: no look."""
    probe: str = "knn"
    """How: knn or linear."""
    probe_samples: int = 2000
    """Samples of each split that a look takes, evenly spread, one clip each."""
    init: Path | None = None
    """Run, or checkpoint of one, whose encoders the model begins with, and its gate or heads where they are the same."""
    method: str = "avcl"
    """How to learn: a module of methods/; its options begin with its name."""
    backbone: str = "r3d"
    """The encoders' architecture: a module of backbones/."""
    audio_backbone: str | None = None
    """The audio encoder's architecture, where it is another than the video's: a module of backbones/; default: the video's."""
    encoders: Literal["separate", "shared"] = "separate"
    """One encoder a modality, or one set of weights for both with batch-norm statistics per modality (Table I, "one model")."""
    view: str = "clip_and_mel"
    """What the encoders see: a module of views/."""
    batch: int = 16
    """Samples a step, of all devices together, at least 2."""
    epochs: int = 300
    """Epochs in all, where --steps does not say otherwise."""
    clips_per_video: int = 1
    """Passes through the split that make an epoch, each in an order and with views of its own (AVID has 10, CrissCross 5)."""
    steps: int | None = None
    """Optimiser updates in all; overrides --epochs."""
    optim: Optim = field(default_factory=Optim)
    """How weights move."""
    seed: int = 0
    """Of the initial weights, the order, every view and dropout."""
    devices: int = 1
    """GPUs of this machine, or processes on its CPUs, that learn together what one would learn; torchrun for several machines."""
    sync_bn: Literal["auto", "on", "off"] = "auto"
    """Batch norms over the samples of all devices; auto: where one alone would have fewer than 16."""
    precision: Literal["float32", "bf16", "fp16"] = "float32"
    """Of the encoders' arithmetic; losses and weights are float32. bf16 is for GPUs since Ampere, fp16 for older ones."""
    accumulate: int = 1
    """Parts of a batch that go through the model one after another: less memory, but samples of two parts never meet."""
    clip_norm: float | None = None
    """Longest gradient of an update, over all weights, whose length then stands among the metrics; default: as it comes."""
    compile: bool = False
    """Compile the encoders (torch.compile): the first steps take minutes, the others less."""
    recompute: bool = False
    """Compute the encoders' maps again on the way back rather than keep them: less memory, about a third more time."""
    workers: int = field(default_factory=lambda: min(8, max(1, cores.usable() - 1)))
    """Loading processes of each device; 0 loads within the trainer. What is learnt does not depend on it."""
    ahead: int = 4
    """Batches loaded before they are asked for; each takes its place in shared memory."""
    sample_seconds: float = 60.0
    """A sample that takes a loading process longer has it killed, and counts as bad the second time."""
    max_bad_share: float = 0.01
    """A bad sample gives way to another and is named in RUN/quarantine.jsonl; more than this share of the split ends the run."""
    window: int | None = None
    """Shards whose samples are shuffled together; default: all of a set on disk, half of what the cache holds of a remote one."""
    cache: Path = field(default_factory=lambda: dataset.default_cache())
    """Folder that keeps the shards of a remote set, shared by every process of this machine."""
    cache_gb: float = 100.0
    """Gigabytes (1e9 bytes) that the cache may take."""
    device: str = "auto"
    """cpu, cuda, or auto: cuda where there is one."""
    channels_last: bool = True
    """Keep maps channels-last, which convolutions are faster on."""
    log_every: int = 10
    """Steps between two lines of metrics; a checkpoint has one too."""
    peak_tflops: float | None = None
    """Peak TFLOP/s of a device at this precision (dense), for mfu among the metrics; 0: no mfu. Default: the maker's number
    for common GPUs, none for others."""
    track: str = "tensorboard"
    """Where metrics go besides RUN/metrics.jsonl, separated by commas: tensorboard, wandb (pip install '.[wandb]'), none."""
    save_every: int = 500
    """Steps between two checkpoints; one is always kept at the end."""
    keep: int = 2
    """Checkpoints kept."""
    resume: Literal["auto", "none", "anyway"] = "auto"
    """auto: go on from the last checkpoint of --out; none: refuse a folder that has one; anyway: with other settings or data."""
    list: bool = False
    """List every recipe, or that of --config, a file of yours too, with its command, hardware, time and score."""


SomeSettings = TypeVar("SomeSettings", bound=TrainSettings)


def backbones_of(settings: TrainSettings) -> tuple[str, str]:
    """Names of the video's and of the audio's backbone."""
    return settings.backbone, settings.backbone if settings.audio_backbone is None else settings.audio_backbone


def chosen_groups(settings: TrainSettings) -> tuple[str, ...]:
    """Names of the groups of settings that a run has: its method's, its backbones' (each once) and its view's."""
    return settings.method, *dict.fromkeys(backbones_of(settings)), settings.view


def chosen_settings(parsed: Parsed[SomeSettings]) -> dict[str, Any]:
    """All settings of a run by their names on the command line, without the groups that it does not have.

    Nor has it an `audio_backbone` that is the video's, for that is the default.
    """
    video, audio = backbones_of(parsed.settings)
    idle = set(parsed.groups).difference(chosen_groups(parsed.settings))
    if video == audio:
        idle.add("audio_backbone")
    told = flat(yaml.safe_load(parsed.text))
    return {name: value for name, value in told.items() if name.partition(".")[0] not in idle}


def groups() -> dict[str, type]:
    """The settings of every method, backbone and view, by the module's name."""
    found: dict[str, type] = {}
    for package in PLUGINS.values():
        found |= {name: plugins.load(package, name).Settings for name in plugins.names(package)}
    return found


def read_settings(argv: Sequence[str] | None) -> Parsed[TrainSettings]:
    """Settings of a run from argv and recipe."""
    return read_settings_as(TrainSettings, argv, prog="ks-train")


def read_settings_as(kind: type[SomeSettings], argv: Sequence[str] | None, *, prog: str) -> Parsed[SomeSettings]:
    """Settings of a command that builds what a run builds."""
    parsed = parse(kind, argv, prog=prog, groups=groups(), find_config=recipes.find_recipe)
    if parsed.settings.resume == "anyway" and not named(argv, "resume"):
        raise SettingsError(
            f"{parsed.configs[-1]}: says resume: anyway, which only the command line may; take it out, or give --resume anyway"
        )
    check(parsed.settings)
    return parsed


def check(settings: TrainSettings) -> None:
    """Raise SettingsError for settings of the right kinds that cannot be."""
    at_least(
        settings, batch=2, epochs=1, clips_per_video=1, steps=1, seed=0, workers=0, log_every=1, save_every=1, keep=1
    )
    at_least(settings, probe_every=1, probe_samples=2)
    at_least(settings, ahead=1, window=1, max_bad_share=0, devices=1, accumulate=1)
    if settings.batch // settings.devices < settings.accumulate:
        raise SettingsError(
            f"--batch {settings.batch}: is too small for {settings.devices} devices and --accumulate "
            f"{settings.accumulate}; each part needs a sample"
        )
    tracking.names(settings.track)
    if settings.probe not in PROBES:
        raise SettingsError(f"--probe {settings.probe}: must be {' or '.join(PROBES)}")
    if settings.probe_every is not None and settings.val_split is None:
        raise SettingsError("--probe_every: looks at a split that is not trained on; name a --val_split")
    for name in ("sample_seconds", "cache_gb"):
        if not 0 < getattr(settings, name) < float("inf"):
            raise SettingsError(f"--{name} {getattr(settings, name)}: must be more than 0")
    if settings.peak_tflops is not None and not 0 <= settings.peak_tflops < float("inf"):
        raise SettingsError(f"--peak_tflops {settings.peak_tflops}: must be 0 or more")


def named(argv: Sequence[str] | None, option: str) -> bool:
    """Whether the command line says it."""
    words = sys.argv[1:] if argv is None else argv
    return any(word == f"--{option}" or word.startswith(f"--{option}=") for word in words)


def told_by_config(argv: Sequence[str], parsed: Parsed[SomeSettings]) -> str:
    """The places that a config has set, and the command line has not: a line each, for the user to see before they are used."""
    plain, settings = TrainSettings(), parsed.settings
    return "".join(
        f"{name}: {getattr(settings, name)}, as {parsed.configs[-1]} says\n"
        for name in PATHS
        if not named(argv, name) and getattr(settings, name) != getattr(plain, name)
    )


def at_least(settings: object, **lowest: int) -> None:
    """Raise SettingsError where a field is lower than this; None is not."""
    for name, least in lowest.items():
        value = getattr(settings, name)
        if value is not None and value < least:
            raise SettingsError(f"--{name} {value}: must be at least {least}")


def flat(document: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings by their names on the command line, `optim.lr`."""
    found: dict[str, Any] = {}
    for name, value in document.items():
        found |= flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return found
