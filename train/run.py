"""A training run: its settings, its model, and the folder that holds both.

RUN/config.yaml         every setting; `ks-train --config RUN/config.yaml` says the same again
RUN/run.json            the data (folder, split, fingerprint), the recipe's name, versions
RUN/metrics.jsonl       a line every `log_every` steps and at every checkpoint
RUN/tensorboard/        the same for TensorBoard
RUN/checkpoints/        see `checkpoint.py`
"""

import dataclasses
import math
import os
import re
import subprocess
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, Protocol, TypeVar

import torch
import yaml
from torch import Tensor, nn

from kinetics_sounds import files, plugins, remote, stream
from kinetics_sounds.address import Address
from kinetics_sounds.cache import Cache
from kinetics_sounds.errors import RunError, SettingsError
from kinetics_sounds.settings import Layers, Parsed, only_one, parse
from kinetics_sounds.shards.index import Dataset
from kinetics_sounds.stream import Split

from .backbones import tied_copy
from .loader import Loading
from .methods import Data, Method, Step
from .optim import Optim

PACKAGE = __package__
RECIPES = Path(__file__).parent / "recipes"
MOST_BYTES = 1 << 20
"""run.json is not larger."""
MOST_PARAMETERS = 1 << 32
"""Of a model: 150 times those of the paper."""
MOST_UNSEEN = 1 << 16
"""No setting of a model is larger that takes memory before its parameters are counted."""
MOST_CLASSES, MOST_SAMPLES = 1 << 20, 1 << 40
"""Of the data that a run says it learnt from."""
TABLES = "_tables"
"""How the name of a file ends that holds many recipes."""
MODEL = ("method", "backbone", "encoders", "view", "seed")
"""Settings that decide, with the options of these modules, a run's model, its initial weights and its view."""
PATHS = ("shards", "out", "init", "cache")
"""Settings that say where something lies."""
FALLBACK = "avcl_k32_recommended"
"""The recipe for a class list that has none of its own."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Pretrain encoders on shards. Run it again to go on from the last checkpoint.

    Examples:
      ks-train
      ks-train --config avcl_k32 --shards data/k32/shards --out runs/first
      ks-train --config avcl_tiny --train_split val --batch 4 --steps 20
      ks-train --config avcl_k32 --devices 8 --precision bf16 --val_split val
      ks-train --list
      ks-train bench --help

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
    init: Path | None = None
    """Run, or checkpoint of one, whose weights of the same names the model begins with: its encoders, and its gate."""
    method: str = "avcl"
    """How to learn: a module of methods/; its options begin with its name."""
    backbone: str = "r3d"
    """The encoders' architecture: a module of backbones/."""
    encoders: Literal["separate", "shared"] = "separate"
    """One encoder a modality, or one set of weights for both with batch-norm statistics per modality (Table I, "one model")."""
    view: str = "clip_and_mel"
    """What the encoders see: a module of views/."""
    batch: int = 16
    """Samples a step, of all devices together, at least 2."""
    epochs: int = 300
    """Times through the split, where --steps does not say otherwise."""
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
    workers: int = field(default_factory=lambda: min(8, max(1, (os.cpu_count() or 1) - 1)))
    """Loading processes of each device; 0 loads within the trainer. What is learnt does not depend on it."""
    ahead: int = 4
    """Batches loaded before they are asked for; each takes its place in shared memory."""
    sample_seconds: float = 60.0
    """A sample that takes a loading process longer has it killed, and counts as bad the second time."""
    max_bad_share: float = 0.01
    """A bad sample gives way to another and is named in RUN/quarantine.jsonl; more than this share of the split ends the run."""
    window: int | None = None
    """Shards whose samples are shuffled together; default: all of a set on disk, half of what the cache holds of a remote one."""
    cache: Path = field(default_factory=lambda: default_cache())
    """Folder that keeps the shards of a remote set, shared by every process of this machine."""
    cache_gb: float = 100.0
    """Gigabytes (1e9 bytes) that the cache may take."""
    device: str = "auto"
    """cpu, cuda, or auto: cuda where there is one."""
    channels_last: bool = True
    """Keep maps channels-last, which convolutions are faster on."""
    log_every: int = 10
    """Steps between two lines of metrics; a checkpoint has one too."""
    save_every: int = 500
    """Steps between two checkpoints; one is always kept at the end."""
    keep: int = 2
    """Checkpoints kept."""
    resume: Literal["auto", "none", "anyway"] = "auto"
    """auto: go on from the last checkpoint of --out; none: refuse a folder that has one; anyway: with other settings or data."""
    list: bool = False
    """List every recipe, or that of --config, with its command, hardware, time and score."""


