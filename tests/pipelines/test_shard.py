import dataclasses
import errno
import io
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tarfile
import wave
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import av
import numpy as np
import pandas as pd
import pytest
from av.video.frame import PictureType

import kinetics_sounds
from kinetics_sounds import file_systems, files, fingerprints, manifest, remote, stream
from kinetics_sounds.cache import Cache
from kinetics_sounds.classes import ClassList
from kinetics_sounds.clip import Clip, Outcome, Status
from kinetics_sounds.errors import SettingsError, StoppedError
from kinetics_sounds.media import decode, encode, ffmpeg, mel
from kinetics_sounds.pipelines import build, shard
from kinetics_sounds.pipelines.attempts import Refused
from kinetics_sounds.pipelines.executors import Cause, Failed
from kinetics_sounds.pipelines.fetching import summary, worker
from kinetics_sounds.pipelines.manifest_option import manifest_path
from kinetics_sounds.pipelines.packing import encode_sample, facts, job, resume
from kinetics_sounds.shards import index, layout, reader
from kinetics_sounds.train.config import recipes

from .. import shipped
from ..hub_server import Blob, Hub
from ..wire import Proxy

if TYPE_CHECKING:
    from collections.abc import Callable

    from .conftest import Folder

from .conftest import inline
from .fetching.test_archive_driver import Pool
from .test_build import arguments


