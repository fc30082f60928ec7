"""Checkpoints as folders: safetensors for every tensor, JSON for the rest, no pickle, so a stranger's is safe to load.

CHECKPOINTS/step-00000500/model.safetensors
                         /replicated.safetensors    of methods that have such buffers (`interface.Method.REPLICATED`)
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
from collections.abc import Iterator, Mapping
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
"""Suffix of a checkpoint whose step is being saved again."""
_PASSING = re.compile(rf"step-\d{{8,}}(?:{re.escape(OLD)})?{re.escape(files.PART)}")
"""Names of folders that are no checkpoint yet, or none any more."""


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
    """Write `step-…` under a temporary name, sync, rename; then drop all but the newest `keep` and that of step `best`.

    Returns its path. Raises OSError where the disk is full or fails: then nothing of it is left, and all others are. A checkpoint
    of the same step stays, as `step-….old`, until the new one has its name.
    """
    path = folder / _name(step)
    part, before = path.with_name(path.name + files.PART), path.with_name(path.name + OLD)
    files.make_folder(folder)
    tidy(folder)
    try:
        _write(part, model, optimizer, {"schema": checkpoint_state.SCHEMA, "step": step, **state})
        if path.exists():  # the same step, saved again by a run that went back to before it
            path.replace(before)
        part.replace(path)
    except Exception:
        shutil.rmtree(part, ignore_errors=True)
        if before.exists() and not path.exists():
            before.replace(path)
        raise
    files.sync_folder(folder)
    tidy(folder, keep=keep, best=best)
    return path


def tidy(folder: Path, *, keep: int | None = None, best: int | None = None) -> None:
    """Remove what a save that was killed, or that met a fault, left over; of the checkpoints all but the newest `keep`.

    That of step `best` stays too. None: they all do.
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


def _write(part: Path, model: nn.Module, optimizer: torch.optim.Optimizer, state: Mapping[str, Any]) -> None:
    """Fill the folder of a checkpoint, and sync it."""
    part.mkdir()
    told = part / "state.json"
    with files.named(told):
        told.write_text(json.dumps(state, indent=2) + "\n")
    # Copies, for safetensors has no word for two names of one tensor.
    values = {name: value.clone(memory_format=torch.contiguous_format) for name, value in model.state_dict().items()}
    apart = {name: values.pop(name).cpu() for name in [*values] if name.startswith(replicated(model))}
    all_files = {"model": values, "optimizer": _optimizer_tensors(model, optimizer)}
    if apart:
        all_files["replicated"] = apart
    needed = sum(each.nbytes for tensors in all_files.values() for each in tensors.values())
    for name, tensors in all_files.items():
        _save_tensors(tensors, part / f"{name}.safetensors", needed=needed)
        (part / f"{name}.safetensors").chmod(stat.S_IMODE(told.stat().st_mode))  # safetensors makes it 0600
    for file in part.iterdir():
        with file.open("rb+") as written, files.named(file):
            os.fsync(written.fileno())
    files.sync_folder(part)


def _save_tensors(tensors: dict[str, Tensor], path: Path, *, needed: int) -> None:
    """As safetensors does; raises the OSError that it hides in the words of its own, and what the checkpoint needs in all."""
    with files.named(path, needed=needed):
        try:
            save_file(tensors, path)
        except SafetensorError as error:
            if fault := _os_error(error, path):
                raise fault from error
            raise


def _name(step: int | None) -> str:
    return "" if step is None else f"step-{step:08d}"


def _of(folder: Path, name: str) -> Path:
    """The checkpoint of that name, or the one before it where a kill came as its step was being saved again."""
    return next((path for path in _all(folder) if path.name == name + OLD), folder / name)


def latest(folder: Path) -> Path | None:
    """The newest whole checkpoint, or None."""
    found = _all(folder)
    return found[-1] if found else None


def find(folder: Path, name: str) -> Path:
    """The checkpoint called `last`, `best`, or by its own name; raises RunError that lists those there are."""
    path = latest(folder) if name in ("last", "best") else _of(folder, name)
    if name == "best" and path is not None:
        best = checkpoint_state.read_state(path).get("best")
        if not isinstance(best, dict):
            raise RunError(f"{folder}: has no best checkpoint, as the run had no --val_split; take --checkpoint last")
        path = _of(folder, _name(best["step"]))
    if path is None or not (path / "state.json").is_file():
        there = ", ".join(each.name for each in _all(folder)) or "none"
        raise RunError(f"{folder}: has no checkpoint {name!r}; there are: {there}; train first with ks-train")
    return path


