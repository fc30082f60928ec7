"""How a run goes on where it was, exactly: how far that is, and what must not have changed since."""

import json
import logging
import math
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import nn

from kinetics_sounds import __version__, plugins
from kinetics_sounds.address import Address
from kinetics_sounds.errors import RunError
from kinetics_sounds.settings import Parsed
from kinetics_sounds.stream import Split

from ..config import run_folder
from ..config.settings import PLUGINS, SomeSettings, TrainSettings, chosen_groups, chosen_settings, flat
from ..distributed import collectives, consistency
from ..distributed.process_group import World
from ..interface import Method
from ..optim.lr_schedule import Plateau
from ..optim.optimizer import Optim
from . import build, checkpoint, checkpoint_state
from .setup import TrainComponents

log = logging.getLogger("kinetics_sounds")

FREE = (
    *("shards", "out", "recipe", "workers", "ahead", "sample_seconds", "max_bad_share", "cache", "cache_gb"),
    *("device", "devices", "sync_bn", "channels_last", "compile", "recompute", "init", "val_split"),
    *("probe_every", "probe", "probe_samples"),
    *("log_every", "peak_tflops", "track", "save_every", "keep", "resume", "list", "epochs", "steps"),
)
"""Settings that a resumed run may change: where and how it runs, and how long (a schedule then bends to the new length)."""

DATA = ("fingerprint", "data_recipe")
"""Facts that say which clips a set has, and how they were packed."""

