"""A set with folds is trained and judged on by the names of its folds' splits, as the same clips in splits of their own."""

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kinetics_sounds import manifest, stream
from kinetics_sounds.clip import ALL
from kinetics_sounds.shards import index, layout, reader
from kinetics_sounds.shards.writer import Sample, ShardWriter
from kinetics_sounds.train import evaluate, pretrain


@pytest.fixture(scope="module")
def folded(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The samples of `shards` in one split of three shards; fold 1 is the splits of before, fold 2 the other way round."""
    folder = tmp_path_factory.mktemp("folded") / "shards"
    other = {"train": "test", "test": "train"}
    samples, dataset = [], reader.read_dataset(shards)
    for name in ("train", "test"):
        split = stream.open_split(shards, name)
        for number in range(len(split)):
            with stream.sample(split, number) as sample:
                samples.append(
                    Sample(
                        key=sample.key,
                        label_index=sample.label_index,
                        parts={part: sample.part(part) for part in dataset.parts},
                        folds={"fold1": name, "fold2": other[name]},
                    )
                )
    for number in range(3):
        with ShardWriter(layout.tar_path(folder, ALL, number), recipe=dataset.recipe) as writer:
            for each in samples[6 * number : 6 * number + 6]:
                writer.write(each)
            writer.close()

    def facts(own: list[Sample]) -> index.SplitFacts:
        fingerprint = manifest.fingerprint(each.key for each in own)
        return dataclasses.replace(dataset.splits["train"], shards=3, samples=len(own), fingerprint=fingerprint)

    parts = [(fold, part) for fold in ("fold1", "fold2") for part in ("train", "test")]
    made = dataclasses.replace(
        dataset,
        splits={ALL: facts(samples)},
        folds={f"{fold}_{part}": facts([each for each in samples if each.folds[fold] == part]) for fold, part in parts},
        schema=layout.FOLDS_SCHEMA,
    )
    index.write(folder / layout.DATASET, made)
    return folder


def results(run: Path, out: Path, *options: str) -> dict[str, Any]:
    assert evaluate.main(["linear", f"--run={run}", f"--out={out}", "--clips=2", "--workers=0", *options]) == 0
    found: dict[str, Any] = json.loads((out / "results.json").read_text())
    return found


def test_a_probe_of_a_fold_scores_as_on_splits_of_its_own(finished: Path, folded: Path, tmp_path: Path) -> None:
    alike = results(finished, tmp_path / "own")

    found = results(
        finished, tmp_path / "fold", f"--shards={folded}", "--fit_split=fold1_train", "--on_split=fold1_test"
    )

    assert (found["fit_split"], found["on_split"], found["samples"]) == ("fold1_train", "fold1_test", 6)
    assert found["scores"] == alike["scores"]
    facts = reader.read_dataset(folded).folds["fold1_test"]
    assert found["fingerprint"] == facts.fingerprint


def test_training_reads_a_fold_as_a_split_of_its_own(
    folded: Path, shards: Path, small: Callable[..., list[str]], tmp_path: Path
) -> None:
    common = ("--batch=6", "--steps=1", f"--shards={folded}")
    options = ("--train_split=fold2_train", "--val_split=fold2_test")

    assert pretrain.main(small(tmp_path / "fold", *common, *options)) == 0

    facts = json.loads((tmp_path / "fold/run.json").read_text())
    assert (facts["train_split"], facts["data"]["samples"]) == ("fold2_train", 6)
    assert facts["fingerprint"] == reader.read_dataset(folded).folds["fold2_train"].fingerprint
    seen = [json.loads(line) for line in (tmp_path / "fold/metrics.jsonl").read_text().splitlines()]
    assert any("val_loss" in line for line in seen)


def test_a_split_that_is_none_of_the_folds_is_refused_with_those_there_are(
    finished: Path, folded: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["linear", f"--run={finished}", f"--shards={folded}", "--fit_split=fold3_train", "--on_split=fold1_test"]

    assert evaluate.main(argv) == 2

    said = capsys.readouterr().err
    assert "has no split 'fold3_train' to fit on; it has: all, fold1_train, fold1_test, fold2_train, fold2_test" in said


def test_the_default_split_of_a_set_with_folds_has_to_be_named(
    finished: Path, folded: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert evaluate.main(["crossmodal", f"--run={finished}", f"--shards={folded}"]) == 2

    assert "has no split 'train'; it has: all, fold1_train, fold1_test" in capsys.readouterr().err


def test_a_run_that_hears_is_not_judged_on_pictures_alone(
    finished: Path, folded: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dataset = reader.read_dataset(folded)
    shards = tmp_path / "pictures"
    made = dataclasses.replace(
        dataset, parts=(layout.META, layout.FRAMES), mel={}, audio={}, splits={}, folds={}, schema=layout.DATASET_SCHEMA
    )
    split = stream.open_split(folded, "fold1_test")
    with ShardWriter(layout.tar_path(shards, "test", 0), recipe=dataset.recipe) as writer:
        for number in range(len(split)):
            with stream.sample(split, number) as sample:
                parts = {part: sample.part(part) for part in made.parts}
                writer.write(Sample(key=sample.key, label_index=sample.label_index, parts=parts))
        writer.close()
    facts = dataclasses.replace(dataset.folds["fold1_test"], shards=1)
    index.write(shards / layout.DATASET, dataclasses.replace(made, splits={"test": facts}))

    for command, said in (
        ("crossmodal", "has no picture or no sound, and crossmodal compares them"),
        ("cam", "the shards of tiny have no sound, and the view needs picture and sound"),
    ):
        assert evaluate.main([command, f"--run={finished}", f"--shards={shards}", f"--out={tmp_path / 'out'}"]) == 2
        assert said in capsys.readouterr().err


def test_a_run_that_was_trained_on_evaluated_clips_is_told(
    finished: Path, folded: Path, shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A run of fold 1 has seen all that fold 2 tests on, and a part of `all`."""
    dataset, facts = reader.read_dataset(folded), json.loads((finished / "run.json").read_text())
    run = Path(shutil.copytree(finished, tmp_path / "run"))
    own = {"train_split": "fold1_train", "fingerprint": dataset.folds["fold1_train"].fingerprint}
    (run / "run.json").write_text(json.dumps(facts | own))
    taught, every = dataset.folds["fold1_train"].samples, dataset.splits[ALL].samples
    told = "note: the run was trained on "
    for judged, place, split, seen, said in (
        (run, folded, "fold2_test", taught, f"{told}these clips (fold1_train)\n"),
        (run, folded, "all", taught, f"{told}{taught} of these {every} clips (fold1_train)\n"),
        (run, folded, "fold1_test", 0, ""),
        (finished, shards, "train", taught, f"{told}these clips (train)\n"),
        (finished, shards, "test", 0, ""),
    ):
        argv = [f"--run={judged}", f"--shards={place}", f"--on_split={split}", f"--out={tmp_path / 'out'}"]
        assert evaluate.main(["crossmodal", "--clips=1", "--workers=0", *argv]) == 0
        found = capsys.readouterr().out
        assert found.endswith(said)
        assert ("note:" in found) == bool(said)
        assert json.loads((tmp_path / "out/results.json").read_text())["seen_in_training"] == seen


def test_clips_of_another_set_than_the_runs_are_compared_by_their_keys(
    finished: Path, folded: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Fold 2 tests on the run's 12 training clips, in another set; without the run's own it is not known."""
    dataset, facts = reader.read_dataset(folded), json.loads((finished / "run.json").read_text())
    other = Path(shutil.copytree(folded, tmp_path / "other"))
    renamed = {name: dataclasses.replace(each, fingerprint=f"of {name}") for name, each in dataset.folds.items()}
    index.write(other / layout.DATASET, dataclasses.replace(dataset, folds=renamed))
    run = Path(shutil.copytree(finished, tmp_path / "run"))
    unknown = "note: not known whether the run was trained on these clips: it was trained on another set ("
    for place, seen, said in (
        (facts["shards"], 12, "note: the run was trained on these clips (train)\n"),
        (str(tmp_path / "gone"), None, f"{unknown}{facts['fingerprint'][:12]}…)\n"),
    ):
        (run / "run.json").write_text(json.dumps(facts | {"shards": place}))
        argv = [f"--run={run}", f"--shards={other}", "--on_split=fold2_test", f"--out={tmp_path / 'out'}"]
        assert evaluate.main(["crossmodal", "--clips=1", "--workers=0", *argv]) == 0
        assert capsys.readouterr().out.endswith(said)
        assert json.loads((tmp_path / "out/results.json").read_text())["seen_in_training"] == seen


@pytest.mark.parametrize(
    ("command", "options"),
    [
        ("cam", ("--samples=1",)),
        (
            "layerwise",
            ("--fit_split=test", "--epochs=1", "--batch=4", "--layers=conv2", "--clips=1", "--workers=0"),
        ),
    ],
)
def test_evaluations_with_options_of_their_own_tell_of_clips_of_the_training(
    command: str,
    options: tuple[str, ...],
    finished: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    argv = [command, f"--run={finished}", "--on_split=train", f"--out={tmp_path}", "--device=cpu"]

    assert evaluate.main([*argv, *options]) == 0

    assert "note: the run was trained on these clips (train)\n" in capsys.readouterr().out
    assert json.loads((tmp_path / "results.json").read_text())["seen_in_training"] == 12


@pytest.mark.parametrize("val", ["fold2_test", "all"])
def test_validation_on_clips_of_the_training_in_another_fold_is_refused(
    val: str,
    folded: Path,
    small: Callable[..., list[str]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Fold 2 tests on what fold 1 trains on."""
    options = ("--batch=6", "--steps=1", f"--shards={folded}", "--train_split=fold1_train", f"--val_split={val}")

    assert pretrain.main(small(tmp_path / "out", *options)) == 2

    assert f"fold1_train and {val}: share 12 clips, so that scores would be too high" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
