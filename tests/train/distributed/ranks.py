"""What the ranks of `test_distributed` do; in a file of its own, for processes import it by name.

Everything is float64 unless it says otherwise. Each function is the same code for one process and for many: it takes
this rank's slice of the batch, and returns tensors by name.
"""

import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import torch
import torch.distributed as dist
from safetensors.torch import save_file
from torch import Tensor, nn

from kinetics_sounds.errors import KineticsSoundsError, RunError
from kinetics_sounds.train.data import sampler
from kinetics_sounds.train.distributed import collectives, consistency, gather, process_group, sync_batch_norm
from kinetics_sounds.train.distributed.gradients import average_gradients
from kinetics_sounds.train.distributed.process_group import World
from kinetics_sounds.train.engine.build import ModelBundle
from kinetics_sounds.train.engine.step import TrainStep
from kinetics_sounds.train.interface import Batch, Method, Moment, Output
from kinetics_sounds.train.methods import avcl
from kinetics_sounds.train.models.backbones import r3d, tied_copy
from kinetics_sounds.train.models.heads import AmfmSettings

BATCH = 10
CHANNELS = 3
MOMENT = Moment(seed=0, step=0, epoch=0)
DIED = 7
"""Exit code of the rank that is told to die."""
FOUND = "found.safetensors"
SAID = "said"
"""What a rank's error was."""

GATHER = gather.gather


@contextmanager
def joined(rank: int, size: int, folder: Path, *, timeout_seconds: float = 120.0) -> Iterator[World]:
    """One of `size` ranks that meet in a file of `folder`."""
    environ = {"RANK": str(rank), "WORLD_SIZE": str(size), "LOCAL_RANK": str(rank)}
    meet = f"file://{folder / 'meet'}"
    with process_group.start(
        torch.device("cpu"), environ=environ, init_method=meet, timeout_seconds=timeout_seconds
    ) as world:
        yield world


def run(rank: int, size: int, folder: Path) -> None:
    """Try everything, leave what was found in the rank's folder; then the last rank dies and the others say how it is."""
    torch.set_num_threads(1)
    own = folder / str(rank)
    own.mkdir()
    with joined(rank, size, folder) as world:
        save_file(everything(world), own / FOUND)
        if rank == size - 1:
            os._exit(DIED)
        say(own, lambda: gather.gather(torch.zeros(1, 1)))


def stuck(rank: int, size: int, folder: Path) -> None:
    """Rank 1 never takes part; rank 0 says how it is."""
    own = folder / str(rank)
    own.mkdir()
    with joined(rank, size, folder, timeout_seconds=3.0):
        if rank == 1:
            time.sleep(600)
        say(own, lambda: gather.gather(torch.zeros(1, 1)))


def say(folder: Path, act: Callable[[], object]) -> None:
    """Leave the text of the error of ours that `act` raises."""
    try:
        act()
    except KineticsSoundsError as error:
        (folder / SAID).write_text(str(error))


def everything(world: World) -> dict[str, Tensor]:
    """All that one rank finds, by the name of the case and of the tensor."""
    cases: dict[str, Callable[[], dict[str, Tensor]]] = {
        "sigmoid/pool": lambda: avcl_gradients(world, gate="sigmoid", layer="pool"),
        "relu/pool": lambda: avcl_gradients(world, gate="relu", layer="pool"),
        "sigmoid/conv3": lambda: avcl_gradients(world, gate="sigmoid", layer="conv3"),
        "relu/conv5+pool": lambda: avcl_gradients(world, gate="relu", layer="conv5+pool"),
        "plain": lambda: plain(world),
        "trained": lambda: trained(world),
        "trained, shared": lambda: trained(world, shared=True),
        "norm1d": lambda: normalised(world, nn.BatchNorm1d(CHANNELS, dtype=torch.float64), dims=0),
        "norm3d": lambda: normalised(world, nn.BatchNorm3d(CHANNELS, dtype=torch.float64), dims=3),
        "bare": lambda: normalised(
            world, nn.BatchNorm3d(CHANNELS, affine=False, momentum=None, dtype=torch.float64), dims=3
        ),
        "untracked": lambda: normalised(
            world, nn.BatchNorm1d(CHANNELS, track_running_stats=False, dtype=torch.float64), dims=1
        ),
        "bf16": lambda: normalised(world, nn.BatchNorm3d(CHANNELS), dims=3, dtype=torch.bfloat16),
        "frozen": lambda: frozen(world),
        "gathered": lambda: gathered(world),
        "averaged": lambda: averaged(world),
        "accumulated": lambda: accumulated(world),
        "broadcast": lambda: broadcast(world),
        "facts": lambda: facts(world),
    }
    return {f"{case}:{name}": value for case, act in cases.items() for name, value in act().items()}


