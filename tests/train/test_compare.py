"""ks-train compare: every run and judgement once, gone on with after a stop, and one table."""

import dataclasses
import json
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from kinetics_sounds import __version__
from kinetics_sounds.address import Address
from kinetics_sounds.command import Stop
from kinetics_sounds.errors import RunError
from kinetics_sounds.pipelines import publish
from kinetics_sounds.pipelines.viewing import runs
from kinetics_sounds.train import __main__, compare, evaluate, pretrain
from kinetics_sounds.train.comparison import forecast
from kinetics_sounds.train.config import recipes
from kinetics_sounds.train.config.settings import read_settings
from kinetics_sounds.train.engine import build
from kinetics_sounds.train.evaluation.protocols import finetune, layerwise
from kinetics_sounds.train.interface import Data

from .conftest import write_set

Argv = Callable[..., list[str]]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """What is asked of each command, which this process then does itself."""
    told: list[list[str]] = []

    def do(module: str, words: Sequence[str], shards: object, stop: object) -> None:
        told.append([module.rpartition(".")[2], *words])
        main = pretrain.main if module == "kinetics_sounds.train" else evaluate.main
        if main(list(words)) != 0:
            raise RunError(f"{module} failed")

    monkeypatch.setattr(compare, "_do", do)
    return told


