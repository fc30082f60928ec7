"""Protocols of papers: what each file says can be read, run and repeated, and folds are averaged as a reader would."""

import json
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from kinetics_sounds import plugins
from kinetics_sounds.errors import SettingsError
from kinetics_sounds.stream import open_split
from kinetics_sounds.train import evaluate
from kinetics_sounds.train.data.loader import Loading
from kinetics_sounds.train.evaluation import paper_run, papers
from kinetics_sounds.train.evaluation.encoders import load
from kinetics_sounds.train.evaluation.features import extract

NAMES = sorted(papers.protocols())
PLACES = {"run", "checkpoint", "untrained", "shards", "folder", "out", "seed", "device", "devices", "workers", "json"}
"""What a protocol leaves to its user."""


def head(name: str) -> dict[str, str]:
    """The `word: text` lines of a protocol's header."""
    lines = [line.partition(":") for line in papers.find(name).head if line.partition(" ")[0].endswith(":")]
    return {word: text.strip() for word, _, text in lines}


@pytest.mark.parametrize("name", NAMES)
class TestEvery:
    def test_says_its_command_its_data_its_time_and_what_differs(self, name: str) -> None:
        told = head(name)

        assert {"command", "data", "time", "differs"} <= told.keys()
        assert told["command"].startswith(f"ks-eval --protocol {name} --run RUN --")
        assert told["time"] == "not run"
        assert papers.find(name).command == told["command"]
        assert papers.find(name).needs.startswith(told["data"])

    def test_shards_of_pictures_and_sounds_have_a_place_of_their_own(self, name: str) -> None:
        packing = [line.split() for line in papers.find(name).head if "--modality both" in line]

        for words in packing:
            path = words[words.index("--manifest") + 1]
            assert f"--shards {path.removesuffix('manifest.parquet')}shards" in head(name)["command"]
            assert path != f"data/{words[words.index('--dataset') + 1]}/manifest.parquet"

    def test_its_options_are_accepted(self, name: str) -> None:
        protocol = papers.find(name)
        its = paper_run._evaluation(protocol, ["--run=runs/one", *_needed(protocol)])
        settings = paper_run.flat(yaml.safe_load(its.parsed.text))

        for option, value in paper_run.flat(protocol.options).items():
            assert settings[option] == value
        assert not PLACES & set(protocol.options)

    def test_its_scores_are_percent_of_metrics_that_it_makes(self, name: str) -> None:
        protocol = papers.find(name)

        assert protocol.papers
        for row in protocol.papers:
            assert row.scores
            assert all(0 < score < 100 for score in row.scores.values())
            assert f"paper:    {row}" in papers.list_one(protocol)


def _needed(protocol: papers.PaperProtocol) -> list[str]:
    return ["--folder=sounds"] if protocol.uses == "sounds" else []


