"""`ks-shard --dataset` with processes of its own, killed at random moments: in the end it is as if nothing had happened."""

from pathlib import Path

import pytest

from kinetics_sounds import manifest

from ...conftest import inline
from ...test_kill import run_killed
from . import shapes
from .test_datasets import packed


@pytest.mark.slow_campaign
def test_a_data_set_killed_again_and_again_is_packed_with_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = shapes.esc50(tmp_path / "esc")
    inline(monkeypatch)
    assert packed("esc50", folder) == 0
    undisturbed, killed = tmp_path / "data/esc50", tmp_path / "killed"

    argv = ["--dataset=esc50", f"--folder={folder}", f"--manifest={killed / 'manifest.parquet'}", "--workers=2"]
    code = run_killed("shard", [*argv, "--short_side=32"], kills=4, longest_seconds=4.0)

    assert code == 0
    assert manifest.read(killed / "manifest.parquet") == manifest.read(undisturbed / "manifest.parquet")
    tars = [path.relative_to(undisturbed) for path in undisturbed.rglob("*.tar")]
    assert tars
    for tar in tars:
        assert (killed / tar).read_bytes() == (undisturbed / tar).read_bytes()
    assert (killed / "shards/dataset.json").read_bytes() == (undisturbed / "shards/dataset.json").read_bytes()
