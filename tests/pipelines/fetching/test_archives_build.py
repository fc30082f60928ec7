"""Whole builds from archives anywhere: names by a pattern, what a resumed build reads, and what a user is told."""

import gzip
import os
import signal
from collections.abc import Generator
from dataclasses import replace
from pathlib import Path

import pytest

from kinetics_sounds.archives import http_stream, tar_stream
from kinetics_sounds.ledger import Ledger
from kinetics_sounds.pipelines import build
from kinetics_sounds.pipelines.fetching import driver

from ...canaries import WORD
from ...hub_server import Blob, Hub, Repo
from ..conftest import inline, video
from ..mirror import Mirror, Place, tar

VGG = ("--archives.names", "{id}_{start:06d}")
DEEP = "./scratch/shared/VGGSound_final/video"
IDS = ("---g-f_I2yQ", "-0SdAVK79lg", "zz_000001")


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_stream, "BACKOFF", replace(http_stream.BACKOFF, longest_seconds=0.001))
    monkeypatch.setattr(http_stream, "ATTEMPTS", 2)
    monkeypatch.setattr(driver, "SECONDS_BETWEEN_LOOKS", 0.01)
    inline(monkeypatch)


class Vgg:
    """VGGSound as its authors give it: tars of 10-s clips named by their start, and a CSV."""

    def __init__(self, place: Place, mirror: Mirror, sound: bytes) -> None:
        self.place, self.mirror = place, mirror
        self.rows: list[str] = []
        self.spec = f"archives:http://127.0.0.1:{mirror.server_port}/kinetics/400/vggsound_{{00..02}}.tar.gz"
        for number, name in enumerate(IDS):
            members = [(f"{DEEP}/{name}_00000{start}.mp4", sound) for start in (1, 2)]
            mirror.put(f"vggsound_0{number}.tar.gz", gzip.compress(tar(*members, (f"{DEEP}/odd_name.mp4", b"x"))))

    def want(self, name: str, start: int = 1, split: str = "train") -> None:
        self.rows.append(f'{name},{start},"people, marching",{split}')

    def build(self, *more: str, spec: str = "") -> int:
        (self.place.root / "vggsound.csv").write_text("\n".join(self.rows) + "\n")
        words = [
            "--clips",
            f"{self.place.root}/vggsound.csv",
            "--source",
            spec or self.spec,
            "--out",
            str(self.place.out),
        ]
        return int(build.main([*words, "--workers", "1", "--retry_wait", "0", "--min_coverage", "0.1", *more]))

    def statuses(self) -> dict[str, str]:
        return {outcome.clip.key: str(outcome.status) for outcome in self.place.outcomes().values()}


@pytest.fixture
def vgg(place: Place, mirror: Mirror, sound: bytes) -> Vgg:
    return Vgg(place, mirror, sound)


def keys(*names: str) -> list[str]:
    return [f"{name}_000001_000011" for name in names]


