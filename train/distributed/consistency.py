"""Check that all ranks have the same code, data and weights."""

import hashlib
from collections.abc import Mapping

import torch
from torch import nn

from kinetics_sounds.errors import RunError
from kinetics_sounds.redact import redact

from . import gather


def check_equal(facts: Mapping[str, str]) -> None:
    """Raise RunError on every rank unless all ranks have equal facts; the message names the fact and each rank's value."""
    told: list[dict[str, str]] = gather.gather_objects([dict(facts)])
    for name in dict.fromkeys(name for each in told for name in each):
        first = told[0].get(name)
        others = [rank for rank, each in enumerate(told) if each.get(name) != first]
        if others:
            raise RunError(
                f"rank {', '.join(map(str, others))} of {len(told)}: {name} is {redact(str(told[others[0]].get(name)))}, where "
                f"rank 0 has {redact(str(first))}; start every rank with the same command, code and data"
            )


def digest(module: nn.Module) -> str:
    """SHA-256 of the names, types, shapes and bytes of a module's parameters and buffers, for `check_equal`."""
    sha256 = hashlib.sha256()
    for name, tensor in module.state_dict().items():
        sha256.update(f"{name} {tensor.dtype} {(*tensor.shape,)}\n".encode())
        sha256.update(tensor.detach().cpu().reshape(-1).view(torch.uint8).numpy())
    return sha256.hexdigest()
