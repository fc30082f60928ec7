"""Read tensors of a `torch.save` file, weights only; run by `limited.read`, in its process."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import BinaryIO

import numpy as np
import torch
from safetensors.torch import load
from torch import Tensor, nn

from kinetics_sounds.errors import SettingsError

from ..engine import checkpoint
from . import limited
from .limited import Limits, UnfitError

WEIGHTS = Limits(file_bytes=4 << 30)
"""Limits for a file of weights: AVID's of AudioSet has 1.8 GB of memory banks."""
STATISTICS = Limits(file_bytes=1 << 20, memory_bytes=1 << 28, written_bytes=0, cpu_seconds=20, seconds=60)
"""Limits for a file of means and deviations."""
MOST_TENSOR_BYTES = 1 << 29
"""Maximum bytes of the tensors that are passed on: six times AVID's, twice CrissCross's with its heads."""
FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
"""Types of weights; of others, such as numbers of 8 bits, torch cannot say whether they are finite."""
MOST_NAMES, MOST_NAME_LETTERS = 10_000, 200
MOST_BINS = 1 << 14
"""Maximum number of bins of a spectrogram."""
STATES = ("model", "state_dict")
"""Entries that contain the weights, in files that contain more."""
PARALLEL = "module."
"""Prefix of all names of a model that was trained by DataParallel."""
SAFE_TORCH = (2, 6)
"""First version whose weights-only loading runs nothing of a file (CVE-2025-32434)."""


@dataclass(frozen=True, slots=True)
class Found:
    """Contents of a file of weights."""

    tensors: Mapping[str, Tensor]
    """By the authors' names, without the prefix of DataParallel."""
    others: tuple[str, ...]
    """Names of all else, such as the optimizer."""


def is_safe() -> bool:
    """Whether the installed torch reads weights without running anything of the file."""
    return tuple(int(part) for part in torch.__version__.split(".")[:2]) >= SAFE_TORCH


def read_weights(path: Path, scratch: Path) -> Found:
    """Read a file of weights in a process with limits; `scratch` is a folder for what it writes.

    Raises RunError for anything else than such a file, SettingsError for a torch that cannot read it safely.
    """
    if not is_safe():
        raise SettingsError(
            f"torch {torch.__version__}: may run code of a file that it reads (CVE-2025-32434); install torch 2.6 or newer"
        )
    out = (
        scratch / f"{len([*scratch.iterdir()])}.safetensors"
    )  # a new one: tensors may lie in the file of an earlier one
    others = limited.read(save_tensors, path, out, limits=WEIGHTS)
    if not isinstance(others, list):
        raise TypeError("the reader answers with a list")
    tensors = load(out.read_bytes())  # not mapped: the next file is written to the same place
    return Found(tensors, tuple(map(str, others)))


def read_statistics(path: Path, scratch: Path) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Read mean and std of each bin, in decibels, of a numpy archive (.npz), in a process with limits.

    Raises RunError for anything else than such a file.
    """
    found = limited.read(mean_and_std, path, scratch / "nothing", limits=STATISTICS)
    if not isinstance(found, list):
        raise TypeError("the reader answers with a list")
    mean, std = (tuple(map(float, each)) for each in found)
    return mean, std


def save_tensors(file: BinaryIO, out: Path) -> list[str]:
    """Save the tensors of a `torch.save` file as safetensors; return the names of all else.

    Only plain tensors of floating-point numbers pass, and single integers, the counters of batch norms.
    """
    torch.set_num_threads(1)
    try:
        document = torch.load(file, map_location="cpu", weights_only=True)
    except (UnpicklingError, RuntimeError, EOFError) as error:
        if "allocate memory" in str(error):
            raise MemoryError from error
        raise UnfitError(_unread(str(error))) from error
    tensors, others = _parts(document)
    _check(tensors)
    copies = {name: value.detach().contiguous().clone() for name, value in tensors.items()}
    checkpoint.save_safetensors(copies, out, needed=sum(value.nbytes for value in copies.values()))
    return others


def _unread(message: str) -> str:
    """Why torch did not read a file, from its long message, which advises to run the file."""
    words = message.split()
    if "GLOBAL" in words[:-1]:
        return f"holds more than weights ({limited.plain(words[words.index('GLOBAL') + 1])}), and nothing of it was run"
    return "is not a whole file of torch.save (a .zip around one has to be unpacked first)"


def _parts(document: object) -> tuple[dict[str, Tensor], list[str]]:
    """Tensors of the weights that a file holds, and the names of all else."""
    if not isinstance(document, dict):
        raise UnfitError("holds no table of weights")
    inner = next((name for name in STATES if isinstance(document.get(name), dict)), None)
    state = document if inner is None else document[inner]
    if len(state) > MOST_NAMES or len(document) > MOST_NAMES:
        raise UnfitError(f"holds more than {MOST_NAMES} names")
    for name in (*state, *document):
        if not isinstance(name, str) or len(name) > MOST_NAME_LETTERS or not (name.isascii() and name.isprintable()):
            raise UnfitError(f"holds a name that no network has ({limited.plain(str(name))})")
    tensors = {name: value for name, value in state.items() if _is_number(value)}
    others = [name for name in state if name not in tensors]
    others += [name for name in document if inner is not None and name != inner]
    prefix = PARALLEL if all(name.startswith(PARALLEL) for name in tensors) else ""
    return {name.removeprefix(prefix): value for name, value in tensors.items()}, others


def _is_number(value: object) -> bool:
    return isinstance(value, Tensor) and (value.dtype in FLOATS or (value.dtype == torch.int64 and value.ndim == 0))


def _check(tensors: Mapping[str, Tensor]) -> None:
    """Raise UnfitError for tensors without memory of their own kind, or larger than is passed on."""
    for name, value in tensors.items():
        if type(value) not in (Tensor, nn.Parameter) or value.layout is not torch.strided or value.device.type != "cpu":
            raise UnfitError(f"holds a tensor that is not plain ({name})")
    size = sum(value.numel() * value.element_size() for value in tensors.values())
    if size > MOST_TENSOR_BYTES:  # whatever memory they share
        raise UnfitError(f"holds weights of {size} bytes, and no more than {MOST_TENSOR_BYTES} are read")


def mean_and_std(file: BinaryIO, _out: Path) -> list[list[float]]:
    """Mean and std of each bin of a numpy archive (.npz) with these two names."""
    archive = np.load(file, allow_pickle=False)
    if not isinstance(archive, Mapping) or not {"mean", "std"}.issubset(archive):
        raise UnfitError("is not an .npz file with mean and std")
    found = [np.asarray(archive[name], dtype=np.float64).ravel() for name in ("mean", "std")]
    if len(found[0]) != len(found[1]) or not 1 <= len(found[0]) <= MOST_BINS:
        raise UnfitError(f"has {len(found[0])} means and {len(found[1])} deviations")
    if not all(np.isfinite(each).all() for each in found) or found[1].min() < 0:
        raise UnfitError("has means or deviations that cannot be")
    return [each.tolist() for each in found]
