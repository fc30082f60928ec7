"""A verdict for good is said of the bytes: what a disk or a network share does for a moment makes none.

`benchmarks/source_faults.py` fails every open and read of a file in turn, in a file system of its own.
"""

import dataclasses
import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kinetics_sounds.address import Address
from kinetics_sounds.clip import Clip, Outcome, Status
from kinetics_sounds.errors import FaultError, MediaError, StoppedError
from kinetics_sounds.media import encode, ffmpeg, measure, mel, probe
from kinetics_sounds.pipelines import attempts
from kinetics_sounds.pipelines.fetching import worker
from kinetics_sounds.pipelines.fetching.task import ClipTask
from kinetics_sounds.pipelines.packing import encode_sample
from kinetics_sounds.shards.index import SkippedClip

from ..conftest import video

CLIP = Clip("AbCdEfGhIjK", 0, 2, "humming", "train")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A clip of two seconds that is its span."""
    path = tmp_path / "videos" / f"{CLIP.key}.mp4"
    video(path, seconds=2)
    return path


def obtained(path: Path, tmp_path: Path) -> Outcome:
    out = tmp_path / "out"
    (out / "scratch").mkdir(parents=True, exist_ok=True)
    task = ClipTask(
        clip=CLIP,
        spec=Address(f"local:{path.parent}"),
        locations=(str(path),),
        out=out,
        scratch=out / "scratch",
        folder=out / "scratch" / "task",
        min_coverage=0.9,
        timeout_seconds=60,
    )
    outcome: Outcome = worker.process_clip(task).outcome
    return outcome


def failing(monkeypatch: pytest.MonkeyPatch, module: Any, name: str, error: Exception, *, times: int) -> list[int]:
    """The first calls of a function fail; how often it was called."""
    real: Callable[..., Any] = getattr(module, name)
    calls: list[int] = []

    def call(*words: Any, **named: Any) -> Any:
        calls.append(len(calls))
        if len(calls) <= times:
            raise error
        return real(*words, **named)

    monkeypatch.setattr(module, name, call)
    return calls


def test_a_file_that_decodes_when_it_is_tried_again_is_unreadable(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing(monkeypatch, probe, "probe", MediaError("cannot be opened: Transport endpoint"), times=1)

    first, again = obtained(source, tmp_path), obtained(source, tmp_path)

    assert first.status is Status.UNREADABLE
    assert first.detail == (
        f"{CLIP.key}.mp4: decoded at the second attempt; before: corrupt: cannot be opened: Transport endpoint"
    )
    assert again.status is Status.OK


@pytest.mark.parametrize("number", [errno.EACCES, errno.EIO, errno.ESTALE, errno.ENOTCONN, errno.ETIMEDOUT])
def test_a_file_that_cannot_be_read_to_its_end_is_unreadable(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    source.write_bytes(source.read_bytes()[:3000])
    assert obtained(source, tmp_path).status is Status.CORRUPT
    failing(monkeypatch, ffmpeg, "read_through", OSError(number, os.strerror(number), str(source)), times=1)

    outcome = obtained(source, tmp_path)

    assert outcome.status is Status.UNREADABLE
    assert outcome.detail == f"{CLIP.key}.mp4: cannot be read: {os.strerror(number)} (errno {number})"


def test_what_is_wrong_with_the_bytes_is_said_after_two_tries(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source.write_bytes(b"no video at all")
    calls = failing(monkeypatch, worker, "to_span", MediaError(""), times=0)

    assert obtained(source, tmp_path).status is Status.CORRUPT
    assert len(calls) == 2


def test_a_frame_that_was_not_read_does_not_make_a_cut_of_a_link(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is linked on one machine would be cut, into other bytes, on another."""
    real = measure.steady
    answers = [False]
    monkeypatch.setattr(measure, "steady", lambda blocks: answers.pop() if answers else real(blocks))

    assert obtained(source, tmp_path).status is Status.OK
    assert (tmp_path / "out" / "clips" / "humming" / source.name).is_symlink()
    assert not answers


BROKEN = "[in#0/mov @ 0x55d5] [error] Error during demuxing: Input/output error"


@pytest.mark.parametrize(("times", "runs"), [(0, 1), (1, 2), (9, 2)])
def test_a_run_whose_input_broke_off_is_done_again(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, times: int, runs: int
) -> None:
    """The tool ends well all the same. A file that ends early breaks off each time, and that is its own."""
    tool, count = tmp_path / "tool", tmp_path / "count"
    body = f'echo >> {count}; test $(wc -l < {count}) -gt {times} || echo "{BROKEN}" >&2; echo "[info] all" >&2'
    tool.write_text(f"#!/bin/sh\n{body}\n")
    tool.chmod(0o755)
    monkeypatch.setattr(ffmpeg, "executable", lambda: str(tool))

    told = ffmpeg.run(ffmpeg.sink(ffmpeg.source(source), path=tmp_path / "out.mp4", format="mp4"), timeout_seconds=20)

    assert len(count.read_text().splitlines()) == runs
    assert told.endswith("all\n")
    assert ("Error during demuxing" in told) == (times == 9)


