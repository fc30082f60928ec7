"""A file in a folder is its own entry, and a wrong name is told the right ones."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from kinetics_sounds import plugins
from kinetics_sounds.errors import SettingsError


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    folder = tmp_path / "some_methods"
    folder.mkdir()
    for name in ("__init__", "moco", "avcl", "_shared"):
        (folder / f"{name}.py").write_text(f"NAME = {name!r}\n")
    (folder / "broken.py").write_text("import no_such_tool\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield folder.name
    for name in [name for name in sys.modules if name.partition(".")[0] == folder.name]:
        del sys.modules[name]


def test_every_public_module_is_a_name_and_they_are_sorted(package: str) -> None:
    assert plugins.names(package) == ["avcl", "broken", "moco"]


def test_listing_names_imports_none_of_them(package: str) -> None:
    plugins.names(package)

    assert f"{package}.broken" not in sys.modules


def test_a_new_file_is_a_new_name(package: str, tmp_path: Path) -> None:
    (tmp_path / package / "byol.py").write_text("NAME = 'mine'\n")

    assert plugins.load(package, "byol").NAME == "mine"


def test_a_name_is_its_module(package: str) -> None:
    assert plugins.load(package, "avcl").NAME == "avcl"


@pytest.mark.parametrize("name", ["", "acvl", "AVCL", "_shared", "__init__", "../avcl", "avcl.x", "os", "avcl "])
def test_any_other_name_is_refused_with_the_valid_ones(name: str, package: str) -> None:
    with pytest.raises(SettingsError, match=r"no some_method is called .*; there are: avcl, broken, moco"):
        plugins.load(package, name)


def test_the_nearest_name_is_suggested(package: str) -> None:
    with pytest.raises(SettingsError, match=r"\(did you mean 'avcl'\?\)$"):
        plugins.load(package, "acvl")


def test_a_module_that_lacks_its_tool_says_which(package: str) -> None:
    with pytest.raises(ModuleNotFoundError, match="no_such_tool"):
        plugins.load(package, "broken")


@pytest.mark.parametrize(
    ("word", "clause"),
    [
        ("zumbas", " (did you mean 'zumba'?)"),
        ("plaing piano", " (did you mean 'playing piano' or 'playing organ'?)"),
        ("zzzz", ""),
        ("play", " (did you mean 'playing organ' or 'playing piano'?)"),
        ("organ", " (did you mean 'playing organ'?)"),
        ("", ""),
    ],
)
def test_near_words_are_suggested_best_first_and_far_ones_are_not(word: str, clause: str) -> None:
    assert plugins.nearest(word, ["bowling", "playing organ", "playing piano", "zumba"]) == clause


def test_at_most_three_words_are_suggested() -> None:
    assert plugins.nearest("ab", [f"ab{n}" for n in range(9)]).count("'") == 6


def test_shipped_sources_are_found_by_their_names() -> None:
    assert {"local", "youtube"} <= set(plugins.names("kinetics_sounds.sources"))
