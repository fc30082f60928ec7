"""Join the ranks that torchrun or `launch` started, and part from them."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
import torch.distributed.nn.functional

from kinetics_sounds.errors import RunError

from . import collectives, devices

# `torch.distributed.nn.functional` is imported above, though nothing here calls it, because the default arguments of its
# functions are the process group that there is at its first import, which torch's compiler does whenever it likes. A group
# held so outlives `destroy_process_group`, and its threads abort the process now and then as Python ends.

MEETING = "KINETICS_SOUNDS_MEETING"
"""Environment variable: the URL where ranks meet that `launch` started; torchrun's have env://."""


@dataclass(frozen=True, slots=True)
class World:
    """A process's place among those that learn together."""

    rank: int
    size: int
    device: torch.device
    """Of this rank alone."""

    @property
    def leads(self) -> bool:
        """Whether this is the rank that writes files and speaks."""
        return self.rank == 0

    def say(self, text: str) -> None:
        """Print it once for all ranks."""
        if self.leads:
            print(text)

    def share(self, total: int) -> range:
        """The rank's part of `total` things: the parts in rank order are all of them, and differ in size by one at most."""
        return range(total)[collectives.part(total, rank=self.rank, size=self.size)]


@contextmanager
def start(
    device: torch.device,
    *,
    environ: Mapping[str, str] = os.environ,
    init_method: str | None = None,
    timeout_seconds: float = 1800.0,
) -> Iterator[World]:
    """Join the ranks that torchrun started, and part from them at the end; alone where it started none or one.

    They meet at `init_method`, else where `MEETING` says, else as torchrun has it. A rank on CUDA takes the device of its
    local number. An exchange that takes longer than `timeout_seconds` fails.
    Raises RunError where the environment is no rank's, there is no such device, or the others cannot be met.
    """
    if environ.get("WORLD_SIZE", "1") == "1":
        devices.limit_threads()
        yield World(0, 1, device)
        return
    rank, size, local = _place(environ)
    if device.type == "cuda":
        device = _own_device(local)
    # Gloo beside NCCL, for sizes and facts that live on the host.
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    try:
        dist.init_process_group(
            backend,
            init_method=init_method or environ.get(MEETING, "env://"),
            rank=rank,
            world_size=size,
            timeout=timedelta(seconds=timeout_seconds),
        )
    except (RuntimeError, ValueError) as error:
        raise RunError(
            f"rank {rank} of {size}: cannot meet the others by {backend} ({collectives.first_line(error)}); see that all of "
            "them run, that each reaches MASTER_ADDR:MASTER_PORT, and set GLOO_SOCKET_IFNAME where a machine has several networks"
        ) from error
    try:
        yield World(rank, size, device)
    finally:
        dist.destroy_process_group()


def _place(environ: Mapping[str, str]) -> tuple[int, int, int]:
    """Rank, number of ranks and rank on this machine, as torchrun tells them."""
    told = {name: environ.get(name) for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK")}
    try:
        rank, size, local = (int(value or "") for value in told.values())
    except ValueError:
        rank, size, local = -1, 0, 0
    if not 0 <= rank < size or not 0 <= local <= rank:
        raise RunError(
            f"environment: {' '.join(f'{name}={value}' for name, value in told.items() if value is not None)} is no rank's "
            "place; start the ranks with torchrun, or unset WORLD_SIZE to run alone"
        )
    return rank, size, local


def _own_device(local: int) -> torch.device:
    """The CUDA device of a rank on this machine, made the current one."""
    there = torch.cuda.device_count()
    if local >= there:
        raise RunError(
            f"LOCAL_RANK {local}: this machine shows {there} CUDA devices; start as many ranks a machine "
            "(torchrun --nproc_per_node), or give --device cpu"
        )
    torch.cuda.set_device(local)
    return torch.device("cuda", local)
