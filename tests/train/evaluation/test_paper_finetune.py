"""Fine-tuning as the papers do: its numbers are those of a loop that is written out here."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

from kinetics_sounds import stream
from kinetics_sounds.command import STOPPED
from kinetics_sounds.shards.reader import read_dataset
from kinetics_sounds.train import evaluate, pretrain
from kinetics_sounds.train.config import run_folder
from kinetics_sounds.train.engine import build
from kinetics_sounds.train.evaluation import paper_run, papers, training
from kinetics_sounds.train.evaluation.encoders import load
from kinetics_sounds.train.evaluation.protocols import finetune
from kinetics_sounds.train.interface import Data
from kinetics_sounds.train.optim.lr_schedule import learning_rate

from ...shipped import read
from .conftest import write_folds

EPOCHS, PASSES, BATCH, CLIPS, HEAD = 4, 2, 4, 3, 1
TINY = (
    *(f"--epochs={EPOCHS}", f"--clips_per_video={PASSES}", f"--batch={BATCH}", f"--clips={CLIPS}", "--frames=4"),
    *(f"--supervised.head_epochs={HEAD}", "--optim.milestones=[0.5, 0.75]", "--optim.lr=0.01", "--crop=24"),
    *("--workers=0", "--device=cpu", "--video_augment=flip"),
)
CLIPS_OF = {"ucf101": (9537, 9586, 9624), "hmdb51": (3570, 3570, 3570)}
"""Training videos of each split."""


@pytest.fixture(scope="module")
def pictured(tmp_path_factory: pytest.TempPathFactory, films: dict[int, bytes]) -> Path:
    """12 samples of two classes in three folds, without sound."""
    return write_folds(tmp_path_factory.mktemp("pictured") / "shards", films, pictures=True)


@pytest.fixture(scope="module")
def tuned(finished: Path, pictured: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """AVID's protocol of UCF101, made small: 8 samples to train on in each fold."""
    out = tmp_path_factory.mktemp("tuned") / "out"
    argv = ["--protocol=ucf101_avid_8", f"--run={finished}", f"--shards={pictured}", f"--out={out}", *TINY]
    assert evaluate.main(argv) == 0
    return out


def results(out: Path) -> dict[str, Any]:
    told: dict[str, Any] = json.loads((out / "results.json").read_text())
    return told


class Loop:
    """Fine-tuning of one fold, step by step."""

    def __init__(self, out: Path, shards: Path, fold: int) -> None:
        """Encoder and classifier as the fold's training began with them."""
        parsed = run_folder.reopen(out)
        self.view = build.rebuild(out).view
        self.settings = parsed.groups[parsed.settings.view]
        self.fit, self.on = (stream.open_split(shards, f"fold{fold}_{part}") for part in ("train", "test"))
        self.model = build.build_model(parsed, run_folder.data_of(self.fit, parsed.settings)).method
        assert parsed.settings.init_from is not None
        first = load_file(parsed.settings.init_from / "model.safetensors")
        mine = self.model.state_dict()
        self.model.load_state_dict({**mine, **{name: each for name, each in first.items() if name in mine}})
        self.lr: list[float] = []

    def inputs(self, made: list[dict[str, torch.Tensor]]) -> torch.Tensor:
        arrays = {name: torch.stack([each[name] for each in made]) for name in made[0]}
        video_BVCTHW: torch.Tensor = self.view.augment(arrays, self.settings)["video"]
        return video_BVCTHW

    def learn(self) -> None:
        video, head = self.model.video, self.model.classifier
        optimizer = torch.optim.Adam([*video.parameters(), *head.parameters()], lr=0.01)
        per_pass = len(self.fit) // BATCH
        for step in range(EPOCHS * PASSES * per_pass):
            epoch, number = step // (PASSES * per_pass), step // per_pass
            order = stream.order(self.fit.count_S, seed=0, epoch=number, window=None)
            rows = order[step % per_pass * BATCH :][:BATCH]
            made = []
            for row in rows:
                with stream.sample(self.fit, int(row)) as sample:
                    made.append(self.view.train_view(sample, self.settings, stream.rng(0, number, sample.key)))
            self.lr.append(0.01 * 0.3 ** ((epoch >= 2) + (epoch >= 3)))
            optimizer.param_groups[0]["lr"] = self.lr[-1]
            torch.manual_seed(int(np.random.SeedSequence([0, step, 0]).generate_state(1)[0]))
            optimizer.zero_grad()
            if epoch < HEAD:
                video.eval()
                with torch.no_grad():
                    feature_BD = video(self.inputs(made)[:, 0])
            else:
                video.train()
                feature_BD = video(self.inputs(made)[:, 0])
            logit_BC = head(F.dropout(feature_BD, 0.5))
            loss = F.cross_entropy(logit_BC, torch.from_numpy(self.fit.label_index_N[rows]))
            torch.autograd.backward(loss)
            optimizer.step()

    @torch.no_grad()
    def judge(self) -> tuple[float, float]:
        """Accuracy of the vote, and of single clips, in percent."""
        self.model.eval()
        voted, alone = [], []
        for row in range(len(self.on)):
            with stream.sample(self.on, row) as sample:
                made = self.view.eval_views(sample, self.settings, CLIPS)
            logit_KC = torch.cat(
                [self.model.classifier(self.model.video(x)) for x in torch.split(self.inputs([made])[0], 1)]
            )
            label = int(self.on.label_index_N[row])
            voted.append(int(logit_KC.softmax(dim=1).mean(dim=0).argmax()) == label)
            alone += (logit_KC.argmax(dim=1) == label).tolist()
        return 100 * sum(voted) / len(voted), 100 * sum(alone) / len(alone)


