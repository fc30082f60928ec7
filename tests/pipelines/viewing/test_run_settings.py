"""Settings of runs on a page: of every run a few, and those in which runs differ."""

from pathlib import Path

import pytest

from kinetics_sounds.errors import RunError
from kinetics_sounds.pipelines.viewing import run_settings


def test_settings_that_affect_training_are_read_by_dotted_name(tmp_path: Path) -> None:
    lines = ["method: avcl", "workers: 3", "out: /home/ann", "seed: 1", "clip_norm: 2.0", "optim: {lr: 0.1}"]
    lines += ["avcl: {amfm: {gate: relu}}", "moco: {queue: 4}"]
    (tmp_path / "config.yaml").write_text("\n".join(lines))

    assert run_settings.read(tmp_path) == {
        "method": "avcl",
        "optim.lr": "0.1",
        "seed": "1",
        "max_grad_norm": "2.0",
        "avcl.amfm.gate": "relu",
    }
    assert run_settings.read(tmp_path / "none") == {}


def test_a_config_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("a: &a [*a]")

    with pytest.raises(RunError, match=r"config\.yaml: cannot be read: line 1: aliases"):
        run_settings.read(tmp_path)


def test_of_several_runs_those_of_all_that_differ_are_shown_and_at_most_ten() -> None:
    one = {"method": "avcl", "seed": "0", "batch": "4", "same": "1", **{f"s{n:02}": "0" for n in range(12)}}
    other = {**one, "seed": "1", "batch": "8", **{f"s{n:02}": "1" for n in range(12)}, "moco.queue": "4"}

    assert run_settings.shown([one]) == (["method", "seed"], 0)
    assert run_settings.shown([one, other]) == (["method", "seed", *(f"s{n:02}" for n in range(10))], 2)
    assert run_settings.shown([one, other, {}]) == run_settings.shown([one, other])  # nothing is known of the third
