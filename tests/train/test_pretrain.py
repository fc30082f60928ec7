"""ks-train: what it writes, that a kill at any moment changes nothing of it, and what it refuses."""

import dataclasses
import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from kinetics_sounds import files
from kinetics_sounds.address import Address
from kinetics_sounds.errors import SettingsError
from kinetics_sounds.quantities import plural
from kinetics_sounds.shards import index, reader
from kinetics_sounds.stream import open_split
from kinetics_sounds.train import pretrain
from kinetics_sounds.train.config import recipes, run_folder, settings
from kinetics_sounds.train.engine import build, checkpoint
from kinetics_sounds.train.methods import avcl
from kinetics_sounds.train.optim import optimizer

from .boards import curves

Argv = Callable[..., list[str]]

STEPS = 6
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "error::UserWarning:torch"}

SPEEDS = {
    *("samples_per_second", "data_wait_share", "queue_depth"),
    *("decode_ms_p50", "decode_ms_p95", "read_ms_p50", "read_ms_p95"),
}
"""Of metrics, what two equal runs differ in."""


def metrics(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


def learnt(out: Path) -> list[dict[str, Any]]:
    """The metrics that do not depend on the machine."""
    return [{name: value for name, value in line.items() if name not in SPEEDS} for line in metrics(out)]


def tensors(out: Path, step: int = STEPS) -> dict[str, torch.Tensor]:
    folder = out / "checkpoints" / f"step-{step:08d}"
    found: dict[str, torch.Tensor] = {}
    for path in sorted(folder.glob("*.safetensors")):
        found |= {f"{path.stem}: {name}": tensor for name, tensor in load_file(path).items()}
    return found


def assert_equals_an_uninterrupted_run(out: Path, finished: Path) -> None:
    made, wanted = tensors(out), tensors(finished)
    assert set(made) == set(wanted)
    assert all(torch.equal(made[name], tensor) for name, tensor in wanted.items())
    assert learnt(out) == learnt(finished)  # so each step is there once
    assert curves(out)["loss"] == curves(finished)["loss"]


class TestRun:
    def test_a_run_leaves_these_files_and_nothing_half_written(self, finished: Path) -> None:
        assert sorted(path.name for path in finished.iterdir()) == [
            ".lock",
            "checkpoints",
            "config.yaml",
            "metrics.jsonl",
            "run.json",
            "tensorboard",
        ]
        assert sorted(path.name for path in (finished / "checkpoints").iterdir()) == ["step-00000004", "step-00000006"]
        assert not list(finished.rglob("*.part"))

    def test_json_is_all_that_is_printed_and_says_what_the_run_came_to(
        self, small: Argv, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        out = tmp_path / "run"

        assert pretrain.main(small(out, "--steps=2", "--json")) == 0

        shown = capsys.readouterr()
        told = json.loads(shown.out)
        assert told.pop("metrics") == metrics(out)[-1]
        assert told == {
            "run": str(out),
            "recipe": "avcl_tiny",
            "step": 2,
            "steps": 2,
            "finished": True,
            "checkpoint": str(out / "checkpoints" / "step-00000002"),
            "best": None,
        }
        assert "trained: 2 steps" in shown.err
        assert "json: false" in (out / "config.yaml").read_text()  # how a command spoke is nothing of the run's

    def test_every_step_has_a_line_of_metrics(self, finished: Path) -> None:
        lines = metrics(finished)

        assert [line["step"] for line in lines] == [1, 2, 3, 4, 5, 6]
        for line in lines:
            assert set(line) == {
                *("step", "loss", "cgra", "selfcl", "dead_channels"),
                *("lr", "epoch", "bad_samples"),
                *SPEEDS,
            }
            assert line["loss"] == pytest.approx(0.1 * line["cgra"] + 1.0 * line["selfcl"])  # the recipe's weights
            assert line["epoch"] == pytest.approx(line["step"] / 3)  # 12 samples, 4 a step
            assert line["lr"] == pytest.approx(2e-3 * line["step"] / 7)  # the recipe's warm-up is longer than the run
            assert 0 <= line["dead_channels"] <= 1
            assert 0 <= line["data_wait_share"] <= 1
            assert line["samples_per_second"] > 0
            assert line["bad_samples"] == 0

    def test_tensorboard_shows_the_same(self, finished: Path) -> None:
        shown, lines = curves(finished), metrics(finished)

        assert {"loss", "cgra", "selfcl", "lr", "dead_channels"} <= set(shown)
        for name in ("loss", "cgra", "selfcl"):
            assert [step for step, _ in shown[name]] == [line["step"] for line in lines]
            assert [value for _, value in shown[name]] == pytest.approx([line[name] for line in lines])

    def test_lines_come_every_few_steps_and_with_each_checkpoint(self, small: Argv, tmp_path: Path) -> None:
        assert pretrain.main(small(tmp_path, "--log_every=4", "--save_every=3")) == 0

        assert [line["step"] for line in metrics(tmp_path)] == [3, 4, 6]

    def test_a_run_of_one_line_of_metrics_shows_it_at_its_end(
        self, small: Argv, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """Where there are more lines, progress shows the one before."""
        for every, shown in ((9, 1), (1, 0)):
            assert pretrain.main(small(tmp_path / str(every), "--steps=2", f"--log_every={every}")) == 0

            loss = metrics(tmp_path / str(every))[-1]["loss"]
            assert capsys.readouterr().out.count(f"\nstep 2: loss={loss:.4g} wait=") == shown

    def test_epochs_count_whole_batches(self, small: Argv, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """Two times 12 samples, 5 a step, 2 steps an epoch."""
        assert pretrain.main(small(tmp_path, "--batch=5", "--steps=null", "--epochs=2")) == 0

        assert [line["epoch"] for line in metrics(tmp_path)] == [0.5, 1, 1.5, 2]
        assert "trained: 4 steps" in capsys.readouterr().out

    def test_a_run_is_a_function_of_its_seed(self, small: Argv, finished: Path, tmp_path: Path) -> None:
        for seed in (0, 1):
            assert pretrain.main(small(tmp_path / str(seed), f"--seed={seed}")) == 0

        assert_equals_an_uninterrupted_run(tmp_path / "0", finished)
        assert learnt(tmp_path / "1") != learnt(finished)

    def test_the_papers_recipe_learns_with_its_gate(self, small: Argv, tmp_path: Path) -> None:
        argv = [*small(tmp_path), "--avcl.amfm_stage=pretrain", "--avcl.amfm.gate=relu", "--optim.name=sgd"]

        assert pretrain.main(argv) == 0
        assert any("amfm" in name for name in tensors(tmp_path))


class TestDefaults:
    @pytest.fixture
    def here(self, shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        """A working directory with the set where ks-shard puts it."""
        (tmp_path / "data" / "tiny").mkdir(parents=True)
        (tmp_path / "data" / "tiny" / "shards").symlink_to(shards)
        monkeypatch.chdir(tmp_path)
        return tmp_path

    @staticmethod
    def bare(small: Argv) -> list[str]:
        """The same run without its recipe, shards and folder."""
        chosen = ("--config=", "--shards=", "--out=")
        return [option for option in small(Path()) if not option.startswith(chosen)]

    def test_without_a_gpu_a_small_recipe_is_named(
        self, here: Path, small: Argv, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setattr(pretrain, "train", lambda *_, **__: 0)

        assert pretrain.main(self.bare(small)) == 0

        assert capsys.readouterr().out == (
            "recipe: avcl_k32_recommended (the recommended one; see --list)\n"
            "device: cpu, on which all of this recipe takes days; a small one: --config avcl_tiny\n"
        )

    def test_recipe_shards_and_folder_are_chosen_and_told(
        self, here: Path, small: Argv, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setattr(recipes, "FALLBACK", "avcl_tiny")

        assert pretrain.main(self.bare(small)) == 0

        out = capsys.readouterr().out.splitlines()
        assert out[:3] == [
            "recipe: avcl_tiny (the recommended one; see --list)",
            "shards: data/tiny/shards, train: 12 samples of tiny (made by tests)",
            "out: runs/avcl_tiny",
        ]
        assert out[-1] == "next: ks-eval linear --run runs/avcl_tiny"
        assert len(metrics(here / "runs" / "avcl_tiny")) == STEPS

        assert pretrain.main(["--config=runs/avcl_tiny/config.yaml"]) == 0  # says the same again

        assert "trained: 6 steps were done already" in capsys.readouterr().out
        assert run_folder.read_facts(here / "runs" / "avcl_tiny")["recipe"] == "avcl_tiny"

    def test_the_recommended_recipe_refuses_shards_that_are_too_small_for_it(
        self, here: Path, small: Argv, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert refused(self.bare(small), capsys).endswith("the view needs 128: ks-shard --short_side 128")

    def test_two_sets_are_listed(self, here: Path, shards: Path, capsys: pytest.CaptureFixture[str]) -> None:
        (here / "data" / "other").mkdir()
        (here / "data" / "other" / "shards").symlink_to(shards)

        complaint = refused([], capsys)

        assert "data/other/shards/dataset.json, data/tiny/shards/dataset.json; choose with --shards" in complaint

    def test_a_recipe_of_one_class_list_takes_its_shards_and_says_where_those_are_others(
        self, here: Path, small: Argv, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        """The set here is of the list tiny, wherever it lies."""
        (here / "data" / "k100").mkdir()
        (here / "data" / "k100" / "shards").symlink_to(here / "data" / "tiny" / "shards")
        (here / "avcl_k100_mine.yaml").write_text((recipes.RECIPES / "avcl_tiny.yaml").read_text())
        assert "choose with --shards" in find_error(lambda: run_folder.find_shards(settings.read_settings([]).settings))

        assert pretrain.main(["--config=avcl_k100_mine.yaml", *self.bare(small), "--steps=1"]) == 0

        assert json.loads((here / "runs/avcl_k100_mine/run.json").read_text())["shards"].endswith("data/k100/shards")
        assert "the recipe avcl_k100_mine is for k100, but these shards are of tiny" in caplog.messages

    def test_no_set_at_all_is_told_with_the_command_that_makes_one(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.chdir(tmp_path)

        assert "make it with ks-shard, or name it with --shards" in refused([], capsys)


def find_error(ask: Callable[[], object]) -> str:
    with pytest.raises(SettingsError) as caught:
        ask()
    return str(caught.value)


def refused(argv: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """What ks-train says as it refuses: one line on standard error, and exit code 2."""
    assert pretrain.main(argv) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("ks-train: error: ")
    return line


class TestMisuse:
    @pytest.mark.parametrize(
        ("options", "complaint"),
        [
            (["--batch=13"], r"--batch 13: is larger than .* 'train' .* has 12 samples; give --batch 12 or less"),
            (["--batch=1"], r"--batch 1: must be at least 2"),
            (["--train_split=val"], r"has no split 'val'; it has: train, test"),
            (["--avcl.bogus=1"], r"--avcl\.bogus"),
            (["--bogus=1"], r"--bogus"),
            (["--batch=many"], r"batch.*many"),
            (["--method=moko"], r"--method: 'moko' is none of "),
            (["--backbone=r4d"], r"--backbone: 'r4d' is none of .*did you mean 'r3d'"),
            (["--view=eye"], r"--view: 'eye' is none of "),
            (["--epochs=2"], r"--epochs and --steps: both say how long to train; give one of them"),
            (
                ["--byol.dim=7"],
                r"--byol\.dim: is of the method byol, and the method is avcl; leave it out, or give --method",
            ),
            (["--c3d.width", "7"], r"--c3d\.width: is of the backbone c3d, and the backbone is r3d; leave it out"),
            (["--clip_and_log_mel.frames=8"], r"of the view clip_and_log_mel, and the view is clip_and_mel; leave"),
            (
                ["--backbone=c3d"],
                r"--audio_backbone c3d: cannot encode the audio of --view clip_and_mel: c3d needs 8 .*, got 1 of 56 x 56: use",
            ),
            (
                ["--backbone=c3d", "--c3d.width=16", "--audio_backbone=r3d", "--clip_and_mel.frames=7"],
                r"--backbone c3d: cannot encode the video of --view clip_and_mel: c3d needs 8 .*, got 7 of 32 x 32",
            ),
            (
                ["--backbone=c3d", "--encoders=shared", "--clip_and_mel.audio_channels=3"],
                r"error: --backbone c3d: cannot encode the audio of --view",
            ),
            (["--config=bogus"], r"neither a file nor a recipe; list them with: ks-train --list"),
            (["--device=banana"], r"--device banana: .*try cpu"),
            (["--optim.lr=-1"], r"optim: lr -1.0 must be at least 0"),
            (["--optim.warmup_steps=-1"], r"optim: warmup_steps -1 must be at least 0"),
            (["--workers=-1"], r"--workers -1: must be at least 0"),
            (["--clip_and_mel.crop=50"], r"crop 50 is larger than 36 x 36 pixels"),
            (["--clip_and_mel.resize_height=64", "--clip_and_mel.resize_width=64"], r"ks-shard --short_side 64"),
            (["--shards=/nowhere"], r"/nowhere: has no shard set \(dataset\.json is missing\).*ks-shard"),
        ],
    )
    def test_is_told_in_one_line(
        self, options: list[str], complaint: str, small: Argv, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        line = refused(small(tmp_path / "out", *options), capsys)

        assert re.search(complaint, line), line
        assert not (tmp_path / "out").exists()

    def test_nothing_is_left_or_told_of_a_run_whose_recipe_cannot_be(
        self, small: Argv, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """The recipe is read, and the set opened, before it can be seen."""
        recipe = tmp_path / "mine.yaml"
        for text in ("method: moko", "method: moco\nmoco: {mode: intra, queue: 4}", "clip_and_mel: {audio: waveform}"):
            recipe.write_text(f"base: avcl_tiny\n{text}\n")
            argv = [word for word in small(tmp_path / "out") if not word.startswith("--config")]
            assert pretrain.main([f"--config={recipe}", *argv]) == 2
            assert capsys.readouterr().out == ""
            assert not (tmp_path / "out").exists()

    @pytest.mark.parametrize(
        ("option", "complaint"),
        [
            ("--backbone=nonsense", "--backbone: 'nonsense' is none of avid_r2plus1d, c3d, "),
            ("--probe=svm", "--probe svm: must be knn or linear"),
        ],
    )
    def test_settings_are_read_before_shards_are_looked_for(
        self,
        option: str,
        complaint: str,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        monkeypatch.chdir(tmp_path)

        assert complaint in refused([option], capsys)

    def test_a_folder_without_dataset_json_is_no_set(
        self, small: Argv, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert "has no shard set" in refused(small(tmp_path / "out", f"--shards={tmp_path}"), capsys)

    def test_a_second_trainer_in_the_same_folder_is_refused(
        self, small: Argv, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        with files.exclusive(tmp_path, command="ks-train"):
            assert f"{tmp_path}: another ks-train is running in this folder" in refused(small(tmp_path), capsys)

        assert pretrain.main(small(tmp_path)) == 0

    def test_too_many_damaged_samples_end_the_run_with_a_name(
        self, small: Argv, shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        copy = damaged(shards, tmp_path)

        line = refused(small(tmp_path / "out", f"--shards={copy}"), capsys)

        assert "1 of the 12 samples of 'train' are bad, more than --max_bad_fraction allows" in line
        assert f"{copy}/train/train-000002.tar: sample {open_split(copy, 'train').key(8)}: its mp4 is damaged" in line

    def test_a_damaged_sample_is_replaced_and_named(self, small: Argv, shards: Path, tmp_path: Path) -> None:
        copy = damaged(shards, tmp_path)

        assert pretrain.main(small(tmp_path / "out", f"--shards={copy}", "--max_bad_fraction=0.1")) == 0

        (line,) = (tmp_path / "out" / "quarantine.jsonl").read_text().splitlines()
        assert json.loads(line)["key"] == open_split(copy, "train").key(8)


def damaged(shards: Path, folder: Path) -> Path:
    """A copy of the set with a flipped byte in the film of sample 8."""
    copy = Path(shutil.copytree(shards, folder / "set"))
    split, tar = open_split(copy, "train"), copy / "train" / "train-000002.tar"
    data = bytearray(tar.read_bytes())
    data[int(split.offset_NP[8, split.dataset.parts.index("mp4")]) + 100] ^= 1
    tar.write_bytes(data)
    return copy


class TestDivergence:
    @pytest.mark.parametrize("option", ["--log_every=1", "--log_every=100"])
    def test_a_model_that_is_no_number_ends_the_run_with_its_step_and_is_not_saved(
        self, option: str, small: Argv, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        line = refused(small(tmp_path, "--optim.lr=.inf", option), capsys)

        assert re.search(
            r"error: step 2: (loss|weights).* not finite.*; start again with another --out and a lower", line
        )
        assert not list(tmp_path.glob("checkpoints/*"))

    def test_a_loss_that_is_no_number_ends_the_run_with_its_step(
        self, small: Argv, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """The fifth, after two checkpoints; what it was computed from is kept, and gives the same loss again."""
        real = avcl.Avcl.forward
        losses = iter([0.0, 0.0, 0.0, 0.0, math.nan])

        def forward(self: Any, batch: Any, moment: Any) -> Any:
            step = real(self, batch, moment)
            loss = step.loss + next(losses)
            return step._replace(loss=loss, logs={**step.logs, "loss": loss.detach()})

        monkeypatch.setattr(avcl.Avcl, "forward", forward)

        line = refused(small(tmp_path), capsys)

        kept = tmp_path / "failed" / "step-00000004"
        folder = tmp_path / "failed"
        assert line.endswith(
            f"step 5: loss not finite; batch and weights are in {folder}; start again with another --out and a lower "
            "--optim.lr (--init_from loads the weights of an earlier checkpoint)"
        )
        assert [entry["step"] for entry in metrics(tmp_path)] == [1, 2, 3, 4]
        assert (tmp_path / "checkpoints" / "step-00000004").is_dir()
        batch = load_file(tmp_path / "failed" / "batch-0-of-1.safetensors")
        assert {name: value.shape[0] for name, value in batch.items()} == dict.fromkeys(batch, 4)
        before, now = (
            load_file(tmp_path / "checkpoints/step-00000004/model.safetensors"),
            load_file(kept / "model.safetensors"),
        )
        assert all(torch.equal(before[name], value) for name, value in now.items() if name.endswith("weight"))

    def test_dead_channels_are_warned_of_once(
        self, small: Argv, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        real = build.build_model

        def closed(parsed: Any, data: Any) -> Any:
            made = real(parsed, data)
            torch.nn.init.constant_(made.method.amfm.excite[0][0].bias, -1e6)  # the ReLU gate never opens
            return made

        monkeypatch.setattr(build, "build_model", closed)

        assert pretrain.main(small(tmp_path, "--avcl.amfm_stage=pretrain")) == 0

        (warning,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
        assert warning == "step 1: 100% of the channels are dead: the model is collapsing"
        assert all(line["dead_channels"] == 1 and math.isfinite(line["loss"]) for line in metrics(tmp_path))

    def test_a_healthy_run_warns_of_nothing(
        self, small: Argv, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        assert pretrain.main(small(tmp_path, "--steps=1")) == 0

        assert not [record for record in caplog.records if record.levelname == "WARNING"]


@pytest.fixture
def half(small: Argv, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run that SIGTERM stopped after three of six steps."""
    out = tmp_path / "half"
    with monkeypatch.context() as patch:
        _signal_at(2, signal.SIGTERM, patch)
        assert pretrain.main(small(out)) == 3
    return out


def _signal_at(step: int, number: signal.Signals, patch: pytest.MonkeyPatch) -> None:
    """Let the process get a signal while it does a step, counted from 0."""
    real = optimizer.learning_rate

    def rate(at: int, **how: Any) -> float:
        if at == step:
            signal.raise_signal(number)
        found: float = real(at, **how)
        return found

    patch.setattr(optimizer, "learning_rate", rate)


def test_a_run_says_what_it_was_computed_on_and_that_it_is_resumed_on_something_else(
    small: Argv, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    here = f"{torch.backends.cpu.get_cpu_capability()}, {plural(torch.get_num_threads(), 'thread')}"
    assert pretrain.main(small(tmp_path, "--steps=1")) == 0
    assert json.loads((tmp_path / "run.json").read_text())["computed_on"][0].endswith(here)

    assert pretrain.main(small(tmp_path, "--steps=2")) == 0
    assert "computed on" not in capsys.readouterr().out

    state = tmp_path / "checkpoints" / "step-00000002" / "state.json"
    told = json.loads(state.read_text())
    state.write_text(json.dumps({**told, "computed_on": ["Other CPU, AVX2, 64 threads"]}))
    assert pretrain.main(small(tmp_path, "--steps=2")) == 0
    assert "computed on" not in capsys.readouterr().out  # nothing is

    assert pretrain.main(small(tmp_path, "--steps=3")) == 0
    said = capsys.readouterr().out
    assert f"{here} from here on (was Other CPU, AVX2, 64 threads): the last digits can differ" in said
    first, second = json.loads((tmp_path / "run.json").read_text())["computed_on"]
    assert first == "Other CPU, AVX2, 64 threads"
    assert second.endswith(here)


class TestSignals:
    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])
    def test_a_signal_saves_and_the_next_run_goes_on_exactly(
        self,
        number: signal.Signals,
        small: Argv,
        finished: Path,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        before = signal.getsignal(number)
        with monkeypatch.context() as patch:
            _signal_at(2, number, patch)
            assert pretrain.main(small(tmp_path)) == 3

        path = tmp_path / "checkpoints" / "step-00000003"
        assert f"stopped by {number.name} at step 3 of 6; saved {path}" in capsys.readouterr().out
        assert (path / "state.json").is_file()
        assert signal.getsignal(number) == before

        assert pretrain.main(small(tmp_path)) == 0

        assert f"resumed: {path}" in capsys.readouterr().out
        assert_equals_an_uninterrupted_run(tmp_path, finished)

    def test_a_signal_in_the_last_step_comes_too_late(
        self, small: Argv, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        _signal_at(STEPS - 1, signal.SIGTERM, monkeypatch)

        assert pretrain.main(small(tmp_path)) == 0

    @pytest.mark.slow
    def test_a_terminals_interrupt_reaches_the_workers_too_and_still_saves(self, small: Argv, tmp_path: Path) -> None:
        argv = [sys.executable, "-m", "kinetics_sounds.train", *small(tmp_path, "--workers=1", "--steps=100000")]
        with subprocess.Popen(
            argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT, start_new_session=True
        ) as process:
            try:
                _wait_for(lambda: (tmp_path / "metrics.jsonl").exists() and len(metrics(tmp_path)) >= 1, process)
                os.killpg(process.pid, signal.SIGINT)
                out, err = process.communicate(timeout=60)
            finally:
                process.kill()

        last = metrics(tmp_path)[-1]["step"]
        assert process.returncode == 3, err
        assert f"stopped by SIGINT at step {last} of 100000" in out
        assert (tmp_path / "checkpoints" / f"step-{last:08d}" / "state.json").is_file()
        assert "Traceback" not in err
        assert "Error" not in err


def _wait_for(condition: Callable[[], bool], process: "subprocess.Popen[str]") -> None:
    until = time.monotonic() + 120
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < until
        time.sleep(0.02)


KILLED_AS_IT_NAMES_ITS_SECOND_CHECKPOINT = """
import multiprocessing, os, signal, sys
from kinetics_sounds.train import pretrain

def replace(source, target, real=os.replace):
    if str(target).endswith("step-00000004"):
        print(multiprocessing.active_children()[0].pid, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    real(source, target)

os.replace = replace
pretrain.main(sys.argv[1:])
"""


class TestKill:
    @pytest.mark.slow
    def test_a_killed_run_goes_on_exactly_and_its_worker_goes(
        self, small: Argv, finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        killed = tmp_path / "killed"
        argv = [sys.executable, "-c", KILLED_AS_IT_NAMES_ITS_SECOND_CHECKPOINT, *small(killed, "--workers=1")]
        ended = subprocess.run(argv, capture_output=True, text=True, env=ENVIRONMENT, timeout=120, check=False)

        assert ended.returncode == -signal.SIGKILL, ended.stderr
        assert [line["step"] for line in metrics(killed)] == [1, 2, 3, 4]
        folders = sorted(path.name for path in (killed / "checkpoints").iterdir())
        assert folders == ["step-00000002", "step-00000004.part"]

        for workers in (0, 1):
            out = Path(shutil.copytree(killed, tmp_path / f"resumed by {workers}"))
            assert pretrain.main(small(out, f"--workers={workers}")) == 0
            assert f"resumed: {out}/checkpoints/step-00000002" in capsys.readouterr().out
            assert_equals_an_uninterrupted_run(out, finished)
            assert not list(out.rglob("*.part"))

        worker = Path("/proc") / ended.stdout.split()[-1] / "stat"
        until = time.monotonic() + 30
        while worker.exists() and worker.read_text().split()[2] != "Z":
            assert time.monotonic() < until
            time.sleep(0.1)

    def test_a_run_killed_before_its_first_checkpoint_begins_again(
        self, small: Argv, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        class KilledError(BaseException):
            pass

        def save(*_: Any, **__: Any) -> None:
            raise KilledError

        with monkeypatch.context() as patch:
            patch.setattr(checkpoint, "save", save)
            with pytest.raises(KilledError):
                pretrain.main(small(tmp_path))
        assert [line["step"] for line in metrics(tmp_path)] == [1, 2]

        assert pretrain.main(small(tmp_path)) == 0
        assert_equals_an_uninterrupted_run(tmp_path, finished)

    def test_a_line_of_metrics_that_was_cut_off_is_written_again(self, half: Path, small: Argv, finished: Path) -> None:
        with (half / "metrics.jsonl").open("ab") as lines:
            lines.write(b'{"step": 4, "loss": 1.0}\n{"step": 5, "lo')

        assert pretrain.main(small(half)) == 0
        assert_equals_an_uninterrupted_run(half, finished)

    @pytest.mark.slow
    def test_an_error_with_workers_ends_the_process_at_once(self, small: Argv, shards: Path, tmp_path: Path) -> None:
        argv = small(tmp_path / "out", "--workers=1", f"--shards={damaged(shards, tmp_path)}", "--steps=100000")
        ended = subprocess.run(
            [sys.executable, "-m", "kinetics_sounds.train", *argv],
            capture_output=True,
            text=True,
            env=ENVIRONMENT,
            timeout=120,
            check=False,
        )

        assert ended.returncode == 2, ended.stderr
        assert "ks-train: error: " in ended.stderr.splitlines()[-1]
        assert "Traceback" not in ended.stderr


class TestHelp:
    def test_it_lists_what_can_be_chosen(
        self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("COLUMNS", "200")
        with pytest.raises(SystemExit):
            pretrain.main(["--help"])

        shown = capsys.readouterr().out
        for option in (
            "--method {avcl,avid,",
            "--backbone {avid_r2plus1d,c3d,",
            "--audio_backbone {avid_r2plus1d,c3d,",
        ):
            assert f"\n  {option}" in shown
        assert "\n  --view {clip_and_log_mel,clip_and_mel,clip_and_spectrogram}" in shown
        assert "\n  --probe {knn,linear}" in shown

    @pytest.mark.parametrize(("argv", "notes"), [((), 1), (("--config", "avcl_tiny"), 0)])
    def test_settings_are_printed_with_a_note_if_they_are_no_recipes(
        self, argv: tuple[str, ...], notes: int, capsys: pytest.CaptureFixture[str]
    ) -> None:
        with pytest.raises(SystemExit):
            pretrain.main([*argv, "--print_config=skip_default"])

        shown = capsys.readouterr()
        assert shown.err.count("note: these are without a recipe") == notes
        assert ("audio_layout: single" in shown.out) == (not notes)


class TestResume:
    def test_a_run_that_is_longer_than_asked_for_says_so(
        self, small: Argv, finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        out = Path(shutil.copytree(finished, tmp_path / "run"))

        assert pretrain.main(small(out, "--steps=5")) == 0

        told = "trained: 6 steps were done already (5 are asked for: give another --out to train these); checkpoint: "
        assert told in capsys.readouterr().out

    def test_a_finished_run_has_nothing_to_do(
        self, small: Argv, finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        out = Path(shutil.copytree(finished, tmp_path / "run"))
        (out / "film.mp4.part").touch()  # of a browser
        before = {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file() and path.name != ".lock"}
        for left in ("step-00000006.old", "step-00000007.part"):  # by kills
            shutil.copytree(out / "checkpoints/step-00000006", out / "checkpoints" / left)
        (out / f"config.yaml.{os.getpid()}.part").touch()

        assert pretrain.main(small(out)) == 0

        path = out / "checkpoints" / "step-00000006"
        assert f"trained: 6 steps were done already; checkpoint: {path}" in capsys.readouterr().out
        assert {
            path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file() and path.name != ".lock"
        } == before

    def test_a_finished_run_whose_last_save_met_a_fault_is_tidied(
        self, small: Argv, finished: Path, tmp_path: Path
    ) -> None:
        """Its last checkpoint was whole before the disk failed, so that no step is left to save another."""
        out = Path(shutil.copytree(finished, tmp_path / "run"))
        there = sorted(path.name for path in (out / "checkpoints").iterdir())
        shutil.copytree(out / "checkpoints" / there[0], out / "checkpoints" / "step-00000001.old.part")
        shutil.copytree(out / "checkpoints" / there[0], out / "checkpoints" / "step-00000001")

        assert pretrain.main(small(out)) == 0
        assert sorted(path.name for path in (out / "checkpoints").iterdir()) == there

    def test_more_steps_go_on_from_the_last_and_bend_the_schedule_which_is_told(
        self, small: Argv, finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        out = Path(shutil.copytree(finished, tmp_path / "run"))

        assert pretrain.main(small(out, "--steps=8")) == 0

        assert "schedule: 8 steps now, 6 before; learning rates follow" in capsys.readouterr().out

        assert [line["step"] for line in metrics(out)] == [1, 2, 3, 4, 5, 6, 7, 8]
        assert learnt(out)[:6] == learnt(finished)

    def test_resume_none_refuses_a_folder_that_holds_a_run(
        self, half: Path, small: Argv, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        line = refused(small(half, "--resume=none"), capsys)

        assert f"{half}: contains a run at step-00000003; choose another --out, or resume it with --resume auto" in line
        assert pretrain.main(small(tmp_path / "fresh", "--resume=none", "--steps=1")) == 0

    @pytest.mark.parametrize(
        ("option", "complaint"),
        [
            ("--batch=6", "was trained with batch 4, not 6; choose another --out, the same batch, or"),
            ("--seed=1", "was trained with seed 0, not 1; choose another --out, the same seed, or"),
            ("--optim.name=sgd", "was trained with optim.name adamw, not sgd"),
            ("--train_split=test", "was trained with train_split train, not test"),
            ("--r3d.width=3", "was trained with r3d.width "),
            ("--avcl.amfm_stage=pretrain", "was trained with avcl.amfm_stage finetune, not pretrain"),
            ("--avcl.temperature=0.9", "was trained with avcl.temperature 0.1, not 0.9"),
            ("--optim.lr=0.5", "was trained with optim.lr "),
        ],
    )
    def test_another_run_in_the_same_folder_is_refused(
        self, option: str, complaint: str, half: Path, small: Argv, capsys: pytest.CaptureFixture[str]
    ) -> None:
        before = (half / "config.yaml").read_bytes()

        assert complaint in refused(small(half, option), capsys)

        assert (half / "config.yaml").read_bytes() == before

    def test_a_set_with_other_clips_is_refused_by_the_names_of_both(
        self, half: Path, small: Argv, shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        shutil.copytree(shards, tmp_path / "others")
        dataset = reader.read_dataset(Address(str(shards)))
        train = dataclasses.replace(dataset.splits["train"], fingerprint="0123456789abcdef")
        others = dataclasses.replace(dataset, classes="k31", splits={**dataset.splits, "train": train})
        index.write(tmp_path / "others" / "dataset.json", others)

        line = refused(small(half, f"--shards={tmp_path / 'others'}"), capsys)

        assert f"was trained on tiny of {shards} (fingerprint " in line
        assert f", not on k31 of {tmp_path / 'others'} (fingerprint 0123456789ab)" in line

    @pytest.mark.parametrize(
        ("option", "complaint"),
        [
            ("--max_grad_norm=0.5", "was trained with max_grad_norm 0.5, not None"),
            ("--clip_and_mel.rate=12.5", "was trained with clip_and_mel.rate 12.5, not None"),
            ('--optim.lr_multipliers={"video.*": 2}', "was trained with optim.lr_multipliers.video.* 2.0, not None"),
        ],
    )
    def test_a_run_that_lacks_a_setting_of_before_is_refused(
        self, option: str, complaint: str, small: Argv, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert pretrain.main(small(tmp_path, option, "--steps=1")) == 0

        assert complaint in refused(small(tmp_path), capsys)

    def test_damaged_checkpoints_are_refused_with_the_remedy(
        self, half: Path, small: Argv, finished: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        path = half / "checkpoints" / "step-00000003"
        (path / "model.safetensors").write_bytes(b"damaged")

        assert "delete that folder to use the previous checkpoint" in refused(small(half), capsys)

        shutil.rmtree(path)  # as the remedy says
        assert pretrain.main(small(half)) == 0
        assert_equals_an_uninterrupted_run(half, finished)


def test_main_reads_the_processs_own_arguments(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["ks-train", "--list"])

    assert pretrain.main() == 0
    assert "avcl_k32" in capsys.readouterr().out
