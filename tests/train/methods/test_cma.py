"""CMA: its positives and negatives, its terms, what it begins with, and what it says of its memory."""

import contextlib
import json
import os
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
from scipy import stats

from kinetics_sounds.errors import RunError
from kinetics_sounds.train import pretrain
from kinetics_sounds.train.interface import Data, Moment
from kinetics_sounds.train.losses.nce import cosines, nce_loss
from kinetics_sounds.train.methods import avid, cma

from .flat import NOW, Flat, batch

SMALL = {"dim": 8, "hidden": 8, "negatives": 6, "negatives_within": 4, "positives": 3, "mine_every": 1}
BUFFERS = {"banks.partition": 2.2}
"""As if it went on from the banks of an AVID run; positives are mined as each epoch begins."""
BEGINS_WITH = "avid"

Argv = Callable[..., list[str]]
DATA = Data(classes=2, samples=20, steps=10, batch=4)
LABELS = torch.arange(20) % 2
FEW = {"dim": 4, "hidden": 5, "negatives": 6, "negatives_within": 6}


def method(data: Data = DATA, *, mined: bool = True, **settings: Any) -> cma.Cma:
    """As if it went on from an AVID run."""
    torch.manual_seed(0)
    made = cma.build(cma.Settings(**{**FEW, "positives": 3, **settings}), video=Flat(), audio=Flat(), data=data)
    if data.samples:
        made.memory().partition.fill_(2.2)
        if mined:
            made.on_epoch(NOW, LABELS)
    return made


def test_with_one_positive_the_second_term_is_plain_nce() -> None:
    """Each feature against the row of its one positive in its own modality's bank."""
    made, given = method(positives=1), batch()
    output = made(given, NOW)
    noise_BK = made.negatives(given, NOW)
    assert made.positives is not None
    expected = torch.zeros(4)
    for name in ("video", "audio"):
        feature, rows = output.kept[name], made.rows(name)
        own = (feature * rows[made.positives[given.row, 0]]).sum(dim=1) / 0.07
        expected += nce_loss(own, cosines(feature, rows[noise_BK], temperature=0.07), partition=torch.tensor(2.2))

    torch.testing.assert_close(output.logs["within"], expected.mean())


def test_without_weight_it_is_cross_avid_with_its_negatives(monkeypatch: pytest.MonkeyPatch) -> None:
    made, given = method(weight=0.0), batch()
    torch.manual_seed(0)
    plain = avid.build(avid.Settings(dim=4, hidden=5, negatives=6), video=Flat(), audio=Flat(), data=DATA)
    plain.load_state_dict({name: value for name, value in made.state_dict().items() if name in plain.state_dict()})
    noise_BK = made.negatives(given, NOW)
    monkeypatch.setattr(plain, "negatives", lambda *_: noise_BK)

    torch.testing.assert_close(made(given, NOW).loss, plain(given, NOW).loss)


@pytest.mark.parametrize("weight", [0.3, 1.0])
def test_the_codes_loss_is_half_of_the_terms_weighted_mean(weight: float) -> None:
    """A quarter of the paper's where both weigh the same."""
    paper, code = (method(weight=weight, scale=scale)(batch(), NOW).loss for scale in ("paper", "code"))

    torch.testing.assert_close(code, paper / (2 * (1 + weight)))


def test_avids_loss_in_the_code_is_half_of_the_papers_and_of_joint_a_quarter() -> None:
    for mode, share in (("cross", 0.5), ("self", 0.5), ("joint", 0.25)):
        losses = []
        for scale in ("paper", "code"):
            torch.manual_seed(0)
            settings: Any = {"dim": 4, "hidden": 5, "negatives": 6, "mode": mode, "scale": scale}
            losses.append(
                avid.build(avid.Settings(**settings), video=Flat(), audio=Flat(), data=DATA)(batch(), NOW).loss
            )
        torch.testing.assert_close(losses[1], share * losses[0])


@pytest.mark.parametrize("exclude_self", [False, True])
def test_negatives_are_uniform_over_what_is_no_positive(exclude_self: bool) -> None:
    """By a chi-square test over 3 positives, the sample itself, and the 16 others of 20."""
    made, given = method(negatives=20_000, exclude_self=exclude_self), batch()
    assert made.positives is not None
    negatives_BK = made.negatives(given, NOW)
    for row in range(4):
        never = {*made.positives[row].tolist(), *([row] if exclude_self else [])}
        counts = torch.bincount(negatives_BK[row], minlength=20)
        assert counts[list(never)].tolist() == [0] * len(never)
        allowed = [int(counts[each]) for each in range(20) if each not in never]
        assert stats.chisquare(allowed).pvalue > 1e-4


def test_the_positives_term_may_have_the_first_negatives_alone() -> None:
    made, given = method(negatives_within=2), batch()
    output = made(given, NOW)
    noise_BK = made.negatives(given, NOW)[:, :2]
    assert made.positives is not None
    expected = torch.zeros(4)
    for name in ("video", "audio"):
        scores = [
            cosines(output.kept[name], made.rows(name)[each], temperature=0.07)
            for each in (made.positives[given.row], noise_BK)
        ]
        expected += nce_loss(*scores, partition=torch.tensor(2.2))

    torch.testing.assert_close(output.logs["within"], expected.mean())


