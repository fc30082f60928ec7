"""--devices: several ranks learn what one learns, from the same samples, and one of them speaks and writes."""

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from kinetics_sounds.stream import open_split
from kinetics_sounds.train import pretrain

from ..signals import sends

Argv = Callable[..., list[str]]

pytestmark = pytest.mark.slow


def lines(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.slow_campaign  # test_parity.py holds what ranks learn, and that they go on in other numbers
def test_two_ranks_and_then_four_learn_what_one_learns(
    small: Argv, tmp_path: Path, capfd: pytest.CaptureFixture[str], request: pytest.FixtureRequest
) -> None:
    """Two steps by two ranks, two more by four; batches of four, so that batch norms are those of all ranks."""
    out, one = tmp_path / "run", tmp_path / "one"
    same = ("--val_split=test", "--optim.schedule=constant", "--optim.warmup_steps=0")
    assert pretrain.main(small(one, "--steps=4", *same)) == 0
    capfd.readouterr()
    assert pretrain.main(small(out, "--devices=2", "--steps=2", *same)) == 0
    said = capfd.readouterr().out
    request.getfixturevalue("forked_ranks")  # what these say is not looked at
    assert pretrain.main(small(out, "--devices=4", "--steps=4", *same)) == 0

    assert said.count("shards: ") == said.count("trained: 2 steps") == 1
    steps = [line for line in lines(out) if "loss" in line]
    alone = [line for line in lines(one) if "loss" in line]
    assert [line["step"] for line in steps] == [1, 2, 3, 4]
    for name in ("loss", "cgra", "selfcl", "lr", "epoch"):
        assert [line[name] for line in steps] == pytest.approx([line[name] for line in alone], rel=1e-3), name
    ours, theirs = (load_file(each / "checkpoints" / "step-00000004" / "model.safetensors") for each in (out, one))
    for name, value in theirs.items():
        torch.testing.assert_close(ours[name], value, rtol=5e-2, atol=5e-3, msg=name.__add__)
    assert [line["step"] for line in lines(out) if "val_loss" in line] == [3]


@pytest.mark.usefixtures("forked_ranks")
def test_an_error_is_told_once_and_a_batch_too_small_for_the_ranks_is_one(
    small: Argv, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert pretrain.main(small(tmp_path, "--devices=5")) == 2
    assert "--batch 4: is too small for 5 devices" in capfd.readouterr().err

    assert pretrain.main(small(tmp_path, "--devices=2", "--train_split=nowhere")) == 2
    assert capfd.readouterr().err.count("has no split 'nowhere'") == 1


@pytest.mark.usefixtures("forked_ranks")
def test_what_one_rank_finds_bad_all_know_and_one_writes(small: Argv, shards: Path, tmp_path: Path) -> None:
    from ..test_pretrain import damaged

    copy = damaged(shards, tmp_path)
    out = tmp_path / "run"
    argv = [*small(out, "--devices=2", "--max_bad_fraction=0.2", "--steps=3"), f"--shards={copy}"]
    assert pretrain.main(argv) == 0

    (line,) = (out / "quarantine.jsonl").read_text().splitlines()
    assert json.loads(line)["key"] == open_split(copy, "train").key(8)
    assert lines(out)[-1]["bad_samples"] == 1


@pytest.mark.usefixtures("forked_ranks")
def test_a_signal_stops_all_ranks_after_saving_and_the_next_run_goes_on(small: Argv, tmp_path: Path) -> None:
    """What is said then is that of one process: `test_pretrain.TestSignals`."""
    out = tmp_path / "run"
    with sends(signal.SIGTERM, lambda: (out / "metrics.jsonl").exists() and len(lines(out)) >= 2):
        assert pretrain.main(small(out, "--devices=2", "--steps=100000")) == 3

    done = lines(out)[-1]["step"]
    assert (out / "checkpoints" / f"step-{done:08d}" / "state.json").is_file()
    assert pretrain.main(small(out, f"--steps={done + 1}")) == 0
    assert lines(out)[-1]["step"] == done + 1


@pytest.mark.usefixtures("forked_ranks")
def test_a_run_goes_on_with_batch_norms_over_as_many_samples_and_says_where_it_cannot(
    small: Argv, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Two samples of each of two ranks, which `auto` would exchange had the run begun so; one process has all four."""
    run = tmp_path / "run"
    assert pretrain.main(small(run, "--steps=1", "--devices=2", "--sync_bn=off", "--save_every=1", "--keep=3")) == 0
    assert pretrain.main(small(run, "--steps=2", "--devices=2", "--save_every=1", "--keep=3")) == 0
    capfd.readouterr()
    assert pretrain.main(small(run, "--steps=3", "--save_every=1", "--keep=3")) == 0

    assert [state(run, step)["norm_samples"] for step in (1, 2, 3)] == [2, 2, 4]
    assert "batch norms: over 4 samples from here on (was 2)" in capfd.readouterr().out
    changed = {"step": 2, "setting": "samples per batch norm", "before": 2, "after": 4}
    assert changed in state(run, 3)["changed_on_resume"]


def state(run: Path, step: int) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run / "checkpoints" / f"step-{step:08d}" / "state.json").read_text())
    return found


@pytest.mark.slow_campaign  # test_agree does so too
def test_torchrun_starts_the_same(small: Argv, tmp_path: Path) -> None:
    out = tmp_path / "run"
    words = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    more = ["-m", "kinetics_sounds.train", *small(out, "--steps=1")]
    done = subprocess.run([*words, *more], capture_output=True, text=True, timeout=120, check=False)

    assert done.returncode == 0, done.stderr[-2000:]
    assert [line["step"] for line in lines(out)] == [1]
