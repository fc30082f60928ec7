"""Errors of the libraries for remote stores: which are waited for."""

import importlib

import aiohttp
import pytest

from kinetics_sounds import remote
from kinetics_sounds.clip import Status
from kinetics_sounds.errors import RemoteError, SourceError
from kinetics_sounds.sources import UnreachableError
from kinetics_sounds.sources.archives import Source

BOTO, S3FS, GCSFS = map(importlib.import_module, ("botocore.exceptions", "s3fs.errors", "gcsfs.retry"))  # without types


def of_server(code: int) -> Exception:
    """What s3fs makes of such an answer."""
    answer = {"Error": {"Code": str(code)}, "ResponseMetadata": {"HTTPStatusCode": code}}
    translated: Exception = S3FS.translate_boto_error(BOTO.ClientError(answer, "ListObjectsV2"))
    return translated


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (BOTO.NoCredentialsError(), None),
        (BOTO.ProfileNotFound(profile="ann"), None),
        (BOTO.SSLError(endpoint_url="https://h", error="self-signed certificate"), None),
        (ValueError("bad bucket name"), None),
        (KeyError("AWS"), None),
        (of_server(403), None),
        (of_server(400), None),
        (of_server(503), Status.HTTP_5XX),
        (of_server(429), Status.RATE_LIMITED),
        (GCSFS.HttpError({"code": 401}), None),
        (GCSFS.HttpError({"code": "500"}), Status.HTTP_5XX),
        (BOTO.EndpointConnectionError(endpoint_url="https://h"), Status.NETWORK),
        (BOTO.ReadTimeoutError(endpoint_url="https://h"), Status.NETWORK),
        (aiohttp.ServerDisconnectedError(), Status.NETWORK),
        (ConnectionResetError(104, "reset"), Status.NETWORK),
        (TimeoutError(), Status.NETWORK),
        (EOFError("it ended 3 bytes early"), Status.NETWORK),
    ],
)
def test_only_what_may_pass_is_waited_for(
    error: Exception, status: Status | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: str) -> None:
        raise RemoteError("s3://bucket: is unavailable") from error

    monkeypatch.setattr(remote, "find", fail)

    with pytest.raises(SourceError, match="s3://bucket: is unavailable") as raised:
        Source("s3://bucket").parts(["val"])

    assert (raised.value.status if isinstance(raised.value, UnreachableError) else None) is status
