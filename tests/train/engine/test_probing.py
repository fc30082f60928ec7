"""A probe while training: what it finds, when it looks, what it says, and that it changes nothing."""

import dataclasses
import json
import logging
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from kinetics_sounds.errors import RunError
from kinetics_sounds.stream import open_split
from kinetics_sounds.train import pretrain
from kinetics_sounds.train.config.settings import read_settings
from kinetics_sounds.train.data import fetcher, loader, sampler
from kinetics_sounds.train.data.workers import BadRowError
from kinetics_sounds.train.distributed.process_group import World
from kinetics_sounds.train.engine import build, probing
from kinetics_sounds.train.engine.step import TrainStep
from kinetics_sounds.train.interface import Data
from kinetics_sounds.train.probes import knn

from ..boards import curves

Argv = Callable[..., list[str]]
ALONE = World(0, 1, torch.device("cpu"))
PROBED = ("--val_split=test", "--probe_every=3", "--optim.schedule=constant")


def looks(run: Path) -> list[dict[str, Any]]:
    lines = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    return [line for line in lines if "probe_top1" in line]


class TestEffectiveRank:
    def test_of_features_that_are_all_equal_it_is_0(self) -> None:
        assert probing.effective_rank(torch.full((5, 3), 0.7)) == 0

    @pytest.mark.parametrize("noise", [0, 1e-7])
    @pytest.mark.parametrize("count", [5, 100, 1000])
    def test_of_features_that_are_equal_up_to_rounding_it_is_0(self, count: int, noise: float) -> None:
        """As those of a collapsed encoder in batches of unlike sizes."""
        generator = torch.Generator().manual_seed(0)
        row = torch.rand(256, generator=generator)
        features = row * (1 + noise * torch.randn(count, 256, generator=generator))

        assert (features == features[0]).all() == (noise == 0)
        assert probing.effective_rank(features) == 0

    def test_rounding_adds_no_directions_to_those_in_which_features_vary(self) -> None:
        """Two directions alike of a hundredth of the length, and noise in 256."""
        generator = torch.Generator().manual_seed(0)
        corners = torch.tensor([[1.0, 0], [-1, 0], [0, 1], [0, -1]]).repeat(50, 1)
        features = 1 + torch.nn.functional.pad(0.1 * corners, (0, 254))
        noisy = features * (1 + 1e-7 * torch.randn(200, 256, generator=generator))

        assert probing.effective_rank(noisy) == pytest.approx(2, abs=1e-3)

    def test_of_features_on_a_line_it_is_1(self) -> None:
        assert probing.effective_rank(torch.arange(6.0)[:, None] * torch.tensor([[1.0, 2.0]]) + 3) == pytest.approx(1)

    def test_of_features_that_vary_alike_in_d_directions_it_is_d(self) -> None:
        corners = torch.tensor([[1.0, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0], [0, 0, 1], [0, 0, -1]])

        assert probing.effective_rank(corners) == pytest.approx(3)

    def test_of_two_directions_one_three_times_as_long_it_is_e_to_their_entropy(self) -> None:
        """Shares 3/4 and 1/4: exp(0.5623) = 1.7548."""
        features = torch.tensor([[3.0, 0], [-3, 0], [0, 1], [0, -1]])
        expected = math.exp(-(0.75 * math.log(0.75) + 0.25 * math.log(0.25)))

        assert probing.effective_rank(features) == pytest.approx(expected)
        assert expected == pytest.approx(1.7548, abs=1e-4)


