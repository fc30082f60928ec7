"""ks-train: the loop. Shards in, checkpoints out; killed at any moment, it goes on from the last checkpoint exactly."""

import contextlib
import json
import logging
import math
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
import yaml
from torch import Tensor, nn

from kinetics_sounds import __version__, files, progress, stream
from kinetics_sounds.errors import RunError, SettingsError
from kinetics_sounds.redact import redact
from kinetics_sounds.settings import DONE, STOPPED, Parsed, Stop, command, stoppable

from . import bench, checkpoint, distributed, launch, loader, optim, run
from .distributed import World
from .metrics import Metrics
from .optim import Optim
from .quarantine import Quarantine
from .recompute import recompute
from .run import Built, Settings
from .schedule import Plateau, learning_rate
from .updates import NotFiniteError, Updates
from .validate import validate

FREE = (
    *("shards", "out", "recipe", "workers", "ahead", "sample_seconds", "max_bad_share", "cache", "cache_gb"),
    *("device", "devices", "sync_bn", "channels_last", "compile", "recompute", "init", "val_split"),
    *("log_every", "save_every", "keep", "resume", "list", "epochs", "steps"),
)
"""Settings that a resumed run may change: where and how it runs, and how long (a schedule then bends to the new length)."""

OWN = (
    "shards",
    "out",
    "workers",
    "ahead",
    "sample_seconds",
    "cache",
    "cache_gb",
    "device",
    "devices",
    "keep",
    "resume",
    "init",
)
"""Settings that ranks may have of their own."""
FEW = 16
"""Samples of a device below which its own batch norms are too noisy, and those of all devices are taken (methods 1.12 #17)."""
UNTRIED = "None of them but avcl_tiny has been run at full size here; scores of the paper are the paper's."

