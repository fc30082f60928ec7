"""The training loop: steps, validations, checkpoints, and the end that a signal asks for."""

import dataclasses
import json
import signal
from collections.abc import Mapping
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
from kinetics_sounds.command import DONE, STOPPED, Stop, stoppable
from kinetics_sounds.errors import RunError, SettingsError
from kinetics_sounds.settings import Parsed

from ..config import run_folder
from ..config.settings import TrainSettings
from ..data import fetcher, loader, sampler
from ..data.bad_samples import BadSampleLog
from ..distributed import collectives
from ..distributed.process_group import World
from ..interface import Data, Moment
from ..optim import optimizer
from . import build, checkpoint, resume
from .metrics import Metrics
from .probing import Probing, probe, say
from .resume import TrainProgress
from .setup import TrainComponents, make_components
from .step import NotFiniteError
from .validate import validate


def train(
    parsed: Parsed[TrainSettings],
    split: stream.Split,
    val: stream.Split | None,
    world: World,
    *,
    shards: Address,
    out: Path,
    recipe: str,
) -> int:
    """Train until the last step or a signal, as one rank; returns the exit code."""
    settings = parsed.settings
    data = run_folder.data_of(split, settings)
    learner = make_components(parsed, split, data, world, norms_before=resume.norm_samples(out))
    if val is not None and not learner.built.method.validates and settings.probe_every is None:
        raise SettingsError(
            f"--val_split {settings.val_split}: --method {settings.method} has no loss for clips that it is not trained on; "
            "leave --val_split out, or look at its features there with --probe_every"
        )
    facts = run_folder.facts(split, data, recipe=recipe, shards=shards, versions=resume.versions())
    decisive = resume.resume_invariants(parsed, facts)
    reached = resume.restore(out, parsed, decisive, learner, world, facts=facts)
    resume.check_ranks(parsed, decisive, learner.built.method, reached)
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
        data=data,
    )
    if reached.step >= its.steps:
        last = checkpoint.latest(out / "checkpoints")
        world.say(f"trained: {reached.step} steps are done already; checkpoint: {last}")
        return DONE
    schedules = {settings.optim.schedule, *settings.optim.schedules.values()}
    bends = learner.built.method.follows_steps or not schedules.isdisjoint(("cosine", "multistep"))
    if reached.of_steps not in (None, its.steps) and bends:
        world.say(
            f"schedule: {its.steps} steps now, {reached.of_steps} before: rates from here on are those of the new length; the "
            "run is like none of either length"
        )
    if world.leads:
        files.write_bytes(out / "config.yaml", parsed.text.replace("\nresume: anyway\n", "\nresume: auto\n").encode())
        files.write_bytes(out / "run.json", (json.dumps(facts, indent=2) + "\n").encode())
    step, stop = _learn(its, reached)
    collectives.barrier()  # nobody leaves before all is saved: torchrun ends the others when one has
    _farewell(its, step, stop)
    return DONE if step == its.steps else STOPPED


