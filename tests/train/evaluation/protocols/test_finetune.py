"""ks-eval finetune: encoders begin as the run left them, the best checkpoint is judged, and clips vote."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from kinetics_sounds.shards import reader
from kinetics_sounds.train import evaluate, pretrain
from kinetics_sounds.train.config import run_folder
from kinetics_sounds.train.engine import build

from ...conftest import write_set

Argv = Callable[..., list[str]]


@pytest.fixture
def tune(finished: Path, tmp_path: Path) -> Callable[..., Path]:
    """A function from more options to the folder of a fine-tuned run of two epochs."""

    def tuned(*more: str) -> Path:
        out = tmp_path / "tuned"
        options = [f"--run={finished}", f"--out={out}", "--workers=0", "--device=cpu", "--clips=2", "--epochs=2"]
        assert evaluate.main(["finetune", *options, "--batch=4", "--optim.lr=1e-3", *more]) == 0
        return out

    return tuned


def results(out: Path) -> dict[str, Any]:
    told: dict[str, Any] = json.loads((out / "results.json").read_text())
    return told


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def test_its_results_name_the_run_the_votes_and_the_scores(tune: Callable[..., Path], finished: Path) -> None:
    told = results(tune())

    assert (told["probe"], told["run"], told["checkpoint"]) == ("finetune", str(finished), "step-00000006")
    assert (told["on_split"], told["samples"], told["clips"], told["vote"]) == ("test", 6, 2, "logit")
    assert (told["tuned"], told["best_on"]) == ("step-00000006", None)  # 12 samples, batches of 4, two epochs
    scores = told["scores"]
    assert 0 <= scores["top1_low"] <= scores["top1"] <= scores["top1_high"] <= 100
    assert scores["top5"] == 100  # of two classes


def test_encoders_begin_as_the_run_left_them_and_untrained_as_the_seed_has_them(
    tune: Callable[..., Path], finished: Path
) -> None:
    """At a learning rate of nothing they stay so."""
    still = ("--optim.lr=0", "--optim.weight_decay=0")
    before, after = (weights(folder / "checkpoints" / "step-00000006") for folder in (finished, tune(*still)))
    encoders = [name for name in before if name.startswith(("video.", "audio.")) and name.endswith("weight")]

    assert encoders
    assert all(torch.equal(before[name], after[name]) for name in encoders)


def test_untrained_begins_anew(tune: Callable[..., Path], finished: Path) -> None:
    out = tune("--untrained", "--optim.lr=0", "--optim.weight_decay=0")
    first = build.rebuild(finished).method.state_dict()
    after = weights(out / "checkpoints" / "step-00000006")

    assert results(out)["checkpoint"] == "untrained"
    assert torch.equal(first["video.conv2.residual.0.weight"], after["video.conv2.residual.0.weight"])


def test_the_checkpoint_that_was_best_on_the_validation_is_judged(
    tune: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """Which has the accuracy in one clip that the validation found, for one centred clip is what it looks at."""
    out = tune("--val_split=test", "--epochs=3", "--clips=1")
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    top1 = {line["step"]: line["val_top1"] for line in lines if "val_top1" in line}
    best = max(top1, key=lambda step: (top1[step], -step))

    assert sorted(top1) == [3, 6, 9]
    assert results(out)["tuned"] == f"step-{best:08d}"
    assert results(out)["scores"]["top1"] == pytest.approx(top1[best])
    assert results(out)["scores"]["selected_on_test"] == 1
    told = capsys.readouterr().out
    assert f"note: step-{best:08d} was selected on the split 'test', which it is evaluated on; see --val_split" in told


def test_of_the_ranks_that_torchrun_started_the_first_judges(
    tune: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tune()
    first = results(out)
    for rank, judged in (("1", False), ("0", True)):
        (out / "results.json").unlink(missing_ok=True)
        with monkeypatch.context() as patched:
            patched.setenv("WORLD_SIZE", "2")
            patched.setenv("RANK", rank)
            patched.setattr(pretrain, "train", lambda _parsed, **_how: 0)  # they have learnt together
            tune()
        assert (out / "results.json").exists() == judged
    assert results(out) == first


@pytest.mark.slow_campaign
def test_with_json_the_ranks_leave_standard_output_to_the_results(
    tune: Callable[..., Path], capfd: pytest.CaptureFixture[str]
) -> None:
    """Two processes, which say on standard error what they do."""
    out = tune("--json", "--devices=2", "--epochs=1")
    said = capfd.readouterr()

    assert json.loads(said.out) == results(out)
    assert said.err.count("trained: 3 steps") == 1


def test_a_model_of_another_shape_is_another_fine_tuning(
    small: Argv, tune: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where no checkpoint says so, as both begin untrained."""
    tune("--untrained", "--epochs=1")
    assert pretrain.main(small(tmp_path / "wide", "--r3d.width=4", "--steps=1")) == 0
    options = [f"--run={tmp_path / 'wide'}", f"--out={tmp_path / 'tuned'}", "--untrained", "--epochs=1"]

    assert evaluate.main(["finetune", *options, "--batch=4", "--optim.lr=1e-3", "--device=cpu"]) == 2

    assert "is fine-tuned with r3d.width 2, not 4; choose another --out" in capsys.readouterr().err


