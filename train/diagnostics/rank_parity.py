"""Check that several ranks compute the same gradients as one process, on this machine or cluster.

    python -m kinetics_sounds.train.diagnostics.rank_parity --devices 4

Everything is float64, each rank has an unequal slice of the batch, and AVCL's losses compare all samples, so a lost, halved or
doubled gradient shows. ks-doctor --distributed runs it; on several machines run it under torchrun. Prints JSON and writes no
files.
"""

import json
import math
import os
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn

from kinetics_sounds.command import DONE, SOME_FAILED, command
from kinetics_sounds.settings import parse

from ..distributed import gather, launch, process_group, sync_batch_norm
from ..distributed.devices import pick_device
from ..distributed.gradients import average_gradients
from ..distributed.process_group import World
from ..interface import Batch, Moment
from ..methods import avcl
from ..models.backbones import r3d

PROG = "rank_parity"
TOLERANCE = 1e-9
"""Maximum relative difference; float64 rounding is a thousandth of it."""
BYTES = 118 * 10**6
"""Size of the float32 gradients of AVCL's two R3D encoders."""
TIMES = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class RankParitySettings:
    """Check that several ranks compute the same gradients as one process.

    Examples:
      python -m kinetics_sounds.train.diagnostics.rank_parity --devices 2 --device cpu
      torchrun --nnodes 2 --nproc_per_node 8 ... -m kinetics_sounds.train.diagnostics.rank_parity
    """

    devices: int | None = None
    """Ranks to start. Default: one per GPU, or 2 without GPUs."""
    device: str = "auto"
    """cpu, cuda, or auto (cuda if available)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Results. Differences are maximum absolute difference over maximum value, the worse of loss and gradients."""

    ranks: int
    device: str
    backend: str
    still: float
    """Difference with batch norms in evaluation mode."""
    synchronised: float
    """Difference in training mode, with synchronized batch norms."""
    seconds: float
    """Median seconds to all-reduce the gradients of AVCL's two R3D encoders."""

    @property
    def right(self) -> bool:
        """Whether both differences are rounding errors; False for NaN."""
        return self.still <= TOLERANCE and self.synchronised <= TOLERANCE


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; exit code 1 if ranks disagree with one process."""
    words = sys.argv[1:] if argv is None else list(argv)
    return command(PROG, lambda: agree(words))


def agree(argv: Sequence[str]) -> int:
    """Run the check and print the report; return the exit code."""
    settings = parse(RankParitySettings, argv, prog=PROG).settings
    if not launch.is_rank():
        devices = settings.devices or (torch.cuda.device_count() if settings.device != "cpu" else 0) or 2
        if devices > 1:
            return launch.ranks(agree, argv, devices=devices, prog=PROG)
    batch = 3 * int(os.environ.get("WORLD_SIZE", "1")) + 1  # so that slices can be unequal
    alone = [learnt(World(0, 1, torch.device("cpu")), batch, training=training) for training in (False, True)]
    with process_group.start(pick_device(settings.device)) as world:
        together = [learnt(world, batch, training=training) for training in (False, True)]
        still, synchronised = (distance(*pair) for pair in zip(together, alone, strict=True))
        worst = gather.gather(torch.tensor([[still, synchronised]], dtype=torch.float64)).amax(dim=0).tolist()
        report = Report(
            ranks=world.size,
            device=world.device.type,
            backend=dist.get_backend() if world.size > 1 else "none",
            still=worst[0],
            synchronised=worst[1],
            seconds=_seconds(world),
        )
        if world.is_main:
            print(json.dumps(asdict(report)))
    return DONE if report.right else SOME_FAILED


def learnt(world: World, batch: int, *, training: bool) -> dict[str, Tensor]:
    """Loss and gradients by name of one AVCL step on this rank's slice of a batch, in float64."""
    generator = torch.Generator().manual_seed(1)
    torch.manual_seed(0)
    settings = r3d.Settings(width=2)
    model = avcl.build(avcl.Settings(), video=r3d.build(settings), audio=r3d.build(settings))
    model.double().to(world.device).train(training)
    sync_batch_norm.convert_sync_batchnorm(model)
    rows = world.local_slice(batch)
    inputs: dict[str, Tensor] = {}
    for name in ("video", "audio"):
        whole = torch.rand(batch, 3, 4, 16, 16, dtype=torch.float64, generator=generator)
        inputs[name] = whole[rows.start : rows.stop, None].to(world.device)
    place = torch.arange(rows.start, rows.stop, device=world.device)
    step = model(Batch(**inputs, label=place.new_full((len(rows),), -1), place=place, row=None), Moment(0, 0, 0))
    step.loss.backward()
    average_gradients(model.parameters())
    gradients = {name: each.grad for name, each in model.named_parameters() if each.grad is not None}
    return {"loss": step.loss.detach(), **gradients}


def distance(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> float:
    """Maximum relative difference over all tensors; infinite if the names differ."""
    if found.keys() != wanted.keys():
        return math.inf
    away = [
        (found[name].cpu() - value).abs().max() / value.abs().max().clamp_min(1e-300) for name, value in wanted.items()
    ]
    return float(torch.stack(away).max())


def _seconds(world: World) -> float:
    """Median seconds to all-reduce this many bytes."""
    parameter, times = nn.Parameter(torch.ones(BYTES // 4, device=world.device)), []
    parameter.grad = torch.ones_like(parameter)
    for _ in range(TIMES):
        began = time.perf_counter()
        average_gradients([parameter])
        if world.device.type == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - began)
    return statistics.median(times)


if __name__ == "__main__":
    sys.exit(main())