def test_a_run_whose_input_cannot_be_read_is_the_machines_fault(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tool = tmp_path / "tool"
    tool.write_text(f'#!/bin/sh\necho "{BROKEN}" >&2\n')
    tool.chmod(0o755)
    monkeypatch.setattr(ffmpeg, "executable", lambda: str(tool))
    failing(monkeypatch, ffmpeg, "read_through", OSError(errno.EIO, "Input/output error", str(source)), times=9)

    with pytest.raises(OSError, match="Input/output error") as caught:
        ffmpeg.run(ffmpeg.sink(ffmpeg.source(source), path=tmp_path / "out.mp4", format="mp4"), timeout_seconds=20)
    assert caught.value.filename == str(source)


def test_of_a_folder_that_cannot_be_opened_for_a_moment_nothing_is_known(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker opens the source's folder anew for each clip."""
    failing(monkeypatch, os, "scandir", OSError(errno.EIO, "Input/output error"), times=1)

    outcome = obtained(source, tmp_path)
    assert (outcome.status, outcome.media) == (Status.UNREADABLE, None)
    assert outcome.detail.endswith("videos: the folder cannot be read: Input/output error")
    assert obtained(source, tmp_path).status is Status.OK


# --- Packing ------------------------------------------------------------------------------------------------------------


def task(source: Path, tmp_path: Path) -> encode_sample.Task:
    outcome = obtained(source, tmp_path)
    encoding = encode.Encoding(short_side=48)
    packing = encode_sample.Packing(
        folder=tmp_path / "out",
        scratch=tmp_path,
        encoding=encoding,
        mel=mel.Mel(),
        audio=True,
        timeout_seconds=60,
        versions=encode_sample.versions(encoding)[0],
    )
    return encode_sample.Task(outcome=outcome, label_index=0, packing=packing)


def test_a_clip_whose_first_decoding_fails_is_packed_all_the_same(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A set without it would differ from another machine's, in silence."""
    asked = task(source, tmp_path)
    undisturbed = encode_sample.pack(asked)
    failing(monkeypatch, encode, "encode", MediaError("Invalid data found"), times=1)

    assert encode_sample.pack(asked) == undisturbed


def test_a_clip_of_other_frames_than_were_measured_is_packed_as_it_is(source: Path, tmp_path: Path) -> None:
    """Its bytes are those that the manifest names: what was measured otherwise is the number."""
    asked = task(source, tmp_path)
    media: Any = asked.outcome.media
    wrong = dataclasses.replace(asked.outcome, media=dataclasses.replace(media, num_frames=media.num_frames + 1))

    assert encode_sample.pack(dataclasses.replace(asked, outcome=wrong)) == encode_sample.pack(asked)


def test_a_clip_of_other_frames_each_time_stops_the_packing(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = task(source, tmp_path)
    real = encode.encode
    shown = iter((18, 19))
    monkeypatch.setattr(
        encode, "encode", lambda *w, **n: dataclasses.replace(real(*w, **n), decoded_frames=next(shown))
    )

    with pytest.raises(
        StoppedError,
        match=r"unreadable: .*the first attempt decoded 18 frames, the second decoded 19, but there are 20",
    ):
        encode_sample.pack(asked)


def test_a_clip_that_fails_twice_is_left_out_and_one_that_cannot_be_read_stops_the_packing(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = task(source, tmp_path)
    failing(monkeypatch, encode, "encode", MediaError("Invalid data found"), times=9)
    assert encode_sample.pack(asked) == SkippedClip(key=CLIP.key, status="corrupt", detail="Invalid data found")

    failing(monkeypatch, attempts, "read_through", OSError(errno.ESTALE, "Stale file handle", str(source)), times=9)
    refused = encode_sample.attempt(asked)
    assert isinstance(refused, encode_sample.Refused)
    assert refused.error is FaultError
    assert f"Stale file handle: '{source}'" in refused.reason
    assert refused.reason.endswith("run the same command again to resume")


def test_a_disk_that_fails_where_a_sample_is_made_is_named(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = task(source, tmp_path)
    made = tmp_path / "tmp" / "clip.video"
    failing(monkeypatch, encode, "encode", OSError(errno.EIO, "Input/output error", str(made)), times=9)

    refused = encode_sample.attempt(asked)
    assert isinstance(refused, encode_sample.Refused)
    assert refused.error is FaultError
    assert f"Input/output error: '{made}'" in refused.reason


def test_a_full_disk_that_names_no_path_is_told_with_the_clip_s(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = task(source, tmp_path)
    failing(monkeypatch, encode, "encode", OSError(errno.ENOSPC, "No space left on device"), times=9)

    refused = encode_sample.attempt(asked)
    assert isinstance(refused, encode_sample.Refused)
    assert refused.error is StoppedError
    assert f"No space left on device: '{tmp_path / 'out'}" in refused.reason
