"""A run or a config from elsewhere decides what is learnt, and not where things lie or whether a run is gone on with."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from kinetics_sounds.errors import RunError, SettingsError
from kinetics_sounds.train import evaluate, pretrain
from kinetics_sounds.train.config import run_folder, settings
from kinetics_sounds.train.data import dataset

Argv = Callable[..., list[str]]


@pytest.fixture
def strange(finished: Path, tmp_path: Path) -> Path:
    """A run whose settings speak of other places."""
    folder = tmp_path / "strange"
    shutil.copytree(finished, folder)
    config = folder / "config.yaml"
    text = config.read_text()
    for name, value in {
        "cache": tmp_path / "theirs",
        "out": tmp_path / "victim",
        "resume": "anyway",
        "workers": 99,
    }.items():
        text, count = re.subn(rf"(?m)^{name}: .*$", f"{name}: {value}", text)
        assert count == 1, name
    config.write_text(text)
    return folder


def test_of_a_run_only_what_decides_its_model_and_view_is_taken(strange: Path, finished: Path) -> None:
    made, kept = run_folder.reopen(finished), run_folder.model_of(strange)

    assert kept.groups == made.groups
    plain = settings.TrainSettings()
    for name in settings.TrainSettings.__dataclass_fields__:
        whose = made.settings if name in run_folder.MODEL else plain
        assert getattr(kept.settings, name) == getattr(whose, name), name


def test_a_run_that_names_an_address_has_it_asked_only_by_the_user(strange: Path) -> None:
    facts = json.loads((strange / "run.json").read_bytes())
    (strange / "run.json").write_text(json.dumps({**facts, "shards": "http://127.0.0.1:9/set"}))

    with pytest.raises(
        RunError, match=r"trained on http://127\.0\.0\.1:9/set, a URL that is opened only if you give it"
    ):
        run_folder.shards_of(run_folder.read_facts(strange))
    assert evaluate.main(["knn", f"--run={strange}"]) == 2


@pytest.mark.parametrize("name", ["knn", "cam", "finetune", "layerwise"])
def test_of_a_run_whose_shards_moved_the_option_is_told(
    name: str, strange: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    facts = json.loads((strange / "run.json").read_bytes())
    (strange / "run.json").write_text(json.dumps({**facts, "shards": str(tmp_path / "moved")}))

    assert evaluate.main([name, f"--run={strange}"]) == 2

    told = f"the run was trained on {tmp_path / 'moved'}, which is not there; give the shards with --shards\n"
    assert capsys.readouterr().err.endswith(told)


def test_fine_tuning_takes_no_place_and_no_number_of_workers_from_a_run(
    strange: Path, shards: Path, tmp_path: Path
) -> None:
    out = tmp_path / "tuned"
    words = [
        "--epochs=1",
        "--batch=4",
        "--clips=1",
        "--device=cpu",
        f"--out={out}",
        f"--shards={shards}",
        "--workers=0",
    ]
    assert evaluate.main(["finetune", f"--run={strange}", *words, "--on_split=test"]) == 0

    told = run_folder.reopen(out).settings
    assert (told.cache, told.out, told.resume) == (dataset.default_cache(), out, "auto")
    assert not (tmp_path / "theirs").exists()
    assert not (tmp_path / "victim").exists()


def test_a_config_may_not_have_another_run_gone_on_with_anyway(
    strange: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = f"--config={strange / 'config.yaml'}"
    with pytest.raises(
        SettingsError, match=r"config\.yaml: sets resume: anyway, which is allowed on the command line only"
    ):
        settings.read_settings([config])

    assert settings.read_settings([config, "--resume=anyway"]).settings.resume == "anyway"
    assert settings.read_settings([config, "--resume", "auto"]).settings.resume == "auto"


def test_what_a_run_keeps_of_its_settings_can_be_given_again(small: Argv, tmp_path: Path) -> None:
    assert pretrain.main(small(tmp_path / "run", "--resume=anyway", "--steps=1")) == 0

    assert settings.read_settings([f"--config={tmp_path / 'run' / 'config.yaml'}"]).settings.resume == "auto"


def test_places_that_a_config_sets_are_told_before_they_are_used(
    small: Argv, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "theirs.yaml"
    config.write_text(f"out: {tmp_path / 'victim'}\ncache: {tmp_path / 'cache'}\nshards: s3://user:secret@host/set\n")
    argv = [word for word in small(tmp_path / "run", "--steps=1") if not word.startswith("--out")]

    assert pretrain.main([*argv, f"--config={config}"]) == 0

    said = capsys.readouterr().out.splitlines()
    assert said[:2] == [
        f"{name}: {tmp_path / place} (from {config})" for name, place in [("out", "victim"), ("cache", "cache")]
    ]
    assert "secret" not in "".join(said)
