"""Plug-ins by module name: `methods/avcl.py` is the plug-in `avcl`; there is no registry to edit."""

import difflib
import importlib
import os
import pkgutil
from collections.abc import Iterable
from types import ModuleType

from .errors import SettingsError


def names(package: str) -> list[str]:
    """Public modules of a package, sorted."""
    path = importlib.import_module(package).__path__
    return sorted(module.name for module in pkgutil.iter_modules(path) if not module.name.startswith("_"))


def load(package: str, name: str) -> ModuleType:
    """Import the module of this name; raises SettingsError listing the valid names."""
    kind = package.rpartition(".")[2].rstrip("s")
    valid = names(package)
    if name not in valid:
        raise SettingsError(f"there is no {kind} {name!r}; available: {', '.join(valid)}{nearest(name, valid)}")
    return importlib.import_module(f"{package}.{name}")


def nearest(word: str, words: Iterable[str]) -> str:
    """A hint with up to three similar names, or nothing."""
    close = difflib.get_close_matches(word, list(words), n=3, cutoff=0.5)
    return f" (did you mean {' or '.join(map(repr, close))}?)" if close else ""


def ignore_working_folder() -> None:
    """Keep Python processes started from now on from importing files of the working directory.

    The processes of `multiprocessing` and its resource tracker are each a `python -c`, which would look there first.
    """
    os.environ["PYTHONSAFEPATH"] = "1"
