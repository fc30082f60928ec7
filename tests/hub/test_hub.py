"""The Hub's door against a Hub of the tests' own: few commits, nothing sent twice, and what every refusal says."""

import contextlib
import hashlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import hypothesis
import hypothesis.strategies as st
import pytest

from kinetics_sounds import hub, remote, retry
from kinetics_sounds.errors import RemoteError, StoppedError
from kinetics_sounds.hub import session

from ..canaries import WORD
from ..hub_server import LFS_FROM, READER, WRITER, Fault, Hub

SET = "hf://datasets/ann/set"
NAME = "datasets/ann/set"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test waits for long."""
    short = retry.Backoff(attempts=3, first_seconds=0.01, longest_seconds=0.02)
    monkeypatch.setattr(session, "BACKOFF", short)
    monkeypatch.setattr("kinetics_sounds.hub.SHORT_BACKOFF", short)


def items(folder: Path, **sizes: int) -> list[hub.Item]:
    """Files of so many bytes, each of its own."""
    folder.mkdir(exist_ok=True)
    for name, size in sizes.items():
        (folder / name).write_bytes(hashlib.sha256(name.encode()).digest() * (size // 32))
    return [hub.Item(path=folder / name, name=name) for name in sizes]


def push(files: list[hub.Item], **more: object) -> hub.Pushed:
    return hub.push(hub.parse(SET), files, what="test", message="Add files", **more)  # type: ignore[arg-type]


# --- Addresses ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "kind", "repo", "revision", "path"),
    [
        ("hf://datasets/ann/k32", "dataset", "ann/k32", None, ""),
        ("hf://datasets/ann/k32@v1.0/shards/val", "dataset", "ann/k32", "v1.0", "shards/val"),
        ("hf://ann/avcl", "model", "ann/avcl", None, ""),
        ("hf://ann/avcl@refs/pr/3", "model", "ann/avcl", "refs/pr/3", ""),
        ("hf://ann/avcl/run/", "model", "ann/avcl", None, "run"),
    ],
)
def test_a_place_says_kind_repository_revision_and_folder(
    url: str, kind: str, repo: str, revision: str | None, path: str
) -> None:
    found = hub.parse(url)

    assert (found.kind, found.repo, found.revision, found.path) == (kind, repo, revision, path)
    assert str(found) == url.rstrip("/")


@pytest.mark.parametrize(
    "url",
    [
        *("hf://datasets/ann", "hf://ann", "hf://spaces/ann/x", "s3://ann/x", "hf://datasets/ann/x/../y"),
        *("hf://ann/x/.git", "hf://ann/x@a b", "hf://ann/x?token=1", "hf://user:word@ann/x", "hf://ann/x/\u202ey", ""),
    ],
)
def test_what_is_no_place_is_refused(url: str) -> None:
    with pytest.raises(RemoteError, match="is not a location on the Hub; give hf://datasets/USER/NAME"):
        hub.parse(url)


@hypothesis.given(st.text(max_size=30))
def test_whatever_is_taken_names_files_within_its_repository(text: str) -> None:
    try:
        found = hub.parse(f"hf://datasets/{text}")
    except RemoteError:
        return
    assert found.repo.count("/") == 1
    assert not {"", ".", "..", ".git"}.intersection(found.below("x").split("/"))


# --- Sending ------------------------------------------------------------------------------------------------------------


def test_a_thousand_files_are_four_commits_and_a_second_push_sends_nothing(hub_server: Hub, tmp_path: Path) -> None:
    files = items(tmp_path / "many", **{f"part-{number:04d}.json": 64 for number in range(1000)})

    assert push(files) == hub.Pushed(sent=1000, there=0, commits=4)
    assert hub_server.commits(NAME) == 4
    assert {name: blob.data for name, blob in hub_server.repos[NAME].files.items()} == {
        each.name: each.path.read_bytes() for each in files
    }
    assert hub_server.repos[NAME].private
    hub_server.requests.clear()

    assert push(files) == hub.Pushed(sent=0, there=1000, commits=0)
    assert not hub_server.count("POST|PUT")


def test_what_comes_last_is_in_a_commit_of_its_own(hub_server: Hub, tmp_path: Path) -> None:
    """So nobody finds dataset.json without its tars."""
    tars = items(tmp_path / "set", **{"a.tar": LFS_FROM * 2, "b.tar": LFS_FROM * 2})
    last = items(tmp_path / "set", **{"dataset.json": 320})

    assert push(tars, last=last).commits == 2
    assert [sorted(files) for files in hub_server.repos[NAME].commits] == [
        [],
        ["a.tar", "b.tar"],
        ["a.tar", "b.tar", "dataset.json"],
    ]


def test_what_is_not_among_the_files_is_told_and_goes_by_its_name_alone(hub_server: Hub, tmp_path: Path) -> None:
    place = hub.parse(f"{SET}/below")
    assert hub.surplus(place, [], ["*"]) == []
    files = items(tmp_path / "set", **dict.fromkeys(("a[1]", "a1", "b"), 64))
    hub.push(place, files, what="test", message="Add")

    assert hub.surplus(place, files[2:], ["a*"]) == ["a1", "a[1]"]
    done = hub.push(place, files[2:], what="test", message="Add", drop=["a[1]", "not there"])
    assert done == hub.Pushed(sent=0, there=1, commits=1, deleted=1)
    assert set(hub_server.repos[NAME].files) == {"below/a1", "below/b"}


def test_only_what_differs_is_sent(hub_server: Hub, tmp_path: Path) -> None:
    files = items(tmp_path / "set", **{"a.tar": LFS_FROM * 2, "b.tar": LFS_FROM * 2, "a.json": 64, "b.json": 64})
    push(files)
    files[1].path.write_bytes(bytes(LFS_FROM * 2 // 32 * 32))  # as many bytes
    files[3].path.write_bytes(bytes(64))

    assert push(files) == hub.Pushed(sent=2, there=2, commits=1)
    assert hub_server.puts.total() == 3
    assert hub_server.repos[NAME].files["b.tar"].data == files[1].path.read_bytes()


def test_a_folder_of_a_repository_is_a_place_of_its_own(hub_server: Hub, tmp_path: Path) -> None:
    files = items(tmp_path / "set", **{"a.json": 64})
    place = hub.parse(f"{SET}/shards/val")

    for sent in (1, 0):
        assert hub.push(place, files, what="test", message="Add").sent == sent
    assert list(hub_server.repos[NAME].files) == ["shards/val/a.json"]


def test_a_commit_holds_no_more_small_files_than_fit_in_it(
    hub_server: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub, "BATCH_INLINE_BYTES", 6400)
    files = items(tmp_path / "set", **{f"{number}.json": 3200 for number in range(5)})

    assert push(files).commits == 3


def test_a_check_that_fails_keeps_its_file_and_those_after_it_here(hub_server: Hub, tmp_path: Path) -> None:
    def check(item: hub.Item) -> None:
        if item.name == "b.json":
            raise RemoteError("damaged")

    with pytest.raises(RemoteError, match="damaged"):
        push(items(tmp_path / "set", **{"a.json": 64, "b.json": 64}), check=check)
    assert not hub_server.commits(NAME)


def test_what_the_repository_ignores_is_not_said_to_be_there(hub_server: Hub, tmp_path: Path) -> None:
    hub_server.ignored = frozenset({"b.json"})

    with pytest.raises(RemoteError, match=r"lacks b.json and 0 others after the upload; check whether its .gitignore"):
        push(items(tmp_path / "set", **{"a.json": 64, "b.json": 64}))


def test_a_push_that_is_asked_to_stop_keeps_what_was_sent(
    hub_server: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub, "BATCH_FILES", 2)
    files = items(tmp_path / "set", **{f"{number}.json": 64 for number in range(6)})

    with pytest.raises(StoppedError, match="sent files are kept; run the same command again to resume"):
        push(files, stop=lambda: hub_server.commits(NAME) == 1)
    assert push(files) == hub.Pushed(sent=4, there=2, commits=2)


PUSHED = """
import sys
from pathlib import Path
from kinetics_sounds import hub
files = [hub.Item(path=path, name=path.name) for path in sorted(Path(sys.argv[1]).iterdir())]
hub.push(hub.parse(sys.argv[2]), files, what="test", message="Add files")
"""


@pytest.mark.slow
def test_a_push_that_is_killed_half_way_goes_on_and_sends_nothing_twice(hub_server: Hub, tmp_path: Path) -> None:
    files = items(tmp_path / "set", **{f"{number}.tar": LFS_FROM * 2 + 32 * number for number in range(12)})
    hub_server.gate.clear()
    hub_server.open_puts = 5
    pushing = subprocess.Popen([sys.executable, "-c", PUSHED, str(tmp_path / "set"), SET])
    while hub_server.puts.total() < 5:
        time.sleep(0.01)
        assert pushing.poll() is None
    os.kill(pushing.pid, signal.SIGKILL)
    pushing.wait()
    before = set(hub_server.puts)
    hub_server.open_puts = float("inf")
    hub_server.gate.set()

    assert push(files).sent == 12
    assert len(before) == 5
    assert all(hub_server.puts[each] == 1 for each in before)
    assert sorted(hub_server.repos[NAME].files) == sorted(each.name for each in files)


# --- Faults -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fault",
    [
        Fault(r"POST .*/commit/", 503),
        Fault(r"POST .*/preupload/", 502),
        Fault(r"PUT /objects", 500, times=2),
        Fault(r"GET .*/tree/", 504),
        Fault(r"POST .*/commit/", cut=True),
        Fault(r"POST .*/commit/", 409),
        Fault(r"POST .*/commit/", 429, headers={"Retry-After": "0"}),
    ],
    ids=str,
)
def test_what_fails_for_a_moment_is_tried_again_and_told(
    hub_server: Hub, tmp_path: Path, fault: Fault, caplog: pytest.LogCaptureFixture
) -> None:
    files = items(tmp_path / "set", **{"a.tar": LFS_FROM * 2, "a.json": 64})
    hub_server.faults.append(fault)

    assert push(files).sent == 2
    if "PUT" not in fault.matches:  # which huggingface_hub tries again itself
        assert "trying again" in caplog.text
    assert "HTTP Request" not in caplog.text
    assert not fault.times
    assert hub_server.commits(NAME) == 1
    assert set(hub_server.puts.values()) == {1}


def test_a_commit_whose_answer_was_lost_is_not_made_twice(hub_server: Hub, tmp_path: Path) -> None:
    hub_server.faults.append(Fault(r"POST .*/commit/", 503, late=True))

    push(items(tmp_path / "set", **{"a.tar": LFS_FROM * 2, "a.json": 64}))
    assert hub_server.commits(NAME) == 1


@pytest.mark.parametrize("headers", [{"Retry-After": "7"}, {"ratelimit": '"api";r=0;t=7'}], ids=str)
def test_a_rate_limit_is_waited_for_as_long_as_the_hub_asks(
    hub_server: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, headers: dict[str, str]
) -> None:
    clock = Clock(monkeypatch)
    hub_server.faults.append(Fault(r"POST .*/commit/", 429, headers=headers))

    assert push(items(tmp_path / "set", **{"a.json": 64})).sent == 1
    assert clock.slept == pytest.approx(7)


class Clock:
    """Of which nobody waits."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.slept = 0.0
        monkeypatch.setattr("kinetics_sounds.answers.time", self)

    def monotonic(self) -> float:
        return self.slept

    def time(self) -> float:
        return 0.0

    def sleep(self, seconds: float) -> None:
        self.slept += seconds


