"""The training loop: steps, validation, checkpoints, and a clean stop on a signal."""

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
from ..distributed import collectives, devices
from ..distributed.process_group import World
from ..interface import Data, Moment
from ..optim import optimizer
from . import build, checkpoint, resume
from .forecast import format_forecast
from .metrics import Metrics
from .probing import Probing, probe, report
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
    """Train until the last step or a stop signal, as one rank; return the exit code."""
    settings = parsed.settings
    data = run_folder.data_of(split, settings)
    components = make_components(parsed, split, data, world, norms_before=resume.norm_samples(out))
    if val is not None and not components.bundle.method.validates and settings.probe_every is None:
        raise SettingsError(
            f"--val_split {settings.val_split}: --method {settings.method} has no loss on clips that it was not trained on; "
            "leave --val_split out, or look at its features there with --probe_every"
        )
    if settings.probe_every is not None and None in _inputs(components):
        raise SettingsError(
            "--probe_every: probes need picture and sound, and these shards or this view have one of them"
        )
    facts = run_folder.facts(split, data, recipe=recipe, shards=shards, versions=resume.versions())
    invariants = resume.resume_invariants(parsed, facts)
    reached = resume.restore(out, parsed, invariants, components, world, facts=facts)
    resume.check_ranks(parsed, invariants, components.bundle.method, reached)
    if world.is_main:  # cleanup that an interrupted save did not finish
        checkpoint.tidy(out / "checkpoints", keep=settings.keep, best=reached.best_step)
    its = _Run(
        settings=settings,
        split=split,
        val=val,
        world=world,
        out=out,
        components=components,
        invariants=invariants,
        data=data,
    )
    if reached.step >= its.steps:
        last = checkpoint.latest(out / "checkpoints")
        fewer = f" ({its.steps} are asked for: give another --out to train these)" if its.steps < reached.step else ""
        world.print_main(f"trained: {reached.step} steps were done already{fewer}; checkpoint: {last}")
        return DONE
    _say_if_rates_change(its, reached)
    reached = _computing_here(its, resume.selected_on(reached, settings.val_split, world))
    facts |= {resume.COMPUTED_ON: reached.computed_on, **reached.history}
    if world.is_main:
        files.write_bytes(out / "config.yaml", run_folder.config_text(parsed).encode())
        files.write_bytes(out / "run.json", (json.dumps(facts, indent=2) + "\n").encode())
    method, per_epoch = components.bundle.method, its.per_epoch
    world.print_main(
        format_forecast(method, settings.optim, steps=its.steps, steps_per_epoch=per_epoch, keep=settings.keep, out=out)
    )
    step, stop = _learn(its, reached)
    collectives.barrier()  # wait until everything is saved: torchrun stops all ranks when one exits
    _print_summary(its, step, stop)
    return DONE if step == its.steps else STOPPED


def _inputs(components: TrainComponents) -> tuple[object, object]:
    """Shapes of the video and the audio that the view gives; None for none."""
    built = components.bundle
    given = built.view.inputs(built.view_settings)
    return given.video, given.audio


