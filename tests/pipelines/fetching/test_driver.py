"""Sources in turn, clip by clip: who is asked for what, what is kept of it, and when nobody is asked at all."""

import hashlib
import http.server
import json
import os
import signal
import sqlite3
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from kinetics_sounds import files, sources
from kinetics_sounds.address import Address
from kinetics_sounds.clip import SPLITS, Clip, Kind, Media, Outcome, Status
from kinetics_sounds.ledger import Ledger
from kinetics_sounds.pipelines import build
from kinetics_sounds.pipelines.executors import Cause, Failed
from kinetics_sounds.pipelines.fetching import build_state, driver
from kinetics_sounds.pipelines.fetching.task import ClipDone, ClipTask

from ...serving import serving
from ..conftest import video
from ..mirror import Place
from .test_archive_driver import Pool

# Sources that say what the test wants, without a file being cut.


@dataclass
class Said:
    """A source that has what it is told to have."""

    has: set[str] | None = None
    """Ids; None for any."""
    notice: str = ""
    versions: str = "made up 1"
    videos_per_hour: float | None = None
    requests_per_hour: float | None = None
    share: dict[str, float] = field(default_factory=lambda: dict.fromkeys(SPLITS, 1.0))

    def candidates(self, clip: Clip) -> list[str]:
        return [clip.youtube_id] if self.has is None or clip.youtube_id in self.has else []


class World:
    """What each source says of each clip, and who was asked for what."""

    def __init__(self) -> None:
        self.sources: dict[str, Said] = defaultdict(Said)
        self.answers: dict[tuple[str, str], list[Status]] = {}
        """By source and id; the last one stays. Ok where there is none."""
        self.reached = set[str]()
        """Ids whose files the source gave, so that what they say is of something else."""
        self.asked: list[tuple[str, str]] = []
        self.pools = 0

    def load(self, spec: Address, _options: object = None) -> Said:
        return self.sources[str(spec)]

    def start(self, *_: object, **__: object) -> Pool:
        self.pools += 1
        return Pool(self.work)

    def work(self, task: ClipTask) -> ClipDone | Failed:
        spec = str(task.spec)
        self.asked.append((spec, task.clip.youtube_id))
        answers = self.answers.get(self.asked[-1], [Status.OK])
        status = answers.pop(0) if len(answers) > 1 else answers[0]
        media = placed(task.out, task.clip, spec) if status is Status.OK else None
        detail = "" if media else f"{spec} says {status}"
        outcome = Outcome(clip=task.clip, status=status, detail=detail, source=spec, media=media)
        reached = task.clip.youtube_id in self.reached
        return ClipDone(outcome=outcome, seconds={"cut": 0.5}, requests=2, bytes=100, reached=reached)

    def were_asked(self) -> list[tuple[str, str]]:
        """Source and id of all that was asked since the last call."""
        asked = list(self.asked)
        self.asked.clear()
        return asked


def placed(out: Path, clip: Clip, text: str) -> Media:
    path = out / "clips" / f"{clip.key}.mp4"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    numbers: dict[str, Any] = dict.fromkeys(("fps", "duration_seconds", "audio_rms_db", "audio_offset_seconds"), 1.5)
    counts = ("width", "height", "num_frames", "audio_rate", "audio_channels", "rotation", "decode_errors")
    numbers |= dict.fromkeys(counts, 2) | {"silent": False, "still": False, "other_streams": ""}
    return Media(
        path=f"clips/{path.name}", bytes=len(text), sha256=hashlib.sha256(text.encode()).hexdigest(), **numbers
    )


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    here = World()
    monkeypatch.setattr(sources, "absolute", Address)
    monkeypatch.setattr(sources, "load", here.load)
    monkeypatch.setattr(build.executors, "start", here.start)
    monkeypatch.setattr(driver, "SECONDS_BETWEEN_LOOKS", 0.01)
    return here


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path, "one")


def recorded(place: Place) -> list[tuple[str, str, str]]:
    """Every row of the ledger: source, id, status."""
    database = sqlite3.connect(place.out / "ledger.sqlite")
    rows = database.execute("SELECT source, key, status FROM outcomes ORDER BY id").fetchall()
    database.close()
    return [(source, key.split("_")[0], status) for source, key, status in rows]


