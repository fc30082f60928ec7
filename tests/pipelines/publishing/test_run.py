"""ks-publish run: what of a run is published, and what never is."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from safetensors.numpy import save_file

from kinetics_sounds.command import command
from kinetics_sounds.extras import pip_install
from kinetics_sounds.pipelines.publishing import run
from kinetics_sounds.resumed import CHANGED

from ...canaries import WORD, told
from ...hub_server import Hub

FACTS: dict[str, Any] = {
    "recipe": "avcl_k32",
    "shards": f"/home/{WORD}/data/k32/shards",
    "train_split": "train",
    "fingerprint": "f" * 64,
    "selection": "5" * 64,
    "content": "c" * 64,
    "data_recipe": "d" * 64,
    "classes": "k32",
    "data": {"classes": 32, "samples": 14_799, "steps": 500, "steps_per_epoch": 50, "batch": 64, "host": WORD},
    "mel": {"preset": "paper", "bands": 256},
    "note": f"of /home/{WORD}/lists/k32.txt",
    "versions": {"kinetics-sounds": "0.2.0", "torch": "2.9.0+cpu"},
    "git": {"commit": "a" * 40, "changed": True},
    "host": WORD,
}
CONFIG: dict[str, Any] = {
    "shards": f"s3://{WORD}/k32",
    "out": f"/home/{WORD}/runs",
    "cache": f"/home/{WORD}/.cache",
    "init_from": f"/home/{WORD}/runs/first",
    "workers": 8,
    "method": "avcl",
    "backbone": "r3d",
    "view": "clip_and_mel",
    "batch": 64,
    "seed": 0,
    "optim": {"name": "adamw", "lr": 1e-3, "lr_multipliers": {"audio.?*": 0.1}, "milestones": [1, 2]},
    "avcl": {"temperature": 0.1, "amfm": {"gate": "relu"}},
    "avid": {"negatives": 1024},
    "r3d": {"width": 64},
}


def result(**more: Any) -> dict[str, Any]:
    return {
        "probe": "knn",
        "run": f"/home/{WORD}/runs/avcl",
        "checkpoint": "step-00000500",
        "intervals": "95%",
        "on_split": "test",
        "fingerprint": "e" * 64,
        "trained_on": {"split": "train", "fingerprint": "f" * 64},
        "samples": 2000,
        "settings": {"k": 20},
        "host": WORD,
        "scores": {"top1": 61.25, "top1_low": 60.0, "top1_high": 62.5, "top1_chance": 3.125, "loss": float("nan")},
        **more,
    }


@pytest.fixture
def trained(tmp_path: Path) -> Path:
    """A run with two checkpoints, of which the first is the best, and a secret in all that is this machine's."""
    made = tmp_path / "run"
    for step in (400, 500):
        folder = made / f"checkpoints/step-{step:08d}"
        folder.mkdir(parents=True)
        save_file({"video.conv1.weight": np.full((2, 3), step, np.float32)}, folder / "model.safetensors")
        (folder / "optimizer.safetensors").write_bytes(WORD.encode())
        state = {"schema": 1, "step": step, "of_steps": 500, "best": {"step": 400, "value": 0.5}, "host": WORD}
        (folder / "state.json").write_text(json.dumps(state))
    (made / "run.json").write_text(json.dumps(FACTS))
    (made / "config.yaml").write_text(yaml.safe_dump(CONFIG))
    (made / "metrics.jsonl").write_text(WORD)
    write(made, "knn", result())
    write(
        made, "knn_untrained", result(checkpoint="untrained", scores={"top1": 9.5, "top1_low": 9.0, "top1_high": 10.0})
    )
    return made


def write(made: Path, name: str, document: object) -> None:
    (made / f"eval/{name}").mkdir(parents=True, exist_ok=True)
    (made / f"eval/{name}/results.json").write_text(json.dumps(document))


def publish(trained: Path, *options: str) -> int:
    return command("ks-publish", lambda: run.publish_run([str(trained), *options]))


def read(folder: Path, name: str) -> Any:
    return json.loads((folder / name).read_text())