SomeSettings = TypeVar("SomeSettings", bound=Settings)


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A shipped recipe: a file of its own, or a row of a table: another recipe and what is set otherwise."""

    config: Path | Layers
    head: tuple[str, ...]
    """Its command, hardware, time and score, and what else is to be known: a line each."""


@cache
def recipes() -> Mapping[str, Recipe]:
    """Every shipped recipe by name: those of a file each, then the rows of the tables in their order."""
    tables = sorted(RECIPES.glob(f"*{TABLES}.yaml"))
    found: dict[str, Recipe] = {}
    for path in sorted({*RECIPES.glob("*.yaml")}.difference(tables)):
        lines = path.read_text("utf-8").splitlines()
        found[path.stem] = Recipe(config=path, head=tuple(line[1:].strip() for line in lines if line.startswith("#")))
    for path in tables:
        for table in yaml.safe_load(path.read_text("utf-8")):
            found |= {name: _row(path, table, name) for name in table["recipes"]}
    return found


def _row(path: Path, table: Mapping[str, Any], name: str) -> Recipe:
    """One recipe of a table of `path`."""
    row, base = table["recipes"][name], table["base"]
    score = "none in the paper, none at full size yet"
    if "score" in row:
        score = f"the paper's {row['score']:.1f}% top-1 on {table['data']} after fine-tuning, {table['note']}"
    changed = yaml.safe_dump(row["set"], default_flow_style=True, width=math.inf).strip()
    return Recipe(
        config=Layers(path / name, (RECIPES / f"{base}.yaml", changed)),
        head=(
            f"{row['is']}.",
            f"command:  ks-train --config {name}",
            f"hardware: {row.get('hardware', table['hardware'])}",
            f"time:     {row.get('time', table['time'])}",
            f"score:    {score}",
            f"changes:  {f'{base} with {changed}' if row['set'] else f'none, it is {base}'}",
        ),
    )


def find_recipe(name: str) -> Path | Layers:
    """What `--config` names: a path, else a shipped recipe; raises SettingsError that lists the names."""
    path, shipped = Path(name), recipes()
    if path.is_file():
        return path
    if name not in shipped:
        raise SettingsError(
            f"--config {name}: is neither a file nor a recipe; recipes: {', '.join(shipped)}{plugins.nearest(name, shipped)}"
        )
    return shipped[name].config


def recipe_for(classes: str) -> str:
    """The recommended recipe for a class list."""
    own = f"avcl_{classes}_recommended"
    return own if own in recipes() else FALLBACK


def recipe_name(config: Path) -> str:
    """What a recipe is called: like its file or row, or like the recipe of the run whose config.yaml it is."""
    if config.name == "config.yaml" and (config.parent / "run.json").is_file():
        return str(read_facts(config.parent)["recipe"])
    return config.stem


def groups() -> dict[str, type]:
    """The settings of every method, backbone and view, by the module's name."""
    found: dict[str, type] = {}
    for kind in ("methods", "backbones", "views"):
        package = f"{PACKAGE}.{kind}"
        found |= {name: plugins.load(package, name).Settings for name in plugins.names(package)}
    return found


def read(argv: Sequence[str] | None) -> Parsed[Settings]:
    """Settings of a run from argv and recipe."""
    return read_as(Settings, argv, prog="ks-train")


def read_as(kind: type[SomeSettings], argv: Sequence[str] | None, *, prog: str) -> Parsed[SomeSettings]:
    """Settings of a command that builds what a run builds."""
    parsed = parse(kind, argv, prog=prog, groups=groups(), find_config=find_recipe)
    if parsed.settings.resume == "anyway" and not _named(argv, "resume"):
        raise SettingsError(
            f"{parsed.configs[-1]}: says resume: anyway, which only the command line may; take it out, or give --resume anyway"
        )
    at_least(parsed.settings, batch=2, epochs=1, steps=1, seed=0, workers=0, log_every=1, save_every=1, keep=1)
    at_least(parsed.settings, ahead=1, window=1, max_bad_share=0, devices=1, accumulate=1)
    if parsed.settings.batch // parsed.settings.devices < parsed.settings.accumulate:
        raise SettingsError(
            f"--batch {parsed.settings.batch}: is too small for {parsed.settings.devices} devices and --accumulate "
            f"{parsed.settings.accumulate}; each part needs a sample"
        )
    for name in ("sample_seconds", "cache_gb"):
        if not 0 < getattr(parsed.settings, name) < float("inf"):
            raise SettingsError(f"--{name} {getattr(parsed.settings, name)}: must be more than 0")
    return parsed


