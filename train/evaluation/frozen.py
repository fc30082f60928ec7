"""Probes of a run's frozen encoders, which share their features."""

import dataclasses
import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from kinetics_sounds.address import Address
from kinetics_sounds.command import DONE
from kinetics_sounds.errors import RunError, SettingsError, ShardError
from kinetics_sounds.settings import Parsed, parse
from kinetics_sounds.shards import reader
from kinetics_sounds.shards.index import Dataset

from ..config import run_folder
from ..config.settings import at_least
from ..data.dataset import check_apart, default_cache, open_split
from ..data.loader import Loading
from ..distributed import consistency, devices, process_group
from ..distributed.process_group import World
from ..probes import Features
from . import results
from .encoders import Encoders, load_selected
from .eval_data import check_mel, note_selected, selected_on, suited
from .features import Kind, extract


@dataclass(frozen=True, slots=True, kw_only=True)
class EvalSettings:
    """Evaluate the frozen encoders of a run; write results.json and results.csv. Several probes share the features.

    Examples:
      ks-eval linear --run runs/avcl_k32
      ks-eval linear knn crossmodal --run runs/avcl_k32
      ks-eval knn --run runs/avcl_k32 --untrained
      ks-eval crossmodal --run runs/avcl_k32 --on_split val
      torchrun --nproc_per_node 8 -m -- kinetics_sounds.train.evaluate knn --run runs/avcl_k32

    Features are taken from the encoders, before any gate: a gate mixes both modalities, which would inflate cross-modal scores.

    exit code: 0 done; 2 usage error; 3 stopped by a signal or a full disk, run again; 4 a bug, or a failing disk.
    """

    run: Path
    """Folder of a training run."""
    checkpoint: str = "last"
    """Checkpoint: last, best, or a name such as step-00000500."""
    untrained: bool = False
    """Evaluate the same encoders with their initial weights: the baseline."""
    shards: Address | None = None
    """Folder or URL of the shards. Default: the shards that the run was trained on, if they are a folder."""
    cache: Path = dataclasses.field(default_factory=default_cache)
    """Cache folder for remote shards, shared by all processes on this machine."""
    cache_gb: float = 100.0
    """Maximum cache size in gigabytes (1e9 bytes)."""
    fit_split: str | None = None
    """Split to fit probes on, if they need training features. Default: train."""
    on_split: str | None = None
    """Split to evaluate on. Default: test, else val, else the run's training split."""
    clips: int = 10
    """Evenly spaced clips per video; their features are averaged."""
    batch: int = 16
    """Videos per forward pass."""
    workers: int = 1
    """Data-loading processes; 0 loads in the main process."""
    device: str = "auto"
    """cpu, cuda, or auto (cuda if available)."""
    out: Path | None = None
    """Folder of the results; with several probes, one subfolder each. Default: RUN/eval/PROBE."""
    json: bool = False
    """Print the results as JSON on standard output, one line per probe."""


def evaluate(modules: Mapping[str, ModuleType], argv: Sequence[str]) -> int:
    """Run probes with these options; return the exit code."""
    return run(modules, read(modules, argv, prog=f"ks-eval {' '.join(modules)}"))


def read(modules: Mapping[str, ModuleType], argv: Sequence[str], *, prog: str) -> Parsed[EvalSettings]:
    """Parse the options of probes."""
    return parse(EvalSettings, argv, prog=prog, groups={name: module.Settings for name, module in modules.items()})


def run(modules: Mapping[str, ModuleType], parsed: Parsed[EvalSettings]) -> int:
    """Run probes on shared features, extracted by all ranks that torchrun started; return the exit code."""
    settings = parsed.settings
    at_least(settings, clips=1, batch=1, workers=0)
    facts = run_folder.read_facts(settings.run)
    shards = run_folder.shards_to_evaluate(settings.shards, facts)
    dataset = reader.read_dataset(shards)
    on = settings.on_split or run_folder.default_eval_split(dataset.splits) or facts["train_split"]
    fit = _fit_split(
        settings,
        dataset,
        [name for name, module in modules.items() if module.NEEDS_TRAIN_FEATURES],
        on=on,
        shards=shards,
    )
    check_apart(settings, shards, dataset, (fit, on))
    check_mel(settings.run, facts, dataset, shards=shards)
    for name, module in modules.items():
        if dataset.modality != "both" and getattr(module, "NEEDS_BOTH", False):
            raise ShardError(f"{shards}: has no picture or no sound, and {name} compares them; give shards with both")
    encoders = suited(load_selected(settings), dataset)
    selected = selected_on(settings, encoders.checkpoint, facts, dataset)
    probes = [
        _Probe(
            name=name,
            module=module,
            settings=parsed.groups[name],
            on=on,
            fit=fit if module.NEEDS_TRAIN_FEATURES else None,
        )
        for name, module in modules.items()
    ]
    with process_group.start(devices.pick_device(settings.device)) as world:
        if world.is_main:
            for each in probes:
                _check_writable(_out(settings, each.name, probes))
        told = {"checkpoint": str(encoders.checkpoint), "clips": f"{dataset.fingerprint} {on} {fit} {settings.clips}"}
        consistency.check_equal(told)

        # All collective operations come before the evaluation, which rank 0 does alone.
        features = _features(probes, encoders, settings, shards, world)
        if not world.is_main:
            return DONE
        of_split = results.of_split(settings, shards, dataset, on, facts)
        printed: list[tuple[dict[str, Any], Path]] = []
        for each in probes:
            head = results.head(each.name, settings.run, facts, encoders.checkpoint, **of_split)
            found = {**head, **_body(each, features, settings, dataset, selected=selected)}
            out = _out(settings, each.name, probes)
            results.write(out, found)
            if near := getattr(each.module, "neighbours", None):
                split = features[on, each.kind]
                results.write_neighbours(out, head, near(split), keys=split.keys, labels=_labels(split, dataset))
            printed.append((found, out))
            if settings.json:
                print(json.dumps(found))
        if not settings.json:
            more = [*note_selected(selected, on), *results.next_steps(settings, [each for each, _ in printed])]
            print(results.format_table(printed), *more, sep="\n")
    return DONE