def test_a_wait_longer_than_our_patience_ends_the_push_at_once(hub_server: Hub, tmp_path: Path) -> None:
    hub_server.faults.append(Fault(r"POST .*/commit/", 429, headers={"Retry-After": "3600"}, times=9))

    with pytest.raises(
        StoppedError, match=r"the Hub's rate limit is reached .*; run the same command again in an hour to resume"
    ):
        push(items(tmp_path / "set", **{"a.json": 64}))
    assert hub_server.count("/commit/") == 1


@pytest.mark.parametrize(
    ("token", "place", "told"),
    [
        ("", SET, r"requires a login; .*log in with `hf auth login`, or set HF_TOKEN \(.*HTTP status 401"),
        ("hf_wrong" + WORD, SET, r"log in with `hf auth login`, or set HF_TOKEN \(.*HTTP status 401"),
        (READER, SET, r"your token lacks the permission; .*HTTP status 403"),
        (WRITER, "hf://datasets/bob/set", r"your token lacks the permission; .*HTTP status 403"),
        (WRITER, f"{SET}@v9", r"does not exist, or is private; check name and revision .*HTTP status 404"),
    ],
)
def test_a_refusal_is_final_says_what_to_do_and_no_token(
    hub_server: Hub,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    token: str,
    place: str,
    told: str,
) -> None:
    monkeypatch.setenv("HF_TOKEN", token)
    files = items(tmp_path / "set", **{"a.json": 64})

    with pytest.raises(RemoteError, match=told) as found:
        hub.push(hub.parse(place), files, what="test", message="Add")
    assert f"{place}: " in str(found.value)
    assert hub_server.count("POST") <= 1
    out, err = capfd.readouterr()
    assert WORD not in str(found.value) + out + err + caplog.text