def _named(argv: Sequence[str] | None, option: str) -> bool:
    """Whether the command line says it."""
    words = sys.argv[1:] if argv is None else argv
    return any(word == f"--{option}" or word.startswith(f"--{option}=") for word in words)


def told_by_config(argv: Sequence[str], parsed: Parsed[SomeSettings]) -> str:
    """The places that a config has set, and the command line has not: a line each, for the user to see before they are used."""
    plain, settings = Settings(), parsed.settings
    return "".join(
        f"{name}: {getattr(settings, name)}, as {parsed.configs[-1]} says\n"
        for name in PATHS
        if not _named(argv, name) and getattr(settings, name) != getattr(plain, name)
    )


def classes_of(recipe: str) -> str | None:
    """The class list that a recipe's name speaks of, k32 of avcl_k32_recommended; None where it speaks of none."""
    found = re.search(r"_(k\d+)(_|$)", recipe)
    return found[1] if found else None


def find_shards(settings: Settings, configs: Sequence[Path] = ()) -> Address:
    """The folder or URL of the shards as it was given, or those of the recipe's classes, or the only ones there are."""
    if settings.shards is not None:
        return Address(settings.shards.real)
    own = classes_of(recipe_name(configs[-1])) if configs else None
    if own is not None and Path("data", own, "shards", "dataset.json").is_file():
        return Address(str(Path("data", own, "shards")))
    return Address(str(only_one("data/*/shards/dataset.json", option="shards", make="ks-shard").parent))


class Cached(Protocol):
    """Settings of a command that reads shards."""

    @property
    def cache(self) -> Path:
        """Folder that keeps those of a remote set."""
        ...

    @property
    def cache_gb(self) -> float:
        """Gigabytes that it may take."""
        ...


def default_cache() -> Path:
    """Of every command."""
    return files.user_path("~/.cache/kinetics-sounds")


def open_split(settings: Cached, shards: Address, name: str) -> Split:
    """A split of a set on disk, or of a remote one through the cache."""
    if remote.is_url(shards) and settings.cache.parts[:1] == ("~",):
        raise SettingsError(
            "--cache: there is no home folder to keep shards in (no HOME, and no entry of this user); name a folder"
        )
    cache = Cache(settings.cache, most_bytes=int(settings.cache_gb * 1e9)) if remote.is_url(shards) else None
    return stream.open_split(shards, name, cache=cache)


def loading(settings: Settings, device: torch.device) -> Loading:
    """How batches come to the device."""
    return Loading(
        workers=settings.workers, ahead=settings.ahead, sample_seconds=settings.sample_seconds, device=device
    )


