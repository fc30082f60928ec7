"""docs/papers.md: every row of the recipes' tables has its place there, and every command there is one."""

import re
from pathlib import Path

import pytest

from kinetics_sounds.settings import Layers
from kinetics_sounds.train import evaluate
from kinetics_sounds.train.config import recipes
from kinetics_sounds.train.evaluation import papers

PAGE = (Path(__file__).parents[1] / "docs" / "papers.md").read_text()
TABLED = {name for name, each in recipes.recipes().items() if isinstance(each.config, Layers)}
NOT_A_ROW = {"avcl_k100", "avcl_k100_recommended", "avcl_k32_ancestor", "avid_k32", "cma_k32"}
"""Recipes of tables that are no row of a paper's table."""


def named() -> set[str]:
    """Recipes that the page names: `avcl_k32_table1_raw_audio`, and `_one_frame` for the rest of a name before it."""
    found: set[str] = set()
    for row in PAGE.splitlines():
        stem = ""
        for word in re.findall(r"`(?:ks-train --config )?([a-z0-9_]+)(?: --init_from runs/[a-z0-9_]+)?`", row):
            if word.startswith("_") and stem:
                ends = [end for end in range(len(stem)) if f"{stem[:end]}{word}" in recipes.recipes()]
                assert ends, f"{word} after {stem} is no recipe"
                word = f"{stem[: max(ends)]}{word}"
            if word in recipes.recipes():
                stem = word
                found.add(word)
    return found


def test_every_row_has_its_command() -> None:
    of_k100 = {name.replace("_k32_", "_k100_") for name in named() if "_k32_table4_" in name}

    assert TABLED - NOT_A_ROW - named() - of_k100 == set()


@pytest.mark.parametrize("word", sorted(set(re.findall(r"--config ([a-z0-9_]+)|--init_from runs/([a-z0-9_]+)", PAGE))))
def test_every_recipe_that_is_named_is_shipped(word: tuple[str, str]) -> None:
    assert "".join(word) in recipes.recipes()


@pytest.mark.parametrize("word", sorted(set(re.findall(r"ks-eval ([a-z_]+)", PAGE))))
def test_every_protocol_that_is_named_is_there(word: str) -> None:
    assert word in evaluate.names()


def test_every_protocol_of_a_paper_has_its_row() -> None:
    named = set(re.findall(r"`(?:ks-eval )?(?:--protocol )?([a-z0-9_]+)(?: --run [^`]*)?`", PAGE))
    commands = set(re.findall(r"--protocol ([a-z0-9_]+)", PAGE))

    assert papers.protocols().keys() - named == set()
    assert commands - papers.protocols().keys() == set()