# Who is asked for what.


def test_each_source_is_asked_for_what_those_before_it_did_not_give(place: Place, world: World) -> None:
    world.sources["one"].has = {"a", "b", "c"}
    world.answers = {("one", "b"): [Status.CORRUPT], ("one", "c"): [Status.TOO_SHORT], ("two", "c"): [Status.REMOVED]}
    place.annotate("a", "b", "c", "d")

    assert place.build(sources=("one", "two")) == 1

    assert world.were_asked() == [("one", "a"), ("one", "b"), ("one", "c"), ("two", "b"), ("two", "c"), ("two", "d")]
    assert {name: (str(each.status), each.source) for name, each in place.outcomes().items()} == {
        "a": ("ok", "one"),
        "b": ("ok", "two"),
        "c": ("removed", "two"),
        "d": ("ok", "two"),
    }
    assert sorted(recorded(place)) == [  # what each source said is kept
        ("one", "a", "ok"),
        ("one", "b", "corrupt"),
        ("one", "c", "too_short"),
        ("one", "d", "not_in_source"),
        ("two", "b", "ok"),
        ("two", "c", "removed"),
        ("two", "d", "ok"),
    ]


def test_a_source_that_is_added_later_is_asked_only_for_what_is_wanting(place: Place, world: World) -> None:
    world.answers = {("one", "b"): [Status.PRIVATE]}
    place.annotate("a", "b")
    assert place.build() == 1
    world.were_asked()

    assert place.build(sources=("two", "one")) == 0

    assert world.were_asked() == [("two", "b")]
    assert place.outcomes()["b"].source == "two"


def test_a_word_that_is_for_good_is_not_asked_for_again_and_any_other_is(place: Place, world: World) -> None:
    said = [each for each in Status if each.kind in (Kind.PERMANENT, Kind.RETRY) and each is not Status.NOT_TRIED]
    world.answers = {("one", str(status)): [status, Status.OK] for status in said}
    place.annotate(*map(str, said))
    assert place.build("--attempts", "1") == 1
    assert place.statuses() == {str(status): str(status) for status in said}
    assert len(world.were_asked()) == len(said)

    assert place.build("--attempts", "1") == 1
    assert set(world.were_asked()) == {("one", str(status)) for status in said if status.kind is Kind.RETRY}

    assert place.build("--retry", "private") == 1
    assert world.were_asked() == [("one", "private")]
    assert place.build("--retry", "permanent") == 0
    rest = {("one", str(status)) for status in said if status.kind is Kind.PERMANENT}
    assert set(world.were_asked()) == rest - {("one", "private")}


def test_a_word_holds_for_its_source_alone(place: Place, world: World) -> None:
    world.answers = {("one", "a"): [Status.PRIVATE], ("two", "a"): [Status.NETWORK]}
    place.annotate("a")
    assert place.build("--attempts", "1", sources=("one", "two")) == 1
    assert place.statuses() == {"a": "network"}
    world.were_asked()

    assert place.build("--attempts", "1", sources=("one", "two")) == 1

    assert world.were_asked() == [("two", "a")]


def test_clips_that_a_source_does_not_have_need_no_worker_and_are_told_once(
    place: Place, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driver, "BATCH", 3)
    world.sources["one"].has = {"a4"}
    place.annotate(*(f"a{number}" for number in range(10)))

    for _ in range(2):
        assert place.build() == 1

    assert world.were_asked() == [("one", "a4")]
    assert Counter(status for _, _, status in recorded(place)) == {"ok": 1, "not_in_source": 9}

    world.sources["one"].has = {"a4", "a5"}  # the folder was filled since
    assert place.build() == 1
    assert world.were_asked() == [("one", "a5")]


def test_of_two_files_the_one_that_is_there_is_told(place: Place, world: World) -> None:
    """The second source's word on a file that was lost is older, but later in the order of the sources."""
    place.annotate("a")
    assert place.build(sources=("second",)) == 0
    next((place.out / "clips").iterdir()).unlink()

    assert place.build(sources=("one", "second")) == 0

    media = place.outcomes()["a"].media
    assert media is not None
    assert (place.outcomes()["a"].source, media.bytes) == ("one", len("one"))


