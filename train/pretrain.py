"""ks-train: the loop. Shards in, checkpoints out; killed at any moment, it goes on from the last checkpoint exactly."""

import contextlib
import json
import logging
import signal
import sys
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from torch import Tensor

from kinetics_sounds import files, progress, stream
from kinetics_sounds.address import Address
from kinetics_sounds.errors import RunError, SettingsError
from kinetics_sounds.settings import DONE, STOPPED, Parsed, Stop, command, stoppable

from . import bench, checkpoint, distributed, launch, loader, optim, resume, run
from .distributed import World
from .learner import Learner, make_learner
from .metrics import Metrics
from .optim import Optim
from .quarantine import Quarantine
from .resume import Reached
from .run import Settings
from .schedule import Plateau, learning_rate
from .updates import NotFiniteError
from .validate import validate

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
        print(list_recipes([name for config in parsed.configs if (name := run.recipe_name(config)) in run.recipes()]))
        return DONE
    if parsed.settings.devices > 1 and not launch.is_rank():
        run.check_devices(parsed.settings)
        return launch.ranks(pretrain, argv, devices=parsed.settings.devices, prog="ks-train")
    with distributed.start(run.pick_device(parsed.settings.device)) as world:
        return _pretrain(argv, parsed, world)


def _pretrain(argv: Sequence[str], parsed: Parsed[Settings], world: World) -> int:
    """As one rank of the world."""
    if told := run.told_by_config(argv, parsed):
        world.say(told.rstrip())
    shards = run.find_shards(parsed.settings, parsed.configs)
    split = run.open_split(parsed.settings, shards, parsed.settings.train_split)
    named = bool(parsed.configs)
    if not named:
        recipe = run.recipe_for(split.dataset.classes)
        world.say(f"recipe: {recipe} (the recommended one; see --list)")
        argv = ["--config", recipe, *argv]
        parsed = run.read(argv)
    name = run.recipe_name(parsed.configs[-1])
    asked, there = run.classes_of(name), split.dataset.classes
    if world.leads and named and parsed.settings.init is None and asked not in (None, there):
        log.warning("the recipe %s is for %s, these shards are of %s", name, asked, there)
    out = parsed.settings.out or Path("runs") / name
    window = resume.window(parsed.settings, split, out)
    chosen = [f"--shards={shards.real}", f"--out={out}", *([f"--window={window}"] if window else [])]
    parsed = run.read([*argv, *chosen])  # so that config.yaml says the same again
    settings = parsed.settings
    note = f" ({split.dataset.note})" if split.dataset.note else ""
    of = f"{split.name}: {len(split)} samples of {split.dataset.classes}{note}"
    world.say(f"shards: {shards}, {of}\nout: {out}")
    if settings.window is not None:
        world.say(f"window: samples are shuffled among {settings.window} shards at a time (--window, --cache_gb)")
    val = run.open_split(settings, shards, settings.val_split) if settings.val_split else None
    _check(settings, split, val, shards, world)
    with files.exclusive(out, command="ks-train") if world.leads else contextlib.nullcontext():
        if world.leads:
            files.clear(out, "config.yaml", "run.json", "metrics.jsonl", "quarantine.jsonl")
        return _train(parsed, split, val, world, shards=shards, out=out, recipe=name)


