"""What ks-eval prints of scores."""

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from kinetics_sounds.pipelines.publishing.run import publish_run
from kinetics_sounds.shards import reader
from kinetics_sounds.train import evaluate
from kinetics_sounds.train.config import run_folder
from kinetics_sounds.train.evaluation import eval_data, frozen, results
from kinetics_sounds.train.evaluation.protocols import finetune


def found(scores: dict[str, float]) -> dict[str, Any]:
    facts = {"probe": "svm", "checkpoint": "last", "samples": 6, "on_split": "test", "fingerprint": "f"}
    return facts | {"trained_on": {"split": "train"}, "seen_in_training": 0, "scores": scores}


def test_an_interval_stands_beside_its_score_and_not_on_lines_of_its_own() -> None:
    scores = {"top1": 50.0, "top1_low": 25.0, "top1_high": 66.666, "top1_chance": 3.125, "c": 5e-5}

    lines = results.format_scores(found(scores), Path("out")).splitlines()

    assert lines == [
        "svm of last on 6 clips of test:",
        "  top1                           50.00  95%: 25.00 to 66.67",
        "  top1_chance                     3.12",
        "  c                              5e-05",
        "results: out/results.json",
    ]


@pytest.mark.parametrize(
    ("seen", "said"),
    [
        (6, "note: the run was trained on these clips (train)"),
        (2, "note: the run was trained on 2 of these 6 clips (train)"),
        (0, "results: out/results.json"),
        (None, "results: out/results.json"),
    ],
)
def test_scores_on_clips_of_the_training_say_so_last(seen: int | None, said: str) -> None:
    text = results.format_scores(found({"top1": 50.0}) | {"seen_in_training": seen}, Path("out"))

    assert text.splitlines()[-1] == said


def test_several_probes_share_one_table() -> None:
    knn, svm = found({"top1": 50.0, "top1_low": 25.0, "top1_high": 75.0}), found({"top1": 40.0})

    lines = results.format_table([(knn | {"probe": "knn"}, Path("out/knn")), (svm, Path("out/svm"))]).splitlines()

    assert lines == [
        "knn, svm of last on 6 clips of test:",
        "  knn top1                       50.00  95%: 25.00 to 75.00",
        "  svm top1                       40.00",
        "results: out/knn/results.json",
        "results: out/svm/results.json",
    ]


@pytest.mark.parametrize(("chance", "shown"), [(100.0, False), (100 * 5 / 6, True)])
def test_top5_of_five_classes_or_fewer_is_not_shown(chance: float, shown: bool) -> None:
    scores = {
        "top1": 50.0,
        "video_top5": 100.0,
        "video_top5_low": 100.0,
        "video_top5_high": 100.0,
        "top5_chance": chance,
    }

    text = results.format_scores(found(scores), Path("out"))

    assert ("video_top5" in text, "top5_chance" in text) == (shown, shown)
    assert "top1  " in text


def test_what_a_strangers_set_says_is_no_formula_in_the_table(tmp_path: Path) -> None:
    """A spreadsheet runs what begins with one of these; a plain name stays as it is, and so does a negative score."""
    evil = found({"c": -1.0}) | {"run": "runs/one", "fingerprint": '=HYPERLINK("http://evil.example","top1")'}
    results.write(tmp_path, evil)

    head, row = list(csv.reader((tmp_path / "results.csv").read_text().splitlines()))
    assert dict(zip(head, row, strict=True)) == {
        "probe": "svm",
        "run": "runs/one",
        "checkpoint": "last",
        "on_split": "test",
        "fingerprint": f"'{evil['fingerprint']}",
        "metric": "c",
        "value": "-1.0",
    }


def test_a_score_that_is_called_low_and_bounds_nothing_has_its_own_line() -> None:
    assert "  tide_low                        1.00" in results.format_scores(found({"tide_low": 1.0}), Path("out"))


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.0, "0.00"),
        (100.0, "100.00"),
        (0.5, "0.50"),
        (0.005, "0.005"),
        (5e-5, "5e-05"),
        (0.01, "0.01"),
        (-2.0, "-2.00"),
    ],
)
def test_a_number_that_two_decimals_would_hide_is_shown(value: float, shown: str) -> None:
    assert results.number(value) == shown