def test_weights_rates_and_votes_are_those_of_a_plain_loop(tuned: Path, pictured: Path) -> None:
    loop = Loop(tuned / "fold2", pictured, 2)
    loop.learn()
    lines = [json.loads(line) for line in (tuned / "fold2" / "metrics.jsonl").read_text().splitlines()]
    told = {line["step"]: line["lr"] for line in lines if "lr" in line}
    scores = results(tuned)["folds"]["fold2"]

    assert len(loop.lr) == 16
    assert told == pytest.approx({step: loop.lr[step - 1] for step in told})
    assert {10, 16} <= told.keys()
    (path,) = (tuned / "fold2" / "checkpoints").glob("step-00000016")
    mine = loop.model.state_dict()
    for name, value in load_file(path / "model.safetensors").items():
        if name.startswith(("video.", "classifier.")):
            torch.testing.assert_close(mine[name], value, rtol=1e-3, atol=1e-4)
    assert (scores["top1"], scores["clip_top1"]) == pytest.approx(loop.judge())
    assert scores["selected_on_test"] == 0


def test_the_folds_are_averaged_and_the_results_name_the_protocol(tuned: Path) -> None:
    told = results(tuned)
    top1 = [scores["top1"] for scores in told["folds"].values()]

    assert list(told["folds"]) == ["fold1", "fold2", "fold3"]
    assert told["scores"]["top1"] == pytest.approx(sum(top1) / 3)
    assert (told["probe"], told["uses"], told["clips_per_video"]) == ("ucf101_avid_8", "finetune", PASSES)
    assert told["given"]["supervised.head_epochs"] == HEAD
    assert told["options"]["epochs"] == 21
    own = results(tuned / "fold3")
    assert (own["fit_split"], own["on_split"], own["best_on"], own["vote"]) == (
        "fold3_train",
        "fold3_test",
        None,
        "prob",
    )
    assert own["settings"]["view"]["modality"] == "video"


def test_run_again_it_judges_what_is_trained_already(tuned: Path, finished: Path, pictured: Path) -> None:
    before = results(tuned)
    argv = ["--protocol=ucf101_avid_8", f"--run={finished}", f"--shards={pictured}", f"--out={tuned}", *TINY]

    assert evaluate.main(argv) == 0
    assert results(tuned) == before
    assert evaluate.main([*argv, "--clips_per_video=3"]) == 2


