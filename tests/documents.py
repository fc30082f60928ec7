"""The examples of docs/extending.md, in the package for as long as a test runs."""

import importlib
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

TEXT = (Path(__file__).parents[1] / "docs/extending.md").read_text()
EXAMPLES: dict[str, str] = dict(re.findall(r"(?ms)^```(?:python|yaml)\n# (\S+\.(?:py|yaml))\n(.*?)^```$", TEXT))
"""Code, and recipes, by the path that each is to have."""


@contextmanager
def installed(path: str, folder: Path) -> Iterator[None]:
    """The example of that path, as one more file of its package; it is written into `folder`."""
    names = Path(path).with_suffix("").parts
    package = ".".join(names[:-1] if names[0] == "kinetics_sounds" else ("kinetics_sounds", *names[:-1]))
    (folder / names[-1]).mkdir()
    (folder / names[-1] / f"{names[-1]}.py").write_text(EXAMPLES[path])
    holder = importlib.import_module(package)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(holder, "__path__", [*holder.__path__, str(folder / names[-1])])
        yield
    sys.modules.pop(f"{package}.{names[-1]}", None)
    vars(holder).pop(names[-1], None)