SCORES = {
    "kinetics_layerwise_avid": "33.3 43.1 35.1 44.5 35.2 46.6 37.4 48.9",
    "kinetics_layerwise_avid_small": "19.80 26.98 34.81 39.95 39.95 17.10 22.28 27.23 32.08 32.08 18.65 23.60 29.47 33.04 33.04 "
    "19.93 27.39 35.64 40.17 40.17 20.14 27.28 35.68 39.62 39.62 20.04 27.61 36.14 40.58 40.58 20.16 27.98 36.98 41.11 41.11",
    "retrieval_ucf101_crisscross": "25.7 36.2 49.2 13.0 28.1 49.5 14.1 30.3 51.1 18.6 33.6 53.5 24.6 41.9 76.9 55.9 70.8 82.5 "
    "52.0 68.6 84.5 60.9 79.4 90.8 57.4 73.4 88.1 63.8 78.7 89.9",
    "retrieval_hmdb51_crisscross": "7.6 22.9 48.8 7.6 24.4 53.6 10.3 26.6 54.6 26.1 45.8 69.7 24.8 47.6 75.5 30.8 55.8 79.7 "
    "25.4 51.4 75.0 26.4 50.5 77.7",
    "retrieval_ucf101_iicl": "57.6 58.1 59.3 59.5 25.7 36.2 42.2 49.2 14.1 30.3 40.4 51.1 55.9 70.8 76.9 82.5 41.7 57.4 66.9 "
    "76.1 53.8 70.2 78.3 83.4 56.8 73.3 82.1 85.3",
    "linear_ucf101_iicl": "72.6 72.8 73.5 73.2",
    "cluster_head_ucf101_iicl": "74.8 77.1 71.2 72.8",
    "cluster_head_hmdb51_iicl": "52.3 58.3 40.2 45.7",
    "cluster_ucf101_iicl": "73.5 76.7",
    "cluster_hmdb51_iicl": "49.5 56.1",
    "crossmodal_iicl": "74.5 75.9 72.8 74.2",
    "svm_ucf101_crisscross": "69.1 69.7 70.1 69.1 73.8 69.1 72.4 71.3 70.8 74.8 73.8 74.8 75.8 79.9 59.0 73.6 72.4 74.8 "
    "78.1 83.9 87.7 62.3 68.1 68.3 68.7 69.1 73.9 73.5 74.8",
    "svm_hmdb51_crisscross": "45.7 50.0 56.2",
    "svm_kinetics_sounds_crisscross": "43.2 53.3 65.0 47.1 55.7 66.7",
    "svm_kinetics_crisscross": "39.0 44.5 50.1",
    "esc50_avid": "44.3 64.5 86.5 74.2 79.3 76.7 78.5 77.6 79.1 80.6 85.8 89.2 89.1",
    "esc50_avid_small_conv2": "67.25 66.92 65.45",
    "esc50_avid_small_conv3": "73.15 72.64 68.65",
    "esc50_avid_small_conv4": "74.80 71.45 71.77",
    "esc50_avid_small_conv5": "75.05 71.61 68.41",
    "dcase_avid": "88 93 91 93 93 93 96 96",
    "esc50_crisscross": "82.8 76.7 78.0 79.1 86.8 80.6 84.8 89.1 85.6 90.4 90.5",
    "esc50_crisscross_2s": "62.0 71.8 75.8 74.8 78.0 74.8 75.3 78.5 75.3 79.0 78.0 79.0 78.5 82.0 62.3 75.3 75.0 79.0 "
    "44.8 49.5 49.5 62.0 79.0 79.0 79.0",
    "dcase_crisscross": "93.0 91 91 93 96 93 95 96 97",
    "dcase_iicl": "78 88 94 95 96.8",
    "ucf101_avid_8": "74.2 82.3 83.7 84.9 88.3 88.6",
    "ucf101_avid_32": "50.2 56.3 58.6 59.1 62.9 72.4 75.7 79.5 74.4 85.8 86.8 86.9 87.5 82.3 82.1 89.0 93.0 91.0 91.5",
    "hmdb51_avid_8": "39.0 49.1 49.5 48.8 57.5 57.6",
    "hmdb51_avid_32": "18.1 23.8 25.0 26.7 33.7 30.9 35.7 44.6 47.8 56.9 52.6 59.9 60.8 51.6 61.6 63.7 64.1 64.7",
    "ucf101_crisscross_8": "74.2 83.7 81.9 86.9",
    "ucf101_crisscross_8_audioset": "84.9 88.6 89.4",
    "ucf101_crisscross_32": "77.2 88.3 86.9 83.1 86.8 90.2 87.5 90.9 90.3 85.6 91.5 95.0 93.0 91.5 93.5 93.6 91.5 92.4 96.8",
    "hmdb51_crisscross_8": "39.0 49.5 49.5 54.3",
    "hmdb51_crisscross_8_audioset": "48.8 57.6 58.3",
    "hmdb51_crisscross_32": "40.6 60.5 53.1 47.1 52.6 61.8 60.8 62.3 61.1 55.0 64.7 74.0",
    "hmdb51_crisscross_32_audioset": "63.7 70.1 67.2 70.8 64.7 67.4 75.9",
    "ucf101_iicl": "63.9 81.1 90.6 86.8 85.8 88.7 87.5 89.3 90.8 89.0 93.0 95.5 92.5 95.2 93.8 92.8 95.8",
    "ucf101_iicl_split1": "93.1 93.5 94.3 94.1",
    "hmdb51_iicl": "33.7 48.8 62.9 52.6 56.9 57.7 60.8 60.0 61.5 61.6 63.7 68.9 66.1 72.8 67.4 63.9 72.5",
}
"""The papers' scores, row by row, typed in again."""


