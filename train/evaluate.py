"""ks-eval: judge a run's frozen encoders by one protocol."""

import dataclasses
import inspect
import itertools
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from kinetics_sounds import plugins
from kinetics_sounds.address import Address
from kinetics_sounds.command import DONE, MISUSE, command
from kinetics_sounds.errors import RunError, SettingsError, ShardError
from kinetics_sounds.settings import parse
from kinetics_sounds.shards import reader
from kinetics_sounds.shards.index import Dataset

from .config import run_folder
from .config.settings import at_least
from .data.dataset import default_cache, open_split
from .data.loader import Loading
from .distributed import consistency, devices, process_group
from .distributed.process_group import World
from .evaluation import cam, finetune, results, sounds
from .evaluation.encoders import Encoders, load_asked
from .evaluation.features import Kind, extract
from .probes import Features

PROBES = f"{__package__}.probes"
COMMANDS: Mapping[str, Callable[[Sequence[str]], int]] = {
    "cam": cam.judge,
    "finetune": finetune.judge,
    "sounds": sounds.judge,
}
"""What is asked of a run besides the probes: each reads the rest of argv and gives back the exit code."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Judge a run's frozen encoders; writes results.json and results.csv. Several probes share the features.

    Examples:
      ks-eval linear --run runs/avcl_k32
      ks-eval linear knn crossmodal --run runs/avcl_k32
      ks-eval knn --run runs/avcl_k32 --untrained
      ks-eval crossmodal --run runs/avcl_k32 --on_split val
      torchrun --nproc_per_node 8 -m -- kinetics_sounds.train.evaluate knn --run runs/avcl_k32

    Features are the encoders' own, before any gate: a gate that saw both modalities makes pairs look learnt.

    exit code: 0 done; 2 misuse; 3 stopped by a signal or a full disk, run again; 4 a bug, or a disk that fails.
    """

    run: Path
    """Folder of a training run."""
    checkpoint: str = "last"
    """Which checkpoint: last, best, or a name such as step-00000500."""
    untrained: bool = False
    """Judge the same encoders with their initial weights instead: what a score must beat."""
    shards: Address | None = None
    """Folder or URL of the shards; default: the run's own, where that is a folder."""
    cache: Path = dataclasses.field(default_factory=default_cache)
    """Folder that keeps the shards of a remote set, shared by every process of this machine."""
    cache_gb: float = 100.0
    """Gigabytes (1e9 bytes) that the cache may take."""
    fit_split: str | None = None
    """Split that a probe learns from, where it learns; default: train."""
    on_split: str | None = None
    """Split to be judged on; default: test, else val, else the run's training split."""
    clips: int = 10
    """Evenly spaced clips a video, whose features are averaged."""
    batch: int = 16
    """Videos a forward pass."""
    workers: int = 1
    """Loading processes; 0 loads within this one."""
    device: str = "auto"
    """cpu, cuda, or auto: cuda where there is one."""
    out: Path | None = None
    """Folder of the results, for several probes with a folder of each; default: RUN/eval/PROBE."""
    json: bool = False
    """Print the results as JSON on standard output, a line a probe."""


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of `ks-eval`."""
    words = sys.argv[1:] if argv is None else argv
    asked = list(itertools.takewhile(lambda word: not word.startswith("-"), words))
    if not asked:
        print(f"usage: ks-eval {{{','.join(names())}}} [...] --run RUN [options]\n\n{_what_there_is()}")
        return DONE if words and words[0] in ("-h", "--help") else MISUSE
    return command("ks-eval", lambda: judge(asked, words[len(asked) :]))


def names() -> list[str]:
    """Everything that can be asked of a run."""
    return sorted([*plugins.names(PROBES), *COMMANDS])


def _what_there_is() -> str:
    """Everything that can be asked, a line each, and how."""
    modules = {name: plugins.load(PROBES, name) for name in plugins.names(PROBES)}
    modules |= {name: sys.modules[judging.__module__] for name, judging in COMMANDS.items()}
    lines = [f"  {name:12} {_first_line(module, name)}" for name, module in sorted(modules.items())]
    examples = [
        "  ks-eval linear knn crossmodal --run runs/avcl_k32_recommended",
        "  ks-eval finetune --run runs/avcl_k32",
        "  ks-eval linear --help",
    ]
    return "\n".join([*lines, "", "Examples:", *examples])


def _first_line(module: ModuleType, name: str) -> str:
    line = (inspect.getdoc(module) or "").partition("\n")[0].removeprefix(f"ks-eval {name}: ")
    return line[:1].upper() + line[1:]


def judge(asked: Sequence[str], argv: Sequence[str]) -> int:
    """Do what is called so; returns the exit code. Raises SettingsError where there is no such thing."""
    for name in asked:
        if name not in names():
            raise SettingsError(
                f"nothing is called {name!r}; there are: {', '.join(names())}{plugins.nearest(name, names())}"
            )
        if name in COMMANDS and len(asked) > 1:
            raise SettingsError(f"{name}: has options of its own; ask for it alone")
    return COMMANDS[asked[0]](argv) if asked[0] in COMMANDS else evaluate(list(dict.fromkeys(asked)), argv)


def evaluate(asked: Sequence[str], argv: Sequence[str]) -> int:
    """Run probes on the same features, by all the ranks that torchrun started; returns the exit code."""
    probes = {name: plugins.load(PROBES, name) for name in asked}
    prog = f"ks-eval {' '.join(asked)}"
    parsed = parse(Settings, argv, prog=prog, groups={name: probe.Settings for name, probe in probes.items()})
    settings = parsed.settings
    at_least(settings, clips=1, batch=1, workers=0)
    facts = run_folder.read_facts(settings.run)
    shards = settings.shards or run_folder.shards_of(facts)
    dataset = reader.read_dataset(shards)
    on = settings.on_split or run_folder.judged_split(dataset.splits) or facts["train_split"]
    fit = _fit_split(settings, dataset, [name for name, probe in probes.items() if probe.FITS], on=on, shards=shards)
    run_folder.check_like(facts, dataset, shards=shards)
    encoders = load_asked(settings)
    with process_group.start(devices.pick_device(settings.device)) as world:
        told = {"checkpoint": str(encoders.checkpoint), "clips": f"{dataset.fingerprint} {on} {fit} {settings.clips}"}
        consistency.check_equal(told)

        # All that ranks do together comes before the judging, which one does alone.
        kinds: dict[str, Kind] = {name: getattr(its, "features", "pooled") for name, its in parsed.groups.items()}
        fits_of = {name: fit if probe.FITS else None for name, probe in probes.items()}
        wanted: dict[tuple[str, Kind], str] = {}
        for name, kind in kinds.items():
            for split in (on, fits_of[name]):
                if split is not None:
                    wanted.setdefault((split, kind), name)
        features = _features(wanted, encoders, settings, shards, world)
        if not world.leads:
            return DONE
        for name, probe in probes.items():
            its, kind, fits = parsed.groups[name], kinds[name], fits_of[name]
            test, train = features[on, kind], None if fits is None else features[fits, kind]
            with _named(settings.run, name):
                scores = probe.evaluate(test, train, its)
            found = {
                **results.head(name, settings.run, facts, encoders.checkpoint),
                "on_split": on,
                "fit_split": fits,
                "samples": len(test.keys),
                "clips": settings.clips,
                "features": kind,
                "settings": dataclasses.asdict(its),
                "fingerprint": dataset.splits[on].fingerprint,
                "fit_fingerprint": None if fits is None else dataset.splits[fits].fingerprint,
                "classes": dataset.classes,
                "note": dataset.note,
                "scores": scores,
            }
            out = settings.out or settings.run / "eval" / (f"{name}_untrained" if settings.untrained else name)
            if settings.out is not None and len(probes) > 1:
                out /= name
            results.write(out, found)
            print(json.dumps(found) if settings.json else results.told(found, out))
    if not settings.json and dataset.splits[on].fingerprint == facts["fingerprint"]:
        print("note: the encoders were trained on these very clips")
    return DONE


def _features(
    wanted: Mapping[tuple[str, Kind], str], encoders: Encoders, settings: Settings, shards: Address, world: World
) -> dict[tuple[str, Kind], Features]:
    """The features of each split and kind that is wanted, by all ranks; the name is that of the first probe that wants them."""
    loading = Loading(workers=settings.workers, device=world.device)
    found = {}
    for (split, kind), name in wanted.items():
        data = open_split(settings, shards, split)
        with _named(settings.run, name):
            found[split, kind] = extract(
                encoders, data, clips=settings.clips, batch=settings.batch, loading=loading, kind=kind, world=world
            )
    return found


@contextmanager
def _named(folder: Path, name: str) -> Iterator[None]:
    """Raise a ValueError, of features that are not finite or of the probe's settings, as the RunError of probe `name`."""
    try:
        yield
    except ValueError as error:
        raise RunError(f"{folder}: {name} cannot judge it: {error}") from error


def _fit_split(
    settings: Settings, dataset: Dataset, learning: Sequence[str], *, on: str, shards: Address
) -> str | None:
    """The split that `learning` probes learn from; raises SettingsError where it cannot be."""
    if not learning:
        if settings.fit_split is not None:
            raise SettingsError(f"--fit_split {settings.fit_split}: no probe that is asked for learns; leave it out")
        return None
    fit = settings.fit_split or "train"
    if fit == on:
        raise SettingsError(
            f"--fit_split {on}: is also the split to be judged on; name another with --on_split or --fit_split"
        )
    if fit not in dataset.splits:
        there = ", ".join(dataset.splits)
        raise ShardError(f"{shards}: has no split {fit!r} to fit on; it has: {there}; see --fit_split")
    return fit


if __name__ == "__main__":
    sys.exit(main())