def own_rows(world: World, whole_ND: Tensor) -> Tensor:
    """The rank's slice of a batch."""
    rows = world.local_slice(len(whole_ND))
    return whole_ND[rows.start : rows.stop].clone()


def without_gradient(local_BD: Tensor) -> Tensor:
    """The usual mistake: other ranks' rows are constants, one's own are put back."""
    all_ND = GATHER(local_BD.detach())
    if collectives.ranks() == 1:
        return local_BD
    sizes = GATHER(torch.tensor([len(local_BD)])).tolist()
    parts = list(all_ND.split(sizes))
    parts[dist.get_rank()] = local_BD
    return torch.cat(parts)


def model(gate: Any, layer: Any, *, shared: bool = False) -> avcl.Avcl:
    """A tiny AVCL, of two encoders or of one set of weights for both modalities."""
    torch.manual_seed(3)
    network = r3d.Settings(width=2)
    settings = avcl.Settings(cgra_layer=layer, amfm=AmfmSettings(gate=gate))
    video = r3d.build(network)
    return avcl.build(settings, video=video, audio=tied_copy(video) if shared else r3d.build(network)).double()


def inputs(world: World, seed: int) -> Batch:
    """The rank's slice of a batch of 4-frame pictures of one view; no two samples are equal."""
    rng = torch.Generator().manual_seed(seed)
    video, audio = (
        own_rows(world, torch.rand(BATCH, 3, 4, 16, 16, generator=rng, dtype=torch.float64))[:, None] for _ in range(2)
    )
    place = own_rows(world, torch.arange(BATCH))
    return Batch(video=video, audio=audio, label=torch.full_like(place, -1), place=place, row=None)


class Spread(Method):  # type: ignore[misc]
    """The variance over the rows of a micro-batch, which meet in it; keeps each row's output."""

    def __init__(self) -> None:
        super().__init__()
        self.video = self.audio = nn.Linear(CHANNELS, 2, dtype=torch.float64)
        self.kept: dict[str, Tensor] = {}

    def forward(self, batch: Batch, moment: Moment) -> Output:
        assert batch.video is not None
        output_BD = self.video(batch.video[:, 0])
        loss = gather.gather(output_BD).var(dim=0).sum()
        micro_B = torch.full_like(batch.place, moment.micro)
        kept = {"output": output_BD.detach(), "row": batch.row, "micro": micro_B, "big": output_BD.detach() > 0}
        return Output(loss, {"loss": loss.detach()}, kept)

    def after_update(self, kept: Mapping[str, Tensor], moment: Moment) -> None:
        self.kept = {f"kept {name}": value for name, value in kept.items()}


