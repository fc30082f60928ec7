"""ks-publish run over what lies in the folder: what it deletes, what it refuses, and what a kill leaves."""

import hashlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from kinetics_sounds.classes import NOTES

from .builds import contents as bytes_of
from .builds import outcomes, published
from .test_run import FACTS, publish, result, trained, write

__all__ = ["trained"]


def test_it_lists_what_it_wrote(trained: Path, tmp_path: Path) -> None:
    publish(trained, f"--out={tmp_path / 'out'}")

    found = bytes_of(tmp_path / "out")
    lines = [f"{hashlib.sha256(data).hexdigest()}  {name}\n" for name, data in found.items() if name != "SHA256SUMS"]
    assert found["SHA256SUMS"].decode() == "".join(lines)


def test_the_license_stays_until_another_is_given(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    publish(trained, f"--out={out}")
    assert "no license is given" in capsys.readouterr().err

    for words, kept in ((["--license=cc-by-4.0"], "cc-by-4.0"), ([], "cc-by-4.0"), (["--license=mit"], "mit")):
        assert publish(trained, f"--out={out}", *words) == 0
        assert f"\nlicense: {kept}\n" in (out / "README.md").read_text()
        assert capsys.readouterr().err == ""


def test_the_dataset_stays_until_another_is_given(trained: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    options: tuple[list[str], ...] = (["--dataset=hf://datasets/ann/k32"], [], ["--dataset=hf://datasets/bob/k31"])
    for words, kept in zip(options, ("ann/k32", "ann/k32", "bob/k31"), strict=True):
        assert publish(trained, f"--out={out}", *words) == 0
        card = (out / "README.md").read_text()
        assert f"\ndatasets:\n- {kept}\n" in card
        assert f"| on the Hub | [{kept}](https://huggingface.co/datasets/{kept}) |" in card


def test_another_run_s_checkpoints_are_not_deleted(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of a folder that has the same names, and of one that is ours with others' files in it."""
    mine = tmp_path / "mine"
    (mine / "checkpoints/step-00000900").mkdir(parents=True)
    (mine / "checkpoints/step-00000900/model.safetensors").write_bytes(b"weeks")
    for name in ("README.md", "config.yaml", "run.json"):
        (mine / name).write_text("{}")
    before = bytes_of(mine)
    assert publish(trained, f"--out={mine}") == 2
    assert "not a published run (SHA256SUMS is missing); choose another --out" in capsys.readouterr().err
    assert bytes_of(mine) == before

    out = tmp_path / "out"
    publish(trained, f"--out={out}")
    (out / "checkpoints/step-00000900").mkdir()
    (out / "checkpoints/step-00000900/model.safetensors").write_bytes(b"weeks")
    (out / ".git").mkdir()
    (out / ".git/config").write_text("[core]")
    assert publish(trained, f"--out={out}", "--checkpoint=best") == 0
    assert (out / "checkpoints/step-00000900/model.safetensors").read_bytes() == b"weeks"
    assert (out / ".git/config").read_text() == "[core]"
    assert not (out / "checkpoints/step-00000500").exists()


def test_what_was_changed_by_hand_is_not_written_over(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    publish(trained, f"--out={out}")
    (out / "README.md").write_text("better")
    assert publish(trained, f"--out={out}", "--checkpoint=best") == 2
    assert "README.md was changed" in capsys.readouterr().err
    assert (out / "checkpoints/step-00000500/model.safetensors").is_file()


def test_a_file_in_the_way_is_named(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    publish(trained, f"--out={out}")
    (out / "results/linear.json").write_text("mine")
    write(trained, "linear", result())
    assert publish(trained, f"--out={out}") == 2
    assert "results/linear.json was not written by ks-publish" in capsys.readouterr().err
    assert (out / "results/linear.json").read_text() == "mine"


def test_a_published_set_is_no_published_run(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = published(tmp_path, outcomes(3))
    before = bytes_of(out)
    assert publish(trained, f"--out={out}") == 2
    assert "something other than a published run" in capsys.readouterr().err
    assert bytes_of(out) == before
    assert publish(trained, "--out=/") == 2


KILLED = """
import os, signal, sys
from kinetics_sounds.pipelines import publish
from kinetics_sounds.pipelines.publishing import swap
swap.exchange = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)
sys.exit(publish.main())
"""


def test_a_kill_leaves_the_folder_as_it_was_and_the_next_run_goes_on(trained: Path, tmp_path: Path) -> None:
    for name in ("new", "old"):
        out = tmp_path / name
        if name == "old":
            publish(trained, f"--out={out}")
        before = bytes_of(out)
        words = ["run", str(trained), f"--out={out}", "--checkpoint=best"]
        done = subprocess.run([sys.executable, "-c", KILLED, *words], capture_output=True, check=False, timeout=60)
        assert done.returncode == -signal.SIGKILL, done.stderr
        assert bytes_of(out) == before
        assert publish(trained, *words[2:]) == 0
        assert [path.name for path in (out / "checkpoints").iterdir()] == ["step-00000400"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new", "old", "run"]


def test_results_of_like_names_are_all_published(trained: Path, tmp_path: Path) -> None:
    for number, name in enumerate(("a/b", "a-b", "A-B", "a-b-2")):
        write(trained, name, result(samples=number))
    out = tmp_path / "out"
    assert publish(trained, f"--out={out}") == 0

    found = {path.stem: json.loads(path.read_text())["samples"] for path in (out / "results").iterdir()}
    assert sorted(each for each in found.values() if each < 4) == [0, 1, 2, 3]
    assert len({name.lower() for name in found}) == len(found)


def test_results_beyond_what_is_read_are_named(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("kinetics_sounds.pipelines.publishing.run_facts.MOST_RESULTS", 1)
    assert publish(trained, f"--out={tmp_path / 'out'}") == 0
    told = "left out: 1 results from eval/knn_untrained/results.json on: at most 1 are read; remove some"
    assert told in capsys.readouterr().err
    assert os.listdir(tmp_path / "out/results") == ["knn.json"]  # noqa: PTH208


def test_a_note_is_published_where_it_is_a_shipped_list_s(trained: Path, tmp_path: Path) -> None:
    for note, kept in ((NOTES["k100"], NOTES["k100"]), ("the list of alice", "")):
        (trained / "run.json").write_text(json.dumps(FACTS | {"note": note}))
        write(trained, "knn", result(note=note))
        assert publish(trained, f"--out={tmp_path / 'out'}") == 0
        for name in ("run.json", "results/knn.json"):
            assert json.loads((tmp_path / "out" / name).read_text())["note"] == kept


OTHER = "this is k100 (100 classes), the protocol is for UCF101 (101 classes): the paper's scores are not comparable"


@pytest.mark.parametrize(
    ("note", "kept", "shown"),
    [
        (OTHER, OTHER, OTHER),
        (f"{NOTES['k100']}; {OTHER}", f"{NOTES['k100']}; {OTHER}", OTHER),
        (f"{NOTES['k400']}", NOTES["k400"], "the 400 labels of Kinetics-400"),
        (f"the list of alice; {OTHER}", OTHER, OTHER),
        (OTHER.replace("k100", "/home/alice/k"), OTHER.replace("k100", "PATH"), OTHER.replace("k100", "PATH")),
        (NOTES["k100"], NOTES["k100"], ""),
        (f"{OTHER}; the list of alice", "", ""),
    ],
)
def test_the_note_of_an_evaluation_is_on_the_card(
    trained: Path, tmp_path: Path, note: str, kept: str, shown: str
) -> None:
    """That the set is not the paper's, after the note of a shipped list, which the card has if it is the training data's."""
    (trained / "run.json").write_text(json.dumps(FACTS | {"note": NOTES["k100"]}))
    write(trained, "knn", result(note=note))

    assert publish(trained, f"--out={tmp_path / 'out'}") == 0

    assert json.loads((tmp_path / "out/results/knn.json").read_text())["note"] == kept
    card = (tmp_path / "out/README.md").read_text().replace("\\", "")
    assert [line for line in card.splitlines() if line.startswith("Note: ")] == [f"Note: {shown}."] * bool(shown)