MICRO_BATCHES = "micro_batches"
"""What state.json says since micro-batches are parts of the global batch, and not of each rank's rows (decision 15)."""
NORM_SAMPLES = "norm_samples"
"""What state.json says of batch norms: `--sync_bn auto` goes on with as many samples, on any number of devices that allows it."""
OWN = (
    *("shards", "out", "workers", "ahead", "sample_seconds", "cache", "cache_gb"),
    *("device", "devices", "keep", "resume", "init", "peak_tflops"),
)
"""Settings that ranks may have of their own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainProgress:
    """How far a run is, besides its weights."""

    step: int = 0
    plateau: Plateau = field(default_factory=Plateau)
    best: dict[str, float] | None = None
    """Step and value of the best validation, where a greater value is better."""
    of_steps: int | None = None
    """Steps that the run was to have when it was saved."""
    first_probe: dict[str, float] | None = None
    """What a probe found before any step."""

    @property
    def best_step(self) -> int | None:
        """When the best validation was."""
        return None if self.best is None else int(self.best["step"])

    def after(self, values: Mapping[str, float], *, step: int, optim: Optim) -> "TrainProgress":
        """After a validation: accuracy where there is one, else the loss, says what is better."""
        value = values["val_top1"] if "val_top1" in values else -values["val_loss"]
        better = math.isfinite(value) and (self.best is None or value > self.best["value"])
        return replace(
            self,
            step=step,
            plateau=self.plateau.after(value, patience=optim.patience),
            best={"step": step, "value": value} if better else self.best,
        )

    def state(self, learner: TrainComponents) -> dict[str, Any]:
        """What a checkpoint tells of it."""
        return {
            "plateau": asdict(self.plateau),
            "best": self.best,
            **({"first_probe": self.first_probe} if self.first_probe else {}),
            "scaler": learner.updates.state(),
            NORM_SAMPLES: learner.norm_samples,
            MICRO_BATCHES: "of the global batch",
        }


def window(settings: TrainSettings, split: Split, out: Path) -> int | None:
    """Shards that are shuffled together: a run that goes on keeps its own, however much the cache holds now."""
    last = checkpoint.latest(out / "checkpoints")
    if settings.window is None and last is not None:
        kept = checkpoint_state.read_state(last).get("window")
        return kept if isinstance(kept, int) else None
    return build.window(settings, split)


def norm_samples(out: Path) -> int | None:
    """Over how many samples a run that goes on had its batch norms; None where it does not say, or does not go on."""
    last = checkpoint.latest(out / "checkpoints")
    kept = None if last is None else checkpoint_state.read_state(last).get(NORM_SAMPLES)
    return kept if isinstance(kept, int) else None


def complete_view(
    parsed: Parsed[SomeSettings], shards: Address, split: Split, out: Path | None = None
) -> Parsed[SomeSettings]:
    """With what the view leaves to the training split, so that a run says all of it; one that goes on in `out` keeps its own.

    Raises ShardError where the set does not suit the view, or lacks it, and RunError as `restore` for other settings of the view.
    """
    name = parsed.settings.view
    view = plugins.load(PLUGINS["view"], name)
    view.check(split.dataset, parsed.groups[name])  # first: what is made anew to suit needs its statistics anew
    complete = getattr(view, "complete", None)
    if complete is None:
        return parsed
    last = None if out is None else checkpoint.latest(out / "checkpoints")
    told = {} if last is None else checkpoint_state.read_state(last)
    if last is not None and parsed.settings.resume == "auto":  # else statistics would be asked for that no run may take
        own = {each: value for each, value in chosen_settings(parsed).items() if value not in (None, [])}
        for each in (each for each in told if each.startswith(f"{name}.") and each in own):
            if own[each] != told[each]:
                raise RunError(_changed(last, each, told[each], own[each]))
    before = {each.removeprefix(f"{name}."): value for each, value in told.items() if each.startswith(f"{name}.")}
    return replace(parsed, groups={**parsed.groups, name: complete(parsed.groups[name], shards, split, before)})


def resume_invariants(parsed: Parsed[TrainSettings], facts: Mapping[str, Any]) -> dict[str, Any]:
    """All that decides what the next step sees, besides the step: with it a resume is exact."""
    kept = {name: value for name, value in chosen_settings(parsed).items() if name not in FREE}
    return kept | {name: facts[name] for name in DATA}


def restore(
    out: Path,
    parsed: Parsed[TrainSettings],
    wanted: Mapping[str, Any],
    learner: TrainComponents,
    world: World,
    *,
    facts: Mapping[str, Any],
) -> TrainProgress:
    """Fill model and optimiser from the last checkpoint of `out`, or from `--init` where there is none; returns how far it was.

    Raises RunError where what the run `wanted` is not what it was, unless told to go on anyway.
    """
    path = checkpoint.latest(out / "checkpoints")
    model = learner.built.method
    if path is None:
        begin(parsed, model, facts, world)
        return TrainProgress()
    if parsed.settings.resume == "none":
        raise RunError(f"{out}: holds a run at {path.name}; choose another --out, or go on with --resume auto")
    told = checkpoint_state.read_state(path)
    state = {**_defaults(parsed), **told}
    for name in (*wanted, *(name for name in told if name not in wanted and _is_setting(name, parsed))):
        value = wanted.get(name)
        if state.get(name) == value:
            continue
        if parsed.settings.resume != "anyway":
            if name in DATA:
                raise RunError(_other_data(path, run_folder.read_facts(out), facts))
            raise RunError(_changed(path, name, state.get(name), value))
        world.say(f"resumed with {name} {value}, where it was {state.get(name)}")
    if parsed.settings.accumulate > 1 and MICRO_BATCHES not in told:
        world.say(
            "accumulate: from here on other samples meet in a micro-batch, as kinetics-sounds 0.1.0 shared them out otherwise"
        )
    before = told.get(NORM_SAMPLES)
    if before not in (None, learner.norm_samples):
        world.say(
            f"batch norms: over {learner.norm_samples} samples from here on, where it was {before}: the run is like none of "
            "either; the same --devices and --sync_bn go on as before"
        )
    checkpoint.load_model(path, model)
    checkpoint.load_optimizer(path, model, learner.optimizer)
    learner.updates.load(state.get("scaler") or {})
    world.say(f"resumed: {path}")
    return TrainProgress(
        step=int(state["step"]),
        plateau=Plateau(**state.get("plateau", {})),
        best=state.get("best"),
        of_steps=state.get("of_steps"),
        first_probe=state.get("first_probe"),
    )


def begin(parsed: Parsed[SomeSettings], model: Method, facts: Mapping[str, Any], world: World) -> None:
    """Take what `--init` names, where it names something; raises RunError where the method cannot begin so."""
    if parsed.settings.init is None:
        return
    source = checkpoint_of(parsed.settings.init)
    world.say(f"init: {checkpoint.load_common(source, model, model.INIT, needed=model.NEEDS, after=model.AFTER)}")
    its_run = source.absolute().parents[1]
    there = (its_run / "run.json").is_file()
    model.adopt(run_folder.read_facts(its_run) if there else {}, facts)
    if model.NEEDS and there:
        _warn_of_other_input(its_run, parsed)


def _warn_of_other_input(its_run: Path, parsed: Parsed[SomeSettings]) -> None:
    """What a method goes on with was made of inputs that this run's should be like."""
    name = parsed.settings.view
    before = asdict(run_folder.reopen(its_run).groups[name])
    for option, value in asdict(parsed.groups[name]).items():
        if before[option] != value and collectives.is_main():
            log.warning("--%s.%s %s: the run of --init has %s", name, option, value, before[option])


