"""Join and leave the process group of the ranks that torchrun or `launch` started."""

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

RENDEZVOUS = "KINETICS_SOUNDS_MEETING"
"""Environment variable with the rendezvous URL of ranks started by `launch`; torchrun's ranks use env://."""


@dataclass(frozen=True, slots=True)
class World:
    """Rank, world size and device of a process."""

    rank: int
    size: int
    device: torch.device
    """Device of this rank."""

    @property
    def is_main(self) -> bool:
        """Whether this is rank 0, which writes files and prints."""
        return self.rank == 0

    def print_main(self, text: str) -> None:
        """Print on rank 0 only."""
        if self.is_main:
            print(text)

    def local_slice(self, total: int) -> range:
        """Slice of `total` items for this rank; slices are in rank order and differ in size by at most one."""
        return range(total)[collectives.part(total, rank=self.rank, size=self.size)]


@contextmanager
def start(
    device: torch.device,
    *,
    environ: Mapping[str, str] = os.environ,
    init_method: str | None = None,
    timeout_seconds: float = 1800.0,
) -> Iterator[World]:
    """Join the process group for the duration of the block; a no-op with one process, and within such a block.

    The rendezvous is `init_method`, else `RENDEZVOUS`, else torchrun's. On CUDA, a rank takes the device of its local rank. A
    collective that takes longer than `timeout_seconds` fails. Raises RunError if the environment does not describe a rank, the
    device does not exist, or the other ranks cannot be reached.
    """
    if environ.get("WORLD_SIZE", "1") == "1":
        devices.limit_threads()
        yield World(0, 1, device)
        return
    rank, size, local = _place(environ)
    if device.type == "cuda":
        device = _own_device(local)
    if dist.is_initialized():
        yield World(rank, size, device)
        return
    # Gloo beside NCCL, for sizes and facts that live on the host.
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    try:
        dist.init_process_group(
            backend,
            init_method=init_method or environ.get(RENDEZVOUS, "env://"),
            rank=rank,
            world_size=size,
            timeout=timedelta(seconds=timeout_seconds),
        )
    except (RuntimeError, ValueError) as error:
        raise RunError(
            f"rank {rank} of {size}: cannot reach the other ranks with {backend} ({collectives.first_line(error)}); "
            "check that all are running and can reach MASTER_ADDR:MASTER_PORT, and set GLOO_SOCKET_IFNAME on machines with "
            "several networks"
        ) from error
    try:
        yield World(rank, size, device)
    finally:
        dist.destroy_process_group()


def _place(environ: Mapping[str, str]) -> tuple[int, int, int]:
    """Rank, world size and local rank from torchrun's environment variables."""
    told = {name: environ.get(name) for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK")}
    try:
        rank, size, local = (int(value or "") for value in told.values())
    except ValueError:
        rank, size, local = -1, 0, 0
    if not 0 <= rank < size or not 0 <= local <= rank:
        raise RunError(
            f"environment: {' '.join(f'{name}={value}' for name, value in told.items() if value is not None)} does not "
            "describe a rank; start the ranks with torchrun, or unset WORLD_SIZE to run alone"
        )
    return rank, size, local


def _own_device(local: int) -> torch.device:
    """CUDA device of a local rank, made the current device."""
    there = torch.cuda.device_count()
    if local >= there:
        raise RunError(
            f"LOCAL_RANK {local}: this machine has {there} CUDA devices; start as many ranks per machine "
            "(torchrun --nproc_per_node), or give --device cpu"
        )
    torch.cuda.set_device(local)
    return torch.device("cuda", local)
