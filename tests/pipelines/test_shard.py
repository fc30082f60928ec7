import io
import json
import os
import shutil
import subprocess
import tarfile
import wave
from pathlib import Path
from typing import TYPE_CHECKING, Any

import av
import numpy as np
import pytest
from av.video.frame import PictureType

from kinetics_sounds import manifest
from kinetics_sounds.classes import ClassList
from kinetics_sounds.media import ffmpeg
from kinetics_sounds.pipelines import build, shard
from kinetics_sounds.shards import index, layout

if TYPE_CHECKING:
    from collections.abc import Callable

    from .conftest import Folder

from .test_build import arguments


@pytest.fixture(scope="module")
def built(folder: "Folder", tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("build") / "out"
    build.main(arguments(folder, out))
    return out


@pytest.fixture(scope="module")
def shards(built: Path) -> Path:
    manifest_path = built / "manifest.parquet"
    assert shard.main(["--manifest", str(manifest_path), "--short_side", "32", "--shard_bytes", "400000"]) == 0
    return built / "shards"


def tars(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*.tar"))}


# webdataset leaves its tar files to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore:Exception ignored in.*tar:pytest.PytestUnraisableExceptionWarning")


def read_alone(folder: Path, split: str) -> list[dict[str, Any]]:
    """The samples of a split, by webdataset and nothing of ours."""
    import webdataset

    urls = [str(path) for path in sorted((folder / split).glob("*.tar"))]
    return list(webdataset.WebDataset(urls, shardshuffle=False, empty_check=False))


def test_webdataset_alone_reads_a_sample_s_parts(built: Path, shards: Path) -> None:
    ok = {o.clip.key: o for o in manifest.read(built / "manifest.parquet").outcomes if o.media}

    samples = read_alone(shards, "train") + read_alone(shards, "val")

    assert {sample["__key__"] for sample in samples} == set(ok)
    for sample in samples:
        assert set(sample) >= {"mp4", "mel.npy", "flac", "json"}
        meta = json.loads(sample["json"])
        clip = ok[sample["__key__"]].clip
        assert (meta["label"], meta["split"], meta["time_start"]) == (clip.label, clip.split, clip.time_start)


def test_frames_lie_in_closed_groups_of_16(shards: Path) -> None:
    for sample in read_alone(shards, "train"):
        with av.open(io.BytesIO(sample["mp4"]), "r") as container:
            kinds = [(frame.key_frame, PictureType(frame.pict_type).name) for frame in container.decode(video=0)]
        assert len(kinds) == json.loads(sample["json"])["num_frames"] == 20
        assert [number for number, (key, _) in enumerate(kinds) if key] == [0, 16]
        assert {kind for _, kind in kinds} == {"I", "P"}


def test_the_mel_is_whole_finite_and_has_no_empty_band(shards: Path) -> None:
    for sample in read_alone(shards, "train"):
        mel = np.load(io.BytesIO(sample["mel.npy"]), allow_pickle=False)
        assert mel.shape == (256, 256)
        assert mel.dtype == np.float16
        assert np.isfinite(mel).all()
        assert mel.min() >= 0
        assert mel.max() <= 1


def test_the_sound_is_as_long_as_the_clip(shards: Path, tmp_path: Path) -> None:
    for number, sample in enumerate(read_alone(shards, "val")):
        flac, wav = tmp_path / f"{number}.flac", tmp_path / f"{number}.wav"
        flac.write_bytes(sample["flac"])
        subprocess.run([ffmpeg.executable(), "-v", "error", "-i", flac, wav], check=True)
        with wave.open(str(wav)) as sound:
            assert (sound.getframerate(), sound.getnchannels(), sound.getsampwidth()) == (24_000, 1, 2)
            assert sound.getnframes() / 24_000 == pytest.approx(2.0, abs=0.03)


def test_the_tars_are_plain_and_end_by_bytes(shards: Path) -> None:
    paths = sorted((shards / "train").glob("*.tar"))

    assert len(paths) > 1
    for path in paths:
        with tarfile.open(path) as tar:
            members = tar.getmembers()
        assert path.read_bytes()[257:263] == b"ustar\0"
        assert all(member.isreg() and member.mtime == 0 and not member.pax_headers for member in members)
    for path in paths[:-1]:
        assert path.stat().st_size >= 400_000


@pytest.mark.slow
def test_the_bytes_do_not_depend_on_the_number_of_workers(built: Path, shards: Path, tmp_path: Path) -> None:
    common = ["--manifest", str(built / "manifest.parquet"), "--short_side", "32", "--shard_bytes", "400000"]

    assert shard.main([*common, "--out", str(tmp_path / "one"), "--workers", "1"]) == 0
    assert shard.main([*common, "--out", str(tmp_path / "three"), "--workers", "3"]) == 0

    assert tars(tmp_path / "one") == tars(tmp_path / "three") == tars(shards)


def test_a_second_run_changes_nothing(built: Path, shards: Path) -> None:
    before = {path: (path.stat().st_mtime_ns, path.stat().st_ino) for path in shards.rglob("*.tar")}
    common = ["--manifest", str(built / "manifest.parquet"), "--short_side", "32", "--shard_bytes", "400000"]

    assert shard.main(common) == 0

    assert {path: (path.stat().st_mtime_ns, path.stat().st_ino) for path in shards.rglob("*.tar")} == before


def test_other_settings_in_the_same_folder_are_refused(
    built: Path, shards: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = shard.main(["--manifest", str(built / "manifest.parquet"), "--short_side", "64", "--out", str(shards)])

    assert code == 2
    assert "another manifest, other settings or another ffmpeg" in capsys.readouterr().err


def test_a_clip_that_changed_since_the_build_stops_the_packing_until_it_is_built_again(
    folder: "Folder", built: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(built, copy, symlinks=True, ignore=shutil.ignore_patterns("shards"))
    with next((copy / "clips").rglob("whole_000001_000003.mp4")).open("ab") as clip:
        clip.write(b"changed")

    assert shard.main(["--manifest", str(copy / "manifest.parquet"), "--short_side", "32"]) == 3

    assert "run ks-build again, then ks-shard" in capsys.readouterr().err
    build.main(arguments(folder, copy))
    assert shard.main(["--manifest", str(copy / "manifest.parquet"), "--short_side", "32"]) == 0
    assert index.read_dataset(copy / "shards").splits["train"].samples == 6


def test_a_manifest_without_usable_clips_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    empty = manifest.Manifest(ClassList("mine", ("a",)), ())
    manifest.write(tmp_path / "manifest.parquet", empty.classes, empty.outcomes)

    assert shard.main(["--manifest", str(tmp_path / "manifest.parquet")]) == 2
    assert "nothing to pack" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("--short_side", "33", "must be even"),
        ("--shard_bytes", "0", "more than 0"),
        ("--manifest", os.devnull, "there is no manifest"),
        ("--audio", "mp3", "mp3"),
    ],
)
def test_bad_options_are_refused_with_the_reason(
    built: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], option: str, value: str, said: str
) -> None:
    given = {"--manifest": str(built / "manifest.parquet"), "--out": str(tmp_path), option: value}

    assert shard.main([word for pair in given.items() for word in pair]) == 2

    error = capsys.readouterr().err
    assert said in error
    assert "Traceback" not in error


# --- What is not the clip's own fault ---------------------------------------------------------------------------------


def packed(built: Path, out: Path, *options: str) -> int:
    common = ["--manifest", str(built / "manifest.parquet"), "--short_side", "32", "--shard_bytes", "400000"]
    code: int = shard.main([*common, "--out", str(out), "--workers", "1", *options])
    return code


@pytest.fixture
def trouble(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> "Callable[[str], Path]":
    """Puts a program before ffmpeg that first does what it is told; the program writes a letter a run into the file."""

    def install(body: str) -> Path:
        runs, tool = tmp_path / "runs", tmp_path / "tool"
        real = ffmpeg.executable()
        tool.write_text(
            f'#!/bin/sh\ncase "$*" in *-timelimit*) printf x >> {runs}; n=$(wc -c < {runs}); {body};; esac\n'
            f'exec {real} "$@"\n'
        )
        tool.chmod(0o755)
        monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", str(tool))  # to the workers; this process knows its tool already
        return runs

    return install


@pytest.mark.parametrize("victim", ["$$", "$PPID"], ids=["tool", "worker"])
def test_what_is_killed_once_is_packed_all_the_same(
    victim: str, built: Path, shards: Path, tmp_path: Path, trouble: "Callable[[str], Path]"
) -> None:
    runs = trouble(f"[ $n = 2 ] && kill -9 {victim}")

    assert packed(built, tmp_path / "out") == 0

    assert tars(tmp_path / "out") == tars(shards)
    assert len(runs.read_text()) > 2


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("kill -9 $$", "crashed: ffmpeg"),
        ("kill -9 $PPID", "its process died"),
        pytest.param("sleep 60", "timeout: ffmpeg took more than", marks=pytest.mark.slow),
    ],
)
def test_what_is_killed_twice_stops_the_packing_and_settles_nothing(
    body: str,
    said: str,
    built: Path,
    shards: Path,
    tmp_path: Path,
    trouble: "Callable[[str], Path]",
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    trouble(f"[ $n -gt 2 ] && {body}")

    assert packed(built, tmp_path / "out", "--timeout", "3") == 3

    error = capsys.readouterr().err
    assert said in error
    assert "run the same command to go on" in error
    monkeypatch.delenv("IMAGEIO_FFMPEG_EXE")
    assert packed(built, tmp_path / "out", "--timeout", "60") == 0
    assert tars(tmp_path / "out") == tars(shards)


def test_a_fault_of_the_clip_itself_is_left_out_with_its_reason(
    built: Path, tmp_path: Path, trouble: "Callable[[str], Path]"
) -> None:
    trouble('[ $n = 1 ] && { echo "the picture cannot be decoded" >&2; exit 69; }')

    assert packed(built, tmp_path / "out") == 1

    [left] = [
        left for path in (tmp_path / "out").rglob("*.tar") for left in index.read_index(layout.index_path(path)).left
    ]
    assert left.status == "corrupt"
    assert "the picture cannot be decoded" in left.detail
