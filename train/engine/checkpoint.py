"""Checkpoints as folders of safetensors and JSON, without pickle, so files from untrusted sources are safe to load.

CHECKPOINTS/step-00000500/model.safetensors
                         /replicated.safetensors    if the method has such buffers (`interface.Method.REPLICATED`)
                         /optimizer.safetensors
                         /state.json
"""

import errno
import json
import logging
import os
import re
import shutil
import stat
import textwrap
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from kinetics_sounds import files
from kinetics_sounds.errors import RunError

from ..distributed import collectives
from ..interface import replicated
from . import checkpoint_state

log = logging.getLogger("kinetics_sounds")
OLD = ".old"
"""Suffix of a checkpoint that is being replaced by a new save of the same step."""
_PASSING = re.compile(rf"step-\d{{8,}}(?:{re.escape(OLD)})?{re.escape(files.PART)}")
"""Names of incomplete or doomed checkpoint folders."""


def save(
    folder: Path,
    step: int,
    *,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    state: Mapping[str, Any],
    keep: int,
    best: int | None = None,
) -> Path:
    """Write `step-…` atomically, then delete all but the newest `keep` checkpoints and that of step `best`.

    Returns its path. Raises OSError if the disk is full or fails: then no part of it remains and all other checkpoints are
    intact. An existing checkpoint of the same step remains as `step-….old` until the new one is complete.
    """
    path = save_tensors(folder, step, _files(model, optimizer), state=state)
    tidy(folder, keep=keep, best=best)
    return path


def save_tensors(
    folder: Path, step: int, all_files: Mapping[str, Mapping[str, Tensor]], *, state: Mapping[str, Any]
) -> Path:
    """Write `step-…` atomically, with the tensors of each of its files by name; returns its path and raises like `save`."""
    path = folder / _name(step)
    part, before = path.with_name(path.name + files.PART), path.with_name(path.name + OLD)
    files.make_folder(folder)
    tidy(folder)
    try:
        _write(part, all_files, {"schema": checkpoint_state.SCHEMA, "step": step, **state})
        if path.exists():  # the same step, saved again after resuming from an earlier one
            path.replace(before)
        part.replace(path)
    except Exception:
        shutil.rmtree(part, ignore_errors=True)
        if before.exists() and not path.exists():
            before.replace(path)
        raise
    files.sync_folder(folder)
    return path


def tidy(folder: Path, *, keep: int | None = None, best: int | None = None) -> None:
    """Delete leftovers of an interrupted save, and all checkpoints but the newest `keep` and that of step `best`.

    `keep=None` keeps all checkpoints.
    """
    for left in list(folder.glob(f"step-*{files.PART}")):
        if _PASSING.fullmatch(left.name):
            files.remove_folder(left)
    there = _all(folder)
    for old in folder.glob(f"step-*{OLD}"):
        if old not in there:
            _drop(old)
    for old in there[:-keep] if keep else ():
        if old.name.removesuffix(OLD) != _name(best):
            _drop(old)


def _files(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, dict[str, Tensor]]:
    """Tensors of each file of a checkpoint."""
    # Copies, because safetensors does not support shared tensors.
    values = {name: value.clone(memory_format=torch.contiguous_format) for name, value in model.state_dict().items()}
    apart = {name: values.pop(name).cpu() for name in [*values] if name.startswith(replicated(model))}
    all_files = {"model": values, "optimizer": _optimizer_tensors(model, optimizer)}
    return all_files | ({"replicated": apart} if apart else {})


def _write(part: Path, all_files: Mapping[str, Mapping[str, Tensor]], state: Mapping[str, Any]) -> None:
    """Write all files of a checkpoint and sync them to disk."""
    part.mkdir()
    told = part / "state.json"
    with files.named(told):
        told.write_text(json.dumps(state, indent=2) + "\n")
    needed = sum(each.nbytes for tensors in all_files.values() for each in tensors.values())
    for name, tensors in all_files.items():
        save_safetensors(tensors, part / f"{name}.safetensors", needed=needed)
        (part / f"{name}.safetensors").chmod(stat.S_IMODE(told.stat().st_mode))  # safetensors creates it with mode 0600
    for file in part.iterdir():
        with file.open("rb+") as written, files.named(file):
            os.fsync(written.fileno())
    files.sync_folder(part)


def save_safetensors(tensors: Mapping[str, Tensor], path: Path, *, needed: int) -> None:
    """Save tensors; on failure raise the OSError behind safetensors' own error, with the bytes that are needed in all."""
    with files.named(path, needed=needed):
        try:
            save_file(dict(tensors), path)
        except SafetensorError as error:
            if fault := _os_error(error, path):
                raise fault from error
            raise


