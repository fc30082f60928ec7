"""Exact resume: how far a run got, and what must not have changed since."""

import json
import logging
import math
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from kinetics_sounds import __version__, plugins
from kinetics_sounds.address import Address
from kinetics_sounds.errors import RunError
from kinetics_sounds.resumed import CHANGED, DATA
from kinetics_sounds.settings import Parsed
from kinetics_sounds.stream import Split

from ..config import run_folder
from ..config.recipes import flat
from ..config.settings import PLUGINS, SomeSettings, TrainSettings, chosen_groups, chosen_settings
from ..distributed import collectives, consistency
from ..distributed.process_group import World
from ..interface import Method
from ..optim.lr_schedule import Plateau
from ..optim.optimizer import Optim
from . import build, checkpoint, checkpoint_state
from .setup import TrainComponents

log = logging.getLogger("kinetics_sounds")

FREE = (
    *(
        "shards",
        "out",
        "recipe",
        "workers",
        "prefetch_batches",
        "sample_timeout",
        "max_bad_fraction",
        "cache",
        "cache_gb",
    ),
    *("device", "devices", "sync_bn", "channels_last", "compile", "activation_checkpointing", "init_from", "val_split"),
    *("probe_every", "probe", "probe_samples"),
    *("log_every", "peak_tflops", "track", "save_every", "keep", "resume", "list", "json", "epochs", "steps"),
)
"""Settings that may change on resume: where and how it runs, and how long (schedules adapt to the new length)."""

