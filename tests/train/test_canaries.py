"""No secret of the address of a set is told by the commands that read one: not in a file, an output or a command line."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from kinetics_sounds import address, remote
from kinetics_sounds.pipelines import shard
from kinetics_sounds.train import evaluate, pretrain

from ..canaries import ODD, Argv, argv, sing, spoiled
from ..wire import FileServer

__all__ = ["argv"]


@pytest.fixture
def server(shards: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FileServer]:
    """The set `set` over HTTP."""
    monkeypatch.setattr(remote, "BACKOFF", replace(remote.BACKOFF, attempts=1))
    server = FileServer(ranges=True)
    server.files.update(
        {f"set/{path.relative_to(shards)}": path.read_bytes() for path in shards.rglob("*") if path.is_file()}
    )
    yield server
    server.close()


def train(small: Callable[..., list[str]], out: Path, url: str, *more: str) -> list[str]:
    words = [
        word for word in small(out, f"--cache={out.parent / 'cache'}", "--steps=2", *more) if "--shards" not in word
    ]
    return [*words, f"--shards={url}"]


def test_a_run_that_learns_from_a_url_keeps_no_secret_and_says_how_it_is_given_again(
    small: Callable[..., list[str]],
    server: FileServer,
    tmp_path: Path,
    argv: Argv,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    url, out = spoiled(server.url("set")), tmp_path / "run"
    shown = f"http://***@127.0.0.1:{server.port}/set?***#***"

    assert pretrain.main(train(small, out, url)) == 0
    assert sing(tmp_path, argv, capsys) == []
    config = (out / "config.yaml").read_text()
    assert config.startswith("# *** in an address hides a secret")
    assert yaml.safe_load(config)["shards"] == shown

    again = [f"--config={out / 'config.yaml'}", "--steps=3"]
    assert pretrain.main(again) == 2
    assert f"{shown}: *** hides a secret, and KS_ADDRESSES has no" in capsys.readouterr().err

    monkeypatch.setenv(address.VARIABLE, f"http://other.example/set?sig=x {url}")
    assert pretrain.main(again) == 0
    assert sing(tmp_path, argv, capsys) == []


@pytest.mark.parametrize(
    ("code", "put", "more"),
    [
        (2, {"set/dataset.json": None}, ()),
        (2, {"set/dataset.json": b"<html>"}, ()),
        (2, {"set/train/train-000000.json": None}, ()),
        (2, {"set/train/train-000001.tar": b"short"}, ()),
        (2, {}, ("--train_split=nope",)),
        (2, {}, ("--batch=400",)),
        (2, {}, ("--shardz=URL",)),
        (2, {}, ("--config=URL",)),
        (2, {}, ("--init_from=URL",)),
        (2, {}, ("--cache_gb=0.000001",)),
        (2, {"set/train/train-000000.tar": b"flip"}, ()),
    ],
)
def test_no_failure_of_a_run_tells_a_secret(
    code: int,
    put: dict[str, bytes | None],
    more: tuple[str, ...],
    small: Callable[..., list[str]],
    server: FileServer,
    tmp_path: Path,
    argv: Argv,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name, data in put.items():
        whole = server.files.pop(name)
        if data == b"flip":
            data = bytes([whole[0] ^ 1]) + whole[1:]
        server.files |= {} if data is None else {name: data}
    url = spoiled(server.url("set"))

    words = train(small, tmp_path / "run", url, *(word.replace("URL", url) for word in more))
    assert pretrain.main(words) == code
    assert sing(tmp_path, argv, capsys) == []


@pytest.mark.parametrize("odd", [ODD])
@pytest.mark.parametrize("word", ["--shrads=URL", "--out=URL", "--config=URL", "--init_from=URL", "--batch=URL"])
def test_no_misspelt_option_tells_a_secret_that_holds_quotes_and_blanks(
    word: str, odd: str, tmp_path: Path, argv: Argv, capsys: pytest.CaptureFixture[str]
) -> None:
    assert pretrain.main([word.replace("URL", spoiled("https://host.example/set", odd=odd))]) == 2
    assert sing(tmp_path, argv, capsys) == []


@pytest.mark.parametrize("fault", ["refused", "denied", "busy", "unknown", "nowhere"])
@pytest.mark.parametrize("command", ["train", "bench", "eval", "finetune", "vote", "cam", "verify"])
def test_no_command_that_cannot_have_a_set_tells_a_secret(
    command: str,
    fault: str,
    small: Callable[..., list[str]],
    finished: Path,
    server: FileServer,
    tmp_path: Path,
    argv: Argv,
    capsys: pytest.CaptureFixture[str],
) -> None:
    url = spoiled(server.url("set"))
    server.statuses += {"denied": [403] * 9, "busy": [503] * 9}.get(fault, [])
    url = {"refused": spoiled("http://127.0.0.1:9/set"), "unknown": spoiled("ftp://host/set")}.get(fault, url)
    url = spoiled("http://no such host/set") if fault == "nowhere" else url
    judged = [f"--run={finished}", f"--shards={url}", f"--out={tmp_path / 'out'}"]

    code = {
        "train": lambda: pretrain.main(train(small, tmp_path / "run", url)),
        "bench": lambda: pretrain.main(["bench", *train(small, tmp_path / "run", url)]),
        "eval": lambda: evaluate.main(["crossmodal", *judged]),
        "finetune": lambda: evaluate.main(["finetune", *judged]),
        "vote": lambda: evaluate.main(["vote", *judged]),
        "cam": lambda: evaluate.main(["cam", *judged]),
        "verify": lambda: shard.main([f"--verify={url}"]),
    }[command]()

    assert code == 2
    assert sing(tmp_path, argv, capsys) == []


def test_no_judgement_of_a_set_at_a_url_tells_a_secret(
    finished: Path, server: FileServer, tmp_path: Path, argv: Argv, capsys: pytest.CaptureFixture[str]
) -> None:
    more = [f"--run={finished}", f"--shards={spoiled(server.url('set'))}", f"--cache={tmp_path / 'cache'}"]
    more += ["--workers=0", "--device=cpu"]

    assert evaluate.main(["crossmodal", *more, "--clips=1", f"--out={tmp_path / 'cross'}"]) == 0
    tuned = ["--epochs=1", "--batch=4", "--clips=1", f"--out={tmp_path / 'tuned'}"]
    assert evaluate.main(["finetune", *more, *tuned]) == 0
    assert (
        shard.main([f"--verify={spoiled(server.url('set'))}"]) == 1
    )  # the set of these tests says other keys than it has
    assert sing(tmp_path, argv, capsys) == []