def test_positives_are_mined_anew_every_so_many_epochs_and_are_state() -> None:
    made = method(mine_every=2)
    assert made.positives is not None
    first = made.positives.clone()
    made.memory().video.rows_SD.copy_(made.memory().video.rows_SD.flip(0))
    made.on_epoch(NOW._replace(epoch=1), LABELS)
    assert torch.equal(made.positives, first)
    made.on_epoch(NOW._replace(epoch=2), LABELS)
    assert not torch.equal(made.positives, first)
    assert torch.equal(made.state_dict()["positives"], made.positives)


def test_it_says_what_its_positives_are_worth_and_how_alike_its_memories_are() -> None:
    """Banks in which the samples of a class are alike in the picture, and all are alike in the sound."""
    made = method(mined=False)
    banks = made.memory()
    banks.video.rows_SD.copy_(torch.eye(4)[LABELS])
    banks.audio.rows_SD.copy_(torch.eye(4)[torch.zeros(20, dtype=torch.int64)])
    made.on_epoch(NOW, LABELS)
    logs = made(batch(), NOW).logs

    assert logs["precision_video"] == logs["precision_min"] == 1
    assert logs["precision_audio"] < 1
    assert logs["precision_max"] < 1  # alike in the sound is enough
    assert logs["memory_cosine_audio"] == pytest.approx(1)
    assert logs["memory_cosine_video"] == pytest.approx(9 / 19, abs=0.02)  # of the 19 others 9 are of the same class


def test_a_model_for_evaluation_has_neither_banks_nor_positives() -> None:
    made = method(DATA._replace(samples=0))

    apart = ("banks.", "positives")
    assert {name for name in method().state_dict() if not name.startswith(apart)} == set(made.state_dict())


def test_it_cannot_begin_without_memory() -> None:
    made = method(mined=False)
    made.memory().partition.zero_()
    with pytest.raises(RunError, match="needs the memory banks of an AVID run; give one with --init_from"):
        made.on_epoch(Moment(seed=0, step=0, epoch=0), LABELS)


@pytest.mark.parametrize(
    "wrong", [{"positives": 0}, {"mine_every": 0}, {"negatives_within": 7}, {"weight": -1.0}, {"dim": 0}]
)
def test_settings_that_mean_nothing_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must be at least 1"):
        cma.Settings(**{**FEW, **wrong})


def test_more_positives_than_there_are_samples_are_refused() -> None:
    with pytest.raises(ValueError, match="19 positives and a negative per sample need more than 20"):
        method(positives=19)