def test_a_clip_that_was_refused_is_asked_for_after_the_others(place: Place, world: World) -> None:
    world.answers = {("one", "a"): [Status.BOT_CHECK, Status.OK]}
    place.annotate("a", "b", "c")
    assert place.build("--patience", "0") == 3
    world.were_asked()

    assert place.build() == 0

    assert world.were_asked() == [("one", "b"), ("one", "c"), ("one", "a")]


# Clips whose bytes changed.


def rot(place: Place, name: str) -> None:
    """Change one byte of a built clip."""
    path = place.out / f"clips/{name}_000003_000005.mp4"
    path.write_bytes(b"?" + path.read_bytes()[1:])


def test_only_a_check_of_bytes_sees_another_byte_and_it_is_made_anew(
    place: Place, world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.sources["one"].has = {"a", "b"}
    place.annotate("a", "b", "c")
    assert place.build(sources=("one", "two")) == 0
    before = place.outcomes()
    world.were_asked()
    rot(place, "b")
    rot(place, "c")

    assert place.build(sources=("one", "two")) == 0
    assert world.were_asked() == []

    assert place.build("--check_bytes", sources=("one", "two")) == 0
    assert world.were_asked() == [("one", "b"), ("two", "c")]  # each of the source that it came from
    assert place.outcomes() == before
    assert [path.read_text() for path in sorted((place.out / "clips").iterdir())] == ["one", "one", "two"]
    for name in "bc":
        path = place.out / f"clips/{name}_000003_000005.mp4"
        assert f"{path}: its SHA-256 differs; will be rebuilt" in caplog.text

    assert place.build("--check_bytes", sources=("one", "two")) == 0
    assert world.were_asked() == []


def test_what_a_check_of_bytes_found_is_made_anew_by_any_later_run(
    place: Place, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run that looked is killed before it comes to ask."""
    place.annotate("a", "b")
    assert place.build() == 0
    rot(place, "b")
    world.were_asked()

    def killed(*_: object) -> None:
        raise SystemExit(137)

    with monkeypatch.context() as patch:
        patch.setattr(build, "_ask_all", killed)
        with pytest.raises(SystemExit):
            place.build("--check_bytes")

    assert place.build() == 0
    assert world.were_asked() == [("one", "b")]
    assert recorded(place)[-2:] == [("one", "b", "not_tried"), ("one", "b", "ok")]


def test_a_check_of_bytes_that_is_stopped_says_so_though_all_is_there(
    place: Place, world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    place.annotate("a", "b")
    assert place.build() == 0
    difference = files.difference

    def stopping(path: Path, **expected: Any) -> str:
        if expected.get("digest"):
            os.kill(os.getpid(), signal.SIGTERM)
        return difference(path, **expected)

    # Signals are handled in the main thread, so the work is done there.
    monkeypatch.setattr(files, "in_threads", lambda act, items: ((item, act(item)) for item in items))
    monkeypatch.setattr(files, "difference", stopping)
    assert place.build("--check_bytes") == 3

    assert "run the same command to resume" in capsys.readouterr().err
    assert place.statuses() == {"a": "ok", "b": "ok"}


def test_a_clip_whose_source_has_it_no_more_is_told_so(place: Place, world: World) -> None:
    place.annotate("a")
    assert place.build() == 0
    rot(place, "a")
    world.answers = {("one", "a"): [Status.REMOVED]}

    assert place.build("--check_bytes") == 1

    assert place.statuses() == {"a": "removed"}


def test_a_clip_that_cannot_be_read_is_made_anew(
    place: Place, world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As from a bad sector: nothing of this machine's own would bring it back."""
    place.annotate("a", "b")
    assert place.build() == 0
    world.were_asked()
    sha256 = files.sha256

    def fails(path: Path) -> str:
        if path.name.startswith("b_"):
            raise OSError(5, "Input/output error")
        return sha256(path)

    monkeypatch.setattr(files, "sha256", fails)
    assert place.build("--check_bytes") == 0

    assert world.were_asked() == [("one", "b")]
    assert "b_000003_000005.mp4: cannot be read: Input/output error; will be rebuilt" in caplog.text


def test_a_dry_run_can_check_bytes_and_writes_nothing(
    place: Place, world: World, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    place.annotate("a", "b", "c")
    assert place.build() == 0
    rot(place, "b")
    world.were_asked()
    before = recorded(place)

    assert place.build("--check_bytes", "--dry_run") == 0

    out = capsys.readouterr().out
    assert "2 clips built already" in out
    assert "would request from one: 1 clip" in out
    assert "b_000003_000005.mp4: its SHA-256 differs" in caplog.text
    assert recorded(place) == before
    assert world.were_asked() == []


def test_of_many_clips_that_changed_some_are_named_and_all_are_counted(
    place: Place, world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(build_state, "MOST_NAMED", 2)
    place.annotate(*"abcde")
    assert place.build() == 0
    for name in "abcd":
        rot(place, name)

    assert place.build("--check_bytes") == 0

    assert caplog.text.count("its SHA-256 differs") == 2
    assert f"{place.out}: 4 clips in total have changed bytes" in caplog.text


# Tries.


def test_tries_are_bounded_and_each_is_recorded(place: Place, world: World) -> None:
    world.answers = {
        ("one", "a"): [Status.HTTP_5XX],
        ("one", "b"): [Status.TIMEOUT, Status.TRUNCATED, Status.OK],
        ("one", "c"): [Status.UNAVAILABLE],
    }
    place.annotate("a", "b", "c")

    assert place.build("--attempts", "3") == 1

    assert Counter(world.were_asked()) == {("one", "a"): 3, ("one", "b"): 3, ("one", "c"): 1}
    assert Counter(recorded(place)) == {
        ("one", "a", "http_5xx"): 3,
        ("one", "b", "timeout"): 1,
        ("one", "b", "truncated"): 1,
        ("one", "b", "ok"): 1,
        ("one", "c", "unavailable"): 1,
    }
    run = json.loads((place.out / "report.json").read_text())["this_run"]
    assert (run["clips"], run["tries"], run["requests"], run["bytes_downloaded"]) == (3, 7, 14, 700)
    assert run["worker_seconds"] == {"cut": 3.5}


@pytest.mark.parametrize(
    ("cause", "status"), [(Cause.TIMED_OUT, "timeout"), (Cause.DIED, "crashed"), (Cause.RAISED, "crashed")]
)
def test_a_worker_that_fails_is_told_and_tried_again(
    place: Place,
    world: World,
    cause: Cause,
    status: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    good = world.work
    fails = iter([True, True, True, False])

    def work(task: ClipTask) -> ClipDone | Failed:
        (task.folder / "half").mkdir(parents=True)
        return Failed(cause, "as it was told", "the lines of its traceback") if next(fails) else good(task)

    monkeypatch.setattr(world, "work", work)
    place.annotate("a")

    assert place.build("--attempts", "3") == 1
    assert place.statuses() == {"a": status}
    assert place.outcomes()["a"].detail == "as it was told"
    assert ("a bug, please report it: the lines of its traceback" in caplog.text) is (cause is Cause.RAISED)
    assert place.build() == 0


# A source that refuses.


def test_a_source_that_refuses_ends_the_run_and_burns_nothing(
    place: Place, world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    world.answers = {("one", "b"): [Status.BOT_CHECK, Status.OK]}
    place.annotate("a", "b", "c", "d")

    assert place.build("--patience", "0") == 3

    assert world.were_asked()[:2] == [("one", "a"), ("one", "b")]
    assert place.statuses()["b"] == "bot_check"
    assert set(place.statuses().values()) == {"ok", "bot_check", "not_tried"}
    assert "stopped: bot_check: one says bot_check; run the same command later" in capsys.readouterr().err
    assert place.build("--patience", "0") == 0
    assert {each.source for each in place.outcomes().values()} == {"one"}


def test_the_sources_after_one_that_refuses_are_still_asked(place: Place, world: World) -> None:
    world.answers = {("one", "a"): [Status.BOT_CHECK], ("two", "c"): [Status.PRIVATE]}
    place.annotate("a", "b", "c", "d")

    assert place.build("--patience", "0", sources=("one", "two")) == 3

    assert place.statuses()["a"] == "ok"
    assert place.outcomes()["a"].source == "two"


def test_a_source_that_refuses_for_a_while_is_probed_with_one_clip_until_it_answers(
    place: Place, world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.answers = {("one", name): [Status.RATE_LIMITED, Status.OK] for name in "abc"}
    place.annotate(*"abcdefgh")

    assert place.build("--patience", "5") == 0

    asked = [name for _, name in world.were_asked()]
    assert asked[:4] == ["a", "b", "c", "d"]  # b was handed out with a, c and d are probes
    assert sorted(asked) == sorted("abcdefgh" + "abc")
    assert asked[-3:] == ["a", "b", "c"]
    said = [record.message for record in caplog.records if "source" in record.message]
    assert said[0].startswith("paused, the source refuses requests (rate_limited: one says rate_limited); next attempt")
    assert said[-1] == "the source responds again: resuming"


@pytest.mark.parametrize("outage", [Status.NETWORK, Status.HTTP_5XX, Status.TIMEOUT])
def test_a_network_or_host_that_fails_pauses_and_ends_the_run(
    outage: Status, place: Place, world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    names = [f"a{number:02d}" for number in range(30)]
    world.answers = {("one", name): [outage] for name in names}
    place.annotate(*names)

    assert place.build("--patience", "0", "--retry_wait", "60") == 3

    assert 10 <= len(world.were_asked()) <= 12
    assert f"stopped: {outage}: one says {outage}" in capsys.readouterr().err
    assert Counter(place.statuses().values())["not_tried"] >= 18


class AllAtOnce(Pool):
    """Two tasks are handed out at a time, and both end together."""

    def finished(self, seconds: float) -> list[tuple[Any, Any]]:
        ended: list[tuple[Any, Any]] = []
        while self.busy and seconds:
            ended += super().finished(seconds)
        return ended


def test_what_fails_here_is_not_told_for_why_the_source_gives_no_more(
    place: Place, world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The tenth outage in a row ends with a clip whose file came, and which took too long to cut."""
    names = [f"a{number:02d}" for number in range(12)]
    world.answers = {("one", name): [Status.NETWORK] for name in names}
    world.answers |= {("one", "a00"): [Status.CRASHED], ("one", "a11"): [Status.TIMEOUT]}
    world.reached = {"a11"}
    monkeypatch.setattr(build.executors, "start", lambda *_, **__: AllAtOnce(world.work))
    place.annotate(*names)

    assert place.build("--patience", "0", "--retry_wait", "60") == 3

    assert world.were_asked()[-1] == ("one", "a11")
    assert "stopped: network: one says network" in capsys.readouterr().err


def test_what_is_done_when_a_stop_is_asked_for_is_kept(
    place: Place, world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    good = world.work

    def work(task: ClipTask) -> ClipDone | Failed:
        if task.clip.youtube_id == "c":
            os.kill(os.getpid(), signal.SIGTERM)
        return good(task)

    monkeypatch.setattr(world, "work", work)
    place.annotate(*"abcdef")

    assert place.build(sources=("one", "two")) == 3

    assert world.were_asked() == [("one", "a"), ("one", "b"), ("one", "c")]
    assert place.statuses() == {**dict.fromkeys("abc", "ok"), **dict.fromkeys("def", "not_tried")}
    assert "stopped by SIGTERM: finished clips are kept" in capsys.readouterr().err
    monkeypatch.setattr(world, "work", good)
    assert place.build(sources=("one", "two")) == 0
    assert world.were_asked() == [("one", name) for name in "def"]


def test_planning_a_build_again_is_linear(place: Place, tmp_path: Path) -> None:
    """Ten times the clips take about ten times as long."""

    def seconds(count: int) -> float:
        out = tmp_path / str(count)
        clips = [Clip(f"id{number}", 3, 5, "humming", "train") for number in range(count)]
        with Ledger(out / "ledger.sqlite") as ledger:
            ledger.record(Outcome(clip=clip, status=Status.PRIVATE, source="one") for clip in clips)
            began = time.process_time()
            known = build_state.load_state(ledger, clips, {"retry"}, out)
            assert build_state.pending(known, "one", clips) == []
            assert len(build_state.pending(known, "two", clips)) == count
        return time.process_time() - began

    assert seconds(30_000) < 40 * max(seconds(3000), 0.01)


# The real thing: yt-dlp, real clips, real processes.


class Host(http.server.BaseHTTPRequestHandler):
    """One video under every id, unless it refuses."""

    protocol_version = "HTTP/1.1"
    server: "Hosting"

    def log_message(self, *_args: object) -> None:
        pass

    def do_GET(self) -> None:
        name = self.path.strip("/").removesuffix(".mp4")
        self.server.asked.append((name, time.monotonic()))
        refuses = self.server.refusals > 0
        self.server.refusals -= refuses
        data = b"" if refuses else self.server.data
        self.send_response(429 if refuses else 200)
        self.send_header("Content-Type", "video/mp4")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(data)

    do_HEAD = do_GET


class Hosting(http.server.ThreadingHTTPServer):
    daemon_threads = True
    data: bytes
    refusals = 0
    """Requests to come that are answered with HTTP 429."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Host)
        self.asked: list[tuple[str, float]] = []
        self.spec = f"youtube:http://127.0.0.1:{self.server_port}/{{youtube_id}}.mp4"

    def handle_error(self, request: object, client_address: object) -> None:
        pass  # a client that hung up

    def names(self) -> list[str]:
        """Ids in the order in which they were first asked for."""
        return list(dict.fromkeys(name for name, _ in self.asked))


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Hosting]:
    video(tmp_path / "video.mp4", seconds=6, side=32)
    hosting = Hosting()
    hosting.data = (tmp_path / "video.mp4").read_bytes()
    with serving(hosting):
        yield hosting


def test_a_host_that_answers_429_is_asked_once_and_not_for_every_clip(
    tmp_path: Path, host: Hosting, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(build.executors, "start", lambda *_, **__: Pool())
    place = Place(tmp_path, host.spec).annotate(*(f"id{number}" for number in range(8)))
    host.refusals = 1_000_000

    assert place.build("--patience", "0") == 3

    assert len(host.names()) <= 2  # the one that was handed out with it, too
    assert Counter(place.statuses().values())["not_tried"] >= 6
    assert set(place.statuses().values()) <= {"rate_limited", "not_tried"}
    assert "stopped: rate_limited" in capsys.readouterr().err

    host.refusals = 0
    host.asked.clear()
    assert place.build("--patience", "0") == 0
    assert len(host.names()) == 8


def test_a_host_that_answers_429_for_a_while_is_waited_for(
    tmp_path: Path, host: Hosting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build.executors, "start", lambda *_, **__: Pool())
    place = Place(tmp_path, host.spec).annotate(*(f"id{number}" for number in range(4)))
    host.refusals = 1

    assert place.build("--patience", "8") == 0

    assert set(place.statuses().values()) == {"ok"}
    assert len(host.names()) == 4


@pytest.mark.slow
def test_a_rate_holds_over_all_workers(tmp_path: Path, host: Hosting, monkeypatch: pytest.MonkeyPatch) -> None:
    per_second, workers, count = 2, 3, 9
    load = sources.load

    def limited(spec: str, options: object = None) -> Any:
        source = load(spec, options)
        source.videos_per_hour = 3600.0 * per_second  # type: ignore[union-attr]
        return source

    monkeypatch.setattr(sources, "load", limited)  # the driver's; workers are processes of their own
    place = Place(tmp_path, host.spec).annotate(*(f"id{number}" for number in range(count)))

    assert place.build("--workers", str(workers)) == 0

    first: dict[str, float] = {}
    for name, at in host.asked:
        first.setdefault(name, at)
    times = sorted(first.values())
    assert len(times) == count
    for start in times:  # a worker may be slow to begin with what it was handed, so `workers` may come late
        for seconds in (1, 2, 3):
            assert sum(start <= at < start + seconds for at in times) <= seconds * per_second + workers
    assert times[-1] - times[0] >= (count - 1 - workers) / per_second