@pytest.fixture
def pretended(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """What is asked of each command, which leaves what it would, and nothing is learnt: of 4 steps the 2nd is the best."""
    told: list[list[str]] = []

    def train(words: list[str], out: Path) -> None:
        chooses = read_settings(words).settings.val_split is not None
        for step in (2, 4):
            state = {"schema": 1, "step": step, "best": {"step": 2, "value": 0.5} if chooses else None}
            (out / "checkpoints" / f"step-{step:08d}").mkdir(parents=True, exist_ok=True)
            (out / "checkpoints" / f"step-{step:08d}" / "state.json").write_text(json.dumps(state))

    def judge(name: str, words: list[str], out: Path) -> None:
        which = words[words.index("--checkpoint") + 1] if "--checkpoint" in words else "untrained"
        made = {"last": "step-00000004", "best": "step-00000002"}.get(which, which)
        metrics = ("video_to_audio_r1",) if name == "crossmodal" else ("top1", "video_top1", "audio_top1")
        scores = {
            f"{metric}{end}": 9.0 + place for place, metric in enumerate(metrics) for end in ("", "_low", "_high")
        }
        out.mkdir(parents=True, exist_ok=True)
        (out / "results.json").write_text(json.dumps({"checkpoint": made, "scores": scores}))

    def do(module: str, words: Sequence[str], shards: Address, stop: Stop) -> None:
        told.append([module.rpartition(".")[2], *words])
        out = Path(words[words.index("--out") + 1])
        if module == "kinetics_sounds.train":
            return train(list(words), out)
        names = words[: words.index("--run")]
        for name in names:
            judge(name, list(words), out / name if len(names) > 1 else out)
        return None

    monkeypatch.setattr(compare, "_do", do)
    return told


@pytest.fixture
def argv(small: Argv, shards: Path, tmp_path: Path) -> list[str]:
    """Two recipes of a few steps, two seeds."""
    own = [
        word for word in small(tmp_path / "none") if not word.startswith(("--shards", "--out", "--config", "--seed"))
    ]
    for name, method in (("one", "avcl"), ("two", "simclr")):
        tiny = (recipes.RECIPES / "avcl_tiny.yaml").read_text()
        (tmp_path / f"{name}.yaml").write_text(tiny.replace("method: avcl", f"method: {method}"))
    asked = [str(tmp_path / f"{name}.yaml") for name in ("one", "two")]
    where = [f"--shards={shards}", f"--out={tmp_path / 'compared'}", "--seeds=0,1", "--protocols=knn,crossmodal"]
    return ["compare", *asked, *where, "--", *own, "--steps=2", "--device=cpu"]


def test_every_run_is_trained_once_and_judged_beside_untrained_encoders(
    argv: list[str], asked: list[list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert __main__.main(argv) == 0

    out = tmp_path / "compared"
    assert [words[0] for words in asked].count("train") == 4
    assert [words[0] for words in asked].count("evaluate") == 8  # both probes at once, trained and not
    assert {path.parent.name for path in out.glob("*/*/run/eval/compare/*/results.json")} == {"knn", "crossmodal"}
    assert (out / "table.md").read_text() in capsys.readouterr().out
    assert (out / "table.csv").read_text().count("\none,0,knn,top1,") == 1
    seeds = {json.loads((path / "run" / "run.json").read_text())["recipe"] for path in out.glob("*/seed-*")}
    assert seeds == {"one", "two"}

    asked.clear()
    table = (out / "table.md").read_bytes()
    assert __main__.main(argv) == 0
    assert asked == []
    assert (out / "table.md").read_bytes() == table


def test_options_of_one_recipes_method_are_given_to_it_alone(
    argv: list[str], pretended: list[list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert __main__.main([*argv, "--simclr.temperature", "0.25", "--keep=1"]) == 0

    trained = [words for words in pretended if words[0] == "train"]
    own = [words[-3:] for words in trained if "--simclr.temperature" in words]
    assert own == [["--simclr.temperature", "0.25", "--keep=1"]] * 2
    assert [words[-1] for words in trained] == ["--keep=1"] * 4

    assert __main__.main([*argv, "--byol.dim=7"]) == 2
    assert "--byol.dim: is of the method byol, and the method is avcl and simclr; leave" in capsys.readouterr().err


def test_its_results_are_found_by_the_page_and_the_card_and_those_of_an_earlier_version_too(
    argv: list[str], asked: list[list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Version 0.2.0 wrote them beside the run."""
    words = [word.replace("--seeds=0,1", "--seeds=1") for word in argv]
    assert __main__.main(words) == 0
    folder = tmp_path / "compared/one/seed-1"
    table = (tmp_path / "compared/table.md").read_bytes()
    for new, old in (("compare", "results"), ("compare_untrained", "untrained")):
        (folder / "run/eval" / new).rename(folder / old)
    asked.clear()

    assert __main__.main(words) == 0
    assert asked == []
    assert (tmp_path / "compared/table.md").read_bytes() == table
    assert {each.name for each in folder.iterdir()} == {"run", "trained"}
    found = [(each.probe, each.untrained) for each in runs.read(folder / "run").results]
    assert sorted(found) == [(probe, untrained) for probe in ("crossmodal", "knn") for untrained in (False, True)]
    capsys.readouterr()
    assert publish.main(["run", str(folder / "run"), f"--out={tmp_path / 'published'}"]) == 0
    assert ", 4 results, " in capsys.readouterr().out


def test_the_table_says_what_its_numbers_are_of(argv: list[str], asked: list[list[str]], tmp_path: Path) -> None:
    """12 training and 6 test clips; of two classes guessing is right half of the time, of six pairs once in six."""
    for name, batch in (("one", 4), ("two", 6)):
        recipe = tmp_path / f"{name}.yaml"
        recipe.write_text(recipe.read_text().replace("batch: 64", f"batch: {batch}"))
    words = [word.replace("--seeds=0,1", "--seeds=0") for word in argv if not word.startswith("--batch")]
    assert __main__.main(words) == 0

    told = (tmp_path / "compared/table.md").read_text().splitlines()
    same = [line for line in told if line.startswith("class list: ")]
    head = "class list: tiny; evaluated on: 6 clips of test (selection selection of); "
    assert same[0].startswith(f"{head}fitted on: train; clips per video: 10; trained on: 12 clips of train (selection ")
    assert same[0].endswith(f"steps: 2; checkpoint: step-00000002; kinetics-sounds: {__version__}; chance: 50.0%.")
    assert same[1].startswith(f"{head}clips per video: 10; trained on: ")
    assert same[1].endswith("; chance: 16.7%.")
    assert told.count("batch: 4 (one), 6 (two).") == 2


def test_a_row_that_fails_is_told_and_the_others_are_there(
    argv: list[str], asked: list[list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "two.yaml").write_text((tmp_path / "one.yaml").read_text() + "val_split: nothing\n")
    assert __main__.main(argv) == 1

    told = capsys.readouterr()
    assert "failed: kinetics_sounds.train failed" in told.err
    assert "| one |" in told.out
    assert "| two |" not in told.out
    assert (tmp_path / "compared" / "table.md").read_text().count("kinetics_sounds.train failed") == 2


def test_a_supervised_baseline_votes_where_others_are_fine_tuned(
    argv: list[str],
    asked: list[list[str]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It has a classifier already, from nothing but labels; without it there is nothing to compare with."""
    (tmp_path / "two.yaml").write_text(
        (tmp_path / "one.yaml").read_text().replace("method: avcl", "method: supervised")
    )
    done = compare._do

    def briefly(module: str, words: Sequence[str], shards: Address, stop: Stop) -> None:
        done(module, [*words, *(["--epochs=1", "--batch=4"] if words[0] == "finetune" else [])], shards, stop)

    monkeypatch.setattr(compare, "_do", briefly)
    monkeypatch.setattr(finetune, "DEFAULTS", dataclasses.replace(finetune.DEFAULTS, batch=4))
    words = [word.replace("knn,crossmodal", "finetune").replace("--seeds=0,1", "--seeds=0") for word in argv]
    assert __main__.main(words) == 0

    judged = [(words[1], "--untrained" in words) for words in asked if words[0] == "evaluate"]
    assert judged == [("finetune", False), ("finetune", True), ("vote", False)]
    table = capsys.readouterr().out.partition("### finetune: top1 in %")[2]
    assert {line.split(" | ")[0] for line in table.splitlines() if line.startswith("| ")} == {
        "| recipe",
        "| one",
        "| two",
    }
    assert "\ntwo,0,finetune,top1," in (tmp_path / "compared" / "table.csv").read_text()


class TestWhatIsAskedOfEachRun:
    @pytest.fixture
    def judged(self, tmp_path: Path, films: dict[int, bytes]) -> Callable[..., int]:
        """Compare SimCLR with a supervised recipe that has more settings, on a set with a val and a test split."""
        sizes = {"train": (16,), "val": (2,), "test": (2,)}
        write_set(tmp_path / "set", sizes, films, classes="tiny")

        def run(protocols: str, more: str = "", *, first: str = "method: simclr") -> int:
            tiny = (recipes.RECIPES / "avcl_tiny.yaml").read_text()
            (tmp_path / "one.yaml").write_text(tiny.replace("method: avcl", first))
            (tmp_path / "two.yaml").write_text(tiny.replace("method: avcl", "method: supervised") + more)
            asked = [str(tmp_path / f"{name}.yaml") for name in ("one", "two")]
            where = [f"--shards={tmp_path / 'set'}", f"--out={tmp_path / 'compared'}", "--seeds=3,5"]
            code: int = __main__.main(["compare", *asked, *where, f"--protocols={protocols}", "--", "--batch=4"])
            return code

        return run

    def test_fine_tuning_has_the_seed_of_the_run_and_a_vote_the_best_checkpoint(
        self, judged: Callable[..., int], pretended: list[list[str]], tmp_path: Path
    ) -> None:
        """So untrained encoders are the run's own as they were, of each seed others; and both classifiers are the best on val."""
        assert judged("finetune", "val_split: val\n") == 0
        tuned = [words[words.index("--out") + 2 :] for words in pretended if words[1] == "finetune"]
        votes = [words[words.index("--out") + 2 :] for words in pretended if words[1] == "vote"]
        assert tuned == [[*how, "--seed", seed] for seed in "35" for how in (["--checkpoint", "last"], ["--untrained"])]
        assert votes == [["--checkpoint", "best"]] * 2

        pretended.clear()
        assert judged("finetune", "val_split: val\n") == 0
        assert pretended == []
        for result in (tmp_path / "compared").glob("two/*/run/eval/compare/vote/results.json"):
            result.write_text(result.read_text().replace("step-00000002", "step-00000004"))  # of the last one
        assert judged("finetune", "val_split: val\n") == 0
        assert [words[1] for words in pretended] == ["vote"] * 2

    def test_other_protocols_join_the_table_and_its_end_says_where_everything_is(
        self,
        judged: Callable[..., int],
        pretended: list[list[str]],
        tmp_path: Path,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        """Nothing of the first run is judged again; seeds that the second run leaves out are named."""
        out = tmp_path / "compared"
        assert judged("knn") == 0
        assert judged("linear") == 0
        table = (out / "table.md").read_text()
        assert [line for line in table.splitlines() if line.startswith("###")] == [
            "### linear: top1 in %",
            "### knn: top1 in %",
        ]
        assert (
            len([words for words in pretended if words[1] == "knn"]) == 8
        )  # once: two recipes, two seeds, and untrained

        (out / "one/seed-9").mkdir()
        capsys.readouterr()
        assert judged("linear") == 0
        runs = ", ".join(str(out / name / f"seed-{seed}/run") for name in ("one", "two") for seed in (3, 5))
        end = capsys.readouterr().out.splitlines()[-4:]
        assert end[:3] == [
            f"table: {out}/table.md (all metrics: table.csv)",
            f"plot: {out}/plot.svg",
            f"runs: {runs}",
        ]
        assert end[3].startswith(f"not in the table, from earlier runs of this command: {out}/one/seed-9; give")

    def test_a_checkpoint_that_was_chosen_on_the_judged_split_is_not_taken(
        self, judged: Callable[..., int], pretended: list[list[str]]
    ) -> None:
        """As fine-tuning takes none."""
        assert judged("finetune", "val_split: test\n") == 0
        assert [words[-2:] for words in pretended if words[1] == "vote"] == [["--checkpoint", "last"]] * 2

    def test_a_run_that_came_to_no_validation_votes_with_its_last_checkpoint(
        self, judged: Callable[..., int], pretended: list[list[str]], tmp_path: Path
    ) -> None:
        assert judged("finetune", "val_split: val\n") == 0
        for state in (tmp_path / "compared").glob("two/*/run/checkpoints/*/state.json"):
            state.write_text(json.dumps({"schema": 1, "step": int(state.parent.name[5:]), "best": None}))
        pretended.clear()
        assert judged("finetune", "val_split: val\n") == 0
        assert [words[-2:] for words in pretended if words[1] == "vote"] == [["--checkpoint", "last"]] * 2

    def test_a_baseline_of_one_modality_is_judged_by_that_and_not_by_pairs(
        self, judged: Callable[..., int], pretended: list[list[str]], capsys: pytest.CaptureFixture[str]
    ) -> None:
        """Its vote sees that modality alone anyway."""
        assert judged("linear,crossmodal,finetune", "supervised: {modalities: audio}\n") == 0
        told = capsys.readouterr().out

        assert "| two (audio only) | 11.0 |" in told
        assert "| one | 9.0 |" in told
        assert "- two, crossmodal: it trains audio only" in told
        assert "| two | 9.0 |" in told.partition("### finetune")[2]

    def test_a_protocol_that_judges_the_modality_that_learns_nothing_is_not_asked(
        self,
        judged: Callable[..., int],
        pretended: list[list[str]],
        capsys: pytest.CaptureFixture[str],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(layerwise, "DEFAULTS", dataclasses.replace(layerwise.DEFAULTS, batch=4))
        assert judged("layerwise", "supervised: {modalities: audio}\n") == 0
        assert "two: no layerwise, for it trains audio only" in capsys.readouterr().out
        assert {
            Path(words[words.index("--out") + 1]).parents[4].name for words in pretended if words[1] == "layerwise"
        } == {"one"}

        assert judged("layerwise", "supervised: {modalities: video}\n") == 2  # other settings, in the same folder
        assert "no layerwise" not in capsys.readouterr().out

    def test_a_recipe_that_begins_with_another_run_is_refused_before_anything_is_trained(
        self, judged: Callable[..., int], pretended: list[list[str]], capsys: pytest.CaptureFixture[str]
    ) -> None:
        mining = "method: cma\ncma: {negatives: 4, negatives_within: 4, positives: 2, hidden: 8, dim: 8}"

        assert judged("linear", first=mining) == 2

        told = capsys.readouterr()
        assert "one.yaml: --method cma needs the heads, banks of another run" in told.err
        assert "train it with ks-train --init_from RUN, and evaluate it with ks-eval" in told.err
        assert "runs: " not in told.out
        assert pretended == []

    def test_what_can_give_no_row_is_refused_before_anything_is_trained(
        self, judged: Callable[..., int], pretended: list[list[str]], capsys: pytest.CaptureFixture[str]
    ) -> None:
        for protocol, said in (
            ("sounds", "--protocols sounds: needs --folder, which this command does not set"),
            ("cam", "--protocols cam: gives no score"),
            ("vote", "one.yaml has no classifier; use finetune"),
        ):
            assert judged(f"linear,{protocol}") == 2
            assert said in capsys.readouterr().err
        assert pretended == []
        assert judged("vote", first="method: supervised") == 0


def test_a_set_that_is_too_small_to_fine_tune_on_is_told_before_anything_is_run(
    argv: list[str], asked: list[list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert __main__.main([word.replace("knn,crossmodal", "finetune") for word in argv]) == 2
    assert "which has 12 samples, fewer than its batch of 16" in capsys.readouterr().err
    assert asked == []


def test_a_set_that_does_not_suit_a_recipes_view_is_told_before_anything_is_run(
    argv: list[str],
    pretended: list[list[str]],
    films: dict[int, bytes],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Without its sound, without statistics of it, and with numbers that are given."""
    write_set(tmp_path / "sound", {"train": (4,), "test": (2,)}, films, classes="tiny", sound=True)
    hears = ("--view=clip_and_spectrogram", "--clip_and_spectrogram.crop=28")
    argv = [word for word in argv if not word.startswith("--clip_and_mel")]

    assert __main__.main([*argv, *hears]) == 2
    assert "the shards have no flac, which the view needs" in capsys.readouterr().err
    argv = [word.partition("=")[0] + f"={tmp_path / 'sound'}" if word.startswith("--shards") else word for word in argv]
    assert __main__.main([*argv, *hears]) == 2
    assert f"compute them with: ks-shard stats {tmp_path / 'sound'} --split train" in capsys.readouterr().err
    assert pretended == []
    own = ("--clip_and_spectrogram.audio_mean=[0]", "--clip_and_spectrogram.audio_std=[1]")
    assert __main__.main([*argv, *hears, *own]) == 0


def test_the_disk_that_a_plan_tells_holds_all_that_is_kept_and_one_that_is_being_written(
    argv: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Checkpoints of 0.1 GB: 2 recipes x 2 seeds x (2 of the run, 2 of each fine-tuning: trained, untrained), and 1."""
    monkeypatch.setattr(forecast, "checkpoint_bytes", lambda parsed, data: 10**8)
    monkeypatch.setattr(finetune, "DEFAULTS", dataclasses.replace(finetune.DEFAULTS, batch=4))
    place = argv.index("--")
    for protocols, more, total in (
        ("finetune", (), 2 * 2 * (2 + 2 * 2) + 1),
        ("linear", (), 2 * 2 * 2 + 1),
        ("linear", ("--keep=9", "--val_split=test"), 2 * 2 * (9 + 1) + 1),
    ):
        words = [word.replace("knn,crossmodal", protocols) for word in argv[:place]]
        assert __main__.main([*words, "--plan", *argv[place:], *more]) == 0
        told = capsys.readouterr().out
        assert f"disk: up to {total / 10:.1f} GB" in told
        assert ("2 steps a run, then 900 of finetune" in told) == (protocols == "finetune")  # 2 x 150 x 12 / 4


def test_a_checkpoint_is_as_large_as_it_is_foretold(finished: Path) -> None:
    parsed = read_settings(["--config", str(finished / "config.yaml"), "--resume=auto"])
    data = Data(**json.loads((finished / "run.json").read_text())["data"])
    (last, *_) = sorted((finished / "checkpoints").iterdir(), reverse=True)
    tensors = 0
    for path in last.glob("*.safetensors"):
        header = int.from_bytes(path.read_bytes()[:8], "little")
        tensors += path.stat().st_size - 8 - header

    steps = 4 * sum(1 for _ in build.build_meta(parsed, data).parameters())  # Adam counts them for each weight
    foretold = forecast.checkpoint_bytes(parsed, data)
    assert tensors - steps <= foretold <= tensors


def test_a_plan_runs_nothing_and_tells_disk_and_steps(
    argv: list[str], asked: list[list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert __main__.main([*argv[: argv.index("--")], "--plan", *argv[argv.index("--") :]]) == 0

    told = capsys.readouterr().out
    assert "4 runs: 2 recipes from 2 seeds" in told
    assert "2 steps a run" in told
    assert "GB of checkpoints" in told
    shards = next(word.partition("=")[2] for word in argv if word.startswith("--shards="))
    bench = ["--config", argv[1], "--shards", shards, *argv[argv.index("--") + 1 :]]
    told_bench = f"2 steps a run; time: not known; measure samples a second with ks-train bench {shlex.join(bench)}\n"
    assert told_bench in told
    assert __main__.main(["bench", *bench, "--seconds=0.1"]) == 0
    assert asked == []
    assert not (tmp_path / "compared").exists()


def test_a_recipe_that_changed_does_not_take_over_what_the_other_one_reached(
    argv: list[str], pretended: list[list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also one of the same name in another folder; a further recipe is welcome."""
    first = [argv[0], argv[1], *argv[3:]]
    assert __main__.main(first) == 0
    other = tmp_path / "other" / "one.yaml"
    other.parent.mkdir()
    other.write_text((tmp_path / "two.yaml").read_text())
    for words in ([argv[0], str(other), *argv[3:]], [*first, "--batch=3"]):
        pretended.clear()
        assert __main__.main(words) == 2
        assert "contains runs of one with other settings" in capsys.readouterr().err
        assert pretended == []
    assert __main__.main(argv) == 0
    assert [words[0] for words in pretended].count("train") == 2


def test_a_batch_that_the_split_does_not_fill_is_told_before_anything_is_run(
    argv: list[str], asked: list[list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert __main__.main([*argv, "--batch=100"]) == 2
    assert "its batch of 100 is larger than the split, which has 12 samples" in capsys.readouterr().err
    assert asked == []


def test_damaged_results_are_named(
    argv: list[str], pretended: list[list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert __main__.main(argv) == 0
    result = next((tmp_path / "compared").glob("one/seed-0/run/eval/compare/knn/results.json"))
    for text in ("{", "[]"):
        result.write_text(text)
        assert __main__.main(argv) == 1
        assert f"{result}: is damaged" in capsys.readouterr().err


def test_a_damaged_run_json_costs_its_facts_and_not_the_table(
    argv: list[str], pretended: list[list[str]], tmp_path: Path
) -> None:
    assert __main__.main(argv) == 0
    (tmp_path / "compared/one/seed-0/run/run.json").write_text("{")

    assert __main__.main(argv) == 0
    assert "| one |" in (tmp_path / "compared/table.md").read_text()


def test_no_child_is_told_the_secret_of_an_address(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Its words say ***, its environment names a file that only this user can read; the error says neither."""
    shards = Address("https://ann:s3cr3tCANARY@example.org/set?sig=CANARY")
    script = tmp_path / "child.py"
    script.write_text(
        "import os, sys, stat\n"
        "place = os.environ['KS_ADDRESSES']\n"
        "print(sys.argv[1:], oct(stat.S_IMODE(os.stat(place).st_mode)), open(place).read(), file=sys.stderr)\n"
        "sys.exit(2)\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(RunError) as caught:
        compare._do("child", ["--shards", str(shards)], shards, Stop())

    told = capfd.readouterr().err
    assert told.startswith("['--shards', 'https://***@example.org/set?***'] 0o600 https://ann:s3cr3tCANARY@")
    assert "CANARY" not in str(caught.value)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "no recipe given; usage: ks-train compare RECIPE"),
        (["avcl_tiny", "avcl_tiny"], "two recipes have the same name"),
        (["avcl_tiny", "--seeds=a"], "--seeds a: must be integers"),
        (["avcl_tiny", "--seeds=0,1,0"], "--seeds 0,1,0: contains a seed twice"),
        (["avcl_tiny", "--protocols=lineer"], "there is no 'lineer'"),
        (["avcl_tiny", "--steps", "3"], "--steps: is an option of ks-train; give it after --"),
        (["avcl_tiny", "--optim.lr=1"], "--optim.lr: is an option of ks-train"),
        (["avcl_tiny", "--stepz", "3"], "--stepz: there is no such option"),
        (["avcl_tiny", "--", "--seed=3"], "--seed=3 after --: is set by this command"),
    ],
)
def test_what_cannot_be_compared_is_refused(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert __main__.main(["compare", *words]) == 2
    assert said in capsys.readouterr().err


@pytest.mark.slow_campaign
def test_each_command_is_a_process_of_its_own(argv: list[str], tmp_path: Path) -> None:
    words = [*argv[:2], *[word for word in argv[3:] if not word.startswith(("--seeds", "--protocols"))]]
    place = words.index("--")
    assert __main__.main([*words[:place], "--seeds=0", "--protocols=knn", *words[place:]]) == 0

    assert (tmp_path / "compared" / "one" / "seed-0" / "run" / "eval" / "compare" / "knn" / "results.json").is_file()
    assert (tmp_path / "compared" / "table.md").is_file()
