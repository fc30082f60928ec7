"""File systems of fsspec, for http restricted to the hosts that `web` allows; only this module imports fsspec."""

import contextvars
import functools
import socket
from typing import Any

from . import web
from .address import Address

EXTRAS = {"s3": "s3", "gs": "gs", "gcs": "gs", "hf": "hub", "http": "http", "https": "http", "file": "", "memory": ""}
"""Known URL schemes, and the extra of this package that each requires."""
OPTIONS: dict[str, dict[str, Any]] = {"file": {"auto_mkdir": True}}
"""Arguments of each scheme's file system: few, since the libraries read keys and endpoints from the environment."""


@functools.cache
def file_system(scheme: str, host: str | None) -> Any:  # noqa: ANN401 - fsspec has no types
    """File system of a scheme, one per process (for http one per host): each has its own connections."""
    import fsspec

    options = dict(OPTIONS.get(scheme, {}))
    if host is not None:
        options["get_client"] = functools.partial(_client, host)
    return fsspec.filesystem(scheme, skip_instance_cache=True, use_listings_cache=False, **options)


async def _client(named: str, **options: Any) -> Any:  # noqa: ANN401 - fsspec's own
    """HTTP client of fsspec, restricted by the checks of `web` on every redirect; `named` is the host given by the user."""
    import aiohttp

    if not hasattr(aiohttp, "SocketFactoryType"):
        raise ImportError(f"aiohttp 3.12 or newer; {aiohttp.__version__} cannot be restricted to public hosts")
    trusted = contextvars.ContextVar("trusted", default=False)

    async def hop(request: aiohttp.ClientRequest, send: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
        """One request of a chain of redirects."""
        url, host = str(request.url), request.url.host or ""
        if why := web.refusal(url, named=named):
            raise web.RefusedError(f"{Address(url)} {why}")
        if not web.is_host(host, web.host(url)):
            raise web.RefusedError(f"{Address(url)} is ambiguous: parsers see two different hosts in it")
        trusted.set(request.proxy is not None or web.is_host(host, named))
        return await send(request)

    def allowed(address: aiohttp.AddrInfoType) -> socket.socket:
        """A socket for an address that passed the checks."""
        family, kind, protocol, _, place = address
        if not (trusted.get() or web.is_allowed(str(place[0]), named=named)):
            raise web.RefusedError(f"what it redirects to {web.PRIVATE}")
        return socket.socket(family, kind, protocol)

    connector = aiohttp.TCPConnector(socket_factory=allowed)
    return aiohttp.ClientSession(connector=connector, middlewares=(hop,), **options)
