"""A run that is judged as it goes: every sample counts once, the best checkpoint stays, the rate falls on a plateau."""

import dataclasses
import itertools
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

from kinetics_sounds.resumed import CHANGED
from kinetics_sounds.stream import Split, open_split
from kinetics_sounds.train import evaluate, pretrain
from kinetics_sounds.train.config import run_folder, settings
from kinetics_sounds.train.data import fetcher, loader, sampler
from kinetics_sounds.train.distributed.process_group import World
from kinetics_sounds.train.engine import build, checkpoint, validate
from kinetics_sounds.train.engine.step import TrainStep

from ..batches import MOMENT

Argv = Callable[..., list[str]]
CONSTANT = ("--optim.lr=0.01", "--optim.schedule=constant", "--optim.warmup_steps=0")
"""A cosine and a warm-up would bend to the number of steps."""
ALONE = World(0, 1, torch.device("cpu"))


def lines(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


def validations(out: Path) -> dict[int, dict[str, float]]:
    return {line["step"]: line for line in lines(out) if "val_loss" in line}


@given(samples=st.integers(2, 60), batch=st.integers(2, 20), ranks=st.integers(1, 5))
def test_every_sample_is_asked_for_once_and_none_is_left_to_itself(samples: int, batch: int, ranks: int) -> None:
    split: Any = range(samples)  # all that is asked of a split here is its length
    asked = [
        sampler.shared_requests(split, batch=batch, local_slice=World(rank, ranks, ALONE.device).local_slice)
        for rank in range(ranks)
    ]
    together = [[request.index for rank in asked for request in rank[number]] for number in range(len(asked[0]))]

    assert list(itertools.chain(*together)) == list(range(samples))
    assert all(2 <= len(each) < 2 * batch for each in together)


def test_it_is_the_loss_in_evaluation_mode_and_changes_nothing(finished: Path, shards: Path) -> None:
    built, split = build.rebuild(finished), open_split(shards, "test")
    checkpoint.load_model(finished / "checkpoints" / "step-00000006", built.method)
    before = {name: value.clone() for name, value in built.method.state_dict().items()}
    train_step = TrainStep(built, torch.optim.SGD(built.method.parameters()), device=ALONE.device)
    loading = loader.Loading(workers=0)

    def found(batch: int) -> dict[str, float]:
        told: dict[str, float] = validate.validate(
            built, split, MOMENT, batch=batch, train_step=train_step, loading=loading, world=ALONE
        )
        return told

    whole = found(6)
    assert found(6) == whole
    assert built.method.training
    assert all(torch.equal(before[name], value) for name, value in built.method.state_dict().items())

    samples = fetcher.Samples(split=split, view=built.view.__name__, settings=built.view_settings, clips=1)
    with loader.eval_batches(samples, batch=6, loading=loading) as batches:
        batch = next(batches)
    built.method.eval()
    expected = built.output(batch, MOMENT, trains=False).loss.item()
    assert whole["val_loss"] == pytest.approx(expected)


def test_the_loaders_memory_is_logged_once_however_often_a_run_is_validated(
    small: Argv, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two validations of six samples, after each of two epochs."""
    monkeypatch.setattr(loader.Batches, "memory_logged", False)
    with caplog.at_level("INFO", logger="kinetics_sounds"):
        assert pretrain.main(small(tmp_path / "run", "--val_split=test", "--workers=1")) == 0

    assert len(validations(tmp_path / "run")) == 2
    assert len([message for message in caplog.messages if message.startswith("loader: 1 worker")]) == 1


class TestRun:
    @pytest.fixture
    def judged(self, small: Argv, tmp_path: Path) -> Path:
        """Five epochs of three steps, judged on the other split; the best is the second at least."""
        out = tmp_path / "judged"
        argv = small(out, "--val_split=test", "--steps=15", "--save_every=100", "--keep=1", *CONSTANT)
        assert pretrain.main(argv) == 0
        return out

    def test_every_epoch_has_its_validation_and_the_best_and_last_are_kept(self, judged: Path) -> None:
        losses = {step: line["val_loss"] for step, line in validations(judged).items()}
        best = min(losses, key=lambda step: (losses[step], step))
        kept = {path.name for path in (judged / "checkpoints").iterdir()}

        assert sorted(losses) == [3, 6, 9, 12, 15]
        assert kept == {f"step-{best:08d}", "step-00000015"}
        assert checkpoint.find(judged / "checkpoints", "best").name == f"step-{best:08d}"
        assert checkpoint.find(judged / "checkpoints", "last").name == "step-00000015"

    def test_a_resumed_run_has_the_same_validations_and_the_same_best(
        self, judged: Path, small: Argv, tmp_path: Path
    ) -> None:
        out = tmp_path / "resumed"
        argv = small(out, "--val_split=test", "--save_every=4", "--keep=1", *CONSTANT)
        assert pretrain.main([*argv, "--steps=8"]) == 0
        assert pretrain.main([*argv, "--steps=15"]) == 0

        assert validations(out) == validations(judged)
        ours, theirs = (checkpoint.find(each / "checkpoints", "best") for each in (out, judged))
        assert ours.name == theirs.name
        left, right = (load_file(each / "model.safetensors") for each in (ours, theirs))
        assert all(torch.equal(left[name], value) for name, value in right.items())

    def test_the_rate_is_cut_when_nothing_gets_better(self, small: Argv, tmp_path: Path) -> None:
        """At no rate at all nothing does: after the first value, and then after each one."""
        more = ("--optim.schedule=plateau", "--optim.patience=0", "--optim.lr=1e-30", "--optim.min_lr=1e-32")
        assert pretrain.main(small(tmp_path, "--val_split=test", "--steps=12", "--optim.warmup_steps=0", *more)) == 0
        rates = {line["step"]: line["lr"] for line in lines(tmp_path) if "lr" in line}

        assert [rates[step] for step in (3, 4, 7, 10)] == pytest.approx([1e-30, 1e-30, 1e-31, 1e-32], rel=1e-6)

    def test_a_rate_whose_schedule_is_no_plateau_is_never_cut(self, small: Argv, tmp_path: Path) -> None:
        """Though nothing gets better either."""
        still = ("--optim.patience=0", "--optim.lr=1e-30", "--optim.min_lr=1e-32", "--optim.warmup_steps=0")
        more = ("--val_split=test", "--steps=12", "--optim.schedule=constant")
        assert pretrain.main(small(tmp_path, *more, *still)) == 0

        assert {line["lr"] for line in lines(tmp_path) if "lr" in line} == {1e-30}

    def test_without_a_validation_there_is_no_best_and_no_plateau(
        self, finished: Path, small: Argv, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        with pytest.raises(Exception, match="has no best checkpoint: no validation"):
            checkpoint.find(finished / "checkpoints", "best")
        for some in ("--optim.schedule=plateau", '--optim.schedules={"audio.*": plateau}'):
            assert pretrain.main(small(tmp_path, some)) == 2
            assert "give a --val_split" in capsys.readouterr().err


class TestInit:
    def test_a_run_begins_with_anothers_weights(self, finished: Path, small: Argv, tmp_path: Path) -> None:
        still = ("--optim.lr=0", "--optim.weight_decay=0", "--steps=1", "--seed=9", f"--init_from={finished}")
        assert pretrain.main(small(tmp_path, *still)) == 0
        before = load_file(finished / "checkpoints" / "step-00000006" / "model.safetensors")
        after = load_file(tmp_path / "checkpoints" / "step-00000001" / "model.safetensors")

        assert all(torch.equal(before[name], value) for name, value in after.items() if name.endswith("weight"))

    def test_another_network_is_refused(
        self, finished: Path, small: Argv, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert pretrain.main(small(tmp_path, f"--init_from={finished}", "--r3d.width=3")) == 2
        assert "its encoders differ" in capsys.readouterr().err
        assert pretrain.main(small(tmp_path, f"--init_from={tmp_path}")) == 2
        assert "is not a training run" in capsys.readouterr().err


def test_a_run_goes_on_with_other_settings_when_it_is_told_to(
    finished: Path, small: Argv, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = Path(shutil.copytree(finished, tmp_path / "copy"))
    assert pretrain.main(small(out, "--optim.lr=0.5", "--steps=7", "--resume=anyway")) == 0
    assert "resumed with optim.lr 0.5 (was 0.002)" in capsys.readouterr().out
    assert [line["step"] for line in lines(out)] == [1, 2, 3, 4, 5, 6, 7]


def test_a_resume_that_trains_nothing_does_not_say_that_it_resumed_with_other_settings(
    finished: Path, small: Argv, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = Path(shutil.copytree(finished, tmp_path / "copy"))
    assert pretrain.main(small(out, "--optim.lr=0.5", "--steps=5", "--resume=anyway")) == 0
    said = capsys.readouterr().out
    assert "resumed with" not in said
    assert "6 steps were done already" in said


@pytest.mark.parametrize(("split", "told"), [("test", True), ("train", False)])
def test_a_run_that_selects_on_the_test_split_says_so_as_it_starts(
    split: str, told: bool, small: Argv, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert pretrain.main(small(tmp_path / "run", "--steps=1", f"--val_split={split}")) == 0

    note = "note: --val_split test: the best checkpoint is selected on it, so its scores there are optimistic"
    assert (note in capsys.readouterr().out) == told


def test_a_run_and_its_results_tell_what_was_changed_when_it_was_resumed(
    finished: Path, shards: Path, small: Argv, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """After step 6 the learning rate and the length, after 7 the length alone; what was saved at step 6 knows of neither."""
    out = Path(shutil.copytree(finished, tmp_path / "copy"))
    assert pretrain.main(small(out, "--optim.lr=0.5", "--steps=7", "--resume=anyway", "--keep=3")) == 0
    assert pretrain.main(small(out, "--optim.lr=0.5", "--steps=8", "--keep=3")) == 0
    assert pretrain.main(small(out, "--optim.lr=0.5", "--steps=8", "--keep=3")) == 0  # changes nothing

    wanted = [
        {"step": 6, "setting": "optim.lr", "before": 0.002, "after": 0.5},
        {"step": 6, "setting": "steps", "before": 6, "after": 7},
        {"step": 7, "setting": "steps", "before": 7, "after": 8},
    ]
    assert json.loads((out / "run.json").read_text())[CHANGED] == wanted
    for step, known in ((6, None), (7, wanted[:2]), (8, wanted)):
        assert json.loads((out / f"checkpoints/step-{step:08d}/state.json").read_text()).get(CHANGED) == known
    assert CHANGED not in run_folder.read_facts(finished)
    capsys.readouterr()
    judge = [f"--run={out}", f"--shards={shards}", "--workers=0", "--device=cpu", "--clips=1"]
    assert evaluate.main(["knn", *judge]) == 0
    said = "optim.lr 0.5 from step 6 on (was 0.002), steps 7 from step 6 on (was 6), steps 8 from step 7 on (was 7)"
    assert f"note: the run was resumed with {said}\n" in capsys.readouterr().out
    assert json.loads((out / "eval/knn/results.json").read_text())[CHANGED] == wanted
    assert evaluate.main(["knn", *judge, "--checkpoint=step-00000006"]) == 0
    assert "was resumed with" not in capsys.readouterr().out


@pytest.mark.parametrize("known", [True, False])
def test_the_best_checkpoint_is_chosen_on_one_split(
    known: bool, small: Argv, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """No validation reaches the best value on test, which stays while that is the split, and where a run of 0.2.0 did not say."""
    out = tmp_path / "run"
    assert pretrain.main(small(out, "--val_split=test", "--steps=3")) == 0
    path = out / "checkpoints/step-00000003/state.json"
    state = json.loads(path.read_text())
    assert state["best"]["split"] == "test"
    best = {"step": 3, "value": 9.0} | ({"split": "test"} if known else {})
    path.write_text(json.dumps(state | {"best": best, "plateau": {"cuts": 1, "best": 9.0, "waited": 4}}))

    assert pretrain.main(small(out, "--val_split=test", "--steps=6")) == 0
    assert pretrain.main(small(out, "--steps=7")) == 0  # without validation
    for step in (6, 7):
        state = json.loads((out / f"checkpoints/step-{step:08d}/state.json").read_text())
        assert state["best"] == {"step": 3, "value": 9.0, "split": "test"}
    assert "best checkpoint:" not in capsys.readouterr().out
    assert pretrain.main(small(out, "--val_split=train", "--steps=7")) == 0  # trains nothing
    assert checkpoint.find(out / "checkpoints", "best").name == "step-00000003"
    assert pretrain.main(small(out, "--val_split=", "--steps=7")) == 0  # an unset variable of a shell
    told = "best checkpoint: that of step 3, chosen on test, until the first validation on train"
    for _ in range(2):  # it stays until there is another, and that is said and recorded once
        assert pretrain.main(small(out, "--val_split=train", "--keep=1", "--steps=8")) == 0
        assert checkpoint.find(out / "checkpoints", "best").name == "step-00000003"
    assert pretrain.main(small(out, "--val_split=train", "--steps=9")) == 0
    assert capsys.readouterr().out.count(told) == 1
    state = json.loads((out / "checkpoints/step-00000009/state.json").read_text())
    value = -validations(out)[9]["val_loss"]
    assert state["best"] == {"step": 9, "value": value, "split": "train"}
    assert state["plateau"] == {"cuts": 1, "best": value, "waited": 0}
    changes = [each for each in state[CHANGED] if each["setting"] == "val_split"]
    assert changes == [{"step": 7, "setting": "val_split", "before": "test", "after": "train"}]


def test_the_split_and_the_settings_say_what_a_method_may_know(split: Split, small: Argv, tmp_path: Path) -> None:
    """2 classes, 12 samples; 6 steps, 3 an epoch, of 4 samples. Batches of 5 leave 2 steps an epoch."""
    asked = settings.read_settings(small(tmp_path)).settings
    epochs = dataclasses.replace(asked, batch=5, epochs=4, steps=None)

    assert run_folder.data_of(split, asked) == (2, 12, 6, 3, 4)
    assert run_folder.data_of(split, epochs) == (2, 12, 8, 2, 5)
