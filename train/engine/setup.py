"""Prepare a run's model for training: device, memory format, compilation and optimizer. Used by ks-train and its bench."""

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
from ..models.activation_checkpointing import checkpoint_activations
from ..optim.optimizer import make_optimizer
from . import build
from .build import ModelBundle
from .flops import Utilization, utilization
from .step import TrainStep

SHAPES = 128
"""Limit of input shapes for torch.compile, beyond which it falls back to eager mode."""
FEW = 16
"""Samples per device below which `--sync_bn auto` synchronizes batch norms."""


@dataclass(frozen=True)
class TrainComponents:
    """Model, optimizer and training step."""

    bundle: ModelBundle
    optimizer: torch.optim.Optimizer
    train_step: TrainStep
    utilization: Utilization | None
    """None if the device's peak is unknown, and on ranks that do not write."""
    norm_samples: int
    """Samples per batch norm."""


def norm_samples(settings: TrainSettings, *, ranks: int, synchronised: bool) -> int:
    """Minimum samples per batch norm: those of a micro-batch, on all ranks or on one."""
    return settings.batch // settings.grad_accum_steps // (1 if synchronised else ranks)


def uses_sync_batchnorm(settings: TrainSettings, *, ranks: int, before: int | None = None) -> bool:
    """Whether to synchronize batch norms; `before` is the samples per batch norm of a resumed run.

    `--sync_bn auto` keeps `before` if possible; otherwise it synchronizes if a rank alone would have few samples.
    """
    if settings.sync_bn != "auto":
        return settings.sync_bn == "on"
    for synchronised in (False, True):
        if norm_samples(settings, ranks=ranks, synchronised=synchronised) == before:
            return synchronised
    return settings.batch < FEW * ranks * settings.grad_accum_steps


def check_norms(model: nn.Module, settings: TrainSettings, *, ranks: int, synchronised: bool) -> None:
    """Raise SettingsError if a rank would have a single sample for the batch norm of a head, which needs two."""
    if norm_samples(settings, ranks=ranks, synchronised=synchronised) < 2 and any(
        isinstance(each, nn.BatchNorm1d) for each in model.modules()
    ):
        remedy = "give a larger --batch" if synchronised or ranks == 1 else "give --sync_bn on, or a larger --batch"
        raise SettingsError(
            f"--batch {settings.batch}: leaves a device one sample at a time, and the batch norms of --method "
            f"{settings.method} need two; {remedy}"
        )


def _compile(encoder: nn.Module) -> None:
    """Compile an encoder's `maps` separately for each input shape; dynamic shapes make convolutions slow."""
    if isinstance(encoder, Encoder):
        encoder.maps = torch.compile(encoder.maps, dynamic=False)  # type: ignore[method-assign]  # a call asks for them too
    else:
        encoder.compile(dynamic=False)


def make_components(
    parsed: Parsed[SomeSettings], split: Split, data: Data, world: World, *, norms_before: int | None = None
) -> TrainComponents:
    """Build model and optimizer on the device; initial weights are a function of the seed.

    `norms_before` is the samples per batch norm of a resumed run. Raises SettingsError for settings of an invalid model or
    optimizer. `resume.complete_view` checks that the shard set suits the view.
    """
    settings = parsed.settings
    torch.backends.cudnn.deterministic = True  # runs repeat and resume more exactly; costs under 1% (benchmarks/gpu.md)
    built = build.build_model(parsed, data)
    synchronised = uses_sync_batchnorm(settings, ranks=world.size, before=norms_before)
    check_norms(built.method, settings, ranks=world.size, synchronised=synchronised)
    used = utilization(built, parsed, data, world) if world.is_main else None
    if synchronised:
        sync_batch_norm.convert_sync_batchnorm(built.method)
    built.method.to(world.device).train()
    if settings.channels_last:
        built.method.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    try:
        optimizer = make_optimizer(built.method, settings.optim)
    except ValueError as error:
        raise SettingsError(f"--{error}") from error
    if settings.compile:  # the stages of both encoders share code; each shape, in training and evaluation, is compiled
        torch._dynamo.config.recompile_limit = SHAPES
    for encoder in built.method.encoders():
        if settings.activation_checkpointing:
            checkpoint_activations(encoder, compiled="inductor" if settings.compile else None)
        elif settings.compile:
            _compile(encoder)
    micros = micro_batches(
        settings.batch, grad_accum_steps=settings.grad_accum_steps, rank=world.rank, ranks=world.size
    )
    train_step = TrainStep(
        built,
        optimizer,
        precision=settings.precision,
        micro_sizes=[len(places) for places in micros],
        max_grad_norm=settings.max_grad_norm,
        device=world.device,
    )
    samples = norm_samples(settings, ranks=world.size, synchronised=synchronised)
    return TrainComponents(built, optimizer, train_step, used, samples)
