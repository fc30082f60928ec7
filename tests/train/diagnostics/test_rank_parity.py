"""The comparison of ranks with one process: it sees what is right, and what is not."""

import json
import subprocess
import sys
from typing import Any

import pytest
import torch

from kinetics_sounds.train.diagnostics import rank_parity
from kinetics_sounds.train.distributed.process_group import World

ALONE = World(0, 1, torch.device("cpu"))


AGREE = ["-m", "kinetics_sounds.train.diagnostics.rank_parity", "--device=cpu"]
BY_ITSELF = [sys.executable, *AGREE, "--devices=2"]
BY_TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", *AGREE]


@pytest.mark.slow
@pytest.mark.parametrize("words", [BY_TORCHRUN, pytest.param(BY_ITSELF, marks=pytest.mark.slow_campaign)])
def test_two_ranks_learn_what_one_process_would(words: list[str]) -> None:
    done = subprocess.run(words, capture_output=True, text=True, timeout=120, check=True)
    report: dict[str, Any] = json.loads(done.stdout)

    assert (report["ranks"], report["device"], report["backend"]) == (2, "cpu", "gloo")
    assert 0 < report["still"] < rank_parity.TOLERANCE
    assert 0 < report["synchronised"] < rank_parity.TOLERANCE
    assert report["seconds"] > 0


def test_one_rank_is_itself(capsys: pytest.CaptureFixture[str]) -> None:
    assert rank_parity.main(["--devices=1", "--device=cpu"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["ranks"], report["still"], report["synchronised"]) == (1, 0, 0)


def test_a_gradient_that_comes_out_halved_is_found(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    calls = iter(range(100))

    def halved(parameters: Any) -> None:
        if next(calls) >= 2:  # the first two are those of the one process
            for parameter in parameters:
                parameter.grad /= 2

    monkeypatch.setattr(rank_parity, "average_gradients", halved)

    assert rank_parity.main(["--devices=1", "--device=cpu"]) == 1
    report = json.loads(capsys.readouterr().out)
    assert report["still"] == pytest.approx(0.5)


def test_other_names_are_infinitely_far_and_what_is_no_number_is_not_right() -> None:
    one = torch.ones(1)
    assert rank_parity.distance({"a": one}, {"b": one}) == float("inf")
    assert rank_parity.distance({"a": one * 2}, {"a": one}) == 1
    report = rank_parity.Report(
        ranks=1, device="cpu", backend="none", still=float("nan"), synchronised=0.0, seconds=1.0
    )
    assert not report.right
