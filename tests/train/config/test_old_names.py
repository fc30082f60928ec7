"""Command lines, recipes and runs with the names of 0.1.0 work, with a warning, and both names at once do not."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from kinetics_sounds import renamed
from kinetics_sounds.errors import RunError, SettingsError
from kinetics_sounds.pipelines.publishing import run_facts
from kinetics_sounds.train.config import run_folder
from kinetics_sounds.train.config.settings import named, read_settings
from kinetics_sounds.train.engine import checkpoint_state

OLD = Path(__file__).parent / "runs_0_1_0/stopped"
STEP = "checkpoints/step-00000007"


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    """Warnings are given once a process."""
    renamed._warn.cache_clear()
    yield
    renamed._warn.cache_clear()


def test_a_command_line(caplog: pytest.LogCaptureFixture) -> None:
    argv = ["--clip_norm", "1", "--recompute", "--accumulate=2", '--optim.factors={"video.*": 2}', "--init=runs/a"]

    old, new = read_settings(argv).settings, read_settings([]).settings

    assert (old.max_grad_norm, old.activation_checkpointing, old.grad_accum_steps) == (1.0, True, 2)
    assert (old.optim.lr_multipliers, old.init_from) == ({"video.*": 2.0}, Path("runs/a"))
    assert (new.max_grad_norm, new.optim.lr_multipliers) == (None, {})
    assert "--clip_norm is now --max_grad_norm; the old name is accepted until 0.3" in caplog.messages
    assert named(argv, "init_from")


def test_a_recipe_and_what_builds_on_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "base.yaml").write_text("clip_norm: 2\nsample_seconds: 5\noptim:\n  cut: 0.25\n")
    mine = tmp_path / "mine.yaml"
    mine.write_text("base: base.yaml\nclip_norm: 3\noptim:\n  least_lr: 1e-3\n")

    its = read_settings([f"--config={mine}"]).settings

    assert (its.max_grad_norm, its.sample_timeout, its.optim.factor, its.optim.min_lr) == (3.0, 5.0, 0.25, 1e-3)
    assert any(message.startswith(f"{mine}: clip_norm is now max_grad_norm") for message in caplog.messages)
    assert any(message.startswith(f"{tmp_path / 'base.yaml'}: clip_norm is now") for message in caplog.messages)


@pytest.mark.parametrize(
    ("text", "argv", "said"),
    [
        ("", ("--ahead=2", "--prefetch_batches=3"), "--ahead and --prefetch_batches are the same option"),
        ("ahead: 2\nprefetch_batches: 3\n", (), "mine.yaml: ahead and prefetch_batches are the same setting"),
    ],
)
def test_both_names_at_once_are_refused(tmp_path: Path, text: str, argv: tuple[str, ...], said: str) -> None:
    mine = tmp_path / "mine.yaml"
    mine.write_text(text or "batch: 4\n")

    with pytest.raises(SettingsError, match=said.replace("mine.yaml", ".*mine.yaml.*")):
        read_settings([f"--config={mine}", *argv])


def test_the_settings_of_a_run_of_0_1_0(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    settings = run_folder.reopen(shutil.copytree(OLD, tmp_path / "run")).settings

    assert (settings.max_grad_norm, settings.sample_timeout, settings.optim.min_lr) == (1.0, 60.0, 1e-7)
    (warning,) = caplog.messages
    assert "clip_norm is now max_grad_norm" in warning
    assert "optim.least_lr is now optim.min_lr" in warning


def test_the_state_of_a_checkpoint_of_0_1_0(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    state = checkpoint_state.read_state(OLD / STEP)

    assert (state["max_grad_norm"], state["optim.factor"], state["grad_accum_steps"]) == (1.0, 0.1, 1)
    assert renamed.RENAMED.keys().isdisjoint(state)
    assert len(caplog.messages) == 1
    (tmp_path / "state.json").write_text(json.dumps({**state, "clip_norm": 1.0}))
    with pytest.raises(RunError, match="clip_norm and max_grad_norm are the same setting"):
        checkpoint_state.read_state(tmp_path)


def test_a_run_of_0_1_0_is_published_with_the_current_names(tmp_path: Path) -> None:
    run = shutil.copytree(OLD, tmp_path / "run")

    found = run_facts.collect(run, "last")

    assert (found.config["max_grad_norm"], found.config["optim"]["factor"]) == (1.0, 0.1)
    assert renamed.RENAMED.keys().isdisjoint(found.config)
