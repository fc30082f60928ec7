"""ks-doctor --distributed: what a comparison of ranks with one process means to whoever asked."""

import subprocess
from types import SimpleNamespace
from typing import Any

import pytest

from kinetics_sounds.pipelines import doctor
from kinetics_sounds.pipelines.checks import Asked, Finding, Verdict, rank_parity

REPORT = {"ranks": 4, "device": "cuda", "backend": "nccl", "still": 4e-16, "synchronised": 3e-13, "seconds": 0.059}


def test_ranks_that_learn_what_one_would_are_well_and_their_speed_is_told() -> None:
    """118 MB in 59 ms are 2 GB/s."""
    found = list(rank_parity.findings(REPORT, right=True))

    assert [each.verdict for each in found] == [Verdict.OK, Verdict.OK]
    assert found[0].found == (
        "4 ranks on cuda by nccl: losses and gradients equal those of one process "
        "(off by 4e-16, with batch norms over all ranks by 3e-13)"
    )
    assert found[1].found == "2.00 GB/s: the gradients of an AVCL step in 0.06 s"


def test_ranks_that_learn_something_else_are_a_fault_with_a_remedy() -> None:
    first = next(rank_parity.findings({**REPORT, "still": 0.5}, right=False))

    assert first.verdict == Verdict.MISSING
    assert "differ from those of one process (off by 0.5," in first.found
    assert first.remedy.startswith("train on one device")


def test_ranks_that_cannot_meet_are_a_fault_in_their_own_words(monkeypatch: pytest.MonkeyPatch) -> None:
    ended = SimpleNamespace(
        returncode=2, stdout="", stderr="agree: error: rank 1 of 2: cannot reach the other ranks with gloo\n"
    )
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: ended)

    (found,) = rank_parity.distributed(Asked())

    assert found.verdict == Verdict.MISSING
    assert "cannot reach the other ranks with gloo" in found.found
    assert "GLOO_SOCKET_IFNAME" in found.remedy


@pytest.mark.parametrize(("asked", "times"), [(False, 0), (True, 1)])
def test_it_is_looked_at_only_when_it_is_asked_for(asked: bool, times: int, monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[Any] = []

    def apart(check: Any, _asked: Any) -> list[Finding]:
        looked.append(check)
        return []

    monkeypatch.setattr(doctor, "apart", apart)
    list(doctor.findings(doctor.DoctorSettings(distributed=asked)))

    assert looked.count(rank_parity.distributed) == times
