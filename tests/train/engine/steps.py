"""What the ranks of `test_parity` do; in a file of its own, for processes import it by name.

Everything is float64, and batch norms are synchronised. Each function is the same code for one process and for many.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from kinetics_sounds import plugins, stream
from kinetics_sounds.train import methods
from kinetics_sounds.train.data.sampler import micro_batches
from kinetics_sounds.train.distributed import collectives, process_group, sync_batch_norm
from kinetics_sounds.train.distributed.process_group import World
from kinetics_sounds.train.engine import checkpoint
from kinetics_sounds.train.engine.build import ModelBundle
from kinetics_sounds.train.engine.step import TrainStep
from kinetics_sounds.train.interface import Data, Method, Moment
from kinetics_sounds.train.models import mining
from kinetics_sounds.train.models.activation_checkpointing import checkpoint_activations
from kinetics_sounds.train.models.backbones import r3d

SAMPLES, BATCH = 40, 18
"""Two steps an epoch; micro-batches of 4 and 5 samples where there are four, so no two ranks need have as many."""
DATA = Data(classes=3, samples=SAMPLES, steps=50, steps_per_epoch=SAMPLES // BATCH, batch=BATCH)
FOUND = "found.safetensors"
mining.MOST_SCORES = 7 * SAMPLES  # of CMA: so that ranks have several blocks of samples to mine

Found = dict[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class Case:
    """What is trained, and how."""

    method: str
    settings: Mapping[str, Any]
    """Of the method."""
    buffers: Mapping[str, float]
    """What fills the method's buffers before it learns."""
    grad_accum_steps: int
    steps: int
    recomputed: bool = False
    compiled: bool = False

    def __str__(self) -> str:
        more = [name for name in ("recomputed", "compiled") if getattr(self, name)]
        return "-".join([self.method, str(self.grad_accum_steps), str(self.steps), *more])

    def built(self) -> Method:
        """The method around two small encoders, the same on every rank."""
        torch.manual_seed(3)
        video, audio = (r3d.build(r3d.Settings(width=2)) for _ in range(2))
        module = plugins.load(methods.__name__, self.method)
        made: Method = module.build(module.Settings(**self.settings), video=video, audio=audio, data=DATA)
        for name, value in self.buffers.items():
            made.get_buffer(name).fill_(value)
        return made


class Training:
    """A method that learns from made-up samples, as the trainer has it learn."""

    def __init__(self, case: Case, world: World) -> None:
        self.method = case.built().double().train()
        sync_batch_norm.convert_sync_batchnorm(self.method)
        for encoder in self.method.encoders():
            if case.recomputed:
                checkpoint_activations(encoder, compiled="inductor" if case.compiled else None)
            elif case.compiled:
                encoder.maps = torch.compile(encoder.maps, dynamic=False)
        learning = [each for each in self.method.parameters() if each.requires_grad]
        self.optimizer = torch.optim.SGD(learning, lr=1e-3, momentum=0.9, weight_decay=0.01)
        shape = (SAMPLES, self.method.views, 3, 4, 16, 16)
        generator = torch.Generator().manual_seed(1)
        self.inputs = {name: torch.rand(shape, generator=generator, dtype=torch.float64) for name in ("video", "audio")}
        micros = micro_batches(BATCH, grad_accum_steps=case.grad_accum_steps, rank=world.rank, ranks=world.size)
        self.places = torch.tensor([place for micro in micros for place in micro])
        view: Any = SimpleNamespace(augment=lambda arrays, _: {name: arrays[name] for name in ("video", "audio")})
        bundle = ModelBundle(self.method, view, None)
        sizes = [len(micro) for micro in micros]
        self.step = TrainStep(bundle, self.optimizer, micro_sizes=sizes, device=torch.device("cpu"))

    def learn(self, first: int, last: int) -> Found:
        """Updates from `first` to before `last`: each loss, and the gradients of the first of them."""
        found: Found = {}
        for step in range(first, last):
            epoch, within = divmod(step, DATA.steps_per_epoch)
            if within == 0:
                self.method.on_epoch(Moment(0, step, epoch), torch.arange(SAMPLES) % DATA.classes)
            order = torch.from_numpy(stream.order([SAMPLES], seed=0, epoch=epoch))
            rows = order[within * BATCH + self.places]
            arrays = {name: value[rows] for name, value in self.inputs.items()}
            arrays |= {"label": rows % DATA.classes, "index": rows, "place": self.places}
            found[f"loss {step}"] = self.step(arrays, Moment(0, step, epoch)).loss
            if step == first:
                found |= {
                    f"grad {name}": each.grad.contiguous().clone()
                    for name, each in self.method.named_parameters()
                    if each.grad is not None
                }
        return found

    def state(self) -> Found:
        """Weights, statistics, banks and queues."""
        return {f"state {name}": value.contiguous().clone() for name, value in self.method.state_dict().items()}


def trained(case: Case, world: World) -> Found:
    """A whole run."""
    training = Training(case, world)
    return training.learn(0, case.steps) | training.state()


def saved(case: Case, world: World, folder: Path) -> None:
    """A run that is saved in the middle of its second epoch."""
    training = Training(case, world)
    training.learn(0, 3)
    if world.is_main:
        checkpoint.save(folder, 3, model=training.method, optimizer=training.optimizer, state={}, keep=1)


def resumed(case: Case, world: World, folder: Path) -> Found:
    """What follows, in a world of its own."""
    training = Training(case, world)
    path = checkpoint.find(folder, "last")
    checkpoint.load_model(path, training.method)
    checkpoint.load_optimizer(path, training.method, training.optimizer)
    return training.learn(3, 5) | training.state()


def everything(world: World, cases: tuple[Case, ...]) -> Found:
    """What each case finds, by its name."""
    return {f"{case}:{name}": value for case in cases for name, value in trained(case, world).items()}


def run(rank: int, size: int, folder: Path, cases: tuple[Case, ...]) -> None:
    """As one rank: train every case, resume what lies in `folder`, save the same there for others, and leave what was found."""
    torch.set_num_threads(1)
    environ = {"RANK": str(rank), "WORLD_SIZE": str(size), "LOCAL_RANK": str(rank)}
    meet = f"file://{folder / f'meet-{size}'}"
    with process_group.start(torch.device("cpu"), environ=environ, init_method=meet, timeout_seconds=120) as world:
        found = everything(world, cases)
        for case in cases:
            there = folder / "alone" / str(case)
            if there.is_dir():
                found |= {f"resumed {case}:{name}": value for name, value in resumed(case, world, there).items()}
                saved(case, world, folder / str(size) / str(case))
        if world.is_main:
            save_file(found, folder / f"{size}-{FOUND}")
        collectives.barrier()