def _name(step: int | None) -> str:
    return "" if step is None else f"step-{step:08d}"


def _of(folder: Path, name: str) -> Path:
    """Path of a checkpoint by name, or of its `.old` version if a save of the same step was interrupted."""
    return next((path for path in _all(folder) if path.name == name + OLD), folder / name)


def latest(folder: Path) -> Path | None:
    """The newest complete checkpoint, or None."""
    found = _all(folder)
    return found[-1] if found else None


def find(folder: Path, name: str) -> Path:
    """Find the checkpoint `last`, `best`, or by name; raise RunError that lists those available."""
    path = latest(folder) if name in ("last", "best") else _of(folder, name)
    if name == "best" and path is not None:
        best = checkpoint_state.read_state(path).get("best")
        if not isinstance(best, dict):
            raise RunError(
                f"{folder}: has no best checkpoint: no validation on a --val_split was done; use --checkpoint last"
            )
        path = _of(folder, _name(best["step"]))
    if path is None or not (path / "state.json").is_file():
        there = ", ".join(each.name for each in _all(folder)) or "none"
        raise RunError(f"{folder}: has no checkpoint {name!r}; there are: {there}; train first with ks-train")
    return path


def check_shapes(path: Path, model: nn.Module, *, lacks: Collection[str] = (), only: tuple[str, ...] = ("",)) -> None:
    """Raise RunError if a model on the meta device does not match the checkpoint's header; `lacks`, `only`: see `load_model`."""
    file = path / "model.safetensors"
    with _readable(file), safe_open(file, framework="pt") as found:
        names = [name for name in found.keys() if name.startswith(only)]  # noqa: SIM118 - no mapping
        there = {name: tuple(found.get_slice(name).get_shape()) for name in names}
    apart = (*replicated(model), *(f"{each}." for each in lacks))
    own = {name: tuple(each.shape) for name, each in model.state_dict().items() if not f"{name}.".startswith(apart)}
    for name in sorted(own.keys() | there.keys()):
        if own.get(name) != there.get(name):
            raise RunError(
                f"{path}: belongs to another model: its {name} is {there.get(name, 'not there')}, where the run's settings say "
                f"{own.get(name, 'that there is none')}"
            )


def load_model(path: Path, model: nn.Module, *, lacks: Collection[str] = (), only: tuple[str, ...] = ("",)) -> None:
    """Load weights and buffers into a model; raises RunError if names or shapes differ.

    Replicated buffers (banks, queues) are loaded only if the model has them; models built for evaluation do not. The modules
    `lacks` keep their weights. `only`: prefixes of the weights that are read.
    """
    found = {name: each for name, each in _tensors(path / "model.safetensors").items() if name.startswith(only)}
    if any(name.startswith(replicated(model)) for name in model.state_dict()):
        found |= _tensors(path / "replicated.safetensors")
    _check_encoders(path, found, model)
    found |= {name: each for name, each in model.state_dict().items() if name.partition(".")[0] in lacks}
    try:
        model.load_state_dict(found)
    except RuntimeError as error:
        raise RunError(f"{path}: belongs to another model: {textwrap.shorten(str(error), 300)}") from error


def load_common(
    path: Path, model: nn.Module, prefixes: tuple[str, ...], *, needed: tuple[str, ...] = (), after: str = ""
) -> str:
    """Initialize weights with these prefixes from a checkpoint; return a description of what was loaded.

    The first two prefixes are the encoders and required. Each other module (gate, head) is loaded if the checkpoint has all of
    it in equal shapes. Raises RunError if the encoders are missing or of other shapes, or if anything `needed` is, which runs
    of method `after` contain.
    """
    own, found = model.state_dict(), _tensors(path / "model.safetensors")
    if any(name.startswith(prefixes) for name in replicated(model)) and (path / "replicated.safetensors").is_file():
        found |= _tensors(path / "replicated.safetensors")
    encoders = [name for name in own if name.startswith(prefixes[:2])]
    missing = [name for name in encoders if name not in found]
    if missing:
        raise RunError(f"{path}: has no {missing[0]}, nor {len(missing) - 1} others; give a run of the same backbones")
    others: dict[str, list[str]] = {}
    for name in own:
        if name.startswith(prefixes[2:]):
            others.setdefault(name.partition(".")[0], []).append(name)
    fitting = [
        name
        for names in others.values()
        if all(name in found and found[name].shape == own[name].shape for name in names)
        for name in names
    ]
    for name in own:
        if name.startswith(needed) and name not in found:
            raise RunError(
                f"{path}: has no {name.partition('.')[0]}; give the folder of a run of --method {after} (published "
                "runs contain the networks only)"
            )
        if name.startswith(needed) and (there := tuple(found[name].shape)) != (here := tuple(own[name].shape)):
            raise RunError(
                f"{path}: its {name} is {there}, where this run has {here}; give a run of the same sizes and data"
            )
    common = {name: found[name] for name in (*encoders, *fitting)}
    _check_encoders(path, common, model)
    try:
        model.load_state_dict(common, strict=False)
    except RuntimeError as error:
        raise RunError(f"{path}: its encoders differ: {textwrap.shorten(str(error), 300)}") from error
    return f"{', '.join(sorted({name.partition('.')[0] for name in common}))} from {path}"


