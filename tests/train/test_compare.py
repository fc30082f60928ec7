"""ks-train compare: every run and judgement once, gone on with after a stop, and one table."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from kinetics_sounds.address import Address
from kinetics_sounds.command import Stop
from kinetics_sounds.errors import RunError
from kinetics_sounds.train import __main__, compare, evaluate, pretrain
from kinetics_sounds.train.config import recipes

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
    assert {path.parent.name for path in out.glob("*/*/results/*/results.json")} == {"knn", "crossmodal"}
    assert (out / "table.md").read_text() in capsys.readouterr().out
    assert (out / "table.csv").read_text().count("\none,0,knn,top1,") == 1
    seeds = {json.loads((path / "run" / "run.json").read_text())["recipe"] for path in out.glob("*/seed-*")}
    assert seeds == {"one", "two"}

    asked.clear()
    table = (out / "table.md").read_bytes()
    assert __main__.main(argv) == 0
    assert asked == []
    assert (out / "table.md").read_bytes() == table


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


def test_a_plan_runs_nothing_and_tells_disk_and_steps(
    argv: list[str], asked: list[list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert __main__.main([*argv[: argv.index("--")], "--plan", *argv[argv.index("--") :]]) == 0

    told = capsys.readouterr().out
    assert "4 runs: 2 recipes from 2 seeds" in told
    assert "2 steps a run" in told
    assert "GB of checkpoints" in told
    assert asked == []
    assert not (tmp_path / "compared").exists()


def test_a_recipe_that_changed_does_not_take_over_what_the_other_one_reached(
    argv: list[str], asked: list[list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also one of the same name in another folder; a further recipe is welcome."""
    first = [argv[0], argv[1], *argv[3:]]
    assert __main__.main(first) == 0
    other = tmp_path / "other" / "one.yaml"
    other.parent.mkdir()
    other.write_text((tmp_path / "two.yaml").read_text())
    for words in ([argv[0], str(other), *argv[3:]], [*first, "--batch=3"]):
        asked.clear()
        assert __main__.main(words) == 2
        assert "holds runs of one with other settings" in capsys.readouterr().err
        assert asked == []
    assert __main__.main(argv) == 0
    assert [words[0] for words in asked].count("train") == 2


def test_a_batch_that_the_split_does_not_fill_is_told_before_anything_is_run(
    argv: list[str], asked: list[list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert __main__.main([*argv, "--batch=100"]) == 2
    assert "its batch of 100 is larger than the split, which has 12 samples" in capsys.readouterr().err
    assert asked == []


def test_damaged_results_are_named(
    argv: list[str], asked: list[list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert __main__.main(argv) == 0
    result = next((tmp_path / "compared").glob("one/seed-0/results/knn/results.json"))
    for text in ("{", "[]"):
        result.write_text(text)
        assert __main__.main(argv) == 1
        assert f"{result}: is damaged" in capsys.readouterr().err


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
        ([], "no recipe is named; usage: ks-train compare RECIPE"),
        (["avcl_tiny", "avcl_tiny"], "two recipes are called alike"),
        (["avcl_tiny", "--seeds=a"], "--seeds a: must be whole numbers"),
        (["avcl_tiny", "--protocols=lineer"], "nothing is called 'lineer'"),
        (["avcl_tiny", "--", "--seed=3"], "--seed=3 behind --: is this command's to say"),
    ],
)
def test_what_cannot_be_compared_is_refused(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert __main__.main(["compare", *words]) == 2
    assert said in capsys.readouterr().err


@pytest.mark.slow
def test_each_command_is_a_process_of_its_own(argv: list[str], tmp_path: Path) -> None:
    words = [*argv[:2], *[word for word in argv[3:] if not word.startswith(("--seeds", "--protocols"))]]
    place = words.index("--")
    assert __main__.main([*words[:place], "--seeds=0", "--protocols=knn", *words[place:]]) == 0

    assert (tmp_path / "compared" / "one" / "seed-0" / "results" / "knn" / "results.json").is_file()
    assert (tmp_path / "compared" / "table.md").is_file()