def _check(settings: Settings, split: stream.Split, val: stream.Split | None, shards: Address, world: World) -> None:
    """Raise SettingsError for what cannot be of this split, or in this world."""
    if settings.batch > len(split):
        raise SettingsError(
            f"--batch {settings.batch}: is larger than the split {split.name!r} of {shards}, "
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


def _train(
    parsed: Parsed[Settings],
    split: stream.Split,
    val: stream.Split | None,
    world: World,
    *,
    shards: Address,
    out: Path,
    recipe: str,
) -> int:
    settings = parsed.settings
    learner = make_learner(parsed, split, world)
    facts = run.facts(split, recipe=recipe, shards=shards, versions=resume.versions())
    decisive = resume.decisive(parsed, facts)
    reached = resume.restore(out, parsed, decisive, learner, world)
    resume.check_ranks(parsed, decisive, learner.built.model, reached)
    if world.leads:  # what the last save of a run that met a fault did not come to
        checkpoint.tidy(out / "checkpoints", keep=settings.keep, best=reached.best_step)
    its = _Run(
        settings=settings,
        split=split,
        val=val,
        world=world,
        out=out,
        learner=learner,
        decisive=decisive,
        steps=settings.steps or settings.epochs * (len(split) // settings.batch),
    )
    if reached.step >= its.steps:
        last = checkpoint.latest(out / "checkpoints")
        world.say(f"trained: {reached.step} steps are done already; checkpoint: {last}")
        return DONE
    if reached.of_steps not in (None, its.steps) and settings.optim.schedule == "cosine":
        world.say(
            f"schedule: {its.steps} steps now, {reached.of_steps} before: learning rates from here on are those of the new "
            "length; the run is like none of either length"
        )
    if world.leads:
        files.write_bytes(out / "config.yaml", parsed.text.replace("\nresume: anyway\n", "\nresume: auto\n").encode())
        files.write_bytes(out / "run.json", (json.dumps(facts, indent=2) + "\n").encode())
    step, stop = _learn(its, reached)
    distributed.meet()  # nobody leaves before all is saved: torchrun ends the others when one has
    _farewell(its, step, stop)
    return DONE if step == its.steps else STOPPED


@dataclass(frozen=True, slots=True, kw_only=True)
class _Run:
    """A run as one rank sees it."""

    settings: Settings
    split: stream.Split
    val: stream.Split | None
    world: World
    out: Path
    learner: Learner
    decisive: Mapping[str, Any]
    """What a checkpoint says that a run which goes on from it must have the same."""
    steps: int

    @property
    def per_epoch(self) -> int:
        """Steps."""
        return len(self.split) // self.settings.batch

    @property
    def loading(self) -> loader.Loading:
        """How batches come."""
        return run.loading(self.settings, self.world.device)


def _learn(its: _Run, reached: Reached) -> tuple[int, Stop]:
    """All steps that are left, or those until a signal; returns the last one, which is saved, and the signal."""
    settings, world, model, updates = its.settings, its.world, its.learner.built.model, its.learner.updates
    step = reached.step
    quarantine = Quarantine(
        its.out / "quarantine.jsonl", its.split, most_share=settings.max_bad_share, writes=world.leads
    )
    with (
        stoppable(signal.SIGINT, signal.SIGTERM, signal.SIGUSR1) as stop,
        _batches(its, step, quarantine) as batches,
        Metrics(its.out if world.leads else None, first_step=step) as metrics,
        progress.bar("ks-train", its.steps, done=step, shown=world.leads) as bar,
    ):
        for batch in metrics.timed(batches):
            rate = _rate(settings.optim, step, its.steps, reached.plateau)
            optim.set_rate(its.learner.optimizer, rate)
            torch.manual_seed(_seed(settings.seed, step, world.rank))  # of dropout: a resumed run drops the same
            try:
                outcome = updates(batch)
            except NotFiniteError as error:
                raise _not_finite(its, step, batch, error) from error
            step += 1
            metrics.count(settings.batch)
            bar.advance(note=metrics.note)
            ends = distributed.any_rank(bool(stop)) or step == its.steps
            saves = ends or step % settings.save_every == 0
            if saves or step % settings.log_every == 0:
                quarantine.share()
                logs = {name: float(value) for name, value in outcome.logs.items()}
                metrics.write(step, {**logs, "lr": rate, "epoch": step / its.per_epoch, **batches.account()})
            judges = its.val if step % its.per_epoch == 0 else None
            if judges or saves:
                # The statistics of batch norms that are not synchronised: it is one model that is judged and saved.
                distributed.broadcast_buffers(model)
            if judges:
                reached = _validated(its, judges, step, reached, metrics)
            if saves or reached.best_step == step:
                _save(its, step, reached)
            if ends:
                break
    if quarantine.keys:
        world.say(f"bad samples: {len(quarantine.keys)} gave way to others; see {its.out / 'quarantine.jsonl'}")
    return step, stop


def _batches(its: _Run, first_step: int, quarantine: Quarantine) -> AbstractContextManager[loader.Batches]:
    """Of all steps that are left, the part of this rank."""
    settings, built = its.settings, its.learner.built
    samples = loader.Samples(
        split=its.split, view=built.view.__name__, settings=built.view_settings, seed=settings.seed
    )
    order = loader.Order(
        split=its.split,
        batch=settings.batch,
        seed=settings.seed,
        first_step=first_step,
        steps=its.steps,
        window=settings.window,
        rank=its.world.rank,
        ranks=its.world.size,
    )
    return loader.train_batches(samples, order, loading=its.loading, quarantine=quarantine)


def _validated(its: _Run, val: stream.Split, step: int, reached: Reached, metrics: Metrics) -> Reached:
    """After judging the model on the split that it does not learn from."""
    values = validate(
        its.learner.built,
        val,
        batch=its.settings.batch,
        updates=its.learner.updates,
        loading=its.loading,
        world=its.world,
    )
    metrics.validated(step, values)
    return reached.after(values, step=step, optim=its.settings.optim)


def _save(its: _Run, step: int, reached: Reached) -> None:
    """A checkpoint; raises RunError, on every rank alike, before weights that are no numbers are saved."""
    model = its.learner.built.model
    largest = torch.stack([parameter.detach().abs().amax() for parameter in model.parameters()]).amax()
    if not largest.isfinite():
        raise RunError(
            f"step {step}: weights not finite, not saved; begin anew in another --out with a lower --optim.lr (--init takes the "
            "weights of a checkpoint from before)"
        )
    if its.world.leads:
        checkpoint.save(
            its.out / "checkpoints",
            step,
            model=model,
            optimizer=its.learner.optimizer,
            state={**its.decisive, **reached.state(its.learner.updates), "of_steps": its.steps},
            keep=its.settings.keep,
            best=reached.best_step,
        )


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


def _not_finite(its: _Run, step: int, batch: Mapping[str, Tensor], error: NotFiniteError) -> RunError:
    """Keep what the update after `step` would have been made from: weights, optimiser, each rank's batch with its keys."""
    folder, world = its.out / "failed", its.world
    arrays = {name: value.detach().cpu().contiguous() for name, value in batch.items()}
    keys = {"keys": json.dumps([its.split.key(number) for number in arrays["number"].tolist()])}
    data = safetensors.torch.save(arrays, metadata=keys)
    files.write_bytes(folder / f"batch-{world.rank}-of-{world.size}.safetensors", data)
    if world.leads:
        learner = its.learner
        checkpoint.save(folder, step, model=learner.built.model, optimizer=learner.optimizer, state={}, keep=1)
    distributed.meet()  # nobody leaves before all is kept
    return RunError(
        f"step {step + 1}: {error} not finite; what led here is in {folder}; begin anew in another --out with a lower --optim.lr "
        "(--init takes the weights of a checkpoint from before)"
    )


def _farewell(its: _Run, step: int, stop: Stop) -> None:
    path = checkpoint.latest(its.out / "checkpoints")
    if step < its.steps:
        by = stop.by.name if stop.by else "a signal to another rank"
        its.world.say(f"stopped by {by} at step {step} of {its.steps}; saved {path}")
    else:
        probe = "linear" if len(its.split.dataset.splits) > 1 else "crossmodal"
        its.world.say(f"trained: {step} steps\ncheckpoint: {path}")
        if its.settings.method != "supervised":  # that one is judged by whoever fine-tunes with it
            its.world.say(f"next: ks-eval {probe} --run {its.out}")


def list_recipes(only: Sequence[str] = ()) -> str:
    """Every recipe with its head, or `only` these."""
    told = [
        "\n".join([name, *(f"    {line}" for line in recipe.head)])
        for name, recipe in run.recipes().items()
        if not only or name in only
    ]
    return "\n\n".join([*told, UNTRIED])


if __name__ == "__main__":
    sys.exit(main())
