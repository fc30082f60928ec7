"""A recipe of one's own that builds on another: `base`."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from kinetics_sounds.errors import SettingsError
from kinetics_sounds.train import pretrain
from kinetics_sounds.train.config import recipes, run_folder
from kinetics_sounds.train.config.settings import read_settings

Argv = Callable[..., list[str]]


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    return path


def test_of_two_bases_and_the_command_line_the_later_wins(tmp_path: Path) -> None:
    """Groups are put together setting by setting; files lie where the file says that names them."""
    write(tmp_path / "below" / "first.yaml", "base: avcl_k32\nbatch: 5\noptim:\n  lr: 0.25\n  momentum: 0.5\n")
    mine = write(tmp_path / "mine.yaml", "base: below/first.yaml\noptim:\n  lr: 0.5\nseed: 3\n")

    parsed, plain = read_settings([f"--config={mine}", "--seed=4"]), read_settings(["--config=avcl_k32"])

    its = parsed.settings
    assert (its.batch, its.optim.lr, its.optim.momentum, its.seed) == (5, 0.5, 0.5, 4)
    assert (its.epochs, parsed.groups) == (plain.settings.epochs, plain.groups)
    assert parsed.configs == (mine,)
    assert run_folder.recipe_name(mine) == "mine"


@pytest.mark.parametrize(
    ("base", "own", "typed", "expected"),
    [
        ("steps: 40", "epochs: 2", (), (2, None)),
        ("epochs: 2", "steps: 40", (), (2, 40)),
        ("steps: 40", "epochs: 2\nsteps: 3", (), (2, 3)),
        ("seed: 0", "steps: 40", ("--epochs", "5"), (5, None)),
        ("seed: 0", "epochs: 2", ("--steps=5",), (2, 5)),
    ],
)
def test_of_epochs_and_steps_the_one_that_is_set_later_counts(
    base: str, own: str, typed: tuple[str, ...], expected: tuple[int, int | None], tmp_path: Path
) -> None:
    write(tmp_path / "base.yaml", f"base: avcl_tiny\n{base}\n")
    mine = write(tmp_path / "mine.yaml", f"base: base.yaml\n{own}\n")

    its = read_settings([f"--config={mine}", *typed]).settings

    assert (its.epochs, its.steps) == expected


def test_epochs_and_steps_are_not_both_typed() -> None:
    with pytest.raises(SettingsError, match=r"^--epochs and --steps: both say how long to train; give one of them$"):
        read_settings(["--config=avcl_tiny", "--epochs=2", "--steps=3"])


def test_a_row_of_a_table_can_be_built_on(tmp_path: Path) -> None:
    mine = write(tmp_path / "mine.yaml", "base: avcl_k32_table2_conv4\nbatch: 5\n")

    parsed = read_settings([f"--config={mine}"])

    assert (parsed.settings.batch, parsed.groups["avcl"].cgra_layer) == (5, "conv4")


def test_a_run_says_all_of_it_and_stands_by_itself(small: Argv, tmp_path: Path) -> None:
    mine = write(tmp_path / "mine.yaml", "base: avcl_tiny\noptim:\n  lr: 0.125\n")
    _, *rest = small(tmp_path / "run", "--steps=1")
    assert pretrain.main([f"--config={mine}", *rest]) == 0
    mine.unlink()

    kept = run_folder.reopen(tmp_path / "run")
    assert kept.settings.optim.lr == 0.125
    assert "base" not in (tmp_path / "run" / "config.yaml").read_text()
    assert run_folder.read_facts(tmp_path / "run")["recipe"] == "mine"


@pytest.mark.parametrize(
    ("texts", "said"),
    [
        ({"mine": "base: mine.yaml\n"}, "mine.yaml: base: mine.yaml: recipes build in a circle"),
        ({"mine": "base: b.yaml\n", "b": "base: mine.yaml\n"}, "mine.yaml: base: b.yaml: recipes build in a circle"),
        (
            {"mine": "base: 1.yaml\n", **{str(place): f"base: {place + 1}.yaml\n" for place in range(1, 10)}},
            "8.yaml: base: 9.yaml: recipes build on more than 8 others",
        ),
        ({"mine": "base: avcl_k23\n"}, "base: avcl_k23 is neither a file (there is no "),
        ({"mine": "base: b\n", "b": ""}, "b) nor a recipe (did you mean 'b.yaml'?); list them with: ks-train --list"),
        ({"mine": "base: [avcl_k32]\n"}, "mine.yaml: base: ['avcl_k32'] is not a name"),
        ({"mine": "base: b.yaml\n", "b": "base: avcl_k32\nbach: 1\n"}, "b.yaml: Key 'bach' is not accepted"),
        ({"mine": "base: b.yaml\n", "b": "optim:\n  lr: fast\n"}, "b.yaml: "),
    ],
)
def test_what_cannot_be_built_on_is_refused_with_the_file_that_says_it(
    texts: dict[str, str], said: str, tmp_path: Path
) -> None:
    for name, text in texts.items():
        write(tmp_path / f"{name}.yaml", text)

    with pytest.raises(SettingsError) as caught:
        read_settings([f"--config={tmp_path / 'mine.yaml'}"])
    assert said in str(caught.value)


def test_the_run_of_a_stranger_reads_no_other_file(finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished, tmp_path / "run")
    config = tmp_path / "run" / "config.yaml"
    config.write_text(f"base: {write(tmp_path / 'secret.yaml', 'batch: 7')}\n{config.read_text()}")

    with pytest.raises(SettingsError, match="Key 'base' is not accepted"):
        run_folder.reopen(tmp_path / "run")


def test_a_shipped_file_may_build_on_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And a row of a table on that."""
    shutil.copytree(recipes.RECIPES, tmp_path / "recipes")
    write(tmp_path / "recipes" / "deep_k32.yaml", "# command: …\nbase: avcl_k32\nbatch: 5\n")
    table = "- {base: deep_k32, hardware: h, time: t, recipes: {deep_k32_row: {is: A row, set: {seed: 9}}}}\n"
    write(tmp_path / "recipes" / "deep_tables.yaml", table)
    monkeypatch.setattr(recipes, "RECIPES", tmp_path / "recipes")
    recipes.recipes.cache_clear()
    try:
        row, deep = (read_settings([f"--config={name}"]).settings for name in ("deep_k32_row", "deep_k32"))
    finally:
        recipes.recipes.cache_clear()

    assert (row.batch, row.seed, row.epochs) == (5, 9, 300)
    assert (deep.batch, deep.seed) == (5, 0)


def test_a_file_of_ones_own_is_listed_with_its_own_head(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mine = write(tmp_path / "avcl_k32.yaml", "# Mine.\n# score: none\nbase: avcl_tiny\noptim:\n  lr: 0.5\nbatch: 4\n")
    assert pretrain.main(["--list", f"--config={mine}"]) == 0
    changes = "changes:  avcl_tiny with {batch: 4, optim: {lr: 0.5}}"
    assert capsys.readouterr().out == f"{mine}\n    Mine.\n    score: none\n    {changes}\n"

    bare = write(tmp_path / "bare.yaml", "base: avcl_tiny\n")
    assert pretrain.main(["--list", f"--config={bare}"]) == 0
    assert capsys.readouterr().out.startswith(f"{bare}\n    has no header; ")
