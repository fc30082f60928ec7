"""FLOPs of a step and model FLOPs utilization, MFU (PaLM, arXiv 2204.02311, appendix B)."""

import logging
from dataclasses import dataclass

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.func import functional_call
from torch.utils.flop_counter import FlopCounterMode

from kinetics_sounds.errors import first_line
from kinetics_sounds.settings import Parsed

from ..config.settings import SomeSettings
from ..distributed import collectives, devices
from ..distributed.process_group import World
from ..interface import Batch, Data, Moment, checked_output
from .build import ModelBundle

log = logging.getLogger("kinetics_sounds")


@dataclass(frozen=True, slots=True)
class Utilization:
    """Converts throughput to model FLOPs utilization."""

    flops: float
    """FLOPs per sample, forward and backward."""
    peak: float
    """Peak FLOP/s of all devices of the run."""

    def mfu(self, samples_per_second: float) -> float:
        """Model FLOPs utilization in [0, 1]; recomputed activations do not count."""
        return samples_per_second * self.flops / self.peak


def utilization(built: ModelBundle, parsed: Parsed[SomeSettings], data: Data, world: World) -> Utilization | None:
    """Utilization of a model before it is compiled or patched; None if the device's peak is unknown."""
    settings = parsed.settings
    peak = settings.peak_tflops
    if peak is None and world.device.type == "cuda":
        peak = devices.peak_tflops(torch.cuda.get_device_name(world.device), settings.precision)
    if not peak:
        return None
    rows = settings.batch // settings.grad_accum_steps
    try:
        flops = step_flops(built, data, rows=rows)
    except RuntimeError as error:  # the method reads values of tensors
        log.warning("mfu: not logged, because FLOPs cannot be counted from shapes alone (%s)", first_line(error))
        return None
    return Utilization(flops / rows, peak * 1e12 * world.size)


def step_flops(built: ModelBundle, data: Data, *, rows: int) -> int:
    """FLOPs of a forward and backward pass over `rows` samples; a multiply-add counts as two.

    Counts convolutions and matrix products, including those of momentum encoders, from shapes alone. Raises RuntimeError for a
    method that needs real values.
    """
    inputs, place = built.view.inputs(built.view_settings), torch.arange(rows)
    fake = FakeTensorMode(allow_non_fake_inputs=True)
    named = [*built.method.named_parameters(), *built.method.named_buffers()]
    with torch.random.fork_rng(devices=[]), collectives.alone(), fake, FlopCounterMode(display=False) as counter:
        tensors = {
            name: torch.empty(each.shape, dtype=each.dtype, requires_grad=each.requires_grad) for name, each in named
        }
        video, audio = (
            torch.empty(rows, inputs.views, *shape) if shape else None for shape in (inputs.video, inputs.audio)
        )
        batch = Batch(video, audio, label=place % data.classes, place=place, row=place % max(data.samples, 1))
        # A step after the last one, so that nothing is cached that a real step would compute.
        step = data.steps + 1
        moment = Moment(seed=0, step=step, epoch=step // max(1, data.steps_per_epoch))
        output = checked_output(functional_call(built.method, tensors, (batch, moment)), built.method)
        output.loss.backward()  # type: ignore[no-untyped-call]
    return int(counter.get_total_flops())
