"""Ranks that share a split see every sample once and end with the features of one process."""

import dataclasses
import importlib
import json
import socket
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from kinetics_sounds.errors import ShardError
from kinetics_sounds.stream import Split, open_split
from kinetics_sounds.train import evaluate, load
from kinetics_sounds.train.data.loader import Loading
from kinetics_sounds.train.data.workers import start_method
from kinetics_sounds.train.evaluation import features

RANKS = 2


@pytest.fixture
def ranks(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module that ranks run."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    return importlib.import_module("feature_ranks")


def test_an_empty_split_is_refused_before_the_work_begins(finished: Path, split: Split) -> None:
    empty = dataclasses.replace(split, key_N=split.key_N[:0])
    loading = Loading(workers=0, device=torch.device("cpu"))

    with pytest.raises(ShardError, match=r"'train' of the set of tiny has no samples; choose another with --on_split"):
        features.extract(load(finished), empty, clips=1, batch=4, loading=loading)


def test_embeddings_are_the_projection_heads_output(
    finished: Path, shards: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A head that doubles what video has and negates what audio has; averaged over clips like any feature."""
    encoders, split = load(finished), open_split(str(shards), "test")
    loading = Loading(workers=0, device=torch.device("cpu"))
    pooled = features.extract(encoders, split, clips=2, batch=4, loading=loading)
    monkeypatch.setattr(encoders.method, "embed", lambda name, each: each * {"video": 2, "audio": -1}[name])
    found = features.extract(encoders, split, clips=2, batch=4, loading=loading, kind="embedding")

    torch.testing.assert_close(found.video_ND, 2 * pooled.video_ND)
    torch.testing.assert_close(found.audio_ND, -pooled.audio_ND)


@pytest.mark.slow
def test_two_ranks_have_the_features_and_the_scores_of_one_process(
    ranks: Any, finished: Path, shards: Path, single: Path, tmp_path: Path
) -> None:
    """Of six samples each rank sees three; of a single one the first rank sees none."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port = listening.getsockname()[1]
    sets = {"six": (str(shards), "test"), "one": (str(single), "test")}
    (tmp_path / ranks.PLAN).write_text(json.dumps({"run": str(finished), "sets": sets, "port": port}))
    context: Any = start_method("torch")  # imported once for all of them
    processes = [context.Process(target=ranks.run, args=(rank, RANKS, tmp_path)) for rank in range(RANKS)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
    codes = [process.exitcode for process in processes]
    for process in processes:
        process.kill()

    assert codes == [0, 0]
    for name, (place, split) in sets.items():
        loading = Loading(workers=0, device=torch.device("cpu"))
        alone = features.extract(load(finished), open_split(place, split), clips=2, batch=4, loading=loading)
        for rank in range(RANKS):
            found = load_file(tmp_path / f"{rank}.safetensors")
            torch.testing.assert_close(found[f"{name}/video"], alone.video_ND, rtol=1e-4, atol=1e-6)
            torch.testing.assert_close(found[f"{name}/audio"], alone.audio_ND, rtol=1e-4, atol=1e-6)
    argv = ["knn", f"--run={finished}", f"--out={tmp_path / 'alone'}", "--workers=0", "--device=cpu", "--clips=2"]
    assert evaluate.main(argv) == 0
    shared, own = (json.loads((tmp_path / name / "results.json").read_text()) for name in ("results", "alone"))
    assert shared == own
