import contextlib
import fcntl
import hashlib
import os
import random
import subprocess
import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kinetics_sounds import file_systems, remote
from kinetics_sounds.cache import Cache
from kinetics_sounds.errors import RemoteError

from .wire import Proxy

MB = 1_000_000
OPEN = """
import os, sys
from pathlib import Path
from kinetics_sounds import file_systems, remote
from kinetics_sounds.cache import Cache
remote.PIECE = 200_000
folder, most, url, size, sha256 = sys.argv[1:]
descriptor = Cache(Path(folder), most_bytes=int(most)).open(url, size=int(size), sha256=sha256)
sys.stdout.buffer.write(os.pread(descriptor, int(size), 0))
"""


class Shard:
    """A file at a URL."""

    def __init__(self, url: str, data: bytes) -> None:
        self.url, self.data, self.sha256 = url, data, hashlib.sha256(data).hexdigest()

    @property
    def name(self) -> str:
        return f"{self.sha256}.{len(self.data)}"

    def open(self, cache: Cache) -> int:
        return cache.open(self.url, size=len(self.data), sha256=self.sha256)

    def read(self, cache: Cache) -> bytes:
        descriptor = self.open(cache)
        try:
            return os.pread(descriptor, len(self.data) + 1, 0)
        finally:
            os.close(descriptor)


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache", most_bytes=2 * MB)


@pytest.fixture
def shards(tmp_path: Path) -> list[Shard]:
    """Four of half the cache's size, in memory."""
    return [stored(f"memory://{tmp_path}/{number}.tar", bytes([number]) * MB) for number in range(4)]


def stored(url: str, data: bytes) -> Shard:
    file_systems.file_system(url.partition(":")[0], None).pipe_file(url, data)
    return Shard(url, data)


def names(cache: Cache) -> set[str]:
    return {path.name for path in cache.folder.iterdir()} - {".lock"}


@pytest.fixture
def downloads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """URLs that were fetched."""
    found: list[str] = []
    download = remote.download

    def counting(url: str, path: Path, *, size: int, sha256: str) -> None:
        found.append(url)
        download(url, path, size=size, sha256=sha256)

    monkeypatch.setattr(remote, "download", counting)
    return found


# --- One process ----------------------------------------------------------------------------------------------------


def test_a_file_is_fetched_once(cache: Cache, shards: list[Shard], downloads: list[str]) -> None:
    assert shards[0].read(cache) == shards[0].read(cache) == shards[0].data
    cache.fetch(shards[0].url, size=MB, sha256=shards[0].sha256)

    assert downloads == [shards[0].url]
    assert names(cache) == {shards[0].name}