@pytest.fixture(scope="module")
def pretrained(small: Argv, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An AVID run of six steps."""
    run = tmp_path_factory.mktemp("avid") / "run"
    assert pretrain.main(small(run, "--method=avid", "--avid.negatives=4", "--avid.hidden=8", "--avid.dim=8")) == 0
    return run


def argv(small: Argv, out: Path, init: Path, *more: str) -> list[str]:
    sizes = ("negatives=4", "negatives_within=2", "hidden=8", "dim=8", "positives=3", "mine_every=1")
    return small(out, "--method=cma", f"--init_from={init}", *(f"--cma.{each}" for each in sizes), *more)


def test_it_goes_on_with_networks_banks_and_partition_of_an_avid_run(
    small: Argv, pretrained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert pretrain.main(argv(small, tmp_path, pretrained)) == 0

    assert "init: audio, banks, heads, video from" in capsys.readouterr().out
    before = json.loads((pretrained / "metrics.jsonl").read_text().splitlines()[-1])
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert {line["partition"] for line in lines} == {before["partition"]}
    assert all(0 <= line[f"precision_{name}"] <= 1 for line in lines for name in ("min", "max", "video", "audio"))


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("--cma.dim=4",), "its heads.video.4.weight is (8, 8), where this run has (4, 8)"),
        (("--cma.hidden=4",), "its heads.video.0.weight is (8, 16), where this run has (4, 16)"),
        (("--train_split=test",), "where this run has"),
    ],
)
def test_another_avid_run_is_refused(
    more: tuple[str, ...],
    said: str,
    small: Argv,
    pretrained: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert pretrain.main(argv(small, tmp_path, pretrained, "--batch=2", *more)) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("what", ["data_recipe", "fingerprint"])
def test_as_many_samples_of_another_set_are_refused(
    what: str, small: Argv, pretrained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A row of the banks would be another sample's."""
    other = tmp_path / "avid"
    shutil.copytree(pretrained, other)
    facts = json.loads((other / "run.json").read_text())
    (other / "run.json").write_text(json.dumps({**facts, what: "0123456789abcdef"}))

    assert pretrain.main(argv(small, tmp_path / "run", other)) == 2
    said = f"its memory banks belong to other samples, or to shards packed differently ({what} 0123"
    assert said in capsys.readouterr().err


def test_a_checkpoint_that_lies_in_no_run_is_refused(
    small: Argv, pretrained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    alone = Path(shutil.copytree(pretrained / "checkpoints" / "step-00000006", tmp_path / "alone" / "a" / "b"))

    assert pretrain.main(argv(small, tmp_path / "run", alone)) == 2
    assert "is not inside a run folder; give that folder" in capsys.readouterr().err


def test_another_temperature_than_the_partitions_is_refused(
    small: Argv, pretrained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert pretrain.main(argv(small, tmp_path, pretrained, "--cma.temperature=0.5")) == 2
    assert "its partition belongs to temperature 0.07; give --cma.temperature 0.07" in capsys.readouterr().err


def test_another_input_than_the_memorys_is_told(
    small: Argv, pretrained: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert pretrain.main(argv(small, tmp_path, pretrained, "--steps=1", "--clip_and_mel.subtract_clip_mean=false")) == 0
    assert "--clip_and_mel.subtract_clip_mean False: the run of --init_from has True" in caplog.text


def test_bench_begins_with_the_run_too(
    small: Argv, pretrained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = argv(small, tmp_path, pretrained, "--seconds=0.1")
    assert pretrain.main(["bench", *words]) == 0
    assert pretrain.main(["bench", *(word for word in words if not word.startswith("--init_from"))]) == 2
    assert "needs the memory banks of an AVID run; give one with --init_from" in capsys.readouterr().err


def test_a_run_without_banks_is_refused(
    small: Argv, finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert pretrain.main(argv(small, tmp_path, finished)) == 2
    assert "has no heads; give the folder of a run of --method avid" in capsys.readouterr().err


def test_it_cannot_begin_without_init(
    small: Argv, pretrained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [word for word in argv(small, tmp_path, pretrained) if not word.startswith("--init_from")]
    assert pretrain.main(words) == 2
    assert "needs the memory banks of an AVID run; give one with --init_from" in capsys.readouterr().err


def test_a_killed_run_goes_on_with_the_positives_that_it_had_mined(
    small: Argv, pretrained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Saved in mid-epoch (step 4 of 3 an epoch), where the banks have moved since; the last checkpoint is lost."""
    whole, torn = tmp_path / "whole", tmp_path / "torn"
    for out in (whole, torn):
        assert pretrain.main(argv(small, out, pretrained)) == 0
    shutil.rmtree(torn / "checkpoints" / "step-00000006")
    monkeypatch.setattr(cma.mining, "mine", lambda *_, **__: pytest.fail("mined in mid-epoch"))
    assert pretrain.main(argv(small, torn, pretrained)) == 0

    for name in ("model", "replicated", "optimizer"):
        paths = [out / "checkpoints" / "step-00000006" / f"{name}.safetensors" for out in (whole, torn)]
        assert paths[0].read_bytes() == paths[1].read_bytes()


def killed_once_saved(argv: list[str]) -> None:
    """A run of two ranks, of which no process lives on after its first checkpoint."""
    out = Path(next(word for word in argv if word.startswith("--out=")).partition("=")[2])
    first = out / "checkpoints" / "step-00000002"
    words = [sys.executable, "-m", "kinetics_sounds.train", *argv, "--devices=2", "--steps=1000", "--keep=500"]
    with subprocess.Popen(words, start_new_session=True, stdout=subprocess.DEVNULL) as process:
        until = time.monotonic() + 120
        while not first.exists():
            assert process.poll() is None
            assert time.monotonic() < until
            time.sleep(0.005)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        with contextlib.suppress(ProcessLookupError):  # its ranks hold the folder's lock until they are gone
            while time.monotonic() < until:
                os.killpg(process.pid, 0)
                time.sleep(0.01)
    for later in (out / "checkpoints").iterdir():
        if later != first:  # it may have come a little further
            shutil.rmtree(later)


@pytest.mark.slow_campaign  # test_parity.py goes on in another world, and test_every_method.py after a kill, in make test
def test_killed_in_avid_and_in_cma_it_goes_on_with_other_ranks_as_one_process_that_nobody_killed(
    small: Argv, tmp_path: Path
) -> None:
    plain = ("--optim.name=sgd", "--optim.lr=1e-2", "--optim.schedule=constant", "--optim.warmup_steps=0")
    heads = ("--avid.negatives=4", "--avid.hidden=8", "--avid.dim=8")
    found = []
    for name in ("alone", "killed"):
        before, after = tmp_path / name / "avid", tmp_path / name / "cma"
        for words in (small(before, "--method=avid", *heads, *plain), argv(small, after, before, *plain)):
            if name == "killed":
                killed_once_saved(words)
            assert pretrain.main([*words, "--steps=8"]) == 0
        last = after / "checkpoints" / "step-00000008"
        found.append({**load_file(last / "model.safetensors"), **load_file(last / "replicated.safetensors")})
    alone, killed = found

    assert torch.equal(alone["positives"], killed["positives"])
    for key, value in alone.items():
        torch.testing.assert_close(killed[key], value, rtol=1e-3, atol=1e-4, msg=key.__add__)