def test_weights_settings_data_scores_and_a_card_are_written(trained: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"

    assert publish(trained, "--out", str(out)) == 0

    assert sorted(path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()) == [
        "README.md",
        "SHA256SUMS",
        "checkpoints/step-00000500/model.safetensors",
        "checkpoints/step-00000500/state.json",
        "config.yaml",
        "results/knn.json",
        "results/knn_untrained.json",
        "run.json",
    ]
    assert (out / "checkpoints/step-00000500/model.safetensors").read_bytes() == (
        trained / "checkpoints/step-00000500/model.safetensors"
    ).read_bytes()
    assert read(out, "checkpoints/step-00000500/state.json") == {"schema": 1, "step": 500, "of_steps": 500}
    assert read(out, "run.json")["shards"] == "data/k32/shards"


def test_nothing_of_this_machine_is_published(trained: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    publish(trained, "--out", str(tmp_path / "out"))

    assert [place for place, text in told(tmp_path / "out") if WORD in text] == []
    assert WORD not in "".join(capfd.readouterr())
    config = yaml.safe_load((tmp_path / "out/config.yaml").read_text())
    assert {name: CONFIG[name] for name in config} == config
    assert {"avcl", "optim", "r3d", "method"} < set(config)
    assert not {"avid", "workers", "shards"} & set(config)
    assert "git" not in read(tmp_path / "out", "run.json")


def test_a_commit_is_named_where_nothing_was_changed_since(trained: Path, tmp_path: Path) -> None:
    facts = FACTS | {"git": {"commit": "a" * 40, "changed": False}}
    (trained / "run.json").write_text(json.dumps(facts))

    publish(trained, "--out", str(tmp_path / "out"))
    assert read(tmp_path / "out", "run.json")["git"] == {"commit": "a" * 40, "changed": False}


def test_the_card_says_what_it_learnt_from_and_reaches_beside_untrained(trained: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert publish(trained, f"--out={out}", "--license=cc-by-4.0", "--dataset=hf://datasets/ann/k32") == 0

    card = (out / "README.md").read_text()
    head = yaml.safe_load(card.split("---\n")[1])
    assert head["license"] == "cc-by-4.0"
    assert head["datasets"] == ["ann/k32"]
    assert head["library_name"] == "kinetics-sounds"
    assert "| top1 | 61.25 (60.00 to 62.50) | 9.50 (9.00 to 10.00) | 3.12 |" in card
    assert "14,799 of the split train" in card
    for digest in ("f", "5", "c"):
        assert f"`{digest * 64}`" in card
    assert 'train.load("hf://USER/NAME")' in card
    assert f"```sh\n{pip_install('hub,train', comment=True)}\n```" in card


def test_chance_is_that_of_the_name_without_what_it_begins_with(trained: Path, tmp_path: Path) -> None:
    """Of a class one in 32, of a pair one in 2,000; where there is none the cell is empty."""
    scores = {"video_top1": 40.0, "top1_chance": 3.125, "video_to_audio_r1": 8.0, "r1_chance": 0.05, "median_rank": 7.0}
    write(trained, "crossmodal", result(probe="crossmodal", scores=scores))
    assert publish(trained, f"--out={tmp_path / 'out'}") == 0

    card = (tmp_path / "out/README.md").read_text().replace("\\_", "_")
    assert "| video_top1 | 40.00 |  | 3.12 |" in card
    assert "| video_to_audio_r1 | 8.00 |  | 0.05 |" in card
    assert "| median_rank | 7.00 |  |  |" in card


def test_a_score_that_cannot_be_missed_has_no_row_and_intervals_are_explained_as_shown(
    trained: Path, tmp_path: Path
) -> None:
    scores = {
        "top1": 40.0,
        "top5": 100.0,
        "top1_chance": 25.0,
        "top5_chance": 100.0,
        "top1_low": 30.0,
        "top1_high": 50.0,
    }
    write(trained, "knn", result(scores=scores, intervals="_low and _high: 95%, percentile bootstrap"))
    assert publish(trained, f"--out={tmp_path / 'out'}") == 0

    card = (tmp_path / "out/README.md").read_text()
    assert "| top1 | 40.00 (30.00 to 50.00) |" in card
    assert "| top5 |" not in card
    assert "files in `results/`. Confidence intervals in brackets (95%, percentile bootstrap)." in card


@pytest.mark.parametrize(
    ("steps", "told"), [(500, ""), (600, "its last checkpoint is of step 500 of 600\n"), (None, "")]
)
def test_a_run_that_is_not_finished_is_noted(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], steps: int | None, told: str
) -> None:
    (trained / "checkpoints/step-00000500/state.json").write_text(
        json.dumps({"schema": 1, "step": 500, "of_steps": steps, "best": {"step": 400, "value": 0.5}})
    )
    for name in ("last", "best"):
        assert publish(trained, f"--out={tmp_path / name}", f"--checkpoint={name}") == 0
        said = [line for line in capsys.readouterr().err.splitlines(keepends=True) if "not finished" in line]
        assert said == ([f"note: the run is not finished: {told}"] if told else [])


def test_the_card_tells_what_was_changed_when_the_run_was_resumed(trained: Path, tmp_path: Path) -> None:
    """Of the checkpoint of step 400 nothing was changed yet, but `config.yaml` is that of the run's end."""
    changes = [
        {"step": 400, "setting": "optim.lr", "before": 0.1, "after": 0.2},
        {"step": 400, "setting": "mine.place", "before": f"/home/{WORD}/a", "after": "b"},
    ]
    path = trained / "checkpoints/step-00000500/state.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), CHANGED: changes}))
    (trained / "run.json").write_text(json.dumps(FACTS | {CHANGED: changes}))
    for name in ("last", "best"):
        assert publish(trained, f"--out={tmp_path / name}", f"--checkpoint={name}") == 0

    cards = {name: (tmp_path / name / "README.md").read_text().replace("\\", "") for name in ("last", "best")}
    assert (
        "the run was resumed with optim.lr 0.2 from step 400 on (was 0.1), mine.place b from step 400" in cards["last"]
    )
    assert "; `config.yaml` has the settings of its end.\n" in cards["last"]
    assert read(tmp_path / "last", "run.json")[CHANGED][0] == changes[0]
    assert [place for place, text in told(tmp_path / "last") if WORD in text] == []
    later = "`config.yaml` has the settings of a later resume: optim.lr 0.2 from step 400 on (was 0.1), mine.place b"
    assert f"seed 0; {later}" in cards["best"]
    assert not any("all settings that affect training" in card for card in cards.values())
    assert CHANGED not in read(tmp_path / "best", "checkpoints/step-00000400/state.json")


def test_the_card_tells_of_a_resume_that_came_to_no_checkpoint(trained: Path, tmp_path: Path) -> None:
    """The first change is the last checkpoint's own; a kill came after config.yaml and run.json of the second were written."""
    changes = [
        {"step": step, "setting": "optim.lr", "before": lr, "after": lr + 0.25} for step, lr in ((400, 0), (500, 0.25))
    ]
    path = trained / "checkpoints/step-00000500/state.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), CHANGED: changes[:1]}))
    (trained / "run.json").write_text(json.dumps(FACTS | {CHANGED: changes}))
    assert publish(trained, f"--out={tmp_path / 'out'}") == 0

    said = (
        "seed 0; the run was resumed with optim.lr 0.25 from step 400 on (was 0); `config.yaml` has the settings of a later "
        "resume: optim.lr 0.5 from step 500 on (was 0.25).\n"
    )
    assert said in (tmp_path / "out/README.md").read_text().replace("\\", "")


def test_what_was_changed_before_a_result_is_published_with_it(trained: Path, tmp_path: Path) -> None:
    changes = [{"step": 400, "setting": "steps", "before": 400, "after": 500}]
    write(trained, "knn", result(**{CHANGED: changes}))
    assert publish(trained, f"--out={tmp_path / 'out'}") == 0

    assert read(tmp_path / "out", "results/knn.json")[CHANGED] == changes


def test_the_card_names_the_split_that_the_checkpoint_was_selected_on(trained: Path, tmp_path: Path) -> None:
    """The one of step 400 is the best, or that of step 500, which nobody chose if it was asked for as the last one.

    Runs of 0.2.0 know the split by their settings alone, which may be those of a later resume.
    """
    (trained / "config.yaml").write_text(yaml.safe_dump(CONFIG | {"val_split": "test"}))
    path = trained / "checkpoints/step-00000500/state.json"
    names = ("best", "step-00000400", "step-00000500", "last")
    for best, split, wanted in (
        ({"step": 400}, "test", [True, True, False, False]),
        ({"step": 500, "split": "val"}, "val", [True, False, True, False]),
    ):
        path.write_text(json.dumps(json.loads(path.read_text()) | {"best": {"value": 0.5, **best}}))
        for name in names:
            assert publish(trained, f"--out={tmp_path / name}", f"--checkpoint={name}") == 0

        told = f"It is the best checkpoint on the split {split}, so its scores there are optimistic."
        cards = [(tmp_path / name / "README.md").read_text() for name in names]
        assert [told in card for card in cards] == wanted
        assert ["the best checkpoint" in card for card in cards] == wanted
    assert read(tmp_path / "best", "checkpoints/step-00000500/state.json")["best"]["split"] == "val"
    path.write_text("{")
    assert publish(trained, f"--out={tmp_path / 'damaged'}", "--checkpoint=step-00000400") == 0


def protocol(**more: Any) -> dict[str, Any]:
    """Results of a paper's protocol, as ks-eval --protocol writes them."""
    return result(
        probe="svm_ucf101_crisscross",
        uses="svm",
        options={"clips": 10, "svm": {"select": "test"}},
        given={"svm.cs": [1.0]},
        on_split="fold1_test, fold2_test",
        folds={"fold1": {"top1": 70.0, "top1_low": 69.0}, "fold2": {"top1": 72.5, "top1_low": 71.0}},
        papers=[{"table": "CrissCross 4", "method": "CrissCross", "scores": {"video_top1": 83.9}}],
        seen_in_training=120,
        **more,
    )


def test_of_a_papers_protocol_its_options_and_folds_are_published_and_on_the_card(
    trained: Path, tmp_path: Path
) -> None:
    write(trained, "svm_ucf101_crisscross", protocol())
    write(trained, "svm_ucf101_crisscross_untrained", protocol(checkpoint="untrained", scores={"top1": 8.25}))
    out = tmp_path / "out"

    assert publish(trained, f"--out={out}") == 0

    told, wrote = read(out, "results/svm_ucf101_crisscross.json"), protocol()
    for name in ("uses", "options", "given", "folds", "papers", "seen_in_training"):
        assert told[name] == wrote[name]
    card = (out / "README.md").read_text()
    said = "A paper's protocol: svm with clips 10, svm.select test and, unlike the paper, with svm.cs [1.0]."
    assert said in card.replace("\\", "")
    assert "| score | fold1 | fold2 |" in card
    assert "| top1 | 70.00 | 72.50 |" in card
    assert "The run was trained on 120 of these clips." in card
    assert "| top1 | 61.25 (60.00 to 62.50) | 8.25 | 3.12 |" in card


def test_encoders_that_were_evaluated_with_other_options_do_not_stand_beside_a_protocols_scores(
    trained: Path, tmp_path: Path
) -> None:
    write(trained, "svm_ucf101_crisscross", protocol())
    write(trained, "svm_ucf101_crisscross_untrained", protocol(checkpoint="untrained") | {"given": {}})

    assert publish(trained, f"--out={tmp_path / 'out'}") == 0
    told = "Untrained encoders were evaluated otherwise, and are not shown: no given.svm.cs."
    assert told in (tmp_path / "out/README.md").read_text().replace("\\", "")


def test_two_evaluations_by_one_probe_name_the_settings_that_differ(trained: Path, tmp_path: Path) -> None:
    """Untrained encoders were evaluated only with two clips per video; a result that is in two folders is shown once."""
    for name, more in (
        ("knn", {"clips": 10}),
        ("knn_again", {"clips": 10}),
        ("knn_2", {"clips": 2, "scores": {"top1": 50.0, "c": 1e-5}}),
        ("knn_untrained", {"clips": 2, "checkpoint": "untrained", "scores": {"top1": 9.5}}),
    ):
        write(trained, name, result(**more))
    assert publish(trained, f"--out={tmp_path / 'out'}") == 0

    card = (tmp_path / "out/README.md").read_text().replace("\\", "")
    other, first = card.split("### knn on 2000 clips of test, ")[1:]
    assert first.startswith("clips per video 2\n")
    assert "| top1 | 50.00 | 9.50 |  |" in first
    assert "| c |" not in first
    assert "Chosen C of the SVM: c 1e-05." in first
    assert "Untrained" not in first
    assert other.startswith("clips per video 10\n")
    assert "Untrained encoders were evaluated otherwise, and are not shown: clips per video 2." in other


def test_results_are_the_same_only_if_their_scores_and_their_selection_are(trained: Path, tmp_path: Path) -> None:
    """Fine-tunings of three folders, selected on another split each; and one evaluated twice with different scores."""
    for split in (None, "val", "test"):
        write(trained, f"tuned_{split}", result(probe="finetune", best_on=split))
    write(trained, "knn_again", result(scores={"top1": 50.0}))
    assert publish(trained, f"--out={tmp_path / 'out'}") == 0

    card = (tmp_path / "out/README.md").read_text()
    for split in (None, "val", "test"):
        assert f"### finetune on 2000 clips of test, selected on {split}\n" in card
    assert card.count("### knn on 2000 clips of test\n") == 2
    assert "| top1 | 50.00 | 9.50 (9.00 to 10.00) |" in card


def test_fine_tuned_encoders_stand_beside_untrained_ones_that_have_no_gate(trained: Path, tmp_path: Path) -> None:
    settings = {"optim": {"lr": 0.1}, "gate": True, "amfm": {"gate": "relu"}}
    before = settings | {"gate": False, "amfm": {"gate": "none"}}
    write(trained, "finetune", result(probe="finetune", settings=settings, scores={"top1": 70.0}))
    for lr, shown in ((0.1, True), (0.2, False)):
        untrained = result(
            probe="finetune",
            checkpoint="untrained",
            settings=before | {"optim": {"lr": lr}},
            scores={"top1": 20.0},
        )
        write(trained, "finetune_untrained", untrained)
        assert publish(trained, f"--out={tmp_path / str(lr)}") == 0

        card = (tmp_path / str(lr) / "README.md").read_text().replace("\\", "")
        assert ("| top1 | 70.00 | 20.00 |" in card) == shown
        assert ("evaluated otherwise, and are not shown: settings.optim.lr 0.2." in card) != shown


def test_the_card_names_what_a_score_is_of_where_that_is_not_the_runs_own_set(trained: Path, tmp_path: Path) -> None:
    """The run was trained on train of k32: of its test split no selection is known, but that knn was fitted elsewhere is."""
    own = {"fit_split": "train", "fit_fingerprint": "f" * 64, "classes": "k32", "selection": "7" * 64}
    write(trained, "knn", result(**own))
    for probe, more in (
        ("linear", {"classes": "w"}),
        ("svm", {"fit_fingerprint": "0" * 64}),
        ("crossmodal", {"on_split": "train", "fit_split": None, "fit_fingerprint": None}),
    ):
        write(trained, probe, result(probe=probe, **own | more))
    write(trained, "linear_untrained", result(probe="linear", checkpoint="untrained", **own | {"samples": 9}))
    assert publish(trained, f"--out={tmp_path / 'out'}") == 0

    card = (tmp_path / "out/README.md").read_text().replace("\\", "")
    assert [line for line in card.splitlines() if line.startswith("### ")] == [
        "### crossmodal on 2000 clips of train of k32 (selection 777777777777)",
        "### knn on 2000 clips of test",
        "### linear on 2000 clips of test of w",
        "### svm on 2000 clips of test of k32 (selection 777777777777)",
    ]
    assert "Untrained encoders were evaluated otherwise, and are not shown: 9 clips of test." in card


def test_the_card_says_below_each_table_how_the_scores_came_about(trained: Path, tmp_path: Path) -> None:
    """Of top1 there are three, of which two name their modality."""
    scores = {"top1": 61.25, "video_top1": 50.0, "audio_top1": 40.0, "median_rank": 7.0}
    settings = {"k": 5, "metric": {"name": "cosine"}, "cap": None}
    write(trained, "knn", result(fit_split="train", clips=10, settings=settings, scores=scores))
    assert publish(trained, f"--out={tmp_path / 'out'}") == 0

    told = "Settings: clips per video 10, fitted on train, k 5, metric.name cosine. Of both modalities together: top1."
    assert f"\n{told}\n" in (tmp_path / "out/README.md").read_text().replace("\\", "")


@pytest.mark.parametrize(
    ("recipe", "method", "title"),
    [
        ("avcl_tiny", "avcl", "avcl_tiny"),
        ("avcl_tiny", "simclr", "avcl_tiny with method simclr"),
        ("iicl_k400", "iic", "iicl_k400 with method iic"),
        ("avcl", "avcl", "avcl"),
    ],
)
def test_a_run_by_another_method_than_its_recipes_says_so(
    trained: Path, tmp_path: Path, recipe: str, method: str, title: str
) -> None:
    (trained / "run.json").write_text(json.dumps(FACTS | {"recipe": recipe}))
    (trained / "config.yaml").write_text(yaml.safe_dump(CONFIG | {"method": method}))
    assert publish(trained, f"--out={tmp_path / 'out'}") == 0

    assert f"\n# {title}\n" in (tmp_path / "out/README.md").read_text().replace("\\", "")


def test_results_of_untrained_encoders_alone_are_said_to_be(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert publish(trained, f"--out={tmp_path / 'both'}") == 0
    assert ", 2 results, 8 files\n" in capsys.readouterr().out
    shutil.rmtree(trained / "eval/knn")
    assert publish(trained, f"--out={tmp_path / 'out'}") == 0

    assert ", 1 result of untrained encoders, 7 files\n" in capsys.readouterr().out
    told = "No result of this checkpoint was published with it; those in `results/` are of untrained encoders."
    assert told in (tmp_path / "out/README.md").read_text()


def test_of_two_architectures_both_are_named_with_their_options(trained: Path, tmp_path: Path) -> None:
    both = {"audio_backbone": "conv2d", "conv2d": {"width": 8}, "resnet18": {"width": 4}}
    (trained / "config.yaml").write_text(yaml.safe_dump(CONFIG | both))

    assert publish(trained, f"--out={tmp_path / 'out'}") == 0
    config = yaml.safe_load((tmp_path / "out/config.yaml").read_text())
    assert (config["backbone"], config["r3d"]) == ("r3d", CONFIG["r3d"])
    assert (config["audio_backbone"], config["conv2d"]) == ("conv2d", {"width": 8})
    assert "resnet18" not in config
    card = (tmp_path / "out/README.md").read_text()
    assert "A video encoder (r3d) and an audio encoder (conv2d), trained by avcl" in card
    assert {"r3d", "conv2d"} < set(yaml.safe_load(card.split("---\n")[1])["tags"])


def test_a_second_time_gives_the_same_bytes_and_another_checkpoint_takes_the_place_of_the_first(
    trained: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    publish(trained, f"--out={out}")
    before = dict(told(out))

    publish(trained, f"--out={out}")
    assert dict(told(out)) == before
    assert publish(trained, f"--out={out}", "--checkpoint=best") == 0
    assert [path.name for path in (out / "checkpoints").iterdir()] == ["step-00000400"]
    assert read(out, "checkpoints/step-00000400/state.json")["best"] == {"step": 400, "value": 0.5}
    assert [path.name for path in (out / "results").iterdir()] == ["knn_untrained.json"]


def test_results_of_something_else_are_left_out_and_named(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(trained, "linear", result(checkpoint="step-00000400"))
    write(trained, "svm", result(trained_on={"split": "train", "fingerprint": "0" * 64}))
    write(trained, "cam", {"probe": "cam"})
    write(trained, "sounds", result(on_split=f"/home/{WORD}/ESC-50-master"))

    assert publish(trained, f"--out={tmp_path / 'out'}") == 0
    err = capsys.readouterr().err
    assert "left out: eval/linear/results.json: belongs to step-00000400, but step-00000500 is published" in err
    assert "left out: eval/svm/results.json: belongs to another run" in err
    assert sorted(path.name for path in (tmp_path / "out/results").iterdir()) == [
        "knn.json",
        "knn_untrained.json",
        "sounds.json",
    ]
    assert read(tmp_path / "out", "results/sounds.json")["on_split"] == "ESC-50-master"


def test_no_text_of_a_run_is_more_than_text_in_the_card(trained: Path, tmp_path: Path) -> None:
    evil = "<script>alert(1)</script> [x](javascript:1) | `y`\n# head \u202e"
    (trained / "run.json").write_text(json.dumps(FACTS | {"note": evil, "classes": evil, "data_recipe": evil}))

    assert publish(trained, f"--out={tmp_path / 'out'}") == 0
    card = (tmp_path / "out/README.md").read_text()
    assert "<script>" not in card.replace("`<script>", "")
    assert "](javascript" not in card.replace("`", "") or "\\](javascript" in card
    assert "\u202e" not in card
    assert read(tmp_path / "out", "run.json")["shards"] == "data/NAME/shards"


@pytest.mark.parametrize(
    ("file", "data", "told"),
    [
        ("run.json", b"{", r"run.json: cannot be read"),
        ("run.json", b"[]", r"run.json: is not a table"),
        ("run.json", json.dumps(FACTS | {"recipe": 7}).encode(), r"its recipe is not text"),
        ("run.json", json.dumps(FACTS | {"data": {"samples": "x"}}).encode(), r"its data is not a table of numbers"),
        ("config.yaml", b"method: &x [*x]", r"config.yaml: cannot be read"),
        ("config.yaml", b"- a", r"is not a mapping of settings"),
        ("config.yaml", b"method: avcl\navcl: {path: /home/x}", r"has '/home/x', which is not a valid setting"),
        ("checkpoints/step-00000500/state.json", b"{}", r"lacks its schema and step"),
        ("checkpoints/step-00000500/model.safetensors", b"\xff" * 40, r"model.safetensors: is damaged"),
        (
            "checkpoints/step-00000500/model.safetensors",
            b"\x02" + bytes(7) + b"{}more",
            r"model.safetensors: is damaged",
        ),
        (
            "checkpoints/step-00000500/model.safetensors",
            (header := b'{"__metadata__":{"by":"me"}}') and len(header).to_bytes(8, "little") + header,
            r"has metadata that ks-train does not write",
        ),
        ("eval/knn/results.json", b"[", r"results.json: cannot be read"),
        ("eval/knn/results.json", json.dumps(result(folds=[1])).encode(), r"results.json: its folds is not a table"),
    ],
)
def test_what_no_run_of_ours_says_is_refused_and_nothing_is_written(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], file: str, data: bytes, told: str
) -> None:
    (trained / file).write_bytes(data)

    assert publish(trained, f"--out={tmp_path / 'out'}") == 2
    assert re.search(told, capsys.readouterr().err)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--checkpoint=step-00000001"], "has no checkpoint 'step-00000001'; available: step-00000400, step-00000500"),
        (["--license=Our Own"], "is not a license name of the Hub"),
        (["--yes"], "require --push; add --push"),
        (["--push=hf://datasets/ann/x"], "is for a dataset, but this is a model; give hf://USER/NAME"),
        (["--push=https://host/x"], "is not a location on the Hub"),
        (["--dataset=hf://ann/x"], "is not a dataset; give hf://datasets/USER/NAME"),
        (["--push=hf://ann/x"], "there is no terminal; add --yes"),
    ],
)
def test_misuse_says_what_to_do(
    trained: Path, capsys: pytest.CaptureFixture[str], options: list[str], told: str
) -> None:
    assert publish(trained, *options) == 2
    assert told in capsys.readouterr().err


def test_no_other_folder_is_written_over(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.tex").write_text("mine")

    assert publish(trained, f"--out={tmp_path / 'mine'}") == 2
    assert (
        "has files, but is not a published run (SHA256SUMS is missing); choose another --out" in capsys.readouterr().err
    )
    assert publish(trained, f"--out={trained}") == 2
    assert "is a training run; give another folder" in capsys.readouterr().err


def test_help_has_examples(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        run.publish_run(["--help"])

    assert ended.value.code == 0
    assert "ks-publish run runs/avcl_k32 --license cc-by-4.0 --push hf://USER/avcl-k32" in capsys.readouterr().out


def test_json_says_what_was_written(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert publish(trained, "--json") == 0

    said = json.loads(capsys.readouterr().out)
    assert said["folder"] == str(trained / "published")
    assert said["checkpoint"] == "step-00000500"
    assert "README.md" in said["files"]


def test_another_checkpoint_takes_the_place_of_the_first_on_the_hub_too(hub_server: Hub, trained: Path) -> None:
    """`last` is the one with the most steps, so an earlier one that is published later may not lie beside it."""
    for which in ("last", "best"):
        assert publish(trained, "--push=hf://ann/avcl", "--yes", f"--checkpoint={which}") == 0

    there = sorted(name for name in hub_server.repos["models/ann/avcl"].files if "/" in name)
    assert there == [
        "checkpoints/step-00000400/model.safetensors",
        "checkpoints/step-00000400/state.json",
        "results/knn_untrained.json",
    ]
    assert 'train.load("hf://ann/avcl")' in hub_server.repos["models/ann/avcl"].files["README.md"].data.decode()
