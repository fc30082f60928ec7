import contextlib
import gc
import importlib
import itertools
import logging
import os
import subprocess
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis
import pytest
import torch

from kinetics_sounds import file_systems

from .hub_server import hub_server
from .wire import Proxy

__all__ = ["hub_server"]

if "PYTEST_XDIST_WORKER" in os.environ:
    gc.disable()  # until all tests are collected: what they are stays
torch.set_num_threads(1)  # many small tests on few cores: threads would only wait for each other
os.environ["OMP_NUM_THREADS"] = "1"  # and so in the processes that they start

for name, count in {"quick": 20, "suite": 25, "full": 100}.items():  # examples where a test does not say how many
    hypothesis.settings.register_profile(name, max_examples=count, deadline=None)  # the machine may be shared
hypothesis.settings.load_profile("suite")

SLOW_FIXTURES = {
    "pipelines": {"folder", "built", "whole", "host", "mirror"},  # clips that are built and packed
    "train": {"small", "finished", "tune"},  # runs that are trained
    "tests": {"moto", "serve", "hub_server"},  # servers
}
"""By the folder of tests: what uses one of them is slow, and left out of `make quick`."""
SLOW_FILES = {
    *("test_decode.py", "test_encode.py", "test_extract.py", "test_scenes.py"),  # videos
    *("test_span.py", "test_sync.py", "test_trim.py"),  # videos
    *("test_in_order.py", "test_loader.py", "test_process_pool.py", "test_workers.py"),  # worker processes
    *("test_cluster.py", "test_probes.py"),  # sweeps over many numbers
    *("test_cvdf.py", "test_doctor.py"),  # waits for what hangs
}
"""Of which all tests are slow; each name is that of a file."""

BUCKETS = (f"bucket-{number}" for number in itertools.count())


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what is slow for what it uses, before anything is selected."""
    for item in items:
        slow = [SLOW_FIXTURES.get(part, set()) for part in item.path.parts]
        if item.path.name in SLOW_FILES or set().union(*slow).intersection(getattr(item, "fixturenames", ())):
            item.add_marker("slow")


def pytest_collection_finish() -> None:
    """What is there now stays: the collector need not look at it again after each of thousands of tests."""
    gc.collect()
    gc.freeze()
    gc.enable()


@pytest.fixture(scope="session")
def moto() -> Iterator[int]:
    """Port of a server that speaks S3's protocol."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = importlib.import_module("moto.server").ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    yield server.get_host_and_port()[1]
    server.stop()


@pytest.fixture
def wire(moto: int) -> Iterator[Proxy]:
    """The line to that server."""
    proxy = Proxy(moto)
    yield proxy
    proxy.close()


@pytest.fixture
def s3(wire: Proxy, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """URL of an empty bucket, for this process and those that it starts, at the other end of `wire`."""
    for name, value in {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{wire.port}",
        "AWS_ACCESS_KEY_ID": "tests",
        "AWS_SECRET_ACCESS_KEY": "a secret of tests",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_MAX_ATTEMPTS": "1",
    }.items():
        monkeypatch.setenv(name, value)
    file_systems.file_system.cache_clear()
    url = f"s3://{next(BUCKETS)}"
    file_systems.file_system("s3", None).mkdir(url)
    yield url
    file_systems.file_system.cache_clear()


@pytest.fixture
def disk_acts(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What this process syncs and renames, by the last part of each name, in order."""
    acts: list[str] = []
    sync, replace = os.fsync, os.replace

    def synced(descriptor: int) -> None:
        acts.append(f"sync {Path(f'/proc/self/fd/{descriptor}').resolve().name}")
        sync(descriptor)

    def renamed(path: Path, target: Path) -> None:
        replace(path, target)
        acts.append(f"rename {Path(path).name} {Path(target).name}")

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", renamed)
    return acts


@contextlib.contextmanager
def _memory(most: int) -> Iterator[None]:
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < most
    finally:
        tracemalloc.stop()


@pytest.fixture
def memory() -> Callable[[int], contextlib.AbstractContextManager[None]]:
    """A block that fails where Python's own objects take so many bytes within it."""
    return _memory


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MiB, for whoever may mount one."""
    place = tmp_path / "small disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("only root may mount a file system")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)