def test_it_looks_before_the_first_step_then_every_so_often_and_at_the_end(
    small: Argv, finished: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    assert pretrain.main(small(run, *PROBED[:2])) == 0

    found = looks(run)
    assert [line["step"] for line in found] == [0, 3, 6]
    for line in found:
        assert 0 <= line["probe_top1_low"] <= line["probe_top1"] <= line["probe_top1_high"] <= 100
        assert line["probe_top1_chance"] == 50
        assert 0 <= line["video_dead"] <= 1
        assert line["video_rank"] >= 1
    name = "checkpoints/step-00000006/model.safetensors"
    assert (run / name).read_bytes() == (finished / name).read_bytes()


def test_what_it_finds_does_not_depend_on_the_number_of_ranks(small: Argv, tmp_path: Path, forked_ranks: None) -> None:
    found = []
    for devices in (1, 2):
        run = tmp_path / str(devices)
        assert pretrain.main(small(run, *PROBED, "--steps=1", f"--devices={devices}", "--sync_bn=on")) == 0
        found.append(looks(run)[0])

    assert found[1] == pytest.approx(found[0], rel=1e-3)


def test_features_that_have_not_become_better_are_told_of(
    small: Argv, tmp_path: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    """With a rate of 0 nothing is learnt."""
    with caplog.at_level(logging.WARNING):
        assert pretrain.main(small(tmp_path / "run", *PROBED, "--optim.lr=0", "--optim.warmup_steps=0")) == 0

    assert "step 6: features separate classes no better than before training" in caplog.text
    assert "step 0: probe top-1" in capsys.readouterr().out


def test_a_run_that_goes_on_knows_what_untrained_features_were_worth(
    small: Argv, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    assert pretrain.main(small(run, *PROBED, "--steps=3", "--optim.warmup_steps=0")) == 0
    untrained = looks(run)[0]["probe_top1"]
    capsys.readouterr()
    assert pretrain.main(small(run, *PROBED, "--steps=6", "--optim.warmup_steps=0")) == 0

    assert f"(before training {untrained:.1f}%, chance 50.0%)" in capsys.readouterr().out
    assert [line["step"] for line in looks(run)] == [0, 3, 6]


def test_a_run_that_was_killed_before_it_saved_anything_looks_anew_and_tells_it_once(
    small: Argv, tmp_path: Path
) -> None:
    """A look at untrained features, in the lines and on the board; what was told after a later start stays."""
    run, argv = tmp_path / "run", (*PROBED, "--steps=3", "--optim.warmup_steps=0")
    for _ in range(2):
        shutil.rmtree(run / "checkpoints", ignore_errors=True)
        assert pretrain.main(small(run, *argv)) == 0

    assert [line["step"] for line in looks(run)] == [0, 3]
    assert [step for step, _ in curves(run)["probe_top1"]] == [0, 3]


def test_a_method_without_a_loss_for_other_clips_is_judged_by_it(small: Argv, tmp_path: Path) -> None:
    run = tmp_path / "run"
    argv = small(run, "--method=avid", "--avid.negatives=4", *PROBED, "--probe=linear")
    assert pretrain.main(argv) == 0

    best = json.loads((run / "checkpoints" / "step-00000006" / "state.json").read_text())["best"]
    assert best["value"] == max(line["probe_top1"] for line in looks(run)[1:])


def test_a_run_that_is_looked_at_from_the_middle_on_says_what_it_is_worth(
    small: Argv, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    assert pretrain.main(small(run, "--steps=3", "--optim.schedule=constant")) == 0
    assert pretrain.main(small(run, "--steps=6", *PROBED)) == 0

    assert [line["step"] for line in looks(run)] == [6]
    assert "step 6: probe top-1" in capsys.readouterr().out


def test_a_bad_sample_gives_way_to_the_next_one(shards: Path, finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 12 training samples number 3 cannot be read: number 4 is looked at twice."""
    built, split = build.rebuild(finished), open_split(shards, "train")
    real = fetcher.Samples.__call__

    def damaged(self: fetcher.Samples, request: sampler.Request, *more: Any) -> Any:
        if request.index == 3:
            raise BadRowError("sample 3: damaged")
        return real(self, request, *more)

    monkeypatch.setattr(fetcher.Samples, "__call__", damaged)
    asked = probing.Probing(name="knn", fit=split, on=split, samples=100, batch=5, max_bad_fraction=0.1)
    train_step = TrainStep(built, torch.optim.SGD(built.method.parameters()), device=ALONE.device)
    loading = loader.Loading(workers=0)
    found = probing._features(built, split, asked, train_step=train_step, loading=loading, world=ALONE)

    assert found.keys == tuple(split.key(number) for number in (0, 1, 2, 4, *range(4, 12)))
    assert found.label_N.tolist() == [int(split.label_index_N[number]) for number in (0, 1, 2, 4, *range(4, 12))]
    strict = dataclasses.replace(asked, max_bad_fraction=0.01)
    with pytest.raises(RunError, match="more than --max_bad_fraction allows"):
        probing._features(built, split, strict, train_step=train_step, loading=loading, world=ALONE)


def test_no_forward_pass_has_more_samples_than_a_batch(
    shards: Path, finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built, split = build.rebuild(finished), open_split(shards, "train")
    sizes: list[int] = []
    built.method.video.register_forward_pre_hook(lambda _, given: sizes.append(len(given[0])))
    asked = probing.Probing(name="knn", fit=split, on=split, samples=100, batch=5, max_bad_fraction=0)
    train_step = TrainStep(built, torch.optim.SGD(built.method.parameters()), device=ALONE.device)
    probing.probe(built, asked, train_step=train_step, loading=loader.Loading(workers=0), world=ALONE)

    assert sizes == [4, 4, 4] * 2


@pytest.mark.parametrize("modality", ["video", "audio"])
def test_a_method_that_looks_at_one_modality_is_told_by_that(
    modality: str, small: Argv, shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other encoder learns nothing, so both together would be half noise."""
    split = open_split(shards, "train")
    words = small(tmp_path / "run", "--method=supervised", f"--supervised.modalities={modality}")
    data = Data(classes=2, samples=12, steps=1, steps_per_epoch=3, batch=4)
    built = build.build_model(read_settings(words), data)
    names = ("top1", "video_top1", "audio_top1")
    found = {f"{name}{end}": 10 * place + 1 for place, name in enumerate(names) for end in ("", "_low", "_high")}
    monkeypatch.setattr(knn, "evaluate", lambda *_: {**found, "top1_chance": 50})
    asked = probing.Probing(name="knn", fit=split, on=split, samples=4, batch=4, max_bad_fraction=0)
    train_step = TrainStep(built, torch.optim.SGD(built.method.parameters()), device=ALONE.device)
    told = probing.probe(built, asked, train_step=train_step, loading=loader.Loading(workers=0), world=ALONE)

    own = found[f"{modality}_top1"]
    assert [told[f"probe_top1{end}"] for end in ("", "_low", "_high")] == [own] * 3
    assert (told["probe_video_top1"], told["probe_audio_top1"]) == (11, 21)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--probe_every=3",), "needs a --val_split"),
        (("--probe_every=0", "--val_split=test"), "--probe_every 0: must be at least 1"),
        (("--probe=svm",), "--probe svm: must be knn or linear"),
    ],
)
def test_a_look_that_cannot_be_is_refused(
    words: tuple[str, ...], said: str, small: Argv, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert pretrain.main(small(tmp_path / "run", *words)) == 2
    assert said in capsys.readouterr().err
