"""Plug-ins by module name: `methods/avcl.py` is the plug-in `avcl`; there is no registry to edit."""

import ast
import difflib
import importlib
import importlib.util
import os
import pkgutil
import sys
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType

from .errors import SettingsError


def names(package: str) -> list[str]:
    """Public modules of a package, sorted; nothing is imported."""
    return [module.name for module in _modules(package)]


def first_lines(package: str) -> dict[str, str]:
    """First docstring line of each public module, by name; nothing is imported."""
    found = {}
    for module in _modules(package):
        spec = module.module_finder.find_spec(module.name, None)
        source = Path(spec.origin).read_text("utf-8") if spec and spec.origin else ""
        found[module.name] = (ast.get_docstring(ast.parse(source)) or "").partition("\n")[0]
    return found


def _modules(package: str) -> list[pkgutil.ModuleInfo]:
    """Public modules of a package, sorted by name; raises ModuleNotFoundError if there is no such package."""
    imported = sys.modules.get(package)
    spec = None if imported else importlib.util.find_spec(package)
    path = imported.__path__ if imported else spec.submodule_search_locations if spec else None
    if path is None:
        raise ModuleNotFoundError(f"there is no package {package}", name=package)
    found = (module for module in pkgutil.iter_modules(path) if not module.name.startswith("_"))
    return sorted(found, key=lambda module: module.name)


def load(package: str, name: str) -> ModuleType:
    """Import the module of this name; raises SettingsError listing the valid names."""
    kind = package.rpartition(".")[2].rstrip("s")
    valid = names(package)
    if name not in valid:
        raise SettingsError(f"no {kind} is called {name!r}; there are: {', '.join(valid)}{nearest(name, valid)}")
    return importlib.import_module(f"{package}.{name}")


def nearest(word: str, words: Iterable[str], *, cutoff: float = 0.5) -> str:
    """A hint with up to three similar names, else names that contain the word, or nothing.

    `cutoff`: least similarity, from 0 to 1.
    """
    names = list(words)
    within = sorted(
        (name for name in names if len(word) > 2 and word in name), key=lambda name: not name.startswith(word)
    )
    close = difflib.get_close_matches(word, names, n=3, cutoff=cutoff) or within[:3]
    return f" (did you mean {' or '.join(map(repr, close))}?)" if close else ""


def ignore_working_folder() -> None:
    """Keep Python processes started from now on from importing files of the working directory.

    The processes of `multiprocessing` and its resource tracker are each a `python -c`, which would look there first.
    """
    os.environ["PYTHONSAFEPATH"] = "1"