def _labels(split: Features, dataset: Dataset) -> list[str]:
    """Label of each row."""
    return [dataset.labels[index] for index in split.label_N.tolist()]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Probe:
    """A probe with its settings and splits."""

    name: str
    module: ModuleType
    settings: Any
    on: str
    fit: str | None

    @property
    def kind(self) -> Kind:
        """Kind of features that the probe reads."""
        kind: Kind = getattr(self.settings, "features", "pooled")
        return kind


_FeaturesOf = Mapping[tuple[str, Kind], Features]
"""Features by split and kind."""


def _features(
    probes: Sequence[_Probe], encoders: Encoders, settings: EvalSettings, shards: Address, world: World
) -> _FeaturesOf:
    """Extract the features of each needed split and kind once, with all ranks."""
    loading = Loading(workers=settings.workers, device=world.device)
    found: dict[tuple[str, Kind], Features] = {}
    for each in probes:
        for split in (each.on, each.fit):
            if split is None or (split, each.kind) in found:
                continue
            data = open_split(settings, shards, split)
            with _named(settings.run, each.name):
                found[split, each.kind] = extract(
                    encoders,
                    data,
                    clips=settings.clips,
                    batch=settings.batch,
                    loading=loading,
                    kind=each.kind,
                    world=world,
                )
    return found


def _body(
    probe: _Probe, features: _FeaturesOf, settings: EvalSettings, dataset: Dataset, *, selected: str | None
) -> dict[str, Any]:
    """Evaluate one probe; return the body of its results.json. `selected`: see `selected_on`."""
    test = features[probe.on, probe.kind]
    train = None if probe.fit is None else features[probe.fit, probe.kind]
    with _named(settings.run, probe.name):
        scores = probe.module.evaluate(test, train, probe.settings)
    if selected == probe.on:
        scores["selected_on_test"] = 1.0
    return {
        "fit_split": probe.fit,
        "samples": len(test.keys),
        "clips": settings.clips,
        "features": probe.kind,
        "settings": dataclasses.asdict(probe.settings),
        "fit_fingerprint": None if probe.fit is None else dataset.every_split[probe.fit].fingerprint,
        "classes": dataset.classes,
        "note": dataset.note,
        "scores": scores,
    }


@contextmanager
def _named(folder: Path, name: str) -> Iterator[None]:
    """Turn a ValueError (non-finite features, invalid probe settings) into a RunError that names the run and the probe."""
    try:
        yield
    except ValueError as error:
        raise RunError(f"{folder}: {name} cannot evaluate it: {error}") from error


def _out(settings: EvalSettings, name: str, probes: Sequence["_Probe"]) -> Path:
    """Folder of a probe's results."""
    out = results.folder(settings, name)
    return out / name if settings.out is not None and len(probes) > 1 else out


def _check_writable(folder: Path) -> None:
    """Raise OSError now, and not after hours, if no result can be written below a folder, or the next one above that exists."""
    with tempfile.TemporaryFile(dir=next(place for place in (folder, *folder.absolute().parents) if place.exists())):
        pass


def _fit_split(
    settings: EvalSettings, dataset: Dataset, learning: Sequence[str], *, on: str, shards: Address
) -> str | None:
    """The split to fit on, or None if no probe needs one; raises SettingsError or ShardError for an invalid choice."""
    if not learning:
        if settings.fit_split is not None:
            raise SettingsError(f"--fit_split {settings.fit_split}: none of these probes is fitted; leave it out")
        return None
    fit = settings.fit_split or "train"
    if fit == on and settings.fit_split is settings.on_split is None:
        raise ShardError(
            f"{shards}: has no split but {on!r}, so none to evaluate on; pack one that was not trained on, too, or evaluate "
            "what is not fitted: ks-eval crossmodal"
        )
    if fit == on:
        raise SettingsError(
            f"--fit_split {on}: is also the split to evaluate on; choose another with --on_split or --fit_split"
        )
    if fit not in dataset.every_split:
        there = ", ".join(dataset.every_split)
        raise ShardError(f"{shards}: has no split {fit!r} to fit on; it has: {there}; see --fit_split")
    return fit