def test_a_line_that_stays_broken_says_so_and_no_signature(
    hub_server: Hub, tmp_path: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    hub_server.faults.append(Fault(r"PUT /objects", 500, times=99, body=f"https://x/y?sig={WORD} {WRITER}"))

    with pytest.raises(RemoteError, match=r"check the address and the connection, then run again \(.*500") as found:
        push(items(tmp_path / "set", **{"a.tar": LFS_FROM * 2}))
    out, err = capfd.readouterr()
    assert WORD not in str(found.value) + out + err + caplog.text
    assert hub_server.count("PUT /objects") == 3


def test_the_users_own_client_is_asked_and_comes_back(hub_server: Hub) -> None:
    """Where theirs knows proxies or certificates, ours has to too."""
    import httpx2
    from huggingface_hub import set_client_factory
    from huggingface_hub.utils import _http as http

    made = []

    def own() -> httpx2.Client:
        made.append(1)
        return httpx2.Client(follow_redirects=True)

    before = http._GLOBAL_CLIENT_FACTORY
    set_client_factory(own)
    try:
        assert hub.is_private(hub.parse(SET)) is None
        assert made
        assert http._GLOBAL_CLIENT_FACTORY is own
    finally:
        set_client_factory(before)


def test_without_the_package_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)

    with pytest.raises(RemoteError, match=r"pip install 'kinetics-sounds\[hub\]'"):
        hub.is_private(hub.parse(SET))


