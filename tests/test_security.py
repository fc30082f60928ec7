"""The list of defences is true: each stands in the code, is told in the documentation, and has its test."""

import ast
import functools
import runpy
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
SCRIPT = runpy.run_path(str(ROOT / "benchmarks/removed_defences.py"))
DEFENCES: tuple[Any, ...] = SCRIPT["DEFENCES"]


@functools.cache
def names_in(place: str) -> set[str]:
    """Names of a file's tests, below the class that they stand in."""
    found: set[str] = set()
    for node in ast.parse((ROOT / place).read_text("utf-8")).body:
        if isinstance(node, ast.ClassDef):
            found.update(f"{node.name}::{each.name}" for each in node.body if isinstance(each, ast.FunctionDef))
        elif isinstance(node, ast.FunctionDef):
            found.add(node.name)
    return found


def test_each_defence_stands_in_the_code_and_has_its_test() -> None:
    """`benchmarks/removed_defences.py` takes each out and sees that test fail."""
    for each in DEFENCES:
        place, _, name = each.test.partition("[")[0].partition("::")
        assert each.removed() != (ROOT / each.file).read_text("utf-8"), each.name
        assert name in names_in(place), each.name


def test_the_documentation_tells_of_each_in_its_group() -> None:
    told = (ROOT / "docs/security.md").read_text("utf-8")

    assert len({each.name for each in DEFENCES}) == len(DEFENCES)
    for table in SCRIPT["tables"](DEFENCES).split("\n\n### "):
        assert table in told, "put the output of benchmarks/removed_defences.py --table there"


def test_a_defence_that_is_not_there_any_more_is_told() -> None:
    gone = SCRIPT["Defence"]("Names", "a wall", "kinetics_sounds/clip.py", "no such text", "", "tests/test_clip.py::x")

    with pytest.raises(ValueError, match=r"a wall: its text is 0 times in kinetics_sounds/clip\.py, not once"):
        gone.removed()
