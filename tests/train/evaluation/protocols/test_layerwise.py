"""ks-eval layerwise: what a plain loop learns, gone on with exactly, on any number of ranks, and honest about the best."""

import csv
import dataclasses
import gc
import json
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

from kinetics_sounds import stream
from kinetics_sounds.stream import open_split
from kinetics_sounds.train import evaluate, pretrain
from kinetics_sounds.train.config import run_folder
from kinetics_sounds.train.config.settings import read_settings
from kinetics_sounds.train.data.views import clip_and_log_mel, clip_and_mel, clip_and_spectrogram
from kinetics_sounds.train.engine import build
from kinetics_sounds.train.evaluation import training
from kinetics_sounds.train.evaluation.encoders import load
from kinetics_sounds.train.evaluation.protocols.layerwise import METRICS, clip_logits, hits
from kinetics_sounds.train.methods.layerwise import Layerwise

from ...conftest import write_set

Argv = Callable[..., list[str]]
LAYERS = {"conv2": 5, "conv3": 4, "conv4": 2, "conv5": 2}
"""Cells a side with 64 features, of an R3D of width 2: 2, 4, 8 and 16 channels."""
LAST = "step-00000012"
"""12 samples, batches of 4, four epochs."""
OPTIONS = ("--workers=0", "--device=cpu", "--clips=3", "--epochs=4", "--batch=4", "--features=64", "--optim.lr=1e-2")


def argv(run: Path, out: Path, *more: str) -> list[str]:
    return ["layerwise", f"--run={run}", f"--out={out}", *OPTIONS, *more]


def results(out: Path) -> dict[str, Any]:
    told: dict[str, Any] = json.loads((out / "results.json").read_text())
    return told


def weights(folder: Path, step: str = LAST) -> dict[str, Tensor]:
    return load_file(folder / "checkpoints" / step / "model.safetensors")