def test_vggsounds_tars_and_csv_become_a_manifest_and_are_read_once(
    vgg: Vgg, sound: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    vgg.want(IDS[0])
    vgg.want(IDS[1], split="test")
    vgg.want("gone")

    assert vgg.build(*VGG) == 1

    assert vgg.statuses() == {**dict.fromkeys(keys(*IDS[:2]), "ok"), **dict.fromkeys(keys("gone"), "not_in_source")}
    outcomes = vgg.place.outcomes()
    assert (outcomes[IDS[0]].source, outcomes[IDS[1]].clip.split) == (vgg.spec, "test")
    assert [outcomes[name].media.origin for name in IDS[:2]] == ["vggsound_00.tar.gz", "vggsound_01.tar.gz"]  # type: ignore[union-attr]
    assert outcomes["gone"].detail == "no file for this clip"
    assert {path.read_bytes() for path in vgg.place.out.rglob("*.mp4")} == {sound}
    assert sum(vgg.mirror.parts_read().values()) == 3
    assert f"'{{id}}_{{start:06d}}', such as {IDS[0]}_000001.mp4 for {keys(IDS[0])[0]}" in capsys.readouterr().out
    before = (vgg.place.out / "manifest.csv").read_bytes()
    assert vgg.build(*VGG) == 1
    assert vgg.mirror.parts_read() == {}
    assert (vgg.place.out / "manifest.csv").read_bytes() == before


def test_a_build_with_more_clips_reads_only_the_archives_that_hold_them(vgg: Vgg) -> None:
    vgg.want(IDS[0])
    assert vgg.build(*VGG) == 0
    assert sum(vgg.mirror.parts_read().values()) == 3
    vgg.want(IDS[2])
    vgg.want("gone")

    assert vgg.build(*VGG) == 1

    assert vgg.mirror.parts_read() == {"vggsound_02.tar.gz": 1}
    assert vgg.statuses()[keys(IDS[2])[0]] == "ok"


def test_the_pattern_that_is_needed_is_told_and_another_one_reads_again_what_it_names(
    vgg: Vgg, caplog: pytest.LogCaptureFixture
) -> None:
    vgg.want(IDS[0])
    vgg.want("gone")

    assert vgg.build() == 1

    near = (
        f"shared/VGGSound_final/video/{IDS[0]}_000001 in vggsound_00.tar.gz has no end time in its name; if it is the "
    )
    near += "clip's span, give --archives.names '{id}_{start:06d}'"
    assert vgg.place.outcomes()[IDS[0]].detail == near
    assert any(line.endswith(f"files not used: 1, such as: {near}") for line in caplog.messages)
    assert any("none of its 9 files (such as " in line and "ID_27_37.mp4" in line for line in caplog.messages)
    assert sum(vgg.mirror.parts_read().values()) == 3
    assert vgg.build("--archives.names", "{id}_{end:06d}") == 1
    assert vgg.mirror.parts_read() == {}  # what no archive has is known without reading them
    assert vgg.build(*VGG) == 1
    assert vgg.mirror.parts_read() == {"vggsound_00.tar.gz": 1}
    assert vgg.build("--archives.names", "video/{id}_{start:06d}") == 1
    assert vgg.mirror.parts_read() == {}
    assert vgg.statuses()[keys(IDS[0])[0]] == "ok"


def test_two_clips_of_one_name_are_refused_before_anything_is_asked(
    place: Place, mirror: Mirror, capsys: pytest.CaptureFixture[str]
) -> None:
    mirror.put("a.tar", tar())
    place.rows += ["humming,abc,3,5,train", "humming,abc,3,6,train"]

    assert place.build(*VGG, sources=(f"archives:http://127.0.0.1:{mirror.server_port}/kinetics/400/a.tar",)) == 2

    assert "both abc_000003_000005 and abc_000003_000006 would be abc_000003" in capsys.readouterr().err
    assert mirror.gets == []
    assert not (place.out / "ledger.sqlite").exists()


def test_whole_videos_give_each_of_their_clips(place: Place, tmp_path: Path) -> None:
    video(tmp_path / "whole.mp4", seconds=5)
    (tmp_path / "tars" / "train").mkdir(parents=True)
    data = tar(("x/whole.mp4", (tmp_path / "whole.mp4").read_bytes()), ("x/other.mp4", b"x"))
    (tmp_path / "tars" / "train" / "a.tar").write_bytes(data)
    place.rows += ["humming,whole,1,3,train", "humming,whole,2,4,train", "humming,whole,20,22,train"]

    assert place.build("--splits", "train", sources=(f"archives:{tmp_path}/tars",)) == 1

    report = (place.out / "manifest.csv").read_text()
    assert [line.split(",")[7] for line in report.splitlines()[1:]] == ["ok", "ok", "too_short"]
    assert place.files() == {f"clips/humming/whole_00000{start}_00000{start + 2}.mp4" for start in (1, 2)}


def test_a_build_that_was_stopped_reads_the_other_archives(vgg: Vgg) -> None:
    for name in IDS:
        vgg.want(name)
    vgg.mirror.asked = lambda part: os.kill(os.getpid(), signal.SIGTERM) if "_01" in part else None

    assert vgg.build(*VGG) == 3

    vgg.mirror.parts_read()
    vgg.mirror.asked = lambda _part: None
    assert vgg.build(*VGG) == 0
    assert vgg.mirror.parts_read() == {"vggsound_01.tar.gz": 1, "vggsound_02.tar.gz": 1}


def test_a_secret_in_an_archives_url_reaches_no_file_and_no_message(
    vgg: Vgg, capsys: pytest.CaptureFixture[str]
) -> None:
    vgg.want(IDS[0])
    vgg.mirror.files = {f"{path}?sig={WORD}": data for path, data in vgg.mirror.files.items()}
    gone = f"{vgg.spec.replace('02', '03')}?sig={WORD}"

    assert vgg.build(*VGG, spec=gone) == 0  # archive 03 is missing, and the clip is there

    told = capsys.readouterr()
    written = b"".join(path.read_bytes() for path in vgg.place.out.rglob("*") if path.is_file())
    assert vgg.place.outcomes()[IDS[0]].source == f"{vgg.spec.replace('02', '03')}?***"
    assert WORD not in told.out + told.err
    assert WORD.encode() not in written


def test_a_dry_run_says_what_would_be_streamed(vgg: Vgg, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    vgg.want(IDS[0])
    assert vgg.build(*VGG, "--dry_run") == 0
    said = capsys.readouterr().out
    assert f"would stream {vgg.spec} for 1 clip: 3 of 3 parts, 3 of unknown size, none of which is stored" in said
    assert "which of them the archives hold is known once they are read" in said
    (tmp_path / "tars").mkdir()
    (tmp_path / "tars" / "a.tar").write_bytes(bytes(2_000_000))
    assert vgg.build(*VGG, "--dry_run", spec=f"archives:{tmp_path}/tars") == 0
    assert "1 of 1 part, about 2.0 MB, none of which is stored" in capsys.readouterr().out
    assert vgg.mirror.gets == []


def test_a_build_from_the_hub(vgg: Vgg, hub_server: Hub) -> None:
    files = {f"set/{name.rpartition('/')[2]}": Blob(data, lfs=True) for name, data in vgg.mirror.files.items()}
    hub_server.repos["datasets/ann/vgg"] = Repo(private=True, commits=[files])
    vgg.want(IDS[0])

    assert vgg.build(*VGG, spec="archives:hf://datasets/ann/vgg/set") == 0

    downloads = hub_server.count("GET .*/resolve/")
    assert downloads == 3
    assert vgg.build(*VGG, spec="archives:hf://datasets/ann/vgg/set") == 0
    vgg.want(IDS[1])
    hub_server.repos["datasets/ann/vgg"].commits.append(files | {"README.md": Blob(b"a new commit", lfs=False)})
    assert vgg.build(*VGG, spec="archives:hf://datasets/ann/vgg/set") == 0
    assert hub_server.count("GET .*/resolve/") == downloads + 1  # the other archives are the same as they were


def test_a_ledger_of_the_mirror_holds_keys_as_before(place: Place, mirror: Mirror, sound: bytes) -> None:
    mirror.parts("train", a=tar(("x/a_000003_000005.mp4", sound), ("x/b_000003.mp4", sound)))
    place.annotate("a").build()

    with Ledger(place.out / "ledger.sqlite", only_read=True) as ledger:
        assert {name: set(part.names) for name, part in ledger.parts(mirror.spec).items()} == {
            "train/a.tar.gz": {"a_000003_000005"}
        }


def test_a_cut_off_tar_on_a_disk_is_read_once_a_run_and_is_to_be_copied_again(
    vgg: Vgg, sound: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file on a disk does not heal while ks-build waits; a good copy is read by the next run."""
    opened: list[str] = []

    def read_file(path: Path) -> Generator[bytes]:
        opened.append(path.name)
        yield path.read_bytes()

    monkeypatch.setattr(tar_stream, "read_file", read_file)
    whole = tar(*((f"{DEEP}/{name}_000001.mp4", sound) for name in IDS[:2]))
    (tmp_path / "a.tar").write_bytes(whole[: len(whole) // 2])
    vgg.want(IDS[1])

    assert vgg.build(*VGG, "--attempts", "3", spec=f"archives:{tmp_path}") == 1

    assert opened == ["a.tar"]
    assert vgg.statuses() == dict.fromkeys(keys(IDS[1]), "truncated")
    assert vgg.place.outcomes()[IDS[1]].detail.endswith("copy it again, then run the same command")
    (tmp_path / "a.tar").write_bytes(whole)
    assert vgg.build(*VGG, spec=f"archives:{tmp_path}") == 0