# --- Fetching -----------------------------------------------------------------------------------------------------------

MOST = {"*.json": 1000, "*.bin": 100_000}


def fetch(url: str = SET) -> Path:
    return hub.fetch(hub.parse(url), most_bytes=MOST, most_files=3)


@pytest.fixture
def stored(hub_server: Hub, tmp_path: Path) -> list[hub.Item]:
    files = items(tmp_path / "stored", **{"a.json": 64, "b.bin": LFS_FROM * 2, "evil.pickle": 64})
    push(files)
    return files


def test_what_is_wanted_is_fetched_once_and_nothing_else(hub_server: Hub, stored: list[hub.Item]) -> None:
    folder = fetch()

    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {
        each.name: each.path.read_bytes() for each in stored[:2]
    }
    hub_server.requests.clear()
    assert fetch() == folder
    assert not hub_server.count("/resolve/")


def test_a_revision_is_fetched_as_it_was(hub_server: Hub, stored: list[hub.Item]) -> None:
    before = hub_server.repos[NAME].sha()
    stored[0].path.write_bytes(bytes(32))
    push(stored)

    assert (fetch() / "a.json").read_bytes() == bytes(32)
    assert len((fetch(f"{SET}@{before}") / "a.json").read_bytes()) == 64


def test_without_a_line_what_was_fetched_before_is_taken(
    hub_server: Hub, stored: list[hub.Item], monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    folder = fetch()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)

    assert fetch() == folder
    with pytest.raises(RemoteError, match="is unavailable"):
        fetch("hf://datasets/ann/other")


