"""The examples work as they stand, on a set that ks-shard packed, and import nothing of ours."""

import ast
import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kinetics_sounds import stream
from kinetics_sounds.pipelines import shard

from .pipelines.conftest import inline
from .pipelines.layouts.conftest import make_build

SCRIPT = Path(__file__).parents[1] / "examples/read_shards.py"
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def example() -> Any:
    spec = importlib.util.spec_from_file_location("read_shards", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    build = make_build(tmp_path_factory.mktemp("build"))
    with pytest.MonkeyPatch.context() as patch:
        inline(patch)
        assert shard.main(["--manifest", str(build.manifest), "--short_side", "32", "--workers", "1"]) == 0
    return build.folder / "shards"


# webdataset and datasets leave their files to the garbage collector.
@pytest.mark.filterwarnings("ignore:Exception ignored in:pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("reader", ["torch", "webdataset", "datasets"])
def test_every_reader_gives_what_is_stored(
    reader: str, example: Any, shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_DATASETS_OFFLINE", "1")  # huggingface_hub, once imported offline, stays so
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    split = stream.open_split(shards, "train")
    expected = {}
    for number in range(len(split)):
        with stream.sample(split, number) as sample:
            expected[sample.key] = (sample.label_index, sample.mel())

    found = {key: (label, mel) for key, label, mel in example.READERS[reader](str(shards / "train"))}

    assert set(found) == set(expected) == {"-abc_000007_000012", "b_1_000000_000005", "short_000001_000004"}
    for key, (label, mel) in expected.items():
        assert found[key][0] == label
        np.testing.assert_array_equal(found[key][1], mel)


def test_the_example_imports_nothing_of_ours() -> None:
    nodes = list(ast.walk(ast.parse(SCRIPT.read_text())))
    names = {each.name for node in nodes if isinstance(node, ast.Import) for each in node.names}
    names |= {node.module or "." for node in nodes if isinstance(node, ast.ImportFrom)}

    assert not [name for name in names if name.partition(".")[0] in ("kinetics_sounds", "pipelines", "train", "")]