def window(settings: Settings, split: Split) -> int | None:
    """Shards that are shuffled together: None is all of them.

    Of a remote set that does not fit into it, as many as half the cache holds, so that the next ones can come meanwhile.
    """
    if settings.window is not None or split.cache is None:
        return settings.window
    sizes, room = [tar.bytes for tar in split.tars], int(settings.cache_gb * 1e9)
    return None if sum(sizes) <= room else max(1, room // (2 * max(sizes)))


def at_least(settings: object, **lowest: int) -> None:
    """Raise SettingsError where a field is lower than this; None is not."""
    for name, least in lowest.items():
        value = getattr(settings, name)
        if value is not None and value < least:
            raise SettingsError(f"--{name} {value}: must be at least {least}")


@dataclass(frozen=True)
class Built:
    """What a run's settings make: the model, and how its inputs are made."""

    model: nn.Module
    method: Method
    """The same object, as what it does."""
    view: ModuleType
    view_settings: Any

    def step(self, batch: Mapping[str, Tensor]) -> Step:
        """What the method says of a batch of the view's arrays, on the model's device."""
        extras = {name: batch[name] for name in ("label", "number")}
        return self.method({**extras, **self.view.to_model(batch, self.view_settings)})


def outline(parsed: Parsed[SomeSettings], data: Data) -> nn.Module:
    """The model of a run without its numbers, which takes no memory; raises SettingsError for one that nobody could have.

    A model that cannot be made without numbers (one that asks a tensor for its `item()`) is made with them.
    """
    with torch.random.fork_rng(devices=[]):
        try:
            with torch.device("meta"):
                model = _build(parsed, data).model
        except (RuntimeError, OverflowError, TypeError) as error:
            if _largest(parsed) > MOST_UNSEEN:  # perhaps of sizes that have no product in 64 bits
                raise SettingsError(f"--{parsed.settings.backbone}: makes no model ({_first_line(error)})") from error
            model = _build(parsed, data).model
    count = sum(parameter.numel() for parameter in model.parameters())
    if count > MOST_PARAMETERS:
        raise SettingsError(
            f"--{parsed.settings.backbone}: the model has {count:.2g} parameters, more than {MOST_PARAMETERS:.2g}; give a "
            "smaller one"
        )
    return model


def _largest(parsed: Parsed[SomeSettings]) -> float:
    """The largest number among the settings of a run's method and backbone."""
    groups = (dataclasses.asdict(parsed.groups[name]) for name in (parsed.settings.method, parsed.settings.backbone))
    return max((value for group in groups for value in group.values() if isinstance(value, int | float)), default=0)


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def build(parsed: Parsed[SomeSettings], data: Data) -> Built:
    """The untrained model of a run on such data: its weights are a function of the seed. Raises as `outline`."""
    outline(parsed, data)
    return _build(parsed, data)


def _build(parsed: Parsed[SomeSettings], data: Data) -> Built:
    chosen = parsed.settings
    method = plugins.load(f"{PACKAGE}.methods", chosen.method)
    backbone = plugins.load(f"{PACKAGE}.backbones", chosen.backbone)
    view = plugins.load(f"{PACKAGE}.views", chosen.view)
    view_settings, network = parsed.groups[chosen.view], parsed.groups[chosen.backbone]
    torch.manual_seed(chosen.seed)
    video = backbone.build(network)
    audio = _audio_encoder(parsed, backbone, video)
    try:
        model = method.build(parsed.groups[chosen.method], video=video, audio=audio, data=data)
    except ValueError as error:
        raise SettingsError(f"--{chosen.method}: {error}") from error
    return Built(model, model, view, view_settings)


def _audio_encoder(parsed: Parsed[SomeSettings], backbone: ModuleType, video: nn.Module) -> nn.Module:
    """An encoder for the audio as the view lays it out, or one with the video's own weights."""
    chosen = parsed.settings
    network, channels = parsed.groups[chosen.backbone], parsed.groups[chosen.view].audio_channels
    if chosen.encoders == "separate":
        audio: nn.Module = backbone.build(dataclasses.replace(network, channels=channels))
        return audio
    if channels != network.channels:
        raise SettingsError(
            f"--encoders shared: the one encoder takes {network.channels} channels, and the audio has {channels}; "
            f"give --{chosen.view}.audio_channels {network.channels}"
        )
    return tied_copy(video)


def pick_device(name: str) -> torch.device:
    """The device that a `--device` names; raises SettingsError where it is not there."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name.startswith("cuda") and os.environ.get("WORLD_SIZE", "1") != "1":
        return torch.device("cuda")  # each rank takes its own of them, and no other
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).item()
    except (RuntimeError, AssertionError) as error:
        raise SettingsError(
            f"--device {name}: is not to be had here ({str(error).splitlines()[0]}); try cpu"
        ) from error
    return device


def check_devices(settings: Settings) -> None:
    """Raise SettingsError where this machine has GPUs, but fewer than `--devices`; CPUs are shared by any number."""
    if settings.device == "cpu" or not torch.cuda.is_available():
        return
    there = torch.cuda.device_count()
    if settings.devices > there:
        raise SettingsError(
            f"--devices {settings.devices}: this machine has {there}; give --devices {there}, or --device cpu"
        )


def facts(split: Split, *, recipe: str, shards: Address, versions: Mapping[str, str]) -> dict[str, Any]:
    """What `run.json` says."""
    return {
        "recipe": recipe,
        "shards": str(shards) if remote.is_url(shards) else str(Path(shards.real).absolute()),
        "train_split": split.name,
        "fingerprint": split.dataset.splits[split.name].fingerprint,
        "data_recipe": split.dataset.recipe,
        "classes": split.dataset.classes,
        "data": data_of(split)._asdict(),
        "mel": split.dataset.mel,
        "note": split.dataset.note,
        "versions": dict(versions),
        "git": _git(),
    }


def data_of(split: Split) -> Data:
    """What a method may know of a split."""
    return Data(classes=len(split.dataset.labels), samples=len(split))


def _git() -> dict[str, Any] | None:
    """The commit of the code, and whether it was changed since; None where it is no checkout of ours."""
    root = Path(__file__).parents[1]
    if not (root / ".git").exists():
        return None
    told = []
    for words in (["rev-parse", "HEAD"], ["status", "--porcelain", "--untracked-files=no"]):
        try:
            done = subprocess.run(
                ["git", "-C", str(root), *words],
                capture_output=True,
                text=True,
                check=True,
                timeout=10,
            )
        except (OSError, subprocess.SubprocessError):
            return None
        told.append(done.stdout.strip())
    return {"commit": told[0], "changed": bool(told[1])}


def read_facts(folder: Path) -> dict[str, Any]:
    """`run.json` of a run; raises RunError where the folder is none."""
    try:
        document = files.read_json(folder / "run.json", most_bytes=MOST_BYTES)
        if not isinstance(document, dict):
            raise TypeError("run.json holds no table")
        if missing := {"shards", "train_split", "fingerprint", "recipe", "data"}.difference(document):
            raise ValueError(f"run.json lacks {', '.join(sorted(missing))}")
        _check_facts(document)
    except OSError as error:
        if isinstance(error, FileNotFoundError | NotADirectoryError):
            raise RunError(f"{folder}: is no training run ({error}); give the --out of a ks-train") from error
        raise RunError(
            f"{folder / 'run.json'}: cannot be read: {error.strerror}; see that the disk is there"
        ) from error
    except (ValueError, TypeError) as error:
        raise RunError(f"{folder}: is no training run ({error}); give the --out of a ks-train") from error
    return document


def _check_facts(document: Mapping[str, Any]) -> None:
    """Raise ValueError or TypeError for facts of another kind than `facts` writes."""
    for name in ("shards", "train_split", "fingerprint", "recipe"):
        if not isinstance(document[name], str):
            raise TypeError(f"run.json: {name} is no text")
    if not isinstance(document.get("mel", {}), dict):
        raise TypeError("run.json: mel is no table")
    data = Data(**document["data"])
    for name, least, most in (("classes", 1, MOST_CLASSES), ("samples", 0, MOST_SAMPLES)):
        value = getattr(data, name)
        if type(value) is not int or not least <= value <= most:
            raise ValueError(f"run.json: data: {name} {str(value)[:40]} is no number from {least} to {most}")


def check_like(facts: Mapping[str, Any], dataset: Dataset, *, shards: Address) -> None:
    """Raise RunError where a set's mel-spectrograms were made otherwise than those that a run of such facts learnt from."""
    own = facts.get("mel") or dataset.mel
    if differ := [name for name in {**own, **dataset.mel} if own.get(name) != dataset.mel.get(name)]:
        told = ", ".join(f"{name} {dataset.mel.get(name)} rather than {own.get(name)}" for name in differ)
        raise RunError(
            f"{shards}: its mel-spectrograms are not like those that the run learnt from: {told}; pack that set with "
            "the ks-shard settings of the run's own"
        )


def reopen(folder: Path) -> Parsed[Settings]:
    """The settings that a run was made with; to be compared, and not to be done: see `model_of`."""
    read_facts(folder)
    return read(["--config", str(folder / "config.yaml"), "--resume=auto"])


def model_of(folder: Path) -> Parsed[Settings]:
    """What of a run's settings decides its model and view; the others are the defaults.

    A run may come from a stranger: where things lie and how this machine works is not for it to say.
    """
    parsed = reopen(folder)
    kept: dict[str, Any] = {name: getattr(parsed.settings, name) for name in MODEL}
    return dataclasses.replace(parsed, settings=Settings(**kept), text="")


def shards_of(facts: Mapping[str, Any]) -> Address:
    """The folder that a run learnt from; raises RunError for a URL, which a run may not have us ask unless the user names it."""
    shards = Address(str(facts["shards"]))
    if remote.is_url(shards):
        raise RunError(f"the run learnt from {shards}, which is not asked unless you name it: give it with --shards")
    return shards


def flat(document: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings by their names on the command line, `optim.lr`."""
    found: dict[str, Any] = {}
    for name, value in document.items():
        found |= flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return found


def judged_split(splits: Collection[str]) -> str | None:
    """The split to be judged on where none is named: test, else val, else None."""
    return next((split for split in ("test", "val") if split in splits), None)


def rebuild(folder: Path) -> Built:
    """The untrained model of a run."""
    return build(model_of(folder), Data(**read_facts(folder)["data"]))
