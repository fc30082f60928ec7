import contextlib
import hashlib
import importlib
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from kinetics_sounds import answers, file_systems, remote
from kinetics_sounds.errors import RemoteError

from .wire import FileServer, Proxy

SIZE = 1_000_003
DATA = (b"a shard " * (SIZE // 8 + 1))[: SIZE - 3] + b"end"
SHA256 = hashlib.sha256(DATA).hexdigest()


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """Little patience, small pieces, and none of s3fs's own tries, so that ours are what is seen."""
    monkeypatch.setattr(remote, "BACKOFF", replace(remote.BACKOFF, longest_seconds=0.01))
    monkeypatch.setattr(remote, "PIECE", 200_000)
    monkeypatch.setattr(remote, "SMALLEST_PIECE", 50_000)
    monkeypatch.setattr("s3fs.core.S3FileSystem.retries", 1)


@pytest.fixture(params=[True, False], ids=["ranges", "no ranges"])
def server(request: pytest.FixtureRequest) -> Iterator[FileServer]:
    server = FileServer(ranges=request.param)
    yield server
    server.close()


@pytest.fixture(params=["s3", "http", "file", "memory"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """URL of an empty folder."""
    if request.param == "http":
        server = FileServer(ranges=True)
        yield server.url("set")
        server.close()
    elif request.param == "s3":
        yield request.getfixturevalue("s3") + "/set"
    else:
        yield f"{request.param}://{tmp_path}/set"


@pytest.fixture
def local(tmp_path: Path) -> Path:
    path = tmp_path / "local"
    path.write_bytes(DATA)
    return path


def fetch(url: remote.Url, path: Path, *, size: int = SIZE, sha256: str = SHA256) -> None:
    remote.download(url, path, size=size, sha256=sha256)


def test_a_copy_to_be_summed_lies_in_the_folder_that_is_given(local: Path, tmp_path: Path) -> None:
    assert remote.sha256(f"file://{local}", size=SIZE, folder=tmp_path) == SHA256
    assert list(tmp_path.iterdir()) == [local]

    with pytest.raises(RemoteError, match=rf"{tmp_path}/gone: cannot hold the {SIZE} bytes of .*free space, or give"):
        remote.sha256(f"file://{local}", size=SIZE, folder=tmp_path / "gone")


def test_a_disk_that_fills_under_a_copy_is_named(local: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    full = Path("/dev/full")
    monkeypatch.setattr(tempfile, "TemporaryFile", lambda **_: full.open("wb+", buffering=0))

    with pytest.raises(RemoteError, match=rf"{tmp_path}: cannot hold .*: No space left on device"):
        remote.sha256(f"file://{local}", size=SIZE, folder=tmp_path)


# --- Names ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url", ["s3://b/k", "gs://b/k", "hf://datasets/a/b", "http://h/x?y=1", "https://h", "file:///x"]
)
def test_a_url_is_one(url: str) -> None:
    assert remote.is_url(url)


@pytest.mark.parametrize("path", ["", "shards", "/data/shards", "../x", "~/x", "a:b", "/data/http://x", "./pipe:x"])
def test_a_path_is_none(path: str) -> None:
    assert not remote.is_url(path)


@pytest.mark.parametrize(
    "text", ["pipe:cat x", "PIPE:cat x", "simplecache::s3://b/k", "s3://b/a::zip://x", "ftp://h/x", "github://a:b@c/x"]
)
def test_what_runs_commands_chains_or_is_unknown_is_refused(text: str) -> None:
    with pytest.raises(RemoteError, match="this kind of URL is not supported"):
        remote.is_url(text)
    with pytest.raises(RemoteError, match="this kind of URL is not supported"):
        remote.read(text, most=10)


def test_a_join_is_below_and_keeps_the_query() -> None:
    assert remote.join("s3://b/set/", "train", "train-000000.tar").real == "s3://b/set/train/train-000000.tar"
    assert remote.join("https://h/set?token=x", "dataset.json").real == "https://h/set/dataset.json?token=x"


@pytest.mark.parametrize("name", ["..", ".", "", "a/b", "a?b", "a#b", "a b", "a\n", "%2e%2e"])
def test_a_name_that_leads_elsewhere_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="is not a file name"):
        remote.join("s3://b/set", name)


# --- There and back -------------------------------------------------------------------------------------------------


def test_a_copy_is_on_disk_before_it_has_its_name(local: Path, tmp_path: Path, disk_acts: list[str]) -> None:
    (tmp_path / "copies").mkdir()
    fetch(f"file://{local}", tmp_path / "copies/back")

    assert disk_acts[-3:] == ["sync back.part", "rename back.part back", "sync copies"]


def test_what_is_uploaded_is_there_and_comes_back(folder: str, local: Path, tmp_path: Path) -> None:
    url = remote.join(folder, "train", "x.tar")
    assert remote.size(url) is None

    remote.upload(local, url)

    assert remote.size(url) == SIZE
    assert remote.read(url, most=SIZE) == DATA
    fetch(url, tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == DATA
    assert not list(tmp_path.glob("*.part"))
    local.write_bytes(DATA[:10])
    remote.upload(local, url)
    assert remote.read(url, most=SIZE) == DATA[:10]


def test_a_file_larger_than_allowed_is_not_read(folder: str, local: Path) -> None:
    url = remote.join(folder, "x")
    remote.upload(local, url)

    with pytest.raises(RemoteError, match=f"x: is larger than {SIZE - 1} bytes"):
        remote.read(url, most=SIZE - 1)


def test_of_a_file_larger_than_allowed_no_more_is_read_than_tells_so(
    tmp_path: Path, memory: Callable[[int], contextlib.AbstractContextManager[None]]
) -> None:
    with (tmp_path / "x").open("wb") as file:
        file.truncate(64 << 20)  # of zeros, none of which is stored
    (tmp_path / "small").write_bytes(b"x")

    with pytest.raises(RemoteError, match="is larger than 0 bytes"):  # what has to be imported is imported
        remote.read(f"file://{tmp_path}/small", most=0)
    with memory(8 << 20), pytest.raises(RemoteError, match="is larger than 1000 bytes"):
        remote.read(f"file://{tmp_path}/x", most=1000)


def test_what_is_not_there_is_named_at_once(folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.sleep", lambda _: pytest.fail("waited for what will not come"))
    url = remote.join(folder, "nothing")

    with pytest.raises(RemoteError, match="nothing: does not exist"):
        remote.read(url, most=10)
    with pytest.raises(RemoteError, match="nothing: does not exist"):
        fetch(url, tmp_path / "x")


def test_an_error_of_ours_is_not_its_own_cause() -> None:
    with pytest.raises(RemoteError) as caught:
        remote.size("http:///no-host")

    assert caught.value.__cause__ is not caught.value


def test_a_folder_is_no_file(s3: str, local: Path) -> None:
    remote.upload(local, f"{s3}/set/x")

    assert remote.size(f"{s3}/set") is None


def test_an_upload_that_arrives_cut_short_is_an_error(local: Path) -> None:
    server = FileServer(ranges=True)
    server.lost = 1
    with pytest.raises(RemoteError, match=rf"x: has {SIZE - 1} bytes after {SIZE} of {local} were uploaded"):
        remote.upload(local, server.url("x"))
    server.close()


# --- What may be wrong with a file ----------------------------------------------------------------------------------


def test_another_checksum_is_an_error_and_leaves_nothing(folder: str, local: Path, tmp_path: Path) -> None:
    url = remote.join(folder, "x.tar")
    remote.upload(local, url)

    with pytest.raises(RemoteError, match=r"x.tar: its SHA-256 is not 0000.*: it was damaged or replaced"):
        fetch(url, tmp_path / "back", sha256="0" * 64)
    assert {path.name for path in tmp_path.iterdir()} <= {"local", "set"}


@pytest.mark.parametrize("wrong", [SIZE - 1, SIZE + 1])
def test_another_size_is_an_error_before_a_byte_is_fetched(
    s3: str, wire: Proxy, local: Path, tmp_path: Path, wrong: int
) -> None:
    remote.upload(local, f"{s3}/x.tar")

    with pytest.raises(RemoteError, match=rf"x.tar: has {SIZE} bytes, but {wrong}"):
        fetch(f"{s3}/x.tar", tmp_path / "back", size=wrong)
    assert wire.count("GET", "x.tar") == 0


def test_a_file_that_shrinks_while_it_is_fetched_is_an_error(
    folder: str, local: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = remote.join(folder, "x.tar")
    remote.upload(local, url)
    monkeypatch.setattr(remote, "size", lambda _: SIZE + 5)

    with pytest.raises(RemoteError, match=rf"x.tar: is unavailable after \d+ of {SIZE + 5} bytes .*bytes early"):
        fetch(url, tmp_path / "back", size=SIZE + 5)


@pytest.mark.parametrize(
    "left",
    [b"", DATA[:700_000], DATA, b"x" * 700_000, b"x" * SIZE, DATA + b"x"],
    ids=lambda left: f"{len(left)} {left[:1]!r}",
)
def test_whatever_was_left_of_an_earlier_download_the_end_is_right(
    folder: str, local: Path, tmp_path: Path, left: bytes
) -> None:
    url = remote.join(folder, "x.tar")
    remote.upload(local, url)
    (tmp_path / "back.part").write_bytes(left)

    fetch(url, tmp_path / "back")

    assert (tmp_path / "back").read_bytes() == DATA


def test_what_an_earlier_download_got_is_not_fetched_again(s3: str, wire: Proxy, local: Path, tmp_path: Path) -> None:
    remote.upload(local, f"{s3}/x.tar")
    (tmp_path / "back.part").write_bytes(DATA[:900_000])
    before = wire.sent

    fetch(f"{s3}/x.tar", tmp_path / "back")

    assert 100_000 < wire.sent - before < 120_000


def test_a_full_disk_is_named(s3: str, local: Path, tmp_path: Path) -> None:
    remote.upload(local, f"{s3}/x.tar")
    (tmp_path / "back.part").symlink_to("/dev/full")

    with pytest.raises(OSError, match=r"No space left on device: '.*back.part'"):
        fetch(f"{s3}/x.tar", tmp_path / "back")


# --- What may be wrong with a line ----------------------------------------------------------------------------------


def test_a_download_goes_on_after_every_cut(s3: str, wire: Proxy, local: Path, tmp_path: Path) -> None:
    """The line breaks after every 150 kB: pieces of 200 kB never come through, most of 50 kB do."""
    remote.upload(local, f"{s3}/x.tar")
    wire.cut(150_000)

    fetch(f"{s3}/x.tar", tmp_path / "back")

    assert (tmp_path / "back").read_bytes() == DATA
    assert wire.cuts > (remote.BACKOFF.attempts or 0)  # tries are counted anew when more came


def test_a_download_gives_up_and_the_next_goes_on(s3: str, wire: Proxy, local: Path, tmp_path: Path) -> None:
    remote.upload(local, f"{s3}/x.tar")
    (tmp_path / "back.part").write_bytes(DATA[:600_000])
    wire.cut(20_000)

    with pytest.raises(RemoteError, match=rf"{s3}/x.tar: is unavailable after 600000 of {SIZE} bytes \(.*run again"):
        fetch(f"{s3}/x.tar", tmp_path / "back")
    assert wire.count("GET", "x.tar") == 4
    assert (tmp_path / "back.part").stat().st_size == 600_000
    assert not (tmp_path / "back").exists()

    wire.cut(0, most=0)
    fetch(f"{s3}/x.tar", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == DATA


def test_a_file_that_is_streamed_goes_on_after_every_cut(s3: str, wire: Proxy, local: Path) -> None:
    remote.upload(local, f"{s3}/x.tar")
    wire.cut(150_000)

    assert b"".join(remote.chunks(f"{s3}/x.tar")) == DATA
    assert wire.cuts > (remote.BACKOFF.attempts or 0)


@pytest.mark.parametrize("cut", [False, True])
def test_a_file_that_is_replaced_while_it_is_streamed_is_not_joined(
    cut: bool, s3: str, wire: Proxy, local: Path, tmp_path: Path
) -> None:
    remote.upload(local, f"{s3}/x.tar")
    (tmp_path / "other").write_bytes(DATA[::-1])
    chunks = remote.chunks(f"{s3}/x.tar")
    found = [next(chunks)]
    remote.upload(tmp_path / "other", f"{s3}/x.tar")
    wire.cut(0, most=int(cut))

    with pytest.raises(RemoteError, match=r"x.tar: was replaced while it was read; run again"):
        found.extend(chunks)

    assert DATA.startswith(b"".join(found))


def test_a_file_that_is_replaced_when_its_last_piece_was_read_is_noticed(s3: str, local: Path, tmp_path: Path) -> None:
    remote.upload(local, f"{s3}/x.tar")
    (tmp_path / "other").write_bytes(DATA[::-1])
    chunks, found = remote.chunks(f"{s3}/x.tar"), b""
    while len(found) < SIZE:
        found += next(chunks)
    assert found == DATA
    remote.upload(tmp_path / "other", f"{s3}/x.tar")

    with pytest.raises(RemoteError, match=r"x.tar: was replaced while it was read; run again"):
        next(chunks)


def test_files_below_a_folder_are_found_with_their_sizes(s3: str, local: Path) -> None:
    for name in ("a/b/x.tar", "a/y.tar", "ab/z.tar"):
        remote.upload(local, f"{s3}/{name}")

    assert remote.find(f"{s3}/a/") == {"b/x.tar": SIZE, "y.tar": SIZE}
    assert remote.find(f"{s3}/none") == {}
    with pytest.raises(RemoteError, match=r"none.tar: does not exist; check the URL"):
        list(remote.chunks(f"{s3}/none.tar"))


def test_a_small_file_is_read_through_a_cut(s3: str, wire: Proxy, local: Path) -> None:
    remote.upload(local, f"{s3}/x.json")
    wire.cut(100_000, most=2)

    assert remote.read(f"{s3}/x.json", most=SIZE) == DATA
    assert wire.cuts == 2


def test_an_upload_is_sent_again_after_a_cut(s3: str, wire: Proxy, local: Path) -> None:
    wire.cut(10, most=2)

    remote.upload(local, f"{s3}/x")

    assert remote.read(f"{s3}/x", most=SIZE) == DATA
    assert wire.cuts == 2


def test_no_server_is_an_error_and_not_an_absent_file(s3: str, wire: Proxy) -> None:
    wire.close()

    with pytest.raises(RemoteError, match=r"x: is unavailable"):
        remote.size(f"{s3}/x")
    with pytest.raises(RemoteError, match=r"x: is unavailable"):
        remote.size(f"http://127.0.0.1:{wire.port}/x")


# --- HTTP -----------------------------------------------------------------------------------------------------------


def test_a_server_is_read_whether_it_knows_of_ranges_or_not(server: FileServer, tmp_path: Path) -> None:
    server.files["x.tar"] = DATA

    assert remote.size(server.url("x.tar")) == SIZE
    assert remote.read(server.url("x.tar?token=1"), most=SIZE) == DATA
    fetch(server.url("x.tar"), tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == DATA


def test_a_cut_is_mended_whether_a_server_knows_of_ranges_or_not(server: FileServer, tmp_path: Path) -> None:
    server.files["x.tar"] = DATA
    proxy = Proxy(server.port)
    proxy.cut(450_000, most=2)

    fetch(server.url("x.tar", proxy.port), tmp_path / "back")

    assert (tmp_path / "back").read_bytes() == DATA
    assert proxy.cuts == 2
    proxy.close()


def test_a_server_without_ranges_on_a_bad_line_is_given_up(tmp_path: Path) -> None:
    server = FileServer(ranges=False)
    server.files["x.tar"] = DATA
    proxy = Proxy(server.port)
    proxy.cut(450_000)

    with pytest.raises(RemoteError, match=r"x.tar: is unavailable after \d+ of 1000003 bytes"):
        fetch(server.url("x.tar", proxy.port), tmp_path / "back")
    assert proxy.cuts < 60  # not for ever; how many depends on how much came before each cut
    proxy.close()
    server.close()


@pytest.mark.parametrize(("status", "passes"), [(503, True), (429, True), (500, True), (403, False), (401, False)])
def test_a_refusal_for_now_passes_and_one_for_good_is_told(server: FileServer, status: int, *, passes: bool) -> None:
    server.files["x"] = DATA
    server.statuses = [status] * 4  # fsspec asks with HEAD, then with GET

    if passes:
        assert remote.read(server.url("x"), most=SIZE) == DATA
        assert not server.statuses
    else:
        with pytest.raises(RemoteError, match=f"x: is unavailable .*{status}"):
            remote.read(server.url("x"), most=SIZE)
        assert len(server.statuses) == 2
    server.statuses = [status] * 2
    if passes:
        assert remote.size(server.url("x")) == SIZE


@pytest.mark.parametrize("status", [429, 503])
def test_a_server_that_asks_to_wait_is_waited_for(
    server: FileServer, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    waits: list[float] = []
    clock = SimpleNamespace(monotonic=lambda: sum(waits), sleep=waits.append, time=time.time)
    monkeypatch.setattr(answers, "time", clock)
    server.files["x"] = DATA
    server.statuses, server.headers = [status] * 2, {"Retry-After": "30"}

    assert remote.read(server.url("x"), most=SIZE) == DATA
    assert sum(waits) == pytest.approx(30)


def test_no_secret_of_a_url_is_in_a_message(server: FileServer) -> None:
    port = server.port
    server.statuses = [403] * 20
    for url in (
        f"http://me:hunter22@127.0.0.1:{port}/x?token=abcd1234",
        "http://me:hunter22@127.0.0.1:9/x?token=abcd1234",
    ):
        with pytest.raises(RemoteError) as caught:
            remote.read(url, most=10)
        assert "/x" in str(caught.value)
        assert "hunter22" not in str(caught.value)
        assert "abcd1234" not in str(caught.value)


# --- Packages -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "package", "extra"),
    [
        ("s3://b/x", "s3fs", "s3"),
        ("gs://b/x", "gcsfs", "gs"),
        ("gcs://b/x", "gcsfs", "gs"),
        ("hf://datasets/a/b/x", "huggingface_hub", "hub"),
        ("http://h/x", "fsspec.implementations.http", "http"),
    ],
)
def test_a_missing_package_says_how_to_install_it(
    url: str, package: str, extra: str, local: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file_systems.file_system.cache_clear()
    monkeypatch.delitem(importlib.import_module("fsspec.registry")._registry, url.partition("://")[0], raising=False)
    monkeypatch.setitem(sys.modules, package, None)
    for act in (lambda: remote.read(url, most=1), lambda: remote.size(url), lambda: remote.upload(local, url)):
        with pytest.raises(RemoteError, match=rf"pip install 'kinetics-sounds\[{extra}\]'"):
            act()
    file_systems.file_system.cache_clear()