@pytest.fixture(scope="module")
def judged(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four epochs that nobody interrupted; not to be changed."""
    out = tmp_path_factory.mktemp("layerwise") / "judged"
    assert evaluate.main(argv(finished, out)) == 0
    return out


def grid(encoder: nn.Module, inputs_BCTHW: Tensor) -> dict[str, Tensor]:
    """Each layer's features, stage by stage."""
    found, maps = {}, encoder.get_submodule("conv1")(inputs_BCTHW)
    for layer, side in LAYERS.items():
        maps = encoder.get_submodule(layer)(maps)
        found[layer] = F.adaptive_max_pool3d(maps, (1, side, side)).flatten(1)
    return found


@torch.no_grad()
def batches(run: Path, out: Path, shards: Path) -> list[tuple[dict[str, Tensor], Tensor]]:
    """Features and labels of every step: samples in the set's own order, each by its own random crop and flip."""
    encoders, split = load(run), open_split(shards, "train")
    settings = run_folder.reopen(out).groups["clip_and_mel"]
    assert (settings.video_augment, settings.audio_augment) == ("flip", "")
    found = []
    for epoch in range(4):
        order = stream.order(split.count_S, seed=0, epoch=epoch)
        for numbers in order.reshape(3, 4).tolist():
            views = []
            for number in numbers:
                with stream.sample(split, number) as sample:
                    views.append(encoders.view.train_view(sample, settings, stream.rng(0, epoch, sample.key)))
            stacked = {name: torch.stack([view[name] for view in views]) for name in views[0]}
            inputs = encoders.view.augment(stacked, settings)["video"][:, 0]
            found.append((grid(encoders.video, inputs), torch.from_numpy(split.label_index_N[numbers])))
    return found


@torch.no_grad()
def eval_clips(run: Path, shards: Path) -> tuple[dict[str, Tensor], list[dict[str, Tensor]]]:
    """Of all judged videos the view's arrays of three clips, and each video's features (3, D) by layer."""
    encoders, split, arrays, features = load(run), open_split(shards, "test"), [], []
    for number in range(len(split)):
        with stream.sample(split, number) as sample:
            arrays.append(encoders.view.eval_views(sample, encoders.view_settings, 3))
            features.append(grid(encoders.video, encoders.preprocess(sample, clips=3)["video"]))
    return {name: torch.stack([each[name] for each in arrays]) for name in arrays[0]}, features


def test_each_layer_learns_and_votes_as_in_a_plain_loop(finished: Path, judged: Path, shards: Path) -> None:
    """Layer by layer: Adam, a tenth of the rate after epochs 2 and 3 of 4; then the mean softmax of three clips a video."""
    data = run_folder.data_for_evaluation(run_folder.read_facts(judged))
    first = build.build_model(run_folder.reopen(judged), data).method.get_submodule("heads")
    learnt, its = weights(judged), batches(finished, judged, shards)
    on, scores = open_split(shards, "test"), results(judged)["scores"]
    arrays, features_N = eval_clips(finished, shards)
    label_N = torch.from_numpy(on.label_index_N.copy())
    with torch.no_grad():
        logit_KNLC = clip_logits(load(judged), arrays, "video")
    for place, layer in enumerate(LAYERS):
        head = first.get_submodule(layer)
        optimizer = torch.optim.Adam(head.parameters(), lr=1e-2)
        schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, milestones=[6, 9], gamma=0.1)
        for features, label_B in its:
            optimizer.zero_grad()
            F.cross_entropy(head(features[layer]), label_B).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
        for name, value in head.state_dict().items():
            torch.testing.assert_close(learnt[f"heads.{layer}.{name}"], value, rtol=1e-3, atol=1e-4)
        head.eval()
        with torch.no_grad():
            logit_NKC = torch.stack([head(each[layer]) for each in features_N])
        torch.testing.assert_close(logit_KNLC[:, :, place].transpose(0, 1), logit_NKC, rtol=1e-3, atol=1e-3)
        probability_NKC = logit_NKC.softmax(dim=2)
        right_N = probability_NKC.mean(dim=1).argmax(dim=1) == label_N
        right_NK = probability_NKC.argmax(dim=2) == label_N[:, None]
        assert scores[f"{layer}_top1"] == pytest.approx(100 * right_N.double().mean().item())
        assert scores[f"{layer}_clip_top1"] == pytest.approx(100 * right_NK.double().mean().item())
        assert scores[f"{layer}_top5"] == scores[f"{layer}_clip_top5"] == 100  # of two classes


def test_the_view_that_trains_changes_no_colour_and_no_sound() -> None:
    """Methods 10.3: resized frames, a random crop, a flip."""
    jittered = clip_and_mel.Settings(views=2, video_augment="multi_scale_crop,grey", audio_augment="spec_mask")
    avid = clip_and_spectrogram.Settings(views=2)

    assert clip_and_mel.plain(jittered) == clip_and_mel.Settings(video_augment="flip")
    assert clip_and_spectrogram.plain(avid) == clip_and_spectrogram.Settings(video_augment="flip", volume_jitter=0)
    crisscross = clip_and_log_mel.Settings(views=2, temporal="mild")
    assert clip_and_log_mel.plain(crisscross) == clip_and_log_mel.Settings(video_augment="flip", audio_augment="")


def test_a_classifier_of_crisscross_s_run_sees_one_view_of_a_clip() -> None:
    """Its two views are half a view apart, which one view cannot be."""
    crisscross = read_settings(["--config=crisscross_k400"])
    its = crisscross.groups["clip_and_log_mel"]

    assert (its.views, its.temporal) == (2, "mild")
    assert training.one_view(crisscross) == dataclasses.replace(its, views=1, temporal="none")
    assert training.one_view(crisscross, plain=True) == clip_and_log_mel.plain(its)


def test_votes_can_be_counted_by_hand() -> None:
    """Two clips of one video, one layer, three classes: one clip is sure of the right one, the other leans to another."""
    probability_KC = torch.tensor([[0.05, 0.05, 0.9], [0.5, 0.1, 0.4]])
    found = hits(probability_KC.log()[:, None, None], torch.tensor([2]), "prob")

    assert dict(zip(METRICS, found[0, 0].tolist(), strict=True)) == {
        "top1": 1.0,
        "top5": 1.0,
        "clip_top1": 0.5,
        "clip_top5": 1.0,
    }


