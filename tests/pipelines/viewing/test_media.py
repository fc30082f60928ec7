"""Embedded clips of shards are those that the shards hold."""

import io
import json
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest

from kinetics_sounds import manifest
from kinetics_sounds.media import encode
from kinetics_sounds.media.mel import Mel, mel_image
from kinetics_sounds.media.preview import Preview
from kinetics_sounds.media.probe import probe, spans
from kinetics_sounds.pipelines import build, view
from kinetics_sounds.pipelines.viewing import media, sets
from kinetics_sounds.shards import layout

from ...shards.sets import make
from ..conftest import inline, video
from . import made

DATA = Path(__file__).parents[4] / "shared" / "data"
MEL = Mel(bands=32, columns=64)


@pytest.fixture
def parts(tmp_path: Path) -> Callable[[int], Mapping[str, bytes]]:
    """A sample of two seconds, as ks-shard stores it."""
    video(tmp_path / "clip.mp4", seconds=2)
    found = encode.encode(
        tmp_path / "clip.mp4",
        found=probe(tmp_path / "clip.mp4"),
        scratch=tmp_path,
        encoding=encode.Encoding(short_side=36),
        timeout_seconds=60,
    )
    mel = io.BytesIO()
    np.save(mel, mel_image(found.waveform, MEL).astype(np.float16))
    meta = {"num_frames": found.num_frames, "fps": float(found.fps), "audio_samples": len(found.waveform)}
    return lambda _: {
        layout.FRAMES: found.mp4,
        layout.MEL: mel.getvalue(),
        layout.AUDIO: found.flac,
        layout.META: json.dumps(meta).encode(),
    }


def test_a_sample_is_embedded_with_its_sound_and_its_stored_mel(
    tmp_path: Path, parts: Callable[[int], Mapping[str, bytes]]
) -> None:
    numbers = {"bands": 32, "columns": 64}
    found = sets.read(make(tmp_path / "shards", (2,), parts=parts, frames={"short_side": 36}, mel=numbers))

    ((number, row, result),) = media.embed(media.choose([found], 1, seed=0), timeout_seconds=60)

    assert isinstance(result, Preview), result
    assert row.key == f"k_{number}"
    assert result.mel_FT is not None
    assert result.mel_FT.shape == (32, 64)
    (tmp_path / "small.mp4").write_bytes(result.mp4)
    shown, heard = spans(tmp_path / "small.mp4")
    assert shown is not None
    assert heard is not None
    assert shown.last_seconds == pytest.approx(2, abs=0.15)
    assert heard.last_seconds == pytest.approx(2, abs=0.15)


@pytest.mark.slow
@pytest.mark.skipif(not DATA.is_dir(), reason=f"no test data at {DATA}")
def test_the_page_of_real_videos_says_what_their_manifest_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inline(monkeypatch)
    rows = ["label,youtube_id,time_start,time_end,split"]
    found = sorted((DATA / "videos").glob("*/*.mp4"), key=lambda path: path.stat().st_size)[:8]
    (tmp_path / "videos").mkdir()
    for number, path in enumerate(found):
        rows.append(f"{('one', 'two')[number % 2]},clip-{number:02d},0,2,{('train', 'val')[number % 3 % 2]}")
        (tmp_path / f"videos/clip-{number:02d}_000000_000002.mp4").symlink_to(path)
    (tmp_path / "two.txt").write_text("one\ntwo\n")
    (tmp_path / "list.csv").write_text("\n".join(rows) + "\n")
    argv = ["--classes", str(tmp_path / "two.txt"), "--annotations", str(tmp_path / "list.csv")]
    assert build.main([*argv, "--source", f"local:{tmp_path / 'videos'}", "--out", str(tmp_path / "B")]) == 1

    assert view.main([str(tmp_path / "B"), "--embed", "2"]) == 0

    outcomes = manifest.read(tmp_path / "B/manifest.parquet").outcomes
    columns = made.columns(tmp_path / "B/view.html")
    assert len(columns["key"]) == 8
    for name, told in {
        "status": (each.status.value for each in outcomes),
        "label": (each.clip.label for each in outcomes),
        "split": (each.clip.split for each in outcomes),
    }.items():
        assert Counter(columns[name]) == Counter(told)
    assert len(made.document(tmp_path / "B/view.html", "media")) == 2
