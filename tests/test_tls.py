"""Whoever answers for a host must show a certificate that somebody trusts, at every door to the network."""

import contextlib
import datetime
import http.server
import ipaddress
import ssl
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from kinetics_sounds import annotations, remote
from kinetics_sounds.archives import http_stream
from kinetics_sounds.clip import Clip, Status
from kinetics_sounds.errors import AnnotationError, RemoteError
from kinetics_sounds.sources import UnreachableError, cvdf, youtube

from .serving import serving

CLIP = Clip("5JzkrOVhPOw", 0, 1, "bowling", "val")


@dataclass
class Impostor:
    """Answers for 127.0.0.1 with a certificate that it made itself."""

    url: str = ""
    tried: int = 0
    """Connections."""
    asked: list[str] = field(default_factory=list)
    """Paths of requests: whoever sends one has trusted it."""


def certificate(folder: Path) -> Path:
    """A certificate with its key, signed by itself, in which nothing else is wrong."""
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "x")])
    now, address = datetime.datetime.now(datetime.UTC), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        .sign(key, hashes.SHA256())
    )
    path, pem = folder / "impostor.pem", serialization.Encoding.PEM
    form = serialization.PrivateFormat.PKCS8
    path.write_bytes(made.public_bytes(pem) + key.private_bytes(pem, form, serialization.NoEncryption()))
    return path


@pytest.fixture
def impostor(tmp_path: Path) -> Iterator[Impostor]:
    told = Impostor()

    class Handler(http.server.BaseHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

        def do_GET(self) -> None:
            told.asked.append(self.path)
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

    class Listening(http.server.ThreadingHTTPServer):
        def finish_request(self, request: object, client_address: object) -> None:
            told.tried += 1
            with contextlib.suppress(OSError), context.wrap_socket(request, server_side=True) as safe:  # type: ignore[arg-type]
                super().finish_request(safe, client_address)

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate(tmp_path))
    server = Listening(("127.0.0.1", 0), Handler)
    told.url = f"https://127.0.0.1:{server.server_port}"
    with serving(server):
        yield told


def a_video(url: str, folder: Path) -> None:
    options = youtube.Options(option=("retries=0", "extractor_retries=0"))
    source = youtube.Source(f"{url}/{{youtube_id}}", options)
    got = source.fetch(CLIP, source.candidates(CLIP)[0], folder)
    assert got.status is Status.NETWORK, got.detail
    assert "certificate" in got.detail.lower()


def a_mirror_s_list(url: str, _folder: Path) -> None:
    with pytest.raises(UnreachableError, match="CERTIFICATE_VERIFY_FAILED"):
        cvdf.Source(url).parts(["val"])


def an_annotation_list(url: str, folder: Path) -> None:
    with pytest.raises(AnnotationError, match="certificate verify failed"):
        annotations.fetch(f"{url}/val.csv", folder)


def a_shard_set(url: str, _folder: Path) -> None:
    with pytest.raises(RemoteError, match="certificate"):
        remote.read(f"{url}/dataset.json", most=100)


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # yt-dlp forgets the sockets of refused requests
@pytest.mark.parametrize("ask", [a_video, a_mirror_s_list, an_annotation_list, a_shard_set])
def test_an_impostor_is_not_asked(
    ask: Callable[[str, Path], None], impostor: Impostor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_stream, "ATTEMPTS", 1)
    monkeypatch.setattr(remote, "BACKOFF", replace(remote.BACKOFF, attempts=1))

    ask(impostor.url, tmp_path)

    assert impostor.tried > 0
    assert impostor.asked == []
