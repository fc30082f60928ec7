"""Where metrics go: to whom the setting names, with nothing of the machine."""

import builtins
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kinetics_sounds.errors import SettingsError
from kinetics_sounds.train import pretrain, tracking

Argv = Callable[..., list[str]]


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing is sent anywhere, and nothing is kept in a home."""
    for name, value in {
        "WANDB_MODE": "offline",
        "WANDB_CACHE_DIR": str(tmp_path / "cache"),
        "WANDB_CONFIG_DIR": str(tmp_path / "config"),
        "WANDB_DATA_DIR": str(tmp_path / "data"),
    }.items():
        monkeypatch.setenv(name, value)


def test_names_are_those_of_the_files() -> None:
    assert tracking.names("tensorboard, wandb") == ("tensorboard", "wandb")
    assert tracking.names("none") == ()
    with pytest.raises(
        SettingsError, match=r"--track: 'tensorbord' is none of tensorboard, wandb, none \(did you mean"
    ):
        tracking.names("tensorbord")


def test_without_a_tracker_there_are_the_lines_alone(small: Argv, tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert pretrain.main(small(run, "--track=none", "--steps=2")) == 0

    assert not (run / "tensorboard").exists()
    assert len((run / "metrics.jsonl").read_text().splitlines()) == 2


@pytest.mark.usefixtures("offline")
def test_weights_and_biases_gets_each_value_and_goes_on_with_its_run(small: Argv, tmp_path: Path) -> None:
    run = tmp_path / "secret-place" / "run"
    for steps in (2, 4):
        assert (
            pretrain.main(small(run, "--track=wandb,tensorboard", f"--steps={steps}", "--optim.schedule=constant")) == 0
        )

    name = (run / "wandb_id").read_text().strip()
    kept = sorted((run / "wandb").glob(f"offline-run-*-{name}/run-{name}.wandb"))
    assert kept
    data = b"".join(path.read_bytes() for path in kept)
    assert b"loss" in data
    assert b"optim.lr" in data
    assert b"secret-place" not in data
    assert (run / "tensorboard").is_dir()


def test_a_package_that_is_missing_is_told(
    small: Argv, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real = builtins.__import__

    def absent(name: str, *more: Any) -> Any:
        if name == "wandb":
            raise ImportError("No module named 'wandb'")
        return real(name, *more)

    monkeypatch.setattr(builtins, "__import__", absent)
    assert pretrain.main(small(tmp_path / "run", "--track=wandb")) == 2
    assert "--track wandb: is not installed" in capsys.readouterr().err


@pytest.mark.usefixtures("offline")
def test_all_that_are_named_are_told_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from kinetics_sounds.train.tracking import tensorboard, wandb

    told: list[tuple[str, int, str]] = []

    class Fake:
        def __init__(self, name: str) -> None:
            self.name = name

        def __enter__(self) -> tracking.Write:
            return lambda step, values: told.append((self.name, step, json.dumps(dict(values))))

        def __exit__(self, *_: object) -> None:
            told.append((self.name, -1, "closed"))

    for module in (tensorboard, wandb):
        name = module.__name__.rpartition(".")[2]
        monkeypatch.setattr(module, "track", lambda *_, name=name, **__: Fake(name))
    with tracking.track("tensorboard,wandb", tmp_path, first_step=0, facts={}) as write:
        write(3, {"loss": 0.5})

    assert told == [
        ("tensorboard", 3, '{"loss": 0.5}'),
        ("wandb", 3, '{"loss": 0.5}'),
        ("wandb", -1, "closed"),
        ("tensorboard", -1, "closed"),
    ]