def test_every_score_is_typed_in_here_too() -> None:
    told = {
        name: [score for row in each.papers for score in row.scores.values()]
        for name, each in papers.protocols().items()
    }

    assert told == {name: [float(score) for score in scores.split()] for name, scores in SCORES.items()}


Judge = Callable[..., dict[str, Any]]


@pytest.fixture
def judge(finished: Path, folded: Path, tmp_path: Path) -> Judge:
    """A function from a protocol and more options to the results of the finished run on the set with folds."""

    def results(name: str, *more: str) -> dict[str, Any]:
        options = [
            f"--run={finished}",
            f"--shards={folded}",
            f"--out={tmp_path / 'out'}",
            "--device=cpu",
            "--workers=0",
        ]
        assert evaluate.main(["--protocol", name, *options, *more]) == 0
        told: dict[str, Any] = json.loads((tmp_path / "out" / "results.json").read_text())
        return told

    return results


def test_each_fold_is_fitted_on_its_training_list_and_judged_on_its_test_list(
    judge: Judge, finished: Path, folded: Path, tmp_path: Path
) -> None:
    """By the one C that is given, as the probe by itself has it."""
    told = judge("svm_ucf101_crisscross", "--clips=2", "--svm.cs=[0.01]", "--svm.iterations=20000")
    svm = plugins.load(evaluate.PROBES, "svm")
    loading = Loading(workers=0, device=torch.device("cpu"))
    alone = []
    for fold in (1, 2, 3):
        on, fit = (
            extract(load(finished), open_split(folded, f"fold{fold}_{part}"), clips=2, batch=16, loading=loading)
            for part in ("test", "train")
        )
        assert (len(on.keys), len(fit.keys)) == (4, 8)
        alone.append(svm.evaluate(on, fit, svm.Settings(cs=(0.01,), select="test", iterations=20000)))

    assert list(told["folds"].values()) == alone
    top1 = [scores["video_top1"] for scores in alone]
    assert told["scores"]["video_top1"] == statistics.fmean(top1)
    assert top1 == [50, 50, 50]
    assert "video_top1_high" not in told["scores"]
    assert told["scores"]["selected_on_test"] == 1
    assert "video_c" not in told["scores"]
    assert (told["probe"], told["uses"], told["samples"]) == ("svm_ucf101_crisscross", "svm", 12)
    assert told["on_split"] == "fold1_test, fold2_test, fold3_test"
    assert told["fit_split"] == "fold1_train, fold2_train, fold3_train"
    assert "fit_fingerprint" not in told
    assert [row["scores"]["video_top1"] for row in told["papers"]][-1] == 74.8
    own = json.loads((tmp_path / "out" / "fold2" / "results.json").read_text())
    assert (own["fit_split"], own["on_split"]) == ("fold2_train", "fold2_test")


def test_options_of_the_command_line_come_last_and_are_recorded(judge: Judge) -> None:
    told = judge("retrieval_ucf101_crisscross", "--clips=1", "--retrieval.ks=[1, 2]")

    assert told["given"] == {"clips": 1, "retrieval.ks": [1, 2]}
    assert told["options"]["clips"] == 10
    assert (told["clips"], list(told["folds"])) == (1, ["fold1"])
    assert {"video_r1", "video_r2", "video_r1_low"} <= told["scores"].keys()
    assert "video_r5" not in told["scores"]