def test_a_stop_leaves_the_folds_that_are_done_and_the_next_call_goes_on(
    finished: Path, pictured: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The second fold is stopped before its first step."""
    real, trained = pretrain.train, []

    def stopped(tuning: Any, **how: Any) -> int:
        trained.append(tuning.settings.train_split)
        return STOPPED if len(trained) == 2 else real(tuning, **how)

    small = (*TINY, "--epochs=1", "--clips_per_video=1", "--clips=1")
    argv = ["--protocol=ucf101_avid_8", f"--run={finished}", f"--shards={pictured}", f"--out={tmp_path}", *small]
    with monkeypatch.context() as patched:
        patched.setattr(pretrain, "train", stopped)
        assert evaluate.main(argv) == 3
    assert trained == ["fold1_train", "fold2_train"]
    assert "run again to resume" in capsys.readouterr().err
    assert (tmp_path / "fold1" / "results.json").is_file()
    assert not (tmp_path / "results.json").exists()

    assert evaluate.main(argv) == 0
    told = capsys.readouterr().out
    assert told.count("2 steps were done already") == 1
    assert list(results(tmp_path)["folds"]) == ["fold1", "fold2", "fold3"]


def test_in_the_classifiers_own_epochs_nothing_else_changes(finished: Path, pictured: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    splits = ("--fit_split=fold1_train", "--on_split=fold1_test")
    argv = [f"--run={finished}", f"--shards={pictured}", f"--out={out}", *TINY, "--epochs=1", *splits]
    assert evaluate.main(["finetune", *argv, "--supervised.modalities=video", "--optim.weight_decay=0.1"]) == 0
    first, last = load(finished).video.state_dict(), load(out).video.state_dict()

    assert first.keys() == last.keys()
    assert all(torch.equal(first[name], last[name]) for name in first)
    parsed = run_folder.reopen(out)
    begun = build.build_model(parsed, run_folder.data_of(stream.open_split(pictured, "fold1_train"), parsed.settings))
    assert not torch.equal(
        begun.method.classifier[0].weight,
        load(out).method.classifier[0].weight,
    )


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("--batch=4",), "gives no audio, which --method supervised learns from"),
        (("--supervised.modalities=video", "--pool=max"), "--pool max: the backbone r3d has one way to pool"),
        (("--supervised.modalities=video", "--crop=0"), "--frames, --crop and --video_augment"),
        (("--supervised.modalities=video", "--video_augment=flop"), "flop"),
        (("--supervised.modalities=video", "--supervised.head_epochs=-1"), "head_epochs"),
        (("--supervised.modalities=video", "--val_split=fold9_test"), "fold9_test"),
    ],
)
def test_what_cannot_be_is_refused(
    more: tuple[str, ...], said: str, finished: Path, pictured: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    splits = ("--fit_split=fold1_train", "--on_split=fold1_test")
    options = [f"--run={finished}", f"--shards={pictured}", f"--out={tmp_path / 'out'}", "--device=cpu", "--workers=0"]

    assert evaluate.main(["finetune", *options, *splits, *more]) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("name", [name for name, each in papers.protocols().items() if each.uses == "finetune"])
def test_rates_fall_at_the_epochs_that_the_header_names(name: str) -> None:
    """On the sets' own numbers of videos; the classifier's epochs come first."""
    protocol = papers.find(name)
    options, optim = protocol.options, protocol.options["optim"]
    text = " ".join(protocol.head)
    own = {
        "ucf101_avid": [6, 10, 14],
        "hmdb51_avid": [3, 6, 8],
        "ucf101_iicl": [6, 10, 14],
        "hmdb51_iicl": [3, 6, 8],
    }
    crisscross = [6, 10, 14] if "after 6, 10 and 14 of 20" in text else [8, 12, 16]
    after = next((epochs for start, epochs in own.items() if name.startswith(start)), crisscross)
    head = options["supervised"].get("head_epochs", 0)
    assert head == (0 if "crisscross" in name else 5)
    for videos in CLIPS_OF[name.split("_")[0]]:
        per_epoch = videos // options["batch"] * options["clips_per_video"]
        steps = options["epochs"] * per_epoch
        for number, epoch in enumerate(after):
            start = (head + epoch) * per_epoch
            before, then = (
                learning_rate(
                    step,
                    base=optim["lr"],
                    steps=steps,
                    warmup_steps=0,
                    kind=optim["schedule"],
                    milestones=optim["milestones"],
                    factor=optim["factor"],
                )
                for step in (start - 2, start + 1)
            )
            assert before == pytest.approx(optim["lr"] * optim["factor"] ** number)
            assert then == pytest.approx(optim["lr"] * optim["factor"] ** (number + 1))


@pytest.mark.parametrize("name", [name for name, each in papers.protocols().items() if each.uses == "finetune"])
def test_the_papers_own_runs_are_fine_tuned_with_the_papers_inputs(name: str, pictured: Path) -> None:
    """Frames and pixels of the table, maximum pooling of 512 channels and one linear layer; no sound."""
    protocol = papers.find(name)
    recipe = f"{name.split('_')[1]}_k400"
    parsed = paper_run._evaluation(protocol, ["--run=runs/one"]).parsed
    before = read(recipe)
    groups = finetune._groups(parsed.settings, parsed.groups["supervised"], before, read_dataset(pictured))
    tuning = training.of_run(parsed.settings, before, "supervised", groups, train_split="fold1_train")
    view = groups[before.settings.view]
    frames = protocol.options.get("frames", 32)
    side = protocol.options.get("crop", 128)
    model = build.build_meta(tuning, Data(classes=101, samples=9537))

    inputs = training.view_of(tuning)[0].inputs(view)
    assert (inputs.video, inputs.audio, inputs.views) == ((3, frames, side, side), None, 1)
    assert side in (128, 224)
    if recipe == "crisscross_k400":
        assert view.resize == 256
    assert getattr(groups[before.settings.backbone], "pool", "mean") == ("mean" if "iicl" in name else "max")
    assert model.classifier.weight.shape == (101, 512)


def test_pictures_alone_are_retrieved_by_their_pictures(
    finished: Path, pictured: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = [f"--run={finished}", f"--shards={pictured}", "--device=cpu", "--workers=0", "--clips=1"]
    out = f"--out={tmp_path / 'out'}"

    assert evaluate.main(["--protocol=retrieval_ucf101_crisscross", *options, out]) == 0
    scores = results(tmp_path / "out")["scores"]
    assert {"video_r1", "video_r5", "r1_chance"} <= scores.keys()
    assert not {"r1", "audio_r1"} & scores.keys()
    assert evaluate.main(["crossmodal", *options, out, "--on_split=fold1_test"]) == 2
    assert "crossmodal compares them; give shards with both" in capsys.readouterr().err
