import urllib.error
import urllib.request
from pathlib import Path

import pytest

from kinetics_sounds.pipelines.synthetic import http_server


@pytest.fixture
def served(tmp_path: Path) -> Path:
    (tmp_path / "a.mp4").write_bytes(bytes(range(100)))
    (tmp_path / "secret.txt").write_bytes(b"secret")
    return tmp_path


def ask(url: str, header: str = "") -> tuple[int, bytes]:
    request = urllib.request.Request(url, headers={"Range": header} if header else {})
    with urllib.request.urlopen(request, timeout=10) as answer:
        return answer.status, answer.read()


@pytest.mark.parametrize(
    ("header", "status", "body"),
    [
        ("", 200, bytes(range(100))),
        ("bytes=90-", 206, bytes(range(90, 100))),
        ("bytes=10-19", 206, bytes(range(10, 20))),
        ("bytes=95-1000", 206, bytes(range(95, 100))),
        ("bytes=junk", 200, bytes(range(100))),
    ],
)
def test_a_range_is_answered_and_its_end_is_clamped(served: Path, header: str, status: int, body: bytes) -> None:
    with http_server.videos(served) as base:
        assert ask(f"{base}/a.mp4", header) == (status, body)


@pytest.mark.parametrize("path", ["/b.mp4", "/secret.txt", "/../a.mp4", "/", "/a.mp4/", "/%2e%2e/a.mp4"])
def test_nothing_but_the_folder_s_own_videos_is_served(served: Path, path: str) -> None:
    with http_server.videos(served) as base, pytest.raises(urllib.error.HTTPError, match="404"):
        ask(base + path)