def accumulated(world: World) -> dict[str, Tensor]:
    """An update of two micro-batches: the loss, the weights after it, and what the method got of all that it had kept."""
    torch.manual_seed(3)
    learner = Spread()
    micros = sampler.micro_batches(BATCH, grad_accum_steps=2, rank=world.rank, ranks=world.size)
    place = torch.tensor([each for places in micros for each in places])
    values = torch.randn(BATCH, 1, CHANNELS, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    arrays = {"video": values[place], "label": 0 * place, "index": 100 + place, "place": place}
    view: Any = SimpleNamespace(augment=lambda arrays, _: arrays)
    optimizer = torch.optim.SGD(learner.parameters(), lr=0.1)
    sizes = [len(places) for places in micros]
    update = TrainStep(ModelBundle(learner, view, None), optimizer, micro_sizes=sizes, device=world.device)
    outcome = update(arrays, MOMENT)
    return {"loss": outcome.loss, **learner.video.state_dict(), **learner.kept}


def avcl_gradients(world: World, *, gate: str, layer: str) -> dict[str, Tensor]:
    """AVCL's loss and the gradient of every parameter, batch norm in evaluation mode."""
    learner = model(gate, layer).eval()
    step = learner(inputs(world, seed=0), MOMENT)
    step.loss.backward()
    average_gradients(learner.parameters())
    return {"loss": step.loss.detach(), **gradients(learner)}


def plain(world: World) -> dict[str, Tensor]:
    """The same with a gather that makes the usual mistake."""
    with mock.patch.object(gather, "gather", without_gradient):
        return avcl_gradients(world, gate="sigmoid", layer="pool")


def trained(world: World, *, shared: bool = False) -> dict[str, Tensor]:
    """AVCL's first gradients, and its weights and running statistics after three steps in training mode."""
    learner = model("sigmoid", "pool", shared=shared).train()
    sync_batch_norm.convert_sync_batchnorm(learner)
    optimizer = torch.optim.SGD(learner.parameters(), lr=0.01, momentum=0.9, weight_decay=0.1)
    found: dict[str, Tensor] = {}
    for number in range(3):
        optimizer.zero_grad(set_to_none=True)
        step = learner(inputs(world, seed=number), MOMENT)
        step.loss.backward()
        average_gradients(learner.parameters(), bucket_bytes=1000)
        found |= {f"loss {number}": step.loss.detach()}
        if number == 0:
            found |= gradients(learner)
        optimizer.step()
    return found | {f"state {name}": value.clone() for name, value in learner.state_dict().items()}


def gradients(module: nn.Module) -> dict[str, Tensor]:
    """The gradient of every parameter by name."""
    return {
        f"grad {name}": parameter.grad.contiguous()
        for name, parameter in module.named_parameters()
        if parameter.grad is not None
    }


def normalised(world: World, norm: nn.Module, *, dims: int, dtype: torch.dtype = torch.float64) -> dict[str, Tensor]:
    """Two passes of a batch norm: its outputs, both gradients, and what it remembers."""
    rng = torch.Generator().manual_seed(5)
    sync_batch_norm.convert_sync_batchnorm(norm)
    for parameter in norm.parameters():
        nn.init.normal_(parameter, generator=rng)
    found: dict[str, Tensor] = {}
    for number in range(2):
        shape = (BATCH, CHANNELS, *(2, 3, 4)[:dims])
        whole, asked = (torch.randn(shape, generator=rng, dtype=torch.float64).to(dtype) for _ in range(2))
        local = own_rows(world, 5 + whole).requires_grad_()
        norm.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
            output = norm(local)
        # Each rank's loss is W times its own rows' part, so that their mean is the one process's.
        (world.size * output * own_rows(world, asked)).sum().backward()
        average_gradients(norm.parameters())
        assert local.grad is not None
        found |= {f"rows output {number}": output.detach(), f"rows grad {number}": local.grad / world.size}
        found |= {f"{name} {number}": value for name, value in gradients(norm).items()}
    return found | {f"state {name}": value.clone() for name, value in norm.state_dict().items()}


def frozen(world: World) -> dict[str, Tensor]:
    """A synchronised batch norm in evaluation mode, with another number of calls on every rank."""
    norm = nn.BatchNorm1d(CHANNELS, dtype=torch.float64)
    sync_batch_norm.convert_sync_batchnorm(norm.eval())
    local = torch.full((2, CHANNELS), 8.0, dtype=torch.float64)
    return {"output": [norm(local) for _ in range(world.rank + 1)][-1].detach()}


def gathered(world: World) -> dict[str, Tensor]:
    """Rows of several kinds, from slices of which some are empty; and JSON values."""
    rows = world.local_slice(3)
    numbers = torch.arange(rows.start, rows.stop)
    objects = gather.gather_objects([{"row": row, "pair": (row, "line\r\nbreak")} for row in rows])
    expected = [{"row": row, "pair": [row, "line\r\nbreak"]} for row in range(3)]
    leaf = torch.zeros(1, 1, dtype=torch.bfloat16, requires_grad=True)
    asked = torch.full((world.size, 1), 2.0**-9, dtype=torch.bfloat16)
    asked[world.rank] = 1
    (gather.gather(leaf) * asked).sum().backward()
    assert leaf.grad is not None
    return {
        "bfloat16 gradient": leaf.grad,
        "int64": gather.gather(numbers),
        "bool": gather.gather(numbers > 0),
        "bfloat16": gather.gather(numbers.bfloat16()[:, None]),
        "transposed": gather.gather(torch.stack([numbers, 10 * numbers]).T),
        "objects": torch.tensor(objects == expected),
        "no objects": torch.tensor(len(gather.gather_objects([]))),
    }


def averaged(world: World) -> dict[str, Tensor]:
    """Gradients that only some ranks have, of two types, in two layouts, in buckets of less than one parameter."""
    used, partly, never, low = (nn.Parameter(torch.zeros(2)) for _ in range(4))
    low.data = low.data.bfloat16()
    turned = nn.Parameter(torch.zeros(2, 3))
    fixed = nn.Parameter(torch.zeros(2), requires_grad=False)
    fixed.grad = torch.full((2,), float(world.rank))
    used.grad = torch.tensor([1.0, 2.0]) * (world.rank + 1)
    low.grad = torch.ones(2, dtype=torch.bfloat16) * world.rank
    turned.grad = (torch.arange(6.0) * (world.rank + 1)).view(3, 2).T
    if world.is_main:
        partly.grad = torch.full((2,), float(world.size))
    average_gradients([used, partly, never, low, turned, fixed], bucket_bytes=1)
    assert partly.grad is not None
    return {
        "used": used.grad,
        "partly": partly.grad,
        "low": low.grad,
        "turned": turned.grad.contiguous(),
        "left alone": torch.tensor(never.grad is None and fixed.grad.tolist() == [world.rank] * 2),
    }


def broadcast(world: World) -> dict[str, Tensor]:
    """A model that starts differently on every rank, channels-last; and whether its digest tells that."""
    torch.manual_seed(world.rank)
    module = nn.Sequential(nn.Conv3d(2, 3, 2), nn.BatchNorm3d(3)).to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    module.eval()[1].running_mean += world.rank
    before = len(set(gather.gather_objects([consistency.digest(module)])))
    for tensor in (*module.parameters(), *module.buffers()):
        collectives.broadcast(tensor)
    after = len(set(gather.gather_objects([consistency.digest(module)])))
    same_layout = module[0].weight.is_contiguous(memory_format=torch.channels_last_3d)
    return {
        "digests": torch.tensor([before, after]),
        "same layout": torch.tensor(same_layout),
        **{f"state {name}": value.contiguous() for name, value in module.state_dict().items()},
    }


def facts(world: World) -> dict[str, Tensor]:
    """Facts that all share, then one that the last rank has otherwise; an error's text as its bytes."""
    consistency.check_equal({"seed": "1", "data": "abc"})
    try:
        consistency.check_equal({"seed": "1", "shards": f"s3://me:secret@host/{int(world.rank == 3)}"})
    except RunError as error:
        return {"error": torch.tensor(list(str(error).encode()))}
    return {"error": torch.zeros(0, dtype=torch.int64)}