MICRO_BATCHES = "micro_batches"
"""Key of state.json: micro-batches are slices of the global batch, not of each rank's rows (decision 15)."""
NORM_SAMPLES = "norm_samples"
"""Key of state.json: samples per batch norm, which `--sync_bn auto` keeps on resume if the number of devices allows it."""
COMPUTED_ON = "computed_on"
"""Key of state.json and run.json: GPUs or CPUs of the first rank so far (`devices.computes_on`); last digits depend on them."""
OWN = (
    *("shards", "out", "workers", "prefetch_batches", "sample_timeout", "cache", "cache_gb"),
    *("device", "devices", "keep", "resume", "init_from", "peak_tflops"),
)
"""Settings that may differ between ranks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainProgress:
    """Progress of a run, besides its weights."""

    step: int = 0
    plateau: Plateau = field(default_factory=Plateau)
    best: dict[str, Any] | None = None
    """Step, value and split of the best validation; higher is better."""
    of_steps: int | None = None
    """Planned steps of the run when it was saved."""
    first_probe: dict[str, float] | None = None
    """Probe result before training."""
    computed_on: tuple[str, ...] = ()
    """GPUs or CPUs of the first rank so far, in order."""
    changed: tuple[dict[str, Any], ...] = ()
    """What was changed when the run was resumed, see `kinetics_sounds.resumed`."""

    @property
    def best_step(self) -> int | None:
        """Step of the best validation."""
        return None if self.best is None else int(self.best["step"])

    def after(self, values: Mapping[str, float], *, step: int, optim: Optim, split: str) -> "TrainProgress":
        """Progress after a validation on a split. The criterion is val_top1 if available, else the negative val_loss."""
        value = values["val_top1"] if "val_top1" in values else -values["val_loss"]
        best = self.best
        if best is not None and best["split"] not in (None, split):  # which says nothing of this one
            best = None
        better = math.isfinite(value) and (best is None or value > best["value"])
        return replace(
            self,
            step=step,
            plateau=self.plateau.after(value, patience=optim.patience),
            best={"step": step, "value": value, "split": split} if better else self.best,
        )

    def state(self, components: TrainComponents) -> dict[str, Any]:
        """Progress as saved in state.json."""
        return {
            "plateau": asdict(self.plateau),
            "best": self.best,
            **({"first_probe": self.first_probe} if self.first_probe else {}),
            "scaler": components.train_step.state(),
            NORM_SAMPLES: components.norm_samples,
            MICRO_BATCHES: "of the global batch",
            COMPUTED_ON: self.computed_on,
            **self.history,
        }

    @property
    def history(self) -> dict[str, Any]:
        """What was changed on resume, as saved in state.json and run.json; nothing if nothing was."""
        return {CHANGED: self.changed} if self.changed else {}


def window(settings: TrainSettings, split: Split, out: Path) -> int | None:
    """Shards to shuffle together. A resumed run keeps its window, whatever the cache size is now."""
    last = checkpoint.latest(out / "checkpoints")
    if settings.window is None and last is not None:
        kept = checkpoint_state.read_state(last).get("window")
        return kept if isinstance(kept, int) else None
    return build.window(settings, split)


def norm_samples(out: Path) -> int | None:
    """Samples per batch norm of the run to resume; None if unknown or for a new run."""
    last = checkpoint.latest(out / "checkpoints")
    kept = None if last is None else checkpoint_state.read_state(last).get(NORM_SAMPLES)
    return kept if isinstance(kept, int) else None


def complete_view(
    parsed: Parsed[SomeSettings], shards: Address, split: Split, out: Path | None = None
) -> Parsed[SomeSettings]:
    """Fill in view settings that depend on the training split; a run resumed in `out` keeps its own.

    Raises ShardError if the shard set does not suit the view or lacks what is needed, and RunError, like `restore`, if the
    view's settings changed.
    """
    name = parsed.settings.view
    view = plugins.load(PLUGINS["view"], name)
    view.check(split.dataset, parsed.groups[name])  # first: recreated shards need new statistics
    complete = getattr(view, "complete", None)
    if complete is None:
        return parsed
    last = None if out is None else checkpoint.latest(out / "checkpoints")
    told = {} if last is None else checkpoint_state.read_state(last)
    if (
        last is not None and parsed.settings.resume == "auto"
    ):  # before statistics are required that a resumed run must not use
        own = {each: value for each, value in chosen_settings(parsed).items() if value not in (None, [])}
        for each in (each for each in told if each.startswith(f"{name}.") and each in own):
            if own[each] != told[each]:
                raise RunError(_changed(last, each, told[each], own[each]))
    before = {each.removeprefix(f"{name}."): value for each, value in told.items() if each.startswith(f"{name}.")}
    return replace(parsed, groups={**parsed.groups, name: complete(parsed.groups[name], shards, split, before)})


def resume_invariants(parsed: Parsed[TrainSettings], facts: Mapping[str, Any]) -> dict[str, Any]:
    """All settings and facts that determine the next step: they must be equal on resume."""
    kept = {name: value for name, value in chosen_settings(parsed).items() if name not in FREE}
    return kept | {name: facts[name] for name in DATA}


def restore(
    out: Path,
    parsed: Parsed[TrainSettings],
    wanted: Mapping[str, Any],
    components: TrainComponents,
    world: World,
    *,
    facts: Mapping[str, Any],
) -> TrainProgress:
    """Load the last checkpoint of `out` into model and optimizer, or `--init_from` if there is none; return the progress.

    `wanted` are the `resume_invariants` of this run. Raises RunError if they differ from the checkpoint's, except with
    `--resume anyway`.
    """
    path = checkpoint.latest(out / "checkpoints")
    model = components.bundle.method
    if path is None:
        begin(parsed, model, facts, world)
        return TrainProgress()
    if parsed.settings.resume == "none":
        raise RunError(f"{out}: contains a run at {path.name}; choose another --out, or resume it with --resume auto")
    told = checkpoint_state.read_state(path)
    differ = _differing(parsed, wanted, told)
    if differ and parsed.settings.resume != "anyway":
        name, before, after = differ[0]
        if name in DATA:
            raise RunError(_other_data(path, run_folder.read_facts(out), facts))
        raise RunError(_changed(path, name, before, after))
    of_steps, steps = told.get("of_steps"), facts["data"]["steps"]
    for name, before, after in differ if told["step"] < steps else ():
        world.print_main(f"resumed with {name} {after} (was {before})")
    if parsed.settings.grad_accum_steps > 1 and MICRO_BATCHES not in told:
        world.print_main(
            "grad_accum_steps: micro-batches have other samples from here on, as kinetics-sounds 0.1.0 split batches differently"
        )
    before = told.get(NORM_SAMPLES)
    if before not in (None, components.norm_samples):
        world.print_main(
            f"batch norms: over {components.norm_samples} samples from here on (was {before}), so the run equals neither; the "
            "same --devices and --sync_bn resume it unchanged"
        )
        differ.append(("samples per batch norm", before, components.norm_samples))
    if of_steps not in (None, steps):
        differ.append(("steps", of_steps, steps))
    best = told.get("best")
    checkpoint.load_model(path, model)
    checkpoint.load_optimizer(path, model, components.optimizer)
    components.train_step.load(told.get("scaler") or {})
    world.print_main(f"resumed: {path}")
    return TrainProgress(
        step=int(told["step"]),
        plateau=Plateau(**told.get("plateau", {})),
        best=best and {**best, "split": run_folder.split_of_best(out, best)},
        of_steps=of_steps,
        first_probe=told.get("first_probe"),
        computed_on=tuple(told.get(COMPUTED_ON) or ()),
        changed=(*(told.get(CHANGED) or ()), *(_change(told["step"], *each) for each in differ)),
    )


def selected_on(reached: TrainProgress, split: str | None, world: World) -> TrainProgress:
    """Progress that compares validations on this split alone; a best one on another stays until the first of these."""
    chosen_on = None if reached.best is None else reached.best["split"]
    before = next((each["after"] for each in reversed(reached.changed) if each["setting"] == "val_split"), chosen_on)
    if chosen_on is None or not split or split == before:
        return reached
    world.print_main(
        f"best checkpoint: that of step {reached.best_step}, chosen on {chosen_on}, until the first validation on {split}"
    )
    changed = (*reached.changed, _change(reached.step, "val_split", before, split))
    return replace(reached, plateau=Plateau(cuts=reached.plateau.cuts), changed=changed)


def _differing(
    parsed: Parsed[TrainSettings], wanted: Mapping[str, Any], told: Mapping[str, Any]
) -> list[tuple[str, Any, Any]]:
    """Settings and data that differ from those of a checkpoint: name, before and now; data first, that are told first."""
    state = {**_defaults(parsed), **told}
    names = (*wanted, *(name for name in told if name not in wanted and _is_setting(name, parsed)))
    in_order = sorted(names, key=lambda each: (each != "train_split", each not in DATA))
    return [(name, state.get(name), wanted.get(name)) for name in in_order if state.get(name) != wanted.get(name)]


def _change(step: int, setting: str, before: object, after: object) -> dict[str, Any]:
    return {"step": step, "setting": setting, "before": before, "after": after}


def begin(parsed: Parsed[SomeSettings], model: Method, facts: Mapping[str, Any], world: World) -> None:
    """Load the weights of `--init_from`, if given; raise RunError if they do not suit the method."""
    if parsed.settings.init_from is None:
        return
    source = checkpoint_of(parsed.settings.init_from)
    world.print_main(
        f"init: {checkpoint.load_common(source, model, model.INIT, needed=model.NEEDS, after=model.AFTER)}"
    )
    its_run = source.absolute().parents[1]
    there = (its_run / "run.json").is_file()
    model.adopt(run_folder.read_facts(its_run) if there else {}, facts)
    if model.NEEDS and there:
        _warn_of_other_input(its_run, parsed)


def _warn_of_other_input(its_run: Path, parsed: Parsed[SomeSettings]) -> None:
    """Warn if the `--init_from` run had other view settings than this run."""
    name = parsed.settings.view
    before = asdict(run_folder.reopen(its_run).groups[name])
    for option, value in asdict(parsed.groups[name]).items():
        if before[option] != value and collectives.is_main():
            log.warning("--%s.%s %s: the run of --init_from has %s", name, option, value, before[option])


def _changed(path: Path, name: str, was: object, value: object) -> str:
    """Error message for a setting that must not change on resume."""
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
    """Default of every setting: what a run did that was saved before the setting existed."""
    groups = {name: asdict(type(parsed.groups[name])()) for name in chosen_groups(parsed.settings)}
    return flat(json.loads(json.dumps({**groups, "optim": asdict(Optim()), "clips_per_video": 1})))


def _is_setting(name: str, parsed: Parsed[TrainSettings]) -> bool:
    """Whether a key of state.json is a setting that affects results and is unset now."""
    first = name.partition(".")[0]
    own = {each.name for each in fields(TrainSettings)}
    return name not in FREE and (first in (*chosen_groups(parsed.settings), "optim") or name in own)


def checkpoint_of(place: Path) -> Path:
    """Last checkpoint of a run folder, or the checkpoint itself if `place` is one."""
    if (place / "state.json").is_file():
        return place
    run_folder.read_facts(place)
    return checkpoint.find(place / "checkpoints", "last")


def check_ranks(
    parsed: Parsed[TrainSettings], state: Mapping[str, Any], model: nn.Module, reached: TrainProgress
) -> None:
    """Raise RunError, naming the difference, unless all ranks start with equal settings, state and weights."""
    told = {name: value for name, value in flat(parsed.values).items() if name not in OWN}
    so_far = {"reached": [reached.step, asdict(reached.plateau), reached.best], "code": versions()}
    facts = {name: json.dumps(value) for name, value in {**told, **state, **so_far}.items()}
    consistency.check_equal({**facts, "weights": consistency.digest(model)})


def versions() -> dict[str, str]:
    """Versions of the code that affects results."""
    return {"kinetics-sounds": __version__, "torch": torch.__version__, "python": sys.version.split()[0]}
