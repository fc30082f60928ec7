"""ks-doctor: every check against the fault that it is there for, made for real where that can be done."""

import errno
import fcntl
import importlib
import json
import os
import re
import resource
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from collections import namedtuple
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from kinetics_sounds import cores
from kinetics_sounds.extras import pip_install
from kinetics_sounds.media import ffmpeg
from kinetics_sounds.pipelines import doctor
from kinetics_sounds.pipelines.checks import (
    Asked,
    Finding,
    Verdict,
    apart,
    filesystem,
    machine,
    media_tools,
    packages,
    rank_parity,
    sources,
    torch_report,
)
from kinetics_sounds.pipelines.synthetic import http_server
from kinetics_sounds.sources import TarPart
from kinetics_sounds.train.diagnostics import torch_report as diagnostics_torch_report

from .conftest import video

GIGABYTE = 10**9
Usage = namedtuple("Usage", "total used free")


def verdicts(found: Any) -> dict[str, str]:
    return {finding.name: finding.verdict.value for finding in found}


def only(found: Any) -> Any:
    [finding] = found
    return finding


def script(path: Path, body: str) -> Path:
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return path


def until(met: Callable[[], bool], *, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not met() and time.monotonic() < deadline:
        time.sleep(0.02)
    return met()


def alive(pid: int) -> bool:
    """Whether a process runs; one that ended and that nobody waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


# --- the whole command ---


WITHOUT_TORCH = """
from kinetics_sounds.pipelines import doctor
heavy = ("commands", "decoders", "torch")
doctor.CHECKS = [check for check in doctor.CHECKS if check.__name__ not in heavy]
raise SystemExit(doctor.main())
"""
HEAVY = ("commands", "decoder decord", "decoder pyav", "torch")
Whole = tuple[int, list[dict[str, str]], tuple[str, ...]]


@pytest.fixture(
    scope="module",
    params=[
        (("-c", WITHOUT_TORCH), ()),
        pytest.param((("-m", "kinetics_sounds.pipelines.doctor"), HEAVY), marks=pytest.mark.slow_campaign),
    ],
    ids=["without torch", "everything"],
)
def whole(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Whole:
    """The exit code and the findings of one real run, by a process in a folder full of traps for careless imports.

    And the names that are found well besides those that always are.
    """
    words, heavy = request.param
    place = tmp_path_factory.mktemp("place")
    for name in ("torch", "numpy", "json", "train"):
        (place / f"{name}.py").write_text("raise SystemExit('a file of the working directory was imported')\n")
    argv = [sys.executable, "-P", *words, "--json", "--out", "not/made/yet"]
    few = {**os.environ, "OMP_NUM_THREADS": "1"}  # as many tests run beside this one
    result = subprocess.run(argv, check=False, capture_output=True, text=True, cwd=place, env=few, timeout=200)
    assert result.stderr == ""
    assert not (place / "not").exists()
    return result.returncode, json.loads(result.stdout), heavy


def test_a_machine_that_runs_these_tests_lacks_nothing(whole: Whole) -> None:
    code, found, heavy = whole

    assert code == 0, found
    names = [finding["name"] for finding in found]
    assert len(set(names)) == len(names)
    for name in ["python", "package av", "ffmpeg", "clip", *heavy]:
        assert found[names.index(name)]["verdict"] == "ok", name
    assert ("conv3d float32 cpu" in names) == bool(heavy)
    for name in ["yt-dlp", "javascript", "disk", "file system", "cores", "clock"]:
        assert found[names.index(name)]["verdict"] in ("ok", "warning"), name


def test_every_finding_says_what_was_found_and_a_remedy_where_it_is_not_ok(whole: Whole) -> None:
    for finding in whole[1]:
        assert set(finding) == {"name", "verdict", "found", "remedy"}
        assert finding["found"]
        assert bool(finding["remedy"]) == (finding["verdict"] != "ok"), finding


FINE = Finding("cores", Verdict.OK, "2")
WORSE = Finding("disk", Verdict.WARNING, "20 GB free", "free some")
LACKING = Finding("ffmpeg", Verdict.MISSING, "does not run", "install it")


@pytest.mark.parametrize(
    ("found", "code"), [([FINE], 0), ([FINE, WORSE], 0), ([LACKING, FINE, WORSE], 1)], ids=["ok", "warning", "missing"]
)
def test_only_what_is_missing_fails_the_command(
    found: list[Any], code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(doctor, "findings", lambda _settings: iter(found))

    assert doctor.main([]) == code
    assert doctor.main(["--json"]) == code
    text = capsys.readouterr().out
    assert [Finding(**each) for each in json.loads(text[text.index("\n[") :])] == found


def test_the_report_is_aligned_with_remedies_below_and_counts_at_the_end(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(doctor, "findings", lambda _settings: iter([FINE, WORSE, LACKING]))

    doctor.main([])

    shown = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in shown[:5:2]] == [["ok", "cores"], ["->", "free"], ["->", "install"]]
    assert len({shown[0].index("2"), shown[1].index("20 GB"), shown[3].index("does not")}) == 1
    assert shown[2].startswith("     ")
    assert shown[5:] == ["found: 1 ok, 1 warning, 1 missing"]


def test_a_stranger_s_words_cannot_write_lines_or_colours() -> None:
    hostile = Finding("live x", Verdict.MISSING, "a\nok       torch  fine\x1b[2J\udcff\r", "b\x00c")

    assert doctor.lines(hostile).splitlines() == [
        f"missing  {'live x':<{doctor.NAME_WIDTH}} a ok torch fine [2J",
        "           -> b c",
    ]


# --- a process apart ---

BODY = """
import ctypes, os, signal, subprocess, sys, time
from pathlib import Path
from kinetics_sounds.pipelines.checks import Finding, Verdict

def raises(asked):
    yield Finding("first", Verdict.OK, "there")
    raise ValueError("no\\nsuch thing")

def dies(asked):
    print("the tool's own noise")
    os.write(2, b"what it said last\\n")
    yield Finding("first", Verdict.OK, "there")
    os.kill(os.getpid(), signal.SIGSEGV)

def leaves(asked):
    yield Finding("first", Verdict.OK, "there")
    os._exit(3)

def finds_nothing(asked):
    return []

def holds_the_gil(asked):
    yield Finding("first", Verdict.OK, "there")
    child = subprocess.Popen(["sleep", "60"])
    Path(asked.out).write_text(f"{os.getpid()} {child.pid}")
    ctypes.PyDLL(None).sleep(60)

def says(asked):
    yield Finding("says", Verdict.OK, repr((asked.out, asked.subject, asked.live_id, asked.timeout_seconds)))
"""


@pytest.fixture
def bad(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """A module of checks that go wrong, which processes apart can import too."""
    (tmp_path / "bad_checks.py").write_text(BODY)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.syspath_prepend(tmp_path)
    yield importlib.import_module("bad_checks")
    del sys.modules["bad_checks"]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("raises", "ValueError: no\nsuch thing"),
        ("dies", "its process was killed by SIGSEGV: what it said last"),
        ("leaves", "its process ended with exit code 3"),
    ],
)
def test_a_check_that_fails_is_a_finding_and_what_it_found_before_stays(bad: ModuleType, name: str, said: str) -> None:
    first, last = apart(getattr(bad, name), Asked())

    assert first == Finding("first", Verdict.OK, "there")
    assert (last.name, last.verdict, last.found) == (name, Verdict.MISSING, said)
    assert last.remedy


def test_a_check_that_finds_nothing_is_a_finding(bad: ModuleType) -> None:
    assert only(apart(bad.finds_nothing, Asked())).verdict is Verdict.MISSING


def test_a_check_is_told_what_is_asked(bad: ModuleType) -> None:
    asked = Asked(out="a \udcff'\"", subject="decord", live_id="-x", timeout_seconds=7.5)

    assert only(apart(bad.says, asked)).found == repr(("a \udcff'\"", "decord", "-x", 7.5))


def test_a_check_that_hangs_is_killed_with_its_children_and_named(bad: ModuleType, tmp_path: Path) -> None:
    begun = time.monotonic()
    first, last = apart(bad.holds_the_gil, Asked(out=str(tmp_path / "pids"), subject="decord", timeout_seconds=3))

    assert 3 <= time.monotonic() - begun < 15
    assert first.found == "there"
    assert (last.name, last.verdict) == ("holds the gil decord", Verdict.MISSING)
    assert last.found == "took more than 3 s and was killed"
    pids = [int(pid) for pid in (tmp_path / "pids").read_text().split()]
    assert until(lambda: not any(map(alive, pids)), seconds=2)


def test_a_check_that_hangs_ends_also_when_the_doctor_was_killed_first(bad: ModuleType, tmp_path: Path) -> None:
    code = "import bad_checks, sys; from kinetics_sounds.pipelines.checks import *; from kinetics_sounds.pipelines import checks"
    code += "; checks.apart(bad_checks.holds_the_gil, Asked(out=sys.argv[1], timeout_seconds=2.5))"
    place = tmp_path / "pids"
    with subprocess.Popen([sys.executable, "-c", code, str(place)]) as waiting:
        assert until(lambda: place.exists() and len(place.read_text().split()) == 2, seconds=20)
        waiting.kill()

    pid = int(place.read_text().split()[0])
    assert until(lambda: not alive(pid), seconds=6)


def test_a_machine_out_of_processes_is_a_finding(bad: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")

    monkeypatch.setattr(subprocess, "Popen", refuse)

    assert "Resource temporarily unavailable" in only(apart(bad.says, Asked())).found


# --- ffmpeg and decoders ---


def test_what_is_asked_of_ffmpeg_is_what_the_media_folder_uses() -> None:
    text = "".join(path.read_text() for path in Path(ffmpeg.__file__).parent.glob("*.py"))

    assert set(re.findall(r'\.filter(?:_multi_output)?\(\s*"(\w+)"', text)) == set(ffmpeg.NEEDED["filters"])
    assert set(re.findall(r'[va]codec"?[=:] ?"(?!ppm)(\w+)"', text)) == set(ffmpeg.NEEDED["encoders"])


def test_an_ffmpeg_without_an_encoder_or_a_filter_is_missing_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = f'"{ffmpeg.executable()}" "$@" | grep -v -e libx264 -e aac_fixed -e astats'
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", str(script(tmp_path / "ffmpeg", body)))

    finding = only(apart(media_tools.ffmpeg, Asked()))

    assert finding.verdict is Verdict.MISSING
    assert f"({tmp_path / 'ffmpeg'}) lacks encoder libx264, decoder aac_fixed, filter astats" in finding.found
    assert "IMAGEIO_FFMPEG_EXE" in finding.remedy


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("echo broken for good >&2; exit 1", "ended with 1: broken for good"),
        ("exec sleep 60", "took more than 1 s and was killed"),
        ("sleep 60 & echo $! > $0.child; wait", "took more than 1 s and was killed"),
        (None, "No such file"),
    ],
    ids=["fails", "hangs", "hangs with a child", "is not there"],
)
def test_an_ffmpeg_that_does_not_work_is_missing(
    body: str | None, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = script(tmp_path / "ffmpeg", body) if body else tmp_path / "nowhere"
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", str(path))

    finding = only(apart(media_tools.ffmpeg, Asked(timeout_seconds=4)))

    assert (finding.name, finding.verdict) == ("ffmpeg", Verdict.MISSING)
    assert said in finding.found
    left = [int(file.read_text()) for file in tmp_path.glob("*.child")]
    assert len(left) == (body is not None and "child" in body)
    assert until(lambda: not any(map(alive, left)), seconds=2)


def test_a_clip_under_an_ffmpeg_that_fails_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", str(script(tmp_path / "ffmpeg", "echo broken for good >&2; exit 1")))

    finding = only(apart(media_tools.clip, Asked()))

    assert (finding.name, finding.verdict) == ("clip", Verdict.MISSING)
    assert "Error: " in finding.found


READER = """
import ctypes, numpy
class VideoReader:
    def __init__(self, *_, **__): {begin}
    def __len__(self): return 32
    def get_batch(self, numbers): return self
    def asnumpy(self): return {frames}
"""
BROKEN_DECORDS = {
    "hangs": (READER.format(begin="ctypes.PyDLL(None).sleep(60)", frames="0"), "missing", "took more than 3 s"),
    "cannot be loaded": ("raise ImportError('libavcodec.so is not there')", "warning", "libavcodec.so is not there"),
    "gives black": (
        READER.format(begin="pass", frames="numpy.zeros((32, 48, 64, 3), numpy.uint8)"),
        "missing",
        "not the stored ones",
    ),
    "is off by one": (
        "import av, io, numpy\n"
        + READER.format(begin="self.data = _[0].read()", frames="self.all()")
        + """
    def all(self):
        with av.open(io.BytesIO(self.data)) as container:
            frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
        return numpy.stack(frames)[::-1] ^ 1
""",
        "warning",
        "not to the same bits as pyav",
    ),
}


@pytest.mark.parametrize("kind", BROKEN_DECORDS)
def test_a_decoder_that_does_not_really_decode_is_named(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    body, verdict, said = BROKEN_DECORDS[kind]
    (tmp_path / "decord.py").write_text(body)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    finding = only(apart(media_tools.decoder, Asked(subject="decord", timeout_seconds=3 if kind == "hangs" else 60)))

    assert (finding.name, finding.verdict) == ("decoder decord", verdict)
    assert said in finding.found


def test_every_decoder_is_asked_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    def pretend(check: Any, asked: Asked) -> list[Finding]:
        return [Finding(check.__name__, Verdict.OK, f"{asked.subject} {asked.timeout_seconds:g}")]

    monkeypatch.setattr(media_tools, "apart", pretend)

    assert [finding.found for finding in media_tools.decoders(Asked(timeout_seconds=120))] == [
        "decord 30",
        "pyav 30",
        "torchcodec 30",
    ]


# --- packages ---


def installed(monkeypatch: pytest.MonkeyPatch, requires: dict[str, list[str]], versions: dict[str, str]) -> None:
    def version(name: str) -> str:
        if name not in versions:
            raise packages.metadata.PackageNotFoundError(name)
        return versions[name]

    monkeypatch.setattr(packages.metadata, "requires", lambda name: requires.get(name))
    monkeypatch.setattr(packages.metadata, "version", version)


def test_packages_are_held_against_our_own_metadata(monkeypatch: pytest.MonkeyPatch) -> None:
    ours = ["numpy>=2", "old>=1.10", "gone>=1", "elsewhere>=1; sys_platform == 'nowhere'", "tests; extra == 'dev'"]
    ours += ["tool[default]>=2026.7.4"]
    brought = ["helper==0.8; extra == 'default'", "other; extra == 'more'", "always"]
    versions = {"numpy": "2.4.0rc1", "old": "1.9", "tool": "2026.10.1"}
    installed(monkeypatch, {"kinetics-sounds": ours, "tool": brought}, versions)

    found = {finding.name: finding for finding in packages.packages(Asked())}

    assert verdicts(found.values()) == {
        "package numpy": "ok",
        "package old": "missing",
        "package gone": "missing",
        "package tool[default]": "missing",
    }
    assert found["package old"].found == "1.9; >=1.10 is needed"
    assert found["package old"].remedy == "pip install 'old>=1.10'"
    assert found["package gone"].found == "is not installed"
    assert found["package tool[default]"].found == "2026.10.1; helper is not installed"
    assert found["package tool[default]"].remedy == "pip install 'tool[default]>=2026.7.4'"


@pytest.mark.parametrize(
    ("there", "found"), [(True, {"package numpy": "ok", "package torch": "missing"}), (False, {"package numpy": "ok"})]
)
def test_packages_of_training_are_looked_at_where_torch_is(
    there: bool, found: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = ["numpy>=2", "torch>=2.4; extra == 'train'", "captum; extra == 'eval'"]
    installed(monkeypatch, {"kinetics-sounds": ours}, {"numpy": "2.4", "torch": "2.3"})
    monkeypatch.setattr(packages, "has_torch", lambda: there)

    assert verdicts(packages.packages(Asked())) == found


def test_a_python_that_is_too_old_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages.platform, "python_version", lambda: "3.10.14")
    monkeypatch.setattr(packages.platform, "machine", lambda: "aarch64")

    assert verdicts(packages.python(Asked())) == {"python": "missing", "platform": "warning"}


def test_a_command_that_does_not_load_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    def imported(name: str) -> object:
        if name == "kinetics_sounds.bad":
            raise OSError("its library cannot be loaded")
        if name == "kinetics_sounds.lacking":
            raise ModuleNotFoundError(name="gone_package")
        return object()

    monkeypatch.setattr(packages, "COMMANDS", {f"ks-{each}": each for each in ("good", "bad", "lacking")})
    monkeypatch.setattr(packages.importlib, "import_module", imported)

    bad, lacking, good = packages.commands(Asked())

    assert (bad.name, bad.verdict) == ("ks-bad", Verdict.MISSING)
    assert bad.found == "OSError: its library cannot be loaded"
    assert (lacking.name, lacking.found) == ("ks-lacking", "the package gone-package is not installed")
    assert lacking.remedy == pip_install()
    assert good == Finding("commands", Verdict.OK, "ks-good load")


# --- torch ---

AGREES: dict[str, Any] = {"device": "cpu", "dtype": "float32", "forward": 1e-6, "gradient": 2e-6, "error": ""}
EXAMINED: dict[str, Any] = {"version": "2.13.0", "cuda": "13.0", "threads": 8, "devices": [], "agreements": [AGREES]}


def judged(**changes: Any) -> dict[str, Any]:
    return {finding.name: finding for finding in torch_report.findings({**EXAMINED, **changes})}


def test_devices_are_named_with_their_memory() -> None:
    devices = [{"name": "NVIDIA H200", "memory_bytes": 139 * 2**30}, {"name": "NVIDIA L4", "memory_bytes": 22 * 2**30}]

    assert judged(devices=devices)["cuda"].found == "CUDA 13.0: NVIDIA H200 (139 GiB), NVIDIA L4 (22 GiB)"


@pytest.mark.parametrize(("version", "verdict"), [("2.9.1+cu128", "warning"), ("2.10.0", "ok"), ("2.13.0+cpu", "ok")])
def test_torch_2_9_is_warned_of(version: str, verdict: str) -> None:
    assert judged(version=version)["torch"].verdict == verdict


@pytest.mark.parametrize(("driver", "verdict"), [(True, "warning"), (False, "ok")])
def test_a_gpu_that_torch_does_not_see_is_a_warning(
    driver: bool, verdict: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch_report, "DRIVER", tmp_path if driver else tmp_path / "none")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")

    finding = judged()["cuda"]

    assert finding.verdict == verdict
    assert ("CUDA_VISIBLE_DEVICES=" in finding.found) == driver


@pytest.mark.parametrize(
    ("changes", "verdict"),
    [
        ({}, "ok"),
        ({"forward": 1e-2}, "missing"),
        ({"gradient": float("inf")}, "missing"),
        ({"device": "cuda:0", "error": "CUDA error: no kernel image is available"}, "missing"),
        ({"device": "cuda:0", "forward": 1e-3}, "ok"),  # TF32
        ({"dtype": "bfloat16", "forward": 4e-3, "gradient": 4e-3}, "ok"),
        ({"dtype": "bfloat16", "gradient": 1.02}, "warning"),
        ({"dtype": "bfloat16", "device": "cuda:0", "gradient": float("nan")}, "warning"),
    ],
)
def test_wrong_convolutions_are_named(changes: dict[str, Any], verdict: str) -> None:
    agreement = {**AGREES, **changes}
    finding = judged(agreements=[agreement])[f"conv3d {agreement['dtype']} {agreement['device']}"]

    assert finding.verdict == verdict
    assert bool(finding.remedy) == (verdict != "ok")


def test_without_torch_a_machine_builds_and_packs(monkeypatch: pytest.MonkeyPatch) -> None:
    for check in (torch_report, rank_parity):
        monkeypatch.setattr(check, "has_torch", lambda: False)

    torch, ranks = only(torch_report.torch(Asked())), only(rank_parity.distributed(Asked()))

    assert (torch.verdict, torch.remedy) == (Verdict.WARNING, pip_install("train"))
    assert (ranks.verdict, ranks.remedy) == (Verdict.MISSING, torch.remedy)  # --distributed asked for them


def test_a_torch_that_dies_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "torch.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGILL)\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    finding = only(apart(torch_report.torch, Asked()))

    assert (finding.name, finding.found) == ("torch", "its process was killed by SIGILL")
    assert finding.verdict is Verdict.MISSING


def test_float32_agrees_with_float64_on_this_cpu() -> None:
    found = diagnostics_torch_report.agreement(torch.device("cpu"), torch.float32)

    assert 0 < found.forward < 1e-4
    assert 0 < found.gradient < 1e-4


def test_an_agreement_tells_a_wrong_convolution(monkeypatch: pytest.MonkeyPatch) -> None:
    right = torch.nn.functional.conv3d

    def wrong(x: torch.Tensor, kernel: torch.Tensor, **options: Any) -> torch.Tensor:
        shown: torch.Tensor = right(x, kernel, **options)
        return shown * 1.25 if x.dtype == torch.float32 else shown

    monkeypatch.setattr(diagnostics_torch_report.F, "conv3d", wrong)
    monkeypatch.setattr(diagnostics_torch_report, "SHAPES", ((1, 2, 2, 3, 3),))
    found = diagnostics_torch_report.agreement(torch.device("cpu"), torch.float32)

    assert found.forward == pytest.approx(0.25, abs=1e-5)
    assert found.gradient == pytest.approx(0.25, abs=1e-5)


def test_a_device_that_refuses_is_an_agreement_with_an_error() -> None:
    found = diagnostics_torch_report.agreement(torch.device("cuda", 99), torch.float32)

    assert found.error
    assert found.forward == float("inf")


def test_a_difference_is_relative_to_the_largest_value_and_never_nan() -> None:
    true = torch.tensor([4.0, -8.0], dtype=torch.float64)

    assert diagnostics_torch_report.difference(torch.tensor([4.0, -8.0]), true) == 0
    assert diagnostics_torch_report.difference(torch.tensor([2.0, -8.0]), true) == 0.25
    assert diagnostics_torch_report.difference(torch.tensor([float("nan"), -8.0]), true) == float("inf")
    assert diagnostics_torch_report.difference(torch.tensor([float("-inf"), -8.0]), true) == float("inf")


# --- downloads ---


@pytest.mark.parametrize(("days", "verdict"), [(0, "ok"), (90, "ok"), (91, "warning"), (400, "warning")])
def test_an_old_yt_dlp_is_warned_of(days: int, verdict: str, monkeypatch: pytest.MonkeyPatch) -> None:
    day = datetime.now(UTC) - timedelta(days=days)
    monkeypatch.setattr(sources.metadata, "version", lambda _: f"{day.year}.{day.month}.{day.day}.232811.dev0")

    finding = only(sources.yt_dlp(Asked()))

    assert finding.verdict == verdict
    assert finding.found.endswith(f"{days} days old")


@pytest.mark.parametrize(
    ("name", "says", "verdict", "said"),
    [
        ("nothing", "", "warning", "no runtime on the PATH"),
        ("deno", "deno 99.1.0 (stable)", "ok", "deno 99.1.0"),
        ("node", "v99.0.0", "ok", "node 99.0.0"),
        ("bun", "99.0.0", "ok", "bun 99.0.0"),
        ("qjs", "QuickJS version 2099-01-01", "ok", "quickjs 2099-01-01"),
        ("node", "v12.0.0", "warning", "node 12.0.0 is too old for this yt-dlp"),
    ],
)
def test_youtube_needs_a_javascript_runtime_that_is_new_enough(
    name: str, says: str, verdict: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script(tmp_path / name, f"echo '{says}'")
    monkeypatch.setenv("PATH", str(tmp_path))

    finding = only(sources.javascript(Asked()))

    assert finding.verdict == verdict
    assert said in finding.found


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A web server with the video `good`, and with `page`, which is none."""
    videos = tmp_path_factory.mktemp("host")
    video(videos / "good.mp4", seconds=1)
    (videos / "page.mp4").write_bytes(b"<html>please log in</html>" * 100)
    with http_server.videos(videos) as url:
        yield f"youtube:{url}/{{youtube_id}}.mp4"


def test_a_live_source_that_gives_its_video_is_ok(
    host: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(doctor, "CHECKS", ())
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    video(tmp_path / "k400" / "good.mp4", seconds=1)
    both = ["--source", host, "--source", f"local:{tmp_path / 'k400'}"]

    assert doctor.main(["--json", "--live", *both, "--live_id", "good"]) == 0

    asked, local = json.loads(capsys.readouterr().out)
    assert (asked["name"], asked["verdict"]) == ("live youtube", "ok")
    assert re.search(r"/good\.mp4: ok, \d+\.\d kB \(h264, aac\) in \d s$", asked["found"])
    assert (local["name"], local["verdict"]) == ("live local", "ok")
    assert [path.name for path in tmp_path.iterdir()] == ["k400"]


@pytest.mark.parametrize(
    ("live_id", "said"), [("gone", "gone.mp4: not_in_source: "), ("page", "page.mp4: ")], ids=["gone", "no video"]
)
def test_a_live_source_that_fails_is_missing(
    host: str, live_id: str, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(doctor, "CHECKS", ())

    assert doctor.main(["--live", "--source", host, "--live_id", live_id]) == 1

    shown = capsys.readouterr().out.splitlines()
    assert shown[0].startswith("missing  live youtube ")
    assert said in shown[0]
    assert "->" in shown[1]
    assert shown[2] == "found: 0 ok, 0 warning, 1 missing"


def test_a_live_source_without_the_video_is_missing(tmp_path: Path) -> None:
    asked = Asked(subject=f"local:{tmp_path}", live_id="good")

    assert f"local:{tmp_path} does not have good" in only(sources.live(asked)).found


def test_a_live_folder_of_clips_gives_the_first_that_it_has_unless_one_is_named(tmp_path: Path) -> None:
    video(tmp_path / "humming" / "b_000003_000013.mp4", seconds=1)
    shutil.copy(tmp_path / "humming" / "b_000003_000013.mp4", tmp_path / "humming" / "a_000003_000013.mp4")
    spec = f"local:{tmp_path}"

    given = only(sources.live(Asked(subject=spec, live_id=sources.LIVE_ID)))
    named = only(sources.live(Asked(subject=spec, live_id="c")))

    assert (given.verdict, named.verdict) == ("ok", "missing")
    assert "/humming/a_000003_000013.mp4: ok" in given.found
    assert "does not have c" in named.found


def test_a_live_archive_without_a_part_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    class Empty:
        notice = versions = ""
        share: Mapping[str, float] = {}
        part_bytes = downloaded = depth = 0
        patterns = ()

        def stream(self, *_: object) -> Iterator[Any]:
            raise AssertionError

        names = near = stream

        def parts(self, splits: Iterable[str]) -> list[TarPart]:
            return [TarPart(name="mended", place="", split=None, replacement=True) for _ in splits]

    monkeypatch.setattr(sources.sources, "load", lambda _spec: Empty())

    finding = only(sources.live(Asked(subject="cvdf:/k400", live_id="c")))

    assert finding.verdict == "missing"
    assert finding.found == "val: not_in_source: has no archive of val"
    assert finding.remedy


def test_a_live_archive_gives_its_first_video(tmp_path: Path) -> None:
    video(tmp_path / "a.mp4", seconds=1)
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        archive.add(tmp_path / "a.mp4", "x/odd name.mp4")

    finding = only(sources.live(Asked(subject=f"archives:{tmp_path}", live_id=sources.LIVE_ID)))

    assert (finding.verdict, finding.name) == ("ok", "live archives")
    assert "a.tar: x/odd name: ok" in finding.found


# --- the folder ---


@pytest.mark.parametrize(("free", "verdict"), [(51.0, "ok"), (49.0, "warning"), (0.9, "missing")])
def test_a_full_disk_is_named(free: float, verdict: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Path] = []

    def usage(path: Path) -> Usage:
        asked.append(path)
        return Usage(200 * GIGABYTE, 0, free * GIGABYTE)

    monkeypatch.setattr(shutil, "disk_usage", usage)

    finding = only(filesystem.disk(Asked(out=str(tmp_path / "not" / "made"))))

    assert finding.verdict == verdict
    assert finding.found == f"{free:.1f} GB free of 200.0 GB at {tmp_path}"
    assert asked == [tmp_path]


def test_a_good_folder_is_left_as_it_was(tmp_path: Path) -> None:
    finding = only(filesystem.file_system(Asked(out=str(tmp_path / "not" / "made"))))

    assert finding.verdict is Verdict.OK
    assert list(tmp_path.iterdir()) == []


def _refuse(number: int) -> Callable[..., None]:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    return refuse


@pytest.mark.parametrize(
    ("place", "name", "broken", "said"),
    [
        (fcntl, "flock", _refuse(errno.ENOLCK), "flock: No locks available"),
        (fcntl, "flock", lambda *_: None, "flock: two hold one lock"),
        (fcntl, "lockf", _refuse(errno.ENOLCK), "record lock: No locks available"),
        (Path, "symlink_to", _refuse(errno.EPERM), "symbolic link: Operation not permitted"),
        (Path, "replace", _refuse(errno.EBUSY), "rename: Device or resource busy"),
        (Path, "replace", lambda *_: None, "rename: a file that takes another's place is not it"),
        (os, "fsync", _refuse(errno.EINVAL), "rename: Invalid argument"),
        (tempfile, "mkdtemp", _refuse(errno.EROFS), "is not writable: Read-only file system"),
    ],
)
def test_a_file_system_without_what_is_relied_on_is_missing(
    place: Any, name: str, broken: Any, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(place, name, broken)
        finding = only(filesystem.file_system(Asked(out=str(tmp_path))))

    assert finding.verdict is Verdict.MISSING
    assert finding.found == f"{tmp_path}: {said}"
    assert list(tmp_path.iterdir()) == []


def test_a_file_where_the_folder_should_be_is_missing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    assert only(filesystem.file_system(Asked(out=str(tmp_path / "file")))).verdict is Verdict.MISSING


# --- the machine ---


@pytest.mark.parametrize(("free", "verdict"), [(0.067, "warning"), (1.0, "ok")])
def test_small_shared_memory_is_warned_of(free: float, verdict: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(free * GIGABYTE, 0, free * GIGABYTE))

    finding = only(machine.shared_memory(Asked()))

    assert finding.verdict == verdict
    assert ("--shm-size" in finding.remedy) == (verdict == "warning")


def test_no_shared_memory_is_warned_of_on_linux(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "SHARED_MEMORY", tmp_path / "none")
    monkeypatch.setattr(machine.sys, "platform", "linux")

    assert only(machine.shared_memory(Asked())).verdict is Verdict.WARNING


@pytest.mark.parametrize(
    ("soft", "hard", "verdict", "remedy"),
    [
        (1024, 4096, "ok", ""),
        (resource.RLIM_INFINITY, resource.RLIM_INFINITY, "ok", ""),
        (256, 4096, "warning", "ulimit -n 4096"),
        (256, resource.RLIM_INFINITY, "warning", "ulimit -n 65536"),
        (256, 512, "warning", "hard limit"),
    ],
)
def test_few_open_files_are_warned_of(
    soft: int, hard: int, verdict: str, remedy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (soft, hard))

    finding = only(machine.open_files(Asked()))

    assert finding.verdict == verdict
    assert remedy in finding.remedy


@pytest.mark.parametrize(
    ("bound", "granted", "said"),
    [
        (8, float("inf"), "8"),
        (3, float("inf"), "3 of 8 may be used (affinity allows 3)"),
        (8, 2.5, "2 of 8 may be used (affinity allows 8, control groups grant 2.5)"),
        (8, 0.5, "1 of 8 may be used (affinity allows 8, control groups grant 0.5)"),
    ],
)
def test_cores_that_may_not_be_used_are_named(
    bound: int, granted: float, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(bound)))
    monkeypatch.setattr(cores, "quota", lambda: granted)

    finding = only(machine.cores(Asked()))

    assert (finding.verdict, finding.found, finding.remedy) == ("ok", said, "")


def test_a_clock_before_what_is_installed_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "certifi-2099.4.26.dist-info").mkdir()
    (tmp_path / "certifi-2099.4.26.dist-info" / "METADATA").write_text("Name: certifi\nVersion: 2099.4.26\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    finding = only(apart(machine.clock, Asked()))

    assert finding.verdict is Verdict.MISSING
    assert "before certifi 2099.4.26 came out on 2099-04-26" in finding.found


@pytest.mark.parametrize(
    ("version", "day"),
    [
        ("2026.7.4", (2026, 7, 4)),
        ("2026.08.19.232811.dev0", (2026, 8, 19)),
        ("2026.13.1", None),
        ("2026.7", None),
        ("2026.7.444", None),
        ("1.2026.7.4", None),
        ("3.11.7", None),
    ],
)
def test_a_version_that_is_a_date_is_read_as_one(version: str, day: tuple[int, int, int] | None) -> None:
    assert machine.calendar_version(version) == (datetime(*day, tzinfo=UTC) if day else None)
