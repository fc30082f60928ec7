"""Training on a set behind an S3 server, whose connections break: nothing that is learnt differs."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from kinetics_sounds import remote
from kinetics_sounds.train import pretrain

from ...shards.sets import upload
from ...wire import Proxy

pytestmark = pytest.mark.slow


def losses(out: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (out / "metrics.jsonl").read_text().splitlines()]


def test_it_is_as_on_a_disk_wherever_connections_break(
    small: Callable[..., list[str]], finished: Path, shards: Path, s3: str, wire: Proxy, tmp_path: Path
) -> None:
    """The largest shard is larger than the cuts are apart, so its download breaks more than once and goes on."""
    url = upload(shards, f"{s3}/set")
    largest = max(path.stat().st_size for path in (shards / "train").glob("*.tar"))
    wire.cut(largest // 2, most=4)
    cache = tmp_path / "cache"

    code = pretrain.main(small(tmp_path / "run", f"--shards={url}", f"--cache={cache}", "--workers=2"))

    assert code == 0
    assert losses(tmp_path / "run") == losses(finished)
    assert wire.cuts == 4
    assert (
        len([path for path in cache.iterdir() if not path.name.startswith(".")]) == 3
    )  # a copy of each shard, no parts
    assert json.loads((tmp_path / "run" / "run.json").read_bytes())["shards"] == url
    assert "\nwindow:" not in (tmp_path / "run" / "config.yaml").read_text()  # the cache holds all of it


def test_a_cache_of_two_shards_is_enough_and_never_overfull(
    small: Callable[..., list[str]], shards: Path, s3: str, tmp_path: Path
) -> None:
    url = upload(shards, f"{s3}/set")
    sizes = [path.stat().st_size for path in (shards / "train").glob("*.tar")]
    room, cache = sum(sorted(sizes)[-2:]), tmp_path / "cache"

    code = pretrain.main(small(tmp_path / "run", f"--shards={url}", f"--cache={cache}", f"--cache_gb={room / 1e9}"))

    assert code == 0
    assert sum(path.stat().st_size for path in cache.iterdir()) <= room
    assert "window: 1" in (tmp_path / "run" / "config.yaml").read_text()

    more = small(tmp_path / "run", f"--shards={url}", f"--cache={cache}", "--cache_gb=1", "--steps=7")
    assert pretrain.main(more) == 0  # a resume keeps the order that it began with, whatever the cache holds now
    assert "window: 1" in (tmp_path / "run" / "config.yaml").read_text()


def test_a_tar_of_the_right_size_with_wrong_bytes_is_named_with_its_remedy(
    small: Callable[..., list[str]],
    shards: Path,
    s3: str,
    wire: Proxy,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    url = upload(shards, f"{s3}/set")
    tar = sorted((shards / "train").glob("*.tar"))[0]
    data = bytearray(tar.read_bytes())
    data[1000] ^= 1
    (tmp_path / "tar").write_bytes(data)
    there = remote.join(url, "train", tar.name)
    remote.upload(tmp_path / "tar", there)
    wire.requests.clear()

    code = pretrain.main(small(tmp_path / "run", f"--shards={url}", f"--cache={tmp_path / 'cache'}", "--workers=2"))

    assert code == 2  # run again it would fail again
    error = capsys.readouterr().err
    assert f"{there}: its SHA-256 is not " in error
    assert "--out and --check_bytes" in error
    assert wire.count("GET", tar.name) <= 4  # by whoever fetches ahead and by the workers, and then no more