def check_shapes(path: Path, model: nn.Module) -> None:
    """Raise RunError where a model, of which nothing is in memory, is not the checkpoint's: only its header is read."""
    file = path / "model.safetensors"
    with _readable(file), safe_open(file, framework="pt") as found:
        there = {name: tuple(found.get_slice(name).get_shape()) for name in found.keys()}  # noqa: SIM118 - no mapping
    apart = replicated(model)
    own = {name: tuple(each.shape) for name, each in model.state_dict().items() if not name.startswith(apart)}
    for name in sorted(own.keys() | there.keys()):
        if own.get(name) != there.get(name):
            raise RunError(
                f"{path}: belongs to another model: its {name} is {there.get(name, 'not there')}, where the run's settings say "
                f"{own.get(name, 'that there is none')}"
            )


def load_model(path: Path, model: nn.Module) -> None:
    """Fill the model's weights and buffers; raises RunError where names or shapes differ.

    Replicated buffers (banks, queues) are read where the model has them, which one built for evaluation has not.
    """
    found = _tensors(path / "model.safetensors")
    if any(name.startswith(replicated(model)) for name in model.state_dict()):
        found |= _tensors(path / "replicated.safetensors")
    _check_encoders(path, found, model)
    try:
        model.load_state_dict(found)
    except RuntimeError as error:
        raise RunError(f"{path}: belongs to another model: {textwrap.shorten(str(error), 300)}") from error


def load_common(
    path: Path, model: nn.Module, prefixes: tuple[str, ...], *, needed: tuple[str, ...] = (), after: str = ""
) -> str:
    """Fill what begins with these prefixes from a checkpoint; says what.

    The first two are the encoders', which have to be there. Of the others (a gate, heads) each is taken whole, where the
    checkpoint has all of it in the same shapes. Raises RunError where it has no such encoders, or of other shapes, or lacks what
    is `needed`, which a run of the method `after` has.
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
                f"{path}: has no {name.partition('.')[0]}; give the folder of a run of --method {after} (a published one has "
                "its networks alone)"
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
        raise RunError(f"{path}: its encoders are others: {textwrap.shorten(str(error), 300)}") from error
    return f"{', '.join(sorted({name.partition('.')[0] for name in common}))} from {path}"


def _check_encoders(path: Path, found: Mapping[str, Tensor], model: nn.Module) -> None:
    """Raise RunError for two encoders where the model has one; warn of a shared encoder's statistics before they were apart."""
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
            "%s: was trained with one set of batch-norm statistics for both modalities (kinetics-sounds 0.1.0), so each is "
            "evaluated with a mixture; some hundred steps more of ks-train tell them apart",
            path,
        )


def _same(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors hold the same numbers; a NaN is the same as another."""
    return (one.shape, one.dtype) == (other.shape, other.dtype) and torch.allclose(
        one, other, rtol=0, atol=0, equal_nan=True
    )


def load_optimizer(path: Path, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Fill the optimiser's state by parameter name; raises RunError where a parameter is not the model's."""
    numbers = {parameter: number for number, parameter in enumerate(_parameters(optimizer))}
    place = {name: (numbers[each], each) for name, each in model.named_parameters() if each in numbers}
    state: dict[int, dict[str, Tensor]] = {}
    for full, tensor in _tensors(path / "optimizer.safetensors").items():
        name, _, kind = full.rpartition("/")
        if name not in place:
            raise RunError(f"{path}: its optimiser knows {name!r}, which the model has not")
        number, parameter = place[name]
        if tensor.shape == parameter.shape:  # in the parameter's memory format: a step over two formats is slow
            tensor = torch.empty_like(parameter).copy_(tensor)
        state.setdefault(number, {})[kind] = tensor
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def _tensors(path: Path) -> dict[str, Tensor]:
    with _readable(path):
        return load_file(path)


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Raise RunError with the remedy where the block cannot read a file of tensors."""
    try:
        yield
    except Exception as error:
        error = _os_error(error, path) or error
        raise checkpoint_state.unreadable(path, error) from error


def _os_error(error: Exception, path: Path) -> OSError | None:
    """The system's error that safetensors, and torch for it, hide in words of their own."""
    if isinstance(error, FileNotFoundError):  # as is said of any file that cannot be opened
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
    """In the order in which an optimiser numbers them."""
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


def _all(folder: Path) -> list[Path]:
    """Every whole checkpoint, oldest first; of a step that was being saved again, the one before where no new one is there."""
    found = {path.name: path for path in folder.glob("step-*") if path.is_dir() and path.suffix != files.PART}
    return [
        found[name] for name in sorted(found) if name.removesuffix(OLD) == name or name.removesuffix(OLD) not in found
    ]


def _drop(path: Path) -> None:
    """Remove a checkpoint so that no half of it is ever taken for a whole one."""
    doomed = path.with_name(path.name.removesuffix(OLD) + OLD + files.PART)
    path.replace(doomed)
    files.remove_folder(doomed)
