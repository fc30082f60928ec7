"""Which texts and settings of a training run are let through."""

import re
import shlex
from pathlib import Path

import pytest
import yaml

from kinetics_sounds.errors import RunError
from kinetics_sounds.pipelines.publishing import run_facts
from kinetics_sounds.pipelines.publishing.run_facts import _text
from kinetics_sounds.train.config import recipes, settings

from .test_run import CONFIG, trained

__all__ = ["trained"]

ROOT = Path(__file__).parents[3]
DOCUMENTS = [ROOT / "README.md", *sorted(ROOT.glob("docs/*.md"))]
OTHERS = ("bench", "compare", "--list", "runs/", "torchrun", "gradcam")


def commands() -> list[str]:
    """The words behind each `ks-train` of the documents that trains."""
    lines = [
        line for path in DOCUMENTS for line in re.findall(r"(?m)^ks-train((?: [^#\n]*)?)", path.read_text("utf-8"))
    ]
    return sorted({line.strip() for line in lines if not any(word in line for word in OTHERS)})


@pytest.mark.parametrize(
    "words",
    [
        *commands(),
        *(  # a row of a table is another recipe with a change
            pytest.param(f"--config {name}", marks=[pytest.mark.slow_campaign] * ("_table" in name))
            for name in recipes.recipes()
        ),
    ],
)
def test_every_recipe_and_every_example_of_the_documents_can_be_published(trained: Path, words: str) -> None:
    parsed = settings.read_settings(shlex.split(words))
    (trained / "config.yaml").write_text(parsed.text)

    found = run_facts.collect(trained, "last")
    told = yaml.safe_load(parsed.text)
    assert found.config["method"] == told["method"]
    assert all(found.config[name] == told[name] for name in found.config)
    assert told["method"] in found.config or told["method"] not in told


def test_the_documents_have_examples_with_several_words() -> None:
    assert any(re.search(r"\w,\w", words) for words in commands())


@pytest.mark.parametrize("text", ["flip, grey", "flip,grey", "a,b,c.d+e", ""])
def test_words_with_commas_are_a_setting(trained: Path, text: str) -> None:
    config = CONFIG | {"clip_and_mel": {"video_augment": text}}
    (trained / "config.yaml").write_text(yaml.safe_dump(config))
    assert run_facts.collect(trained, "last").config["clip_and_mel"] == {"video_augment": text}


@pytest.mark.parametrize(
    "text", ["a,/home/alice", "a,,b", "a;b", "flip and grey", "a,b\n", "x" * 101, ",".join("x" * 60)]
)
def test_other_texts_are_none(trained: Path, text: str) -> None:
    config = CONFIG | {"clip_and_mel": {"video_augment": text}}
    (trained / "config.yaml").write_text(yaml.safe_dump(config))
    with pytest.raises(RunError, match="which is not a valid setting"):
        run_facts.collect(trained, "last")


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("of /home/ann/lists/k32.txt", "of PATH"),
        ("see /home/alice", "see PATH"),
        ("~/my runs/x", "PATH"),
        ("~alice/x/y", "PATH"),
        ("by ~alice", "by PATH"),
        ("./y/z and ../other/x", "PATH"),  # a folder may have blanks in its name
        ("home/alice/x/y", "PATH"),
        ("home/alice", "PATH"),
        ("data/alice/x", "PATH"),
        (r"C:\Users\ann\x", "PATH"),
        (r"\\server\share\alice\x", "PATH"),
        (r"alice\x", "PATH"),
        ("file:///home/alice/d/a.txt", "PATH"),
        ("FILE:/home/alice", "PATH"),
        ("git+file:///home/alice/x", "PATH"),
        ("s3:///home/alice/x", "PATH"),
        ("local:/home/alice/x", "PATH"),
        ("key=/home/alice/x", "key=PATH"),
        ("alice@host:/export/alice", "PATH"),
        ("n/a, 1/2", "n/a, 1/2"),
        ("1/2/2026, ~5 ms, this and / or that", "1/2/2026, ~5 ms, this and / or that"),
        ("2.9.0+cpu", "2.9.0+cpu"),
        ("s3://user:word@bucket/set?sig=1", "s3://***@bucket/set?***"),
        ("see https://example.org/a/b/c now", "see https://example.org/a/b/c now"),
        ("two\nlines", "two lines"),
    ],
)
def test_a_text_names_no_folder_and_no_secret(text: str, left: str) -> None:
    assert _text(text) == left