@dataclass(frozen=True, slots=True, kw_only=True)
class _Run:
    """A run as one rank sees it."""

    settings: TrainSettings
    split: stream.Split
    val: stream.Split | None
    world: World
    out: Path
    learner: TrainComponents
    decisive: Mapping[str, Any]
    """What a checkpoint says that a run which goes on from it must have the same."""
    data: Data

    @property
    def steps(self) -> int:
        """Of the whole run."""
        return self.data.steps

    @property
    def per_epoch(self) -> int:
        """Steps."""
        return self.data.steps_per_epoch

    def moment(self, step: int) -> Moment:
        """Where the update after `step` updates lies."""
        return Moment(seed=self.settings.seed, step=step, epoch=step // self.per_epoch)

    @property
    def loading(self) -> loader.Loading:
        """How batches come."""
        return build.loading(self.settings, self.world.device)


def _learn(its: _Run, reached: TrainProgress) -> tuple[int, Stop]:
    """All steps that are left, or those until a signal; returns the last one, which is saved, and the signal."""
    settings, world, model, updates = its.settings, its.world, its.learner.built.method, its.learner.updates
    step, labels = reached.step, torch.from_numpy(its.split.label_index_N)
    quarantine = BadSampleLog(
        its.out / "quarantine.jsonl", its.split, most_share=settings.max_bad_share, writes=world.leads
    )
    with (
        stoppable(signal.SIGINT, signal.SIGTERM, signal.SIGUSR1) as stop,
        _batches(its, step, quarantine) as batches,
        _metrics(its, step) as metrics,
        progress.bar("ks-train", its.steps, done=step, shown=world.leads) as bar,
    ):
        if step == 0:
            reached = _probed(its, step, reached, metrics)
        for batch in metrics.timed(batches):
            if step % its.per_epoch == 0:
                with metrics.paused():
                    model.on_epoch(its.moment(step), labels)
            rates = optimizer.rates(settings.optim, step, steps=its.steps, plateau=reached.plateau)
            optimizer.set_rates(its.learner.optimizer, rates)
            torch.manual_seed(_seed(settings.seed, step, world.rank))  # of dropout: a resumed run drops the same
            try:
                outcome = updates(batch, its.moment(step))
            except NotFiniteError as error:
                raise _not_finite(its, step, batch, error) from error
            step += 1
            metrics.count(settings.batch)
            bar.advance(note=metrics.note)
            ends = collectives.all_reduce_any(bool(stop)) or step == its.steps
            saves = ends or step % settings.save_every == 0
            if saves or step % settings.log_every == 0:
                quarantine.share()
                logs = {name: float(value) for name, value in outcome.logs.items()}
                metrics.write(
                    step,
                    {**logs, "lr": rates[settings.optim.schedule], "epoch": step / its.per_epoch, **batches.account()},
                )
            judges = its.val if step % its.per_epoch == 0 and model.validates else None
            probes = settings.probe_every is not None and (step % settings.probe_every == 0 or step == its.steps)
            if judges or saves or probes:
                # The statistics of batch norms that are not synchronised: it is one model that is judged and saved.
                collectives.broadcast_buffers(model, but=model.REPLICATED)
            if judges:
                reached = _validated(its, judges, step, reached, metrics)
            if probes:
                reached = _probed(its, step, reached, metrics)
            if saves or reached.best_step == step:
                _save(its, step, reached)
            if ends:
                break
    if quarantine.keys:
        world.say(f"bad samples: {len(quarantine.keys)} gave way to others; see {its.out / 'quarantine.jsonl'}")
    return step, stop


def _metrics(its: _Run, step: int) -> Metrics:
    """What is told of the steps after this one."""
    return Metrics(
        its.out if its.world.leads else None,
        first_step=step,
        track=its.settings.track,
        facts=its.decisive,
        utilization=its.learner.utilization,
    )


def _batches(its: _Run, first_step: int, quarantine: BadSampleLog) -> AbstractContextManager[loader.Batches]:
    """Of all steps that are left, the part of this rank."""
    settings, built = its.settings, its.learner.built
    samples = fetcher.Samples(
        split=its.split, view=built.view.__name__, settings=built.view_settings, seed=settings.seed
    )
    order = sampler.Order(
        split=its.split,
        batch=settings.batch,
        seed=settings.seed,
        first_step=first_step,
        steps=its.steps,
        window=settings.window,
        accumulate=settings.accumulate,
        rank=its.world.rank,
        ranks=its.world.size,
    )
    return loader.train_batches(samples, order, loading=its.loading, quarantine=quarantine)


def _validated(its: _Run, val: stream.Split, step: int, reached: TrainProgress, metrics: Metrics) -> TrainProgress:
    """After judging the model on the split that it does not learn from."""
    values = validate(
        its.learner.built,
        val,
        its.moment(step - 1),  # of the epoch that has ended
        batch=its.settings.batch,
        updates=its.learner.updates,
        loading=its.loading,
        world=its.world,
    )
    metrics.validated(step, values)
    return reached.after(values, step=step, optim=its.settings.optim)


def _probed(its: _Run, step: int, reached: TrainProgress, metrics: Metrics) -> TrainProgress:
    """After a look at the features, where that is asked for. A method without a loss for other clips is judged by it."""
    settings, built = its.settings, its.learner.built
    if settings.probe_every is None or its.val is None:
        return reached
    asked = Probing(
        name=settings.probe,
        fit=its.split,
        on=its.val,
        samples=settings.probe_samples,
        batch=settings.batch,
        max_bad_share=settings.max_bad_share,
    )
    values = probe(built, asked, updates=its.learner.updates, loading=its.loading, world=its.world)
    metrics.validated(step, values)
    first = reached.first_probe or (values if step == 0 else None)
    say(step, values, first, its.world)
    reached = dataclasses.replace(reached, first_probe=first)
    if step and not built.method.validates:
        return reached.after({"val_top1": values["probe_top1"]}, step=step, optim=settings.optim)
    return reached


def _save(its: _Run, step: int, reached: TrainProgress) -> None:
    """A checkpoint; raises RunError, on every rank alike, before weights that are no numbers are saved."""
    model = its.learner.built.method
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
            state={**its.decisive, **reached.state(its.learner), "of_steps": its.steps},
            keep=its.settings.keep,
            best=reached.best_step,
        )


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
        checkpoint.save(folder, step, model=learner.built.method, optimizer=learner.optimizer, state={}, keep=1)
    collectives.barrier()  # nobody leaves before all is kept
    return RunError(
        f"step {step + 1}: {error} not finite; what led here is in {folder}; begin anew in another --out with a lower --optim.lr "
        "(--init takes the weights of a checkpoint from before)"
    )


def _farewell(its: _Run, step: int, stop: Stop) -> None:
    path = checkpoint.latest(its.out / "checkpoints")
    if step < its.steps:
        by = str(stop) if stop else "a signal to another rank"
        its.world.say(f"stopped by {by} at step {step} of {its.steps}; saved {path}")
    else:
        probe = "linear" if len(its.split.dataset.splits) > 1 else "crossmodal"
        its.world.say(f"trained: {step} steps\ncheckpoint: {path}")
        if its.settings.method not in ("supervised", "layerwise"):  # which are judged by whoever trains with them
            its.world.say(f"next: ks-eval {probe} --run {its.out}")