log = logging.getLogger("kinetics_sounds")


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of `ks-train`."""
    words = sys.argv[1:] if argv is None else argv
    if words and words[0] == "bench":
        return command("ks-train bench", lambda: bench.bench(words[1:]))
    return command("ks-train", lambda: pretrain(words))


def pretrain(argv: Sequence[str]) -> int:
    """Train as argv and recipe say, on as many devices; returns the exit code."""
    parsed = run.read(argv)
    if parsed.settings.list:
        print(list_recipes())
        return DONE
    if parsed.settings.devices > 1 and not launch.is_rank():
        return launch.ranks(pretrain, argv, devices=parsed.settings.devices, prog="ks-train")
    with distributed.start(run.pick_device(parsed.settings.device)) as world:
        return _pretrain(argv, parsed, world)


def _pretrain(argv: Sequence[str], parsed: Parsed[Settings], world: World) -> int:
    """As one rank of the world."""
    shards = run.find_shards(parsed.settings)
    split = run.open_split(parsed.settings, shards, parsed.settings.train_split)
    if not parsed.configs:
        recipe = run.recipe_for(split.dataset.classes)
        _say(world, f"recipe: {recipe} (the recommended one; see --list)")
        argv = ["--config", recipe, *argv]
        parsed = run.read(argv)
    name = run.recipe_name(parsed.configs[-1])
    out = parsed.settings.out or Path("runs") / name
    window = _window(parsed.settings, split, out)
    chosen = [f"--shards={shards}", f"--out={out}", *([f"--window={window}"] if window else [])]
    parsed = run.read([*argv, *chosen])  # so that config.yaml says the same again
    settings = parsed.settings
    note = f" ({split.dataset.note})" if split.dataset.note else ""
    of = f"{split.name}: {len(split)} samples of {split.dataset.classes}{note}"
    _say(world, f"shards: {redact(shards)}, {of}\nout: {out}")
    if settings.window is not None:
        _say(world, f"window: samples are shuffled among {settings.window} shards at a time (--window, --cache_gb)")
    val = run.open_split(settings, shards, settings.val_split) if settings.val_split else None
    _check(settings, split, val, shards, world)
    with files.exclusive(out, command="ks-train") if world.leads else contextlib.nullcontext():
        return _train(parsed, split, val, world, shards=shards, out=out, recipe=name)


def _say(world: World, text: str) -> None:
    if world.leads:
        print(text)


def _check(settings: Settings, split: stream.Split, val: stream.Split | None, shards: str, world: World) -> None:
    """Raise SettingsError for what cannot be of this split, or in this world."""
    if settings.batch > len(split):
        raise SettingsError(
            f"--batch {settings.batch}: is larger than the split {split.name!r} of {redact(shards)}, "
            f"which has {len(split)} samples; give --batch {len(split)} or less"
        )
    if settings.batch < max(world.size, 2) * settings.accumulate:
        raise SettingsError(
            f"--batch {settings.batch}: is too small for {world.size} ranks and --accumulate {settings.accumulate}: each part "
            "needs a sample of each rank, and two to compare"
        )
    if val is not None and len(val) < max(world.size, 2):
        raise SettingsError(
            f"--val_split {settings.val_split}: has {len(val)} samples, fewer than {max(world.size, 2)} to compare; name another"
        )
    if settings.optim.schedule == "plateau" and settings.val_split is None:
        raise SettingsError("--optim.schedule plateau: waits for a better validation; name a --val_split")
    if settings.precision != "float32" and world.device.type == "cpu":
        raise SettingsError(
            f"--precision {settings.precision}: is for GPUs; on some CPUs convolutions are wrong in it; give float32"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Reached:
    """How far a run is, besides its weights."""

    step: int = 0
    plateau: Plateau = field(default_factory=Plateau)
    best: dict[str, float] | None = None
    """Step and value of the best validation, where a greater value is better."""
    scaler: Mapping[str, Any] | None = None

    @property
    def best_step(self) -> int | None:
        """When the best validation was."""
        return None if self.best is None else int(self.best["step"])

    def after(self, values: Mapping[str, float], *, step: int, optim: Optim) -> "Reached":
        """After a validation: accuracy where there is one, else the loss, says what is better."""
        value = values["val_top1"] if "val_top1" in values else -values["val_loss"]
        better = math.isfinite(value) and (self.best is None or value > self.best["value"])
        return Reached(
            step=step,
            plateau=self.plateau.after(value, patience=optim.patience),
            best={"step": step, "value": value} if better else self.best,
            scaler=self.scaler,
        )

    def state(self, updates: Updates) -> dict[str, Any]:
        """What a checkpoint tells of it."""
        return {"plateau": asdict(self.plateau), "best": self.best, "scaler": updates.state()}


def _train(
    parsed: Parsed[Settings],
    split: stream.Split,
    val: stream.Split | None,
    world: World,
    *,
    shards: str,
    out: Path,
    recipe: str,
) -> int:
    settings = parsed.settings
    built = _built(parsed, split, world, fresh=checkpoint.latest(out / "checkpoints") is None)
    try:
        optimizer = optim.make_optimizer(built.model, settings.optim)
    except ValueError as error:
        raise SettingsError(f"--{error}") from error
    updates = Updates(
        built,
        optimizer,
        precision=settings.precision,
        accumulate=settings.accumulate,
        clip_norm=settings.clip_norm,
        device=world.device,
    )
    per_epoch = len(split) // settings.batch
    steps = settings.steps or settings.epochs * per_epoch
    facts = run.facts(split, recipe=recipe, shards=shards, versions=_versions())
    state = _state(parsed, facts)
    reached = _resume(out, parsed, state, built.model, optimizer, world)
    updates.load(reached.scaler or {})
    _check_ranks(parsed, state, built.model, reached)
    if reached.step >= steps:
        last = checkpoint.latest(out / "checkpoints")
        _say(world, f"trained: {reached.step} steps are done already; checkpoint: {last}")
        return DONE
    if world.leads:
        files.write_bytes(out / "config.yaml", parsed.text.encode())
        files.write_bytes(out / "run.json", (json.dumps(facts, indent=2) + "\n").encode())
    for encoder in {built.method.video, built.method.audio}:
        if settings.recompute:
            recompute(encoder, compiled="inductor" if settings.compile else None)
        elif settings.compile:
            encoder.compile()

    samples = loader.Samples(split=split, view=built.view.__name__, settings=built.view_settings, seed=settings.seed)
    order = loader.Order(
        split=split,
        batch=settings.batch,
        seed=settings.seed,
        first_step=reached.step,
        steps=steps,
        window=settings.window,
        rank=world.rank,
        ranks=world.size,
    )
    quarantine = Quarantine(out / "quarantine.jsonl", split, most_share=settings.max_bad_share, writes=world.leads)
    loading = run.loading(settings, world.device)
    step = reached.step
    signals = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
    with (
        stoppable(*signals) as stop,
        loader.train_batches(samples, order, loading=loading, quarantine=quarantine) as batches,
        Metrics(out if world.leads else None, first_step=step) as metrics,
        progress.bar("ks-train", steps, done=step, shown=world.leads) as bar,
    ):
        built.model.train()
        for batch in metrics.timed(batches):
            rate = _rate(settings.optim, step, steps, reached.plateau)
            optim.set_rate(optimizer, rate)
            torch.manual_seed(_seed(settings.seed, step, world.rank))  # of dropout: a resumed run drops the same
            try:
                outcome = updates(batch)
            except NotFiniteError as error:
                kept = _keep(out / "failed", step, batch, built.model, optimizer, split, world)
                raise RunError(
                    f"step {step + 1}: {error} not finite; lower --optim.lr (the last checkpoint is kept, and what led here is "
                    f"in {kept})"
                ) from error
            step += 1
            metrics.count(settings.batch)
            bar.advance(note=metrics.note)
            stops = distributed.any_rank(bool(stop))
            ends = step == steps or stops
            saves = ends or step % settings.save_every == 0
            if saves or step % settings.log_every == 0:
                quarantine.share()
                logs = {name: float(value) for name, value in outcome.logs.items()}
                metrics.write(step, {**logs, "lr": rate, "epoch": step / per_epoch, **batches.account()})
            validates = val is not None and step % per_epoch == 0
            if validates or saves:
                # The statistics of batch norms that are not synchronised: it is one model that is judged and saved.
                distributed.broadcast_buffers(built.model)
            if val is not None and validates:
                values = validate(built, val, batch=settings.batch, updates=updates, loading=loading, world=world)
                reached = reached.after(values, step=step, optim=settings.optim)
                saves = saves or reached.best_step == step
                metrics.validated(step, values)
            if saves:
                _check_weights(built.model, step)
            if saves and world.leads:
                checkpoint.save(
                    out / "checkpoints",
                    step,
                    model=built.model,
                    optimizer=optimizer,
                    state={**state, **reached.state(updates)},
                    keep=settings.keep,
                    best=reached.best_step,
                )
            if ends:
                break
    if quarantine.keys:
        _say(world, f"bad samples: {len(quarantine.keys)} gave way to others; see {out / 'quarantine.jsonl'}")
    distributed.meet()  # nobody leaves before all is saved: torchrun ends the others when one has
    stopped = stops and step < steps
    if world.leads:
        probe = "linear" if len(split.dataset.splits) > 1 else "crossmodal"
        _farewell(stop if stopped else None, step, steps, out, probe=probe)
    return STOPPED if stopped else DONE


def _built(parsed: Parsed[Settings], split: stream.Split, world: World, *, fresh: bool) -> Built:
    """The model on its device; a `fresh` one with the weights that the run begins with."""
    settings = parsed.settings
    built = run.build(parsed, run.data_of(split))
    built.view.check(split.dataset, built.view_settings)
    if settings.init is not None and fresh:
        _say(world, f"init: {checkpoint.load_common(_checkpoint_of(settings.init), built.model)}")
    few = settings.batch < FEW * world.size * settings.accumulate
    if settings.sync_bn == "on" or (settings.sync_bn == "auto" and few):
        distributed.synchronise(built.model)
    model = built.model.to(world.device)
    if settings.channels_last:
        model.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    return built


def _checkpoint_of(place: Path) -> Path:
    """The last checkpoint of a run, or the checkpoint that a path names."""
    if (place / "state.json").is_file():
        return place
    run.read_facts(place)
    return checkpoint.find(place / "checkpoints", "last")


def _check_ranks(parsed: Parsed[Settings], state: Mapping[str, Any], model: nn.Module, reached: Reached) -> None:
    """See that all ranks begin with the same: raises RunError that names what differs."""
    told = {name: value for name, value in run.flat(yaml.safe_load(parsed.text)).items() if name not in OWN}
    so_far = {"reached": [reached.step, asdict(reached.plateau), reached.best], "code": _versions()}
    facts = {name: json.dumps(value) for name, value in {**told, **state, **so_far}.items()}
    distributed.check_equal({**facts, "weights": distributed.digest(model)})


def _rate(optim: Optim, step: int, steps: int, plateau: Plateau) -> float:
    rate = learning_rate(
        step,
        base=optim.lr,
        steps=steps,
        warmup_steps=min(optim.warmup_steps, steps),
        kind=optim.schedule,
        final_share=optim.final_share,
    )
    return max(rate * optim.cut**plateau.cuts, min(rate, optim.least_lr)) if plateau.cuts else rate


def _seed(seed: int, step: int, rank: int) -> int:
    return int(np.random.SeedSequence([seed, step, rank]).generate_state(1)[0])


def _window(settings: Settings, split: stream.Split, out: Path) -> int | None:
    """Shards that are shuffled together: a run that goes on keeps its own, however much the cache holds now."""
    last = checkpoint.latest(out / "checkpoints")
    if settings.window is None and last is not None:
        kept = checkpoint.read_state(last).get("window")
        return kept if isinstance(kept, int) else None
    return run.window(settings, split)


def _state(parsed: Parsed[Settings], facts: Mapping[str, Any]) -> dict[str, Any]:
    """All that decides what the next step sees, besides the step: with it a resume is exact."""
    told, chosen = run.flat(yaml.safe_load(parsed.text)), parsed.settings
    idle = set(parsed.groups).difference((chosen.method, chosen.backbone, chosen.view))
    decisive = {name: value for name, value in told.items() if name not in FREE and name.partition(".")[0] not in idle}
    return {**decisive, "fingerprint": facts["fingerprint"], "data_recipe": facts["data_recipe"]}


def _resume(
    out: Path,
    parsed: Parsed[Settings],
    wanted: Mapping[str, Any],
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    world: World,
) -> Reached:
    """Fill model and optimiser from the last checkpoint; returns how far it was."""
    path = checkpoint.latest(out / "checkpoints")
    if path is None:
        return Reached()
    if parsed.settings.resume == "none":
        raise RunError(f"{out}: holds a run at {path.name}; choose another --out, or go on with --resume auto")
    state = checkpoint.read_state(path)
    for name, value in wanted.items():
        if state.get(name) == value:
            continue
        if parsed.settings.resume != "anyway":
            raise RunError(
                f"{path}: was trained with {name} {state.get(name)}, not {value}; choose another --out, the same {name}, or "
                "--resume anyway"
            )
        _say(world, f"resumed with {name} {value}, where it was {state.get(name)}")
    checkpoint.load_model(path, model)
    checkpoint.load_optimizer(path, model, optimizer)
    _say(world, f"resumed: {path}")
    return Reached(
        step=int(state["step"]), plateau=Plateau(**state["plateau"]), best=state["best"], scaler=state["scaler"]
    )


def _check_weights(model: nn.Module, step: int) -> None:
    """Raise RunError, on every rank alike, before weights that are no numbers are saved."""
    largest = torch.stack([parameter.detach().abs().amax() for parameter in model.parameters()]).amax()
    if not largest.isfinite():
        raise RunError(f"step {step}: weights not finite; lower --optim.lr (the last checkpoint is kept)")


def _keep(
    folder: Path,
    step: int,
    batch: Mapping[str, Tensor],
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    split: stream.Split,
    world: World,
) -> Path:
    """Keep what the update after `step` would have been made from: weights, optimiser, and each rank's batch with its keys."""
    arrays = {name: value.detach().cpu().contiguous() for name, value in batch.items()}
    keys = {"keys": json.dumps([split.key(number) for number in arrays["number"].tolist()])}
    data = safetensors.torch.save(arrays, metadata=keys)
    files.write_bytes(folder / f"batch-{world.rank}-of-{world.size}.safetensors", data)
    if world.leads:
        checkpoint.save(folder, step, model=model, optimizer=optimizer, state={}, keep=1)
    distributed.meet()  # nobody leaves before all is kept
    return folder


def _farewell(stop: Stop | None, step: int, steps: int, out: Path, *, probe: str) -> None:
    path = checkpoint.latest(out / "checkpoints")
    if stop is not None:
        by = stop.by.name if stop.by else "a signal to another rank"
        print(f"stopped by {by} at step {step} of {steps}; saved {path}")
    else:
        print(f"trained: {steps} steps\ncheckpoint: {path}\nnext: ks-eval {probe} --run {out}")


def _versions() -> dict[str, str]:
    return {"kinetics-sounds": __version__, "torch": torch.__version__, "python": sys.version.split()[0]}


def list_recipes() -> str:
    """Every recipe with its head."""
    told = ["\n".join([name, *(f"    {line}" for line in recipe.head)]) for name, recipe in run.recipes().items()]
    return "\n\n".join([*told, UNTRIED])


if __name__ == "__main__":
    sys.exit(main())