def _check_encoders(path: Path, found: Mapping[str, Tensor], model: nn.Module) -> None:
    """Check that encoders are separate or shared in both; raise RunError if not.

    Warns about a shared encoder of 0.1.0, which had one set of batch-norm statistics for both modalities.
    """
    own = dict(model.named_parameters(remove_duplicate=False))
    pairs = {name: name.replace("video.", "audio.", 1) for name in found if name.startswith("video.")}
    pairs = {video: audio for video, audio in pairs.items() if audio in found}
    for video, audio in pairs.items():
        if video in own and own[video] is own.get(audio) and not _same(found[video], found[audio]):
            raise RunError(
                f"{path}: has an encoder for each modality ({video} is not {audio}), where this run has one for both; give "
                "--encoders separate, or a run of --encoders shared"
            )
    means = [video for video in pairs if video.endswith(".running_mean") and found[video].count_nonzero()]
    if means and collectives.is_main() and all(_same(found[mean], found[pairs[mean]]) for mean in means):
        log.warning(
            "%s: was trained with one set of batch-norm statistics for both modalities (kinetics-sounds 0.1.0), so "
            "evaluation uses a mixture; a few hundred more steps of ks-train separate them",
            path,
        )


def _same(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors are equal, with NaN equal to NaN."""
    return (one.shape, one.dtype) == (other.shape, other.dtype) and torch.allclose(
        one, other, rtol=0, atol=0, equal_nan=True
    )


def load_optimizer(path: Path, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Load the optimizer state by parameter name; raises RunError for a parameter that the model does not have."""
    numbers = {parameter: number for number, parameter in enumerate(_parameters(optimizer))}
    place = {name: (numbers[each], each) for name, each in model.named_parameters() if each in numbers}
    state: dict[int, dict[str, Tensor]] = {}
    for full, tensor in _tensors(path / "optimizer.safetensors").items():
        name, _, kind = full.rpartition("/")
        if name not in place:
            raise RunError(f"{path}: its optimizer has {name!r}, which the model does not have")
        number, parameter = place[name]
        if tensor.shape == parameter.shape:  # in the parameter's memory format, because mixing formats is slow
            tensor = torch.empty_like(parameter).copy_(tensor)
        state.setdefault(number, {})[kind] = tensor
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def _tensors(path: Path) -> dict[str, Tensor]:
    with _readable(path):
        return load_file(path)


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Turn errors of reading a tensor file into a RunError with a remedy."""
    try:
        yield
    except Exception as error:
        error = _os_error(error, path) or error
        raise checkpoint_state.unreadable(path, error) from error


def _os_error(error: Exception, path: Path) -> OSError | None:
    """The OSError behind an error of safetensors or torch, or None."""
    if isinstance(error, FileNotFoundError):  # safetensors raises this for any file that cannot be opened
        try:
            path.open("rb").close()
        except OSError as told:
            return told
        return OSError(errno.EIO, os.strerror(errno.EIO), str(path))
    found = re.search(r"\((?:os error )?(\d{1,4})\)", str(error))
    if not found or (words := os.strerror(int(found[1]))) not in str(error):
        return None
    return OSError(int(found[1]), words, str(path))


def _optimizer_tensors(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    names: dict[Tensor, str] = {parameter: name for name, parameter in model.named_parameters()}
    return {
        f"{names[parameter]}/{kind}": value.contiguous()
        for parameter, state in optimizer.state.items()
        for kind, value in state.items()
        if isinstance(value, Tensor)
    }


def _parameters(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    """Parameters in the optimizer's order."""
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


def _all(folder: Path) -> list[Path]:
    """All complete checkpoints, oldest first. Includes a `.old` one if its replacement was not completed."""
    found = {path.name: path for path in folder.glob("step-*") if path.is_dir() and path.suffix != files.PART}
    return [
        found[name] for name in sorted(found) if name.removesuffix(OLD) == name or name.removesuffix(OLD) not in found
    ]


def _drop(path: Path) -> None:
    """Delete a checkpoint, so that an interrupted deletion never looks like a complete checkpoint."""
    doomed = path.with_name(path.name.removesuffix(OLD) + OLD + files.PART)
    path.replace(doomed)
    files.remove_folder(doomed)
