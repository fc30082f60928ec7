"""Checks of Python, the platform and the installed packages against our package metadata."""

import importlib
import platform
import re
import sys
from collections.abc import Iterator
from importlib import metadata

from kinetics_sounds.command import has_torch, missing_package
from kinetics_sounds.console import COMMANDS
from kinetics_sounds.extras import DISTRIBUTION, pip_install

from . import Asked, Finding, Verdict


def python(_asked: Asked) -> Iterator[Finding]:
    """The interpreter and the platform."""
    from packaging.specifiers import SpecifierSet

    version, wanted = platform.python_version(), metadata.metadata(DISTRIBUTION)["Requires-Python"]
    if SpecifierSet(wanted).contains(version, prereleases=True):
        yield Finding("python", Verdict.OK, f"{version} ({sys.executable})")
    else:
        remedy = f"make another environment with Python {wanted}"
        yield Finding("python", Verdict.MISSING, f"{version}; {wanted} is needed", remedy)
    machine = f"{platform.system()} {platform.machine()}"
    if machine == "Linux x86_64":
        yield Finding("platform", Verdict.OK, machine)
    else:
        remedy = "see the other checks; shards may differ in their bytes from those made on x86-64"
        yield Finding("platform", Verdict.WARNING, f"{machine}; only Linux x86-64 is tested", remedy)


def packages(_asked: Asked) -> Iterator[Finding]:
    """Every dependency for this platform, including those of the extras, and of training where torch is installed."""
    try:
        from packaging.requirements import Requirement
    except ModuleNotFoundError:
        yield from _not_installed()
        return
    ours = ("", "train") if has_torch() else ("",)
    for text in metadata.requires(DISTRIBUTION) or ():
        wanted = Requirement(text)
        if wanted.marker is not None and not any(wanted.marker.evaluate({"extra": extra}) for extra in ours):
            continue
        extras = f"[{','.join(sorted(wanted.extras))}]" if wanted.extras else ""
        name, remedy = f"package {wanted.name}{extras}", f"pip install '{wanted.name}{extras}{wanted.specifier}'"
        version, lacks = _lacks(text)
        for extra in sorted(wanted.extras):
            for brought in metadata.requires(wanted.name) or () if version else ():
                marker = Requirement(brought).marker
                if marker and marker.evaluate({"extra": extra}) and not marker.evaluate({"extra": ""}):
                    lacks += [f"{Requirement(brought).name} {lack}" for lack in _lacks(brought)[1]]
        if lacks:
            yield Finding(name, Verdict.MISSING, "; ".join(filter(None, [version, *lacks])), remedy)
        else:
            yield Finding(name, Verdict.OK, version)


def _not_installed() -> Iterator[Finding]:
    """Dependencies that are not installed, by name alone: without `packaging`, neither versions nor markers can be read."""
    for text in metadata.requires(DISTRIBUTION) or ():
        name = re.split(r"[^A-Za-z0-9_.-]", text)[0]
        try:
            metadata.version(name)
        except metadata.PackageNotFoundError:
            if ";" not in text:
                yield Finding(f"package {name}", Verdict.MISSING, "is not installed", pip_install())


def _lacks(text: str) -> tuple[str, list[str]]:
    """Installed version of a requirement (empty: none), and what is wrong with it."""
    from packaging.requirements import Requirement

    wanted = Requirement(text)
    try:
        version = metadata.version(wanted.name)
    except metadata.PackageNotFoundError:
        return "", ["is not installed"]
    if wanted.specifier.contains(version, prereleases=True):
        return version, []
    return version, [f"{wanted.specifier} is needed"]


def commands(_asked: Asked) -> Iterator[Finding]:
    """Whether each command's imports work: an installed package may fail to load."""
    fine = []
    for prog, module in COMMANDS.items():
        try:
            importlib.import_module(f"kinetics_sounds.{module}")
        except ModuleNotFoundError as error:
            found = missing_package(error) or (f"{type(error).__name__}: {error}", "this is a bug: report it")
            yield Finding(prog, Verdict.MISSING, *found)
        except Exception as error:  # noqa: BLE001 - a broken package may raise anything when it is imported
            remedy = "reinstall the named package, for example with pip install --force-reinstall NAME"
            yield Finding(prog, Verdict.MISSING, f"{type(error).__name__}: {error}", remedy)
        else:
            fine.append(prog)
    if fine:
        yield Finding("commands", Verdict.OK, f"{', '.join(sorted(fine))} load")
    else:
        yield Finding("commands", Verdict.MISSING, "none can be imported", pip_install())