@dataclass(frozen=True, slots=True, kw_only=True)
class _Run:
    """A run, as seen by one rank."""

    settings: TrainSettings
    split: stream.Split
    val: stream.Split | None
    world: World
    out: Path
    components: TrainComponents
    invariants: Mapping[str, Any]
    """Settings and facts in state.json that must be equal on resume."""
    data: Data

    @property
    def steps(self) -> int:
        """Optimizer steps of the whole run."""
        return self.data.steps

    @property
    def per_epoch(self) -> int:
        """Optimizer steps per epoch."""
        return self.data.steps_per_epoch

    def moment(self, step: int) -> Moment:
        """Position of the optimizer step that follows `step` completed ones."""
        return Moment(seed=self.settings.seed, step=step, epoch=step // self.per_epoch)

    @property
    def loading(self) -> loader.Loading:
        """Data-loading options."""
        return build.loading(self.settings, self.world.device)


def _computing_here(its: _Run, reached: TrainProgress) -> TrainProgress:
    """Progress with this rank's device in `computed_on`; prints a line if it is another one than before."""
    here, before = devices.computes_on(its.world.device), reached.computed_on
    if before and before[-1] != here:
        its.world.print_main(f"computed on {here} from here on (was {before[-1]}): the last digits can differ")
    return reached if before[-1:] == (here,) else dataclasses.replace(reached, computed_on=(*before, here))


def _say_if_rates_change(its: _Run, reached: TrainProgress) -> None:
    """Say so if a run goes on with another number of steps, and its learning rates depend on it."""
    optim, before = its.settings.optim, reached.of_steps
    if before in (None, its.steps):
        return
    schedules = {optim.schedule, *optim.schedules.values()}
    bends = its.components.bundle.method.follows_steps or not schedules.isdisjoint(("cosine", "multistep"))
    if bends or (schedules != {"fixed"} and min(before, its.steps) < optim.warmup_steps):
        its.world.print_main(
            f"schedule: {its.steps} steps now, {before} before; learning rates follow the new length from here on, so "
            "the run equals neither"
        )


def _learn(its: _Run, reached: TrainProgress) -> tuple[int, Stop]:
    """Run the remaining steps or until a signal; return the last step, which is saved, and the signal."""
    settings, world = its.settings, its.world
    model, train_step = its.components.bundle.method, its.components.train_step
    step, shown, labels = reached.step, "", torch.from_numpy(its.split.label_index_N)
    bad_log = BadSampleLog(
        its.out / "quarantine.jsonl", its.split, max_bad_fraction=settings.max_bad_fraction, writes=world.is_main
    )
    with (
        stoppable(signal.SIGINT, signal.SIGTERM, signal.SIGUSR1) as stop,
        _batches(its, step, bad_log) as batches,
        _metrics(its, step) as metrics,
        progress.bar("ks-train", its.steps, done=step, shown=world.is_main) as bar,
    ):
        if step == 0:
            reached = _probed(its, step, reached, metrics)
        for batch in metrics.timed(batches):
            if step % its.per_epoch == 0:
                with metrics.paused():
                    model.on_epoch(its.moment(step), labels)
            rates = optimizer.rates(settings.optim, step, steps=its.steps, plateau=reached.plateau)
            optimizer.set_rates(its.components.optimizer, rates)
            torch.manual_seed(
                _seed(settings.seed, step, world.rank)
            )  # seed of dropout, so that a resumed run is identical
            try:
                outcome = train_step(batch, its.moment(step))
            except NotFiniteError as error:
                raise _not_finite(its, step, batch, error) from error
            step += 1
            metrics.count(settings.batch)
            shown = metrics.note
            bar.advance(note=shown)
            ends = collectives.all_reduce_any(bool(stop)) or step == its.steps
            saves = ends or step % settings.save_every == 0
            if saves or step % settings.log_every == 0:
                bad_log.merge()
                logs = {name: float(value) for name, value in outcome.logs.items()}
                metrics.write(
                    step,
                    {**logs, "lr": rates[settings.optim.schedule], "epoch": step / its.per_epoch, **batches.account()},
                )
            judges = its.val if step % its.per_epoch == 0 and model.validates else None
            probes = settings.probe_every is not None and (step % settings.probe_every == 0 or step == its.steps)
            if judges or saves or probes:
                # Running statistics of unsynchronized batch norms: validate and save one model.
                collectives.broadcast_buffers(model, but=model.REPLICATED)
            if judges:
                reached = _validated(its, judges, step, reached, metrics)
            if probes:
                reached = _probed(its, step, reached, metrics)
            if saves or reached.best_step == step:
                _save(its, step, reached)
            if ends:
                break
    if not shown:  # no metrics before those of the last step
        world.print_main(f"step {step}: {metrics.note}")
    if bad_log.keys:
        world.print_main(f"bad samples: {len(bad_log.keys)} were replaced; see {its.out / 'quarantine.jsonl'}")
    return step, stop


def _metrics(its: _Run, step: int) -> Metrics:
    """Open the metrics of the steps after this one."""
    return Metrics(
        its.out if its.world.is_main else None,
        first_step=step,
        track=its.settings.track,
        facts=its.invariants,
        utilization=its.components.utilization,
    )


def _batches(its: _Run, first_step: int, bad_log: BadSampleLog) -> AbstractContextManager[loader.Batches]:
    """Iterate over this rank's part of the remaining batches."""
    settings, built = its.settings, its.components.bundle
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
        grad_accum_steps=settings.grad_accum_steps,
        rank=its.world.rank,
        ranks=its.world.size,
    )
    return loader.train_batches(samples, order, loading=its.loading, bad_log=bad_log)