def test_its_results_name_the_layers_and_say_who_chose_the_best(judged: Path, finished: Path) -> None:
    told = results(judged)

    assert (told["probe"], told["run"], told["checkpoint"]) == ("layerwise", str(finished), "step-00000006")
    assert (told["modality"], told["layers"]) == ("video", {"conv2": 50, "conv3": 64, "conv4": 32, "conv5": 64})
    assert (told["on_split"], told["samples"], told["clips"], told["vote"]) == ("test", 6, 3, "prob")
    assert told["tuned"] == LAST
    scores = told["scores"]
    assert scores["best_top1"] == max(scores[f"{layer}_top1"] for layer in LAYERS) == scores[f"{told['best']}_top1"]
    assert scores["best_top1_low"] <= scores["best_top1"] <= scores["best_top1_high"]
    assert (told["best_on"], scores["selected_on_test"]) == ("test", 1)  # the set has no other split
    with (judged / "results.csv").open(newline="") as table:
        assert {row["metric"]: float(row["value"]) for row in csv.DictReader(table)} == scores


def test_a_split_that_is_not_judged_chooses_the_best_layer(
    finished: Path, films: dict[int, bytes], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_set(tmp_path / "set", {"train": (8,), "val": (4,), "test": (3,)}, films, classes="tiny")
    run, out = f"--shards={tmp_path / 'set'}", tmp_path / "out"
    assert evaluate.main(argv(finished, out, run)) == 0
    told = results(out)

    assert (told["best_on"], told["scores"]["selected_on_test"]) == ("val", 0)
    assert told["best_on_top1"][told["best"]] == max(told["best_on_top1"].values())
    assert told["scores"]["best_top1"] == told["scores"][f"{told['best']}_top1"]
    assert "was selected" not in capsys.readouterr().out
    assert evaluate.main(argv(finished, out, run, "--val_split=test")) == 0  # judged again, without training
    said = capsys.readouterr().out
    assert "steps were done already" in said
    assert "was selected as the best layer on the split 'test', which it is evaluated on; see --val_split" in said
    assert results(out)["scores"]["selected_on_test"] == 1


@pytest.mark.parametrize("encoders", ["separate", "shared"])
@pytest.mark.parametrize("modality", ["video", "audio"])
def test_both_encoders_stay_as_the_run_left_them_to_the_bit(
    modality: str, encoders: str, small: Argv, tmp_path: Path
) -> None:
    """Weights and running statistics. Of a sound that the view gives whole, one clip is all there is."""
    run, out = tmp_path / "run", tmp_path / "out"
    shared = ("--encoders=shared", "--clip_and_mel.audio_channels=3") if encoders == "shared" else ()
    assert pretrain.main(small(run, "--steps=2", *shared)) == 0
    assert evaluate.main(argv(run, out, f"--modality={modality}", "--epochs=1", "--layers=conv5")) == 0

    before, after = weights(run, "step-00000002"), weights(out, "step-00000003")
    kept = [name for name in before if name.startswith(("video.", "audio."))]
    assert any(name.endswith("num_batches_tracked") for name in kept)
    assert all(torch.equal(before[name], after[name]) for name in kept)
    assert results(out)["clips"] == (3 if modality == "video" else 1)


def test_untrained_judges_the_runs_own_initial_encoders(finished: Path, tmp_path: Path) -> None:
    """By their seed, whatever the defaults."""
    out = tmp_path / "out"
    assert evaluate.main(argv(finished, out, "--untrained", "--epochs=1")) == 0
    first, after = build.rebuild(finished).method.state_dict(), weights(out, "step-00000003")

    assert results(out)["checkpoint"] == "untrained"
    assert all(torch.equal(after[name], first[name]) for name in first if name.startswith(("video.", "audio.")))


def test_stopped_and_run_again_it_ends_as_if_nothing_had_been(
    finished: Path, judged: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A signal in the third epoch; and a kill that nothing but an earlier checkpoint outlived."""
    out = tmp_path / "out"

    def stop(_model: Layerwise, _kept: object, moment: Any) -> None:
        if moment.step == 6:
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patched:
        patched.setattr(Layerwise, "after_update", stop)
        assert evaluate.main(argv(finished, out)) == 3
    assert f"the classifiers are saved in {out}; run again to resume" in capsys.readouterr().err
    assert not (out / "results.json").exists()
    shutil.copytree(out / "checkpoints" / "step-00000007", tmp_path / "kept")
    for _ in range(2):
        assert evaluate.main(argv(finished, out)) == 0
        learnt, expected = weights(out), weights(judged)
        assert all(torch.equal(learnt[name], expected[name]) for name in expected)
        assert results(out) == results(judged)
        shutil.rmtree(out / "checkpoints" / LAST)
        shutil.copytree(tmp_path / "kept", out / "checkpoints" / "step-00000007", dirs_exist_ok=True)


@pytest.mark.slow_campaign
def test_two_ranks_learn_and_judge_what_one_does(
    finished: Path, judged: Path, tmp_path: Path, forked_ranks: None, capfd: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert evaluate.main(argv(finished, out, "--devices=2", "--json")) == 0
    learnt, expected = weights(out), weights(judged)

    for name, value in expected.items():
        torch.testing.assert_close(learnt[name], value, rtol=1e-3, atol=1e-4)
    assert results(out)["scores"] == results(judged)["scores"]


@pytest.mark.slow_campaign
def test_what_is_held_in_memory_does_not_grow_with_the_samples_seen(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the first two steps (Adam has its moments then) no tensor more is alive, to the end of four epochs."""
    held: list[int] = []

    def weigh(_model: Layerwise, _kept: object, _moment: object) -> None:
        gc.collect()
        storages = {each.untyped_storage().data_ptr(): each.untyped_storage().nbytes() for each in tensors()}
        held.append(sum(storages.values()))

    monkeypatch.setattr(Layerwise, "after_update", weigh)
    assert evaluate.main(argv(finished, tmp_path / "out")) == 0

    assert len(held) == 12
    assert max(held[2:]) <= held[1]


def tensors() -> list[Tensor]:
    return [each for each in gc.get_objects() if type(each) in (Tensor, nn.Parameter)]


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--layers=conv9"], "R3D has no layer conv9; it has: conv1, conv2, conv3, conv4, conv5"),
        (["--layers=conv2,conv2"], "must be names, each once"),
        (["--features=15"], "16 channels make more than 15 features"),
        (["--modality=smell"], "--modality smell: must be video or audio"),
        (["--on_split=train"], "--on_split train: is the training split (--fit_split); choose another"),
        (["--untrained", "--checkpoint=best"], "--untrained: evaluates initial weights, not --checkpoint best"),
        (["--clips=0"], "--clips 0: must be at least 1"),
        (["--devices=9"], "--batch 4: is too small for 9 devices"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_trained(
    options: list[str], complaint: str, finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert evaluate.main(argv(finished, tmp_path / "out", *options)) == 2
    assert complaint in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("option", "complaint"),
    [
        ("--checkpoint=step-00000004", "is trained with init_from "),
        ("--modality=audio", "is trained with layerwise.modality video, not audio"),
        ("--layers=conv5", "is trained with layerwise.layers conv2,conv3,conv4,conv5, not conv5"),
        ("--epochs=12", "is trained with epochs 4, not 12"),
        ("--seed=1", "is trained with seed 0, not 1"),
    ],
)
def test_the_scores_of_one_training_are_never_told_as_those_of_another(
    option: str, complaint: str, finished: Path, judged: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = results(judged)
    assert evaluate.main(argv(finished, judged, option)) == 2

    assert f"{judged}: {complaint}" in capsys.readouterr().err
    assert results(judged) == first