def test_what_cannot_be_trained_is_refused_as_by_ks_train(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for option, complaint in (
        ("--cache_gb=0", "--cache_gb 0.0: must be more"),
        ("--devices=3", "--batch 2: is too sm"),
    ):
        options = [f"--run={finished}", f"--out={tmp_path / 'tuned'}", "--batch=2", option]
        assert evaluate.main(["finetune", *options]) == 2
        assert complaint in capsys.readouterr().err
    assert not (tmp_path / "tuned").exists()


def test_a_gate_is_taken_over_from_the_run(small: Argv, finished: Path, tmp_path: Path) -> None:
    """The recipe has it in fine-tuning; a run with the gate in pretraining hands it on with its weights."""
    gated = tmp_path / "gated"
    assert pretrain.main(small(gated, "--avcl.amfm_stage=pretrain", "--avcl.amfm.gate=sigmoid", "--steps=1")) == 0
    for folder, name, gate in ((finished, "fresh", "relu"), (gated, "own", "sigmoid")):
        options = ["--workers=0", "--device=cpu", "--clips=1", "--epochs=1", "--batch=12", "--optim.lr=0"]
        more = ["--optim.weight_decay=0", f"--run={folder}", f"--out={tmp_path / name}"]
        assert evaluate.main(["finetune", *options, *more]) == 0
        assert run_folder.reopen(tmp_path / name).groups["supervised"].amfm.gate == gate
    own = weights(tmp_path / "own" / "checkpoints" / "step-00000001")
    before = weights(gated / "checkpoints" / "step-00000001")
    assert torch.equal(own["amfm.squeeze.0.weight"], before["amfm.squeeze.0.weight"])


def test_a_run_that_compares_two_views_is_fine_tuned_with_one(small: Argv, tmp_path: Path) -> None:
    run, out = tmp_path / "joint", tmp_path / "tuned"
    two = ("--method=moco", "--moco.mode=joint", "--moco.queue=4", "--clip_and_mel.views=2", "--steps=1")
    assert pretrain.main(small(run, *two)) == 0
    options = ["--workers=0", "--device=cpu", "--clips=1", "--epochs=1", "--batch=4"]

    assert evaluate.main(["finetune", *options, f"--run={run}", f"--out={out}"]) == 0
    assert run_folder.reopen(out).groups["clip_and_mel"].views == 1


def test_a_finished_one_is_judged_again_without_training(
    tune: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    first = results(tune())
    capsys.readouterr()
    again = results(tune())

    assert "steps were done already" in capsys.readouterr().out
    assert again == first


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--on_split=train"], "--on_split train: is the training split (--fit_split); choose another"),
        (["--val_split=train"], "--val_split train: is the training split (--fit_split); choose another"),
        (["--on_split=nope"], "--on_split nope: does not exist; "),
        (["--fit_split=nope"], "--fit_split nope: does not exist; "),
        (["--untrained", "--checkpoint=best"], "--untrained: evaluates initial weights, not --checkpoint best"),
        (["--gate=on", "--supervised.modalities=video"], "--gate on: supervised: a gate needs both modalities"),
        (["--gate=on", "--supervised.amfm.gate=sigmoid"], "--supervised.amfm: the gate is taken from the run"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_trained(
    options: list[str], complaint: str, finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert evaluate.main(["finetune", f"--run={finished}", f"--out={tmp_path / 'tuned'}", *options]) == 2
    assert complaint in capsys.readouterr().err
    assert not (tmp_path / "tuned").exists()


def test_the_scores_of_one_fine_tuning_are_never_told_as_those_of_another(
    finished: Path, tune: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    out = tune("--epochs=1")
    first = results(out)
    options = [f"--run={finished}", f"--out={out}", "--workers=0", "--device=cpu", "--clips=2", "--batch=4"]
    for option, complaint in (
        ("--checkpoint=step-00000004", "is fine-tuned with init_from "),
        ("--epochs=2", "is fine-tuned with epochs 1, not 2"),
        ("--val_split=test", "is fine-tuned with val_split None, not test"),
        ("--supervised.hidden=8", "is fine-tuned with supervised.hidden 512, not 8"),
        ("--optim.milestones=[0.5]", "is fine-tuned with optim.milestones [], not [0.5]"),
        ('--optim.schedules={"audio.*": cosine}', "is fine-tuned with optim.schedules.audio.* None, not cosine"),
    ):
        assert evaluate.main(["finetune", *options, "--optim.lr=1e-3", "--epochs=1", option]) == 2
        assert f"{out}: {complaint}" in capsys.readouterr().err
        assert results(out) == first


def test_the_same_run_by_another_path_is_the_same(
    tune: Callable[..., Path], finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = results(tune("--epochs=1"))
    monkeypatch.chdir(finished.parent)

    again = results(tune("--epochs=1", f"--run={finished.name}"))

    assert again == {**first, "run": finished.name}


def test_other_clips_are_another_fine_tuning(
    tune: Callable[..., Path],
    films: dict[int, bytes],
    finished: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    write_set(tmp_path / "others", {"train": (5, 7), "test": (6,)}, films, classes="tiny")
    out = tune("--epochs=1")
    options = [
        f"--run={finished}",
        f"--out={out}",
        "--workers=0",
        "--device=cpu",
        "--clips=2",
        "--batch=4",
        "--epochs=1",
    ]

    assert evaluate.main(["finetune", *options, "--optim.lr=1e-3", f"--shards={tmp_path / 'others'}"]) == 2

    told = capsys.readouterr().err
    assert f"{out}: is fine-tuned on other clips ({run_folder.read_facts(finished)['shards']}: " in told
    assert f", not {tmp_path / 'others'}: " in told


def test_it_ends_with_what_follows_the_baseline_and_then_the_page(
    finished: Path, shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Path(shutil.copytree(finished, tmp_path / "run"))
    options = [f"--run={run}", "--workers=0", "--device=cpu", "--clips=1", "--epochs=1", "--batch=12", "--gate=on"]
    baseline = "next: the same command with --untrained, for the baseline"
    page = f"next: ks-view {shards} --run {run}"

    for more, told in (((), [baseline, page]), (("--untrained", "--gate=off"), [page]), ((), [page])):
        assert evaluate.main(["finetune", *options, *more]) == 0
        assert capsys.readouterr().out.splitlines()[-len(told) :] == told


def test_the_split_that_is_judged_does_not_choose_the_checkpoint(
    tune: Callable[..., Path], films: dict[int, bytes], tmp_path: Path
) -> None:
    """Of a set of train and val, val is judged, and so the last checkpoint is taken."""
    write_set(tmp_path / "two", {"train": (4, 4), "val": (4,)}, films, classes="tiny")
    told = results(tune(f"--shards={tmp_path / 'two'}"))

    assert (told["on_split"], told["best_on"], told["tuned"]) == ("val", None, "step-00000004")
    assert told["scores"]["selected_on_test"] == 0
    assert (told["scores"]["top1_chance"], told["scores"]["top5_chance"]) == (50, 100)


def test_no_password_of_a_url_is_told(
    finished: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], shards: Path
) -> None:
    dataset = reader.read_dataset(shards)
    monkeypatch.setattr(reader, "read_dataset", lambda _: dataset)
    for name in ("finetune", "linear"):
        for option in ("--on_split=nope", "--fit_split=nope"):
            evaluate.main([name, f"--run={finished}", "--shards=https://me:s3cret@host.invalid/k32", option])
    told = capsys.readouterr()
    assert "nope" in told.err
    assert "s3cret" not in told.err + told.out


@pytest.mark.parametrize("modalities", ["both", "video"])
def test_what_it_looks_at_can_be_drawn(modalities: str, tune: Callable[..., Path]) -> None:
    """A modality that the classifier does not see has nothing to show."""
    pytest.importorskip("captum")
    out = tune(f"--supervised.modalities={modalities}", "--epochs=1")
    assert evaluate.main(["cam", f"--run={out}", "--samples=1", "--device=cpu"]) == 0
    told: dict[str, Any] = json.loads((out / "eval" / "cam" / "results.json").read_text())

    assert told["score"] == "the predicted class"
    assert ("audio" in told["clips"][0]["blank"]) >= (modalities == "video")
