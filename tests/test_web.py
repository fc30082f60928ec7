"""Hostile servers, names and lists: what each door to http must refuse, with the private server that they lead to."""

import http.server
import importlib
import logging
import re
import socket
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterator
from dataclasses import replace
from email.message import Message
from pathlib import Path
from typing import Any

import pytest

from kinetics_sounds import annotations, file_systems, redact, remote, web
from kinetics_sounds.archives import http_stream, listing
from kinetics_sounds.clip import Status
from kinetics_sounds.errors import AnnotationError, KineticsSoundsError, RemoteError, SourceError
from kinetics_sounds.sources import TarPart, UnreachableError, cvdf

NAMED, PRIVATE = "127.0.0.1", "127.0.0.2"
"""The host that the user names, and another one that is not public."""
LIST = b"label,youtube_id,time_start,time_end,split\nbowling,abc,1,11,val\n"
SECRET = b"label,youtube_id,time_start,time_end,split\nbowling,secret,1,11,val\n"
NAMES = ("localhost", "localhost.", "rebind.example.org")
"""What name servers say lies at the private address."""


class Site:
    """A server of a few paths: bytes, a redirect (a text), or a function that writes the answer itself; its requests."""

    def __init__(self, address: str) -> None:
        self.files: dict[str, bytes | str | Callable[[Any], None]] = {}
        self.asked: list[str] = []
        self.headers: list[Message] = []
        site = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: Any) -> None:
                pass

            def do_GET(self) -> None:
                self.close_connection = True
                site.asked.append(f"{self.command} {self.path}")
                site.headers.append(self.headers)
                found = site.files.get(self.path)
                if callable(found):
                    found(self.wfile)
                    return
                self.send_response(404 if found is None else 302 if isinstance(found, str) else 200)
                if isinstance(found, str):
                    self.send_header("Location", found.encode().decode("latin-1"))
                body = found if isinstance(found, bytes) else b""
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(b"" if self.command == "HEAD" else body)

            do_HEAD = do_PUT = do_CONNECT = do_GET

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True
            block_on_close = False

            def handle_error(self, *_: Any) -> None:
                """A client that hung up."""

        self.server = Server((address, 0), Handler)
        self.port: int = self.server.server_address[1]
        self.url = f"http://{address}:{self.port}"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True)
        self.thread.start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


@pytest.fixture(scope="module")
def sites() -> Iterator[tuple[Site, Site]]:
    made = Site(NAMED), Site(PRIVATE)
    yield made
    for site in made:
        site.close()


def emptied(site: Site, address: str) -> Site:
    site.files, site.asked, site.headers, site.url = {}, [], [], f"http://{address}:{site.port}"
    return site


@pytest.fixture
def mirror(sites: tuple[Site, Site]) -> Site:
    """The server that the user names."""
    return emptied(sites[0], NAMED)


@pytest.fixture
def private(sites: tuple[Site, Site]) -> Site:
    """The server that nobody named."""
    site = emptied(sites[1], PRIVATE)
    site.files = {"/x": SECRET}
    return site


