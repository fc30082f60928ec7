import importlib
import itertools
import logging
import os
from collections.abc import Iterator

import pytest
import torch

from kinetics_sounds import remote

from .wire import Proxy

torch.set_num_threads(1)  # many small tests on few cores: threads would only wait for each other
os.environ["OMP_NUM_THREADS"] = "1"  # and so in the processes that they start

BUCKETS = (f"bucket-{number}" for number in itertools.count())


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
    remote._made.cache_clear()
    url = f"s3://{next(BUCKETS)}"
    remote._system(url).mkdir(url)
    yield url
    remote._made.cache_clear()
