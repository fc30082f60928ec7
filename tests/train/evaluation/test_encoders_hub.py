"""A run to the Hub and back: the same features, nothing more fetched than is read, and a stranger's run as little believed."""

import json
from pathlib import Path

import pytest
import torch

from kinetics_sounds import stream, train
from kinetics_sounds.errors import RemoteError, RunError, ShardError
from kinetics_sounds.pipelines.publishing import run

from ...hub_server import Blob, Hub

URL, NAME = "hf://ann/tiny", "models/ann/tiny"


@pytest.fixture
def sent(hub_server: Hub, finished: Path, tmp_path: Path) -> Hub:
    """A Hub that has the run."""
    assert run.publish_run([str(finished), f"--out={tmp_path / 'out'}", f"--push={URL}", "--yes"]) == 0
    return hub_server


def test_a_run_from_the_hub_gives_the_features_of_the_run_here(sent: Hub, finished: Path, shards: Path) -> None:
    here, there = train.load(finished), train.load(URL)
    with stream.sample(stream.open_split(shards, "test"), 0) as sample:
        own, back = here.features(sample), there.features(sample)

    assert torch.equal(own[0], back[0])
    assert torch.equal(own[1], back[1])
    assert there.mel == here.mel
    assert there.checkpoint
    assert there.checkpoint.name == "step-00000006"
    assert not sent.count("GET .*/resolve/.*(README|results)")


def test_the_set_of_a_run_from_the_hub_is_where_it_is_packed_by_default(
    sent: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    encoders = train.load(URL)

    assert encoders.shards == "data/tiny/shards"
    with pytest.raises(ShardError, match="data/tiny/shards: has no shard set"):
        _ = encoders.dataset


def test_a_revision_is_loaded_as_it_was(sent: Hub) -> None:
    before = sent.repos[NAME].sha()
    files = dict(sent.repos[NAME].files)
    files.pop("config.yaml")
    sent.repos[NAME].commits.append(files)

    assert train.load(f"{URL}@{before}").checkpoint
    with pytest.raises(RunError):
        train.load(URL)


def replaced(hub: Hub, name: str, data: bytes) -> None:
    """A stranger's repository."""
    hub.repos[NAME].commits.append(hub.repos[NAME].files | {name: Blob(data, lfs=False)})


def test_a_strangers_claims_are_checked_before_a_model_is_made(sent: Hub) -> None:
    text = sent.repos[NAME].files["config.yaml"].data.decode()
    replaced(sent, "config.yaml", text.replace("width: 2", "width: 1000000000").encode())

    with pytest.raises(RunError, match=r"its config.yaml describes an invalid model"):
        train.load(URL)


def test_a_file_that_no_run_of_ours_is_as_large_as_is_not_fetched(sent: Hub) -> None:
    replaced(sent, "run.json", json.dumps({"recipe": "x" * (1 << 20)}).encode())
    sent.requests.clear()

    with pytest.raises(RemoteError, match=r"its run.json has .* bytes, more than the 1048576 allowed"):
        train.load(URL)
    assert not sent.count("/resolve/")


def test_a_pickle_is_not_fetched(sent: Hub) -> None:
    replaced(sent, "checkpoints/step-00000006/model.pkl", b"cos\nsystem\n(S'true'\ntR.")

    train.load(URL)
    assert not sent.count("pkl")


def test_what_is_no_run_says_so(hub_server: Hub) -> None:
    with pytest.raises(RemoteError, match="hf://ann/none: does not exist, or is private"):
        train.load("hf://ann/none")
    with pytest.raises(RemoteError, match="is not a location on the Hub"):
        train.load("hf://none")