@pytest.fixture(autouse=True)
def surroundings(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Names that lead to the private address, no proxy, no waits between tries."""
    asked = socket.getaddrinfo

    def found(host: Any, *more: Any, **others: Any) -> Any:
        return asked(PRIVATE if str(host).lower() in NAMES else host, *more, **others)

    monkeypatch.setattr(socket, "getaddrinfo", found)
    for name in ("http_proxy", "https_proxy", "no_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    for module in (annotations, http_stream, remote):
        monkeypatch.setattr(module, "BACKOFF", replace(module.BACKOFF, longest_seconds=0.01))
    file_systems.file_system.cache_clear()
    yield
    file_systems.file_system.cache_clear()


# --- The doors ----------------------------------------------------------------------------------------------------------


def annotated(site: Site, to: str, folder: Path) -> None:
    """An annotation list that is elsewhere."""
    site.files["/val.csv"] = to
    annotations.fetch(f"{site.url}/val.csv", folder / "lists")


def listed(site: Site, to: str, _: Path) -> None:
    """A mirror's list of parts that is elsewhere."""
    site.files["/val/k400_val_path.txt"] = to
    cvdf.Source(site.url).parts(["val"])


def named_in_a_list(site: Site, to: str, folder: Path) -> None:
    """A mirror's part that its list says is elsewhere."""
    site.files["/val/k400_val_path.txt"] = f"{to}\n".encode()
    source = cvdf.Source(site.url)
    for part in source.parts(["val"]):
        list(source.stream(part, (), folder))


def streamed(site: Site, to: str, folder: Path) -> None:
    """A mirror's part that is elsewhere."""
    site.files["/val/part_0.tar"] = to
    part = TarPart("val/part_0.tar", f"{site.url}/val/part_0.tar", "val", replacement=False)
    list(cvdf.Source(site.url).stream(part, (), folder))


def sharded(site: Site, to: str, _: Path) -> None:
    """A file of a set of shards that is elsewhere."""
    site.files["/set/dataset.json"] = to
    remote.read(f"{site.url}/set/dataset.json", most=1000)


DOORS = (annotated, listed, named_in_a_list, streamed, sharded)
Door = Callable[[Site, str, Path], None]

SPELT = {
    "plain": "http://127.0.0.2:{port}/x",
    "quoted": "http://%31%32%37.0.0.2:{port}/x",
    "quoted name": "http://%6cocalhost:{port}/x",
    "quoted twice": "http://%2531%2532%2537.0.0.2:{port}/x",
    "dot at the end": "http://127.0.0.2.:{port}/x",
    "name with a dot at the end": "http://localhost.:{port}/x",
    "short": "http://127.2:{port}/x",
    "one number": "http://2130706434:{port}/x",
    "octal": "http://0177.0.0.2:{port}/x",
    "hexadecimal": "http://0x7f.0.0.2:{port}/x",
    "full width": "http://\uff11\uff12\uff17.0.0.2:{port}/x",
    "full width, quoted": "http://%EF%BC%91%EF%BC%92%EF%BC%97.0.0.2:{port}/x",
    "mapped": "http://[::ffff:127.0.0.2]:{port}/x",
    "mapped, in hexadecimal": "http://[::FFFF:7f00:2]:{port}/x",
    "user part": "http://127.0.0.1@127.0.0.2:{port}/x",
    "user part, quoted": "http://127.0.0.1%40127.0.0.2:{port}/x",
    "backslash": "http://127.0.0.2:{port}\\@127.0.0.1/x",
    "no scheme": "//127.0.0.2:{port}/x",
}
"""Ways to write an address of this machine, or the name of one."""
RESOLVED = {
    "a name": "http://rebind.example.org:{port}/x",
    "a quoted name": "http://%72ebind.example.org:{port}/x",
    "in capitals": "http://REBIND.Example.ORG:{port}/x",
}
"""Names that only their resolution shows to be private."""


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("to", [*SPELT.values(), *RESOLVED.values()], ids=[*SPELT, *RESOLVED])
def test_no_list_redirect_or_name_leads_to_a_host_that_nobody_named(
    door: Door, to: str, mirror: Site, private: Site, tmp_path: Path
) -> None:
    with pytest.raises(KineticsSoundsError):
        door(mirror, to.format(port=private.port), tmp_path)

    assert private.asked == []
    assert mirror.asked, "the mirror itself is asked"
    if "\\" not in to:  # which is no URL for aiohttp, as a damaged answer would be
        assert len(mirror.asked) <= 2, "and not again and again"  # fsspec asks by HEAD and by GET
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [], "no body is kept"


@pytest.mark.parametrize("door", DOORS)
def test_a_refusal_says_which_host_and_why(door: Door, mirror: Site, private: Site, tmp_path: Path) -> None:
    with pytest.raises(
        KineticsSoundsError, match=r"private network, where only the host named by you is contacted\)?; "
    ) as at:
        door(mirror, f"http://rebind.example.org:{private.port}/x?token=abcd1234", tmp_path)
    assert "abcd1234" not in str(at.value)

    with pytest.raises(KineticsSoundsError, match=r"127\.0\.0\.2.* private network, where only the host") as at:
        door(mirror, f"http://127.0.0.2:{private.port}/x?token=abcd1234", tmp_path)
    assert "abcd1234" not in str(at.value)


@pytest.mark.parametrize("door", DOORS)
def test_the_host_that_is_named_is_asked_wherever_it_lies_and_leads_to_itself(
    door: Door, private: Site, tmp_path: Path
) -> None:
    """The private server, named by its user: as an address, and by its name."""
    for at, url in enumerate(
        (private.url, f"http://rebind.example.org:{private.port}", f"http://LOCALHOST.:{private.port}")
    ):
        private.url = url
        private.files["/x"] = bytes(1024) if door in (named_in_a_list, streamed) else SECRET
        private.asked.clear()
        folder = tmp_path / str(at)
        folder.mkdir()

        door(private, f"{url}/x", folder)

        assert "GET /x" in private.asked


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("to", [f"http://{PRIVATE}", "http://localhost", "http://rebind.example.org"])
def test_a_private_host_that_is_named_leads_to_its_other_names_and_its_address(
    door: Door, to: str, private: Site, tmp_path: Path
) -> None:
    private.url = f"http://localhost.:{private.port}"
    private.files["/x"] = bytes(1024) if door in (named_in_a_list, streamed) else SECRET

    door(private, f"{to}:{private.port}/x", tmp_path)

    assert "GET /x" in private.asked


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("to", [f"http://{PRIVATE}", "http://localhost"])
def test_a_public_name_that_is_named_leads_to_no_private_host_at_its_address(
    door: Door, to: str, private: Site, tmp_path: Path
) -> None:
    """Whoever has the name could have it lie at any."""
    private.url = f"http://rebind.example.org:{private.port}"

    with pytest.raises(KineticsSoundsError):
        door(private, f"{to}:{private.port}/x", tmp_path)
    assert "GET /x" not in private.asked


def test_a_host_beyond_ascii_is_one_host_for_each_library(private: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = socket.getaddrinfo
    names: list[str] = []

    def found(host: str, *more: Any, **others: Any) -> Any:
        names.append(host)
        return asked(PRIVATE, *more, **others)

    monkeypatch.setattr(socket, "getaddrinfo", found)
    url = f"http://stra%C3%9Fe.example:{private.port}/x"

    assert remote.read(urllib.parse.unquote(url), most=1000) == SECRET
    assert web.open_url(url, named=web.host(url)).read() == SECRET
    assert set(names) == {"xn--strae-oqa.example"}


@pytest.mark.parametrize("public", [True, False])
def test_a_name_is_asked_where_its_address_is_public(
    mirror: Site, private: Site, monkeypatch: pytest.MonkeyPatch, *, public: bool
) -> None:
    mirror.files["/set/x"] = f"http://rebind.example.org:{private.port}/x"
    monkeypatch.setattr(web, "is_public", lambda address: public and address == PRIVATE)

    if public:
        assert web.open_url(f"{mirror.url}/set/x", named=NAMED).read() == SECRET
        assert remote.read(f"{mirror.url}/set/x", most=1000) == SECRET
    else:
        with pytest.raises(web.RefusedError):
            web.open_url(f"{mirror.url}/set/x", named=NAMED)
        with pytest.raises(RemoteError):
            remote.read(f"{mirror.url}/set/x", most=1000)


def test_a_host_that_was_named_for_one_set_is_not_named_for_another(mirror: Site, private: Site) -> None:
    assert remote.read(f"{private.url}/x", most=1000) == SECRET
    private.asked.clear()
    mirror.files["/set/x"] = f"{private.url}/x"

    with pytest.raises(RemoteError, match="private network"):
        remote.read(f"{mirror.url}/set/x", most=1000)
    assert private.asked == []


def test_an_upload_follows_no_redirect_to_another_host(mirror: Site, private: Site, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(SECRET)
    mirror.files["/set/x"] = f"{private.url}/x"

    with pytest.raises(RemoteError):
        remote.upload(tmp_path / "x", f"{mirror.url}/set/x")
    assert private.asked == []


def test_an_old_aiohttp_that_has_no_such_check_is_not_used(mirror: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    mirror.files["/x"] = LIST
    monkeypatch.delattr("aiohttp.SocketFactoryType")

    with pytest.raises(RemoteError, match=r"aiohttp 3\.12 or newer.*pip install 'kinetics-sounds\[http\]'"):
        remote.read(f"{mirror.url}/x", most=1000)


def test_the_replacement_archive_is_looked_for_on_no_private_host(mirror: Site, private: Site) -> None:
    mirror.files["/val/k400_val_path.txt"] = b"part_0.tar\n"
    mirror.files["/replacement_for_corrupted_k400.tgz"] = f"{private.url}/x"

    assert len(cvdf.Source(mirror.url).parts(["val"])) == 2  # that there is none is not said, so reading it will tell
    assert private.asked == []


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://me:pass word@h/a b?token=x#y", "http://***@h/a b?***#***"),
        ("s3://bucket/a'b/c", "s3://bucket/a'b/c"),
        ("http://h/x", "http://h/x"),
    ],
)
def test_a_url_is_shown_without_secrets_whatever_characters_it_holds(url: str, said: str) -> None:
    assert redact.redact_url(url) == said


@pytest.mark.parametrize(
    "place", ["a b.csv?token=abcd1234", "val.csv?token=abcd1234", "\N{GREEK SMALL LETTER ALPHA}?token=abcd1234"]
)
def test_no_message_about_a_list_holds_what_its_url_keeps_secret(place: str, mirror: Site, tmp_path: Path) -> None:
    with pytest.raises(AnnotationError) as at:
        annotations.fetch(f"{mirror.url}/{place}", tmp_path)
    assert "abcd1234" not in str(at.value)

    with pytest.raises(AnnotationError, match="contains a password") as at:
        annotations.fetch(
            f"{mirror.url.replace('//', '//me:hunter22@')}/{place.replace(' ', '')}".encode().decode("ascii", "ignore"),
            tmp_path,
        )
    assert "hunter22" not in str(at.value)
    assert "abcd1234" not in str(at.value)


def test_what_is_connected_is_what_was_checked(
    mirror: Site, private: Site, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A name server that gives a public address to the first question and a private one from then on; and both at once."""
    asked: list[str] = []

    def found(host: str, port: int, *_: Any, **__: Any) -> Any:
        if host == NAMED:
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (NAMED, port))]
        asked.append(host)
        addresses = [PRIVATE] if len(asked) > 1 else ["192.0.2.1", PRIVATE]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in addresses]

    tried: list[str] = []
    connect = socket.socket.connect

    def connected(self: socket.socket, place: Any) -> None:
        tried.append(place[0])
        if place[0] == "192.0.2.1":
            raise ConnectionRefusedError
        connect(self, place)

    monkeypatch.setattr(socket, "getaddrinfo", found)
    monkeypatch.setattr(socket.socket, "connect", connected)
    monkeypatch.setattr(web, "is_public", lambda address: address == "192.0.2.1")
    for door in (annotated, streamed, sharded):
        asked.clear()
        with pytest.raises(KineticsSoundsError):
            door(mirror, f"http://changing.example.org:{private.port}/x", tmp_path)
        assert asked, door
    assert private.asked == []
    assert PRIVATE not in tried


# --- Addresses ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "address",
    [
        *(
            "127.0.0.1",
            "0.0.0.0",
            "10.0.0.1",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "192.0.2.1",
        ),
        *("192.0.0.192", "192.0.0.9", "192.88.99.1", "168.63.129.16", "::ffff:168.63.129.16"),
        *("224.0.0.1", "255.255.255.255", "240.0.0.1", "198.18.0.1"),
        *(
            "::1",
            "::",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "::127.0.0.1",
            "fe80::1",
            "fe80::1%lo",
            "fc00::1",
            "fec0::1",
        ),
        *("ff02::1", "2002:7f00:1::", "2002:a00:1::1", "64:ff9b::127.0.0.1", "64:ff9b::10.0.0.1", "64:ff9b:1::1"),
        *("2001:db8::1", "2001:0:4136:e378:8000:63bf:80ff:fffe", "localhost", "127.1", "2130706433", ""),
    ],
)
def test_an_address_that_is_not_of_the_public_internet(address: str) -> None:
    assert not web.is_public(address)


@pytest.mark.parametrize(
    "address",
    ["8.8.8.8", "52.216.0.1", "2001:4860:4860::8888", "::ffff:8.8.8.8", "64:ff9b::8.8.8.8", "2002:808:808::1"],
)
def test_an_address_that_is(address: str) -> None:
    assert web.is_public(address)


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("http://Example.ORG.:80/x", "example.org"),
        ("http://%6cocalhost/", "localhost"),
        ("http://user:word@example.org/", "example.org"),
        ("http://m\N{LATIN SMALL LETTER U WITH DIAERESIS}nchen.example/", "xn--mnchen-3ya.example"),
        ("http://m%C3%BCnchen.example/", "xn--mnchen-3ya.example"),
        ("http://[FE80::1%25lo]:80/", "fe80::1%lo"),
        ("http://under_score.example/", "under_score.example"),
        ("http://stra\N{LATIN SMALL LETTER SHARP S}e.example/", "xn--strae-oqa.example"),
        ("http://stra%C3%9Fe.example/", "xn--strae-oqa.example"),
        ("relative/path", ""),
    ],
)
def test_a_host_has_one_spelling(url: str, name: str) -> None:
    assert web.host(url) == name


@pytest.mark.parametrize(
    "url",
    [
        "http://a..b/",
        "http://[::1",
        "http://[::g]/",
        "http://a b/",
        "http://a%2fb/",
        "http://%2531/",
        "http://a/b c",
        "http://a/\N{DEGREE SIGN}",
        "http://a/\n",
    ],
)
def test_what_is_no_url_is_not_asked(url: str) -> None:
    assert web.refusal(url, named="a").startswith("is not a URL")


@pytest.mark.parametrize("name", ["intranet", "router.lan", "printer.local", "metadata.google.internal", "a.home.arpa"])
def test_names_that_no_public_name_server_knows_are_private_unless_named(name: str) -> None:
    assert web.refusal(f"http://{name}/", named="example.org") == web.PRIVATE
    assert web.refusal(f"http://{name}/", named=name) == ""


# --- Proxies ------------------------------------------------------------------------------------------------------------


class Below(dict[str, Any]):
    """Files below a URL, told by their paths alone."""

    def __init__(self, base: str) -> None:
        self.base = base

    def __setitem__(self, path: str, what: Any) -> None:
        super().__setitem__(self.base + path, what)


@pytest.fixture
def proxy(sites: tuple[Site, Site], monkeypatch: pytest.MonkeyPatch) -> Site:
    """A proxy at a private address, as its user named it, which alone can resolve names."""
    site = emptied(sites[0], NAMED)
    monkeypatch.setenv("http_proxy", site.url)
    monkeypatch.setenv("https_proxy", site.url)
    monkeypatch.setitem(importlib.import_module("fsspec.config").conf, "http", {"client_kwargs": {"trust_env": True}})
    asked = socket.getaddrinfo

    def found(host: Any, *more: Any, **others: Any) -> Any:
        if host not in (NAMED, PRIVATE):
            raise socket.gaierror(socket.EAI_NONAME, "only the proxy knows names")
        return asked(host, *more, **others)

    monkeypatch.setattr(socket, "getaddrinfo", found)
    return site


def test_behind_a_proxy_names_are_the_proxys_to_resolve(proxy: Site, tmp_path: Path) -> None:
    proxy.files = {
        "http://mirror.example.org/val.csv": "http://other.example.org/val.csv",
        "http://other.example.org/val.csv": LIST,
    }

    path = annotations.fetch("http://mirror.example.org/val.csv", tmp_path)

    assert path.read_bytes() == LIST
    assert remote.read("http://mirror.example.org/val.csv", most=1000) == LIST
    assert web.open_url("http://mirror.example.org/val.csv", named="mirror.example.org").read() == LIST


@pytest.mark.parametrize("to", [*list(SPELT.values())[:-1], "http://intranet/x", "http://metadata.google.internal/x"])
@pytest.mark.parametrize("door", DOORS)
def test_behind_a_proxy_the_spelling_of_private_hosts_is_refused(
    door: Door, to: str, proxy: Site, tmp_path: Path
) -> None:
    proxy.url = "http://mirror.example.org"  # which the proxy is asked for
    proxy.files = Below(proxy.url)
    with pytest.raises(KineticsSoundsError):
        door(proxy, to.format(port=8080), tmp_path)

    assert proxy.asked
    assert all(path.split()[1].startswith("http://mirror.example.org/") for path in proxy.asked)


def test_a_tunnel_is_asked_of_the_proxy_for_no_private_host(proxy: Site, tmp_path: Path) -> None:
    with pytest.raises(OSError, match="Tunnel connection failed: 404"):
        web.open_url("https://mirror.example.org/x", named="mirror.example.org")
    assert proxy.asked == ["CONNECT mirror.example.org:443"]

    with pytest.raises(web.RefusedError, match="private network"):
        web.open_url("https://%31%32%37.0.0.1/x", named="mirror.example.org")
    assert len(proxy.asked) == 1


def test_a_proxys_password_goes_nowhere_that_a_redirect_leads_to(
    proxy: Site, private: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", proxy.url.replace("//", "//me:hunter22@"))
    monkeypatch.setenv("no_proxy", PRIVATE)
    monkeypatch.setattr(web, "refusal", lambda *_, **__: "")
    monkeypatch.setattr(web, "is_public", lambda _: True)
    proxy.files["http://mirror.example.org/x"] = f"{private.url}/x"

    assert web.open_url("http://mirror.example.org/x", named="mirror.example.org", headers={"Range": "bytes=0-"}).read()

    assert proxy.headers[0]["Proxy-Authorization"]
    assert private.headers[0]["Proxy-Authorization"] is None
    assert private.headers[0]["Range"] == "bytes=0-"


def test_what_no_proxy_names_is_asked_directly_and_checked(
    proxy: Site, private: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("no_proxy", "direct.example.org")
    asked = socket.getaddrinfo
    monkeypatch.setattr(socket, "getaddrinfo", lambda host, *more, **others: asked(PRIVATE, *more, **others))

    with pytest.raises(web.RefusedError, match=r"direct\.example\.org is on a private network"):
        web.open_url(f"http://direct.example.org:{private.port}/x", named="mirror.example.org")
    assert private.asked == proxy.asked == []


# --- Servers that never end ---------------------------------------------------------------------------------------------


def dripping(head: bytes, drip: bytes, seconds: float = 0.02) -> Callable[[Any], None]:
    """An answer that begins as an answer does and then goes on and on."""

    def write(out: Any) -> None:
        out.write(head)
        while True:
            out.write(drip)
            out.flush()
            time.sleep(seconds)

    return write


OK = b"HTTP/1.1 200 OK\r\n"
DRIPS = {
    "body": dripping(OK + b"Content-Length: 100000\r\n\r\n", b"a"),
    "body without a length": dripping(OK + b"\r\n", b"a"),
    "status line": dripping(b"HTTP/1.1 200 ", b"O"),
    "header": dripping(OK + b"X: ", b"a"),
    "informational answers": dripping(b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "length of a chunk": dripping(OK + b"Transfer-Encoding: chunked\r\n\r\n5;", b"a"),
    "trailers": dripping(OK + b"Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n", b"X: y\r\n"),
}


@pytest.mark.timeout(20)
@pytest.mark.parametrize("drip", DRIPS)
def test_a_list_that_comes_byte_by_byte_is_given_up_in_time(
    drip: str, mirror: Site, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """One byte after another, as fast as silence must not be and as slowly as is of no use."""
    base = f"/{drip.replace(' ', '-')}"  # of this test alone: the server may yet hear what another one asked
    mirror.files = {f"{base}/val.csv": DRIPS[drip], f"{base}/val/k400_val_path.txt": DRIPS[drip]}
    monkeypatch.setattr(annotations, "_SECONDS", 0.1)
    monkeypatch.setattr(listing, "LIST_SECONDS", 0.1)
    began = time.monotonic()

    with pytest.raises(AnnotationError, match=r"cannot be downloaded \(.*(time|timed out)"):
        annotations.fetch(f"{mirror.url}{base}/val.csv", tmp_path)
    with pytest.raises(UnreachableError, match=r"list of parts cannot be read: .*(time|responding)") as at:
        cvdf.Source(f"{mirror.url}{base}").parts(["val"])

    assert at.value.status is Status.TIMEOUT
    assert time.monotonic() - began < 5
    assert len([each for each in mirror.asked if f" {base}/" in each]) <= 2, "each is asked once"


@pytest.mark.timeout(20)
@pytest.mark.parametrize("drip", DRIPS)
def test_a_slow_server_is_known_by_its_rate_in_headers_too(
    drip: str, mirror: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    mirror.files = {"/x": DRIPS[drip]}
    monkeypatch.setattr(web, "SLOW_SECONDS", 0.2)
    began = time.monotonic()

    with pytest.raises(OSError, match=r"it sent \d+ bytes in"):
        web.open_url(f"{mirror.url}/x", named=NAMED).read()
    assert time.monotonic() - began < 5


@pytest.mark.timeout(20)
def test_a_redirect_gives_a_list_no_more_time(mirror: Site, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    mirror.files = {"/val.csv": "/x", "/x": DRIPS["body"]}
    monkeypatch.setattr(annotations, "_SECONDS", 0.1)

    with pytest.raises(AnnotationError, match=r"time"):
        annotations.fetch(f"{mirror.url}/val.csv", tmp_path)


@pytest.mark.timeout(20)
def test_trailers_without_end_have_one(mirror: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    mirror.files = {"/x": dripping(OK + b"Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n", b"X: y\r\n" * 1000, 0)}
    monkeypatch.setattr(web, "MOST_BYTES", 1 << 20)

    with pytest.raises(ConnectionError, match="it sent more than 1048576 bytes"):
        web.open_url(f"{mirror.url}/x", named=NAMED).read()


def test_a_slow_list_says_how_far_it_is(
    mirror: Site, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    mirror.files = {"/val.csv?token=abcd1234": DRIPS["body"], "/val/k400_val_path.txt": DRIPS["body"]}
    monkeypatch.setattr(annotations, "_SECONDS", 0.4)
    monkeypatch.setattr(listing, "LIST_SECONDS", 0.4)
    monkeypatch.setattr(web, "SECONDS_BETWEEN_LINES", 0.1)
    caplog.set_level(logging.INFO, "kinetics_sounds")

    with pytest.raises(AnnotationError):
        annotations.fetch(f"{mirror.url}/val.csv?token=abcd1234", tmp_path)
    with pytest.raises(SourceError):
        cvdf.Source(mirror.url).parts(["val"])

    for place in ("val.csv", "val_path.txt"):
        lines = [line for line in caplog.messages if place in line]
        assert 2 <= len(lines) <= 5
        assert re.fullmatch(r"http://127.0.0.1:\d+/\S+: \d+ bytes after \d+ s", lines[0])
    assert "abcd1234" not in caplog.text