@pytest.mark.timeout(30)
def test_an_error_while_room_is_made_lets_go_of_the_lock(
    cache: Cache, shards: list[Shard], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or the next one who wants that file would wait for ever for this process."""

    def fails(_self: Cache, _size: int, *, besides: Path) -> None:
        raise OSError(5, "Input/output error", str(besides))

    with monkeypatch.context() as patch:
        patch.setattr(Cache, "_make_room", fails)
        with pytest.raises(RemoteError, match="Input/output error"):
            shards[0].read(cache)

    assert shards[0].read(cache) == shards[0].data


def test_a_copy_is_for_reading_only(cache: Cache, shards: list[Shard]) -> None:
    descriptor = shards[0].open(cache)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.pwrite(descriptor, b"x", 0)
    os.close(descriptor)


def test_the_least_recently_opened_gives_way(cache: Cache, shards: list[Shard]) -> None:
    for number in (0, 1, 0, 2):
        assert shards[number].read(cache) == shards[number].data

    assert names(cache) == {shards[0].name, shards[2].name}


def test_an_evicted_copy_stays_good_for_who_has_it_open(cache: Cache, shards: list[Shard]) -> None:
    descriptor = shards[0].open(cache)
    for shard in shards[1:]:
        shard.read(cache)

    assert shards[0].name not in names(cache)
    assert os.pread(descriptor, MB, 0) == shards[0].data
    os.close(descriptor)


def test_a_file_larger_than_the_cache_says_what_to_give(tmp_path: Path, downloads: list[str]) -> None:
    cache = Cache(tmp_path / "cache", most_bytes=2 * MB)
    url = "memory://x"
    with pytest.raises(
        RemoteError, match=r"cache: a cache of 0.002 GB cannot hold a shard of 0.002000001 GB; .*--cache_gb"
    ):
        cache.open(url, size=2 * MB + 1, sha256="0" * 64)
    assert not downloads


def test_a_file_as_large_as_the_cache_fits(tmp_path: Path, shards: list[Shard]) -> None:
    cache = Cache(tmp_path / "cache", most_bytes=MB)
    for shard in shards:
        assert shard.read(cache) == shard.data
        assert names(cache) == {shard.name}


@pytest.mark.parametrize("data", [b"", b"short", b"x" * (MB + 1)], ids=len)
def test_a_copy_of_another_size_is_fetched_anew(
    cache: Cache, shards: list[Shard], downloads: list[str], data: bytes
) -> None:
    cache.folder.mkdir()
    (cache.folder / shards[0].name).write_bytes(data)

    assert shards[0].read(cache) == shards[0].data
    assert len(downloads) == 1


def test_a_dropped_copy_is_fetched_anew_unless_it_was_already(
    cache: Cache, shards: list[Shard], downloads: list[str]
) -> None:
    """Two readers find the same copy damaged."""
    first, second = shards[0].open(cache), shards[0].open(cache)
    cache.drop(first, size=MB, sha256=shards[0].sha256)
    assert shards[0].read(cache) == shards[0].data
    cache.drop(second, size=MB, sha256=shards[0].sha256)
    assert shards[0].read(cache) == shards[0].data

    assert len(downloads) == 2
    os.close(first)
    os.close(second)


@pytest.mark.parametrize("sha256", ["../../etc/passwd", "", "A" * 64, "0" * 63, "0" * 64 + "/x", "0" * 64 + "\n"])
def test_a_checksum_that_is_none_leads_nowhere(cache: Cache, sha256: str, downloads: list[str]) -> None:
    with pytest.raises(RemoteError, match="is not a valid SHA-256 in an index"):
        cache.open("memory://x", size=1, sha256=sha256)
    assert not downloads


def test_nothing_of_others_is_removed(cache: Cache, shards: list[Shard]) -> None:
    cache.folder.mkdir()
    (cache.folder / "thesis.tex").write_bytes(b"x" * 3 * MB)
    for shard in shards:
        shard.read(cache)

    assert names(cache) == {"thesis.tex", shards[2].name, shards[3].name}


def test_a_folder_that_cannot_be_is_named(tmp_path: Path, shards: list[Shard]) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(
        RemoteError, match=r"file/cache: cannot be used as a cache: Not a directory; give another folder"
    ):
        shards[0].open(Cache(tmp_path / "file" / "cache", most_bytes=MB))


def test_a_part_that_was_left_counts_and_gives_way(cache: Cache, shards: list[Shard]) -> None:
    """It has 10 bytes, and may become 1 MB."""
    cache.folder.mkdir()
    (cache.folder / f"{'0' * 64}.{MB}.part").write_bytes(b"x" * 10)
    shards[0].read(cache)
    assert len(names(cache)) == 2
    shards[1].read(cache)

    assert names(cache) == {shards[0].name, shards[1].name}


def test_a_part_that_was_left_is_gone_on_with(cache: Cache, s3: str, wire: Proxy) -> None:
    shard = stored(f"{s3}/x.tar", bytes(MB))
    cache.folder.mkdir()
    (cache.folder / f"{shard.name}.part").write_bytes(bytes(900_000))
    before = wire.sent

    assert shard.read(cache) == shard.data
    assert 100_000 < wire.sent - before < 120_000
    assert names(cache) == {shard.name}


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    sizes=st.lists(st.integers(0, 60), min_size=1, max_size=6),
    opened=st.lists(st.integers(0, 5), max_size=12),
    room=st.integers(0, 60),
)
def test_what_is_kept_is_what_was_opened_last_and_never_more_than_fits(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], opened: list[int], room: int
) -> None:
    folder = tmp_path_factory.mktemp("cache")
    cache = Cache(folder, most_bytes=max(sizes) + room)
    shards = [stored(f"memory://{folder}/{n}", bytes([n]) * size) for n, size in enumerate(sizes)]
    kept: OrderedDict[str, int] = OrderedDict()
    for number in opened:
        shard = shards[number % len(shards)]
        assert shard.read(cache) == shard.data
        if shard.name not in kept:
            while sum(kept.values()) + len(shard.data) > cache.most_bytes:
                kept.popitem(last=False)
            kept[shard.name] = len(shard.data)
        kept.move_to_end(shard.name)
        assert names(cache) == set(kept)


# --- Many at once ---------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def opening(cache: Cache, shard: Shard) -> Iterator[subprocess.Popen[bytes]]:
    """Another process that opens a shard and prints it."""
    argv = [sys.executable, "-c", OPEN, cache.folder, cache.most_bytes, shard.url, len(shard.data), shard.sha256]
    with subprocess.Popen(list(map(str, argv)), stdout=subprocess.PIPE) as process:
        yield process


def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.slow
def test_processes_that_want_the_same_file_fetch_it_once(cache: Cache, s3: str, wire: Proxy) -> None:
    """Five pieces of 200 kB are asked for, whoever does."""
    shard = stored(f"{s3}/x.tar", random.Random(0).randbytes(MB))
    with opening(cache, shard) as first, opening(cache, shard) as second, opening(cache, shard) as third:
        got = [process.communicate(timeout=60)[0] for process in (first, second, third)]

    assert got == [shard.data] * 3
    assert wire.count("GET", "x.tar") == 5


@pytest.mark.slow
def test_a_kill_half_way_costs_nothing_but_time(cache: Cache, s3: str, wire: Proxy) -> None:
    shard = stored(f"{s3}/x.tar", random.Random(0).randbytes(MB))
    part = cache.folder / f"{shard.name}.part"
    wire.stop(700_000)
    with opening(cache, shard) as process:
        until(lambda: part.exists() and part.stat().st_size >= 400_000 and not wire.flows.is_set())
        with opening(cache, shard) as waiting:
            process.kill()
            process.wait()
            left = part.stat().st_size
            wire.flows.set()
            assert waiting.communicate(timeout=60)[0] == shard.data

    assert 400_000 <= left < MB
    assert names(cache) == {shard.name}
    assert shard.read(cache) == shard.data
    assert wire.count("GET", "x.tar") <= 6  # five pieces, of which one was asked for twice


def test_a_file_that_another_finished_meanwhile_is_not_fetched_again(
    cache: Cache, shards: list[Shard], downloads: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    bring = Cache._bring

    def late(self: Cache, url: str, size: int, sha256: str) -> None:
        monkeypatch.setattr(Cache, "_bring", bring)
        shards[0].read(cache)
        bring(self, url, size, sha256)

    monkeypatch.setattr(Cache, "_bring", late)
    assert shards[0].read(cache) == shards[0].data
    assert len(downloads) == 1
    assert names(cache) == {shards[0].name}


def test_two_that_do_not_fit_together_are_fetched_one_after_the_other(
    tmp_path: Path, shards: list[Shard], monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = Cache(tmp_path / "cache", most_bytes=MB)
    download, going, go_on = remote.download, threading.Event(), threading.Event()

    def slow(url: str, path: Path, *, size: int, sha256: str) -> None:
        going.set()
        assert go_on.wait(30)
        download(url, path, size=size, sha256=sha256)

    monkeypatch.setattr(remote, "download", slow)
    threads = [threading.Thread(target=shard.read, args=[cache]) for shard in shards[:2]]
    threads[0].start()
    assert going.wait(30)
    going.clear()
    threads[1].start()
    assert not going.wait(0.3)
    go_on.set()
    for thread in threads:
        thread.join(30)

    assert names(cache) in ({shards[0].name}, {shards[1].name})  # the first may have to fetch its own again


def test_whoever_opens_what_the_cache_is_never_above_its_bound(tmp_path: Path) -> None:
    """Eight threads open six files of different sizes, of which about half fit; flock knows threads apart as processes."""
    cache = Cache(tmp_path / "cache", most_bytes=200_000)
    shards = [stored(f"memory://{tmp_path}/{n}", bytes([n]) * (20_000 * (n + 1))) for n in range(6)]
    wrong: list[object] = []
    over = threading.Event()
    cache.folder.mkdir()

    def use(seed: int) -> None:
        try:
            for shard in random.Random(seed).choices(shards, k=25):
                assert shard.read(cache) == shard.data
        except BaseException as error:
            wrong.append(error)
            raise

    def watch() -> None:
        while not over.is_set():
            with (cache.folder / ".lock").open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)  # so that none is removed while we look
                sizes = {}
                for path in cache.folder.iterdir():
                    with contextlib.suppress(FileNotFoundError):
                        sizes[path.name.removesuffix(".part")] = path.stat().st_size
                if sum(sizes.values()) > cache.most_bytes:
                    wrong.append(sizes)

    watcher, users = threading.Thread(target=watch), [threading.Thread(target=use, args=[seed]) for seed in range(8)]
    for thread in (watcher, *users):
        thread.start()
    for thread in users:
        thread.join(120)
    over.set()
    watcher.join()

    assert wrong == []
    assert not any(name.endswith(".part") for name in names(cache) if (cache.folder / name).stat().st_size)
