"""ks-eval: what it writes of a run, that nothing but the run and the data decides it, and what it refuses."""

import csv
import dataclasses
import json
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from kinetics_sounds.errors import SettingsError
from kinetics_sounds.shards import index, layout
from kinetics_sounds.stream import Split, open_split, sample
from kinetics_sounds.train import evaluate, pretrain
from kinetics_sounds.train.data.loader import Loading
from kinetics_sounds.train.evaluation import features, frozen, protocols
from kinetics_sounds.train.evaluation.encoders import Encoders, load
from kinetics_sounds.train.models.backbones import Trunk
from kinetics_sounds.train.probes import Features, crossmodal, knn, linear, retrieval

from .conftest import write_set

PROBES = {"linear": linear, "knn": knn, "crossmodal": crossmodal}


@pytest.fixture
def judge(finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., dict[str, Any]]:
    """A function from a probe and more options to the results that ks-eval writes of the finished run."""

    def results(probe: str, *more: str) -> dict[str, Any]:
        out = tmp_path / "results"
        options = [f"--run={finished}", f"--out={out}", "--workers=0", "--device=cpu", "--clips=2", *more]
        assert evaluate.main([probe, *options]) == 0
        told: dict[str, Any] = json.loads((out / "results.json").read_text())
        return told

    return results


def extract(made: Encoders, split: Split, *, batch: int = 16, workers: int = 0, **more: Any) -> Features:
    loading = Loading(workers=workers, device=torch.device("cpu"))
    return features.extract(made, split, **{"clips": 2, "batch": batch, "loading": loading, **more})


