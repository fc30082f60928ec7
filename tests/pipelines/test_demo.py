import json
import subprocess
import sys
import time
from pathlib import Path

import pytest


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_the_quick_demo_goes_the_whole_way(tmp_path: Path) -> None:
    began = time.monotonic()
    argv = [sys.executable, "-m", "kinetics_sounds.pipelines.demo", "--quick", "--out", str(tmp_path / "demo")]

    shown = subprocess.run(argv, check=False, capture_output=True, text=True, timeout=390)

    assert shown.returncode == 0, shown.stderr[-2000:]
    assert time.monotonic() - began < 390
    guessing, untrained, trained = json.loads((tmp_path / "demo/scores.json").read_text())
    assert [row["encoders"] for row in (guessing, untrained, trained)] == ["guessing", "untrained", "trained"]
    assert guessing["linear top1"] == pytest.approx(100 / 6)
    assert set(trained) == {"encoders", "linear top1", "knn top1", "crossmodal video_to_audio_r10"}
    page = (tmp_path / "demo/report.html").read_text()
    assert page.count("<video") == page.count("<audio") == 6
    assert str(tmp_path / "demo/report.html") in shown.stdout
    report = json.loads((tmp_path / "demo/build/report.json").read_text())
    assert report["statuses"] == {"ok": 48}
    clip = next((tmp_path / "demo/build/clips").rglob("*.mp4"))
    assert not clip.is_symlink()  # cut out of what yt-dlp downloaded