def test_what_is_replaced_is_told_if_it_is_of_something_else(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Once, with what differs; the same evaluation made again is silent, whatever its scores."""
    first = found({"top1": 50.0}) | {"run": "runs/one", "shards": "data/four", "samples": 5, "clips": 10}
    results.write(tmp_path, first)
    results.write(tmp_path, first | {"scores": {"top1": 60.0}, "settings": (1,)})
    results.write(tmp_path, first | {"settings": (1,)})
    assert capsys.readouterr().err == ""

    results.write(tmp_path, first | {"shards": "data/all", "samples": 9, "fingerprint": "g", "clips": 1})
    assert capsys.readouterr().err == (
        f"note: {tmp_path}/results.json replaces the result of 5 clips of data/four, last (other samples, fingerprint, clips); "
        "keep both with --out\n"
    )


def test_a_damaged_result_is_replaced_and_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for damaged in ("{", "[]"):
        (tmp_path / "results.json").write_text(damaged)
        results.write(tmp_path, found({"top1": 50.0}) | {"run": "runs/one"})
        assert capsys.readouterr().err == f"note: replaces {tmp_path}/results.json, which was damaged\n"


@pytest.mark.parametrize("name", ["knn", "finetune", "layerwise"])
def test_a_checkpoint_that_was_selected_on_the_evaluated_split_is_told(
    name: str, classified: Path, shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The run validated on test, once: its last checkpoint is the best too. layerwise selects its layer there itself."""
    more = [] if name == "knn" else ["--epochs=1", "--batch=4", "--val_split=none"]
    argv = [name, f"--run={classified}", f"--shards={shards}", "--workers=0", "--device=cpu", "--clips=1", *more]
    for checkpoint, told in (("best", 1.0), ("step-00000003", 1.0), ("last", None if name != "layerwise" else 1.0)):
        out = tmp_path / checkpoint
        assert evaluate.main([*argv, f"--checkpoint={checkpoint}", f"--out={out}"]) == 0

        scores = json.loads((out / "results.json").read_text())["scores"]
        assert (scores.get("selected_on_test") or None) == told
        note = "note: the checkpoint was selected on the split 'test', which it is evaluated on: scores are optimistic"
        assert (note in capsys.readouterr().out) == (checkpoint != "last")


def test_on_another_set_a_checkpoint_was_not_selected(classified: Path, shards: Path, seven: Path) -> None:
    settings, facts = frozen.EvalSettings(run=classified, checkpoint="best"), run_folder.read_facts(classified)

    path = classified / "checkpoints/step-00000003"

    assert eval_data.selected_on(settings, path, facts, reader.read_dataset(shards)) == "test"
    assert eval_data.selected_on(settings, path, facts, reader.read_dataset(seven)) is None
    assert eval_data.selected_on(settings, None, facts, reader.read_dataset(shards)) is None


def test_what_was_selected_is_what_the_run_and_a_published_one_say(
    classified: Path, shards: Path, tmp_path: Path
) -> None:
    """A run of 0.2.0 knows the split by its settings alone. Of a run with a later best one, step 3 was the best only then."""
    run = Path(shutil.copytree(classified, tmp_path / "run"))
    facts, dataset = run_folder.read_facts(run), reader.read_dataset(shards)
    first, second = (run / f"checkpoints/step-{step:08d}" for step in (3, 6))

    def selected(checkpoint: str) -> str | None:
        path = first if checkpoint == "step-00000003" else second
        settings = frozen.EvalSettings(run=run, checkpoint=checkpoint)
        said: str | None = eval_data.selected_on(settings, path, facts, dataset)
        return said

    shutil.copytree(first, second)
    for best, told in (({"split": "val"}, "val"), ({}, "test")):
        state = json.loads((first / "state.json").read_text())
        state |= {"step": 6, "best": {"step": 6, "value": 0.5, **best}}
        (second / "state.json").write_text(json.dumps(state))
        assert [selected(name) for name in ("best", "step-00000003", "last")] == [told, None, None]
        (later := run / "checkpoints/step-00000009").mkdir()
        for name in ("state.json", "model.safetensors"):
            (later / name).write_text("{")
        assert selected("step-00000006") == told  # by its own state, where the last one is damaged
        shutil.rmtree(later)

    for published, said in (("best", "test"), ("last", None)):
        out = tmp_path / published
        assert publish_run([str(run), f"--out={out}", f"--checkpoint={published}"]) == 0
        settings = frozen.EvalSettings(run=out)
        path = out / "checkpoints/step-00000006"
        assert eval_data.selected_on(settings, path, run_folder.read_facts(out), dataset) == said


def test_a_baseline_of_fine_tuning_has_all_settings_but_the_gate(tmp_path: Path) -> None:
    """Another rate or classifier is another setting."""
    settings = {"optim": {"lr": 0.1}, "hidden": 64}
    tuned = found({"top1": 50.0}) | {"probe": "finetune", "shards": "data/k32"}
    tuned["settings"] = settings | {"gate": True, "amfm": {"gate": "relu"}}
    path = tmp_path / "eval/finetune_untrained/results.json"
    path.parent.mkdir(parents=True)
    told = []
    for own in (settings, settings | {"hidden": 32}):
        path.write_text(json.dumps(tuned | {"checkpoint": "untrained", "settings": own | {"gate": False, "amfm": {}}}))
        told.append(results.next_steps(finetune.Settings(run=tmp_path), [tuned]))

    page = f"next: ks-view data/k32 --run {tmp_path}"
    assert told == [[page], ["next: the same command with --untrained, for the baseline", page]]