class TestResults:
    @pytest.mark.parametrize("probe", sorted(PROBES))
    def test_a_probe_writes_the_same_scores_as_json_and_csv(
        self, probe: str, judge: Callable[..., dict[str, Any]], finished: Path, shards: Path, tmp_path: Path
    ) -> None:
        told = judge(probe)

        assert (told["probe"], told["run"], told["recipe"]) == (probe, str(finished), "avcl_tiny")
        assert (told["checkpoint"], told["clips"]) == ("step-00000006", 2)
        assert (told["on_split"], told["samples"]) == ("test", 6)
        assert told["fit_split"] == ("train" if PROBES[probe].NEEDS_TRAIN_FEATURES else None)
        assert told["fingerprint"] == open_split(shards, "test").dataset.splits["test"].fingerprint
        assert (told["selection"], told["content"]) == ("selection of test", "content of test")
        of_train = {"selection": "selection of train", "content": "content of train"}
        assert told["trained_on"].items() >= ({"split": "train"} | of_train).items()
        assert (told["classes"], told["note"]) == ("tiny", "made by tests")
        assert told["settings"] == json.loads(json.dumps(dataclasses.asdict(PROBES[probe].Settings())))
        assert told["scores"]
        assert all(0 <= score <= 100 for score in told["scores"].values())
        with (tmp_path / "results" / "results.csv").open(newline="") as table:
            rows = list(csv.DictReader(table))
        assert {row["metric"]: float(row["value"]) for row in rows} == told["scores"]
        assert {(row["probe"], row["checkpoint"], row["on_split"]) for row in rows} == {
            (probe, "step-00000006", "test")
        }

    def test_several_probes_say_what_each_says_alone_of_features_that_are_extracted_once(
        self, judge: Callable[..., dict[str, Any]], finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        alone = {name: judge(name) for name in PROBES}
        extracted: list[str] = []

        def counted(encoders: Encoders, split: Split, **how: Any) -> Features:
            extracted.append(split.name)
            return features.extract(encoders, split, **how)

        monkeypatch.setattr(frozen, "extract", counted)
        options = [f"--run={finished}", f"--out={tmp_path / 'all'}", "--workers=0", "--device=cpu", "--clips=2"]
        assert evaluate.main([*PROBES, *options]) == 0

        assert sorted(extracted) == ["test", "train"]
        assert {name: json.loads((tmp_path / "all" / name / "results.json").read_text()) for name in PROBES} == alone

    def test_all_features_are_there_before_the_first_probe_judges(
        self, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Ranks extract together, and one judges: no other may wait for it in the middle."""
        happened: list[str] = []

        def extracted(encoders: Encoders, split: Split, **how: Any) -> Features:
            happened.append("extract")
            return features.extract(encoders, split, **how)

        def judged(*_: object) -> dict[str, float]:
            happened.append("judge")
            return {"top1": 0.0}

        monkeypatch.setattr(frozen, "extract", extracted)
        monkeypatch.setattr(knn, "evaluate", judged)
        monkeypatch.setattr(retrieval, "evaluate", judged)
        options = [f"--run={finished}", f"--out={tmp_path}", "--workers=0", "--device=cpu", "--clips=1"]

        assert evaluate.main(["knn", "retrieval", "--retrieval.features=conv5", *options]) == 0

        assert happened == [*["extract"] * 4, *["judge"] * 2]

    def test_crossmodal_writes_the_neighbours_of_clips_for_ks_view(
        self, judge: Callable[..., dict[str, Any]], shards: Path, tmp_path: Path
    ) -> None:
        judge("crossmodal")

        told = json.loads((tmp_path / "results/neighbours.json").read_text())
        test = open_split(shards, "test")
        keys = {test.key(n): test.dataset.labels[int(test.label_index_N[n])] for n in range(6)}
        assert (told["checkpoint"], told["on_split"]) == ("step-00000006", "test")
        assert {each["key"]: each["label"] for each in told["queries"]} == keys
        for side in ("sounds", "pictures"):
            found = told["queries"][0][side]
            assert len({clip["key"] for clip in found}) == 5
            assert all(keys[clip["key"]] == clip["label"] for clip in found)
            assert [clip["cosine"] for clip in found] == sorted((clip["cosine"] for clip in found), reverse=True)

    def test_chance_is_that_of_six_clips_of_two_classes(self, judge: Callable[..., dict[str, Any]]) -> None:
        assert judge("linear")["scores"]["top1_chance"] == 50
        assert judge("crossmodal")["scores"]["r1_chance"] == pytest.approx(100 / 6)

    def test_chance_is_that_of_the_classes_that_are_fitted_and_of_a_vote_that_of_the_list(
        self, finished: Path, films: dict[int, bytes], tmp_path: Path
    ) -> None:
        """One of the three listed classes has no clip: chance is 1/2 for probes, which are fitted on clips of two classes.

        It is 1/3 for `vote`, whose classifier can answer any class of the list.
        """
        write_set(tmp_path / "set", {"train": (8,), "test": (6,)}, films, classes="tiny")
        path = tmp_path / "set" / layout.DATASET
        path.write_bytes(index.seal(json.loads(path.read_bytes()) | {"labels": ["even", "odd", "neither"]}))
        options = [f"--shards={tmp_path / 'set'}", "--workers=0", "--device=cpu", "--clips=1"]
        trains = ["--epochs=1", "--batch=4"]

        for name, run, more, top1 in (
            ("linear", finished, [], 50),
            ("layerwise", finished, trains, 50),
            ("finetune", finished, trains, 50),
            ("vote", tmp_path / "finetune", [], pytest.approx(100 / 3)),
        ):
            assert evaluate.main([name, *options, *more, f"--run={run}", f"--out={tmp_path / name}"]) == 0
            scores = json.loads((tmp_path / name / "results.json").read_text())["scores"]
            assert (scores["top1_chance"], scores["top5_chance"]) == (top1, 100)

    @pytest.mark.parametrize("probe", sorted(PROBES))
    def test_untrained_is_the_run_before_its_first_step(
        self, probe: str, judge: Callable[..., dict[str, Any]], finished: Path, shards: Path
    ) -> None:
        made = load(finished, None)
        on, fit = (extract(made, open_split(shards, name)) for name in ("test", "train"))

        told = judge(probe, "--untrained")

        assert told["checkpoint"] == "untrained"
        assert told["scores"] == PROBES[probe].evaluate(on, fit, PROBES[probe].Settings())

    def test_training_changes_the_features(self, finished: Path, shards: Path) -> None:
        split = open_split(shards, "test")
        before, after = (extract(load(finished, name), split) for name in (None, "last"))

        assert not torch.allclose(before.video_ND, after.video_ND)
        assert not torch.allclose(before.audio_ND, after.audio_ND)

    def test_each_checkpoint_can_be_judged(
        self, judge: Callable[..., dict[str, Any]], finished: Path, shards: Path
    ) -> None:
        last, named, first = (
            judge("crossmodal", *more)
            for more in ((), ("--checkpoint=step-00000006",), ("--checkpoint=step-00000004",))
        )
        features = extract(load(finished, "step-00000004"), open_split(shards, "test"))

        assert last == named
        assert first["checkpoint"] == "step-00000004"
        assert first["scores"] == crossmodal.evaluate(features, None, crossmodal.Settings())
        assert not torch.equal(features.video_ND, extract(load(finished, "last"), open_split(shards, "test")).video_ND)

    def test_a_probes_own_options_reach_it(self, judge: Callable[..., dict[str, Any]]) -> None:
        assert "video_to_audio_r2" in judge("crossmodal", "--crossmodal.ks=[1,2]")["scores"]

    def test_results_lie_with_the_run_unless_told_otherwise(
        self, finished: Path, shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        copy = Path(shutil.copytree(finished, tmp_path / "run"))
        baseline = "next: the same command with --untrained, for the baseline"
        page = f"next: ks-view {shards} --run {copy}"
        for more, told in (
            (["--checkpoint=step-00000006"], [page]),  # with which --untrained is refused
            ([], [baseline, page]),
            (["--untrained"], [page]),
            ([], [page]),
            (["--clips=2"], [baseline, page]),  # that of one clip is none
        ):
            assert evaluate.main(["crossmodal", f"--run={copy}", "--workers=0", "--clips=1", *more]) == 0
            steps = [line for line in capsys.readouterr().out.splitlines() if line.startswith("next: ")]
            assert steps == told

        assert sorted(path.parent.name for path in copy.glob("eval/*/results.json")) == [
            "crossmodal",
            "crossmodal_untrained",
        ]

    def test_what_is_told_are_the_scores_and_where_they_lie(
        self, judge: Callable[..., dict[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        told = judge("knn")
        lines = capsys.readouterr().out.splitlines()

        assert lines[0] == "knn of step-00000006 on 6 clips of test:"
        assert lines[-1] == f"results: {tmp_path}/results/results.json"
        scores = told["scores"]
        assert [line.split()[0] for line in lines[1:-1]] == [
            name for name in scores if not name.endswith(("_low", "_high")) and "top5" not in name
        ]
        assert lines[1].split() == [
            "top1",
            f"{scores['top1']:.2f}",
            *("95%:", f"{scores['top1_low']:.2f}", "to", f"{scores['top1_high']:.2f}"),
        ]

    def test_json_is_all_that_is_printed(
        self, judge: Callable[..., dict[str, Any]], capsys: pytest.CaptureFixture[str]
    ) -> None:
        told = judge("linear", "--json")

        assert json.loads(capsys.readouterr().out) == told


class TestFeatures:
    def test_every_clip_is_there_once_under_its_own_key_and_label(self, finished: Path, split: Split) -> None:
        found = extract(load(finished), split, batch=5)

        assert found.keys == tuple(map(split.key, range(12)))
        assert found.label_N.tolist() == [number % 2 for number in range(12)]
        assert found.video_ND.shape == found.audio_ND.shape == (12, 16)  # 8 times the width, 2

    def test_they_do_not_depend_on_batches_or_workers(self, finished: Path, shards: Path) -> None:
        """In training mode they would: batch statistics differ."""
        made, split = load(finished), open_split(shards, "test")
        first, *others = (
            extract(made, split, batch=batch, workers=workers) for batch, workers in ((6, 0), (1, 0), (4, 0), (4, 1))
        )

        for other in others:
            assert other.keys == first.keys
            torch.testing.assert_close(other.video_ND, first.video_ND, rtol=1e-4, atol=1e-5)
            torch.testing.assert_close(other.audio_ND, first.audio_ND, rtol=1e-4, atol=1e-5)

    def test_a_videos_feature_is_the_mean_over_its_clips(self, finished: Path, shards: Path) -> None:
        made, split = load(finished), open_split(shards, "test")
        with sample(split, 2) as second:
            views = made.view.eval_views(second, made.view_settings, 3)
        arrays = {name: each[None] for name, each in views.items()}
        sides = {name: each[0] for name, each in made.view.augment(arrays, made.view_settings).items()}
        with torch.inference_mode():
            video_D, audio_D = made.video(sides["video"]).mean(0), made.audio(sides["audio"])[0]

        found = extract(made, split, clips=3)

        torch.testing.assert_close(found.video_ND[2], video_D, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(found.audio_ND[2], audio_D, rtol=1e-4, atol=1e-5)

    def test_a_unit_feature_is_the_mean_over_clips_of_length_one(self, finished: Path, shards: Path) -> None:
        """So it is no longer than 1, and shorter where the clips disagree; a sound has one rendering."""
        made, split = load(finished), open_split(shards, "test")
        with sample(split, 2) as second, torch.no_grad():
            each_KD = made.video(made.preprocess(second, clips=3)["video"])

        found = extract(made, split, clips=3, kind="unit")

        expected_D = torch.stack([row_D / row_D.norm() for row_D in each_KD]).mean(0)
        torch.testing.assert_close(found.video_ND[2], expected_D, rtol=1e-4, atol=1e-5)
        assert (found.video_ND.norm(dim=1) <= 1 + 1e-6).all()
        torch.testing.assert_close(found.audio_ND.norm(dim=1), torch.ones(6))

    def test_conv5_is_the_greatest_of_every_two_by_two_pixels_of_the_last_maps(self) -> None:
        """512 x 2 x 7 x 7 become 512 x 2 x 3 x 3 = 9216 numbers, as VCOP, TCGL and IIC compare them."""
        encoder = Through()
        maps_BDTHW = torch.arange(2 * 512 * 2 * 7 * 7, dtype=torch.float32).reshape(2, 512, 2, 7, 7)

        found_BD = features.encode(encoder, maps_BDTHW, kind="conv5")

        assert found_BD.shape == (2, 9216)
        assert found_BD[0, 0] == maps_BDTHW[0, 0, 0, 1, 1]  # the greatest of rows 0 and 1, columns 0 and 1
        assert found_BD[1, -1] == maps_BDTHW[1, -1, -1, 5, 5]  # the seventh row and column have no partner

    def test_maps_without_time_and_of_one_pixel_are_taken_as_they_are(self) -> None:
        encoder = Through()

        assert features.encode(encoder, torch.tensor([[[[1.0, 2, 3], [4, 5, 6]]]]), kind="conv5").tolist() == [[5]]
        assert features.encode(encoder, torch.tensor([[[[[7.0]]]]]), kind="conv5").tolist() == [[7]]

    @pytest.mark.parametrize(("layers", "told"), [(("conv1", "conv2"), "conv1, conv2"), ((), "none")])
    def test_an_encoder_without_the_layer_is_named_with_those_it_has(self, layers: tuple[str, ...], told: str) -> None:
        encoder = Through()
        encoder.layers = layers
        with pytest.raises(SettingsError, match=f"Through has no layer 'conv5'; it has: {told}"):
            features.encode(encoder, torch.zeros(1, 1, 1, 1, 1), kind="conv5")

    @pytest.mark.parametrize("kind", ["unit", "conv5"])
    def test_retrieval_compares_the_features_that_it_is_told(
        self, kind: str, judge: Callable[..., dict[str, Any]], finished: Path, shards: Path
    ) -> None:
        made = load(finished)
        on, fit = (extract(made, open_split(shards, name), kind=kind) for name in ("test", "train"))

        told = judge("retrieval", f"--retrieval.features={kind}", "--retrieval.distance=euclidean")

        assert told["features"] == kind
        assert told["scores"] == retrieval.evaluate(on, fit, retrieval.Settings(distance="euclidean"))

    def test_the_gate_has_no_say(self, small: Callable[..., list[str]], shards: Path, tmp_path: Path) -> None:
        """A gate that saw both modalities makes pairs look learnt."""
        assert pretrain.main(small(tmp_path, "--avcl.amfm_stage=pretrain", "--steps=1")) == 0
        made, split = load(tmp_path, None), open_split(shards, "test")
        first = extract(made, split)
        torch.nn.init.zeros_(made.method.amfm.excite[0][0].weight)
        torch.nn.init.zeros_(made.method.amfm.excite[0][0].bias)

        second = extract(made, split)

        assert torch.equal(first.video_ND, second.video_ND)
        assert first.video_ND.abs().max() > 0


class Through(Trunk):  # type: ignore[misc]
    """An encoder whose one layer is what it is given."""

    dim = 1
    layers: tuple[str, ...] = ("conv5",)

    def __init__(self) -> None:
        super().__init__()
        self.conv5 = torch.nn.Identity()


def refused(argv: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """What ks-eval says as it refuses: one line on standard error, nothing on standard output, and exit code 2."""
    assert evaluate.main(argv) == 2
    told = capsys.readouterr()
    (line,) = told.err.splitlines()
    assert line.startswith("ks-eval: error: ")
    assert told.out == ""
    return line


class TestMisuse:
    def test_shards_of_one_split_leave_none_to_evaluate_on(
        self, seven: Path, finished: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        told = refused(["linear", f"--run={finished}", f"--shards={seven}"], capsys)

        assert f"{seven}: has no split but 'train', so none to evaluate on; " in told

    def test_where_no_result_can_be_written_none_is_computed(
        self, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (tmp_path / "file").touch()
        monkeypatch.delattr(frozen, "extract")

        assert "file" in refused(["knn", f"--run={finished}", f"--out={tmp_path / 'file' / 'below'}"], capsys)

    @pytest.mark.parametrize(
        ("argv", "complaint"),
        [
            (["lineer"], r"there is no 'lineer'; available: cam, .*linear.*did you mean 'linear'"),
            (["linear", "--on_split=train"], r"--fit_split train: is also the split to evaluate on; choose another"),
            (["knn", "--fit_split=test"], r"--fit_split test: is also the split to evaluate on; choose another"),
            (["knn", "--fit_split=val"], r"has no split 'val' to fit on; it has: train, test; see --fit_split"),
            (["knn", "--on_split=val"], r"has no split 'val'; it has: train, test"),
            (
                ["crossmodal", "--checkpoint=first"],
                r"has no checkpoint 'first'; there are: step-00000004, step-00000006",
            ),
            (["crossmodal", "--checkpoint=best"], r"has no best checkpoint: no validation"),
            (["crossmodal", "--clips=0"], r"--clips 0: must be at least 1"),
            (["crossmodal", "--batch=0"], r"--batch 0: must be at least 1"),
            (["crossmodal", "--workers=-1"], r"--workers -1: must be at least 0"),
            (["crossmodal", "--bogus=1"], r"--bogus"),
            (["crossmodal", "--device=banana"], r"--device banana: .* try cpu"),
            (["crossmodal", "--shards=/nowhere"], r"/nowhere: has no shard set"),
            (["crossmodal", "--run=/nowhere"], r"/nowhere: is not a training run .*give the --out of a ks-train"),
            (["knn", "--knn.k=0"], r"--knn\.k 0: must be at least 1; see ks-eval knn --help"),
            (["knn", "--knn.k=few"], r"few"),
            (
                ["crossmodal", "--fit_split=train"],
                r"--fit_split train: none of these probes is fitted; leave it out",
            ),
            (
                ["knn", "--untrained", "--checkpoint=best"],
                r"--untrained: evaluates initial weights, not --checkpoint best",
            ),
            (["linear", "--knn.k=3"], r"--knn\.k"),
        ],
    )
    def test_is_told_in_one_line(
        self, argv: list[str], complaint: str, finished: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
    ) -> None:
        name, *more = argv
        options = [f"--run={finished}", f"--out={tmp_path / 'out'}", "--workers=0", "--clips=1", *more]

        line = refused([name, *options], capsys)

        assert re.search(complaint, line), line
        assert not (tmp_path / "out").exists()

    def test_what_has_options_of_its_own_is_asked_for_alone(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert "cam: has its own options; run it alone" in refused(["linear", "cam", "--run=x"], capsys)

    def test_a_run_must_be_named(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert "run" in refused(["linear"], capsys)

    def test_a_run_without_a_checkpoint_can_only_be_judged_untrained(
        self, finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        copy = Path(shutil.copytree(finished, tmp_path / "run"))
        shutil.rmtree(copy / "checkpoints")
        argv = ["crossmodal", f"--run={copy}", "--workers=0", "--clips=1"]

        assert "has no checkpoint 'last'; there are: none; train first with ks-train" in refused(argv, capsys)
        assert evaluate.main([*argv, "--untrained"]) == 0

    def test_a_model_that_is_no_number_is_not_judged(
        self, finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        copy = Path(shutil.copytree(finished, tmp_path / "run"))
        path = copy / "checkpoints" / "step-00000006" / "model.safetensors"
        save_file(
            {
                name: tensor * torch.nan if tensor.is_floating_point() else tensor
                for name, tensor in load_file(path).items()
            },
            path,
        )

        line = refused(["crossmodal", f"--run={copy}", "--workers=0", "--clips=1"], capsys)

        assert f"{copy}: crossmodal cannot evaluate it: video has features that are not finite" in line

    def test_shards_of_another_set_are_named_as_what_was_judged(
        self, judge: Callable[..., dict[str, Any]], shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """By an absolute path: results are read in other working directories."""
        copy = Path(shutil.copytree(shards, tmp_path / "other"))
        path = copy / layout.DATASET
        path.write_bytes(index.seal(json.loads(path.read_bytes()) | {"classes": "other"}))
        monkeypatch.chdir(tmp_path)

        told = judge("crossmodal", "--shards=other")

        assert (told["classes"], told["shards"]) == ("other", str(copy))

    @pytest.mark.parametrize("name", ["crossmodal", "cam", "finetune", "layerwise"])
    def test_shards_with_other_mel_spectrograms_are_refused(
        self, name: str, finished: Path, shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """What the audio encoder would see is not what it has learnt to hear."""
        copy = Path(shutil.copytree(shards, tmp_path / "other"))
        path = copy / layout.DATASET
        document = json.loads(path.read_bytes())
        path.write_bytes(index.seal(document | {"mel": document["mel"] | {"preset": "authors"}}))

        line = refused([name, f"--run={finished}", f"--shards={copy}", f"--out={tmp_path / 'out'}"], capsys)

        assert (
            f"{copy}: its mel-spectrograms are not like those that the run was trained on: preset authors rather than paper"
            in line
        )

    @pytest.mark.parametrize(("argv", "code"), [([], 2), (["--help"], 0), (["-h"], 0)])
    def test_help_names_the_probes(self, argv: list[str], code: int, capsys: pytest.CaptureFixture[str]) -> None:
        assert evaluate.main(argv) == code
        usage = capsys.readouterr().out
        assert re.match(r"usage: ks-eval \{[a-z_,]+\} \[\.\.\.\] --run RUN", usage)
        assert all(re.search(rf"^  {name} +[A-Z]", usage, re.MULTILINE) for name in evaluate.names())
        assert "  linear       Linear probe: multinomial logistic regression on frozen features." in usage

    def test_options_without_a_probe_are_misuse(self, finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert evaluate.main([f"--run={finished}"]) == 2
        assert "usage: ks-eval {" in capsys.readouterr().out

    def test_a_probes_help_shows_its_own_options(self, capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit) as caught:
            evaluate.main(["knn", "--help"])

        assert caught.value.code == 0
        assert "--knn.k" in capsys.readouterr().out


PROTOCOL = '''"""ks-eval nothing: what a new file is enough for."""

from dataclasses import dataclass
from pathlib import Path

from kinetics_sounds.settings import Parsed

from .. import results


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Judge nothing."""

    run: Path
    untrained: bool = False
    out: Path | None = None


def evaluate(parsed: Parsed[Settings]) -> int:
    print(results.folder(parsed.settings, "nothing"))
    return 1
'''


class TestProtocols:
    @pytest.fixture(autouse=True)
    def dropped(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        """A file in a folder where protocols are looked for, and nothing else."""
        (tmp_path / "nothing.py").write_text(PROTOCOL)
        monkeypatch.setattr(protocols, "__path__", [*protocols.__path__, str(tmp_path)])
        yield
        sys.modules.pop(f"{protocols.__name__}.nothing", None)

    def test_a_new_file_is_asked_for_by_its_name(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert evaluate.main(["nothing", "--run=runs/one", "--untrained"]) == 1
        assert capsys.readouterr().out == "runs/one/eval/nothing_untrained\n"

    def test_it_is_listed_apart_from_the_probes(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert evaluate.main(["--help"]) == 0
        probes, own = capsys.readouterr().out.split("Protocols with options of their own:\n")
        assert "\n  nothing      What a new file is enough for.\n" in own
        assert "\n  linear  " in probes
        assert "nothing  " not in probes

    def test_what_it_does_not_know_is_refused_under_its_name(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert "--clips: there is no such option; see ks-eval nothing --help" in refused(
            ["nothing", "--run=x", "--clips=2"], capsys
        )

    def test_names_may_be_separated_by_commas(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert "there is no 'nobody'" in refused(["linear,nobody", "--run=x"], capsys)

    def test_no_name_is_that_of_a_probe_too(self) -> None:
        assert len(evaluate.names()) == len(set(evaluate.names()))


class TestSplits:
    @pytest.mark.parametrize(
        ("there", "on"), [(("train", "val", "test"), "test"), (("train", "val"), "val"), (("train",), "train")]
    )
    def test_the_judged_split_is_test_or_else_val_or_else_what_there_is(
        self, there: tuple[str, ...], on: str, judge: Callable[..., dict[str, Any]], shards: Path, tmp_path: Path
    ) -> None:
        copy = tmp_path / "other"
        copy.mkdir()
        document = json.loads((shards / layout.DATASET).read_text())
        for name in there:
            like = "train" if name == "train" else "test"
            document["splits"][name] = document["splits"][like]
            (copy / name).mkdir()
            for path in (shards / like).iterdir():
                shutil.copy(path, copy / name / path.name.replace(like, name))
        document["splits"] = {name: document["splits"][name] for name in there}
        (copy / layout.DATASET).write_bytes(index.seal(document))

        assert judge("crossmodal", f"--shards={copy}")["on_split"] == on


def test_main_reads_the_processs_own_arguments(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["ks-eval", "--help"])

    assert evaluate.main() == 0
    assert "usage: ks-eval" in capsys.readouterr().out
