"""From two builds that lost different clips to one split that both papers can be compared on, rebuilt somewhere else."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from kinetics_sounds.media import ffmpeg
from kinetics_sounds.pipelines import build, publish

from .conftest import inline, video

pytestmark = pytest.mark.slow

KEYS = tuple(f"{letter * 11}_00000{start}_00000{start + 3}" for letter, start in zip("abcd", range(4), strict=True))
SPLITS = ("train", "train", "val", "test")


@pytest.fixture(autouse=True)
def _inline(monkeypatch: pytest.MonkeyPatch) -> None:
    inline(monkeypatch)


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four clips."""
    folder = tmp_path_factory.mktemp("originals")
    for number, key in enumerate(KEYS):
        video(folder / f"{key}.mp4", seconds=3, seed=number)
    return folder


def annotations(path: Path) -> Path:
    rows = [
        f"archery,{key[:11]},{int(key[12:18])},{int(key[19:])},{split}" for key, split in zip(KEYS, SPLITS, strict=True)
    ]
    path.write_text("\n".join(["label,youtube_id,time_start,time_end,split", *rows, ""]))
    return path


def encoded_again(source: Path, folder: Path) -> None:
    """The same picture and sound in fewer bytes."""
    folder.mkdir(exist_ok=True)
    out = folder / source.name
    words = ["-v", "error", "-i", source, "-crf", "30", "-c:v", "libx264", "-c:a", "aac", "-b:a", "96k", out]
    subprocess.run([ffmpeg.executable(), *map(str, words)], check=True)


def built(out: Path, source: Path, *words: object) -> dict[str, Any]:
    """The report of a build."""
    build.main([*map(str, words), "--source", f"local:{source}", "--out", str(out), "--workers", "1"])
    report: dict[str, Any] = json.loads((out / "report.json").read_text())
    return report


def published(out: Path, folder: Path) -> dict[str, Any]:
    """The fingerprints of a published build."""
    words = ["--manifest", str(out / "manifest.parquet"), "--out", str(folder), "--name", "mine", "--workers", "1"]
    assert publish.main(words) == 0
    found: dict[str, Any] = json.loads((folder / "fingerprints.json").read_text())
    return found


def test_two_builds_that_lost_different_clips_meet_in_a_common_split(
    originals: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One lacks the first clip; the other the last, and has the second one in another encoding."""
    one, other = tmp_path / "one", tmp_path / "other"
    for folder, lacking in ((one, KEYS[0]), (other, KEYS[3])):
        shutil.copytree(originals, folder / "videos")
        (folder / "videos" / f"{lacking}.mp4").unlink()
    (other / "videos" / f"{KEYS[1]}.mp4").unlink()
    encoded_again(originals / f"{KEYS[1]}.mp4", other / "videos")
    (tmp_path / "classes.txt").write_text("archery\n")
    asked = ("--classes", tmp_path / "classes.txt", "--annotations", annotations(tmp_path / "list.csv"))
    prints = []
    for folder in (one, other):
        report = built(folder / "build", folder / "videos", *asked)
        prints.append(published(folder / "build", folder / "published"))
        assert (report["selection"], report["content"]) == (prints[-1]["selection"], prints[-1]["content"])
    capsys.readouterr()

    words = ["diff", str(one / "published"), str(other / "published"), "--out", str(tmp_path / "common"), "--json"]
    assert publish.main(words) == 1
    found = json.loads(capsys.readouterr().out)
    assert [each["key"] for each in found["only_in_a"]] == [KEYS[3]]
    assert [each["key"] for each in found["only_in_b"]] == [KEYS[0]]
    assert {each["key"]: each["likeness"] for each in found["content"]} == {KEYS[1]: "alike"}
    assert found["common"] == 2

    common = json.loads((tmp_path / "common" / "fingerprints.json").read_text())
    rebuilt = built(tmp_path / "rebuilt", originals, "--clips", tmp_path / "common")
    assert rebuilt["selection"] == common["selection"]
    assert rebuilt["compared"]["counts"] == {"same": 2, "alike": 0, "different": 0, "unknown": 0, "lacking": 0}
    again = built(tmp_path / "again", other / "videos", "--clips", tmp_path / "common")
    assert again["selection"] == common["selection"]
    assert again["content"] != rebuilt["content"]
    assert again["compared"]["counts"] == {"same": 1, "alike": 1, "different": 0, "unknown": 0, "lacking": 0}
    assert again["compared"]["clips"] == {KEYS[1]: "alike"}
    assert publish.main(["check", str(tmp_path / "common")]) == 0


def test_a_set_rebuilt_from_somebodys_lists_says_so(
    originals: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """They lack the first clip; ours of the second is another video."""
    theirs, mine = tmp_path / "theirs", tmp_path / "videos"
    shutil.copytree(originals, theirs / "videos")
    (theirs / "videos" / f"{KEYS[0]}.mp4").unlink()
    (tmp_path / "classes.txt").write_text("archery\n")
    asked = ("--classes", tmp_path / "classes.txt", "--annotations", annotations(tmp_path / "list.csv"))
    built(theirs / "build", theirs / "videos", *asked)
    words = ["--creator", "A. Author", "--url", "https://example.org/k1", "--name", "k1", "--workers", "1"]
    assert publish.main(["--manifest", str(theirs / "build"), "--out", str(tmp_path / "k1"), *words]) == 0
    shutil.copytree(originals, mine)
    video(mine / f"{KEYS[1]}.mp4", seconds=3, seed=77, tone_hz=2000)
    report = built(tmp_path / "build", mine, "--clips", tmp_path / "k1")
    assert [each["published"]["creator"] for each in report["lists"]["files"]] == ["A. Author"] * 3
    capsys.readouterr()

    words = [
        "--manifest",
        str(tmp_path / "build"),
        "--out",
        str(tmp_path / "out"),
        "--creator",
        "B. Student",
        "--workers=1",
    ]
    assert publish.main(words) == 0

    said, card = capsys.readouterr().out, (tmp_path / "out/README.md").read_text().replace("\\", "")
    assert "\nmade from: the lists of k1 1.0.0 by A. Author (https://example.org/k1), under https://creativecom" in said
    assert "\n1 of the clips differs in picture or sound from the publisher's clip of the same key: " in said
    assert f"results on the two sets may differ: {KEYS[1]}\n" in said
    assert "The rows come from the lists of k1 1.0.0 by A. Author (https://example.org/k1), under https://" in card
    assert "1 row without a clip at the publisher was not requested, and was not counted below." in card
