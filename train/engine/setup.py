"""A run's model made ready to learn: on its device, in its layout, with its optimiser; for ks-train and for its bench."""

from dataclasses import dataclass

import torch
from torch import nn

from kinetics_sounds.errors import SettingsError
from kinetics_sounds.settings import Parsed
from kinetics_sounds.stream import Split

from ..config.settings import SomeSettings, TrainSettings
from ..data.sampler import micro_batches
from ..distributed import sync_batch_norm
from ..distributed.process_group import World
from ..interface import Data, Encoder
from ..models.activation_checkpointing import recompute
from ..optim.optimizer import make_optimizer
from . import build
from .build import ModelBundle
from .flops import Utilization, utilization
from .step import TrainStep

SHAPES = 128
"""Shapes that one piece of code is compiled for, beyond which it is interpreted."""
FEW = 16
"""Samples of a device below which its own batch norms are too noisy, and those of all devices are taken."""


@dataclass(frozen=True)
class TrainComponents:
    """A model, and what changes it."""

    built: ModelBundle
    optimizer: torch.optim.Optimizer
    updates: TrainStep
    utilization: Utilization | None
    """None where the devices' peak is not known, and on ranks that do not write."""
    norm_samples: int
    """Samples over which a batch norm is computed."""


def norm_samples(settings: TrainSettings, *, ranks: int, synchronised: bool) -> int:
    """Samples over which a batch norm is computed, at least: those of a micro-batch, of all ranks or of one."""
    return settings.batch // settings.accumulate // (1 if synchronised else ranks)


def synchronises(settings: TrainSettings, *, ranks: int, before: int | None = None) -> bool:
    """Whether batch norms are over the samples of all ranks; `before` is over how many samples a run had them that goes on.

    With `--sync_bn auto` that number is kept where it can be; else they are, where one rank alone would have few.
    """
    if settings.sync_bn != "auto":
        return settings.sync_bn == "on"
    for synchronised in (False, True):
        if norm_samples(settings, ranks=ranks, synchronised=synchronised) == before:
            return synchronised
    return settings.batch < FEW * ranks * settings.accumulate


def check_norms(model: nn.Module, settings: TrainSettings, *, ranks: int, synchronised: bool) -> None:
    """Raise SettingsError where a rank would have one sample for a batch norm of a head, which needs two."""
    if norm_samples(settings, ranks=ranks, synchronised=synchronised) < 2 and any(
        isinstance(each, nn.BatchNorm1d) for each in model.modules()
    ):
        remedy = "give a larger --batch" if synchronised or ranks == 1 else "give --sync_bn on, or a larger --batch"
        raise SettingsError(
            f"--batch {settings.batch}: leaves a device one sample at a time, and the batch norms of --method "
            f"{settings.method} need two; {remedy}"
        )


def _compile(encoder: nn.Module) -> None:
    """Compile an encoder's maps, anew for each shape of input: convolutions of any shape are not compiled well."""
    if isinstance(encoder, Encoder):
        encoder.maps = torch.compile(encoder.maps, dynamic=False)  # type: ignore[method-assign]  # a call asks for them too
    else:
        encoder.compile(dynamic=False)


def make_components(
    parsed: Parsed[SomeSettings], split: Split, data: Data, world: World, *, norms_before: int | None = None
) -> TrainComponents:
    """With initial weights, which are a function of the seed. `norms_before` is `norm_samples` of the run that goes on.

    Raises SettingsError for settings that make no model or no optimiser. That the set suits the view is `resume.complete_view`'s.
    """
    settings = parsed.settings
    built = build.build_model(parsed, data)
    synchronised = synchronises(settings, ranks=world.size, before=norms_before)
    check_norms(built.method, settings, ranks=world.size, synchronised=synchronised)
    used = utilization(built, parsed, data, world) if world.leads else None
    if synchronised:
        sync_batch_norm.convert_sync_batchnorm(built.method)
    built.method.to(world.device).train()
    if settings.channels_last:
        built.method.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    try:
        optimizer = make_optimizer(built.method, settings.optim)
    except ValueError as error:
        raise SettingsError(f"--{error}") from error
    if (
        settings.compile
    ):  # the stages of both encoders share their code: each shape, in training and out of it, is one more
        torch._dynamo.config.recompile_limit = SHAPES
    for encoder in built.method.encoders():
        if settings.recompute:
            recompute(encoder, compiled="inductor" if settings.compile else None)
        elif settings.compile:
            _compile(encoder)
    micros = micro_batches(settings.batch, accumulate=settings.accumulate, rank=world.rank, ranks=world.size)
    updates = TrainStep(
        built,
        optimizer,
        precision=settings.precision,
        micro_sizes=[len(places) for places in micros],
        clip_norm=settings.clip_norm,
        device=world.device,
    )
    samples = norm_samples(settings, ranks=world.size, synchronised=synchronised)
    return TrainComponents(built, optimizer, updates, used, samples)
