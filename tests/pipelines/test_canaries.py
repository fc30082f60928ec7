"""No secret of an address is told by ks-build, ks-shard and ks-doctor: not in a file, an output or a command line."""

import http.server
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest

from kinetics_sounds import manifest, remote
from kinetics_sounds.pipelines import build, doctor, shard

from ..canaries import ODD, WORD, Argv, argv, sing, spoiled
from ..serving import serving
from ..wire import FileServer
from .conftest import inline, video
from .mirror import Place

__all__ = ["argv"]
TEMPLATE = "{youtube_id}.mp4"


class _Handler(http.server.BaseHTTPRequestHandler):
    """`/FAULT/NAME`: the video, or what the fault says."""

    video = b""
    asked: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        fault = self.path.split("/")[1]
        if fault in ("moved", "astray"):
            self.send_response(302)
            self.send_header("Location", f"/{'ok' if fault == 'moved' else 'once'}/other?token={WORD}z1")
            self.end_headers()
            return
        self.asked.append(fault)
        if fault == "once" and self.asked.count("once") % 2 == 0:
            fault = "404"
        if fault == "echo":
            self.send_response(500, f"no {self.path}")
            self.end_headers()
            return
        if fault.isdigit():
            self.send_error(int(fault))
            return
        page = fault == "page"
        data = b"<html><title>nothing</title></html>" if page else self.video[: 900 if fault == "cut" else None]
        self.send_response(200)
        self.send_header("Content-Type", "text/html" if page else "video/mp4")
        self.send_header("Content-Length", str(len(self.video) if fault == "cut" else len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_HEAD = do_GET

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of the server."""
    path = tmp_path_factory.mktemp("site") / "video.mp4"
    video(path, seconds=6)
    handler = type("Handler", (_Handler,), {"video": path.read_bytes()})
    with serving(http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)) as server:
        yield f"http://127.0.0.1:{server.server_port}"


def fast(url: str) -> list[str]:
    """Options for a build that gives up at once."""
    retries = [f"--youtube.option={name}=0" for name in ("retries", "fragment_retries", "extractor_retries")]
    return [f"--source=youtube:{url}", *retries, "--attempts=1", "--patience=0"]


@pytest.mark.parametrize(
    ("fault", "status"),
    [
        ("ok", "ok"),
        ("moved", "ok"),
        ("astray", "not_in_source"),
        ("404", "not_in_source"),
        ("403", "http_4xx"),
        ("503", "http_5xx"),
        ("echo", "http_5xx"),
        ("page", "no_formats"),
        ("cut", "truncated"),
        ("refused", "network"),
    ],
)
def test_no_outcome_of_a_mirror_tells_its_secrets(
    fault: str,
    status: str,
    site: str,
    tmp_path: Path,
    argv: Argv,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    inline(monkeypatch)
    url = spoiled(f"{'http://127.0.0.1:9' if fault == 'refused' else site}/{fault}/{TEMPLATE}")
    place = Place(tmp_path, "").annotate("a_clip")
    words = place.arguments(*fast(url), sources=("cvdf:/dev/null",))
    words = [word for word in words if word not in ("--source", "cvdf:/dev/null")]

    for _ in range(2):  # what a ledger says is told once more
        code = build.main(words)
        assert place.statuses() == {"a_clip": status}
        assert code == (0 if status == "ok" else 1)
    shown = url.partition(f"{WORD}u1")[0] + "***@" + url.partition("@")[2].partition("?")[0] + "?***#***"
    (outcome,) = manifest.read(place.out / "manifest.parquet").outcomes
    assert outcome.source == f"youtube:{shown}"
    assert sing(tmp_path, argv, capsys) == []


@pytest.mark.parametrize("name", [TEMPLATE, "get?v={youtube_id}"])
@pytest.mark.parametrize("fault", ["moved", "ok"])
def test_no_section_is_cut_from_an_address_with_a_secret_that_a_redirect_leads_to(
    fault: str,
    name: str,
    site: str,
    tmp_path: Path,
    argv: Argv,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    inline(monkeypatch)
    place = Place(tmp_path, f"youtube:{site}/{fault}/{name}").annotate("a_clip")

    code = place.build("--youtube.sections=true", "--attempts=1", "--patience=0")

    said = capsys.readouterr().err
    assert (code == 2) == (fault == "moved")
    assert any(word.startswith(f"{site}/ok/") for word in argv.words) == (fault == "ok")  # ffmpeg's
    assert (f"the mirror redirects to {site}/ok/other?***, and ffmpeg" in said) == (fault == "moved")
    assert WORD not in said
    assert sing(tmp_path, argv, capsys) == []


@pytest.mark.parametrize("odd", ["", ODD])
@pytest.mark.parametrize(
    "more",
    [
        ("--youtube.sections=true",),
        ("--youtube.max_bytes=-1",),
        ("--youtube.proxy=CANARYu2:CANARYp2@127.0.0.1:9",),
        ("--youtube.proxy=socks5://CANARYu2:CANARYp2@127.0.0.1:9", "--youtube.videos_per_hour=-1"),
        ("--sources=URL",),
        ("--source=youtube:ftp://CANARYu2:CANARYp2@host/{youtube_id}?CANARYq2",),
        ("--source=cvdf:URL",),
        ("--source=local:URL",),
        ("--source=elsewhere:URL",),
        ("--classes=URL",),
        ("--out=URL",),
        ("--youtube.cookies=URL",),
        ("--executor=ray", "--ray.address=URL"),
        ("--dry_run",),
        ("--dry_run", "--json"),
    ],
)
def test_no_refusal_of_options_tells_a_secret(
    more: tuple[str, ...], odd: str, site: str, tmp_path: Path, argv: Argv, capsys: pytest.CaptureFixture[str]
) -> None:
    url = spoiled(f"{site}/ok/{TEMPLATE}", odd=odd)
    place = Place(tmp_path, f"youtube:{url}").annotate("a_clip")

    code = place.build(*(word.replace("URL", url) for word in more))

    assert code == (0 if "--dry_run" in more else 2)
    assert sing(tmp_path, argv, capsys) == []


@pytest.mark.parametrize("fault", ["", "fragment", "gone", "page", "user", "nameless"])
def test_no_list_at_a_url_tells_a_secret(
    fault: str, tmp_path: Path, argv: Argv, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    server = FileServer(ranges=True)
    server.files = {} if fault == "gone" else {"list.csv": b"<html>" if fault == "page" else b"x"}
    if fault in ("", "fragment"):
        server.files = {"list.csv": b"label,youtube_id,time_start,time_end,split\nhumming,a_clip,3,5,train\n"}
    url = spoiled(server.url("" if fault == "nameless" else "list.csv"), user=False)
    url = {"user": spoiled("http://127.0.0.1/list.csv"), "fragment": server.url(f"list.csv#{WORD}f1")}.get(fault, url)
    (tmp_path / "classes.txt").write_text("humming\n")
    (tmp_path / "videos").mkdir()
    words = ["--classes", f"{tmp_path}/classes.txt", "--annotations", url, "--source", f"local:{tmp_path}/videos"]

    code = build.main([*words, "--splits=train", f"--out={tmp_path / 'out'}"])

    server.close()
    assert code == (1 if fault in ("", "fragment") else 2)
    assert sing(tmp_path, argv, capsys) == []


@pytest.fixture
def built(site: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The manifest of one clip."""
    inline(monkeypatch)
    place = Place(tmp_path, f"youtube:{site}/ok/{TEMPLATE}").annotate("a_clip")
    assert place.build() == 0
    return place.out / "manifest.parquet"


@pytest.mark.parametrize("fault", ["", "lost", "denied", "refused", "unknown", "another"])
def test_no_sending_of_a_set_tells_a_secret(
    fault: str,
    built: Path,
    tmp_path: Path,
    argv: Argv,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(remote, "BACKOFF", replace(remote.BACKOFF, attempts=1))
    server = FileServer(ranges=True)
    server.lost = 1 if fault == "lost" else 0
    server.statuses = [403] * 9 if fault == "denied" else []
    server.files = {"set/dataset.json": b"{}"} if fault == "another" else {}
    url = {"refused": spoiled("http://127.0.0.1:9/set"), "unknown": spoiled("ftp://host/set")}.get(
        fault, spoiled(server.url("set"))
    )

    codes = [
        shard.main([f"--manifest={built}", f"--out={url}", "--workers=1", *more]) for more in ((), ("--check_bytes",))
    ]

    server.close()
    assert codes == ([2, 2] if fault else [0, 0])
    assert sing(tmp_path, argv, capsys) == []


@pytest.mark.parametrize("fault", ["ok", "404"])
def test_a_source_is_asked_live_without_its_secrets_on_a_command_line(
    fault: str,
    site: str,
    tmp_path: Path,
    argv: Argv,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(doctor, "CHECKS", ())

    code = doctor.main(["--live", f"--source=youtube:{spoiled(f'{site}/{fault}/{TEMPLATE}')}"])

    assert code == (fault != "ok")
    assert any("answer()" in word for word in argv.words)
    assert sing(tmp_path, argv, capsys) == []