@pytest.mark.parametrize("name", ["a.json", "b.bin"])
def test_a_file_larger_than_any_of_its_kind_is_refused_before_it_is_fetched(
    hub_server: Hub, stored: list[hub.Item], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setitem(MOST, f"*{Path(name).suffix}", 10)

    with pytest.raises(RemoteError, match=rf"its {name} has \d+ bytes, more than the 10 allowed"):
        fetch()
    assert not hub_server.count("/resolve/")


@pytest.mark.parametrize(("size", "refused"), [(64, False), (2048, True)])
def test_a_file_that_is_called_as_a_suffix_is_bounded_too(
    hub_server: Hub, tmp_path: Path, size: int, refused: bool
) -> None:
    push(items(tmp_path / "set", **{".json": size}))

    with pytest.raises(RemoteError, match=r"its \.json has 2048 bytes") if refused else contextlib.nullcontext():
        assert (fetch() / ".json").stat().st_size == size


def test_a_file_of_two_patterns_has_the_narrower_bound(
    hub_server: Hub, stored: list[hub.Item], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(MOST, "a.*", 10)

    with pytest.raises(RemoteError, match=r"its a.json has \d+ bytes, more than the 10 allowed"):
        fetch()


def test_more_files_than_are_looked_for_are_refused(hub_server: Hub, tmp_path: Path) -> None:
    push(items(tmp_path / "set", **{f"{number}.json": 64 for number in range(4)}))

    with pytest.raises(RemoteError, match="has 4 files, more than the 3 allowed"):
        fetch()


def test_a_download_that_is_cut_goes_on(hub_server: Hub, stored: list[hub.Item]) -> None:
    hub_server.faults.append(Fault(r"GET .*/resolve/.*/b.bin", cut=True))

    assert (fetch() / "b.bin").read_bytes() == stored[1].path.read_bytes()


def test_a_private_repository_is_not_read_by_a_stranger(
    hub_server: Hub, stored: list[hub.Item], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "")

    with pytest.raises(RemoteError, match="log in with `hf auth login`"):
        fetch()


# --- By fsspec ----------------------------------------------------------------------------------------------------------


def test_a_file_at_an_hf_url_is_read(hub_server: Hub, stored: list[hub.Item]) -> None:
    assert remote.size(f"{SET}/b.bin") == LFS_FROM * 2 // 32 * 32
    assert remote.read(f"{SET}/b.bin", most=10**6) == stored[1].path.read_bytes()
    assert remote.size(f"{SET}/c.bin") is None


@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_refusal_of_an_hf_url_is_final(hub_server: Hub, stored: list[hub.Item], status: int) -> None:
    remote.size(f"{SET}/b.bin")
    hub_server.faults.append(Fault(r"GET .*/resolve/", status, times=99))
    began = time.monotonic()

    with pytest.raises(RemoteError, match=r"is unavailable|does not"):
        remote.read(f"{SET}/b.bin", most=10**6)
    assert hub_server.count(r"GET .*/resolve/") == 1
    assert time.monotonic() - began < 2


def test_a_rate_limit_of_an_hf_url_is_waited_for(
    hub_server: Hub, stored: list[hub.Item], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "BACKOFF", retry.Backoff(attempts=3, first_seconds=0.01, longest_seconds=0.02))
    clock = Clock(monkeypatch)
    hub_server.faults.append(Fault(r"GET /api/datasets/ann/set(/revision/main)?$", 429, headers={"Retry-After": "30"}))

    assert remote.size(f"{SET}/b.bin")
    assert clock.slept == pytest.approx(30)
