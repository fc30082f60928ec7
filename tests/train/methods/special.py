"""How the tests of every method train each of them: small, as the method's own test file says.

`test_NAME.py` may have, each with nothing as its default:

SMALL        settings of the method that make it small, and learn the same on any number of ranks: `{"dim": 8}`
TINY         those that the trainer is given otherwise, on 12 samples in batches of 4: `{"queue": 4}`
BUFFERS      numbers that its buffers are filled with before it learns
BEGINS_WITH  the method from whose run it begins (`--init_from`)
"""

import functools
import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from kinetics_sounds import plugins
from kinetics_sounds.train import methods
from kinetics_sounds.train.interface import Data
from kinetics_sounds.train.models.backbones import r3d

METHODS = tuple(sorted(plugins.names(methods.__name__)))


@dataclass(frozen=True, kw_only=True)
class Special:
    """What a method's test file says."""

    small: Mapping[str, Any]
    tiny: Mapping[str, Any]
    buffers: Mapping[str, float]
    begins_with: str | None


@functools.cache
def special(method: str) -> Special:
    """What is special about a method; AssertionError where it has no test file."""
    path = Path(__file__).parent / f"test_{method}.py"
    assert path.is_file(), f"{path}: is missing; each method has a test file of its own (docs/extending.md)"
    told = vars(importlib.import_module(f"{__package__}.{path.stem}"))
    small = dict(told.get("SMALL", {}))
    return Special(
        small=small,
        tiny=small | dict(told.get("TINY", {})),
        buffers=dict(told.get("BUFFERS", {})),
        begins_with=told.get("BEGINS_WITH"),
    )


def views(method: str) -> int:
    """Views of a sample that a method compares, as the trainer is given it."""
    module = plugins.load(methods.__name__, method)
    with torch.device("meta"):
        video, audio = (r3d.build(r3d.Settings(width=2)) for _ in range(2))
        data = Data(classes=2, samples=12, steps=6, steps_per_epoch=3, batch=4)
        made = module.build(module.Settings(**special(method).tiny), video=video, audio=audio, data=data)
    return int(made.views)


def options(method: str) -> tuple[str, ...]:
    """What ks-train is given so that a method learns from 12 samples within a second."""
    own = (f"--{method}.{name}={value}" for name, value in special(method).tiny.items())
    return (f"--method={method}", "--r3d.width=2", *own, f"--clip_and_mel.views={views(method)}")