def _validated(its: _Run, val: stream.Split, step: int, reached: TrainProgress, metrics: Metrics) -> TrainProgress:
    """Progress after validating the model."""
    values = validate(
        its.components.bundle,
        val,
        its.moment(step - 1),  # the epoch that has ended
        batch=its.settings.batch,
        train_step=its.components.train_step,
        loading=its.loading,
        world=its.world,
    )
    metrics.validated(step, values)
    return reached.after(values, step=step, optim=its.settings.optim, split=val.name)


def _probed(its: _Run, step: int, reached: TrainProgress, metrics: Metrics) -> TrainProgress:
    """Progress after a probe, if one is due. Methods without a validation loss are selected by the probe."""
    settings, built = its.settings, its.components.bundle
    if settings.probe_every is None or its.val is None:
        return reached
    asked = Probing(
        name=settings.probe,
        fit=its.split,
        on=its.val,
        samples=settings.probe_samples,
        batch=settings.batch,
        max_bad_fraction=settings.max_bad_fraction,
    )
    values = probe(built, asked, train_step=its.components.train_step, loading=its.loading, world=its.world)
    metrics.validated(step, values)
    first = reached.first_probe or (values if step == 0 else None)
    report(step, values, first, its.world)
    reached = dataclasses.replace(reached, first_probe=first)
    if step and not built.method.validates:
        return reached.after({"val_top1": values["probe_top1"]}, step=step, optim=settings.optim, split=its.val.name)
    return reached


def _save(its: _Run, step: int, reached: TrainProgress) -> None:
    """Save a checkpoint; raise RunError on every rank if weights are not finite."""
    model = its.components.bundle.method
    largest = torch.stack([parameter.detach().abs().amax() for parameter in model.parameters()]).amax()
    if not largest.isfinite():
        raise RunError(
            f"step {step}: weights not finite, not saved; start again with another --out and a lower --optim.lr (--init_from "
            "loads the weights of an earlier checkpoint)"
        )
    if its.world.is_main:
        checkpoint.save(
            its.out / "checkpoints",
            step,
            model=model,
            optimizer=its.components.optimizer,
            state={**its.invariants, **reached.state(its.components), "of_steps": its.steps},
            keep=its.settings.keep,
            best=reached.best_step,
        )


def _seed(seed: int, step: int, rank: int) -> int:
    return int(np.random.SeedSequence([seed, step, rank]).generate_state(1)[0])


def _not_finite(its: _Run, step: int, batch: Mapping[str, Tensor], error: NotFiniteError) -> RunError:
    """Save weights, optimizer and each rank's batch of a step with a non-finite loss, for debugging."""
    folder, world = its.out / "failed", its.world
    arrays = {name: value.detach().cpu().contiguous() for name, value in batch.items()}
    keys = {"keys": json.dumps([its.split.key(number) for number in arrays["index"].tolist()])}
    data = safetensors.torch.save(arrays, metadata=keys)
    files.write_bytes(folder / f"batch-{world.rank}-of-{world.size}.safetensors", data)
    if world.is_main:
        components = its.components
        checkpoint.save(folder, step, model=components.bundle.method, optimizer=components.optimizer, state={}, keep=1)
    collectives.barrier()  # wait until everything is saved
    return RunError(
        f"step {step + 1}: {error} not finite; batch and weights are in {folder}; start again with another --out and a lower "
        "--optim.lr (--init_from loads the weights of an earlier checkpoint)"
    )


def _print_summary(its: _Run, step: int, stop: Stop) -> None:
    path = checkpoint.latest(its.out / "checkpoints")
    if step < its.steps:
        by = str(stop) if stop else "a signal to another rank"
        its.world.print_main(f"stopped by {by} at step {step} of {its.steps}; saved {path}")
    else:
        probe = "linear" if len(its.split.dataset.splits) > 1 else "crossmodal"
        its.world.print_main(f"trained: {step} steps\ncheckpoint: {path}")
        if its.settings.method not in (
            "supervised",
            "layerwise",
        ):  # these are evaluated by the protocol that trains with them
            its.world.print_main(f"next: ks-eval {probe} --run {its.out}")