def test_splits_that_are_named_take_the_place_of_the_folds(judge: Judge) -> None:
    told = judge(
        "svm_ucf101_crisscross", "--clips=1", "--fit_split=fold1_test", "--on_split=fold2_test", "--svm.cs=[1]"
    )

    assert list(told["folds"]) == ["all"]
    assert told["on_split"] == "fold2_test"
    assert told["given"] == {"clips": 1, "fit_split": "fold1_test", "on_split": "fold2_test", "svm.cs": [1.0]}


def test_fitting_on_clips_that_are_evaluated_is_refused(
    finished: Path, folded: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of twelve clips each fold tests on four, which the two other folds train on."""
    options = [f"--run={finished}", f"--shards={folded}", f"--out={tmp_path / 'out'}", "--on_split=fold1_test"]
    for words, one in (
        (["linear", "--fit_split=fold2_train"], "fold2_train"),
        (["linear", "--fit_split=all"], "all"),
        (["--protocol=svm_ucf101_crisscross", "--fit_split=fold3_train"], "fold3_train"),
        (["finetune", "--fit_split=fold2_train"], "fold2_train"),
        (["finetune", "--fit_split=fold1_train", "--val_split=fold2_train"], "fold1_train"),
        (["layerwise", "--fit_split=fold2_train"], "fold2_train"),
    ):
        assert evaluate.main([*words, *options]) == 2
        assert f"{one} and fold" in (said := capsys.readouterr().err)
        assert "share 4 clips, so that scores would be too high; choose splits of one fold" in said
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("word", ["--optim", "--optim.lr"])
def test_options_given_as_a_group_are_recorded_too(word: str) -> None:
    protocol = papers.find("ucf101_avid_8")
    argv = ["--run=runs/one", f"{word}={json.dumps({'lr': 0.5}) if word == '--optim' else 0.5}"]

    assert paper_run._given(argv, paper_run._evaluation(protocol, argv).parsed)["optim.lr"] == 0.5


def test_the_papers_scores_and_the_untrained_encoders_stand_beside_ours(
    finished: Path, folded: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = [f"--run={finished}", f"--shards={folded}", "--device=cpu", "--workers=0", "--clips=1"]
    argv = ["--protocol=retrieval_ucf101_crisscross", *options]
    for out, more in (("retrieval_ucf101_crisscross_untrained", ["--untrained"]), ("retrieval_ucf101_crisscross", [])):
        assert evaluate.main([*argv, f"--out={tmp_path / out}", *more]) == 0
    lines = capsys.readouterr().out.splitlines()

    assert "  CrissCross 7, CrissCross from Kinetics-400: video_r1 63.8, video_r5 78.7, video_r20 89.9" in lines
    first = json.loads((tmp_path / "retrieval_ucf101_crisscross_untrained" / "results.json").read_text())
    assert first["checkpoint"] == "untrained"
    assert lines[-1].startswith(f"untrained: video_r1 {first['scores']['video_r1']:.2f}")

    more = [f"--out={tmp_path / 'retrieval_ucf101_crisscross'}", "--retrieval.ks=[1]"]
    assert evaluate.main([*argv, *more]) == 0
    said = capsys.readouterr().out
    assert said.endswith("untrained: evaluated on other clips or with other options; run it again\n")


def test_json_is_all_that_is_printed(judge: Judge, capsys: pytest.CaptureFixture[str]) -> None:
    told = judge("retrieval_ucf101_iicl", "--clips=1", "--json")

    assert json.loads(capsys.readouterr().out) == told


def test_one_fold_keeps_its_own_intervals() -> None:
    scores = {"top1": 50.0, "top1_low": 40.0, "top1_high": 60.0, "c": 0.1}

    assert paper_run.means([scores]) == scores


def test_the_interval_of_three_folds_by_hand_and_within_percent() -> None:
    """Mean 50, standard deviation 1: 4.302653 / sqrt(3) on each side."""
    assert paper_run.interval([49, 50, 51]) == pytest.approx((50 - 2.484138, 50 + 2.484138), abs=1e-5)
    assert paper_run.interval([0, 100]) == (0, 100)


def test_of_equal_folds_there_is_no_interval() -> None:
    scores = {"top1": 50.0, "top1_low": 40.0, "top1_high": 60.0, "top1_chance": 10.0, "c": 0.1, "selected_on_test": 0.0}
    found = paper_run.means([scores, scores | {"selected_on_test": 1.0}])

    assert found == {"top1": 50, "top1_chance": 10, "selected_on_test": 1}
    one, selected = {"top1": 1.0}, {"top1": 3.0, "selected_on_test": 1.0}
    for folds in ([one, selected], [selected, one]):
        assert paper_run.means(folds)["selected_on_test"] == 1


@pytest.mark.slow_campaign
def test_torchruns_ranks_judge_one_fold_after_the_other_together(finished: Path, folded: Path, tmp_path: Path) -> None:
    options = [f"--run={finished}", f"--shards={folded}", "--device=cpu", "--workers=0", "--clips=1", "--svm.cs=[1]"]
    argv = ["--protocol=svm_ucf101_crisscross", *options]
    words = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "--"]
    ranks = [*words, "kinetics_sounds.train.evaluate", *argv, f"--out={tmp_path / 'two'}"]

    done = subprocess.run(ranks, check=False, capture_output=True, text=True, timeout=200)

    assert done.returncode == 0, done.stderr
    assert evaluate.main([*argv, f"--out={tmp_path / 'one'}"]) == 0
    two, one = (json.loads((tmp_path / name / "results.json").read_text()) for name in ("two", "one"))
    assert two == one


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--protocol", "ucf101_avid"], "--protocol ucf101_avid: there is no such protocol"),
        (["--protocol"], "--protocol: needs a name"),
        (["--protocol", "--run=x"], "--protocol: needs a name"),
        (["--list", "--run=x"], "--list: stands alone or with --protocol NAME, not with --run=x"),
        (["linear", "--protocol=crossmodal_iicl"], "linear: --protocol crossmodal_iicl says what to evaluate by"),
        (["--protocol=crossmodal_iicl", "--run=x", "--crossmodal.kz=1"], "crossmodal.kz"),
        (["--protocol=crossmodal_iicl"], "run"),
        (
            ["--protocol=esc50_avid", "--run=x", "--shards=y"],
            "--shards: esc50_avid takes ESC-50 as it ships (meta/esc50.csv, audio/*.wav); up to 71 GB of memory for",
        ),
        (
            ["--protocol=esc50_avid", "--run=x", "--shards=y"],
            "as in: ks-eval --protocol esc50_avid --run RUN --folder ESC-50-master",
        ),
        (
            ["--protocol=cluster_ucf101_iicl", "--run=x", "--folder", "UCF101"],
            "of which only videos with sound count: ks-shard --dataset ucf101 --folder FOLDER --modality both --manifest",
        ),
    ],
)
def test_what_makes_no_sense_is_refused(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert evaluate.main(words) == 2
    assert said in capsys.readouterr().err


def test_the_list_has_every_protocol(capsys: pytest.CaptureFixture[str]) -> None:
    assert evaluate.main(["--list"]) == 0
    told = capsys.readouterr().out

    assert [line for line in told.splitlines() if line in NAMES] == NAMES
    assert told.endswith(f"\n\n{papers.UNTRIED}\n")
    assert evaluate.main(["--list", "--protocol=crossmodal_iicl"]) == 0
    assert capsys.readouterr().out.startswith("crossmodal_iicl\n    Sounds find their pictures")


def test_the_help_begins_with_the_options_of_the_protocol(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        evaluate.main(["--protocol=svm_ucf101_crisscross", "--help"])
    own, _, rest = capsys.readouterr().out.partition("usage: ks-eval --protocol svm_ucf101_crisscross")

    assert "command:  ks-eval --protocol svm_ucf101_crisscross --run RUN" in own
    assert own.endswith("take the place of the defaults below:\n  --clips=10\n  --svm.select=test\n\n")
    assert "--svm.select" in rest


def test_an_unknown_name_is_answered_with_a_similar_one() -> None:
    with pytest.raises(SettingsError, match="did you mean 'crossmodal_iicl'"):
        papers.find("crosmodal_iicl")
