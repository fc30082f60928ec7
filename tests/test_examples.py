"""The examples work as they stand, on a set that ks-shard packed, and import nothing of ours."""

import ast
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from kinetics_sounds import stream
from kinetics_sounds.pipelines import shard

from .pipelines.conftest import inline
from .pipelines.layouts.conftest import make_build

SCRIPT = Path(__file__).parents[1] / "examples/read_shards.py"
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    build = make_build(tmp_path_factory.mktemp("build"))
    with pytest.MonkeyPatch.context() as patch:
        inline(patch)
        assert shard.main(["--manifest", str(build.manifest), "--short_side", "32", "--workers", "1"]) == 0
    return build.folder / "shards"


@pytest.mark.parametrize("reader", ["torch", "webdataset", "datasets"])
def test_every_reader_gives_what_is_stored(reader: str, shards: Path, tmp_path: Path) -> None:
    """Each in a process of its own: some leave files open, and huggingface_hub, once imported offline, stays so."""
    split = stream.open_split(shards, "train")
    expected = {}
    for number in range(len(split)):
        with stream.sample(split, number) as sample:
            expected[sample.key] = (sample.label_index, sample.mel())
    environ = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    code = (
        "import importlib.util, pickle, sys\n"
        "spec = importlib.util.spec_from_file_location('read_shards', sys.argv[1])\n"
        "module = importlib.util.module_from_spec(spec)\n"
        "spec.loader.exec_module(module)\n"
        "rows = list(module.READERS[sys.argv[2]](sys.argv[3]))\n"
        "open(sys.argv[4], 'wb').write(pickle.dumps(rows))\n"
    )
    words = [SCRIPT, reader, shards / "train", tmp_path / "rows"]
    subprocess.run([sys.executable, "-c", code, *map(str, words)], check=True, env=environ)
    found = {key: (label, mel) for key, label, mel in pickle.loads((tmp_path / "rows").read_bytes())}

    assert set(found) == set(expected) == {"-abc_000007_000012", "b_1_000000_000005", "short_000001_000004"}
    for key, (label, mel) in expected.items():
        assert found[key][0] == label
        np.testing.assert_array_equal(found[key][1], mel)


USAGE = "usage: python examples/read_shards.py torch|webdataset|datasets SHARDS/SPLIT, the folder of a split's tars\n"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], USAGE),
        (["torch"], USAGE),
        (["other", "folder"], USAGE),
        (["torch", "no split"], f"no split: no tars are there\n{USAGE}"),
    ],
)
def test_other_words_are_told_the_usage(words: list[str], said: str) -> None:
    done = subprocess.run([sys.executable, SCRIPT, *words], capture_output=True, text=True, check=False)

    assert (done.returncode, done.stderr) == (1, said)


def test_frames_and_sound_of_the_first_clip_are_decoded(shards: Path) -> None:
    split = stream.open_split(shards, "train")
    with stream.sample(split, 0) as sample:
        frames, sound = sample.frames(range(sample.meta.num_frames)), sample.waveform()
    done = subprocess.run(
        [sys.executable, SCRIPT, "webdataset", shards / "train"], capture_output=True, text=True, check=True
    )

    assert done.stdout.splitlines()[-2:] == [f"{sample.key} mp4 {frames.shape}", f"{sample.key} flac {sound.shape}"]


def test_help_is_the_usage() -> None:
    done = subprocess.run([sys.executable, SCRIPT, "--help"], capture_output=True, text=True, check=True)

    assert done.stdout == USAGE


def test_the_example_imports_nothing_of_ours() -> None:
    nodes = list(ast.walk(ast.parse(SCRIPT.read_text())))
    names = {each.name for node in nodes if isinstance(node, ast.Import) for each in node.names}
    names |= {node.module or "." for node in nodes if isinstance(node, ast.ImportFrom)}

    assert not [name for name in names if name.partition(".")[0] in ("kinetics_sounds", "pipelines", "train", "")]