def _changed(path: Path, name: str, was: object, value: object) -> str:
    """What is said of a setting that a run which goes on may not change."""
    return (
        f"{path}: was trained with {name} {was}, not {value}; choose another --out, the same {name}, or --resume anyway"
    )


def _other_data(path: Path, was: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Error message for a set other than the run's; both are told apart by name, place and the fingerprint that differs."""
    which = next((name for name in DATA if was.get(name) != now[name]), DATA[0])
    before, after = (
        f"{each.get('classes', '')} of {each['shards']} ({which} {str(each.get(which, ''))[:12]})"
        for each in (was, now)
    )
    return f"{path}: was trained on {before}, not on {after}; choose another --out, the same shards, or --resume anyway"


def _defaults(parsed: Parsed[TrainSettings]) -> dict[str, Any]:
    """Of every setting its default: what a run did that was saved before there was such a setting."""
    groups = {name: asdict(type(parsed.groups[name])()) for name in chosen_groups(parsed.settings)}
    return flat(json.loads(json.dumps({**groups, "optim": asdict(Optim()), "clips_per_video": 1})))


def _is_setting(name: str, parsed: Parsed[TrainSettings]) -> bool:
    """Whether a name of state.json is a setting that decides what is learnt: one that is None or empty now is not told."""
    first = name.partition(".")[0]
    own = {each.name for each in fields(TrainSettings)}
    return name not in FREE and (first in (*chosen_groups(parsed.settings), "optim") or name in own)


def checkpoint_of(place: Path) -> Path:
    """The last checkpoint of a run, or the checkpoint that a path names."""
    if (place / "state.json").is_file():
        return place
    run_folder.read_facts(place)
    return checkpoint.find(place / "checkpoints", "last")


def check_ranks(
    parsed: Parsed[TrainSettings], state: Mapping[str, Any], model: nn.Module, reached: TrainProgress
) -> None:
    """See that all ranks begin with the same: raises RunError that names what differs."""
    told = {name: value for name, value in flat(yaml.safe_load(parsed.text)).items() if name not in OWN}
    so_far = {"reached": [reached.step, asdict(reached.plateau), reached.best], "code": versions()}
    facts = {name: json.dumps(value) for name, value in {**told, **state, **so_far}.items()}
    consistency.check_equal({**facts, "weights": consistency.digest(model)})


def versions() -> dict[str, str]:
    """Of the code that a run is made by."""
    return {"kinetics-sounds": __version__, "torch": torch.__version__, "python": sys.version.split()[0]}