@pytest.fixture(scope="module")
def built(folder: "Folder", tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("build") / "out"
    with pytest.MonkeyPatch.context() as patch:
        inline(patch)
        build.main(arguments(folder, out))
    return out


@pytest.fixture(scope="module")
def shards(built: Path) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        inline(patch)
        assert packed(built, built / "shards") == 0
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


def test_the_command_that_follows_is_told(
    built: Path, shards: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    inline(monkeypatch)

    assert packed(built, shards) == 0

    samples = reader.read_dataset(shards).splits["train"].samples
    small = f"--config avcl_tiny --batch {samples}"  # fewer than a batch of the recommended recipe
    assert capsys.readouterr().out.endswith(f"\nnext: ks-train --shards {shards} {small}\n")


@pytest.mark.parametrize(("samples", "more"), [(63, " --config avcl_tiny --batch 63"), (64, ""), (1, ""), (None, "")])
def test_a_set_smaller_than_a_batch_is_for_the_smallest_recipe(samples: int | None, more: str, shards: Path) -> None:
    made = reader.read_dataset(shards)
    train = {} if samples is None else {"train": dataclasses.replace(made.splits["train"], samples=samples)}

    assert (
        facts.train_command(dataclasses.replace(made, splits=train), "my shards")
        == f"ks-train --shards 'my shards'{more}"
    )


def test_a_folder_of_runs_of_other_data_is_passed_over(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    made = reader.read_dataset(shards)
    own = {"fingerprint": made.splits["train"].fingerprint, "data_recipe": made.recipe}

    def following(name: str, run: dict[str, str]) -> str:
        (tmp_path / "runs" / name).mkdir(parents=True, exist_ok=True)
        (tmp_path / "runs" / name / "run.json").write_text(json.dumps(run))
        told: str = facts.train_command(made, "shards").partition(" --out ")[2]
        return told

    assert following("avcl_tiny", own) == ""  # resumed
    assert following("avcl_tiny", own | {"data_recipe": "packed otherwise"}) == "runs/avcl_tiny_2"
    assert following("avcl_tiny_2", own | {"fingerprint": "other clips"}) == "runs/avcl_tiny_3"
    assert following("avcl_tiny_3", own) == "runs/avcl_tiny_3"


@pytest.mark.parametrize("classes", ["k32", "k100", "mine", "tiny"])
def test_the_recommended_recipe_is_that_of_ks_train(classes: str) -> None:
    assert facts.recommended_recipe(classes) == recipes.recipe_for(classes)
    assert shipped.read(facts.recommended_recipe(classes)).settings.batch == facts.BATCH


def test_the_folder_of_a_manifest_stands_for_it(built: Path, tmp_path: Path) -> None:
    assert manifest_path(built) == manifest_path(built / "manifest.parquet") == built / "manifest.parquet"
    assert manifest_path(tmp_path / "v1.5") == tmp_path / "v1.5/manifest.parquet"
    for name in ("none.parquet", "none.CSV"):
        assert manifest_path(tmp_path / name) == tmp_path / name
    (tmp_path / "kept").touch()
    (tmp_path / "old.csv").mkdir()
    assert manifest_path(tmp_path / "kept") == tmp_path / "kept"
    assert manifest_path(tmp_path / "old.csv") == tmp_path / "old.csv/manifest.parquet"


def test_a_build_that_was_stopped_is_packed_with_a_warning(
    built: Path, shards: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A clip more than the build has, to which it never came."""
    inline(monkeypatch)
    made = manifest.read(built / "manifest.parquet")
    waiting = Outcome(clip=Clip("waiting", 0, 10, made.classes.labels[0], "train"), status=Status.NOT_TRIED)
    rows = sorted([*made.outcomes, waiting], key=lambda each: (each.clip.split, each.clip.label, each.clip.key))
    path = built / "stopped.parquet"
    manifest.write(path, made.classes, rows)

    assert packed(built, shards, "--manifest", str(path)) == 0

    told = f"{path}: 1 of {len(rows)} clips was not tried yet; finish the build first (run the same ks-build again)\n"
    assert told in capsys.readouterr().err


def test_after_a_rebuild_the_shards_are_said_to_be_of_the_manifest_before(built: Path, shards: Path) -> None:
    """As packed, and where one clip has other bytes now."""
    packed_now = dataclasses.asdict(index.read_dataset(shards))
    command = f"next: ks-shard --manifest {built / 'manifest.parquet'}"

    assert summary.next_step(packed_now, built) == command
    assert summary.next_step(packed_now | {"content": "ab" * 32}, built) == (
        f"{shards}: has shards of the manifest before; delete them, or keep them and pack into another folder\n"
        f"{command} --out {built / 'shards_2'}"
    )


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
    """Three of them, and none; one has been killed and packs them again in other tests."""
    assert packed(built, tmp_path / "three", "--workers", "3") == 0

    assert tars(tmp_path / "three") == tars(shards)


def test_a_second_run_changes_nothing(built: Path, shards: Path) -> None:
    before = {path: (path.stat().st_mtime_ns, path.stat().st_ino) for path in shards.rglob("*.tar")}
    common = ["--manifest", str(built / "manifest.parquet"), "--short_side", "32", "--shard_bytes", "400000"]

    assert shard.main(common) == 0

    assert {path: (path.stat().st_mtime_ns, path.stat().st_ino) for path in shards.rglob("*.tar")} == before


def test_a_release_changes_no_byte_and_no_recipe(built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    outcome = next(each for each in manifest.read(built / "manifest.parquet").outcomes if each.media)

    def made() -> tuple[Any, str]:
        encode_sample.versions.cache_clear()
        packing = encode_sample.Packing(
            folder=built,
            scratch=tmp_path,
            encoding=encode.Encoding(short_side=32),
            mel=mel.PRESETS["paper"],
            audio=True,
            timeout_seconds=30,
            versions=encode_sample.versions(encode.Encoding(short_side=32))[0],
        )
        task = encode_sample.Task(outcome=outcome, label_index=0, packing=packing)
        return encode_sample.pack(task), job.recipe({"train": [outcome]}, ["hum"], packing, 10**6)

    before = made()
    for module in (kinetics_sounds, encode_sample):
        monkeypatch.setattr(module, "__version__", "9.9.9", raising=False)

    assert made() == before
    assert json.loads(before[0]["json"])["versions"].startswith("packing 1; ffmpeg ")


def test_a_set_of_before_there_was_the_packing_number_is_gone_on_with(
    built: Path, shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, s3: str
) -> None:
    """It keeps its recipe, and what its samples say of how they were made."""
    inline(monkeypatch)
    copy, out, url = tmp_path / "build", tmp_path / "out", f"{s3}/before"
    shutil.copytree(built, copy, symlinks=True, ignore=shutil.ignore_patterns("shards"))
    with monkeypatch.context() as patch:
        patch.setattr(encode_sample, "NAMES", ("kinetics-sounds 0.1.0",))
        encode_sample.versions.cache_clear()
        assert packed(built, out) == 0
        assert packed(copy, url) == 0
    encode_sample.versions.cache_clear()
    before, recipe = tars(out), index.read_dataset(out).recipe
    assert recipe != index.read_dataset(shards).recipe
    assert before != tars(shards)

    for lost in ("train/train-000000.tar", "dataset.json"):
        (out / lost).unlink()
        assert packed(built, out) == 0
    shutil.rmtree(copy / "shards")
    assert packed(copy, url) == 0  # made anew here, for what lies there

    assert tars(out) == tars(copy / "shards") == before
    assert (out / "dataset.json").read_bytes() == remote.read(f"{url}/dataset.json", most=10**6)
    assert index.read_dataset(out).versions["kinetics-sounds"] == "0.1.0"


def test_other_settings_in_the_same_folder_are_refused(
    built: Path, shards: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = shard.main(["--manifest", str(built / "manifest.parquet"), "--short_side", "64", "--out", str(shards)])

    assert code == 2
    told = capsys.readouterr().err
    assert "another manifest, settings or ffmpeg version" in told
    assert "of this manifest's clips" not in told  # they are the same


def test_clips_more_or_fewer_than_in_the_folder_are_counted(
    built: Path, shards: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = pd.read_parquet(built / "manifest.parquet")
    few = built / "few.parquet"
    rows[rows["key"] != rows.loc[rows["status"] == "ok", "key"].iloc[0]].to_parquet(few)

    code = shard.main(["--manifest", str(few), "--out", str(shards)])

    few.unlink()
    assert code == 2
    told = "(of this manifest's clips 0 are not in the shards, and 1 of the shards' are not in the manifest)"
    assert told in capsys.readouterr().err


def test_another_set_s_last_split_or_own_file_is_refused_before_anything_is_packed(
    built: Path, shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of another set only the shards of its last split are there, or only `dataset.json`."""
    monkeypatch.setattr(shard.executors, "start", None)  # nothing could be packed by it
    shutil.copytree(shards / "val", tmp_path / "split/val")
    (tmp_path / "file").mkdir()
    shutil.copy(shards / layout.DATASET, tmp_path / "file")

    for out in (tmp_path / "split", tmp_path / "file"):
        assert packed(built, out, "--mel", "authors") == 2
        assert f"{out}: contains shards of another manifest" in capsys.readouterr().err


def test_what_a_killed_run_was_writing_is_deleted(built: Path, shards: Path) -> None:
    part = shards / f"{layout.DATASET}.99999.part"
    part.write_text("half")

    assert packed(built, shards) == 0

    assert not part.exists()


def flip(path: Path, at: int) -> None:
    """Change one bit of a file."""
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


def state(folder: Path) -> dict[str, tuple[int, int]]:
    """Of every file below a folder, which one it is and when it was last written."""
    found = {path: path.lstat() for path in folder.rglob("*") if not path.is_dir()}
    return {str(path.relative_to(folder)): (each.st_ino, each.st_mtime_ns) for path, each in found.items()}


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> Pool:
    """Clips are built and packed in this process, which saves seconds; the pool keeps its tasks for the test to see."""
    pool = Pool(lambda task: encode_sample.attempt(task) if isinstance(task, encode_sample.Task) else worker.work(task))
    monkeypatch.setattr(shard.executors, "start", lambda *_, **__: pool)
    return pool


@pytest.fixture
def copy(built: Path, shards: Path, tmp_path: Path) -> Path:
    """A build of a test's own, with its shards."""
    copy = tmp_path / "a copy"
    shutil.copytree(built, copy, symlinks=True)
    return copy


def test_a_flipped_byte_of_a_clip_is_named_with_the_command_that_heals_it(
    folder: "Folder", shards: Path, copy: Path, here: Pool, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(copy / "shards")
    clip = next((copy / "clips").rglob("whole_000001_000003.mp4"))
    whole = clip.read_bytes()
    flip(clip, 2000)
    before = state(copy)

    assert packed(copy, copy / "shards") == 2  # and not 3: run again it would end so again

    error = capsys.readouterr().err
    assert f"{clip}: its SHA-256 differs" in error
    command = re.search(r"\((ks-build \.\.\. .*?)\)", error)
    assert command
    assert shlex.split(command[1]) == ["ks-build", "...", "--out", str(copy), "--check_bytes"]
    assert {name: each for name, each in state(copy).items() if not name.startswith("shards/")} == before

    build.main(arguments(folder, copy))  # looks at sizes
    assert packed(copy, copy / "shards") == 2
    assert build.main([*arguments(folder, copy), "--check_bytes"]) == 1
    assert clip.read_bytes() == whole
    assert packed(copy, copy / "shards") == 0
    assert tars(copy / "shards") == tars(shards)
    assert (copy / "shards/dataset.json").read_bytes() == (shards / "dataset.json").read_bytes()


def test_all_clips_that_are_missing_or_of_another_size_are_named_before_anything_is_packed(
    folder: "Folder",
    shards: Path,
    copy: Path,
    here: Pool,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shutil.rmtree(copy / "shards")
    clips = sorted((copy / "clips").rglob("*.mp4"))
    longer = next(path for path in clips if path.name == "whole_000001_000003.mp4")
    size = longer.stat().st_size
    longer.write_bytes(longer.read_bytes() + b"changed")
    clips[0].unlink()
    (copy / "lost").symlink_to(copy / "nowhere")
    (copy / "lost").replace(clips[1])

    assert packed(copy, copy / "shards") == 2

    error = capsys.readouterr().err
    assert "3 clips differ from the manifest; rebuild it" in error
    assert f"\n{longer}: has {size + 7} bytes instead of {size}\n" in error
    assert f"\n{clips[0]}: is missing\n" in error
    assert f"\n{clips[1]}: is missing\n" in error
    assert not here.done
    monkeypatch.setattr(resume, "MOST_NAMED", 1)
    assert packed(copy, copy / "shards") == 2
    assert "\nand 2 more\n" in capsys.readouterr().err
    build.main(arguments(folder, copy))
    assert packed(copy, copy / "shards") == 0
    assert tars(copy / "shards") == tars(shards)


def test_clips_that_are_packed_already_need_not_be_there(copy: Path, here: Pool) -> None:
    shutil.rmtree(copy / "clips")

    assert packed(copy, copy / "shards") == 0
    assert packed(copy, copy / "shards", "--check_bytes") == 0

    assert not here.done


def test_a_clip_that_cannot_be_read_now_is_no_reason_to_make_it_anew(
    copy: Path, here: Pool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(path: Path, **_: object) -> str:
        raise OSError(116, "Stale file handle", str(path))

    monkeypatch.setattr(files, "difference", fails)
    shutil.rmtree(copy / "shards")
    assert packed(copy, copy / "shards") == 4

    error = capsys.readouterr().err
    assert (
        ".mp4: cannot be read: Stale file handle; check that the disk is available, then run the same command" in error
    )
    assert not here.done


@pytest.mark.parametrize(
    ("number", "code", "remedy"),
    [
        (errno.EIO, 4, "check that disk or machine and run the same command again to resume"),
        (errno.EMFILE, 4, "check that disk or machine and run the same command again to resume"),
        (errno.ENOSPC, 3, "free some space and run the same command again to resume"),
        (errno.EPERM, 3, "run the same command again to resume, if need be with fewer --workers or a longer --timeout"),
    ],
)
def test_a_clip_whose_disk_fails_as_it_is_packed_is_told_as_that(
    number: int,
    code: int,
    remedy: str,
    copy: Path,
    here: Pool,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    difference = files.difference

    def fails(path: Path, *, size: int, digest: str = "") -> str:
        if digest and path.suffix == ".mp4":
            raise OSError(number, os.strerror(number))
        return difference(path, size=size, digest=digest)

    monkeypatch.setattr(files, "difference", fails)
    shutil.rmtree(copy / "shards")
    (copy / "shards").mkdir()
    (copy / "shards/film.mp4.part").touch()  # of a browser

    assert packed(copy, copy / "shards") == code

    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("ks-shard: ")]
    assert os.strerror(number) in line
    assert ".mp4" in line
    assert line.endswith(f"; {remedy}")
    assert sorted(path.name for path in (copy / "shards").rglob("*") if path.is_file()) == [".lock", "film.mp4.part"]


def test_only_a_full_disk_is_told_to_be_freed(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(_: object) -> None:
        raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")

    monkeypatch.setattr(encode_sample, "pack", fails)
    found = encode_sample.attempt(cast("encode_sample.Task", None))

    assert found == Refused(
        "[Errno 11] Resource temporarily unavailable; run the same command again to resume", StoppedError
    )


def test_a_bug_in_a_worker_is_told_with_its_traceback(
    copy: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = 'Traceback (most recent call last):\n  File "pack.py", line 1, in pack\nValueError: odd'
    pool = Pool(lambda _: Failed(Cause.RAISED, "ValueError: odd", lines))
    monkeypatch.setattr(shard.executors, "start", lambda *_, **__: pool)
    shutil.rmtree(copy / "shards")

    assert packed(copy, copy / "shards") == 4

    error = capsys.readouterr().err
    assert f": ValueError: odd; this is a bug; please report it with these lines:\n{lines}\n" in error


def test_a_check_of_bytes_makes_what_differs_anew_and_nothing_else(
    shards: Path, copy: Path, here: Pool, caplog: pytest.LogCaptureFixture
) -> None:
    """A flipped byte in the first tar of one split, in the index of another, and in the set's own file."""
    out, (first, second), [val] = copy / "shards", *(sorted((shards / each).glob("*.tar")) for each in ("train", "val"))
    damaged, whole, unknown = (out / path.relative_to(shards) for path in (first, second, val))
    flip(damaged, 3000)
    flip(layout.index_path(unknown), 100)
    flip(out / layout.DATASET, 50)
    before = state(out)[str(whole.relative_to(out))]
    keys = [key for tar in (first, val) for key in index.read_index(layout.index_path(tar)).keys]

    assert packed(copy, out, "--check_bytes") == 0

    assert f"{damaged}: its SHA-256 differs; it will be rebuilt" in caplog.text
    assert f"{layout.index_path(unknown)}: is damaged" in caplog.text
    assert tars(out) == tars(shards)
    for path in [out / layout.DATASET, *out.rglob("*-*.json")]:
        assert path.read_bytes() == (shards / path.relative_to(out)).read_bytes()
    assert state(out)[str(whole.relative_to(out))] == before
    assert [task.outcome.clip.key for task in here.done] == keys  # in order, and no more
    caplog.clear()
    here.done.clear()

    assert packed(copy, out, "--check_bytes") == 0

    assert not here.done
    assert "anew" not in caplog.text


def test_a_shard_that_is_not_the_next_one_is_made_anew(shards: Path, copy: Path, here: Pool) -> None:
    """The first tar is lost, and the second claims a clip less: what follows the first is not where it was."""
    out = copy / "shards"
    first, second = sorted((out / "train").glob("*.tar"))
    made = index.read_index(layout.index_path(second))
    assert len(made.keys) > 1
    first.unlink()
    rows = {name: getattr(made, name)[1:] for name in ("keys", "label_indices", "offsets", "sizes", "crcs")}
    index.write(layout.index_path(second), dataclasses.replace(made, **rows))

    assert packed(copy, out) == 0

    assert tars(out) == tars(shards)
    assert index.read_index(layout.index_path(second)) == made


@pytest.mark.parametrize("what", ["tar", "index", "alone"])
def test_without_a_check_of_bytes_what_is_damaged_is_named_and_left(
    copy: Path, here: Pool, capsys: pytest.CaptureFixture[str], what: str
) -> None:
    out = copy / "shards"
    tar = sorted((out / "train").glob("*.tar"))[0]
    if what == "tar":
        with tar.open("ab") as data:
            data.write(b"more")
    else:
        flip(layout.index_path(tar), 100)
    if what == "alone":  # nothing says any more that this was made by the same command
        for path in out.rglob("*.json"):
            if path != layout.index_path(tar):
                path.unlink()
    before = state(out / "train")

    assert packed(copy, out, *(["--check_bytes"] if what == "alone" else [])) == 2

    error = capsys.readouterr().err
    assert str(tar if what == "tar" else layout.index_path(tar)) in error
    assert {
        "tar": "run ks-shard again with --check_bytes to rebuild it",
        "index": "copy it again, or rebuild it with ks-shard --check_bytes",
        "alone": "no intact file shows that this was the same set: if it was, delete it",
    }[what] in error
    assert state(out / "train") == before
    assert not here.done


def test_a_manifest_without_usable_clips_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    empty = manifest.Manifest(ClassList("mine", ("a",)), ())
    manifest.write(tmp_path / "manifest.parquet", empty.classes, empty.outcomes)

    assert shard.main(["--manifest", str(tmp_path / "manifest.parquet")]) == 2
    assert "nothing to pack" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("--short_side", "33", "must be even"),
        ("--short_side", "2898", "more than 8388608 pixels are not supported"),  # 2,896 squared is less
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


def packed(built: Path, out: Path | str, *options: str) -> int:
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
        pytest.param("kill -9 $PPID", "its process died", marks=pytest.mark.slow_campaign),
        pytest.param("sleep 60", "timeout: ffmpeg took more than", marks=pytest.mark.slow_campaign),
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
    assert "run the same command again to resume" in error
    inline(monkeypatch)
    assert packed(built, tmp_path / "out", "--timeout", "60") == 0
    assert tars(tmp_path / "out") == tars(shards)


def test_a_fault_of_the_clip_itself_is_left_out_with_its_reason(
    built: Path, tmp_path: Path, trouble: "Callable[[str], Path]"
) -> None:
    """Twice: once could be the disk's."""
    trouble('case "$*" in *trimmed_0_*) echo "the picture cannot be decoded" >&2; exit 69;; esac')

    assert packed(built, tmp_path / "out") == 1

    [left] = [
        left for path in (tmp_path / "out").rglob("*.tar") for left in index.read_index(layout.index_path(path)).left
    ]
    assert left.status == "corrupt"
    assert "the picture cannot be decoded" in left.detail
    rows = [row for row in rows_of(built, "train", "val") if row[0] != left.key]
    assert index.read_dataset(tmp_path / "out").content == fingerprints.content(rows)


# --- Codecs, mels, decoding -------------------------------------------------------------------------------------------


def test_the_set_says_every_number_that_made_it(shards: Path) -> None:
    made = index.read_dataset(shards)

    expected = {"codec": "h264", "short_side": 32, "max_fps": 30.0, "crf": 23, "preset": "superfast", "gop": 16}
    assert made.frames.items() >= (expected | {"fast_decode": False}).items()
    assert "quality" not in made.frames
    assert (made.mel["preset"], made.mel["win_length"], made.mel["hop_length"]) == ("paper", 240, 240)
    assert set(made.versions) == {"packing", "ffmpeg", "av", "librosa", "numpy", "scipy"}


def rows_of(built: Path, *splits: str) -> list[tuple[str, str, str, str]]:
    """What a fingerprint is taken of: the ok clips of some splits."""
    ok = [(each.clip, each.media) for each in manifest.read(built / "manifest.parquet").outcomes if each.media]
    return [(clip.key, clip.label, clip.split, media.sha256) for clip, media in ok if clip.split in splits]


def test_the_set_and_its_splits_have_the_fingerprints_of_their_clips(built: Path, shards: Path) -> None:
    made = index.read_dataset(shards)

    told: dict[tuple[str, ...], tuple[str, str]] = {("train", "val"): (made.selection, made.content)}
    told |= {(name,): (facts.selection, facts.content) for name, facts in made.splits.items()}
    assert len(told) == 3
    for splits, both in told.items():
        rows = rows_of(built, *splits)
        assert both == (fingerprints.selection(row[:3] for row in rows), fingerprints.content(rows))


def test_a_set_that_is_gone_on_with_has_the_fingerprints_of_one_made_at_once(shards: Path, copy: Path) -> None:
    """Also one that an older version made, which had none."""
    whole = (shards / layout.DATASET).read_bytes()
    old = json.loads(whole) | {"schema": 1}
    for table in (old, *old["splits"].values()):
        del table["selection"], table["content"]
    (copy / "shards" / layout.DATASET).write_bytes(index.seal(old))
    (copy / "shards/train/train-000000.tar").unlink()

    assert packed(copy, copy / "shards") == 0

    assert (copy / "shards" / layout.DATASET).read_bytes() == whole
    assert tars(copy / "shards") == tars(shards)


@pytest.fixture(scope="module")
def others(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same clips with everything chosen that is not the default."""
    out = tmp_path_factory.mktemp("others") / "out"
    options = ["--codec", "jpeg", "--quality", "80", "--fast_decode", "--mel", "authors", "--audio", "none"]
    with pytest.MonkeyPatch.context() as patch:
        inline(patch)
        assert packed(built, out, *options) == 0
    return out


@pytest.mark.slow
def test_jpegs_are_stored_one_after_another_with_their_sizes_and_checksums(others: Path) -> None:
    for sample in read_alone(others, "val"):
        assert set(sample) >= {"mjpeg", "mel.npy", "json"}
        assert not set(sample) & {"mp4", "flac"}
        meta = json.loads(sample["json"])
        ends = np.cumsum(meta["frame_bytes"])
        assert (len(ends), ends[-1]) == (meta["num_frames"], len(sample["mjpeg"])) == (20, len(sample["mjpeg"]))
        jpegs = [sample["mjpeg"][end - size : end] for end, size in zip(ends, meta["frame_bytes"], strict=True)]
        assert [zlib.crc32(jpeg) for jpeg in jpegs] == meta["frame_crcs"]
        assert decode.decode_jpegs(jpegs).shape == (20, 32, 32, 3)


@pytest.mark.slow
def test_the_stream_reads_either_codec(shards: Path, others: Path) -> None:
    """The same clips: frames that look alike, and mel-spectrograms that differ in their making."""
    h264, jpeg = (stream.open_split(folder, "val") for folder in (shards, others))
    for number in range(len(h264)):
        with stream.sample(h264, number) as one, stream.sample(jpeg, number) as other:
            assert one.key == other.key
            away = one.frames([3, 19]).astype(float) - other.frames([3, 19])
            assert np.sqrt((away**2).mean()) < 16
            assert one.mel().shape == other.mel().shape == (256, 256)
            assert not np.array_equal(one.mel(), other.mel())


@pytest.mark.slow
def test_other_choices_are_written_down_too(others: Path) -> None:
    made = index.read_dataset(others)

    assert made.frames.items() >= {"codec": "jpeg", "quality": 80, "fast_decode": True}.items()
    assert not {"crf", "preset", "gop"} & set(made.frames)
    assert (made.mel["preset"], made.mel["win_length"], made.mel["hop_length"]) == ("authors", 1024, 512)
    assert made.audio["codec"] == "none"
    assert "simplejpeg" in made.versions


@pytest.mark.slow
def test_what_is_packed_is_sound(shards: Path, others: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for folder, counts in ((shards, "8 samples"), (others, "8 samples")):
        assert shard.main(["--verify", str(folder), "--verify_decode", "--workers", "1"]) == 0
        assert counts in capsys.readouterr().out


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("--quality 80", "only applies to JPEGs; add --codec jpeg"),
        ("--quality 0 --codec jpeg", "must be from 1 to 100"),
        ("--verify_decode", "add --verify SHARDS"),
        ("--check_bytes --verify x", "--verify reads every byte already"),
        ("--slurm.partition cpu", "add --executor slurm, or leave them out"),
        ("--out zip::s3://bucket/x", "this kind of URL is not supported"),
        ("--executor slrm", "--executor: 'slrm' is none of local, ray, slurm (did you mean 'slurm'?)"),
    ],
)
def test_options_that_do_not_go_together_are_refused(
    built: Path, capsys: pytest.CaptureFixture[str], given: str, said: str
) -> None:
    assert shard.main(["--manifest", str(built / "manifest.parquet"), *given.split()]) == 2
    assert said in capsys.readouterr().err


def test_a_worker_with_other_tools_packs_nothing(built: Path, tmp_path: Path) -> None:
    outcome = next(each for each in manifest.read(built / "manifest.parquet").outcomes if each.media)
    packing = encode_sample.Packing(
        folder=built,
        scratch=tmp_path,
        encoding=encode.Encoding(),
        mel=mel.PRESETS["paper"],
        audio=True,
        timeout_seconds=30,
        versions="ffmpeg n1.0",
    )

    with pytest.raises(
        SettingsError, match=r"has packing 1; ffmpeg .*, not ffmpeg n1.0; install the same on every node"
    ):
        encode_sample.pack(encode_sample.Task(outcome=outcome, label_index=0, packing=packing))


# --- Executors --------------------------------------------------------------------------------------------------------


@pytest.mark.slow_campaign
@pytest.mark.parametrize("executor", ["ray", "slurm --slurm.cluster local"], ids=["ray", "jobs"])
def test_the_bytes_do_not_depend_on_the_executor(built: Path, shards: Path, tmp_path: Path, executor: str) -> None:
    """Run as people run it: Ray and submitit leave threads and processes of their own."""
    settings = ["--short_side", "32", "--shard_bytes", "400000", "--out", str(tmp_path / "out"), "--workers", "2"]
    module = [sys.executable, "-m", "kinetics_sounds.pipelines.shard", "--manifest", str(built / "manifest.parquet")]
    done = subprocess.run(
        [*module, *settings, "--executor", *executor.split()], check=False, capture_output=True, text=True, timeout=240
    )

    assert done.returncode == 0, done.stderr
    assert tars(tmp_path / "out") == tars(shards)
    assert (tmp_path / "out/dataset.json").read_bytes() == (shards / "dataset.json").read_bytes()


# --- URLs -------------------------------------------------------------------------------------------------------------


def puts(wire: Proxy) -> list[str]:
    """What was stored, in its order, each once: large files come in parts."""
    return list(dict.fromkeys(re.split(r"[? ]", each)[1] for each in wire.requests if each.startswith("PUT ")))


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    inline(monkeypatch)


@pytest.mark.usefixtures("quick")
def test_a_set_is_sent_tar_by_tar_and_its_own_file_last(built: Path, shards: Path, s3: str, wire: Proxy) -> None:
    assert packed(built, f"{s3}/set") == 0

    bucket = s3.removeprefix("s3://")
    tars_sent = [path for path in puts(wire) if path.endswith(".tar")]
    expected = [step for tar in tars_sent for step in (tar, tar.replace(".tar", ".json"))]
    assert puts(wire)[1:] == [*expected, f"/{bucket}/set/dataset.json"]  # the first made the bucket
    for path in sorted(shards.rglob("*.tar")):
        url = remote.join(f"{s3}/set", *path.relative_to(shards).parts)
        assert remote.read(url, most=10**7) == path.read_bytes()
    assert stream_keys(f"{s3}/set", built / "cache") == stream_keys(str(shards), None)


def stream_keys(place: str, cache: Path | None) -> list[bytes]:
    kept = Cache(cache, most_bytes=10**8) if cache else None
    keys: list[bytes] = stream.open_split(place, "train", cache=kept).key_N.tolist()
    return keys


@pytest.mark.usefixtures("quick")
def test_to_the_hub_a_set_goes_in_two_commits_and_only_what_differs_goes_again(
    built: Path, shards: Path, hub_server: Hub
) -> None:
    """Of which the second has dataset.json: a tar and an index each would be more commits than the Hub takes in an hour."""
    url, name = "hf://datasets/ann/k32/shards", "datasets/ann/k32"
    assert packed(built, url) == 0

    repo = hub_server.repos[name]
    sent = {
        path.relative_to(shards.parent).as_posix() for path in shards.rglob("*.*") if path.suffix in (".tar", ".json")
    }
    assert [set(files) for files in repo.commits] == [set(), sent - {"shards/dataset.json"}, sent]
    assert repo.private
    assert stream_keys(url, built / "cache of the hub") == stream_keys(str(shards), None)

    tar = "shards/train/train-000001.tar"
    repo.files[tar] = Blob(bytes(len(repo.files[tar].data)), lfs=True)
    hub_server.puts.clear()
    assert packed(built, url, "--check_bytes") == 0
    assert repo.files[tar].data == (shards.parent / tar).read_bytes()
    assert len(repo.commits) == 4
    assert not hub_server.puts  # the Hub has its bytes still
    assert packed(built, url) == 0
    assert len(repo.commits) == 4


@pytest.mark.usefixtures("quick")
def test_who_the_hub_does_not_know_is_told_before_anything_is_packed(
    built: Path, hub_server: Hub, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HF_TOKEN", "")

    assert packed(built, "hf://datasets/ann/k32", "--mel", "authors") == 2
    assert "log in with `hf auth login`, or set HF_TOKEN" in capsys.readouterr().err
    assert packed(built, "hf://k32") == 2
    assert "hf://k32: is not a location on the Hub" in capsys.readouterr().err


@pytest.mark.usefixtures("quick")
def test_a_tar_that_was_damaged_here_is_not_sent_to_the_hub(
    built: Path, shards: Path, hub_server: Hub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(built, copy, symlinks=True)
    flip(copy / "shards/train/train-000000.tar", 1000)

    assert packed(copy, "hf://datasets/ann/k32") == 2
    assert "train-000000.tar: its SHA-256 differs; run ks-shard again with --check_bytes" in capsys.readouterr().err
    assert hub_server.commits("datasets/ann/k32") == 0


@pytest.mark.usefixtures("quick")
def test_only_what_is_not_there_is_sent_again(built: Path, shards: Path, s3: str, wire: Proxy) -> None:
    assert packed(built, f"{s3}/set") == 0
    wire.requests.clear()

    assert packed(built, f"{s3}/set") == 0
    assert puts(wire) == []

    lost = remote.join(f"{s3}/set", "train", "train-000000.json")  # as after a kill between a tar and its index
    file_systems.file_system("s3", None).rm(lost.real)
    assert packed(built, f"{s3}/set") == 0
    assert [path.rpartition("/")[2] for path in puts(wire)] == ["train-000000.tar", "train-000000.json"]


@pytest.mark.usefixtures("quick")
def test_another_set_at_the_url_is_refused_before_anything_is_packed(
    built: Path, shards: Path, s3: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert packed(built, f"{s3}/set") == 0

    assert packed(built, f"{s3}/set", "--mel", "authors") == 2
    assert f"{s3}/set: contains shards of another manifest" in capsys.readouterr().err


def test_a_check_of_bytes_sends_anew_what_differs_at_the_url_and_nothing_else(
    built: Path,
    shards: Path,
    s3: str,
    wire: Proxy,
    here: Pool,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A tar of the right size with another byte."""
    assert packed(built, f"{s3}/set") == 0
    tar = sorted((shards / "train").glob("*.tar"))[1]
    there = remote.join(f"{s3}/set", "train", tar.name)
    damage(tar, there, 3000, tmp_path)
    wire.requests.clear()

    assert packed(built, f"{s3}/set") == 0
    assert puts(wire) == []
    assert packed(built, f"{s3}/set", "--check_bytes") == 0

    assert [path.rpartition("/")[2] for path in puts(wire)] == [tar.name, layout.index_path(tar).name]
    assert remote.read(there, most=10**7) == tar.read_bytes()
    assert f"{there}: its SHA-256 differs; it is sent again" in caplog.text
    wire.requests.clear()
    assert packed(built, f"{s3}/set", "--check_bytes") == 0
    assert puts(wire) == []
    assert not here.done


def damage(path: Path, url: remote.Url, at: int, folder: Path) -> None:
    """Store a file's copy with a flipped byte at a URL."""
    shutil.copy(path, folder / "damaged")
    flip(folder / "damaged", at)
    remote.upload(folder / "damaged", url)


def test_damaged_tables_at_the_url_are_sent_anew(
    built: Path, shards: Path, s3: str, wire: Proxy, here: Pool, tmp_path: Path
) -> None:
    assert packed(built, f"{s3}/set") == 0
    last = sorted((shards / "train").glob("*.json"))[-1]
    damage(last, remote.join(f"{s3}/set", "train", last.name), 100, tmp_path)
    damage(shards / layout.DATASET, f"{s3}/set/{layout.DATASET}", 50, tmp_path)
    wire.requests.clear()

    assert packed(built, f"{s3}/set") == 0

    assert [path.rpartition("/")[2] for path in puts(wire)] == [f"{last.stem}.tar", last.name, layout.DATASET]
    assert remote.read(f"{s3}/set/{layout.DATASET}", most=10**6) == (shards / layout.DATASET).read_bytes()


def test_a_damaged_set_at_the_url_that_may_be_another_s_is_left(
    built: Path, shards: Path, s3: str, here: Pool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    damage(shards / layout.DATASET, f"{s3}/set/{layout.DATASET}", 50, tmp_path)

    assert packed(built, f"{s3}/set") == 2
    assert f"{s3}/set/dataset.json: is damaged" in capsys.readouterr().err


def test_a_tar_that_was_damaged_here_is_not_sent(
    built: Path, shards: Path, s3: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(built, copy, symlinks=True)
    tar = copy / "shards/train/train-000000.tar"
    data = bytearray(tar.read_bytes())
    data[1000] ^= 1
    tar.write_bytes(data)

    assert packed(copy, f"{s3}/set") == 2
    assert f"{tar}: its SHA-256 differs; run ks-shard again with --check_bytes" in capsys.readouterr().err
    assert remote.size(f"{s3}/set/train/train-000000.json") is None
    assert remote.size(f"{s3}/set/dataset.json") is None

    assert packed(copy, f"{s3}/set", "--check_bytes") == 0
    assert (
        remote.read(f"{s3}/set/train/train-000000.tar", most=10**7) == (shards / "train/train-000000.tar").read_bytes()
    )
